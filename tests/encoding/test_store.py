"""Embeddings on disk: encoded once, resumed after any death, and never read when damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.core.errors import CorruptShardError, DiskFullError, StoreError
from hf_posmine.data.corpus import Corpus
from hf_posmine.encoding.store import EmbeddingStore, Vectors
from tests.conftest import ToyModel
from tests.support.small_disk import small_disk

TEXTS = [f"word{number} word{number % 7}" for number in range(50)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def part(tmp_path):
    return Corpus.from_texts(TEXTS, cache_dir=tmp_path / "cache").parts[0]


def fill(store: EmbeddingStore, part, model=None, key: str = "key", progress=lambda count: None) -> Vectors:
    model = model or ToyModel()
    return store.fill(key, part, lambda texts, done: model.encode_document(texts), {"model": "toy"}, progress)


def contents(folder: Path) -> dict[str, str]:
    """Digest by path of every file below, finished or left over."""
    files = [f for f in folder.rglob("*") if f.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def everything(vectors: Vectors) -> np.ndarray:
    return vectors[np.arange(len(vectors))]


def shards_of(store: EmbeddingStore) -> list[Path]:
    return sorted(store.root.rglob("shard-*.safetensors"))


@pytest.mark.parametrize("shard_rows", [1, 7, 50, 4096])
def test_vectors_come_back_memory_mapped_in_order(tmp_path, part, shard_rows):
    store = EmbeddingStore(tmp_path / "store", shard_rows=shard_rows)
    assert store.load("key", part) is None
    heard: list[int] = []
    filled = fill(store, part, progress=heard.append)
    loaded = EmbeddingStore(tmp_path / "store").load("key", part)
    expected = ToyModel().encode_document(TEXTS)
    for vectors in (filled, loaded):
        assert np.array_equal(everything(vectors), expected)
        assert all(isinstance(shard, np.memmap) for shard in vectors.shards)
    assert len(shards_of(store)) == -(-50 // shard_rows)
    at = np.array([49, 0, 7, 7, 13])
    assert np.array_equal(loaded[at], expected[at])
    blocks = list(loaded.blocks(5, 33))
    assert np.array_equal(np.concatenate([block for _, block in blocks]), expected[:33])
    assert [start for start, _ in blocks] == np.cumsum([0, *(len(b) for _, b in blocks)])[:-1].tolist()


def test_a_complete_store_encodes_nothing_and_counts_what_it_found(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store", shard_rows=7)
    fill(store, part)
    model, heard = ToyModel(), []
    fill(EmbeddingStore(tmp_path / "store", shard_rows=7), part, model, progress=heard.append)
    assert model.encoded == []
    assert sum(heard) == 50


@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_after_an_exception_only_what_is_missing_is_encoded(tmp_path, part, after):
    class Failing(ToyModel):
        def encode_document(self, texts, **_):
            if len(self.encoded) >= 7 * after:
                raise RuntimeError("out of memory")
            return super().encode_document(texts)

    whole, broken = EmbeddingStore(tmp_path / "whole", shard_rows=7), EmbeddingStore(tmp_path / "broken", shard_rows=7)
    fill(whole, part)
    with pytest.raises(RuntimeError, match="out of memory"):
        fill(broken, part, Failing())
    assert EmbeddingStore(tmp_path / "broken").load("key", part) is None
    model = ToyModel()
    fill(EmbeddingStore(tmp_path / "broken", shard_rows=7), part, model)
    assert model.encoded == TEXTS[7 * after :]
    assert contents(broken.root) == contents(whole.root)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from hf_posmine.utils import files
from hf_posmine.data.corpus import Corpus
from hf_posmine.encoding.store import EmbeddingStore
from tests.conftest import ToyModel

store, cache, dies = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

class Slow(ToyModel):
    def encode_document(self, texts, **_):
        time.sleep(0.02)
        return super().encode_document(texts)

if dies == "while writing":
    sync, calls = files._sync, []
    def dying(path):
        calls.append(path)
        if len(calls) == 7:  # a shard lies beside its place, not yet renamed
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)
    files._sync = dying

part = Corpus.from_texts([f"word{n} word{n % 7}" for n in range(50)], cache_dir=cache).parts[0]
model = Slow()
print("encoding", flush=True)
EmbeddingStore(store, shard_rows=3).fill("key", part, lambda t, done: model.encode_document(t), {"model": "toy"}, len)
"""


def start(tmp_path: Path, dies: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(tmp_path / "cache"), dies]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def assert_resumes_to_the_same_files(tmp_path: Path, part) -> None:
    whole = EmbeddingStore(tmp_path / "whole", shard_rows=3)
    fill(whole, part)
    done = {int(file.stem[-6:]) for file in (tmp_path / "killed").rglob("shard-*.safetensors")}
    model = ToyModel()
    fill(EmbeddingStore(tmp_path / "killed", shard_rows=3), part, model)
    assert model.encoded == [text for number, text in enumerate(TEXTS) if number // 3 not in done]
    assert contents(tmp_path / "killed") == contents(whole.root)


@pytest.mark.parametrize("seconds", np.random.default_rng(0).uniform(0.01, 0.4, 5).round(3).tolist())
def test_a_kill_at_a_random_moment_leaves_what_can_be_resumed(tmp_path, part, seconds):
    process = start(tmp_path, "at a random moment")
    assert process.stdout.readline() == "encoding\n"
    time.sleep(seconds)
    process.kill()
    process.wait()
    assert len(shards_of(EmbeddingStore(tmp_path / "killed"))) < 17
    assert_resumes_to_the_same_files(tmp_path, part)


def test_a_kill_while_a_shard_is_written_leaves_nothing_behind_once_resumed(tmp_path, part):
    process = start(tmp_path, "while writing")
    assert process.wait() == -9
    assert_resumes_to_the_same_files(tmp_path, part)


def test_any_damaged_byte_is_noticed_and_the_file_named(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store", shard_rows=25)
    vectors = everything(fill(store, part))
    file = shards_of(store)[1]
    good = file.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    positions = [*range(header), *np.random.default_rng(1).integers(header, len(good), 40).tolist(), len(good) - 1]
    for position in positions:
        damaged = bytearray(good)
        damaged[position] ^= 0x15
        file.write_bytes(damaged)
        try:
            found = EmbeddingStore(tmp_path / "store").load("key", part)
        except CorruptShardError as error:
            assert str(file) in str(error)
        else:  # white space and the like: harmless only if every vector is still the same
            assert np.array_equal(everything(found), vectors), position


@pytest.mark.parametrize("left", [0, 5, 8, 60, -1])
def test_a_truncated_file_is_noticed_deleted_and_encoded_again(tmp_path, part, left):
    store = EmbeddingStore(tmp_path / "store", shard_rows=25)
    fill(store, part)
    before = contents(store.root)
    file = shards_of(store)[0]
    file.write_bytes(file.read_bytes()[:left])
    for use in (lambda fresh: fresh.load("key", part), lambda fresh: fill(fresh, part)):
        with pytest.raises(CorruptShardError, match=r"shard-000000\.safetensors.*delete the file and run again"):
            use(EmbeddingStore(tmp_path / "store"))
    file.unlink()
    model = ToyModel()
    fill(EmbeddingStore(tmp_path / "store"), part, model)
    assert model.encoded == TEXTS[:25]
    assert contents(store.root) == before


def test_a_header_that_is_no_object_is_a_corrupt_shard(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store")
    fill(store, part)
    shards_of(store)[0].write_bytes((2).to_bytes(8, "little") + b"[]")
    with pytest.raises(CorruptShardError):
        EmbeddingStore(tmp_path / "store").load("key", part)


def test_a_sound_shard_of_other_rows_is_not_taken(tmp_path, part):
    small, large = EmbeddingStore(tmp_path / "small", shard_rows=7), EmbeddingStore(tmp_path / "large", shard_rows=25)
    fill(small, part)
    fill(large, part)
    shutil.copy(shards_of(small)[0], shards_of(large)[0])
    with pytest.raises(StoreError):
        EmbeddingStore(tmp_path / "large").load("key", part)


def test_an_encoder_that_returns_too_few_vectors_is_an_error(tmp_path, part):
    with pytest.raises(StoreError):
        EmbeddingStore(tmp_path / "s").fill("key", part, lambda t, done: np.ones((len(t) - 1, 4), "f4"), {}, len)


def test_a_store_of_other_texts_names_both_digests(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store")
    fill(store, part)
    other = Corpus.from_texts(TEXTS[:-1], cache_dir=tmp_path / "cache").parts[0]
    shutil.copytree(store.folder("key", part), store.folder("key", other))
    for use in (lambda: store.load("key", other), lambda: fill(store, other)):
        with pytest.raises(StoreError, match="encode them again or pass another store") as caught:
            use()
        for said in (part.texts_digest[:8], other.texts_digest[:8], "50 vectors", "49 texts"):
            assert said in str(caught.value)


def test_a_store_keeps_the_shard_rows_it_began_with(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store", shard_rows=7)
    fill(store, part)
    before = contents(store.root)
    shards_of(store)[3].unlink()
    model = ToyModel()
    vectors = fill(EmbeddingStore(tmp_path / "store", shard_rows=20), part, model)
    assert model.encoded == TEXTS[21:28]
    assert contents(store.root) == before
    assert len(vectors.shards) == 8


def test_float16_takes_half_and_lies_beside_float32(tmp_path, part):
    exact, half = (EmbeddingStore(tmp_path / "store", dtype=dtype) for dtype in ("float32", "float16"))
    a, b = fill(exact, part), fill(half, part)
    assert {shard.dtype for shard in b.shards} == {np.dtype(np.float16)}
    assert everything(b).dtype == np.float32
    assert np.array_equal(everything(b), everything(a).astype(np.float16).astype(np.float32))
    assert exact.folder("key", part) != half.folder("key", part)
    loaded = EmbeddingStore(tmp_path / "store", dtype="float16").load("key", part)
    assert np.array_equal(everything(loaded), everything(b))


def test_models_and_texts_never_share_a_folder(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store")
    fill(store, part, key="one")
    assert store.load("two", part) is None
    other = Corpus.from_texts(TEXTS[::-1], cache_dir=tmp_path / "cache").parts[0]
    assert store.load("one", other) is None


def test_the_same_texts_with_other_ids_share_their_embeddings(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store")
    fill(store, part)
    named = Corpus.from_texts(TEXTS, ids=range(50), cache_dir=tmp_path / "cache").parts[0]
    assert named.digest != part.digest
    assert np.array_equal(everything(store.load("key", named)), ToyModel().encode_document(TEXTS))


def test_the_manifest_says_what_lies_there(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store", shard_rows=20)
    fill(store, part)
    said = json.loads((store.folder("key", part) / "manifest.json").read_text())
    plan = {"texts": part.texts_digest, "rows": 50, "shards": 3, "shard_rows": 20, "dtype": "float32"}
    assert said.items() >= (plan | {"model": "toy"}).items()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"dtype": "int8"}, "dtype='int8'; choose 'float32' or 'float16'"), ({"shard_rows": 0}, "at least one row")],
)
def test_wrong_options_say_the_cure(tmp_path, options, says):
    with pytest.raises(StoreError, match=says):
        EmbeddingStore(tmp_path, **options)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_a_span_is_the_rows_between_without_a_copy(lengths, data):
    array = np.arange(3 * sum(lengths), dtype=np.float32).reshape(-1, 3)
    vectors = Vectors(tuple(np.split(array, np.cumsum(lengths)[:-1])))
    start = data.draw(st.integers(0, len(vectors)))
    stop = data.draw(st.integers(start, len(vectors)))
    span = vectors.span(start, stop)
    assert np.array_equal(everything(span), array[start:stop]) and span.dim == 3
    assert all(np.shares_memory(shard, array) for shard in span.shards if len(shard))


def shared_fill(store: EmbeddingStore, part, numbers, model, **options) -> list[bool]:
    """What one of several processes does with its numbers."""
    store.begin("key", part, {"model": "toy"})
    return [
        store.fill_shard("key", part, n, lambda texts, done: model.encode_document(texts), unwatched, **options)
        for n in numbers
    ]


def unwatched(count: int) -> None:
    """A progress that nobody watches."""


def test_processes_that_share_the_shards_leave_the_store_of_one(tmp_path, part):
    whole = EmbeddingStore(tmp_path / "whole", shard_rows=7)
    fill(whole, part)
    models = [ToyModel(), ToyModel()]
    for number, model in enumerate(models):  # the second began with another size, and keeps that of the first
        store = EmbeddingStore(tmp_path / "shared", shard_rows=7 + number)
        assert store.load("key", part) is None
        assert shared_fill(store, part, range(number, 8, 2), model) == [True] * 4
    assert sorted(models[0].encoded + models[1].encoded) == sorted(TEXTS)
    assert contents(tmp_path / "shared") == contents(whole.root)
    assert shared_fill(EmbeddingStore(tmp_path / "shared"), part, range(8), models[0]) == [False] * 8


def test_a_damaged_shard_is_an_error_or_is_repaired_as_asked(tmp_path, part):
    store = EmbeddingStore(tmp_path / "store", shard_rows=25)
    fill(store, part)
    before = contents(store.root)
    file = shards_of(store)[1]
    file.write_bytes(file.read_bytes()[:-1])
    model = ToyModel()
    with pytest.raises(CorruptShardError, match="delete the file and run again"):
        shared_fill(EmbeddingStore(tmp_path / "store"), part, [0, 1], model)
    with pytest.warns(UserWarning, match=r"shard-000001.* cannot be read .*; it is encoded again"):
        assert shared_fill(EmbeddingStore(tmp_path / "store"), part, [0, 1], model, repair=True) == [False, True]
    assert model.encoded == TEXTS[25:]
    assert contents(store.root) == before


def test_a_trusted_store_is_not_read_whole_to_be_opened_also_in_another_process(tmp_path, part, monkeypatch):
    fill(EmbeddingStore(tmp_path / "store", shard_rows=25), part)
    store = EmbeddingStore(tmp_path / "store")
    store.trust("key", part)
    monkeypatch.setattr("hf_posmine.encoding.store._checksum", lambda vectors: pytest.fail("a checksum was computed"))
    assert len(pickle.loads(pickle.dumps(store)).load("key", part)) == 50


def test_a_store_given_as_a_relative_path_means_the_same_elsewhere(tmp_path, part, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = EmbeddingStore("store")
    fill(store, part)
    monkeypatch.chdir("/")
    assert len(pickle.loads(pickle.dumps(store)).load("key", part)) == 50


NO_SPACE = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # as safetensors says it
]


@pytest.mark.parametrize("error", NO_SPACE, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_named_and_what_is_finished_stays(tmp_path, part, error, monkeypatch):
    from safetensors import numpy as safetensors

    store, original = EmbeddingStore(tmp_path / "store", shard_rows=10), safetensors.save_file

    def failing(tensors, path, **options):
        if len(shards_of(store)) == 2:
            Path(path).write_bytes(b"half")
            raise error
        original(tensors, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors, "save_file", failing)
        with pytest.raises(
            DiskFullError, match=r"no space left to write '.*shard-000002.*run the same again"
        ) as caught:
            fill(store, part)
    assert isinstance(caught.value, OSError) and caught.value.__cause__ is error
    assert len(shards_of(store)) == 2 and not list(tmp_path.rglob("*.tmp-*"))
    model = ToyModel()
    fill(EmbeddingStore(tmp_path / "store"), part, model)
    assert model.encoded == TEXTS[20:]


def test_another_error_of_the_system_stays_what_it_is(tmp_path, part, monkeypatch):
    store = EmbeddingStore(tmp_path / "store")
    store.begin("key", part, {})
    monkeypatch.setattr("safetensors.numpy.save_file", raising(PermissionError(errno.EACCES, "not yours")))
    with pytest.raises(PermissionError, match="not yours"):
        fill(store, part)


def raising(error: Exception):
    def fails(*args, **options):
        raise error

    return fails


def test_a_disk_that_is_really_full_and_then_enlarged(tmp_path, part):
    whole = EmbeddingStore(tmp_path / "whole", shard_rows=10)
    fill(whole, part)
    with small_disk(tmp_path / "disk", kilobytes=16) as disk:
        with pytest.raises(DiskFullError, match="no space left to write"):
            fill(EmbeddingStore(disk.folder / "store", shard_rows=10), part)
        assert not list(disk.folder.rglob("*.tmp-*"))
        done = len(list(disk.folder.rglob("shard-*")))
        assert 0 < done < 5
        disk.enlarge(kilobytes=1000)
        model = ToyModel()
        fill(EmbeddingStore(disk.folder / "store"), part, model)
        assert model.encoded == TEXTS[10 * done :]
        assert contents(disk.folder / "store") == contents(whole.root)
