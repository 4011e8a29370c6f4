"""Tampering with a pushed dataset is found: every column, every field of its record, and rows whose source is recorded."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import json

import pytest
from datasets import Dataset, DatasetDict, Value, load_dataset

from hf_posmine import Corpus, PositiveAwareMiner, Qrels, push_dataset, verify
from hf_posmine.cli.main import main
from hf_posmine.core.errors import PosmineError
from hf_posmine.core.settings import MiningSettings
from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.pushed import PushedRecord
from hf_posmine.hub.rebuild import rebuild
from hf_posmine.hub.record_check import card_changes
from hf_posmine.hub.repository import Snapshot
from hf_posmine.hub.verify import compare_pushed
from hf_posmine.mining.columns import MINED_COLUMNS, column_types
from hf_posmine.mining.provenance import describe_rows, provenance
from hf_posmine.mining.record import MiningRecord
from hf_posmine.mining.summary import MiningSummary
from hf_posmine.teachers import BM25Teacher, RandomTeacher
from tests.hub.mining import KEEP, make_pairs, make_splits

UNDECIDED = {"created", "command", "tool", "schema", "format", "source"}
"""Fields that decide no row here; that they were changed shows only where the card and the file disagree."""
LACKING = [f"About: {text}" if n < 3 else text for n, text in enumerate(make_pairs()["positive"][:])]
"""Documents that hold three of the positives within longer texts."""


@pytest.fixture(scope="module")
def made() -> tuple[DatasetDict, MiningRecord]:
    """Two splits mined by an ensemble without any model, and their record."""
    splits = make_splits()
    known = Qrels.from_dataset(splits, "query", "positive")
    teachers = [BM25Teacher(known.documents, stem=False), RandomTeacher(known.documents, seed=3)]
    miner = PositiveAwareMiner(
        corpus=known.documents, teachers=teachers, known_positives=known, positive_column="positive", num_negatives=3,
        sampler="IntraSample(dedup=True)", filters=["PercPos(0.9)"], keep=KEEP, on_short="random", weak_positive="flag",
    )  # fmt: skip
    mined = splits.map(miner, batched=True)
    summary = MiningSummary.from_dataset(mined, 3)
    return mined, provenance(miner, source={}, summary=summary, command="hf-posmine mine", mined=mined)


def check(pushed, record: MiningRecord, in_card: str | None = None):
    """What ``verify`` does behind the Hub; the card shows the record itself unless another text is given."""
    text = record.to_json()
    found = card_changes(text, text if in_card is None else in_card)
    there = PushedRecord(Snapshot("me/mined", "main", "0" * 40, frozenset(), None), "default", record, tuple(found))
    return compare_pushed(there, dict(pushed), rebuild(dict(pushed), record, Inputs()))


def verified(pushed, record: MiningRecord) -> bool:
    """Whether nothing is found; an error of one line is a finding, too."""
    try:
        return check(pushed, record).verified
    except PosmineError as error:
        return "\n" in str(error)


def other(value):
    """A value of the same type that differs, or the next best."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("1" if value[-1:] != "1" else "2")
    if isinstance(value, list):
        return [other(value[0]), *value[1:]] if value else ["x"]
    if isinstance(value, dict):
        return value | {name: other(held) for name, held in value.items()} if value else {"x": 1}
    return "x"


def paths_in(value, above: tuple = ()):
    """The paths of all values that hold no others."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not items:
        yield above
    for name, held in items:
        yield from paths_in(held, (*above, name))


def tampered(plain: dict, path: tuple) -> dict:
    """The record with the value at a path exchanged."""
    changed = copy.deepcopy(plain)
    held = changed
    for name in path[:-1]:
        held = held[name]
    held[path[-1]] = other(held[path[-1]])
    return changed


def test_untouched_rows_are_verified_and_the_columns_are_printed(made):
    mined, record = made
    found = check(mined, record)
    assert found.verified and found.rows == found.total == 24
    assert {*found.columns} == {"query", *mined["train"].column_names} - {"positive", "note"}
    assert "columns compared: query, negatives, negatives_teachers, " in str(found)
    assert "not checked:\n  that the queries and positives are those of a source without a name" in str(found)


def test_every_column_is_found_even_if_the_record_is_made_to_fit(made):
    mined, record = made
    missed = []
    for column in mined["train"].column_names:
        rows = mined["test"].to_list()
        rows[4][column] = other(rows[4][column])
        pushed = DatasetDict(train=mined["train"], test=Dataset.from_list(rows, mined["test"].features))
        if verified(pushed, record):
            missed.append(f"{column}, by the digest of the rows")
        summary = MiningSummary.from_dataset(pushed, 3).to_dict()
        fitting = dataclasses.replace(record, rows=describe_rows(pushed), summary=summary)
        if column != "note" and verified(pushed, fitting):  # a column of the source alone
            missed.append(f"{column}, by mining again")
    assert missed == []


@pytest.mark.parametrize("column", sorted({"negatives", "negatives_scores", "num_random", "weak_positive"}))
def test_a_column_that_was_taken_away_is_found(made, column):
    mined, record = made
    pushed = mined.remove_columns([column])
    found = check(pushed, dataclasses.replace(record, rows=describe_rows(pushed)))
    assert not found.verified and f"the column {column!r} of split 'train'" in str(found)


def test_every_field_of_the_record_is_found(made):
    mined, record = made
    plain = record.to_dict()
    missed = []
    for path in paths_in(plain):
        text = json.dumps(tampered(plain, path))
        if not card_changes(text, record.to_json()):
            missed.append(("by the card", *path))
        try:
            found = check(mined, MiningRecord.from_json(text))
            seen = not found.verified or (path[0] == "versions" and f"the version of {path[1]}" in str(found))
        except PosmineError as error:
            seen = "\n" not in str(error)
        if not seen and path[0] not in UNDECIDED:
            missed.append(("by mining again", *path))
    assert missed == []


@pytest.fixture(scope="module")
def with_gaps() -> tuple[Dataset, Dataset, MiningRecord]:
    """Rows of which some lack a query or a positive and are left out, over a corpus that lacks a few positives."""
    pairs = make_pairs()
    gaps = [{"query": " ", "positive": "a", "note": 1}, {"query": "b", "positive": None, "note": 2}] * 2
    source = Dataset.from_list([*pairs.to_list(), *gaps[:3]], pairs.features)
    miner = PositiveAwareMiner.from_dataset(source, "bm25", corpus=LACKING, num_negatives=3, skip_bad_rows=True)
    mined = source.map(miner, batched=True)
    summary = MiningSummary.from_dataset(mined, 3)
    return source, mined, provenance(miner, source={}, summary=summary, mined=mined)


@pytest.mark.parametrize("given", [False, True], ids=["rows alone", "the source is given"])
def test_the_account_of_the_data_is_that_of_mining_again(with_gaps, given):
    source, mined, record = with_gaps
    inputs = Inputs(dataset=source if given else None, corpus=Corpus.from_texts(LACKING))
    plain = record.to_dict()
    assert plain["data"]["bad_rows"] == {"an empty query": 2, "no positive": 1} and plain["summary"]["bad_rows"] == 3
    assert 0 < plain["data"]["in_corpus"] < plain["data"]["positives"] and plain["data"]["contained"]

    def found(plain: dict):
        record = MiningRecord.from_dict(plain)
        there = PushedRecord(Snapshot("me/mined", "main", "0" * 40, frozenset(), None), "default", record, ())
        return compare_pushed(there, {"train": mined}, rebuild({"train": mined}, record, inputs))

    assert found(plain).verified
    left_out = "how many rows without a query or a positive were left out of the source"
    assert (left_out in found(plain).unchecked) is not given
    paths = [*(("data", *path) for path in paths_in(plain["data"]) if path != ("corpus",)), ("summary", "bad_rows")]
    held = [path for path in paths if plain[path[0]][path[1]] is not None]
    assert ("data", "bad_rows", "no positive") in held
    for path in held:
        with contextlib.suppress(PosmineError):  # a value that no record has is refused
            assert not found(tampered(plain, path)).verified, path
    fitting = tampered(tampered(plain, ("data", "bad_rows", "no positive")), ("summary", "bad_rows"))
    assert found(fitting).verified is not given  # only the source tells


@pytest.mark.parametrize("change", ["drop the last", "repeat the first"])
def test_rows_that_were_dropped_or_added_are_found(made, change):
    mined, record = made
    train = mined["train"]
    numbers = [*range(len(train) - 1)] if change == "drop the last" else [*range(len(train)), 0]
    assert not check(DatasetDict(train=train.select(numbers), test=mined["test"]), record).verified


def test_mined_columns_are_all_those_that_some_settings_write():
    found = set()
    kinds = itertools.product(("Top()", "CrossSample()"), ("keep", "random"), ("keep", "flag"), (False, True))
    for sampler, short, weak, second in kinds:
        options = {"sampler": sampler, "on_short": short, "weak_positive": weak, "keep": KEEP}
        options |= {"language_column": "lang"} if second else {}
        found |= set(column_types(MiningSettings.from_options(options), second=second))
    assert found == set(MINED_COLUMNS)


@pytest.fixture
def from_negatives(hub) -> DatasetDict:
    """A source on the Hub that has negatives of its own, mined with dropped rows, so that ``verify`` loads it."""
    source = make_pairs().add_column("negatives", [["an older negative"]] * 24).add_column("positive_score", [0.5] * 24)
    source.cast_column("positive_score", Value("float32")).push_to_hub("alice/pairs")
    pairs = load_dataset("alice/pairs", split="train")
    known = Qrels.from_dataset(pairs, "query", "positive")
    miner = PositiveAwareMiner(
        corpus=known.documents, teachers=BM25Teacher(known.documents, stem=False), known_positives=known,
        positive_column="positive", num_negatives=10, filters=["PercPos(0.8)"], keep=("scores",), on_short="drop",
    )  # fmt: skip
    mined = pairs.map(miner, batched=True)
    assert 0 < len(mined) < len(pairs)
    push_dataset(mined, "alice/mined", miner)
    return mined


def test_a_source_with_negatives_of_its_own_leaves_nothing_uncompared(from_negatives, capsys):
    assert verify("alice/mined").verified
    rows = from_negatives.to_list()
    rows[2]["negatives"] = ["planted", *rows[2]["negatives"][1:]]
    Dataset.from_list(rows, from_negatives.features).push_to_hub("alice/mined", split="train")
    found = verify("alice/mined")
    assert [(d.row, d.column) for d in found.differences] == [(2, "negatives")]
    assert {"negatives", "negatives_scores", "positive_score", "note"} <= {*found.columns}
    with pytest.raises(SystemExit) as ended:
        main(["verify", "alice/mined", "--quiet"])
    assert ended.value.code == 1 and "columns compared: query, positive, note, " in capsys.readouterr().out


def test_a_decisive_change_is_exit_1_though_all_rows_are_equal(hub, tmp_path, capsys):
    """A document that nobody gets as a negative changes no row, but the record is of another corpus."""
    pairs = make_pairs(12)
    known = Qrels.from_dataset(pairs, "query", "positive")
    documents = pairs["positive"][:]

    def mine(corpus: Corpus) -> tuple[PositiveAwareMiner, Dataset]:
        miner = PositiveAwareMiner(
            corpus=corpus, teachers=RandomTeacher(corpus, seed=1), known_positives=known, positive_column="positive",
            num_negatives=1, filters=(),
        )  # fmt: skip
        return miner, pairs.map(miner, batched=True)

    miner, mined = mine(known.documents)
    push_dataset(mined, "alice/mined", miner)
    larger = ([*documents, f"spare {number}"] for number in range(100))
    unused = next(texts for texts in larger if mine(Corpus.from_texts(texts))[1].to_list() == mined.to_list())
    Dataset.from_dict({"text": unused}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(SystemExit) as ended:
        main(["verify", "alice/mined", "--corpus", str(tmp_path / "c.parquet"), "--quiet"])
    out = capsys.readouterr().out
    assert ended.value.code == 1 and "12 of 12 rows" in out and "all are equal" in out
    assert "not verified, as this is not as recorded:\n  the corpus: 12 documents" in out
