"""Relabelling: the quoting judge, the cascade, the oracle with errors, and new negatives in the place of suspects."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from datasets import Dataset, Image, disable_progress_bars, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.evaluation.judge.actions import apply_judgements, judge_negatives
from hf_posmine.evaluation.judge.candidates import SUSPECTS, JudgedList
from hf_posmine.evaluation.judge.cascade import Cascade, cascade_rates
from hf_posmine.evaluation.judge.chat import ChatAnswer
from hf_posmine.evaluation.judge.judge import Judge
from hf_posmine.evaluation.judge.oracle import OracleJudge
from hf_posmine.evaluation.judge.quoting import QUOTE, RANK, QuoteJudge, read_quote, read_ranking
from hf_posmine.evaluation.judge.top_up import top_up
from hf_posmine.evaluation.negatives.false_negatives import load_judged
from hf_posmine.mining import with_texts
from hf_posmine.mining.miner import PositiveAwareMiner
from hf_posmine.mining.provenance import FILE, provenance, write_provenance
from hf_posmine.mining.rerank import rerank
from hf_posmine.mining.second_opinion import SecondOpinion
from tests.conftest import SAMPLE
from tests.support.chat import ChatService, says
from tests.support.pages import pages

disable_progress_bars()


class Scripted:
    """A chat whose answers to each form follow from a rule on what it is asked."""

    name = model = "scripted"

    def __init__(self, **rules):
        self.rules, self.asked, self.lock = rules, [], threading.Lock()

    def ask(self, messages, form):
        content = json.loads(messages[1]["content"])
        with self.lock:
            self.asked.append((form.name, content))
        return ChatAnswer(self.rules[form.name](content))


def quality(text: str) -> int:
    """Our passages end in a number: how well they answer; below 0 not at all."""
    return int(text.rsplit(" ", 1)[-1])


def quotes(content):
    good = quality(content["passage"]) >= 0
    return json.dumps({"has_answer": good, "quote": content["passage"].upper() if good else ""})


def ranks(content):
    order = sorted(content["passages"], key=lambda number: -quality(content["passages"][number]))
    return json.dumps({"ranking": [int(number) for number in order]})


# ---------------------------------------------------------------- quote, then rank


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"has_answer": true, "quote": "on  the MAT"}', True),
        ('<think>{"has_answer": false, "quote": ""}</think>{"has_answer": true, "quote": "the cat"}', True),
        ('{"has_answer": false, "quote": "the cat"}', False),
        ('{"has_answer": false}', False),
        ('{"has_answer": true, "quote": "the dog"}', None),
        ('{"has_answer": true, "quote": " "}', None),
        ('{"has_answer": true}', None),
        ('{"has_answer": "yes", "quote": "the cat"}', None),
        ("The cat.", None),
    ],
)
def test_a_quotation_counts_only_if_it_is_in_the_passage(answer, found):
    assert read_quote(answer, "The cat sat on the mat.") is found


@given(st.text(), st.text())
def test_any_quotation_and_ranking_is_read_without_an_error(answer, passage):
    assert read_quote(answer, passage) in (True, False, None)
    assert read_ranking(answer, 3) is None


@given(st.lists(st.one_of(st.integers(-1, 5), st.booleans(), st.none()), max_size=5), st.integers(1, 4))
def test_a_ranking_has_every_passage_once(ranking, count):
    found = read_ranking(json.dumps({"ranking": ranking}), count)
    whole = all(type(number) is int for number in ranking) and sorted(ranking) == list(range(1, count + 1))
    assert found == ([number - 1 for number in ranking] if whole else None)


@given(st.lists(st.tuples(st.integers(-1, 4), st.lists(st.integers(-2, 6), max_size=5)), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_verdicts_are_those_of_the_rule_of_arhn(tmp_path_factory, rows):
    """Above the positive: better. Below it with an answer: worse. Without an answer: irrelevant."""
    lists = [
        JudgedList(f"q{i}", f"p {own}", tuple(f"c{i} {value}" for value in values))
        for i, (own, values) in enumerate(rows)
    ]
    judge = QuoteJudge(Scripted(quote=quotes, ranking=ranks), cache_dir=tmp_path_factory.mktemp("judge"))
    wanted = [
        ["irrelevant" if v < 0 else "better" if v > own else "worse" if v < own else None for v in values]
        for own, values in rows
    ]
    for found, expected in zip(judge.judge_candidates(lists), wanted, strict=True):
        assert all(a == b or (b is None and a in ("better", "worse")) for a, b in zip(found, expected, strict=True))


def test_lists_are_ranked_once_for_each_query_with_an_answer_and_in_no_telling_order(tmp_path):
    chat = Scripted(quote=quotes, ranking=ranks)
    judge = QuoteJudge(chat, cache_dir=tmp_path)
    lists = [JudgedList(f"q{i}", "p 2", ("a 3", "b -1", "P  2", "c 1")) for i in range(20)] + [
        JudgedList("r", "p 2", ("b -1",))
    ]
    verdicts = judge.judge_candidates(lists)
    assert verdicts == [["better", "irrelevant", "equal", "worse"]] * 20 + [["irrelevant"]]
    rankings = [content["passages"] for form, content in chat.asked if form == "ranking"]
    assert len(rankings) == 20 and all(sorted(r.values()) == ["a 3", "c 1", "p 2"] for r in rankings)
    places = {next(number for number, text in r.items() if text == "p 2") for r in rankings}
    assert places == {"1", "2", "3"}  # the positive does not stand in one place
    assert judge.asked == 81 + 20 and judge.costs()[0].questions == 101
    again = QuoteJudge(chat, cache_dir=tmp_path)
    assert again.judge_candidates(lists) == verdicts and again.asked == 0
    assert len({judge.file(QUOTE), judge.file(RANK)}) == 2


def test_what_cannot_be_read_is_asked_again_and_then_taken_as_unknown(tmp_path):
    def invents(content):
        return json.dumps({"has_answer": True, "quote": "something else"})

    lists = [JudgedList("q", "p 2", ("a 3",))]
    judge = QuoteJudge(Scripted(quote=invents, ranking=ranks), cache_dir=tmp_path / "one")
    assert judge.judge_candidates(lists) == [["unreadable"]] and judge.asked == 2
    judge = QuoteJudge(Scripted(quote=quotes, ranking=lambda content: "A, B"), cache_dir=tmp_path / "two")
    assert judge.judge_candidates(lists) == [["worse"]] and judge.asked == 3  # relevant, and not known to be better


# ---------------------------------------------------------------- the oracle and the cascade


def oracle(sensitivity=1.0, specificity=1.0, seed=0):
    relevant = {f"q{i}": frozenset(f"q{i} d{j}" for j in range(0, 40, 2)) for i in range(100)}
    return OracleJudge(relevant, sensitivity, specificity, seed)


LISTS = [JudgedList(f"q{i}", "p", tuple(f"Q{i}  d{j}" for j in range(40))) for i in range(100)]


def rates(verdicts):
    """Sensitivity and specificity on the lists, whose even passages are relevant."""
    said = np.array([[verdict != "irrelevant" for verdict in row] for row in verdicts])
    return said[:, ::2].mean(), 1 - said[:, 1::2].mean()


@pytest.mark.parametrize(("sensitivity", "specificity"), [(1, 1), (0.6, 0.9), (0.8, 0.5), (0, 1)])
def test_an_oracle_errs_at_its_rates_and_always_alike(sensitivity, specificity):
    verdicts = oracle(sensitivity, specificity).judge_candidates(LISTS)
    found = rates(verdicts)
    error = 4 * 0.5 / np.sqrt(2000)
    assert found == (pytest.approx(sensitivity, abs=error), pytest.approx(specificity, abs=error))
    assert oracle(sensitivity, specificity).judge_candidates(LISTS[::-1]) == verdicts[::-1]
    if 0 < sensitivity < 1:
        assert oracle(sensitivity, specificity, seed=1).judge_candidates(LISTS) != verdicts


def test_a_better_oracle_errs_on_a_part_of_what_a_worse_one_errs_on():
    truth = [["equal", "irrelevant"] * 20] * 100
    wrong = [
        {(i, j) for i, row in enumerate(oracle(rate, rate).judge_candidates(LISTS)) for j, v in enumerate(row) if v != truth[i][j]}
        for rate in (1.0, 0.9, 0.7)
    ]  # fmt: skip
    assert not wrong[0] and wrong[0] < wrong[1] < wrong[2]


def test_an_oracle_over_a_collection_knows_its_judgements():
    corpus, judgements, _ = load_judged(SAMPLE, "complete", None, 0)
    judge = OracleJudge.of(judgements, corpus)
    query = sorted(judgements.relevant)[0]
    texts = corpus.texts(np.arange(len(corpus))).to_pylist()
    relevant = set(corpus.rows_of_ids(sorted(judgements.relevant[query])).tolist())
    verdicts = judge.judge_candidates([JudgedList(judgements.queries[query], "p", tuple(texts))])[0]
    assert {at for at, verdict in enumerate(verdicts) if verdict == "equal"} == relevant and relevant
    with pytest.raises(InputError, match=r"specificity=1\.5"):
        OracleJudge({}, specificity=1.5)


def test_the_dear_judge_decides_about_what_the_cheap_one_suspects(tmp_path):
    cheap = Scripted(verdict=lambda content: {"x": "prose", "y": says(False)}.get(content["candidate"], says(True)))
    dear = Scripted(verdict=lambda content: says(content["candidate"] in "bx", "better"))
    cheap.name, dear.name = "cheap", "dear"
    judge = Cascade(Judge(cheap, cache_dir=tmp_path), Judge(dear, cache_dir=tmp_path))
    lists = [JudgedList("q", "p", ("a", "y", "b")), JudgedList("r", "p", ("y",)), JudgedList("s", "p", ("x",))]
    assert judge.judge_candidates(lists) == [["irrelevant", "irrelevant", "better"], ["irrelevant"], ["better"]]
    assert sorted(content["candidate"] for _, content in dear.asked) == ["a", "b", "x"]
    costs = {cost.name: cost for cost in judge.costs()}
    assert (costs["cheap"].questions, costs["dear"].questions) == (6, 3)  # "prose" was asked for twice
    texts = sum(
        len(message) for _, content in dear.asked for message in [json.dumps(content, ensure_ascii=False, indent=1)]
    )
    assert costs["dear"].characters > texts
    only_better = Cascade(Judge(cheap, cache_dir=tmp_path), Judge(dear, cache_dir=tmp_path), ("better",))
    assert only_better.judge_candidates(lists[:1]) == [["worse", "irrelevant", "worse"]]


@pytest.mark.parametrize(("cheap", "dear"), [((0.9, 0.7), (0.8, 0.9)), ((0.6, 0.6), (1.0, 1.0))])
def test_the_rates_of_a_cascade_are_those_of_its_judges_together(cheap, dear):
    judge = Cascade(oracle(*cheap, seed=1), oracle(*dear, seed=2))
    error = 4 * 0.5 / np.sqrt(2000)
    assert rates(judge.judge_candidates(LISTS)) == tuple(
        pytest.approx(rate, abs=error) for rate in cascade_rates(cheap, dear)
    )
    assert judge.costs() == []


# ---------------------------------------------------------------- relabel what is better, drop what is as good or worse


def test_relabel_or_drop_takes_all_that_is_relevant_and_relabels_suspects():
    mined = Dataset.from_dict(
        {"query": ["q", "r"], "positive": ["p", "s"], "negatives": [list("abcde"), ["f"]], "num_random": [2, 0]}
    )
    verdicts = [["worse", "better", "irrelevant", "unreadable", "equal"], ["irrelevant"]]
    judged = apply_judgements(mined, verdicts, action="relabel_or_drop", suspect="better")
    assert judged["negatives"][:] == [["c", "d"], ["f"]] and judged["judged_positives"][:] == [["b"], []]
    assert judged["num_random"][:] == [1, 0]
    again = apply_judgements(judged, [["irrelevant", "better"], ["better"]], action="relabel", suspect="better")
    assert again["judged_positives"][:] == [["b", "d"], ["f"]]  # what was relabelled before stays


# ---------------------------------------------------------------- new negatives


@pytest.fixture(scope="module")
def collection():
    """The sample's corpus, judgements, and one visible positive of each query as pairs."""
    corpus, judgements, visible = load_judged(SAMPLE, "complete", None, 0)
    texts = corpus.texts(corpus.required_rows(list(visible.values()), "visible")).to_pylist()
    pairs = Dataset.from_dict({"query": [judgements.queries[query] for query in visible], "positive": texts})
    return corpus, judgements, pairs


def miner_of(collection, n, **options):
    corpus, _, pairs = collection
    return PositiveAwareMiner.from_dataset(
        pairs, "bm25", corpus=corpus, filters=(), num_negatives=n, keep=("scores", "ids", "ranks"), **options
    )


@pytest.mark.parametrize("action", ["drop", "relabel", "demote", "relabel_or_drop"])
@pytest.mark.parametrize("rates_", [(1.0, 1.0), (0.7, 0.8)])
def test_topped_up_rows_are_the_first_clean_ones_of_all_candidates(collection, action, rates_):
    """Against the slow way: mine deep, judge everything, keep the first n that are clean."""
    corpus, judgements, pairs = collection
    judge = OracleJudge.of(judgements, corpus, sensitivity=rates_[0], specificity=rates_[1])
    miner, n, depth = miner_of(collection, 4), 4, 15
    mined = pairs.map(miner, batched=True)
    rows, verdicts = top_up(mined, judge_negatives(mined, judge), judge, miner, num_negatives=n, depth=depth)
    judged = apply_judgements(rows, verdicts, action=action)
    deep = pairs.map(miner_of(collection, depth), batched=True)
    everything = judge_negatives(deep, judge)
    asked = relabelled = 0
    for new, all_, found in zip(judged, deep, everything, strict=True):
        clean = [at for at, verdict in enumerate(found) if verdict not in SUSPECTS["relevant"]][:n]
        last = max(n - 1, clean[-1]) if len(clean) == n else depth - 1
        order = clean + ([at for at in range(last + 1) if at not in clean] if action == "demote" else [])
        for column in ("negatives", "negatives_scores", "negatives_ids", "negatives_ranks"):
            assert new[column] == [all_[column][at] for at in order]
        assert new["negatives_verdicts"] == [found[at] for at in order]
        if action.startswith("relabel"):
            taken = [all_["negatives"][at] for at in range(last + 1) if at not in clean]
            assert new["judged_positives"] == taken
            relabelled += len(taken)
        asked += last + 1
    assert sum(map(len, verdicts)) == asked  # not one more was judged than needed
    assert asked > 4 * len(pairs) and (relabelled > 20 or not action.startswith("relabel"))


def test_rows_that_are_long_enough_stay_as_they_are(collection):
    pairs = collection[2]
    miner = miner_of(collection, 3)
    mined = pairs.map(miner, batched=True)
    nobody = OracleJudge({})
    before = judge_negatives(mined, nobody)
    rows, verdicts = top_up(mined, before, nobody, miner, num_negatives=3)
    assert rows["negatives"][:] == mined["negatives"][:] and verdicts == before


def test_what_cannot_be_topped_up_is_refused(collection):
    _, _, pairs = collection
    miner, nobody = miner_of(collection, 2), OracleJudge({})
    mined = pairs.map(miner, batched=True)
    verdicts = [["equal", "irrelevant"]] * len(mined)
    bare = PositiveAwareMiner.from_dataset(pairs, "bm25", corpus=miner.corpus, second_opinion=None)
    for column, says_ in (
        ("num_random", "random fills"), ("negatives_teachers", "negatives_teachers"), ("negatives_second_scores", "does not write"),
    ):  # fmt: skip
        value = (
            [0] * len(mined)
            if column == "num_random"
            else [["x", "y"] if "teachers" in column else [0.1, 0.2]] * len(mined)
        )
        with pytest.raises(InputError, match=says_):
            top_up(mined.add_column(column, value), verdicts, nobody, bare, num_negatives=2)
    several = PositiveAwareMiner.from_dataset(
        pairs, ["bm25", "random:1"], corpus=miner.corpus, filters=(), sampler="CrossSample()", num_negatives=2
    )
    with pytest.raises(InputError, match="several teachers"):
        top_up(mined, verdicts, nobody, several, num_negatives=2)


def test_a_second_opinion_has_its_say_on_new_negatives_too(collection):
    corpus, judgements, pairs = collection
    opinion = SecondOpinion("random:3", "MaxScore(0.5)", depth=20)
    miner = miner_of(collection, 2, second_opinion=opinion)
    mined = pairs.map(miner, batched=True)
    judge = OracleJudge.of(judgements, corpus)
    rows, verdicts = top_up(mined, judge_negatives(mined, judge), judge, miner, num_negatives=2)
    scores = [score for row in rows["negatives_second_scores"] for score in row]
    assert sum(map(len, verdicts)) == len(scores) > 2 * len(pairs) and max(scores) < 0.5


# ---------------------------------------------------------------- end to end


@pytest.fixture
def service(collection):
    """Two models that know the judgements; the cheap one calls every third passage relevant that is not."""
    corpus, judgements, _ = collection
    truth = OracleJudge.of(judgements, corpus).relevant
    service = ChatService()

    def relevant(query, passage):
        return " ".join(passage.casefold().split()) in truth.get(query.casefold(), ())

    def other(model, asked):
        if "passage" in asked:
            yes = relevant(asked["query"], asked["passage"]) or (model == "small" and len(asked["passage"]) % 3 == 0)
            return json.dumps({"has_answer": yes, "quote": asked["passage"] if yes else ""})
        order = sorted(asked["passages"], key=lambda number: asked["passages"][number])
        return json.dumps({"ranking": list(map(int, order))})

    service.answer = lambda query, reference, candidate: says(relevant(query, candidate))
    service.other, service.relevant = other, relevant
    return service


def judge_command(service, tmp_path, *options, data="mined"):
    given = [
        "--url",
        service.url,
        "--model",
        "large",
        "--quiet",
        "--output",
        str(tmp_path / "judged"),
        *map(str, options),
    ]
    return main(["judge", str(tmp_path / data), *given])


def test_judge_tops_up_by_the_record_beside_the_rows(service, tmp_path, capsys):
    mine = ["mine", str(SAMPLE), "--teacher", "bm25", "--num-negatives", "3", "--keep", "scores", "ids", "--quiet"]
    assert main([*mine, "--output", str(tmp_path / "mined")]) == 0
    assert judge_command(service, tmp_path, "--action", "relabel", "--top-up", "--rows", 24) == 0
    out = capsys.readouterr().out
    assert "Topped up to 3 negatives a row by PositiveAwareMiner(" in out and "questions asked now" in out
    after = load_from_disk(str(tmp_path / "judged"))
    before = {row["query"] + row["positive"]: row for row in load_from_disk(str(tmp_path / "mined"))}
    full = all_taken = 0
    for new in after:
        old = before[new["query"] + new["positive"]]
        row = sum(service.relevant(old["query"], text) for text in old["negatives"])
        all_taken += row
        assert not any(service.relevant(new["query"], text) for text in new["negatives"])
        assert len(new["negatives"]) == len(new["negatives_scores"]) == len(new["negatives_ids"]) <= 3
        assert len(new["judged_positives"]) >= row and all(
            service.relevant(new["query"], t) for t in new["judged_positives"]
        )
        assert new["negatives_scores"] == sorted(new["negatives_scores"], reverse=True)
        full += len(new["negatives"]) == len(old["negatives"])
    assert len(after) == 24 and full > 21 and all_taken > 1


def test_what_is_dropped_beside_relabelled_suspects_is_replaced_too(service, tmp_path):
    mine = ["mine", str(SAMPLE), "--teacher", "bm25", "--num-negatives", "3", "--keep", "ids", "--quiet"]
    assert main([*mine, "--output", str(tmp_path / "mined")]) == 0
    options = ("--form", "quote", "--top-up", "--rows", 24)
    counts = []
    for suspect, action in (("better", "relabel_or_drop"), ("relevant", "drop")):
        assert judge_command(service, tmp_path, *options, "--suspect", suspect, "--action", action) == 0
        judged = load_from_disk(str(tmp_path / "judged"))
        counts.append([len(row) for row in judged["negatives"]])
        assert not any(service.relevant(row["query"], text) for row in judged for text in row["negatives"])
    assert counts[0] == counts[1] and counts[0].count(3) > 20


def test_a_cascade_that_quotes_costs_the_dear_model_little(service, tmp_path, capsys):
    mine = ["mine", str(SAMPLE), "--teacher", "bm25", "--num-negatives", "3", "--keep", "ids", "--quiet"]
    assert main([*mine, "--output", str(tmp_path / "mined")]) == 0
    options = (
        "--form",
        "quote",
        "--cheap-model",
        "small",
        "--action",
        "relabel_or_drop",
        "--suspect",
        "better",
        "--rows",
        24,
    )
    assert judge_command(service, tmp_path, *options) == 0
    small, large = ([body for _, _, body in service.requests if body["model"] == model] for model in ("small", "large"))
    assert 0 < len(large) < len(small)
    out = capsys.readouterr().out
    assert f"{service.url} small: {len(small):,} questions asked now" in out
    assert f"{service.url} large: {len(large):,} questions asked now" in out
    judged = load_from_disk(str(tmp_path / "judged"))
    assert not any(service.relevant(row["query"], text) for row in judged for text in row["negatives"])
    assert sum(map(len, judged["judged_positives"])) > 0


@pytest.mark.parametrize(
    ("options", "says_"),
    [
        (("--corpus", "x"), "--corpus has no effect without --top-up on rows that hold texts"),
        (("--num-negatives", 3), "--num-negatives has no effect without --top-up"),
        (("--top-up",), "flag takes nothing"),
        (("--top-up", "bm25", "--action", "drop"), "name the documents with --corpus"),
        (("--top-up", "--action", "drop", "--filters", "MaxScore(1)"), "--filters has no effect on the recorded miner"),
        (("--top-up", "--action", "drop"), "no record beside"),
        (("--cheap-url", "http://x/v1"), "--cheap-url needs --cheap-model"),
    ],
)
def test_options_without_effect_are_refused_before_anything_is_asked(service, tmp_path, capsys, options, says_):
    Dataset.from_dict({"query": ["q"], "positive": ["p"], "negatives": [["a"]]}).save_to_disk(str(tmp_path / "mined"))
    assert judge_command(service, tmp_path, *options) == 2
    assert says_ in capsys.readouterr().err and not service.requests


def test_rows_without_a_record_are_topped_up_by_a_named_teacher(service, collection, tmp_path):
    pairs = collection[2]
    mined = pairs.map(miner_of(collection, 2), batched=True)
    scored = mined.select_columns(["query", "positive", "negatives", "negatives_scores"])
    scored.save_to_disk(str(tmp_path / "scored"))
    scored.remove_columns("negatives_scores").save_to_disk(str(tmp_path / "mined"))
    options = ("--action", "drop", "--top-up", "bm25", "--corpus", SAMPLE)
    assert judge_command(service, tmp_path, *options, data="scored") == 2
    assert judge_command(service, tmp_path, *options) == 0
    judged = load_from_disk(str(tmp_path / "judged"))
    assert [len(row) for row in judged["negatives"]] == [2] * len(pairs)
    assert not any(service.relevant(row["query"], text) for row in judged for text in row["negatives"])


@pytest.mark.parametrize("top_up", [False, True])
def test_rows_of_ids_are_judged_as_those_with_texts(service, tmp_path, capsys, top_up):
    """By the recorded corpus, or by the one that is named."""
    judged = {}
    for form in ("texts", "ids"):
        mine = [
            "mine",
            str(SAMPLE),
            "--teacher",
            "bm25",
            "--num-negatives",
            "3",
            "--keep",
            "ids",
            "--negatives-as",
            form,
        ]
        assert main([*mine, "--quiet", "--output", str(tmp_path / form)]) == 0
        options = ["--action", "drop", "--rows", 24, *(["--top-up"] if top_up else [])]
        if form == "ids" and not top_up:
            capsys.readouterr()
            assert judge_command(service, tmp_path, *options, data=form) == 2
            assert (
                "names documents by id, which no judge can read; give their texts with --corpus"
                in capsys.readouterr().err
            )
            options += ["--corpus", str(SAMPLE)]
        assert judge_command(service, tmp_path, *options, data=form) == 0
        judged[form] = load_from_disk(str(tmp_path / "judged"))
    assert "negatives" not in load_from_disk(str(tmp_path / "ids")).column_names
    assert judged["ids"].select_columns(judged["texts"].column_names)[:] == judged["texts"][:]
    assert min(map(len, judged["ids"]["negatives"])) < 3 or top_up


@pytest.mark.parametrize("column", ["page", "answer"])
def test_a_column_of_ids_of_any_name_is_read(service, collection, tmp_path, capsys, column):
    """As the record or an option names it; without both, ids are never judged as texts."""
    corpus, _, pairs = collection
    texts = pairs["positive"][:8]
    pairs = Dataset.from_dict(
        {"query": pairs["query"][:8], column: corpus.ids(corpus.rows_of_texts(texts)).to_pylist()}
    )
    how = {"corpus": corpus, "positive_id_column": column, "negatives_as": "ids", "num_negatives": 2}
    miner = PositiveAwareMiner.from_dataset(pairs, "random", **how)
    mined = mine(pairs, miner)
    found = with_texts(mined, corpus, positive_id_column=column)
    assert found["positive"][:] == [[text] for text in texts]
    with pytest.raises(ColumnError, match="positive_id_column="):
        with_texts(mined, corpus)
    several = mined.remove_columns(column).add_column("answer", [[one] for one in mined[column]])
    with pytest.raises(
        ColumnError, match="column 'answer' holds ids of the corpus; name it with positive_id_column='answer'"
    ):
        with_texts(several, corpus)
    assert with_texts(several, corpus, positive_id_column="answer")["positive"][:] == found["positive"][:]
    kept = found.select_columns(["query", "positive", "negatives_ids"])
    none = Dataset.from_dict({name: [] for name in kept.column_names}, features=kept.features)
    assert len(with_texts(none, corpus)) == 0  # no cell tells that the column holds ids
    with pytest.raises(ColumnError, match="have texts in 'positive'; leave it out"):
        with_texts(found.remove_columns("negatives"), corpus, positive_id_column=column)

    mined.save_to_disk(str(tmp_path / "mined"))
    options = ("--corpus", SAMPLE, "--controls", 2)
    assert judge_command(service, tmp_path, *options) == 2
    assert "--positive-id-column" in capsys.readouterr().err
    assert judge_command(service, tmp_path, *options, "--positive-id-column", column) == 0
    wanted = load_from_disk(str(tmp_path / "judged"))
    assert wanted["positive"][:] == [[text] for text in texts]
    write_provenance(tmp_path / "mined" / FILE, provenance(miner, source={}))
    assert judge_command(service, tmp_path, *options) == 0
    assert load_from_disk(str(tmp_path / "judged"))[:] == wanted[:]


def test_rows_of_another_layout_name_their_documents_by_id(service, tmp_path, capsys):
    rows = [{"query": f"q{n}", "positive_ids": [f"d{n}"], "negative_ids": [f"d{n + 1}"]} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [{"id": f"d{n}", "text": f"document {n}"} for n in range(4)]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    assert judge_command(service, tmp_path, data="rows.jsonl") == 2
    assert "names documents by id, which no judge can read; give their texts with --corpus" in capsys.readouterr().err
    assert judge_command(service, tmp_path, "--corpus", tmp_path / "documents.jsonl", data="rows.jsonl") == 0
    assert load_from_disk(str(tmp_path / "judged"))["negatives"][:] == [[f"document {n + 1}"] for n in range(3)]


def test_readers_of_texts_refuse_ids_and_images():
    rows = Dataset.from_dict({"query": ["q"], "positive_id": ["a"], "negatives_ids": [["b"]]})
    nobody = OracleJudge({})
    texts = with_texts(rows, Corpus.from_texts(["one", "two"], ids="ab"))
    assert texts[0] == rows[0] | {"negatives": ["two"], "positive": ["one"]} and judge_negatives(texts, nobody)
    named = Dataset.from_dict({"query": ["q"], "gold": ["one"], "note": ["n"], "negatives_ids": [["b"]]})
    found = with_texts(named, Corpus.from_texts(["one", "two"], ids="ab"), "query", "gold")
    assert found[0] == named[0] | {"negatives": ["two"]}
    for ask, who in (
        (lambda r: judge_negatives(r, nobody), "a judge"), (lambda r: rerank(r, None, (), 1), "a cross-encoder"),
    ):  # fmt: skip
        with pytest.raises(
            InputError, match=rf"'negatives_ids' holds ids, and {who} reads texts; add them with .*with_texts"
        ):
            ask(rows)
        pictured = Dataset.from_dict({"query": ["q"], "image": pages(["a"]), "negatives": [["b"]]})
        with pytest.raises(
            InputError, match=f"'image' holds images, and {who} reads texts; mine with a second opinion"
        ):
            ask(pictured.cast_column("image", Image()))
    with pytest.raises(InputError, match="'negatives_ids' names images of the corpus"):
        with_texts(rows, Corpus.from_images(pages(["a", "b"]), ids="ab"))
    with pytest.raises(InputError, match="'negatives_ids': the corpus has no document with id 'b'"):
        with_texts(rows, Corpus.from_texts(["one"], ids="a"))
    with pytest.raises(InputError, match="the rows do not name negatives by id alone"):
        with_texts(texts, Corpus.from_texts(["one"], ids="a"))
