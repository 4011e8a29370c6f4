"""What a search reads besides the vectors: the same in memory and on disk, made once, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hf_posmine.core.errors import ReadOnlyError
from hf_posmine.data.corpus import Corpus
from hf_posmine.encoding.store import EmbeddingStore, Vectors
from hf_posmine.search import prepared as module
from hf_posmine.search.axis_codes import Axes
from hf_posmine.search.prepared import axis_row_bytes, prepare, prepare_axes, row_bytes
from hf_posmine.search.rounding import rounded, tensor_of

ROOT = Path(__file__).parents[2]
DOCUMENTS = np.random.default_rng(0).standard_normal((500, 40)).astype(np.float32) * np.linspace(0, 3, 500)[:, None]
DOCUMENTS = DOCUMENTS.astype(np.float32)


@pytest.fixture(autouse=True)
def _home(fresh_home):
    pass


def made(vectors=DOCUMENTS, similarity="cosine", stop=500, *, rounding="int8", held=0):
    vectors = vectors if isinstance(vectors, Vectors) else Vectors(tuple(np.split(vectors, [100, 350])))
    return prepare(similarity, vectors, stop, rounding=rounding, rows=64, held=held)


def folders(home: Path) -> list[Path]:
    return [path.parent for path in home.rglob("extremes.json")]


class Counting:
    """Gives the vectors in blocks, and counts texts that were cut, as a model does."""

    def __init__(self) -> None:
        self.rows = iter(np.split(DOCUMENTS, range(128, 500, 128)))

    def __call__(self, texts, done) -> np.ndarray:
        return next(self.rows)

    def cut_among(self, texts: int) -> int:
        return 1


def stored(tmp_path, *, counting: bool = False) -> tuple[EmbeddingStore, Vectors]:
    part = Corpus.from_texts([f"text {n}" for n in range(500)], cache_dir=tmp_path / "corpus").parts[0]
    store = EmbeddingStore(tmp_path / "store", shard_rows=128)
    encode = Counting()
    given = encode if counting else partial(encode)  # the latter does not count
    return store, store.fill("key", part, given, {}, lambda count: None)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("rounding", [None, "int8", "bfloat16"])
def test_columns_in_memory_and_on_disk_are_what_the_vectors_say(similarity, rounding, fresh_home):
    in_memory, on_disk = (made(similarity=similarity, rounding=rounding, held=held) for held in (1 << 20, 0))
    squares = (DOCUMENTS.astype(np.float64) ** 2).sum(axis=1)
    for found in (in_memory, on_disk):
        scale = np.where(squares > 0, squares, np.inf) ** -0.5 if similarity == "cosine" else np.ones(500)
        np.testing.assert_allclose(found.scale, scale, rtol=1e-7)
        np.testing.assert_allclose(found.bias, -squares / 2 if similarity == "euclidean" else 0 * squares, rtol=1e-7)
        assert found.square == pytest.approx(squares.max())
        assert found.length == pytest.approx(1 if similarity == "cosine" else squares.max() ** 0.5)
        assert (found.coded is not None) == (rounding is not None)
    if rounding is not None:
        near = tensor_of(in_memory.coded.codes).double().numpy()[:, :40] * in_memory.coded.scale[:, None].astype(
            np.float64
        )
        apart = np.linalg.norm(DOCUMENTS * in_memory.scale[:, None].astype(np.float64) - near, axis=1)
        assert (apart <= in_memory.coded.quantization_error * (1 + 1e-5) + 1e-7).all()
        assert in_memory.coded.most == in_memory.coded.quantization_error.max()
        for name in ("codes", "scale", "quantization_error"):
            assert np.array_equal(getattr(in_memory.coded, name), getattr(on_disk.coded, name))
            assert isinstance(getattr(on_disk.coded, name), np.memmap)
        assert on_disk.coded.most == in_memory.coded.most
    total = sum(path.stat().st_size for path in folders(fresh_home)[0].glob("*.npy"))
    assert 0 <= total - 500 * row_bytes(40, rounding) < 2000


def test_int8_codes_are_the_nearest_steps():
    coded = rounded("int8", DOCUMENTS)
    steps = np.abs(DOCUMENTS).max(axis=1) / 127
    steps[0] = 1  # the zero vector
    np.testing.assert_allclose(coded.steps, steps, rtol=1e-6)
    assert np.array_equal(coded.codes[:, :40], np.rint(DOCUMENTS / coded.steps[:, None]))
    near = coded.codes[:, :40] * coded.steps[:, None].astype(np.float64)
    np.testing.assert_allclose(
        coded.quantization_error, np.linalg.norm(DOCUMENTS - near, axis=1), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(coded.lengths, np.linalg.norm(near, axis=1), rtol=1e-12)
    assert not coded.codes[:, 40:].any()


def test_it_is_made_once_and_only_for_the_same_content(fresh_home, monkeypatch):
    made()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", None)  # a second writing would fail
        made()
        made(DOCUMENTS.copy())
    other = DOCUMENTS.copy()
    other[499, 39] += 1
    made(other)
    made(stop=499)
    made(similarity="dot")
    made(rounding=None)
    made(DOCUMENTS.astype(np.float16))
    assert len(folders(fresh_home)) == 6


@pytest.mark.parametrize("counting", [False, True])
def test_beside_a_store_by_the_checksums_of_its_shards(tmp_path, fresh_home, monkeypatch, counting):
    _, vectors = stored(tmp_path, counting=counting)
    with monkeypatch.context() as patch:
        patch.setattr(module.np, "ascontiguousarray", None)  # the numbers are not read to address them
        address = module.content_digest("cosine", vectors, 500, "int8")
    made(vectors)
    (folder,) = folders(tmp_path)
    assert folder.name == address
    assert folder.parent.parent == Path(vectors.shards[0].filename).parent
    assert not folders(fresh_home)


def test_a_part_of_a_shard_is_not_taken_for_the_whole(tmp_path):
    _, vectors = stored(tmp_path)
    shard = vectors.shards[0]
    whole = module._checksum(shard)
    assert len({whole, module._checksum(shard[:-1]), module._checksum(shard[1:]), module._checksum(shard[::-1])}) == 4
    changed = np.memmap(shard.filename, np.float32, "c", shard.offset, shard.shape)
    assert module._checksum(changed) == module._checksum(np.array(shard))
    changed[0, 0] += 1
    assert module._checksum(changed) != module._checksum(np.array(shard))


def test_where_the_store_may_not_be_written_the_cache_is(tmp_path, fresh_home, monkeypatch):
    _, vectors = stored(tmp_path)
    write = module._on_disk

    def refuse(folder, *rest):
        if tmp_path / "store" in folder.parents:
            raise ReadOnlyError("read only")
        return write(folder, *rest)

    monkeypatch.setattr(module, "_on_disk", refuse)
    assert np.array_equal(made(vectors).coded.codes, made(held=1 << 20).coded.codes)
    assert len(folders(fresh_home)) == 1
    monkeypatch.setattr(module, "_on_disk", lambda *_: refuse(tmp_path / "store" / "scan"))
    with pytest.raises(ReadOnlyError):
        made(vectors)


@pytest.mark.parametrize("name", ["codes.npy", "scale.npy", "extremes.json"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_damaged_file_is_made_again(fresh_home, name, how):
    expected = made()
    codes = np.array(expected.coded.codes)
    path = folders(fresh_home)[0] / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content if how == "changed" else content[:-3])
    with pytest.warns(UserWarning, match="is built again"):
        assert np.array_equal(made().coded.codes, codes)
    assert np.array_equal(made().scale, made(held=1 << 20).scale)


def test_a_death_while_writing_leaves_nothing_that_counts(tmp_path, fresh_home):
    code = """
import os, sys
import numpy as np
from hf_posmine.search import prepared
from hf_posmine.search.rounding import rounded
from hf_posmine.encoding.store import Vectors
from tests.search.test_prepared import DOCUMENTS

blocks = []
def dying(kind, block):
    blocks.append(block)
    if len(blocks) == 4:
        os._exit(9)
    return rounded(kind, block)

prepared.rounded = dying
prepared.prepare("cosine", Vectors((DOCUMENTS,)), 500, rounding="int8", rows=64, held=0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, check=False, capture_output=True)
    assert done.returncode == 9
    assert not folders(fresh_home)
    leftover = list(fresh_home.rglob("*.tmp-*"))
    assert leftover
    assert np.array_equal(made(Vectors((DOCUMENTS,))).coded.codes, made(held=1 << 20).coded.codes)
    assert not list(fresh_home.rglob("*.tmp-*"))


@pytest.mark.parametrize("dimensions", [40, 200])
def test_codes_along_axes_take_what_a_plan_counts(fresh_home, dimensions):
    vectors = np.random.default_rng(0).standard_normal((500, dimensions)).astype(np.float32)
    axes = Axes(dimensions, np.linalg.qr(np.random.default_rng(1).standard_normal((dimensions, dimensions)))[0])
    given = Vectors((vectors,))
    prepare("cosine", given, 500, rounding=None, rows=64, held=0)
    prepare_axes("cosine", given, 500, axes, rows=64, held=0)
    written = sum(path.stat().st_size for folder in folders(fresh_home) for path in folder.glob("*.npy"))
    assert 0 <= written - 500 * axis_row_bytes(dimensions) < 4000  # headers
