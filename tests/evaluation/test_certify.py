"""Guaranteed rates: the test by enumeration and simulation, the choice by slow loops, judges, refusals, and the command."""

from __future__ import annotations

import math
import re
from itertools import product

import numpy as np
import pytest
from datasets import Dataset, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hf_posmine import Corpus, MaxFNRate
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.settings import MiningSettings
from hf_posmine.evaluation import Judgements, MeasuredJudge, OracleJudge, certify, certify_by_judge
from hf_posmine.evaluation.negatives.betting import is_below, queries_needed
from hf_posmine.evaluation.negatives.ladder import declared
from hf_posmine.mining.provenance import read_provenance
from hf_posmine.teachers import VectorTeacher
from tests.conftest import SAMPLE
from tests.support.chat import ChatService, says

# ---------------------------------------------------------------- the test of one rate


def wrong(values, chances, threshold: float, error: float, queries: int) -> float:
    """The exact probability that ``queries`` independent losses pass: every sequence of them, by its chance."""
    total = 0.0
    for drawn in product(range(len(values)), repeat=queries):
        if is_below(np.array([values[at] for at in drawn]), threshold, error):
            total += math.prod(chances[at] for at in drawn)
    return total


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]), min_size=3, max_size=3, unique=True),
    weights=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    error=st.sampled_from([0.05, 0.2, 0.5, 0.8]),
    above=st.sampled_from([1.0, 0.9, 0.5]),
)
def test_no_rate_above_the_threshold_passes_more_often_than_the_error(values, weights, error, above):
    chances = np.array(weights) / sum(weights)
    threshold = above * float(chances @ values)  # the mean is at or above it
    if 0 < threshold < 1:
        assert wrong(values, chances, threshold, error, 6) <= error + 1e-12


def test_the_level_is_used_and_not_only_kept():
    assert 0.16 < wrong([0.0, 1.0], [0.8, 0.2], 0.2, 0.3, 8) <= 0.3
    assert wrong([0.0, 0.2, 1.0], [0.9, 0.08, 0.02], 0.5, 0.05, 8) > 0.8  # far below: nearly always found


def test_a_mean_at_the_threshold_passes_in_one_of_twenty_at_most_and_a_low_one_nearly_always():
    rng = np.random.default_rng(0)
    at, low = (rng.binomial(4, rng.beta(0.3, 0.3 * (1 - mean) / mean, (600, 300))) / 4 for mean in (0.05, 0.015))
    assert np.mean([is_below(row, 0.05, 0.05) for row in at]) <= 0.05
    assert np.mean([is_below(row, 0.05, 0.05) for row in low]) > 0.9


def test_queries_without_a_negative_make_no_bet_and_order_does_not_matter():
    losses = np.array([0.0, 0.25, np.nan, 0.0] * 30)
    alone = losses[~np.isnan(losses)]
    for threshold in (0.1, 0.15, 0.2, 0.3):
        assert (
            is_below(losses, threshold, 0.05)
            == is_below(alone, threshold, 0.05)
            == is_below(alone[::-1], threshold, 0.05)
        )
    assert not is_below(losses, 0.1, 0.05) and is_below(losses, 0.2, 0.05)


@pytest.mark.parametrize("error", [0.05, 0.0125])
def test_the_number_that_suffices_suffices_and_one_less_does_not(error):
    needed = queries_needed(np.zeros(3), 0.05, error)
    assert is_below(np.zeros(needed), 0.05, error) and not is_below(np.zeros(needed - 1), 0.05, error)
    assert needed > math.log(error) / math.log(0.95)  # no test needs fewer: so many clean queries have that probability
    losses = np.array([0.0] * 9 + [0.25])
    times = queries_needed(losses, 0.05, error) / 10
    assert is_below(np.tile(losses, math.ceil(times)), 0.05, error)
    assert not is_below(np.tile(losses, math.floor(times)), 0.05, error)
    assert queries_needed(np.array([0.0, 0.25]), 0.05, error) is None
    assert queries_needed(np.array([np.nan]), 0.05, error) == needed


# ---------------------------------------------------------------- the choice

QUERIES, DOCUMENTS = 70, 240


@pytest.fixture(scope="module")
def world():
    """Random vectors; three relevant documents per query, near it, among 240."""
    rng = np.random.default_rng(5)
    documents, queries = rng.normal(size=(DOCUMENTS, 8)), rng.normal(size=(QUERIES, 8))
    near = np.argsort(-(queries @ documents.T), axis=1)
    relevant = [rng.choice(near[q, :12], 3, replace=False).tolist() for q in range(QUERIES)]
    corpus = Corpus.from_texts([f"text {i}" for i in range(DOCUMENTS)], [f"d{i:03}" for i in range(DOCUMENTS)])
    names = [f"query {q}" for q in range(QUERIES)]
    rows = [(f"q{q:02}", f"d{d:03}", 1) for q, found in enumerate(relevant) for d in found]
    judgements = Judgements.of({f"q{q:02}": names[q] for q in range(QUERIES)}, *zip(*rows, strict=True))
    teacher = VectorTeacher(corpus, documents.astype(np.float32), names, queries.astype(np.float32), similarity="dot")
    scores = queries.astype(np.float32).astype(np.float64) @ documents.astype(np.float32).astype(np.float64).T
    return corpus, judgements, teacher, scores, relevant


LADDERS = {
    "MarginPos": [f"MarginPos({m})" for m in (6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.0)],
    "SkipTop": [f"SkipTop({n})" for n in (60, 40, 30, 20, 10, 5, 2, 0)],
}


def asking(rate: float, confidence: float = 0.95, *more: str) -> MiningSettings:
    """Two negatives per row, at a rate."""
    return MiningSettings(filters=[*more, MaxFNRate(rate, confidence)], num_negatives=2)


def share_by_loops(world, setting: str, hide: str, q: int) -> float:
    """False ones among the two negatives of a query, over all ways to hide its positives."""
    *_, scores, relevant = world
    false = given_ = 0
    for d in relevant[q]:
        known = [d] if hide == "rest" else [o for o in relevant[q] if o != d]
        lowest = min(scores[q][k] for k in known)
        name, _, number = setting[:-1].partition("(")
        ceiling = lowest - float(number) if name == "MarginPos" else np.inf
        left = sorted((i for i in range(DOCUMENTS) if i not in known), key=lambda i: -scores[q][i])
        left = left[int(number) :] if name == "SkipTop" else left
        mined = [i for i in left if scores[q][i] < ceiling][:2]
        given_ += len(mined)
        false += len(set(mined) & set(relevant[q]))
    return false / given_ if given_ else math.nan


def capital(losses: list[float], threshold: float) -> float:
    """The bets, with plain products."""
    total = 0.0
    for share, fraction in ((0.6, 0.95), (0.25, 0.5), (0.15, 0.2)):
        money = share
        for loss in losses:
            if not math.isnan(loss):
                money *= 1 - fraction / (1 - threshold) * (loss - threshold)
        total += money
    return total


@pytest.mark.parametrize("hide", ["rest", "one"])
def test_the_choice_is_that_of_slow_loops(world, hide):
    corpus, judgements, teacher, *_ = world
    found = certify(corpus, judgements, teacher, asking(0.1, 0.9), families=LADDERS, hide=hide)
    passed = {}
    for family, ladder in LADDERS.items():
        passed[family] = 0
        for setting in ladder:
            losses = [share_by_loops(world, setting, hide, q) for q in range(QUERIES)]
            if capital(losses, 0.1) < 1 / (0.1 / 2):  # two families share the error
                break
            passed[family] += 1
            if repr(found.filters[0]) == setting:
                assert found.estimate == pytest.approx(np.nanmean(losses))
    assert found.passed == passed and all(0 < number < 8 for number in passed.values())
    last = [LADDERS[family][number - 1] for family, number in passed.items()]
    assert repr(found.filters[0]) in last  # the hardest of a family is its last one here
    assert found.queries == QUERIES and found.evidence == ("complete" if hide == "rest" else "held out")


def test_queries_that_scale_the_ladder_are_no_evidence(world):
    corpus, judgements, teacher, *_ = world
    used, ladder = declared(corpus, judgements, teacher, None, 3, several=True)
    assert len(used.relevant) == QUERIES - 10 and list(ladder) == [
        "PercPos",
        "MarginPos",
        "SkipTop",
        "PercPos, normalised",
    ]
    nothing_aside, _ = declared(corpus, judgements, teacher, ["PercPos", "SkipTop"], 3, several=True)
    assert len(nothing_aside.relevant) == QUERIES
    # whatever the evidence says, the ladder is the same
    other = {
        q: found if q not in used.relevant else frozenset(["d001", "d002"]) for q, found in judgements.relevant.items()
    }
    _, again = declared(corpus, Judgements(judgements.queries, other, {}), teacher, None, 3, several=True)
    assert again == ladder
    skips = [f[0].count for f in ladder["SkipTop"]]
    shares = [f[0].share for f in ladder["PercPos"]]
    assert skips == sorted(skips, reverse=True) and shares == sorted(shares)  # the safest first


def test_other_filters_are_part_of_every_setting(world):
    corpus, judgements, teacher, *_ = world
    found = certify(corpus, judgements, teacher, asking(0.3, 0.8, "SkipTop(30)"), families=["PercPos"])
    assert repr(found.filters[0]) == "SkipTop(30)"
    assert all(setting.startswith("SkipTop(30) + PercPos(") for setting in found.ladder["PercPos"])


def test_too_little_evidence_is_refused_with_the_number_that_would_suffice(world):
    corpus, judgements, teacher, *_ = world
    few = Judgements(judgements.queries, dict(list(judgements.relevant.items())[:12]), {})
    safe = {"SkipTop": ["SkipTop(80)"]}
    needed = queries_needed(np.zeros(1), 0.05, 0.05)
    with pytest.raises(
        InputError, match=rf"SkipTop\(80\) has 0.00% on 12 queries; about {needed} judged queries would suffice"
    ):
        certify(corpus, few, teacher, asking(0.05), families=safe)
    with pytest.raises(InputError, match="more queries would not help; allow a higher rate"):
        certify(corpus, judgements, teacher, asking(0.01), families={"SkipTop": ["SkipTop(0)"]})
    ten = Judgements(judgements.queries, dict(list(judgements.relevant.items())[:10]), {})
    with pytest.raises(InputError, match="10 queries with several positives are too few: 10 scale the ladder"):
        certify(corpus, ten, teacher, asking(0.05))
    with pytest.raises(InputError, match="families='Top'; for dot scores there are PercPos, MarginPos"):
        certify(corpus, judgements, teacher, asking(0.05), families=["Top"])


def test_the_rate_is_no_filter_to_mine_with(world):
    with pytest.raises(SpecError, match=r"MaxFNRate\(0\.05, confidence=0\.95\) is chosen from evidence before mining"):
        MaxFNRate(0.05).check("cosine")
    with pytest.raises(SpecError, match=r"rate=5 is not a share .* did you mean 0\.05"):
        MaxFNRate(5)
    with pytest.raises(SpecError, match="confidence=1 is not"):
        MaxFNRate(0.05, confidence=1)
    corpus, judgements, teacher, *_ = world
    with pytest.raises(InputError, match=r"settings without a rate; give filters='MaxFNRate\(0\.05\)'"):
        certify(corpus, judgements, teacher, MiningSettings(filters="PercPos(0.95)"))


# ---------------------------------------------------------------- judges


@pytest.mark.parametrize(
    "confusion", [((95, 5), (4, 46)), ((40, 0), (0, 30)), ((0, 0), (10, 90)), ((300, 60), (30, 200))]
)
def test_the_threshold_is_the_least_over_all_judges_that_the_counts_allow(confusion):
    judge, error = MeasuredJudge(OracleJudge({}), confusion), 0.1
    least, most = judge.ends(error)
    (right, false_alarms), (missed, found) = confusion
    assert stats.binom.sf(found - 1, found + missed, least) == pytest.approx(0.025)  # so many or more found
    if false_alarms:
        assert stats.binom.cdf(right, right + false_alarms, most) == pytest.approx(0.025)
    else:
        assert most == 1
    assert judge.spent(error) == pytest.approx(0.05 if right + false_alarms else 0.025)
    box = product(np.linspace(least, 1, 15), np.linspace(0, most, 15), np.linspace(0.05, 1, 15))
    shares = [r * se + (1 - r) * (1 - sp) for se, sp, r in box]  # every judge and every rate of 5 % and more
    assert judge.threshold(0.05, error) == pytest.approx(min(shares))


def test_a_judge_that_may_be_chance_is_refused():
    with pytest.raises(InputError, match="found 3 of 10 relevant passages, so its sensitivity may be"):
        MeasuredJudge(OracleJudge({}), ((20, 20), (7, 3))).threshold(0.05, 0.05)
    with pytest.raises(InputError, match="of which the last two, of relevant passages, are not both 0"):
        MeasuredJudge(OracleJudge({}), ((20, 20), (0, 0)))
    with pytest.raises(InputError, match="judge_queries"):
        MeasuredJudge(OracleJudge({}), ((20, 20), (1, 9)), queries=0)


class CountingJudge:
    """Counts what it is asked."""

    def __init__(self, judge):
        self.judge, self.lists = judge, []

    def judge_candidates(self, lists):
        self.lists.append(lists)
        return self.judge.judge_candidates(lists)

    def costs(self):
        return self.judge.costs()


def test_a_perfect_judge_finds_what_nobody_labelled_and_is_asked_no_more_than_needed(world):
    corpus, judgements, teacher, scores, relevant = world
    labelled = Judgements(
        judgements.queries, {q: frozenset([min(found)]) for q, found in judgements.relevant.items()}, {}
    )
    judge = CountingJudge(OracleJudge.of(judgements, corpus))
    measured = MeasuredJudge(judge, ((500, 0), (0, 500)), queries=60)
    found = certify_by_judge(
        corpus,
        labelled,
        teacher,
        asking(0.1, 0.9),
        measured,
        families={"SkipTop": LADDERS["SkipTop"]},
    )
    asked = judge.lists
    assert len(asked) == found.passed["SkipTop"] + 1 and {len(lists) for lists in asked} == {60}
    assert found.evidence == "judge" and found.queries == 60 and found.judge["confusion"] == [[500, 0], [0, 500]]
    for lists, setting in zip(asked, found.ladder["SkipTop"], strict=False):
        for one in lists[:5]:
            q = int(one.query.split()[1])
            known = min(relevant[q])
            left = sorted((i for i in range(DOCUMENTS) if i != known), key=lambda i: -scores[q][i])
            assert one.passages == tuple(f"text {i}" for i in left[int(setting[8:-1]) :][:2])
    blind = MeasuredJudge(OracleJudge.of(judgements, corpus, specificity=0.6), ((50, 0), (0, 50)), queries=60)
    with pytest.raises(
        InputError, match=r"of verdicts of relevance, where that rate gives .*; more queries would not help; count"
    ):
        certify_by_judge(corpus, labelled, teacher, asking(0.1, 0.9), blind, families=LADDERS)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """110 queries with two positives each, which score alike by BM25, among as many other documents."""
    file = tmp_path_factory.mktemp("certified") / "pairs.parquet"
    numbers = [n for n in range(110) for _ in range(2)]
    positives = [f"topic{n} kind{n % 7} {'first' if at % 2 else 'second'} text" for at, n in enumerate(numbers)]
    Dataset.from_dict({"query": [f"topic{n} kind{n % 7}" for n in numbers], "positive": positives}).to_parquet(file)
    return str(file)


OPTIONS = ["--teacher", "bm25", "--num-negatives", "2", "--families", "PercPos", "SkipTop", "--quiet"]


def test_the_command_mines_at_a_rate_and_records_why(pairs, tmp_path, capsys):
    asked = ["mine", pairs, *OPTIONS, "--output", str(tmp_path / "out"), "--max-fn-rate", "0.1", "--confidence", "0.9"]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "a false-negative rate of at most 0.1 with 90% confidence" in printed and "no shift between them" in printed
    record = read_provenance(tmp_path / "out" / "provenance.json")
    guarantee = record.guarantee
    assert record.settings["filters"] == guarantee["filters"] != ["MaxFNRate(0.1, confidence=0.9)"]
    assert (guarantee["rate"], guarantee["confidence"], guarantee["queries"]) == (0.1, 0.9, 110)
    assert type(record).from_json(record.to_json()) == record
    by_filter = [
        "mine",
        pairs,
        *OPTIONS,
        "--output",
        str(tmp_path / "again"),
        "--filters",
        "MaxFNRate(0.1, confidence=0.9)",
    ]
    assert main(by_filter) == 0
    again = read_provenance(tmp_path / "again" / "provenance.json")
    assert again.guarantee == guarantee and again.rows == record.rows
    mined = load_from_disk(str(tmp_path / "out"))
    assert len(mined) == 220
    # the judgements are not needed again: a miner of the recorded settings gives the rows
    plain = [
        "mine",
        pairs,
        *OPTIONS[:4],
        "--quiet",
        "--output",
        str(tmp_path / "plain"),
        "--filters",
        *guarantee["filters"],
    ]
    assert main(plain) == 0
    assert read_provenance(tmp_path / "plain" / "provenance.json").rows == record.rows


def test_a_model_judges_by_the_command(pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_POSMINE_CACHE", str(tmp_path / "cache"))
    service = ChatService()
    service.answer = lambda query, reference, candidate: says(candidate.split()[0] == query.split()[0])
    judged = ["--judge-model", "toy", "--judge-url", service.url, "--judge-confusion", "99", "0", "0", "99"]
    asked = [
        "mine",
        pairs,
        *OPTIONS,
        "--output",
        str(tmp_path / "out"),
        "--max-fn-rate",
        "0.2",
        "--judge-queries",
        "60",
    ]
    assert main([*asked, *judged]) == 0
    guarantee = read_provenance(tmp_path / "out" / "provenance.json").guarantee
    assert (
        guarantee["evidence"] == "judge"
        and guarantee["judge"]["names"] == [f"{service.url} toy"]
        and guarantee["queries"] == 60
    )
    assert "questions asked now" in capsys.readouterr().out and service.requests


def test_the_evidence_may_be_a_judged_collection_or_other_pairs(pairs, tmp_path, capsys):
    asked = ["mine", pairs, *OPTIONS[:4], "--quiet", "--output", str(tmp_path / "out"), "--families", "SkipTop"]
    judged = [
        "--judged",
        str(SAMPLE),
        "--qrels",
        "complete",
        "--hide",
        "one",
        "--max-fn-rate",
        "0.3",
        "--confidence",
        "0.8",
    ]
    assert main([*asked, *judged, "--query-column", "query"]) == 0
    assert "evidence: query: " in capsys.readouterr().out
    guarantee = read_provenance(tmp_path / "out" / "provenance.json").guarantee
    assert guarantee["evidence"] == "held out" and guarantee["filters"][0].startswith("SkipTop(")
    assert main([*asked, "--judged", pairs.replace("pairs", "pears"), "--max-fn-rate", "0.3"]) == 2
    assert "does not exist; did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--max-fn-rate", "0.01"], r"about \d+ judged queries would suffice"),
        (["--max-fn-rate", "5"], r"rate=5 is not a share .* did you mean 0\.05"),
        (["--confidence", "0.9"], "--confidence 0.9 has no effect without --max-fn-rate"),
        (["--judged", "x"], "--judged has no effect without --max-fn-rate"),
        (["--max-fn-rate", "0.1", "--filters", "MaxFNRate(0.2)"], "ask for one rate"),
        (["--max-fn-rate", "0.1", "--on-short", "drop"], "--on-short 'drop' changes which negatives count"),
        (
            ["--max-fn-rate", "0.1", "--exclude-other-positives"],
            "--exclude-other-positives has no part in the evidence",
        ),
        (["--max-fn-rate", "0.1", "--judge-model", "m"], "--judge-model and --judge-confusion belong together"),
        (["--max-fn-rate", "0.1", "--streaming"], "give the evidence for --max-fn-rate as --judged COLLECTION"),
    ],
)
def test_the_command_refuses_in_one_line(pairs, tmp_path, capsys, more, says):
    families = [] if "--max-fn-rate" not in more else ["--families", "PercPos"]
    asked = ["mine", pairs, *OPTIONS[:4], *families, "--quiet", "--output", str(tmp_path / "out"), *more]
    assert main(asked) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(says, error), error
    assert not (tmp_path / "out").exists()
