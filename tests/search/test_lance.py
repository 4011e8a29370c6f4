"""Lance tables behind the deepening loop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError, MissingExtraError, SpecError
from hf_posmine.evaluation.negatives.index_recall import measure_approximation
from hf_posmine.search import index_files, lance
from hf_posmine.search.specs import LANCE_INDEXES, Lance
from tests.conftest import ToyModel
from tests.support.engines import DIMENSIONS, ROWS, assert_engine_is_sound, clustered, make_index

if TYPE_CHECKING:
    from pathlib import Path

pylance = pytest.importorskip("lance", reason="the extra 'lance' is not installed")
disable_progress_bars()


@pytest.fixture(autouse=True)
def home(fresh_home) -> Path:
    return fresh_home


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("kind", LANCE_INDEXES)
def test_every_kind_of_index_gives_sound_rankings(kind, similarity):
    assert_engine_is_sound(Lance(kind, partitions=8), similarity, 0.8)


def test_the_table_holds_the_vectors_and_is_written_and_indexed_once(home, monkeypatch):
    monkeypatch.setattr(index_files, "BLOCK_BYTES", 100 * 4 * DIMENSIONS)
    found = make_index(Lance("IVF_FLAT")).search(clustered(4, seed=1), 5)
    (path,) = (manifest.parent for manifest in home.glob("indexes/*/files.json"))
    table = pylance.dataset(str(path)).to_table()
    lengths = np.linalg.norm(clustered(), axis=1, keepdims=True)
    assert table["row"].to_pylist() == list(range(ROWS))
    np.testing.assert_allclose(np.stack(table["vector"].to_numpy()), clustered() / np.where(lengths, lengths, 1), 1e-6)
    monkeypatch.setattr(lance, "_build", lambda *_: pytest.fail("indexed again"))
    monkeypatch.setattr(lance, "_write", lambda *_: pytest.fail("written again"))
    again = make_index(Lance("IVF_FLAT", {"nprobes": 2})).search(clustered(4, seed=1), 5)
    assert again.scores.shape == found.scores.shape


def test_a_kill_between_table_and_index_continues(home, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lance, "_build", killed)
    with pytest.raises(KeyboardInterrupt):
        make_index(Lance("IVF_SQ"))
    monkeypatch.undo()
    monkeypatch.setenv("HF_POSMINE_HOME", str(home))
    monkeypatch.setattr(lance, "blocks_of", lambda *_: pytest.fail("written again"))
    assert (make_index(Lance("IVF_SQ")).search(clustered(4, seed=1), 5).doc_ids >= 0).all()
    (path,) = (manifest.parent for manifest in home.glob("indexes/*/files.json"))
    assert len(pylance.dataset(str(path)).describe_indices()) == 1


def test_more_effort_looks_into_more_partitions():
    searcher = make_index(Lance("IVF_FLAT", {"nprobes": 1}, partitions=30), "dot").searcher
    queries = clustered(40, seed=1)
    best = np.argsort(-(queries @ clustered().T), axis=1)[:, :30]
    recall = [
        np.isin(best[i], searcher.candidates(queries, 30, effort)[i]).mean() for effort in (1, 16) for i in range(40)
    ]
    assert np.mean(recall[:40]) < np.mean(recall[40:])
    assert make_index(Lance("IVF_FLAT", partitions=16)).searcher.options == {"nprobes": 8}


def test_queries_are_searched_in_groups_that_do_not_mix(monkeypatch):
    queries = clustered(9, seed=1)
    index = make_index(Lance("IVF_FLAT", {"nprobes": 99}, partitions=4))
    together = index.searcher.candidates(queries, 7, 1)
    monkeypatch.setattr(lance, "QUERIES", 4)
    assert np.array_equal(index.searcher.candidates(queries, 7, 1), together)
    alone = [index.searcher.candidates(queries[[i]], 7, 1)[0] for i in range(9)]
    assert np.array_equal(np.stack(alone), together)


def test_mining_and_its_report(home):
    rng = np.random.default_rng(0)
    words = "red green blue cat dog bird sky sea tree stone house river".split()
    texts = list(dict.fromkeys(" ".join(rng.choice(words, rng.integers(1, 7))) for _ in range(300)))
    pairs = Dataset.from_dict({"query": [f"{t} cat" for t in texts], "positive": texts})
    options = {"store": home / "stores", "fingerprint": "toy", "index": "Lance('IVF_FLAT', partitions=4)"}
    corpus = Corpus.from_texts(texts)
    miner = PositiveAwareMiner.from_dataset(
        pairs, ToyModel(), corpus=corpus, teacher_options=options, filters="PercPos(0.95)"
    )
    assert all(len(row) == 4 for row in pairs.map(miner, batched=True)["negatives"])
    (report,) = measure_approximation(miner, pairs)
    assert report.recall > 0.8
    assert list(home.glob("stores/*/*/indexes/*/files.json"))
    with pytest.raises(InputError, match=r"cannot be used by forked processes.*leave num_proc out"):
        mine(pairs, miner, work_dir=home / "work", num_proc=2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"index": "HNSW"}, "Lance has no index 'HNSW'; choose one of IVF_RQ"),
        ({"search": {"nprobe": 3}}, "Lance has the options nprobes, ef, refine_factor"),
        ({"search": {"nprobes": 0}}, "nprobes=0; expected a whole number"),
        ({"partitions": 0.5}, "partitions=0.5; expected a whole number"),
    ],
)
def test_a_wrong_value_is_refused_before_any_work(options, says):
    with pytest.raises(SpecError, match=says):
        Lance(**options)


def test_what_lance_refuses_is_said_with_its_reason():
    with pytest.raises(InputError, match="Lance cannot build IVF_RQ over 600 documents of 7 dimensions: "):
        make_index(Lance("IVF_RQ"), vectors=clustered(dimensions=7))


def test_manhattan_distances_are_refused():
    with pytest.raises(InputError, match="cannot search Manhattan distances; search exactly"):
        make_index(Lance(), "manhattan")


def test_without_lance_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hf-posmine\[lance\]'"):
        make_index(Lance())
