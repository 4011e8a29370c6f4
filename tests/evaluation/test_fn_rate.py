"""False-negative rates: intervals and equal hardness against plain numpy, and what the command writes."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from hf_posmine import Corpus, DenseTeacher
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import MarginPos, MaxScore, PercPos, SkipTop
from hf_posmine.core.samplers import Top
from hf_posmine.evaluation.negatives.false_negatives import FalseNegativeRate, Judgements, false_negative_rate
from hf_posmine.evaluation.negatives.trade_off import Method, TradeOff, swept_methods
from tests.conftest import SAMPLE, ToyModel

QUERIES, DOCUMENTS = 12, 60


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A random collection: a toy teacher, and four relevant documents for each query."""
    rng = np.random.default_rng(5)
    texts = [" ".join(f"w{w}" for w in rng.integers(0, 30, 6)) + f" d{at}" for at in range(DOCUMENTS)]
    corpus = Corpus.from_texts(texts, ids=[f"d{at}" for at in range(DOCUMENTS)])
    queries = {f"q{at}": " ".join(f"w{w}" for w in rng.integers(0, 30, 5)) + f" q{at}" for at in range(QUERIES)}
    pairs = [(q, f"d{d}") for q in queries for d in rng.choice(DOCUMENTS, 4, replace=False)]
    judgements = Judgements.of(queries, [q for q, _ in pairs], [d for _, d in pairs], [1.0] * len(pairs))
    teacher = DenseTeacher(ToyModel(), corpus, fingerprint="toy", store=tmp_path_factory.mktemp("store"))
    return corpus, judgements, judgements.draw_visible(0), teacher


def ranked(judged, query: str) -> list[tuple[float, str]]:
    """All candidates of a query by the toy's cosines in float64, best first, without the visible positive."""
    corpus, judgements, visible, _ = judged
    toy = ToyModel()

    def unit(text: str) -> np.ndarray:
        vector = toy.encode_document([text])[0].astype(np.float64)
        return vector / np.linalg.norm(vector)

    ids = [f"d{at}" for at in range(DOCUMENTS)]
    texts = corpus.texts(corpus.rows_of_ids(ids)).to_pylist()
    scores = {i: float(unit(t) @ unit(judgements.queries[query])) for i, t in zip(ids, texts, strict=True)}
    own = scores.pop(visible[query])
    return [(own, visible[query]), *sorted(((s, i) for i, s in scores.items()), reverse=True)]


@pytest.mark.parametrize(
    ("filters", "keeps"),
    [
        ([], lambda own, score, rank: True),
        ([SkipTop(3)], lambda own, score, rank: rank >= 3),
        ([MaxScore(0.4)], lambda own, score, rank: score < 0.4),
        ([PercPos(0.8)], lambda own, score, rank: score < own - 0.2 * abs(own)),
        ([MarginPos(0.1)], lambda own, score, rank: score < own - 0.1),
    ],
)
def test_counts_of_each_query_are_those_of_a_plain_loop(judged, filters, keeps):
    _, judgements, visible, _ = judged
    found = false_negative_rate(*judged, filters=filters, num_negatives=4)
    for at, query in enumerate(visible):
        (own, positive), *others = ranked(judged, query)
        chosen = [(score, i, rank) for rank, (score, i) in enumerate(others) if keeps(own, score, rank)][:4]
        hidden = judgements.relevant[query] - {positive}
        assert found.false[at] == sum(i in hidden for _, i, _ in chosen)
        assert found.found[at] == len(chosen)
        assert found.ranks[at] == sum(rank for _, _, rank in chosen)
        assert found.scores[at] == pytest.approx(sum(score for score, _, _ in chosen), abs=1e-5)
        assert found.positive_scores[at] == pytest.approx(own, abs=1e-5)
        assert found.hidden[at] == 3
    assert found.rate == found.false.sum() / found.found.sum()
    assert found.mean_rank == pytest.approx(found.ranks.sum() / found.found.sum())


def rate(method: str, false, found, scores, ranks=None) -> FalseNegativeRate:
    count = len(false)
    made = (np.array(v) for v in (false, found, scores, found if ranks is None else ranks))
    return FalseNegativeRate(method, 4, *made, np.full(count, 0.8), np.full(count, 5))


def test_intervals_are_the_percentiles_of_resampled_queries():
    rng = np.random.default_rng(0)
    false, found = rng.integers(0, 4, 150), np.full(150, 4)
    (row,) = TradeOff(("a",), (rate("a", false, found, found * 0.5),)).rows()
    drawn = np.random.default_rng(1).integers(0, 150, (4000, 150))
    low, high = np.quantile(false[drawn].sum(axis=1) / found[drawn].sum(axis=1), [0.025, 0.975])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.006)
    assert row["rate"] == false.sum() / 600


def test_queries_without_a_false_negative_do_not_prove_that_there_is_none():
    (row,) = TradeOff(("a",), (rate("a", np.zeros(30, int), np.full(30, 4), np.full(30, 2.0)),)).rows()
    assert row["low"] == row["rate"] == 0 < row["high"]


def test_equal_hardness_is_read_off_between_the_settings_of_a_curve():
    """Two curves by hand: B's points have mean scores 0.2 and 0.6 and rates 0 and 0.5, A stands at 0.5 with 0.25."""
    four = np.full(20, 4)
    curve = TradeOff(
        ("A", "B", "B"),
        (
            rate("A(1)", np.full(20, 1), four, four * 0.5, np.full(20, 40)),
            rate("B(1)", np.full(20, 0), four, four * 0.2, np.full(20, 80)),
            rate("B(2)", np.full(20, 2), four, four * 0.6, np.full(20, 16)),
        ),
    )
    own, other = curve.equal_hardness("A(1)")
    assert (own["family"], own["rate"], own["difference"]) == ("A", 0.25, 0)
    assert other["family"] == "B" and other["rate"] == pytest.approx(0.5 * (0.5 - 0.2) / 0.4)
    assert other["difference"] == pytest.approx(0.375 - 0.25)
    _, by_rank = curve.equal_hardness("A(1)", "rank")  # mean ranks 20 and 4, A at 10
    assert by_rank["rate"] == pytest.approx(0.5 * (20 - 10) / (20 - 4))
    with pytest.raises(InputError, match="no method 'C'"):
        curve.equal_hardness("C")
    with pytest.raises(InputError, match="by='depth'"):
        curve.equal_hardness("A(1)", "depth")


def test_differences_at_equal_hardness_are_paired_over_queries():
    """B lets through one more for every query: each rate is uncertain, their difference is not."""
    false, four = np.array([0, 0, 0, 3] * 10), np.full(40, 4)
    rates = tuple(
        rate(name, false + more, four, four * score)
        for name, more, score in (("A(1)", 0, 0.5), ("B(1)", 1, 0.4), ("B(2)", 1, 0.6))
    )
    own, other = TradeOff(("A", "B", "B"), rates).equal_hardness("A(1)")
    assert own["high"] - own["low"] > 0.1
    assert other["difference_low"] == pytest.approx(0.25) and other["difference_high"] == pytest.approx(0.25)


def test_the_methods_are_the_paper_s_with_its_values_and_samplers(judged):
    methods = swept_methods(*judged)
    assert list(dict.fromkeys(m.family for m in methods)) == [
        "PercPos", "MarginPos", "MaxScore", "SkipTop", "SampledTopK", "Top1Sampled",
    ]  # fmt: skip
    for wanted in (SkipTop(10), MaxScore(0.7), MarginPos(0.05), PercPos(0.95), SkipTop(0)):
        assert sum(m.filters == (wanted,) and m.sampler == Top() for m in methods) == 1
    spelled = [(m.filters, repr(m.sampler)) for m in methods]
    assert len(set(spelled)) == len(spelled)


def test_a_curve_holds_what_each_method_gives_alone(judged):
    methods = [Method("SkipTop", (SkipTop(n),), Top()) for n in (0, 2, 5)]
    curve = TradeOff.of(*judged, methods, num_negatives=3)
    alone = [false_negative_rate(*judged, filters=[SkipTop(n)], num_negatives=3) for n in (0, 2, 5)]
    assert [row["false_negatives"] for row in curve.rows()] == [found.false_negatives for found in alone]
    assert [row["mean_rank"] for row in curve.rows()] == [1, 3, 6]


def test_the_command_writes_curve_and_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    arguments = [
        "fn-rate",
        str(SAMPLE),
        "--visible",
        "train",
        "--qrels",
        "complete",
        "--teacher",
        "embedded",
        "--quiet",
    ]
    paths = {name: str(tmp_path / name) for name in ("curve.csv", "curve.png", "rates.json")}
    more = ["--curve", paths["curve.csv"], "--plot", paths["curve.png"], "--output", paths["rates.json"]]
    assert main([*arguments, *more]) == 0
    said = capsys.readouterr().out
    assert "95 % interval" in said and "as hard as those of PercPos(0.95)" in said
    record = json.loads((tmp_path / "rates.json").read_text())
    assert record["rates"][0]["method"] == "naive"
    assert all(row["low"] <= row["rate"] <= row["high"] for row in [*record["rates"], *record["curve"]])
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [(r["method"], float(r["rate"])) for r in rows] == [(r["method"], r["rate"]) for r in record["curve"]]
    by_method = {row["method"]: row for row in record["curve"]}
    for row in record["rates"]:
        same = by_method["SkipTop(0)" if row["method"] == "naive" else row["method"]]
        assert (row["false_negatives"], row["mean_score"]) == (same["false_negatives"], same["mean_score"])
    assert {row["by"] for row in record["equal_hardness"]} == {"score", "rank"}
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_methods_of_one_s_own_and_the_sampler_are_on_the_curves(tmp_path, capsys):
    command = ["fn-rate", str(SAMPLE), "--visible", "train", "--qrels", "complete", "--teacher", "embedded", "--quiet"]
    both = "SkipTop(1) + PercPos(0.9)"
    more = ["--methods", "naive", both, "--sampler", "SampledTopK(k=8)", "--at", "PercPos(0.93)"]
    assert main([*command, *more, "--curve", str(tmp_path / "curve.json")]) == 0
    assert "as hard as those of PercPos(0.93)" in capsys.readouterr().out
    record = json.loads((tmp_path / "curve.json").read_text())
    families = {row["method"]: row["family"] for row in record["curve"]}
    sampler = ", SampledTopK(k=8, temperature=1.0)"
    assert all(method.endswith(sampler) for method in families)
    assert families[f"PercPos(0.93){sampler}"] == "PercPos"
    assert families[f"{both}{sampler}"] == "others"
    same = {row["method"]: row["rate"] for row in record["curve"]}
    assert [row["rate"] for row in record["rates"]] == [same[f"SkipTop(0){sampler}"], same[f"{both}{sampler}"]]
    for found in (row for row in record["equal_hardness"] if row["family"] == "PercPos"):
        assert found["rate"] == pytest.approx(same[f"PercPos(0.93){sampler}"])


def test_where_shares_mean_nothing_margins_are_compared(tmp_path, capsys):
    command = ["fn-rate", str(SAMPLE), "--visible", "train", "--qrels", "complete", "--teacher", "embedded", "--quiet"]
    more = ["--similarity", "euclidean", "--methods", "naive", "--curve", str(tmp_path / "curve.json")]
    assert main([*command, *more]) == 0
    assert json.loads((tmp_path / "curve.json").read_text())["at"] == "MarginPos(0.05)"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--at", "PercPos(2"], "PercPos(2"),
        (["--sampler", "Best()"], "known: "),
        (["--curve", "curve.txt"], "write a .csv or .json file"),
        (["--plot", "plot.txt"], "write a .png, .svg, .pdf file"),
    ],
)
def test_a_file_of_another_kind_is_refused_before_anything_is_mined(more, said, capsys):
    assert (
        main(["fn-rate", str(SAMPLE), "--visible", "train", "--qrels", "complete", "--teacher", "embedded", *more]) == 2
    )
    assert said in capsys.readouterr().err
