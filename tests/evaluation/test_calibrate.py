"""Calibration: every figure against slow loops over float64 scores, intervals against theory, proposals, and real data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars

from hf_posmine import Corpus, DenseTeacher, MarginPos, MaxScore, PercPos, SkipTop
from hf_posmine.cli.main import main
from hf_posmine.core.errors import ColumnError, InputError, SpecError
from hf_posmine.evaluation.negatives.calibrate import calibrate, default_families
from hf_posmine.evaluation.negatives.calibration import Calibration, Sums
from hf_posmine.evaluation.negatives.false_negatives import Judgements, load_judged
from hf_posmine.evaluation.negatives.hold_out import judgements_of_pairs
from hf_posmine.teachers import VectorTeacher
from tests.conftest import SAMPLE, real_data

disable_progress_bars()
QUERIES, DOCUMENTS = 12, 40


@pytest.fixture(scope="module")
def world():
    """A collection of random vectors, 1 to 5 positives per query and some of unknown relevance, and its float64 scores."""
    rng = np.random.default_rng(3)
    documents, queries = rng.normal(size=(DOCUMENTS, 6)), rng.normal(size=(QUERIES, 6))
    relevant, unknown = {}, {}
    for q in range(QUERIES):
        near = np.argsort(-(documents @ queries[q]))[:14]
        picked = rng.permutation(near)[: 1 + q % 5 + 1].tolist()
        relevant[q], unknown[q] = picked[:-1] if q % 3 else picked, picked[-1:] if q % 3 else []
    corpus = Corpus.from_texts([f"text {i}" for i in range(DOCUMENTS)], [f"d{i}" for i in range(DOCUMENTS)])
    rows = [(q, f"d{d}", 1) for q, ds in relevant.items() for d in ds] + [
        (q, f"d{d}", -1) for q, ds in unknown.items() for d in ds
    ]
    judgements = Judgements.of({q: f"query {q}" for q in range(QUERIES)}, *zip(*rows, strict=True))
    names = [f"query {q}" for q in range(QUERIES)]
    teacher = VectorTeacher(corpus, documents.astype(np.float32), names, queries.astype(np.float32), similarity="dot")
    scores = queries.astype(np.float32).astype(np.float64) @ documents.astype(np.float32).astype(np.float64).T
    return corpus, judgements, teacher, scores, relevant, unknown


CEILINGS = {
    "naive": lambda p: np.inf,
    "SkipTop(3)": lambda p: np.inf,
    "PercPos(0.8)": lambda p: p - abs(p) * 0.2,
    "MarginPos(0.5)": lambda p: p - 0.5,
    "MaxScore(1.5)": lambda p: 1.5,
}


def by_loops(world, method: str, hide: str, n: int) -> dict[str, float]:
    """The same experiment with sorted lists: one row per way to hide, each query an average over its rows."""
    _, _, _, scores, relevant, unknown = world
    false = given = hidden_total = score = positive = asked = 0.0
    for q, documents in relevant.items():
        if len(documents) < 2:
            continue
        for d in documents:
            others = [o for o in documents if o != d]
            visible, hidden = ([d], others) if hide == "rest" else (others, [d])
            p = min(scores[q][v] for v in visible)
            left = [i for i in range(DOCUMENTS) if i not in visible and i not in unknown[q]]
            left.sort(key=lambda i: -scores[q][i])
            left = left[3:] if method == "SkipTop(3)" else left
            mined = [i for i in left if scores[q][i] < CEILINGS[method](p)][:n]
            weight = 1 / len(documents)
            false += weight * len(set(mined) & set(hidden))
            given += weight * len(mined)
            hidden_total += weight * len(hidden)
            score += weight * sum(scores[q][i] for i in mined)
            positive += weight * p * len(mined)
            asked += weight * n
    return {
        "rate": false / given, "risk": false / hidden_total, "hardness": score / positive,
        "gap": (positive - score) / given, "found": given / asked,
    }  # fmt: skip


@pytest.mark.parametrize("hide", ["rest", "one"])
@pytest.mark.parametrize("n", [2, 20])
def test_every_figure_is_that_of_slow_loops(world, hide, n):
    corpus, judgements, teacher, *_ = world
    families = {"all": [[] if m == "naive" else [m] for m in CEILINGS]}
    found = calibrate(corpus, judgements, teacher, families=families, hide=hide, num_negatives=n, resamples=50)
    assert found.queries == sum(len(documents) > 1 for documents in world[4].values())
    for point in found.points:
        for name, value in by_loops(world, point.method, hide, n).items():
            assert getattr(point, name) == pytest.approx(value, rel=1e-5), (point.method, name)
        assert 0 <= point.low <= point.rate <= point.high <= 1
    assert max(point.rate for point in found.points) > (0.01 if n == 20 else 0.1)  # else there is nothing to compare


def test_two_hidden_ids_of_one_text_are_one_document(world):
    corpus = Corpus.from_texts(["same", "same", "other", "far"], ["a", "b", "c", "d"])
    vectors = np.float32([[0.9], [0.8], [0.1]])
    teacher = VectorTeacher(corpus, vectors, ["q"], [[1.0]], similarity="dot")
    with pytest.raises(InputError, match="no query has two known positives"):
        calibrate(corpus, Judgements.of({"q": "q"}, ["q", "q"], ["a", "b"], [1, 1]), teacher)
    three = Judgements.of({"q": "q"}, ["q"] * 3, ["a", "b", "c"], [1, 1, 1])
    point = calibrate(corpus, three, teacher, families={"f": [[]]}, num_negatives=2).points[0]
    assert (point.rate, point.risk) == (0.5, 1.0)


def test_what_cannot_be_calibrated_is_refused(world):
    corpus, judgements, teacher, *_ = world
    with pytest.raises(InputError, match="hide='all'; expected one of rest, one"):
        calibrate(corpus, judgements, teacher, hide="all")
    with pytest.raises(InputError, match="takes no filters="):
        calibrate(corpus, judgements, teacher, filters=PercPos(0.9))
    with pytest.raises(InputError, match="no setting to try"):
        calibrate(corpus, judgements, teacher, families={})
    with pytest.raises(SpecError, match=r"did you mean 0\.95"):
        calibrate(corpus, judgements, teacher, families={"f": [["PercPos(95)"]]})


# ---------------------------------------------------------------- intervals


def drawn_sums(queries: int, seed: int, settings: int = 1) -> Sums:
    """Queries that differ in how easily their positives are mined: binomial counts with a beta-distributed rate."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(0.6, 2.4, size=queries) * np.linspace(1, 0.2, settings)[:, None]
    false = rng.binomial(4, rates).astype(np.float64)
    score = 4 * np.linspace(0.8, 0.4, settings)[:, None] + rng.normal(0, 0.05, (settings, queries))
    return Sums(false, np.full_like(false, 4.0), score, np.full_like(false, 4.0), np.full(queries, 8.0))


def calibration(sums: Sums, names=None, **options) -> Calibration:
    names = tuple(("f", f"PercPos({i})") for i in range(len(sums.false))) if names is None else names
    return Calibration(names, sums, 4, **options)


def test_the_interval_is_as_wide_as_the_standard_error_says():
    sums = drawn_sums(400, 0)
    point = calibration(sums, resamples=4000).points[0]
    error = (sums.false[0] / 4).std(ddof=1) / np.sqrt(400)
    assert point.high - point.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    low, high = calibration(sums, resamples=4000).predicted(100)[0]
    assert high - low == pytest.approx(2 * 1.96 * error * np.sqrt(1 + 4), rel=0.06)


def test_predictions_hold_on_other_queries_and_confidence_intervals_on_the_truth():
    held = covered = 0
    for seed in range(120):
        sums = drawn_sums(160, seed)
        half = np.random.default_rng(seed).permutation(160)
        one, other = (calibration(sums.take(h), resamples=300) for h in (half[:80], half[80:]))
        (low, high), point = one.predicted(80)[0], one.points[0]
        held += low <= other.points[0].rate <= high
        covered += point.low <= 0.6 / 3.0 <= point.high
    assert 108 <= held <= 120  # 95 % of 120 are 114, three standard errors below it 107
    assert 106 <= covered <= 120


def test_resamples_are_seeded_and_of_whole_queries():
    sums = drawn_sums(50, 1)
    assert calibration(sums, seed=5).points == calibration(sums, seed=5).points
    assert calibration(sums, seed=5).points != calibration(sums, seed=6).points
    alike = Sums(*(np.full((1, 50), v) for v in (1.0, 4.0, 2.0, 3.0)), np.full(50, 2.0))
    point = calibration(alike).points[0]
    assert (point.low, point.rate, point.high) == (0.25, 0.25, 0.25)
    with pytest.raises(InputError, match="resamples=0"):
        calibration(sums, resamples=0)
    with pytest.raises(InputError, match="queries=0"):
        calibration(sums).predicted(0)


def test_no_false_negative_in_few_queries_is_no_proof():
    def clean(queries):
        return calibration(Sums(*(np.full((1, queries), v) for v in (0.0, 4.0, 2.0, 3.0)), np.full(queries, 2.0)))

    point = clean(50).points[0]
    # 50 queries stay clean with probability 2.5 % where 7.11 % of all queries have a false negative, one of 4
    assert (1 - 4 * point.high) ** 50 == pytest.approx(0.025)
    assert (
        point.rate == point.low == 0.0 and clean(50).predicted(10)[0][1] > clean(50).predicted(50)[0][1] >= point.high
    )
    with pytest.raises(InputError, match=r"PercPos\(0\) with 0.00% \(0.00% to 1.78%, at most 1.78% with that"):
        clean(50).propose(0.01)
    assert clean(500).propose(0.01).rate == 0.0


# ---------------------------------------------------------------- proposals


def test_the_hardest_setting_within_the_rate_is_proposed():
    found = calibration(drawn_sums(200, 2, settings=9))
    likely, sure = found.propose(0.1, confident=False), found.propose(0.1)
    order = {point.method: at for at, point in enumerate(found.points)}  # from hard to easy, as they were drawn
    assert likely.rate <= 0.1 < found.points[order[likely.method] - 1].rate
    assert sure.high <= 0.1 < found.points[order[sure.method] - 1].high
    assert order[sure.method] > order[likely.method]
    with pytest.raises(
        InputError,
        match=r"rate of 0.10% .* with 95% confidence over all 9 settings; the lowest is",
    ):
        found.propose(0.001)
    with pytest.raises(InputError, match=r"did you mean 0\.05"):
        found.propose(5)
    with pytest.raises(InputError, match="family='g' has no setting; there are f"):
        found.propose(0.1, family="g")


def test_a_choice_among_many_settings_keeps_its_level():
    """All settings have 6 % false negatives; at most 5 % are proposed in one of forty data sets at most, not in a fifth."""
    rng = np.random.default_rng(3)
    settings, queries, proposed, best_of_many = 40, 120, 0, 0
    for _ in range(80):
        false = rng.binomial(4, 0.06, (settings, queries)).astype(float)
        scores = np.repeat(np.linspace(1, 2, settings)[:, None], queries, axis=1)
        sums = Sums(false, np.full_like(false, 4.0), scores, np.full_like(false, 3.0), np.full(queries, 2.0))
        found = calibration(sums, resamples=400)
        best_of_many += min(point.high for point in found.points) <= 0.05
        try:
            found.propose(0.05)
            proposed += 1
        except InputError:
            pass
    assert proposed <= 5
    assert best_of_many > 12


def test_families_at_equal_hardness():
    alike = Sums(
        false=np.outer([2.0, 1.0, 0.0, 0.5], np.ones(30)), negatives=np.full((4, 30), 4.0),
        score=np.outer([3.0, 2.0, 1.0, 1.5], np.ones(30)), positive=np.full((4, 30), 4.0), hidden=np.ones(30),
    )  # fmt: skip
    names = (("a", "PercPos(1.0)"), ("a", "PercPos(0.9)"), ("a", "PercPos(0.8)"), ("b", "SkipTop(5)"))
    found = calibration(alike, names)
    a, b = found.at_hardness_of(found.points[3])
    # b's gap of 0.625 lies halfway between a's 0.5 (rate 0.25) and 0.75 (rate 0)
    assert (a.family, a.rate, a.difference) == ("a", pytest.approx(0.125), pytest.approx(0.0))
    assert (b.family, b.difference, b.difference_low, b.difference_high) == ("b", 0.0, 0.0, 0.0)
    assert [other.family for other in found.at_hardness_of(found.points[0])] == ["a"]  # b has nothing as hard


def test_a_difference_at_equal_hardness_is_paired():
    sums = drawn_sums(100, 3, settings=4)
    doubled = Sums(
        *(
            np.concatenate([part, part + extra])
            for part, extra in zip(
                (sums.false, sums.negatives, sums.score, sums.positive), (0.2, 0.0, 0.0, 0.0), strict=True
            )
        ),
        sums.hidden,
    )
    names = tuple((family, f"PercPos({i})") for family in "ab" for i in range(4))
    found = calibration(doubled, names)
    other = next(o for o in found.at_hardness_of(found.points[1]) if o.family == "b")
    assert (other.difference, other.difference_low, other.difference_high) == pytest.approx((0.05, 0.05, 0.05))


# ---------------------------------------------------------------- families and pairs


def test_grids_suit_the_scores(sample_corpus):
    cosines = default_families(np.float32([0.2, 0.5, 0.8]), "cosine", sample_corpus)
    assert [PercPos(0.95)] in cosines["PercPos"] and [MarginPos(0.025)] in cosines["MarginPos"]
    assert [MaxScore(0.77)] in cosines["MaxScore"] and [SkipTop(10)] in cosines["SkipTop"]
    logits = default_families(np.float32([-3.0, -2.0, np.inf]), "logit", sample_corpus)
    assert "PercPos" not in logits and all(f[0].margin >= 0 for f in logits["MarginPos"])
    assert min(f[0].score for f in logits["MaxScore"]) < -2.5 < max(f[0].score for f in logits["MaxScore"])
    assert all(f[0].score <= 1 for f in default_families(np.ones(3, np.float32), "cosine", sample_corpus)["MaxScore"])
    normalised = default_families(np.float32([-3.0, -2.0]), "logit", sample_corpus, zero=-8.0)
    assert [PercPos(0.95, zero=-8.0)] in normalised["PercPos, normalised"] and "PercPos" not in normalised


def test_the_zero_is_what_a_random_document_scores(sample_corpus, embedded_model):
    from hf_posmine import DenseTeacher
    from hf_posmine.data.sources import beir_pairs
    from hf_posmine.evaluation.negatives.calibrate import families_for
    from hf_posmine.evaluation.negatives.false_negatives import Judgements
    from tests.conftest import SAMPLE

    pairs = beir_pairs(SAMPLE, "complete")
    positives = list(dict.fromkeys(pairs["query"]))
    judged = Judgements.of(
        dict(zip(pairs["query"], pairs["query"], strict=True)), pairs["query"], pairs["positive_id"], [1] * len(pairs)
    )
    teacher = DenseTeacher(embedded_model, sample_corpus)
    (filter_,) = families_for(sample_corpus, judged, teacher)["PercPos, normalised"][0]
    everything = teacher.score(positives, np.tile(np.arange(len(sample_corpus)), (len(positives), 1)))
    assert abs(filter_.zero - np.median(everything)) < 0.03


def test_pairs_with_repeated_queries_are_judgements():
    rows = Dataset.from_dict({"query": ["q", "r", "q"], "positive": ["one", "two", "Three "], "more": [1, 2, 3]})
    corpus = Corpus.from_texts(["one", "two", "three"], ["a", "b", "c"])
    judged = judgements_of_pairs(rows, corpus)
    assert judged.relevant == {"q": {"a", "c"}, "r": {"b"}}
    lists = Dataset.from_dict({"query": ["q"], "positives": [["one", "nowhere", "two"]]})
    assert judgements_of_pairs(lists, corpus, positive_column="positives").relevant == {"q": {"a", "b"}}
    by_id = Dataset.from_dict({"query": ["q"], "ids": [["a", "c"]]})
    assert judgements_of_pairs(by_id, corpus, positive_id_column="ids").relevant == {"q": {"a", "c"}}
    with pytest.raises(InputError, match="no positive of column 'positive' is in the corpus"):
        judgements_of_pairs(rows, Corpus.from_texts(["else"]))
    with pytest.raises(ColumnError, match="row 1"):
        judgements_of_pairs(Dataset.from_dict({"query": ["q", None], "positive": ["one", "two"]}), corpus)


def test_the_command_calibrates_a_training_set(tmp_path, capsys):
    words = ["cat", "dog", "bird", "fish", "cow", "horse", "sheep", "goat"]
    pairs = Dataset.from_dict(
        {
            "query": [f"about the {w}" for w in words for _ in range(3)],
            "positive": [f"the {w} {what}" for w in words for what in ("eats at noon", "sleeps", "is an animal")],
        }
    )
    pairs.to_parquet(tmp_path / "pairs.parquet")
    options = ["--teacher", "bm25", "--num-negatives", "2", "--quiet"]
    outputs = ["--output", str(tmp_path / "found.json"), "--choose", str(tmp_path / "mine.yaml")]
    outputs += ["--plot", str(tmp_path / "found.svg")]
    data = str(tmp_path / "pairs.parquet")
    assert main(["calibrate", data, "--families", "PercPos", "SkipTop", "--rate", "0.6", *options, *outputs]) == 0
    said = capsys.readouterr().out
    assert "8 queries, 2 negatives" in said and "over the choice among" in said
    drawn = (tmp_path / "found.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("PercPos", "SkipTop", "wanted: at most 60.0%"))
    record = json.loads((tmp_path / "found.json").read_text())
    naive = next(p for p in record["settings"] if p["method"] == "SkipTop(0)")
    assert (record["queries"], naive["rate"]) == (8, 1.0)  # the two hidden ones are the best two
    mined = [
        "mine",
        data,
        "--config",
        str(tmp_path / "mine.yaml"),
        "--teacher",
        "bm25",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*mined, "--quiet"]) == 0
    assert main(["calibrate", data, "--filters", "naive", "--rate", "0.001", *options]) == 2
    assert "no setting has a false-negative rate of 0.10%" in capsys.readouterr().err
    assert main(["calibrate", data, "--plot", "found.txt", *options]) == 2
    assert "found.txt: write a .png, .svg, .pdf file" in capsys.readouterr().err
    assert main(["calibrate", data, "--families", "MinScore", *options]) == 2
    assert "for bm25 scores there are" in capsys.readouterr().err


def test_the_command_calibrates_a_judged_collection(capsys):
    code = main(
        ["calibrate", str(SAMPLE), "--qrels", "complete", "--teacher", "bm25", "--rate", "0.1", "--estimate", "--quiet"]
    )
    said = capsys.readouterr().out
    assert code == 0 and "at the same hardness" in said and "PercPos(0.95)" in said


# ---------------------------------------------------------------- real data


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("name", ["cranfield", "vaswani"])
def test_half_of_the_queries_predict_the_other_half(name):
    corpus, judgements, _ = load_judged(real_data(name), "qrels", None, 0)
    queries = Corpus.from_texts(judgements.queries.values(), match="exact")
    teacher = DenseTeacher("embedded", corpus, queries=queries)
    families = {
        "PercPos": [["PercPos(0.95)"]],
        "MarginPos": [["MarginPos(0.05)"]],
        "SkipTop": [["SkipTop(10)"]],
        "naive": [[]],
    }
    found = calibrate(corpus, judgements, teacher, families=families)
    held, splits = np.zeros(len(families)), 100  # ten splits would tell 95 % from 80 % only by luck
    for split in range(splits):
        half = np.random.default_rng(split).permutation(found.queries)
        here, there = found.on(half[::2]), found.on(half[1::2])
        measured = [point.rate for point in there.points]
        held += [low <= rate <= high for (low, high), rate in zip(here.predicted(there.queries), measured, strict=True)]
    assert held.min() >= 0.9 * splits, dict(zip(families, held.tolist(), strict=True))
