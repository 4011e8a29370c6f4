"""Mining rows that were mined before: nothing of the earlier negatives stays beside the new ones."""

from __future__ import annotations

import pytest
from datasets import Dataset, DatasetDict

from hf_posmine import MiningSummary, PositiveAwareMiner, mine, to_training
from hf_posmine.core.errors import ColumnError
from hf_posmine.mining.columns import MINED_COLUMNS, OUTPUT_COLUMNS, output_columns, without_nulls, written_columns

KEEPS = [
    (),
    ("scores",),
    ("ids", "ranks"),
    ("positive_score",),
    ("scores", "stats"),
    ("scores", "ids", "ranks", "stats"),
]
COMBINATIONS = [(KEEPS[i], KEEPS[(i + step) % len(KEEPS)]) for i in range(len(KEEPS)) for step in (1, 4)]
FIRST = {"weak_positive": "flag", "on_short": "random"}
PAIRS = Dataset.from_dict(
    {
        "question": ["who painted the ceiling", "which metal is liquid", "where do eels spawn", "what is a fugue"],
        "reply": [
            "Michelangelo painted it.",
            "Mercury is liquid.",
            "Eels spawn in the Sargasso.",
            "A fugue is a form.",
        ],
        "negatives_source": ["mine", "mine", "yours", "yours"],  # a column of the user's own
    }
)


def miner(keep, **options):
    return PositiveAwareMiner.from_dataset(
        PAIRS,
        "bm25",
        keep=keep,
        num_negatives=options.pop("n", 2),
        filters=options.pop("filters", "PercPos(0.95)"),
        **options,
    )


@pytest.fixture(autouse=True)
def bm25():
    pytest.importorskip("bm25s", reason="needs the extra 'bm25'")
    pytest.importorskip("Stemmer", reason="needs the extra 'bm25'")


def again(first, second, form):
    """The rows of ``PAIRS`` mined by one miner and then by another."""
    once = PAIRS.map(first, batched=True)
    if form == "mine":
        return mine(once, second)
    if form == "stream":
        stream = once.to_iterable_dataset()
        return Dataset.from_list(list(stream.map(second, batched=True, features=second.features(stream.features))))
    return once.with_format({"arrow": "arrow", "pandas": "pandas", "lists": None}[form]).map(second, batched=True)


@pytest.mark.parametrize("form", ["lists", "arrow", "pandas", "stream", "mine"])
@pytest.mark.parametrize(("before", "after"), COMBINATIONS, ids=str)
def test_only_what_the_second_mining_writes_holds_anything(before, after, form):
    second = miner(after, n=1, seed=3)
    mined = again(miner(before, **FIRST), second, form).with_format(None)
    fresh = PAIRS.map(second, batched=True)
    assert list(without_nulls(mined).select_columns(fresh.column_names)) == list(fresh)
    assert set(written_columns(mined)) == set(output_columns(fresh.column_names))
    assert form != "mine" or set(mined.column_names) == set(fresh.column_names)
    assert MiningSummary.from_dataset(mined, 1).to_dict() == MiningSummary.from_dataset(fresh, 1).to_dict()
    assert mined["negatives_source"][:] == PAIRS["negatives_source"][:]


def test_scores_of_an_earlier_mining_are_not_trained_on():
    mined = again(miner(("scores", "stats"), **FIRST), miner("ids"), "lists")
    assert mined.features["negatives_scores"] == PAIRS.map(miner("scores"), batched=True).features["negatives_scores"]
    with pytest.raises(ColumnError, match=r"keep=\('scores',\)"):
        to_training(mined, "labeled-list", query_column="question", positive_column="reply", scores=True)


def test_verdicts_on_earlier_negatives_do_not_stay():
    judged = PAIRS.add_column("negatives_verdicts", [["irrelevant"]] * 4).add_column("negatives_suspect", [[False]] * 4)
    assert written_columns(judged.map(miner(()), batched=True)) == ["negatives"]


def test_a_single_row_and_shards_lose_the_earlier_columns_too(tmp_path):
    once = PAIRS.map(miner(("scores", "ranks"), **FIRST), batched=True)
    assert written_columns(once.map(miner("ids"))) == ["negatives", "negatives_ids"]
    stream = mine(DatasetDict(train=once), miner("ids"), output=tmp_path / "shards")["train"]
    assert output_columns(stream.column_names) == ["negatives", "negatives_ids"]


def test_the_declared_types_are_those_that_the_miner_writes():
    everything = miner(("scores", "ids", "ranks", "stats"), **FIRST)
    features = PAIRS.map(everything, batched=True).features.arrow_schema
    for name in output_columns(features.names):
        assert features.field(name).type == MINED_COLUMNS[name] == OUTPUT_COLUMNS[name]
