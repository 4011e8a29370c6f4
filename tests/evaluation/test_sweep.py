"""Stored runs and sweeps: every row of the table is what mining directly gives, and searches are shared or saved."""

from __future__ import annotations

import itertools
import json
import pickle

import numpy as np
import pytest
import yaml
from datasets import Dataset, disable_progress_bars
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
from hf_posmine.core.errors import InputError, SpecError, StoreError
from hf_posmine.core.filters import parse_filter
from hf_posmine.evaluation import sweep
from hf_posmine.evaluation.negatives.agreement import jaccard, teacher_agreement
from hf_posmine.evaluation.negatives.choice import choose, mine_config
from hf_posmine.evaluation.plots.settings import plot_overlap, plot_sweep
from hf_posmine.teachers import BM25Teacher, RandomTeacher, StoredRun, VectorTeacher
from hf_posmine.teachers.factory import make_teachers
from tests.conftest import SAMPLE, ToyModel

disable_progress_bars()
ALL = ("scores", "ids", "ranks", "stats")
COLUMNS = {"query_column": "query", "positive_column": "positive"}


@pytest.fixture(scope="module")
def pairs(sample_pairs):
    return sample_pairs.select(range(60)).remove_columns("positive_id")


@pytest.fixture(scope="module")
def toy(sample_corpus, tmp_path_factory):
    return DenseTeacher(ToyModel(), sample_corpus, fingerprint="toy", store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def run(toy, pairs, tmp_path_factory):
    return StoredRun.build(toy, pairs, 12, path=tmp_path_factory.mktemp("run") / "toy", **COLUMNS)


class Counting:
    """A teacher that counts the queries it is asked to search or to score."""

    def __init__(self, teacher):
        self.teacher, self.searched, self.scored = teacher, 0, 0
        self.corpus, self.name, self.score_kind = teacher.corpus, teacher.name, teacher.score_kind
        self.fingerprint = teacher.fingerprint

    def search(self, queries, k, **options):
        self.searched += len(queries)
        return self.teacher.search(queries, k, **options)

    def score(self, queries, doc_ids):
        self.scored += len(queries)
        return self.teacher.score(queries, doc_ids)

    def score_texts(self, queries, documents):
        self.scored += len(queries)
        return self.teacher.score_texts(queries, documents)


# ---------------------------------------------------------------- stored runs

FILTERS = [
    [],
    [SkipTop(3)],
    [PercPos(0.95)],
    [PercPos(0.2)],
    [MarginPos(0.3), MinScore(-0.1)],
    [RankWindow(2, 30), MaxScore(0.6)],
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("sampler", ["Top()", "Top1Sampled(k=6, temperature=0.1)"])
def test_a_stored_run_mines_what_its_teacher_mines(filters, sampler, run, toy, pairs):
    options = {"filters": filters, "sampler": sampler, "num_negatives": 3, "keep": ALL, **COLUMNS}
    stored, direct = (
        PositiveAwareMiner.from_dataset(pairs, teacher, **{"filters": (), **options}) for teacher in (run, toy)
    )
    assert stored.fingerprint == direct.fingerprint
    assert pairs.map(stored, batched=True)[:] == pairs.map(direct, batched=True, load_from_cache_file=False)[:]


def test_only_queries_whose_stored_depth_is_too_shallow_are_searched_again(toy, pairs, tmp_path):
    counting = Counting(toy)
    run = StoredRun.build(counting, pairs, 12, path=tmp_path / "run", **COLUMNS)
    assert (counting.searched, counting.scored) == (60, 60)
    miner = PositiveAwareMiner.from_dataset(pairs, run, filters=MarginPos(0.02), keep="stats", **COLUMNS)
    counting.searched = counting.scored = 0
    stats = pairs.map(miner, batched=True)["negatives_stats"]
    # 12 stored, the positive among them or not: 4 are certain up to rank 7, and not from rank 8 on
    certain, open_ = sum(s["num_above_ceiling"] <= 7 for s in stats), sum(s["num_above_ceiling"] > 8 for s in stats)
    assert certain > 4 and open_ > 10
    assert open_ <= counting.searched <= 60 - certain
    assert counting.scored == 0


def test_a_run_without_its_teacher_says_what_it_lacks(run, sample_corpus, pairs):
    alone = StoredRun(run.path, sample_corpus)
    options = {"num_negatives": 3, **COLUMNS}
    both = [PositiveAwareMiner.from_dataset(pairs, teacher, **{"filters": (), **options}) for teacher in (alone, run)]
    assert both[0](pairs[:]) == both[1](pairs[:])
    deep = PositiveAwareMiner.from_dataset(pairs, alone, filters=PercPos(0.1), **options)
    with pytest.raises(StoreError, match="holds 12 documents per query, too few below the ceiling of"):
        deep(pairs[:])
    with pytest.raises(StoreError, match="or not that query"):
        alone.score(["never heard of"], np.array([[1]]))


def test_a_run_is_built_once_and_refuses_what_it_is_not(run, toy, pairs, sample_corpus, tmp_path):
    again = StoredRun.build(Counting(toy), pairs, 12, path=run.path, **COLUMNS)
    assert again.teacher.searched == 0 and again.fingerprint == toy.fingerprint
    assert len(pickle.dumps(run)) < 10_000
    with pytest.raises(
        StoreError, match=r"holds a run of .* to depth 12 over other queries or with another depth than 5"
    ):
        StoredRun.build(toy, pairs, 5, path=run.path, **COLUMNS)
    with pytest.raises(StoreError, match="of another corpus"):
        StoredRun(run.path, Corpus.from_texts(["x"]))
    with pytest.raises(StoreError, match="of another teacher"):
        StoredRun(run.path, sample_corpus, RandomTeacher(sample_corpus))
    with pytest.raises(StoreError, match="no run in"):
        StoredRun(tmp_path, sample_corpus)
    with pytest.raises(InputError, match="depth=0"):
        StoredRun.build(toy, pairs, 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), documents=st.integers(3, 14), depth=st.integers(1, 14))
def test_any_depth_any_ceiling_any_exclusion_with_many_ties(data, documents, depth, tmp_path_factory):
    level = st.integers(-3, 3)
    table = np.float32(data.draw(st.lists(level, min_size=documents, max_size=documents)))
    corpus = Corpus.from_texts([f"d{i}" for i in range(documents)])
    teacher = VectorTeacher(corpus, table[:, None], ["q", "r"], [[1], [-1]], similarity="dot")
    rows = {"query": ["q", "r", "q"], "positive": [f"d{data.draw(st.integers(0, documents - 1))}" for _ in range(3)]}
    run = StoredRun.build(teacher, Dataset.from_dict(rows), depth, path=tmp_path_factory.mktemp("runs") / "run")
    some = st.sampled_from([MarginPos(0), MarginPos(1), PercPos(0.5), SkipTop(2), MinScore(-1), MaxScore(1)])
    options = {
        "filters": data.draw(st.lists(some, max_size=2)),
        "num_negatives": data.draw(st.integers(1, 6)),
        "keep": ALL,
    }
    stored, direct = (
        PositiveAwareMiner.from_dataset(Dataset.from_dict(rows), t, **{"filters": (), **options})
        for t in (run, teacher)
    )
    assert stored(rows) == direct(rows)


# ---------------------------------------------------------------- sweeps

GRID = {
    "filters": [(), "PercPos(0.95)", [PercPos(0.3)], [SkipTop(5), MarginPos(0.1)], [MinScore(0.4)]],
    "samplers": ["Top()", "SampledTopK(k=7, temperature=0.2)"],
    "num_negatives": [2, 5],
    "seeds": [0, 3],
}


@pytest.fixture(scope="module")
def table(run, pairs):
    return sweep(run, pairs, **GRID, **COLUMNS)


def test_every_row_is_what_mining_directly_gives(table, toy, pairs):
    chosen = []
    for row in table:
        filters = [] if row["filters"] == "naive" else [parse_filter(f) for f in row["filters"].split(" + ")]
        miner = PositiveAwareMiner.from_dataset(
            pairs, toy, filters=filters, sampler=row["sampler"], num_negatives=row["num_negatives"], seed=row["seed"],
            keep=ALL, **COLUMNS,
        )  # fmt: skip
        out, n = miner(pairs[:]), row["num_negatives"]
        flat = [score for scores in out["negatives_scores"] for score in scores]
        own = [p for p, scores in zip(out["positive_score"], out["negatives_scores"], strict=True) for _ in scores]
        assert (row["rows"], row["negatives"]) == (60, len(flat))
        assert row["yield"] == len(flat) / (60 * n)
        assert row["short_rows"] == sum(len(negatives) < n for negatives in out["negatives"])
        assert row["empty_rows"] == sum(not negatives for negatives in out["negatives"])
        assert row["hardness"] == pytest.approx(sum(flat) / sum(own))
        assert row["mean_gap"] == pytest.approx(np.mean(own) - np.mean(flat))
        assert row["replaced"] == np.mean([rank >= n for ranks in out["negatives_ranks"] for rank in ranks])
        removed = [
            min(s["num_above_ceiling"], n) + s["num_outside_ranks"] + s["num_below_floor"]
            for s in out["negatives_stats"]
        ]
        assert row["removed"] == pytest.approx(sum(removed) / (60 * n))
        chosen.append([set(ids) for ids in out["negatives_ids"]])
        assert row["false_negative_rate"] is None
    for i, j in itertools.product(range(len(table)), repeat=2):
        overlaps = [len(a & b) / len(a | b) if a | b else 1 for a, b in zip(chosen[i], chosen[j], strict=True)]
        assert table[i]["overlap"][j] == pytest.approx(np.mean(overlaps))


def test_the_table_spells_its_settings_in_the_order_of_the_grid(table):
    assert len(table) == 5 * 2 * 2 * 2
    spelled = [(r["filters"], r["sampler"], r["num_negatives"], r["seed"]) for r in table]
    assert len(set(spelled)) == len(spelled)
    assert spelled[0] == ("naive", "Top()", 2, 0) and spelled[-1] == (
        "MinScore(0.4)",
        "SampledTopK(k=7, temperature=0.2)",
        5,
        3,
    )
    assert [r["filters"] for r in table][24] == "SkipTop(5) + MarginPos(0.1)"


def test_false_negatives_are_counted_by_complete_judgements_the_miner_does_not_see(run, toy, pairs, sample_corpus):
    naive = pairs.map(
        PositiveAwareMiner.from_dataset(pairs, toy, num_negatives=3, keep=ALL, **{"filters": (), **COLUMNS}),
        batched=True,
    )
    # judge the first negative of every third query relevant, and its positive
    judged = zip(pairs["query"], pairs["positive"], strict=True)
    wrong = list(zip(pairs["query"][::3], (row[0] for row in naive["negatives"][::3]), strict=True))
    judgements = Qrels.from_columns(*zip(*judged, *wrong, strict=True))
    table = sweep(
        run,
        pairs,
        filters=[(), SkipTop(1)],
        num_negatives=[3],
        judgements=judgements,
        **COLUMNS,
    )
    assert table["false_negatives"][:] == [20, 0]
    assert table["false_negative_rate"][0] == pytest.approx(20 / 180)
    chosen = choose(table, max_false_negatives=0.05)
    assert chosen["filters"] == "SkipTop(1)"


def test_ensembles_and_samplers_over_several_runs(run, pairs, sample_corpus, tmp_path):
    lexical = StoredRun.build(BM25Teacher(sample_corpus, store=tmp_path), pairs, 30, path=tmp_path / "run", **COLUMNS)
    samplers = ["Top()", "IntraSample(dedup=True)", "CrossSample()"]
    table = sweep([run, lexical], pairs, filters=[PercPos(0.9)], samplers=samplers, num_negatives=[3], **COLUMNS)
    assert table["teacher"][:] == [run.name, "bm25", f"{run.name} + bm25", f"{run.name} + bm25"]
    for row, sampler in zip(list(table)[2:], samplers[1:], strict=True):
        miner = PositiveAwareMiner.from_dataset(pairs, run, filters=PercPos(0.9), num_negatives=3, **COLUMNS)
        both = PositiveAwareMiner(
            corpus=sample_corpus, teachers=[run, lexical], known_positives=miner.known_positives, positive_column="positive",
            filters=PercPos(0.9), sampler=sampler, num_negatives=3, keep="scores",
        )  # fmt: skip
        out = both(pairs[:])
        scores, own = (np.concatenate(out[c]) for c in ("negatives_scores", "negatives_positive_scores"))
        assert row["negatives"] == len(scores) and row["hardness"] == pytest.approx(scores.sum() / own.sum())


def test_a_sweep_searches_each_query_again_at_most_once_for_all_settings(toy, pairs, tmp_path):
    run = StoredRun.build(toy, pairs, 6, path=tmp_path / "run", **COLUMNS)
    asked = []
    toy_many = toy.search_many

    class Watched:
        corpus, name, score_kind, fingerprint = toy.corpus, toy.name, toy.score_kind, toy.fingerprint
        search, score, score_texts = toy.search, toy.score, toy.score_texts

        def search_many(self, queries, wants, exclude):
            asked.append(len(wants))
            return toy_many(queries, wants, exclude)

    run.teacher = Watched()
    sweep(run, pairs, filters=[[PercPos(f / 10)] for f in range(10)], **COLUMNS)
    assert asked == [10]


def test_what_cannot_be_tried_is_refused(run, pairs, toy, sample_corpus, tmp_path):
    euclidean = DenseTeacher(ToyModel(), sample_corpus, fingerprint="toy", store=tmp_path, similarity="euclidean")
    with pytest.raises(SpecError, match="no meaningful zero"):
        sweep(euclidean, pairs, filters=[PercPos(0.9)], **COLUMNS)
    with pytest.raises(InputError, match="nothing to try"):
        sweep(run, pairs, filters=[], **COLUMNS)
    with pytest.raises(InputError, match="has no effect on one teacher"):
        sweep(run, pairs, samplers=["CrossSample()"], **COLUMNS)
    for bound in (0.1, None):
        with pytest.raises(InputError, match="a choice needs a bound on them"):
            choose(sweep(run, pairs, **COLUMNS), max_false_negatives=bound)


def test_the_hardest_setting_within_the_limits_becomes_a_configuration(table):
    judged = [{**row, "false_negative_rate": 0.01 * at} for at, row in enumerate(table)]
    row = choose(judged, min_yield=0.9, max_false_negatives=0.05)
    within = [other for other in judged[:6] if other["yield"] >= 0.9]
    assert row["yield"] >= 0.9 and row["hardness"] == max(other["hardness"] for other in within)
    config = yaml.safe_load(mine_config(row))
    assert config == {
        "filters": "none" if row["filters"] == "naive" else row["filters"].split(" + "),
        "sampler": row["sampler"], "num_negatives": row["num_negatives"], "seed": row["seed"],
    }  # fmt: skip
    with pytest.raises(InputError, match=r"the nearest is .* with 1\.000 and 0\.000"):
        choose(judged, min_yield=1.1, max_false_negatives=0.05)
    with pytest.raises(InputError, match="is not a share between 0 and 1"):
        choose(judged, max_false_negatives=5)


# ---------------------------------------------------------------- agreement and plots


def test_jaccard_by_hand():
    first, second = (
        np.array([[1, 2, 3], [4, 4, -1], [-1, -1, -1], [-1, -1, 5]]),
        np.array([[3, 9], [4, 7], [-1, -1], [-1, -1]]),
    )
    assert jaccard(first, second).tolist() == [0.25, 0.5, 1.0, 0.0]


def test_agreement_of_teachers_is_symmetric_and_that_of_their_negatives(run, pairs, sample_corpus, tmp_path):
    teachers = [
        run,
        RandomTeacher(sample_corpus),
        RandomTeacher(sample_corpus, seed=1),
        BM25Teacher(sample_corpus, store=tmp_path),
    ]
    found = teacher_agreement(pairs, teachers, filters=PercPos(0.95), **COLUMNS)
    names = found["teacher"][:]
    assert names == [run.name, "random #2", "random #3", "bm25"]
    matrix = np.array([found[name] for name in names])
    assert (matrix == matrix.T).all() and (np.diag(matrix) == 1).all() and matrix[1, 2] < 0.05
    out = [
        PositiveAwareMiner.from_dataset(pairs, t, filters=PercPos(0.95), **COLUMNS)(pairs[:])["negatives"]
        for t in (run, teachers[3])
    ]
    overlaps = [len({*a} & {*b}) / len({*a} | {*b}) if a or b else 1 for a, b in zip(*out, strict=True)]
    assert matrix[0, 3] == pytest.approx(np.mean(overlaps))


def test_plots_are_images(table, tmp_path):
    plot_sweep(table, tmp_path / "sweep.png")
    plot_overlap(["a", "b"], [[1, 0.3], [0.3, 1]], tmp_path / "overlap.png")
    for name in ("sweep", "overlap"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


# ---------------------------------------------------------------- the command line


def test_the_command_prints_the_table_and_its_choice_mines(pairs, tmp_path, capsys):
    from hf_posmine.cli.main import main

    pairs.to_parquet(tmp_path / "pairs.parquet")
    data = [str(tmp_path / "pairs.parquet"), "--teacher", "bm25", "--offline", "--quiet"]
    files = {name: str(tmp_path / name) for name in ("table.csv", "sweep.png", "mine.yaml")}
    status = main(
        ["sweep", *data, "--filters", "naive", "SkipTop(2) + PercPos(0.9)", "--num-negatives", "2", "--depth", "9",
         "--output", files["table.csv"], "--plot", files["sweep.png"]]
    )  # fmt: skip
    shown = capsys.readouterr()
    assert status == 0, shown.err
    assert "SkipTop(2) + PercPos(0.9)" in shown.out
    assert Dataset.from_csv(files["table.csv"])["filters"][:] == ["naive", "SkipTop(2) + PercPos(0.9)"]


def test_a_choice_by_judgements_mines(tmp_path, capsys):
    from hf_posmine.cli.main import main

    data = [str(SAMPLE), "--teacher", "bm25", "--offline", "--quiet"]
    config = str(tmp_path / "mine.yaml")
    choice = ["--judgements", "complete", "--max-false-negatives", "0.05", "--choose", config]
    methods = ["--filters", "naive", "PercPos(0.5)", "--num-negatives", "2"]
    assert main(["sweep", *data, *methods, *choice, "--min-yield", "0.5"]) == 0
    assert "PercPos(0.5), Top(), 2 negatives written" in capsys.readouterr().out
    assert main(["mine", *data, "--config", config, "--output", str(tmp_path / "mined")]) == 0
    record = json.loads((tmp_path / "mined" / "provenance.json").read_text())
    assert record["settings"]["filters"] == ["PercPos(0.5)"]


@pytest.mark.parametrize("given", [[], ["--judgements", "complete"], ["--max-false-negatives", "0.1"]])
def test_a_choice_without_a_bound_is_refused_with_the_way_out(given, tmp_path, capsys):
    from hf_posmine.cli.main import main

    assert main(["sweep", str(SAMPLE), "--choose", str(tmp_path / "mine.yaml"), *given]) == 2
    said = capsys.readouterr().err
    assert "calibrate" in said and "judge" in said and "PercPos(0.95)" in said
    assert not (tmp_path / "mine.yaml").exists()


def test_the_command_mines_with_an_ensemble_of_named_teachers(pairs, tmp_path, capsys):
    from hf_posmine.cli.main import main

    pairs.to_parquet(tmp_path / "pairs.parquet")
    options = [
        "--teacher",
        "bm25,random:1",
        "--sampler",
        "IntraSample(dedup=True)",
        "--num-negatives",
        "2",
        "--filters",
        "none",
    ]
    command = [
        "mine",
        str(tmp_path / "pairs.parquet"),
        *options,
        "--output",
        str(tmp_path / "out"),
        "--offline",
        "--quiet",
    ]
    assert main(command) == 0, capsys.readouterr().err
    assert Dataset.load_from_disk(tmp_path / "out")["negatives_teachers"][:] == [["bm25", "random"]] * 60


def test_options_go_to_the_teachers_that_have_them(sample_corpus, fresh_home):
    made = make_teachers(["embedded", "bm25"], sample_corpus, query_prompt="query: ")
    assert made[0].model.prompts["query"] == "query: " and made[1].name == "bm25"
    with pytest.raises(InputError, match=r"none of the teachers \['bm25', 'random'\] has an option 'query_prompt'"):
        make_teachers(["bm25", "random"], sample_corpus, query_prompt="query: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher", "random:x"], "random:1"),
        (["--teacher", "sparse:"], "names no model"),
        (["--teacher", "bm25", "--query-prompt", "q: "], "the teacher 'bm25' has no option 'query_prompt'"),
        (["--teacher", "bm25:klingon"], "language='klingon'"),
        (["--filters", "PercPos(95)"], "did you mean 0.95"),
        (["--teacher", "bm25", "--output", "table.xls"], "write a .parquet, .csv, .jsonl file"),
    ],
)
def test_the_command_names_what_it_cannot_do(arguments, message, pairs, tmp_path, capsys):
    from hf_posmine.cli.main import main

    pairs.to_parquet(tmp_path / "pairs.parquet")
    assert main(["sweep", str(tmp_path / "pairs.parquet"), *arguments, "--offline", "--quiet"]) == 2
    assert message in capsys.readouterr().err
