"""Small searches need no compiler; large ones compile beside the encoding; no result depends on it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest

from hf_posmine import Corpus
from hf_posmine.search import compiling, kernels
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.scan_cpu import warm_up
from hf_posmine.teachers.vectors import VectorTeacher

pytest.importorskip("numba")


FORKED = """
import os, signal
import numpy as np
import torch
from hf_posmine.search.exact import ExactIndex

torch.set_num_threads(2)
vectors = np.random.default_rng(0).standard_normal((3000, 64)).astype(np.float32)
index = ExactIndex(vectors)
expected = index.search(vectors[:500], 3).doc_ids
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if (index.search(vectors[:500], 3).doc_ids == expected).all() else 1)
raise SystemExit(os.waitpid(child, 0)[1] != 0)
"""


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not compiled anything, and counts what it compiles."""
    calls = []
    kernels._kernel("prune")
    loops = kernels._compiled
    monkeypatch.setattr(kernels, "_compiled", {})
    monkeypatch.setattr(kernels, "_work", 0)
    monkeypatch.setattr(kernels, "_compile", lambda: (calls.append(1), kernels._compiled.update(loops)))
    return calls


def vectors(rows: int, seed: int, dimensions: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)


def assert_equal(found, expected) -> None:
    for field in dataclasses.fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), err_msg=field.name)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
def test_a_search_is_compiled_once_it_is_worth_it_with_the_same_result(fresh, monkeypatch, similarity):
    documents, queries = vectors(700, 0), vectors(90, 1)
    index = ExactIndex(documents, similarity)
    below = index.score(queries, np.arange(90)[:, None])[:, 0]
    monkeypatch.setattr(kernels, "WORTH_COMPILING", kernels._work + 2 * 30 * 700)
    found = [index.search(queries[at : at + 30], 5, below=below[at : at + 30]) for at in (0,)]
    assert not fresh
    found += [index.search(queries[at : at + 30], 5, below=below[at : at + 30]) for at in (30, 60)]
    assert fresh
    scores = index.score(queries, np.arange(90)[:, None])[:, 0]
    np.testing.assert_array_equal(scores, below)
    for engine in ("torch", "float32"):
        expected = ExactIndex(documents, similarity, engine=engine)
        for number, part in enumerate(found):
            rows = slice(30 * number, 30 * number + 30)
            assert_equal(part, expected.search(queries[rows], 5, below=below[rows]))


def test_an_engine_that_is_named_compiles_at_once(fresh):
    ExactIndex(vectors(70, 2), engine="float32").search(vectors(3, 3), 2)
    assert fresh


def test_many_scores_of_pairs_are_worth_compiling_too(fresh, monkeypatch):
    index, queries = ExactIndex(vectors(70, 2)), vectors(8, 3)
    rows = np.tile(np.arange(70), (8, 1))
    plain = index.score(queries, rows)
    assert not fresh
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 1)
    np.testing.assert_array_equal(index.score(queries, rows), plain)
    assert fresh


def teacher(queries: int = 6) -> VectorTeacher:
    corpus = Corpus.from_texts([f"document {i}" for i in range(40)])
    return VectorTeacher(corpus, vectors(40, 4), [f"query {i}" for i in range(queries)], vectors(queries, 5))


def test_a_teacher_compiles_for_the_pairs_it_will_compare_and_no_fewer(fresh, monkeypatch):
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 6 * 40 + 1)
    teacher().prepare()
    assert not fresh
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 6 * 40)
    teacher().prepare()
    assert fresh
    assert kernels.ready()


def test_the_wait_for_the_compiler_is_named_and_ends_before_the_block_is_left(fresh, monkeypatch, capsys):
    started, may_end, done = threading.Event(), threading.Event(), []

    def slow(*_: object) -> None:
        started.set()
        may_end.wait(10)
        done.append(1)

    monkeypatch.setattr("datasets.utils.are_progress_bars_disabled", lambda: False)
    monkeypatch.setattr("hf_posmine.utils.progress._hidden", lambda: False)
    monkeypatch.setattr(compiling, "warm_up", slow)
    monkeypatch.setattr(kernels, "WORTH_COMPILING", 10)
    with compiling.compiling(10):
        assert started.wait(10)  # beside the block
        assert not done
        threading.Timer(0.1, may_end.set).start()
    assert done
    assert "compiling the loops of the search" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["float32", "int8", "bfloat16", "int16"])
def test_the_warm_up_compiles_all_that_scans_of_mapped_files_call(tmp_path, engine):
    warm_up("int8" if engine == "int8" else "bfloat16" if engine == "bfloat16" else None)
    before = {name: len(loop.signatures) for name, loop in kernels._compiled.items()}
    np.save(tmp_path / "documents.npy", vectors(500, 6))
    for documents in (np.load(tmp_path / "documents.npy", mmap_mode="r"), vectors(500, 6)):
        index = ExactIndex(documents, engine=engine)
        index.search(vectors(40, 7), 3, below=np.full(40, 0.3, np.float32), exclude=[[i] for i in range(40)])
    assert {name: len(loop.signatures) for name, loop in kernels._compiled.items()} == before


@pytest.mark.parametrize("rounding", ["int8", "bfloat16", None])
def test_products_of_16_bit_codes_are_compiled_only_where_torch_has_none_that_are_quicker(fresh, monkeypatch, rounding):
    called = []
    monkeypatch.setattr(compiling, "quickest_rounding", lambda _: rounding)
    monkeypatch.setattr(kernels, "int16_products", lambda *_: called.append(1))
    with compiling.compiling(kernels.WORTH_COMPILING):
        pass
    assert fresh and bool(called) == (rounding is None)


def test_a_small_search_in_a_forked_process_does_not_wait_for_threads_of_its_parent():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
