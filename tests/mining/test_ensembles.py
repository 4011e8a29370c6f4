"""The two ensembles: a table computed by hand, the paper's kept duplicates, and a slow oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, CrossSample, IntraSample, MarginPos, PositiveAwareMiner
from hf_posmine.core.errors import InputError, ShortRowError, SpecError
from hf_posmine.core.samplers import as_sampler, parse_sampler
from hf_posmine.teachers import VectorTeacher

disable_progress_bars()
KEEP = ("scores", "ids", "ranks", "stats")

# Scores by three teachers for one query. Below its positive (p) each teacher has:
#   one:   b .8  a .7  c .6          (d .95 is above p .9)
#   two:   a .5  b .4                (c, d above p .6)
#   three: a 9   d 8   b 7  c 6      (p 10)
TABLE = {"one": [0.9, 0.7, 0.8, 0.6, 0.95], "two": [0.6, 0.5, 0.4, 0.7, 0.8], "three": [10, 9, 7, 6, 8]}
DOCUMENTS = ["p", "a", "b", "c", "d"]


def table_miner(sampler, n, teachers=tuple(TABLE), **options):
    corpus = Corpus.from_texts(DOCUMENTS)
    made = [
        VectorTeacher(corpus, np.float32(TABLE[name])[:, None], ["q", "r"], [[1], [1]], similarity="dot", name=name)
        for name in teachers
    ]
    options = {"filters": MarginPos(0), "keep": KEEP, "positive_column": "positive"} | options
    return PositiveAwareMiner(
        corpus=corpus, teachers=made, sampler=sampler, num_negatives=n, **{"filters": (), **options}
    )


def table_row(sampler, n, **options):
    out = table_miner(sampler, n, **options)({"query": ["q"], "positive": ["p"]})
    return {name: values[0] for name, values in out.items()}


@pytest.mark.parametrize(
    ("sampler", "n", "negatives", "teachers", "ranks"),
    [
        # every teacher's best: a comes twice, as the paper keeps it
        ("IntraSample(dedup=False)", 3, "baa", ["one", "two", "three"], [1, 2, 0]),
        # three's a is taken by two, so three gives its next one, d
        ("IntraSample(dedup=True)", 3, "bad", ["one", "two", "three"], [1, 2, 1]),
        # fewer negatives than teachers: the first teachers give them
        ("IntraSample(dedup=False)", 2, "ba", ["one", "two"], [1, 2]),
        # a second turn, by rank: one's second, two's second, three's second
        ("IntraSample(dedup=False)", 6, "baaabd", ["one", "two", "three"] * 2, [1, 2, 0, 2, 3, 1]),
        # two has nothing left after a and b, so the others go on; then all four documents are taken
        ("IntraSample(dedup=True)", 6, "badc", ["one", "two", "three", "one"], [1, 2, 1, 3]),
        ("IntraSample(dedup=False)", 9, "baaabdcbc", [*"123123133"], [1, 2, 0, 2, 3, 1, 3, 2, 3]),
    ],
)
def test_intra_sample_by_hand(sampler, n, negatives, teachers, ranks):
    row = table_row(sampler, n)
    names = dict(zip("123", TABLE, strict=True))
    assert row["negatives"] == list(negatives)
    assert row["negatives_teachers"] == [names.get(t, t) for t in teachers]
    assert row["negatives_ranks"] == ranks
    for document, teacher, score, positive in zip(
        row["negatives"],
        row["negatives_teachers"],
        row["negatives_scores"],
        row["negatives_positive_scores"],
        strict=True,
    ):
        assert score == np.float32(TABLE[teacher][DOCUMENTS.index(document)]) < positive
        assert positive == np.float32(TABLE[teacher][0])
    assert row["positive_score"] == row["negatives_stats"]["reference_score"] == np.float32(0.9)  # of the first teacher
    assert row["negatives_stats"]["num_above_ceiling"] == 1


def test_cross_sample_takes_all_negatives_of_a_row_from_one_teacher():
    rows = {"query": [f"q{i}" for i in range(300)], "positive": ["p"] * 300}
    corpus = Corpus.from_texts(DOCUMENTS)
    ones = np.ones((300, 1), np.float32)
    made = [
        VectorTeacher(corpus, np.float32(t)[:, None], rows["query"], ones, similarity="dot", name=name)
        for name, t in TABLE.items()
    ]
    options = {"filters": MarginPos(0), "keep": KEEP, "positive_column": "positive", "num_negatives": 2}
    miner = PositiveAwareMiner(corpus=corpus, teachers=made, sampler=CrossSample(), **{"filters": (), **options})
    alone = {
        t.name: PositiveAwareMiner(corpus=corpus, teachers=t, **{"filters": (), **options})(
            {n: v[:1] for n, v in rows.items()}
        )
        for t in made
    }
    mined = Dataset.from_dict(rows).map(miner, batched=True)
    drawn = [row["negatives_teachers"][0] for row in mined]
    assert all(70 < drawn.count(name) < 130 for name in TABLE)
    for row, name in zip(mined, drawn, strict=True):
        assert row["negatives_teachers"] == [name] * 2
        assert row["negatives_positive_scores"] == [np.float32(TABLE[name][0])] * 2
        for column, values in alone[name].items():
            assert row[column] == values[0], column
    assert Dataset.from_dict(rows).map(miner, batched=True, batch_size=7)[:] == mined[:]
    other = Dataset.from_dict(rows).map(
        PositiveAwareMiner(corpus=corpus, teachers=made, sampler="CrossSample()", seed=1, **{"filters": (), **options}),
        batched=True,
    )
    assert [row["negatives_teachers"][0] for row in other] != drawn


def oracle(scores, positive, n, dedup):
    """Negatives of one row as (teacher, document), by sorting whole lists of (turn, teacher)."""
    lists = []
    for values in scores:
        own = values[positive]
        ranked = sorted((d for d in range(len(values)) if d != positive), key=lambda d: (-values[d], d))
        lists.append([d for d in ranked if values[d] < own])
    if not dedup:
        turns = [(turn, t, d) for t, found in enumerate(lists) for turn, d in enumerate(found)]
        return [(t, d) for _, t, d in sorted(turns)[:n]]
    given = []
    for t in itertools.cycle(range(len(lists))):
        if len(given) == n or all(d in [g for _, g in given] for found in lists for d in found):
            return given
        fresh = [d for d in lists[t] if d not in [g for _, g in given]]
        given += [(t, fresh[0])] if fresh else []
    return given


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    data=st.data(), documents=st.integers(2, 9), teachers=st.integers(2, 4), n=st.integers(1, 8), dedup=st.booleans()
)
def test_intra_sample_against_a_slow_oracle(data, documents, teachers, n, dedup):
    level = st.integers(-3, 3)
    tables = [data.draw(st.lists(level, min_size=documents, max_size=documents)) for _ in range(teachers)]
    corpus = Corpus.from_texts([f"d{i}" for i in range(documents)])
    made = [
        VectorTeacher(corpus, np.float32(t)[:, None], ["q"], [[1]], similarity="dot", name=str(i))
        for i, t in enumerate(tables)
    ]
    positive = data.draw(st.integers(0, documents - 1))
    miner = PositiveAwareMiner(
        corpus=corpus,
        teachers=made,
        sampler=IntraSample(dedup),
        num_negatives=n,
        filters=MarginPos(0),
        positive_column="p",
    )
    out = miner({"query": ["q"], "p": [f"d{positive}"]})
    found = list(zip(out["negatives_teachers"][0], out["negatives"][0], strict=True))
    assert found == [(str(t), f"d{d}") for t, d in oracle(tables, positive, n, dedup)]


def test_each_teacher_keeps_its_own_ceiling_where_one_has_nothing_below_it():
    TABLE["none"] = [0, 1, 1, 1, 1]
    try:
        row = table_row("IntraSample(dedup=True)", 2, teachers=("none", "two"))
    finally:
        del TABLE["none"]
    assert (row["negatives"], row["negatives_teachers"]) == (["a", "b"], ["two", "two"])
    assert row["positive_score"] == 0 and row["negatives_stats"]["num_above_ceiling"] == 4


def test_short_rows_of_ensembles():
    with pytest.raises(ShortRowError, match=r"row 1 \('r'\) has 2 of 3"):
        table_miner("CrossSample()", 3, teachers=("two", "two"), on_short="raise")(
            {"query": ["q", "r"], "positive": ["d", "p"]}
        )
    window = {"filters": ["RankWindow(0, 3)", MarginPos(0)], "on_short": "random"}
    row = table_row("IntraSample(dedup=True)", 3, teachers=("one", "two"), **window)
    assert (row["negatives"], row["negatives_teachers"]) == (["b", "a", "c"], ["one", "two", "one"])
    assert (row["num_random"], row["negatives_ranks"]) == (1, [1, 2, -1])


def test_teachers_of_one_name_are_numbered():
    miner = table_miner("IntraSample(dedup=False)", 2, teachers=("two", "two"))
    assert miner.teacher_names == ["two #1", "two #2"]
    assert miner({"query": ["q"], "positive": ["p"]})["negatives_teachers"] == [["two #1", "two #2"]]


def test_spelling_and_errors():
    for value in (CrossSample(), IntraSample(), IntraSample(dedup=True)):
        assert parse_sampler(repr(value)) == value == as_sampler(value)
    assert repr(IntraSample(True)) == "IntraSample(dedup=True)"
    with pytest.raises(SpecError, match="dedup must be True or False, got 1"):
        IntraSample(1)
    with pytest.raises(InputError, match=r"3 teachers and the sampler Top\(\).*CrossSample"):
        table_miner("Top()", 2)
    with pytest.raises(InputError, match=r"CrossSample\(\) has no effect on one teacher"):
        table_miner("CrossSample()", 2, teachers=("one",))


def test_the_columns_are_declared_and_typed():
    miner = table_miner("IntraSample(dedup=False)", 2)
    rows = Dataset.from_dict({"query": ["q"], "positive": ["p"]})
    assert rows.map(miner, batched=True).features == miner.features(rows.features)
    assert "negatives_teachers" not in table_miner("Top()", 2, teachers=("one",)).features(rows.features)
