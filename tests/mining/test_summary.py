"""``MiningSummary`` against a recomputation with pandas and numpy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from hf_posmine import Corpus, MiningSummary, PercPos, PositiveAwareMiner
from hf_posmine.core.errors import ColumnError
from hf_posmine.search import ExactIndex
from tests.conftest import ToyModel

KEEP = ("scores", "ranks", "stats")
N = 5


def toy_mined(pairs, corpus, **options):
    options = {"filters": ["MaxScore(0.6)", PercPos(0.8)], "num_negatives": N, "keep": KEEP} | options
    miner = PositiveAwareMiner.from_dataset(
        pairs, ToyModel(), corpus=corpus, teacher_options={"fingerprint": "toy"}, **{"filters": (), **options}
    )
    return pairs.map(miner, batched=True)


@pytest.fixture(scope="module")
def mined(sample_pairs, sample_corpus):
    """Short rows, filled rows, empty rows and weak positives all occur."""
    window = ["RankWindow(0, 40)", "MaxScore(0.6)", PercPos(0.8)]
    return toy_mined(sample_pairs, sample_corpus, filters=window, weak_positive="flag", weak_rank=30)


@pytest.fixture(scope="module")
def summary(mined):
    return MiningSummary.from_dataset(mined, N)


def test_the_counts_are_those_of_pandas(mined, summary):
    frame = mined.to_pandas()
    counts = frame["negatives"].map(len)
    assert counts.nunique() > 2 and (counts == 0).any()  # else this test shows little
    assert (summary.rows, summary.num_negatives, summary.negatives) == (171, N, counts.sum())
    assert (summary.short_rows, summary.empty_rows) == ((counts < N).sum(), (counts == 0).sum())
    assert summary.weak_rows == frame["weak_positive"].sum() > 0
    assert summary.filled is None


def test_exclusions_and_removals_are_those_of_pandas(mined, summary):
    stats = mined.to_pandas()["negatives_stats"].apply(dict).tolist()
    for reason, count in summary.excluded.items():
        assert count == sum(row[f"excluded_{reason}"] for row in stats)
    assert summary.excluded["positive"] == 171
    for name in ("MaxScore(0.6)", "PercPos(0.8)"):
        removed = sum(min(row["num_above_ceiling"], N) for row in stats if row["ceiling_by"] == name)
        assert summary.removed[name] == pytest.approx(removed / (N * 171))
    assert set(summary.removed) == {"MaxScore(0.6)", "PercPos(0.8)"}


def test_what_is_replaced_is_what_the_naive_miner_did_not_take(mined, summary, sample_pairs, sample_corpus):
    naive = toy_mined(sample_pairs, sample_corpus, filters=[])
    new = sum(len(set(a) - set(b)) for a, b in zip(mined["negatives"], naive["negatives"], strict=True))
    assert summary.replaced == pytest.approx(new / summary.negatives)


def test_quantiles_are_those_of_numpy(mined, summary):
    positives = np.array(mined["positive_score"])
    negatives = np.concatenate([np.array(scores) for scores in mined["negatives_scores"]])
    differences = np.concatenate([p - np.array(s) for p, s in zip(positives, mined["negatives_scores"], strict=True)])
    series = {"positive": positives, "negative": negatives, "positive - negative": differences}
    assert set(summary.quantiles) == set(series)
    for name, values in series.items():
        expected = {str(q): np.quantile(values, q) for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)}
        assert summary.quantiles[name] == pytest.approx(expected, abs=1e-6)


def test_filled_rows_count_as_short(sample_pairs, sample_corpus):
    filters = ["RankWindow(0, 3)", PercPos(1.0)]
    mined = toy_mined(sample_pairs, sample_corpus, filters=filters, on_short="random")
    frame, summary = mined.to_pandas(), MiningSummary.from_dataset(mined, N)
    assert summary.filled == frame["num_random"].sum() > 0
    assert summary.short_rows == ((frame["negatives"].map(len) < N) | (frame["num_random"] > 0)).sum() > 0


def test_n_is_the_most_that_a_row_has_unless_it_is_given():
    rows = Dataset.from_dict({"negatives": [["a", "b"], ["a"], []]})
    assert MiningSummary.from_dataset(rows) == MiningSummary(3, 2, 3, 2, 1)
    assert MiningSummary.from_dataset(rows, 4).short_rows == 3


@pytest.mark.parametrize("first", ["train", "empty"])
def test_splits_are_summed_and_empty_ones_do_not_matter(first, mined, summary, sample_pairs):
    splits = {"train": mined.select(range(70)), "test": mined.select(range(70, 171)), "empty": sample_pairs.select([])}
    ordered = DatasetDict({first: splits[first]} | splits)
    assert MiningSummary.from_dataset(ordered, N) == summary


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("negatives_stats", {"excluded": {}, "removed": {}}),
        ("negatives_ranks", {"replaced": None}),
        ("negatives_scores", {"quantiles": {}}),
        ("positive_score", {"quantiles": {}}),
        ("weak_positive", {"weak_rows": None}),
    ],
)
def test_columns_that_are_missing_leave_their_part_out(missing, gone, mined, summary):
    less = MiningSummary.from_dataset(mined.remove_columns(missing), N)
    assert less.to_dict() == summary.to_dict() | gone


def test_without_negatives_there_is_nothing_to_summarize(sample_pairs):
    with pytest.raises(ColumnError, match=r"no column 'negatives' among .*; map the dataset with a miner first"):
        MiningSummary.from_dataset(sample_pairs)


def test_rows_without_any_negative_at_all_are_summarized():
    rows = {
        "negatives": [[], []],
        "negatives_scores": [[], []],
        "negatives_ranks": [[], []],
        "positive_score": [0.5] * 2,
    }
    summary = MiningSummary.from_dataset(Dataset.from_dict(rows), 4)
    assert (summary.negatives, summary.short_rows, summary.empty_rows, summary.replaced) == (0, 2, 2, 0.0)
    assert "rows without any" in str(summary)


def test_the_text_and_the_json_say_the_counts(summary):
    assert json.loads(summary.to_json()) == summary.to_dict()
    text = str(summary)
    assert max(map(len, text.splitlines())) <= 96
    for word in (f"{summary.negatives:,}", f"rows with fewer than {N}", "PercPos(0.8)", "positive - negative"):
        assert word in text


def test_every_kind_of_filter_has_its_share():
    """Of 40 naive candidates: PercPos removes the best ones, the window and the floor take from the rest."""
    corpus = Corpus.from_texts([f"d{i}" for i in range(10)])
    index = ExactIndex(np.arange(10, 0, -1, dtype=np.float32)[:, None], "dot")

    class Line:
        """Document i scores 10 - i for every query; the positive scores 10."""

        name, score_kind, fingerprint = "line", "dot", "line"

        def search(self, queries, k, *, below=None, exclude=None):
            return index.search(np.ones((len(queries), 1), np.float32), k, below=below, exclude=exclude)

        def score(self, queries, doc_ids):
            return index.score(np.ones((len(queries), 1), np.float32), doc_ids)

        def score_texts(self, queries, documents):
            return np.full(len(queries), 10, np.float32)

    pairs = Dataset.from_dict({"query": ["q", "r"], "positive": ["d0", "d0"]})
    options = {"num_negatives": 4, "keep": ("stats", "ranks")}
    filters = ["PercPos(0.9)", "SkipTop(2)", "MinScore(6.5)"]
    miner = PositiveAwareMiner(corpus=corpus, teachers=Line(), positive_column="positive", filters=filters, **options)
    summary = MiningSummary.from_dataset(pairs.map(miner, batched=True), 4)
    # candidates score 9, 8, 7, 6: the ceiling 9.0 takes the first, SkipTop(2) the second, the floor 6.5 the last
    assert summary.removed == {"PercPos(0.9)": 0.25, "rank window": 0.25, "score floor": 0.25}
    assert "removed by the rank window" in str(summary)
