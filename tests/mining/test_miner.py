"""``PositiveAwareMiner``: the semantics of design section 5, on hand-written scores, on the sample, and by property."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Value, concatenate_datasets, disable_progress_bars
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import (
    Corpus,
    DenseTeacher,
    MarginPos,
    MaxScore,
    MinScore,
    PercPos,
    PositiveAwareMiner,
    Qrels,
    RankWindow,
    SkipTop,
)
from hf_posmine.core.errors import InputError, ShortRowError
from hf_posmine.data.texts import normalize
from tests.conftest import ToyModel

disable_progress_bars()
ROOT = Path(__file__).parents[2]
ALL = ("scores", "ids", "ranks", "stats")
NEW = ["negatives", "negatives_scores", "positive_score", "negatives_ids", "negatives_ranks", "negatives_stats"]


class ScoreTable:
    """A dot-product model of hand-written scores: query i is the i-th unit vector, a document its score for each."""

    similarity_fn_name = "dot"

    def __init__(self, scores: dict[str, float | list[float]], queries: list[str]) -> None:
        self.scores, self.queries = scores, queries

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        return np.eye(len(self.queries), dtype=np.float32)[[self.queries.index(text) for text in texts]]

    def encode_document(self, texts: list[str], **_: object) -> np.ndarray:
        return np.array([np.broadcast_to(self.scores[text], len(self.queries)) for text in texts], np.float32)


def hand_miner(scores, rows, *, corpus=None, known=None, positive_column="positive", **options):
    queries = list(dict.fromkeys(rows["query"]))
    corpus = Corpus.from_texts(list(scores)) if corpus is None else corpus
    teacher = DenseTeacher(ScoreTable(scores, queries), corpus, fingerprint=repr((scores, queries)))
    columns = {"positive_column": positive_column} if "positive" in rows else {}
    options = {"keep": ALL} | options
    return PositiveAwareMiner(
        corpus=corpus, teachers=teacher, known_positives=known, **columns, **{"filters": (), **options}
    )


def hand_mined(scores, rows, **options):
    """The columns that a miner over ``scores`` adds to ``rows``."""
    return hand_miner(scores, rows, **options)(rows)


def toy_miner(pairs, model=None, *, teacher_options=None, **options):
    model = ToyModel() if model is None else model
    return PositiveAwareMiner.from_dataset(
        pairs,
        model,
        teacher_options={"fingerprint": model.name, **(teacher_options or {})},
        **{"filters": (), **options},
    )


def as_rows(dataset):
    """All rows in the order of ``number``, as plain values."""
    rows = list(dataset.with_format(None)) if hasattr(dataset, "with_format") else list(dataset)
    return sorted(rows, key=lambda row: row["number"])


# ---------------------------------------------------------------- the sample: however it is mapped, the same rows


@pytest.fixture(scope="module")
def miner(sample_pairs, sample_corpus):
    return PositiveAwareMiner.from_dataset(
        sample_pairs,
        "embedded",
        corpus=sample_corpus,
        filters=PercPos(0.95),
        sampler="SampledTopK(k=8, temperature=0.1)",
        num_negatives=3,
        keep=ALL,
    )


@pytest.fixture(scope="module")
def mined(sample_pairs, miner):
    return sample_pairs.map(miner, batched=True)


@pytest.fixture(scope="module")
def expected(mined):
    return as_rows(mined)


def test_rows_order_and_other_columns_are_kept(sample_pairs, mined, miner):
    assert mined.column_names == [*sample_pairs.column_names, *NEW]
    assert mined.remove_columns(NEW).to_dict() == sample_pairs.to_dict()
    assert mined.features == miner.features(sample_pairs.features)


def test_every_negative_is_below_its_ceiling_unique_and_no_positive(mined, sample_corpus):
    for row in mined:
        scores, stats = np.float32(row["negatives_scores"]), row["negatives_stats"]
        assert len(set(row["negatives"])) == 3
        assert (scores < np.float32(stats["ceiling"])).all()
        assert (np.diff(scores) <= 0).all()
        assert row["positive"] not in row["negatives"] and row["query"] not in row["negatives"]
        assert row["negatives"] == sample_corpus.texts(sample_corpus.rows_of_ids(row["negatives_ids"])).to_pylist()
        assert all(
            stats["num_above_ceiling"] <= rank < stats["num_above_ceiling"] + 8 for rank in row["negatives_ranks"]
        )
        positive = row["positive_score"]
        assert np.float32(stats["ceiling"]) == np.float32(positive - positive * (1 - 0.95))


def stream(pairs, miner, **options):
    shards = pairs.to_iterable_dataset(num_shards=min(3, len(pairs)))
    return shards.map(miner, features=miner.features(pairs.features), **options)


def by_splits(pairs, miner):
    splits = DatasetDict(train=pairs.select(range(100)), test=pairs.select(range(100, 171)), empty=pairs.select([]))
    mapped = splits.map(miner, batched=True, batch_size=30)
    assert {name: len(split) for name, split in mapped.items()} == {"train": 100, "test": 71, "empty": 0}
    return concatenate_datasets([mapped["train"], mapped["test"]])


WAYS = {
    "batches of 1": lambda d, m: d.map(m, batched=True, batch_size=1),
    "batches of 7": lambda d, m: d.map(m, batched=True, batch_size=7),
    "two forked processes": lambda d, m: d.map(m, batched=True, batch_size=20, num_proc=2),
    "row by row": lambda d, m: d.map(m),
    "shuffled": lambda d, m: d.shuffle(seed=3).map(m, batched=True, batch_size=7),
    "numpy format": lambda d, m: d.with_format("numpy").map(m, batched=True, batch_size=50),
    "torch format": lambda d, m: d.with_format("torch").map(m, batched=True, batch_size=50),
    "pandas format": lambda d, m: d.with_format("pandas").map(m, batched=True, batch_size=50),
    "arrow format": lambda d, m: d.with_format("arrow").map(m, batched=True, batch_size=50),
    "numpy format, row by row": lambda d, m: d.with_format("numpy").map(m),
    "arrow format, row by row": lambda d, m: d.with_format("arrow").map(m),
    "with indices": lambda d, m: d.map(m, batched=True, with_indices=True),
    "with rank": lambda d, m: d.map(m, batched=True, with_rank=True),
    "with rank in processes": lambda d, m: d.map(m, batched=True, with_rank=True, num_proc=2),
    "with indices and rank, row by row": lambda d, m: d.map(m, with_indices=True, with_rank=True),
    "a dict of datasets with an empty one": by_splits,
    "streamed": lambda d, m: stream(d, m, batched=True, batch_size=7),
    "streamed row by row": stream,
    "a pickled miner": lambda d, m: d.map(pickle.loads(pickle.dumps(m)), batched=True),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_same_rows_however_they_are_mapped(way, sample_pairs, miner, expected):
    assert as_rows(way(sample_pairs, miner)) == expected


def run_script(script: str, tmp_path: Path, **env: str) -> str:
    file = tmp_path / "script.py"
    file.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([sys.executable, file], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


SPAWN = """
import pickle
from pathlib import Path
if __name__ == "__main__":
    import multiprocess
    multiprocess.set_start_method("spawn")
    from datasets import load_from_disk
    folder = Path(__file__).parent
    miner = pickle.loads((folder / "miner.pickle").read_bytes())
    load_from_disk(folder / "pairs").map(miner, batched=True, num_proc=2).save_to_disk(folder / "mined")
"""


def test_the_same_rows_in_two_spawned_processes(sample_pairs, miner, expected, tmp_path):
    sample_pairs.save_to_disk(tmp_path / "pairs")
    (tmp_path / "miner.pickle").write_bytes(pickle.dumps(miner))
    run_script(SPAWN, tmp_path)
    assert as_rows(Dataset.load_from_disk(tmp_path / "mined")) == expected


@pytest.mark.parametrize("engine", ["auto", "int8", "bfloat16", "float32", "torch"])
@pytest.mark.parametrize("block_rows", [1, 64])
def test_neither_engine_nor_block_size_moves_a_bit(
    engine, block_rows, sample_pairs, miner, expected, embedded_model, monkeypatch
):
    monkeypatch.setattr("hf_posmine.search.exact.CPU_BLOCK", block_rows)
    options = {name: getattr(miner.settings, name) for name in miner.settings.to_dict()}
    again = PositiveAwareMiner.from_dataset(
        sample_pairs,
        embedded_model,
        corpus=miner.corpus,
        teacher_options={"engine": engine},
        **{"filters": (), **options},
    )
    assert again.fingerprint == miner.fingerprint
    assert as_rows(sample_pairs.map(again, batched=True)) == expected


@pytest.mark.parametrize("shard_rows", [1, 50, 4096])
def test_the_layout_of_the_store_changes_nothing(shard_rows, sample_pairs, sample_corpus, tmp_path):
    options = {"corpus": sample_corpus, "filters": PercPos(0.95), "keep": ALL}
    plain = toy_miner(sample_pairs, **options)
    sharded = toy_miner(sample_pairs, teacher_options={"store": tmp_path, "shard_rows": shard_rows}, **options)
    assert sharded.fingerprint == plain.fingerprint
    assert sample_pairs.map(sharded, batched=True)[:] == sample_pairs.map(plain, batched=True)[:]


def test_queries_never_seen_before_are_encoded_to_the_same_bits(sample_pairs, miner, expected, embedded_model):
    options = {name: getattr(miner.settings, name) for name in miner.settings.to_dict()}
    live = PositiveAwareMiner(
        corpus=miner.corpus,
        teachers=DenseTeacher(embedded_model, miner.corpus),
        known_positives=miner.known_positives,
        positive_column="positive",
        **{"filters": (), **options},
    )
    assert live.teachers[0].embeddings.queries is None
    assert as_rows(stream(sample_pairs, live, batched=True, batch_size=5)) == expected


@pytest.mark.parametrize("window", [SkipTop(10), RankWindow(5, 30)], ids=repr)
def test_rank_windows_count_before_the_ceiling(window, sample_pairs, sample_corpus):
    def mapped(filters, n):
        options = {"corpus": sample_corpus, "keep": ("ranks", "ids", "scores"), "filters": filters}
        return sample_pairs.map(toy_miner(sample_pairs, num_negatives=n, **options), batched=True)

    first, last = window.window[0], window.window[1] or 10**9
    for row, whole in zip(mapped([window, PercPos(0.8)], 4), mapped([], 400), strict=True):
        ceiling = PercPos(0.8).ceiling(np.float32([row["positive_score"]]))[0]
        wanted = [r for r, score in enumerate(whole["negatives_scores"]) if score < ceiling and first <= r < last][:4]
        assert row["negatives_ranks"] == wanted
        assert row["negatives_ids"] == [whole["negatives_ids"][r] for r in wanted]


@pytest.mark.parametrize("sampler", ["Top()", "Uniform(k=6)", "SampledTopK(k=6)", "Top1Sampled(k=6, temperature=0.05)"])
def test_every_sampler_draws_from_the_best_k_below_the_ceiling(sampler, sample_pairs, sample_corpus):
    def mapped(**options):
        miner = toy_miner(sample_pairs, corpus=sample_corpus, filters=PercPos(0.95), keep=("ids", "scores"), **options)
        return sample_pairs.map(miner, batched=True)

    best = mapped(num_negatives=6)["negatives_ids"]
    drawn, again, other = (mapped(sampler=sampler, num_negatives=3, seed=seed) for seed in (1, 1, 2))
    assert drawn[:] == again[:]
    assert (drawn["negatives_ids"][:] == other["negatives_ids"][:]) == (sampler == "Top()")
    for ids, six, scores in zip(drawn["negatives_ids"], best, drawn["negatives_scores"], strict=True):
        assert ids == [document for document in six if document in ids]
        assert len(ids) == 3 and scores == sorted(scores, reverse=True)
        assert ids[0] == six[0] or "Top" not in sampler or sampler.startswith("Sampled")


# ---------------------------------------------------------------- fingerprints, caches, stores

PAIRS = {
    "query": [f"colour {c}" for c in "abcdef"],
    "positive": [f"colour {c} is {d}" for c, d in zip("abcdef", "uvwxyz", strict=True)],
}


def test_another_threshold_encodes_nothing_again_and_another_checkpoint_does(fresh_home):
    pairs, first = Dataset.from_dict(PAIRS), ToyModel()
    pairs.map(toy_miner(pairs, first, filters=PercPos(0.95)), batched=True)
    assert sorted(first.encoded) == sorted(PAIRS["query"] + PAIRS["positive"])
    for options in ({"filters": PercPos(0.8)}, {"sampler": "SampledTopK(k=5)"}, {"num_negatives": 2, "seed": 7}):
        again = ToyModel()
        pairs.map(toy_miner(pairs, again, **options), batched=True)
        assert again.encoded == []
    checkpoint = ToyModel("another checkpoint")
    pairs.map(toy_miner(pairs, checkpoint, filters=PercPos(0.95)), batched=True)
    assert sorted(checkpoint.encoded) == sorted(first.encoded)


def test_use_and_pickling_leave_the_hash_alone(sample_pairs, miner, mined):
    pairs = Dataset.from_dict(PAIRS)
    toy = toy_miner(pairs)
    before = Hasher.hash(toy)
    pairs.map(toy, batched=True)
    copy = pickle.loads(pickle.dumps(toy))
    assert Hasher.hash(toy) == before == Hasher.hash(copy) == Hasher.hash(toy_miner(pairs))
    assert copy.fingerprint == toy.fingerprint


def test_a_pickle_holds_the_recipe_and_no_weights_or_vectors(miner, mined):
    assert len(pickle.dumps(miner)) < 20_000


OTHERS = {
    "filters": {"filters": MarginPos(0.1)},
    "sampler": {"sampler": "Uniform(k=4)"},
    "num_negatives": {"num_negatives": 3},
    "keep": {"keep": "ids"},
    "on_short": {"on_short": "drop"},
    "ceiling_from": {"ceiling_from": "max"},
    "seed": {"seed": 1},
    "near_duplicates": {"near_duplicates": 0.9},
    "exclude_other_positives": {"exclude_other_positives": True},
    "corpus": {"corpus": Corpus.from_texts(["another corpus"])},
    "prompt": {"teacher_options": {"query_prompt": "query: "}},
    "similarity": {"teacher_options": {"similarity": "dot"}},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_whatever_decides_the_rows_changes_the_fingerprint(options):
    pairs = Dataset.from_dict(PAIRS)
    assert toy_miner(pairs, **options).fingerprint != toy_miner(pairs).fingerprint


@pytest.mark.parametrize(
    "options", [{"seed": np.int64(1)}, {"num_negatives": np.int64(2)}, {"filters": PercPos(np.float32(0.5))}]
)
def test_numpy_numbers_in_the_settings_are_plain_numbers(options):
    pairs = Dataset.from_dict(PAIRS)
    plain = {name: PercPos(0.5) if name == "filters" else int(value) for name, value in options.items()}
    assert toy_miner(pairs, **options).fingerprint == toy_miner(pairs, **plain).fingerprint


CACHE = """
import json, sys
from pathlib import Path
from datasets import disable_progress_bars, load_from_disk
from datasets.fingerprint import Hasher
from hf_posmine import PercPos, PositiveAwareMiner
from tests.conftest import ToyModel
disable_progress_bars()
calls, mine = [], PositiveAwareMiner._mine
PositiveAwareMiner._mine = lambda self, columns: calls.append(1) or mine(self, columns)
pairs, model = load_from_disk(Path(__file__).parent / "pairs"), ToyModel()
miner = PositiveAwareMiner.from_dataset(pairs, model, teacher_options={"fingerprint": "toy"}, filters=PercPos(0.9))
negatives = pairs.map(miner, batched=True, batch_size=2)["negatives"][:]
print(json.dumps([len(calls), len(model.encoded), Hasher.hash(miner), negatives]))
"""


def test_a_fresh_process_takes_the_rows_from_the_cache_of_datasets(tmp_path):
    """Another hash seed, and the corpus and the store in another place."""
    Dataset.from_dict(PAIRS).save_to_disk(tmp_path / "pairs")
    here, there = tmp_path / "here", tmp_path / "there"
    first = json.loads(run_script(CACHE, tmp_path, PYTHONHASHSEED="1", HF_POSMINE_HOME=str(here)))
    shutil.move(here, there)
    second = json.loads(run_script(CACHE, tmp_path, PYTHONHASHSEED="2", HF_POSMINE_HOME=str(there)))
    assert first[:2] == [3, 12] and second[:2] == [0, 0]
    assert first[2:] == second[2:]


# ---------------------------------------------------------------- positives: several, by id, outside the corpus

SIBLINGS = {"far": 1.25, "high": 1.0, "own": 0.5, "low": 0.25}  # mean 0.75
DOCUMENTS = {"a": 1.125, "b": 0.625, "c": 0.375, "d": 0.1875}


@pytest.mark.parametrize(
    ("ceiling_from", "score", "negatives"),
    [("min", 0.25, ["d"]), ("own", 0.5, ["c", "d"]), ("mean", 0.75, ["b", "c", "d"]), ("max", 1.25, [*"abcd"])],
)
def test_the_anchor_of_several_positives(ceiling_from, score, negatives):
    rows = {"query": ["q"], "positive": ["own"]}
    known = Qrels.from_columns(["q"] * 4, list(SIBLINGS))
    out = hand_mined(SIBLINGS | DOCUMENTS, rows, known=known, ceiling_from=ceiling_from, filters=MarginPos(0))
    assert out["negatives"] == [negatives]
    assert out["positive_score"] == [0.5]
    assert out["negatives_stats"][0]["reference_score"] == score
    assert out["negatives_stats"][0]["excluded_sibling"] == 3


@pytest.mark.parametrize("match", ["normalized", "exact"])
def test_the_other_positives_of_a_query_are_never_negatives(match):
    """Not even when they stand in another batch, or the query is written otherwise."""
    rows = {"query": ["Which pets?", "which  PETS?", "Which wild ones?"], "positive": ["Big Cat", "Small Dog", "Fox"]}
    documents = ["Big Cat", "Small Dog", "Fox"]
    if match == "exact":
        rows["query"][1] = rows["query"][0]
    corpus = Corpus.from_texts(documents, match=match)
    known = Qrels.from_columns(rows["query"], rows["positive"], match=match)
    scores = dict.fromkeys(documents, 1.0)
    miner = hand_miner(scores, rows, corpus=corpus, known=known)
    alone = [miner({name: [values[i]] for name, values in rows.items()})["negatives"][0] for i in range(3)]
    assert miner(rows)["negatives"] == alone == [["Fox"], ["Fox"], ["Big Cat", "Small Dog"]]


def test_a_list_of_positives_is_scored_by_its_lowest_and_excluded_as_a_whole():
    rows = {"query": ["q", "r"], "positive": [["own", "low"], ["high"]]}
    out = hand_mined(SIBLINGS | DOCUMENTS, rows, filters=MarginPos(0), num_negatives=10)
    assert out["positive_score"] == [0.25, 1.0]
    assert out["negatives"] == [["d"], ["b", "own", "c", "low", "d"]]


@pytest.mark.parametrize("positive_id", [[7, 5], ["7", "5"], [[7, 8], [5]]], ids=str)
def test_positives_by_id(positive_id):
    corpus = Corpus.from_texts([*"abcd"], ids=[5, 6, 7, 8])
    rows = {"query": ["q", "r"], "positive_id": positive_id}
    known = Qrels.from_dataset(Dataset.from_dict(rows), positive_id="positive_id")
    miner = hand_miner(DOCUMENTS, rows, corpus=corpus, known=known, positive_id_column="positive_id")
    mined = Dataset.from_dict(rows).map(miner, batched=True)
    several = isinstance(positive_id[0], list)
    assert mined["negatives"][:] == [["a", "b"] if several else ["a", "b", "d"], ["b", "c", "d"]]
    assert mined["positive_score"][:] == [0.1875 if several else 0.375, 1.125]


def test_positives_from_the_judgements_alone():
    corpus = Corpus.from_texts([*"abcd"], ids=["A", "B", "C", "D"])
    known = Qrels.from_judgements(["1", "1", "2"], ["B", "C", "D"], [1, 2, 1], {"1": "q", "2": "r"})
    out = hand_mined(DOCUMENTS, {"query": ["q", "r"]}, corpus=corpus, known=known, filters=PercPos(1.0))
    assert out["negatives"] == [["d"], []]
    assert out["positive_score"] == [0.375, 0.1875]


def test_a_document_of_unknown_relevance_is_no_negative_and_one_judged_irrelevant_is():
    corpus = Corpus.from_texts([*"abcd"], ids=[*"ABCD"])
    known = Qrels.from_judgements(["1"] * 3, ["A", "B", "C"], [1, -1, 0], {"1": "q"})
    out = hand_mined(DOCUMENTS, {"query": ["q"]}, corpus=corpus, known=known)
    assert out["negatives"] == [["c", "d"]]
    assert out["negatives_stats"][0]["excluded_unknown"] == 1


@pytest.mark.parametrize("known", [None, Qrels.from_columns(["q"], ["outside"])], ids=["unknown", "known"])
def test_a_positive_outside_the_corpus_is_scored_and_sets_the_ceiling(known):
    corpus = Corpus.from_texts([*"abcd"])
    rows = {"query": ["q"], "positive": ["outside"]}
    out = hand_mined({**DOCUMENTS, "outside": 0.5}, rows, corpus=corpus, known=known, filters=MarginPos(0))
    assert out["positive_score"] == [0.5]
    assert out["negatives"] == [["c", "d"]]


def test_positives_a_corpus_lacks_are_scored_and_are_no_candidates():
    pairs = Dataset.from_dict(PAIRS)
    corpus = Corpus.from_texts(["colour a and b", "no colour", "colour c"])
    mined = pairs.map(toy_miner(pairs, corpus=corpus, keep="positive_score", num_negatives=9), batched=True)
    alone = pairs.map(toy_miner(pairs, keep="positive_score"), batched=True)
    assert mined["positive_score"][:] == alone["positive_score"][:]
    assert {text for row in mined["negatives"] for text in row} == {"colour a and b", "no colour", "colour c"}


def test_a_ready_teacher_over_the_same_corpus_scores_positives_the_corpus_lacks():
    pairs = Dataset.from_dict(PAIRS)
    corpus = Corpus.from_texts(["colour a and b", "no colour", "colour c"])
    ready = PositiveAwareMiner.from_dataset(
        pairs, DenseTeacher(ToyModel(), corpus, fingerprint="toy"), corpus=corpus, keep="scores", filters=PercPos(0.95)
    )
    made = toy_miner(pairs, corpus=corpus, keep="scores", filters=PercPos(0.95))
    assert pairs.map(ready, batched=True)[:] == pairs.map(made, batched=True)[:]


# ---------------------------------------------------------------- exclusions


@pytest.mark.parametrize("written", ["The Positive", "THE  POSITIVE", " the positive\n", "ｔｈｅ\u00a0positive"])
def test_an_exact_duplicate_of_the_positive_is_excluded_however_it_is_written(written):
    out = hand_mined({"The Positive": 2.0, "other": 1.0}, {"query": ["q"], "positive": [written]})
    assert out["negatives"] == [["other"]]
    assert out["negatives_stats"][0]["excluded_positive"] == 1


@pytest.mark.parametrize("written", ["what is it", "What is  IT"])
def test_the_own_text_of_the_query_is_excluded(written):
    rows = {"query": ["what is it"], "positive": ["positive"]}
    out = hand_mined({written: 2.0, "other": 1.0, "positive": 1.5}, rows)
    assert out["negatives"] == [["other"]]
    assert out["negatives_stats"][0]["excluded_query"] == 1


@pytest.mark.parametrize("empty", ["", " \n "])
def test_an_empty_document_is_never_a_negative(empty):
    rows = {"query": ["q"], "positive": ["positive"]}
    options = {"filters": "RankWindow(0, 3)", "num_negatives": 3, "on_short": "random"}
    out = hand_mined({empty: 2.0, "other": 1.0, "positive": 1.5}, rows, **options)
    assert out["negatives"] == [["other"]]


def test_near_duplicates_of_a_positive_are_excluded_at_the_bound():
    # two dimensions: the score is the first coordinate of "q", the cosine is that of the vectors
    scores = {"positive": [1.0, 0.0], "twice": [2.0, 0.0], "near": [4.0, 3.0], "far": [3.0, 4.0], "sibling": [0.0, 1.0]}
    rows = {"query": ["q", "r"], "positive": ["positive", "sibling"]}
    known = Qrels.from_columns(["q", "q", "r"], ["positive", "sibling", "sibling"])

    def mined(bound):
        out = hand_mined(scores, rows, known=known, near_duplicates=bound)
        return out["negatives"][0], out["negatives_stats"][0]["excluded_near_duplicate"]

    assert mined(None) == (["near", "far", "twice"], 0)
    assert mined(0.9) == (["near", "far"], 1)
    assert mined(0.8) == ([], 3)  # both cosines, 0.8 with the positive and 0.8 with its sibling, are at the bound


def test_other_rows_positives_are_excluded_on_request():
    rows = {"query": ["q", "r"], "positive": ["a", "b"]}
    known = Qrels.from_columns(rows["query"], rows["positive"])
    assert hand_mined(DOCUMENTS, rows, known=known)["negatives"] == [["b", "c", "d"], ["a", "c", "d"]]
    out = hand_mined(DOCUMENTS, rows, known=known, exclude_other_positives=True)
    assert out["negatives"] == [["c", "d"], ["c", "d"]]
    assert out["negatives_ranks"] == [[0, 1], [0, 1]]


# ---------------------------------------------------------------- short rows and weak positives

SHORT = {"query": ["long", "short"], "positive": ["p", "p"], "number": [0, 1]}
SHORT_SCORES = {"p": [1.0, 0.0], "a": [0.75, -1.0], "b": [0.5, 0.5], "c": [0.25, 0.25]}  # short: one below 0


def test_a_query_whose_first_50_candidates_are_above_the_ceiling_still_gets_the_right_ones():
    scores = {"p": 0.5} | {f"d{i}": 2 - i / 64 for i in range(200)}
    out = hand_mined(scores, {"query": ["q"], "positive": ["p"]}, filters=PercPos(0.75), num_negatives=3)
    assert out["negatives_stats"][0]["num_above_ceiling"] == 105  # 2 - 104/64 = 0.375 is at the ceiling
    assert out["negatives"] == [["d105", "d106", "d107"]]


@pytest.mark.parametrize("format", [None, "numpy", "torch", "pandas", "arrow"])
@pytest.mark.parametrize(
    ("on_short", "expected"), [("keep", [["a", "b", "c"], ["a"]]), ("drop", [["a", "b", "c"]])], ids=["keep", "drop"]
)
def test_short_rows_are_kept_or_dropped(on_short, expected, format):
    miner = hand_miner(SHORT_SCORES, SHORT, filters=PercPos(1.0), num_negatives=3, on_short=on_short)
    mined = Dataset.from_dict(SHORT).with_format(format).map(miner, batched=True).with_format(None)
    assert mined["negatives"][:] == expected
    assert mined["number"][:] == [0, 1][: len(expected)]
    assert mined.column_names == [*SHORT, *NEW]


def test_short_rows_of_a_stream_are_dropped():
    miner = hand_miner(SHORT_SCORES, SHORT, filters=PercPos(1.0), num_negatives=3, on_short="drop")
    assert [row["query"] for row in stream(Dataset.from_dict(SHORT), miner, batched=True)] == ["long"]


def test_a_dataset_of_only_short_rows_has_the_columns_when_features_are_given():
    rows, miner = Dataset.from_dict(SHORT), hand_miner(SHORT_SCORES, SHORT, num_negatives=9, on_short="drop")
    mined = rows.map(miner, batched=True, features=miner.features(rows.features))
    assert len(mined) == 0 and mined.features == miner.features(rows.features)


def test_a_short_row_raises_on_request():
    with pytest.raises(ShortRowError, match=r"row 1 \('short'\) has 1 of 3 negatives: 2 documents score at or above"):
        hand_mined(SHORT_SCORES, SHORT, filters=PercPos(1.0), num_negatives=3, on_short="raise")


def test_random_fills_are_counted_below_the_ceiling_unique_and_reproducible():
    scores = {"p": 0.0} | {f"d{i}": i / 64 - 1 for i in range(128)}  # 64 of them below 0
    rows = {"query": ["q", "r", "s"], "positive": ["p"] * 3}
    options = {"filters": [RankWindow(64, 66), PercPos(1.0)], "num_negatives": 5, "on_short": "random"}
    out, again = hand_mined(scores, rows, **options), hand_mined(scores, rows, **options)
    assert out == again
    for row in range(3):
        assert out["negatives"][row][:2] == ["d63", "d62"]
        assert out["num_random"][row] == 3 == len(set(out["negatives"][row][2:]) - {"p", "d63", "d62"})
        assert all(score < 0 for score in out["negatives_scores"][row])
        assert out["negatives_ranks"][row] == [64, 65, -1, -1, -1]
    assert len({tuple(row) for row in out["negatives"]}) > 1


def test_random_fills_stop_when_nothing_is_left_below_the_ceiling():
    miner = hand_miner(SHORT_SCORES, SHORT, filters=["RankWindow(0, 1)", PercPos(1.0)], on_short="random")
    out = miner(SHORT)
    assert [sorted(row) for row in out["negatives"]] == [["a", "b", "c"], ["a"]]
    assert out["num_random"] == [2, 1]


def test_random_fills_find_the_few_documents_below_the_ceiling_of_a_large_corpus():
    scores = {"p": 0.0} | {f"d{i}": float(i - 5) for i in range(3000)}  # d0 to d4 below 0
    rows = {"query": ["q"], "positive": ["p"]}
    out = hand_mined(scores, rows, filters=[RankWindow(0, 10), PercPos(1.0)], num_negatives=4, on_short="random")
    assert out["num_random"] == [4]


@pytest.mark.parametrize(
    ("weak_positive", "rows", "flags"), [("keep", [0, 1], None), ("flag", [0, 1], [False, True]), ("drop", [0], None)]
)
def test_weak_positives(weak_positive, rows, flags):
    options = {"filters": PercPos(1.0), "weak_positive": weak_positive, "weak_rank": 2}
    mined = Dataset.from_dict(SHORT).map(hand_miner(SHORT_SCORES, SHORT, **options), batched=True)
    assert mined["number"][:] == rows
    assert (mined["weak_positive"][:] if flags else None) == flags
    assert [stats["num_above_ceiling"] for stats in mined["negatives_stats"]] == [0, 2][: len(rows)]


def test_a_single_row_cannot_be_dropped():
    miner = hand_miner(SHORT_SCORES, SHORT, num_negatives=9, on_short="drop")
    with pytest.raises(InputError, match="batched=True"):
        Dataset.from_dict(SHORT).map(miner)


@pytest.mark.parametrize("format", [None, "numpy", "torch", "pandas", "arrow"])
def test_a_first_batch_without_any_negative_has_the_right_types(format):
    miner = hand_miner(SHORT_SCORES, SHORT, filters=PercPos(1.0), keep=("scores", "ids", "ranks"))
    rows = Dataset.from_dict({"query": ["short"] * 3 + ["long"], "positive": ["a"] * 3 + ["p"]})
    mined = rows.with_format(format).map(miner, batched=True, batch_size=2).with_format(None)
    assert mined["negatives"][:] == [[], [], [], ["a", "b", "c"]]
    assert {name: mined.features[name] for name in NEW[:5]} == {
        name: feature for name, feature in miner.features(rows.features).items() if name in NEW[:5]
    }


def test_a_miner_replaces_its_columns_when_it_maps_again():
    rows = Dataset.from_dict(SHORT)
    first, second = (hand_miner(SHORT_SCORES, SHORT, num_negatives=n) for n in (1, 3))
    for format in (None, "arrow", "pandas"):
        again = rows.with_format(format).map(first, batched=True).map(second, batched=True).with_format(None)
        assert again["negatives"][:] == rows.map(second, batched=True)["negatives"][:]


def test_features_of_a_stream_are_needed():
    features = Features({"query": Value("string"), "positive": Value("string")})
    miner = hand_miner(SHORT_SCORES, SHORT)
    assert list(miner.features(features)) == ["query", "positive", *NEW]
    with pytest.raises(InputError, match=r"datasets\.Features"):
        miner.features(None)


# ---------------------------------------------------------------- by property, against a slow oracle


class Points:
    """Texts as points with small whole coordinates: scores are exact, and ties and ceilings are hit all the time."""

    def __init__(self, points: dict[str, tuple[int, ...]], similarity: str) -> None:
        self.points, self.similarity_fn_name = points, similarity

    def encode_document(self, texts: list[str], **_: object) -> np.ndarray:
        return np.array([self.points[normalize(text)] for text in texts], np.float32)

    encode_query = encode_document

    def score(self, a: str, b: str) -> float:
        pairs = list(zip(self.points[normalize(a)], self.points[normalize(b)], strict=True))
        if self.similarity_fn_name == "dot":
            return float(sum(x * y for x, y in pairs))
        return -float(sum((x - y) ** 2 for x, y in pairs) ** 0.5)


def oracle(model, documents, pairs, row, filters, n, ceiling_from, exclude_all):
    """Loops over everything, in float64: (texts, ranks, above) of one row."""
    query, own = pairs["query"][row], pairs["positive"][row]
    known = {}
    for q, positives in zip(pairs["query"], pairs["positive"], strict=True):
        known.setdefault(normalize(q), set()).update(normalize(p) for p in positives)
    mine = {normalize(p) for p in own}
    every = mine | known[normalize(query)]
    own_score = min(model.score(query, p) for p in mine)
    scores = sorted(float(np.float32(model.score(query, p))) for p in every)
    p = {"min": scores[0], "max": scores[-1], "own": own_score, "mean": sum(scores) / len(scores)}[ceiling_from]
    p = float(np.float32(p))
    banned = every | {normalize(query), ""} | ({t for texts in known.values() for t in texts} if exclude_all else set())
    unique = {}
    for document in documents:
        unique.setdefault(normalize(document), document)
    ranked = [(-float(np.float32(model.score(query, d))), i, d) for i, d in enumerate(unique.values())]
    ranked = [(-s, d) for s, _, d in sorted(ranked) if normalize(d) not in banned]
    ceiling, floor, first, last = np.inf, -np.inf, 0, len(ranked)
    for f in filters:
        if isinstance(f, MaxScore):
            ceiling = min(ceiling, float(np.float32(f.score)))
        elif isinstance(f, MarginPos):
            ceiling = min(ceiling, float(np.float32(p - f.margin)))
        elif isinstance(f, PercPos):
            ceiling = min(ceiling, float(np.float32(p - abs(p) * (1 - f.share))))
        elif isinstance(f, MinScore):
            floor = max(floor, float(np.float32(f.score)))
        else:
            first, last = max(first, f.window[0]), min(last, f.window[1] or last)
    kept = [(d, rank) for rank, (s, d) in enumerate(ranked) if floor <= s < ceiling and first <= rank < last][:n]
    return [d for d, _ in kept], [r for _, r in kept], sum(s >= ceiling for s, _ in ranked)


WINDOWS = st.one_of(st.builds(SkipTop, st.integers(0, 6)), st.sampled_from([RankWindow(0, 5), RankWindow(2, 9)]))
LIMITS = [
    st.builds(MaxScore, st.integers(-4, 4)),
    st.builds(MinScore, st.integers(-6, 1)),
    st.builds(MarginPos, st.sampled_from([0, 0.5, 1, 2.0])),
]


@st.composite
def cases(draw):
    similarity = draw(st.sampled_from(["dot", "euclidean"]))
    point = st.tuples(st.integers(-3, 3), st.integers(-3, 3))
    names = [f"d{i}" for i in range(draw(st.integers(2, 24)))] + ["q0", ""]
    points = {name: draw(point) for name in [*names, "q1", "q2", "out"]}
    documents = draw(st.lists(st.sampled_from([*names, *(n.upper() for n in names)]), min_size=2, max_size=30))
    size = draw(st.integers(1, 5))
    queries = draw(st.lists(st.sampled_from(["q0", "q1", "Q1 ", "q2"]), min_size=size, max_size=size))
    positive = st.lists(st.sampled_from([*names[:-2], "out"]), min_size=1, max_size=2)
    positives = [draw(positive) for _ in queries]
    shares = [st.builds(PercPos, st.sampled_from([0.5, 0.75, 0.95, 1.0, 1.25]))] if similarity == "dot" else []
    filters = draw(st.lists(st.one_of(*LIMITS, *shares, WINDOWS), max_size=3))
    return similarity, points, documents, {"query": queries, "positive": positives}, filters


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    case=cases(),
    n=st.integers(1, 5),
    ceiling_from=st.sampled_from(["min", "own", "mean", "max"]),
    exclude_all=st.booleans(),
    engine=st.sampled_from(["auto", "float32", "torch"]),
)
def test_the_negatives_are_those_of_a_slow_oracle(case, n, ceiling_from, exclude_all, engine):
    similarity, points, documents, pairs, filters = case
    try:
        options = {"filters": filters, "num_negatives": n, "ceiling_from": ceiling_from, "keep": ("ranks", "stats")}
        model, dataset = Points(points, similarity), Dataset.from_dict(pairs)
        miner = PositiveAwareMiner.from_dataset(
            dataset,
            model,
            corpus=Corpus.from_texts(documents),
            teacher_options={"fingerprint": repr((points, similarity)), "engine": engine},
            exclude_other_positives=exclude_all,
            exclude_lookalikes=False,
            **{"filters": (), **options},
        )
    except InputError as error:
        assert "leave no rank" in str(error)
        return
    out = miner(pairs)
    for row in range(len(pairs["query"])):
        texts, ranks, above = oracle(model, documents, pairs, row, filters, n, ceiling_from, exclude_all)
        stats = out["negatives_stats"][row]
        assert (out["negatives"][row], out["negatives_ranks"][row], stats["num_above_ceiling"]) == (texts, ranks, above)


def test_a_model_that_changed_since_the_teacher_was_made_does_not_fill_the_store(sample_corpus, fresh_home):
    from hf_posmine.core.errors import StoreError
    from hf_posmine.encoding.encode import load_model

    model = load_model("embedded")
    teacher = DenseTeacher(model, sample_corpus)
    model.max_seq_length = 8
    with pytest.raises(StoreError, match="changed since this teacher was made"):
        teacher.prepare()


def test_simans_sees_scores_relative_to_the_positive():
    from hf_posmine import Corpus, PositiveAwareMiner
    from hf_posmine.teachers import VectorTeacher

    table = np.float32([5.0, 9.0, 5.2, 4.9, 1.0])[:, None]
    teacher = VectorTeacher(Corpus.from_texts([*"pabcd"]), table, ["q"], [[1]], similarity="dot")
    options = {"positive_column": "positive", "sampler": "SimANS(k=4, a=100.0, b=0.0)", "num_negatives": 2}
    out = PositiveAwareMiner(corpus=teacher.corpus, teachers=teacher, **{"filters": (), **options})(
        {"query": ["q"], "positive": ["p"]}
    )
    assert out["negatives"] == [["b", "c"]]


def test_a_miner_says_in_one_line_what_it_is(toy_model):
    pairs = Dataset.from_dict({"query": ["red", "blue"], "answer": ["a red ball", "a blue ball"]})
    named = {"fingerprint": "toy"}
    miner = PositiveAwareMiner.from_dataset(
        pairs, toy_model, sampler="Uniform(3)", num_negatives=2, teacher_options=named
    )
    text = repr(miner)
    assert "PercPos(0.95); Uniform(k=3); 2 negatives from 2 documents" in text and "\n" not in text
    assert repr(miner.corpus) == "Corpus(2 documents; texts match normalized)"


def test_without_filters_a_positive_aware_miner_has_a_ceiling():
    from hf_posmine.teachers import RandomTeacher, VectorTeacher

    table = np.float32([1.0, 0.96, 0.5])[:, None]
    corpus = Corpus.from_texts(["p", "near", "far"])
    teacher = VectorTeacher(corpus, table, ["q"], [[1]], similarity="dot")
    rows = {"query": ["q"], "positive": ["p"]}
    default = PositiveAwareMiner(corpus=corpus, teachers=teacher, positive_column="positive", num_negatives=1)
    naive = PositiveAwareMiner(
        corpus=corpus, teachers=teacher, positive_column="positive", num_negatives=1, filters="none"
    )
    assert (default(rows)["negatives"], naive(rows)["negatives"]) == ([["far"]], [["near"]])
    assert default.settings.to_dict()["filters"] == ["PercPos(0.95)"]
    far = VectorTeacher(corpus, table, ["q"], [[1]], similarity="euclidean")
    with pytest.raises(InputError, match="the teacher gives distance scores, for which PercPos"):
        PositiveAwareMiner(corpus=corpus, teachers=far, positive_column="positive")
    chance = PositiveAwareMiner(corpus=corpus, teachers=RandomTeacher(corpus), positive_column="positive")
    assert chance.settings.all_filters == ()
