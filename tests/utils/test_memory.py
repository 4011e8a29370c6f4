"""Limits of memory: how they are written, and what fits into them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import InputError
from hf_posmine.search import block_sizes as sizes_module
from hf_posmine.search.block_sizes import Sizes, TorchSizes
from hf_posmine.search.exact import ExactIndex
from hf_posmine.utils import memory as module
from hf_posmine.utils.memory import Budget, parse_size, show_size

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 << 30), ("500 MB", 500 * 10**6), ("2g", 2 << 30), ("1.5KiB", 1536), ("1e3", None), ("100", 100)]
    + [(text, None) for text in ("", "GiB", "-1GiB", "0", "4 G i B", "4iB", "4GiBs", "four")],
)
def test_sizes_as_people_write_them(text, size):
    if size is not None:
        assert parse_size(text) == size
        return
    with pytest.raises(InputError, match="is not a size; write one such as 4GiB"):
        parse_size(text, "--max-memory")


def test_the_environment_says_the_limits(monkeypatch):
    assert Budget.current() == Budget(None, None)
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", "2GiB")
    monkeypatch.setenv("HF_POSMINE_MAX_GPU_MEMORY", "1GB")
    assert Budget.current() == Budget(2 << 30, 10**9)
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", "much")
    with pytest.raises(InputError, match="HF_POSMINE_MAX_MEMORY='much'"):
        Budget.current()


def test_what_a_process_holds_of_its_own_is_counted():
    code = """
import numpy as np
from hf_posmine.utils.memory import own_memory
before = own_memory()
held = np.ones(40 << 20, np.uint8)
print(own_memory() - before)
"""  # in a process of its own: this one may hold freed memory that it takes again
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 39 << 20 <= int(done.stdout) <= 60 << 20


@given(st.integers(1, 1 << 34), st.sampled_from([1, 64, 768, 4096]), st.integers(1, 64))
def test_sizes_fit_the_budget_or_the_error_names_one_that_they_fit(left, dimensions, threads):
    taken = 600 << 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "own_memory", lambda: taken)
        try:
            sizes = Sizes.fit(Budget(taken + left), dimensions, threads)
        except InputError as error:
            least = parse_size(re.search(r"allow (\d+MiB)$", str(error)).group(1))
            assert least > taken + left
            sizes, left = Sizes.fit(Budget(least), dimensions, threads), least - taken
        assert sizes.per_thread(dimensions) * threads + sizes.held <= left
        assert min(sizes.queries, sizes.block_rows, sizes.coded_rows) >= 32
        assert Sizes.fit(Budget(1 << 50), dimensions, threads) == Sizes.fit(Budget(), dimensions, threads) == Sizes()


@given(st.integers(1, 1 << 38), st.sampled_from([64, 768, 4096]))
def test_gpu_blocks_fit_and_leave_the_rest_to_documents(memory, dimensions):
    try:
        sizes = TorchSizes.of_memory(memory, dimensions)
    except InputError as error:
        assert "of GPU memory are too little" in str(error)
        assert memory < 1 << 30
        return
    assert sizes.bytes(dimensions) + sizes.resident <= memory


def test_a_limit_too_small_is_one_clear_error(monkeypatch):
    index = ExactIndex(np.eye(4, dtype=np.float32), budget=Budget(1 << 20))
    with pytest.raises(
        InputError, match=r"limit of 1.0 MiB is too small: .* take .* and the search needs .* allow \d+"
    ):
        index.search(np.eye(4, dtype=np.float32), 1)


@given(st.floats(0, 1e16, allow_nan=False))
def test_shown_sizes_read_back(size):
    text = show_size(size).replace(",", "")
    if float(text.split()[0]) > 0:
        assert abs(parse_size(text) - size) <= max(0.06 * size, 1)


def test_a_store_of_more_shards_than_files_may_be_open_is_opened(tmp_path):
    """The usual limit of 1,024 files would end at two million documents."""
    pytest.importorskip("resource")
    code = """
import resource, sys
import numpy as np
hard = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
from hf_posmine.data.corpus import Corpus
from hf_posmine.core.errors import StoreError
from hf_posmine.encoding.store import EmbeddingStore
part = Corpus.from_texts([f"text {n}" for n in range(300)], cache_dir=sys.argv[1]).parts[0]
store = EmbeddingStore(sys.argv[1], shard_rows=1)
try:
    found = store.fill("key", part, lambda texts, done: np.ones((len(texts), 2), np.float32), {}, lambda count: None)
    print(len(found))
except StoreError as error:
    print(error)
"""
    for hard, says in ((4096, "300"), (200, "300 files, and the system lets a process open 200; raise that limit")):
        command = [sys.executable, "-c", code, str(tmp_path / str(hard)), str(hard)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert says in done.stdout


def test_chunk_of_a_copy_is_no_larger_than_what_the_sizes_count():
    assert TorchSizes().bytes(10) >= sizes_module.CHUNK * 10 * 12
