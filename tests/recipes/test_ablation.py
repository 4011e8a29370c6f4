"""Ablations: the paper's grid, cells that are resumed and do not depend on each other, tables against scipy and numpy."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset, disable_progress_bars
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ablation.cell import Cells
from ablation.config import config_from, read_config
from ablation.figures import parameter
from ablation.grid import IN_BATCH_ONLY, Mining
from ablation.mined import MinedSets
from ablation.student import changed_student
from ablation.table import check_same_queries, markdown, mean_interval, study_table
from ablation.training_set import load_training_set
from ablation.windows import Part, WindowSettings, cut, write_windows
from hf_posmine.core.errors import InputError
from hf_posmine.encoding.encode import model_source
from tests.conftest import SAMPLE
from tests.support.distributed import tiny_model

disable_progress_bars()
RECIPES = Path(__file__).parents[2] / "recipes" / "ablation"
STEPS = [round(0.05 * i, 2) for i in range(21)]
TABLE_1 = {
    "bm25": 0.5002, "random": 0.5248, "e5-large-unsupervised": 0.5494, "e5-large-v2": 0.5704,
    "snowflake-arctic-embed-l": 0.5728, "nv-embed-v1": 0.5744, "e5-mistral-7b-instruct": 0.5810,
}  # fmt: skip
TABLE_3 = [0.5407, 0.5695, 0.5759, 0.5835, 0.5856, 0.5856, 0.5857]
TABLE_4 = [0.6214, 0.6342, 0.6184, 0.6457, 0.6479, 0.6499]


@pytest.fixture(scope="module")
def paper():
    return {study.name: study for study in read_config(RECIPES / "paper.yaml").studies}


def script():
    spec = importlib.util.spec_from_file_location("ablation_run", RECIPES / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The grid


def test_the_paper_s_tables_are_in_its_grid(paper):
    assert dict(paper["table1_teachers"].paper) == TABLE_1
    assert [row.label for row in paper["table1_teachers"].rows] == list(TABLE_1)
    methods = paper["table3_methods"]
    assert [methods.paper[row.label] for row in methods.rows] == TABLE_3
    assert [paper["table4_mistral"].paper[row.label] for row in paper["table4_mistral"].rows] == TABLE_4
    assert [row.label for row in methods.rows][:5] == [
        "naive", "SkipTop(10)", "MaxScore(0.7)", "MarginPos(0.05)", "PercPos(0.95)",
    ]  # fmt: skip
    assert {cell.mining.num_negatives for study in paper.values() for cell in study.cells} == {1, 4}
    assert {cell.mining.num_negatives for cell in paper["table4_mistral"].cells} == {1}


def test_ensembles_list_their_teachers_in_the_order_of_table_1(paper):
    (teachers,) = {row.cells[0].mining.teachers for row in paper["table2_ensembles"].rows[1:]}
    assert list(teachers) == sorted(teachers, key=TABLE_1.__getitem__, reverse=True)
    assert [row.label for row in paper["table2_ensembles"].rows[1:]] == [
        "CrossSample()", "IntraSample(dedup=True)", "IntraSample(dedup=False)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "family", "values"),
    [
        ("sweep_abs", "MaxScore", STEPS),
        ("sweep_margin", "MarginPos", STEPS),
        ("sweep_perc", "PercPos", sorted([*STEPS, 0.98, 1.05])),
    ],
)
def test_the_sweeps_have_the_steps_of_figure_1(paper, name, family, values):
    found = [parameter(row) for row in paper[name].rows[1:]]
    assert found == [(family, value) for value in values]


def test_the_samplers_are_swept_from_10_to_100(paper):
    found = [parameter(row) for row in paper["sweep_samplers"].rows[1:]]
    assert found == [(name, k) for name in ("SampledTopK", "Top1Sampled") for k in range(10, 101, 10)]


def test_cells_that_studies_share_are_one(paper):
    config = read_config(RECIPES / "paper.yaml")
    counted = {name: len(study.cells) for name, study in paper.items()}
    assert counted["table1_teachers"] == 7 * 3 and counted["table3_methods"] == 7 * 3
    settings_ = {  # by hand: what differs between cells, without their seeds
        *[("teacher", t) for t in TABLE_1],
        *[("ensemble", s) for s in ("cross", "dedup", "no dedup")],
        ("naive",), *[("skip", n) for n in (5, 10, 15, 20, 25, 30)],
        *[("abs", v) for v in STEPS], *[("margin", v) for v in STEPS],
        *[("perc", v) for v in [*STEPS, 0.98, 1.05] if v != 0.95],  # 0.95 is Table 1's last row
        *[(s, k) for s in ("sampled", "top1") for k in range(10, 101, 10)],
        *[("mistral", m) for m in range(6)],
    }  # fmt: skip
    assert len(config.cells) == 3 * len(settings_) < sum(counted.values())


def test_the_rows_of_mini_are_those_of_tables_1_and_3_with_five_seeds_each():
    config = read_config(RECIPES / "mini.yaml")
    assert all(len(row.cells) >= 5 for study in config.studies for row in study.rows)
    wanted = {"naive", "SkipTop(10)", "MaxScore(0.7)", "MarginPos(0.05)", "PercPos(0.95)", "random", IN_BATCH_ONLY}
    by_name = {study.name: study for study in config.studies}
    assert wanted <= {row.label for row in by_name["methods-batch"].rows}
    for name in ("methods-own", "methods-batch", "methods-layer"):
        assert list(by_name[name].paper.values()) == TABLE_3[:5]
    assert set(by_name["teachers-batch"].paper) == {"bm25", "random", "minilm"}


def test_dev_has_mini_s_data_and_students_and_measures_other_articles():
    dev, mini = (read_config(RECIPES / f"{name}.yaml") for name in ("dev", "mini"))
    assert (dev.windows, dev.train) == (mini.windows, mini.train)
    assert (dev.evaluate[0]["path"], mini.evaluate[0]["path"]) == ("windows/dev", "windows/test")
    for chosen in mini.training.values():
        assert dict(chosen) in [dict(tried) for tried in dev.training.values()]
    assert not {c.seed for s in dev.studies for c in s.cells} & {c.seed for s in mini.studies for c in s.cells}


def test_a_file_with_a_base_changes_what_it_gives_itself():
    squad, scifact = (read_config(RECIPES / f"{name}.yaml") for name in ("in_batch", "in_batch_scifact"))
    assert (scifact.name, scifact.windows) == ("in_batch_scifact", None) and squad.windows is not None
    assert (scifact.train[0]["name"], squad.train[0]["name"]) == ("scifact", "squad")
    assert (scifact.training, scifact.teachers) == (squad.training, squad.teachers)
    assert [study.name for study in scifact.studies] == ["words"] and len(scifact.cells) == 20
    assert [study.name for study in squad.studies] == ["words", "own", "layer"] and len(squad.cells) == 125


def test_a_base_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "study.yaml").write_text("base: nowhere.yaml\nname: x")
    with pytest.raises(InputError, match=r"cannot read '.*nowhere\.yaml'"):
        read_config(tmp_path / "study.yaml")


def test_what_has_no_effect_makes_no_other_cell(config):
    config["studies"] = {
        "s": {
            "teachers": ["toy", "chance", "none"], "filters": ["naive", "PercPos(0.9)"], "num_negatives": [1, 2],
            "samplers": ["Top()", "SampledTopK(k=5)"], "training": ["batch"], "seeds": [1, 2],
        }
    }  # fmt: skip
    read = config_from(config)
    minings = set(read.minings().values())
    chance = {m for m in minings if m.teachers == ("chance",)}
    assert {(m.filters, m.sampler, m.num_negatives, m.seed) for m in chance} == {
        ("naive", "Top()", n, seed) for n in (1, 2) for seed in (1, 2)
    }
    assert [m for m in minings if not m.teachers] == [Mining()]
    top = {m for m in minings if m.teachers == ("toy",) and m.sampler == "Top()"}
    assert {m.seed for m in top} == {0}  # nothing is drawn: cells of several seeds share the negatives
    assert len(read.cells) == 2 * (2 * 2 * 2 + 2 + 1)


def test_a_digest_follows_whatever_decides_a_cell_and_nothing_else(config):
    def digests(change) -> list[str]:
        changed = copy.deepcopy(config)
        change(changed)
        return list(config_from(changed).cells)

    before = digests(lambda c: None)
    assert digests(lambda c: c["studies"]["methods"].update(title="other", figures=["sweep"])) == before
    assert digests(lambda c: c["studies"]["methods"].update(filters=["PercPos( 0.9 )", "naive"]))[:2] != before[:2]
    assert set(digests(lambda c: c["studies"]["methods"].update(filters=["PercPos( 0.9 )", "naive"]))) == set(before)
    for change in (
        lambda c: c["training"]["own"].update(learning_rate=0.5),
        lambda c: c["teachers"]["toy"].update(query_prompt="query: "),
        lambda c: c["mining"].update(on_short="drop"),
        lambda c: c["train"][0].update(path="elsewhere"),
        lambda c: c["evaluate"][0].update(instruction="find it"),
    ):
        assert not set(digests(change)[:2]) & set(before)


# Bad configurations


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> str:
    """A random BERT of one layer and 16 dimensions that knows MiniLM's words."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    tokenizer = AutoTokenizer.from_pretrained(model_source("embedded"))
    BertModel(
        BertConfig(vocab_size=len(tokenizer), **sizes, initializer_range=0.5), add_pooling_layer=False
    ).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    SentenceTransformer(modules=[Transformer(str(folder / "bert")), Pooling(16)], device="cpu").save(str(folder / "st"))
    return str(folder / "st")


@pytest.fixture
def config(student) -> dict:
    student = {
        "model": student, "max_steps": 2, "per_device_train_batch_size": 16, "learning_rate": 0.01,
        "max_query_length": 16, "max_document_length": 16, "use_cpu": True,
    }  # fmt: skip
    return {
        "name": "micro",
        "train": [{"name": "sample", "path": str(SAMPLE), "visible": "train", "qrels": "complete"}],
        "evaluate": [{"name": "sample", "path": str(SAMPLE), "qrels": "complete"}],
        "teachers": {"toy": {"model": "embedded"}, "chance": {"model": "random"}, "words": {"model": "bm25"}},
        "mining": {"depth": 20},
        "training": {
            "own": {**student, "in_batch_negatives": False},
            "batch": {**student, "in_batch_negatives": True},
        },
        "studies": {
            "methods": {
                "title": "Methods", "teachers": ["toy"], "filters": ["naive", "PercPos(0.9)"], "num_negatives": [2],
                "training": ["own"], "seeds": [1, 2], "also": [{"teachers": ["chance"], "filters": ["naive"]}],
                "paper": {"naive": 0.5, "PercPos(0.9)": 0.6}, "source": "Table 3",
                "figures": ["differences", "histograms", "overlap"],
            }
        },
    }  # fmt: skip


WIDE = {"sources": ["x"], "words": 4, "stride": 8, "parts": {"a": {"source": "dev", "articles": 1, "questions": 1}}}
BAD = {
    "an unknown key": (lambda c: c.update(teacher={}), "did you mean 'teachers'"),
    "no studies": (lambda c: c.update(studies={}), "studies is missing"),
    "a list for a mapping": (lambda c: c.update(studies=[1]), "studies: expected a mapping"),
    "an unknown axis": (lambda c: c["studies"]["methods"].update(seed=[1]), "did you mean 'seeds'"),
    "a value for a list": (lambda c: c["studies"]["methods"].update(filters="naive"), "filters='naive'; expected a list"),
    "no seeds": (lambda c: c["studies"]["methods"].update(seeds=[]), "seeds is missing"),
    "a seed that is none": (lambda c: c["studies"]["methods"].update(seeds=["one"]), "expected whole numbers"),
    "an unknown teacher": (lambda c: c["studies"]["methods"].update(teachers=["toi"]), "no teacher 'toi'"),
    "an unknown training": (lambda c: c["studies"]["methods"].update(training=["x"]), "no 'x'; there are ['own', 'batch']"),
    "a misspelt filter": (lambda c: c["studies"]["methods"].update(filters=["PercPs(0.9)"]), "did you mean PercPos"),
    "per cent": (lambda c: c["studies"]["methods"].update(filters=["PercPos(95)"]), "0.95"),
    "an ensemble of one": (lambda c: c["studies"]["methods"].update(samplers=["CrossSample()"]), "with 1 teachers"),
    "several teachers": (lambda c: c["studies"]["methods"].update(teachers=[["toy", "words"]]), "with 2 teachers"),
    "a baseline that is not a row": (lambda c: c["studies"]["methods"].update(baseline="x"), "baseline: no row 'x'"),
    "a figure of the paper for no row": (lambda c: c["studies"]["methods"].update(paper={"x": 1}), "paper: no row 'x'"),
    "an unknown figure": (lambda c: c["studies"]["methods"].update(figures=["pie"]), "no figure 'pie'"),
    "nothing to contrast with": (lambda c: c["studies"]["methods"]["also"].append({"teachers": ["none"]}), "nothing to contrast"),
    "a key of a stage": (lambda c: c["training"]["own"].update(learning_rat=1), "did you mean 'learning_rate'"),
    "a key that cells set": (lambda c: c["training"]["own"].update(seed=1), "seed is set for each cell"),
    "a teacher without a model": (lambda c: c["teachers"].update(toy={}), "expected a mapping with model"),
    "an option of mining": (lambda c: c["mining"].update(filters=[]), "mining: unknown key 'filters'"),
    "two sets of one name": (lambda c: c["train"].append(c["train"][0]), "give each its own"),
    "no path": (lambda c: c["evaluate"][0].pop("path"), "evaluate.0: path is missing"),
    "a measure": (lambda c: c.update(measure="ndgc@10"), "no measure 'ndgc@10'"),
    "windows without parts": (lambda c: c.update(windows={"sources": ["x"]}), "windows: parts is missing"),
    "wide strides": (lambda c: c.update(windows=WIDE), "stride <= words"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_configuration_is_refused_with_what_is_wrong(config, name):
    spoil, said = BAD[name]
    spoil(config)
    with pytest.raises(InputError) as error:
        config_from(config)
    assert said in str(error.value)


def test_a_file_that_is_no_yaml_is_refused(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("studies: [")
    assert script().main(["--config", str(tmp_path / "bad.yaml"), "--output", str(tmp_path / "out")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Windows


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 9), st.data())
def test_windows_cover_a_text_in_steps(words, size, data):
    stride = data.draw(st.integers(1, size))
    windows = [window.split() for window in cut(" ".join(words), size, stride)]
    assert windows[0] == words[:size] and windows[-1] == words[-size:]
    assert all(len(window) == min(size, len(words)) for window in windows)
    assert len(windows) == 1 + max(0, -(-(len(words) - size) // stride))
    for number, window in enumerate(windows[:-1]):
        assert window == words[number * stride : number * stride + size]


@pytest.fixture(scope="module")
def squad(tmp_path_factory) -> Path:
    """A set in SQuAD's form: 6 articles of 2 passages, each with a question on its 11th word and one that is ambiguous."""
    folder = tmp_path_factory.mktemp("squad")
    rng = np.random.default_rng(0)
    for part in ("train", "dev"):
        passages, pairs = [], []
        for number in range(12):
            words = [f"w{w}" for w in rng.integers(0, 10_000, 40)]
            words[10], words[20], words[30] = f"answer{number}", "twice", "twice"
            passages.append({"id": f"{part}{number}", "title": f"t{number // 2}", "text": "  ".join(words)})
            for answer in (f"answer{number}", "twice"):
                pairs.append(
                    {"id": f"q{len(pairs)}", "query": f" {answer}? ", "positive_id": f"{part}{number}", "title": f"t{number // 2}",
                     "answers": [answer]}
                )  # fmt: skip
        Dataset.from_list(passages).to_parquet(folder / f"{part}_corpus.parquet")
        Dataset.from_list(pairs).to_parquet(folder / f"{part}_pairs.parquet")
    return folder


WINDOWS = WindowSettings((Part("train", "train", 3, 100), Part("dev", "dev", 2, 100), Part("test", "dev", 3, 4)), 12, 4)


def test_windows_are_judged_by_their_answers_and_parts_share_no_article(squad, tmp_path):
    write_windows(WINDOWS, ["nowhere", str(squad)], tmp_path / "w")
    texts = {}
    for part in ("train", "dev", "test"):
        read = {
            n: Dataset.from_parquet(str(tmp_path / "w" / part / f"{n}.parquet"))
            for n in ("corpus", "queries", "qrels", "visible")
        }
        documents = dict(zip(read["corpus"]["id"], read["corpus"]["text"], strict=True))
        texts[part] = set(documents.values())
        judged: dict[str, set[str]] = {}
        for query, document in zip(read["qrels"]["query_id"], read["qrels"]["doc_id"], strict=True):
            judged.setdefault(query, set()).add(document)
        for query, text in zip(read["queries"]["id"], read["queries"]["text"], strict=True):
            answer = text.rstrip("?")
            assert answer.startswith("answer")  # the ambiguous ones are left out
            assert judged[query] == {i for i, window in documents.items() if answer in window.split()}
            assert len(judged[query]) == 3  # word 11 is in windows 0, 1 and 2
        assert [
            q for q, d in zip(read["visible"]["query_id"], read["visible"]["doc_id"], strict=True) if d not in judged[q]
        ] == []
        assert read["visible"]["query_id"][:] == read["queries"]["id"][:]
        assert len(read["queries"]) == {"train": 6, "dev": 4, "test": 4}[part]
    assert not texts["dev"] & texts["test"]


def test_windows_are_cut_once_and_not_mixed_with_others(squad, tmp_path):
    write_windows(WINDOWS, [str(squad)], tmp_path / "w")
    write_windows(WINDOWS, ["nowhere"], tmp_path / "w")
    with pytest.raises(InputError, match="cut in another way"):
        write_windows(WindowSettings(WINDOWS.parts, 12, 3), [str(squad)], tmp_path / "w")
    with pytest.raises(InputError, match="SQuAD is in none of"):
        write_windows(WINDOWS, [str(tmp_path)], tmp_path / "v")
    with pytest.raises(InputError, match="3 articles, 2 are left"):
        write_windows(
            WindowSettings((Part("a", "dev", 4, 9), Part("b", "dev", 3, 9)), 12, 4), [str(squad)], tmp_path / "v"
        )
    assert not (tmp_path / "v").exists()


# Running


def run(config: dict, folder: Path, *more: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return script().main(["--config", str(folder / "config.yaml"), "--output", str(folder / "out"), *more])


def report(folder: Path) -> dict:
    return json.loads((folder / "out" / "report" / "micro" / "ablation.json").read_text())


def scores(folder: Path) -> dict[str, list[float]]:
    files = sorted((folder / "out" / "cells").glob("*.json"))
    return {file.stem: json.loads(file.read_text())["collections"]["sample"]["scores"] for file in files}


def test_a_micro_grid_from_end_to_end(config, tmp_path, capsys):
    config["training"]["bag"] = {**config["training"]["batch"], "model": "embedded", "bag_of_words": True}
    config["studies"]["methods"]["also"] = []
    config["studies"]["teachers"] = {
        "teachers": ["words", "none"], "filters": ["PercPos(0.9)"], "num_negatives": [2], "training": ["bag"],
        "seeds": [1], "baseline": IN_BATCH_ONLY, "figures": ["differences"],
    }  # fmt: skip
    assert run(config, tmp_path, "--dry-run") == 0
    assert "6 of 6 different cells" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert run(config, tmp_path) == 0
    made = report(tmp_path)
    methods, teachers = made["studies"]
    assert [row["label"] for row in methods["rows"]] == ["naive", "PercPos(0.9)"]
    assert methods["cells"] == {"done": 4, "all": 4}
    naive, perc = methods["rows"]
    assert naive["mining"]["false_negative_rate"] > perc["mining"]["false_negative_rate"] > 0
    assert len(perc["collections"]["sample"]["seed_means"]) == 2
    assert {row["label"]: len(row["seeds"]) for row in teachers["rows"]} == {"PercPos(0.9)": 1, IN_BATCH_ONLY: 1}
    names = {path.name for path in (tmp_path / "out" / "report" / "micro").glob("*.png")}
    assert names == {
        "methods-differences.png",
        "methods-histograms.png",
        "methods-overlap.png",
        "teachers-differences.png",
    }
    text = (tmp_path / "out" / "report" / "micro" / "ablation.md").read_text()
    assert all(f"({name})" in text for name in names) and "Kendall's tau" in text
    record = json.loads(next((tmp_path / "out" / "cells").glob("*.json")).read_text())
    assert {"cell", "teachers", "training", "mining", "machine", "versions", "seconds", "collections"} <= set(record)
    assert not list((tmp_path / "out" / "work").iterdir())
    capsys.readouterr()
    assert run(config, tmp_path, "--dry-run") == 0
    assert "0 of 6 different cells and 0 minings are left: 0 h 0 min" in capsys.readouterr().out


@pytest.mark.matrix
def test_a_killed_run_goes_on_and_ends_with_the_same_table(config, tmp_path, monkeypatch):
    config["studies"]["methods"] |= {"seeds": [1], "figures": []}
    assert run(config, tmp_path / "whole", "--no-figures") == 0

    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(killed / "config.yaml"), "--output", str(killed / "out"), "--no-figures"]
    process = subprocess.Popen(
        [sys.executable, str(RECIPES / "run.py"), *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while len(list((killed / "out" / "cells").glob("*.json"))) < 1 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in (killed / "out" / "cells").glob("*.json")}
    assert 1 <= len(finished) < 3

    trained = []
    train = Cells._train
    monkeypatch.setattr(Cells, "_train", lambda self, *args: trained.append(args) or train(self, *args))
    assert script().main(arguments) == 0
    assert len(trained) == 3 - len(finished)
    assert all(path.stat().st_mtime_ns == at for path, at in finished.items())
    assert scores(killed) == scores(tmp_path / "whole")
    assert report(killed)["studies"] == report(tmp_path / "whole")["studies"]


@pytest.mark.matrix
def test_cells_do_not_depend_on_their_order_or_on_what_ran_before(config, tmp_path):
    found = []
    for number, backwards in enumerate((False, True)):
        cells = Cells(config_from(config), tmp_path / str(number))
        cells.mined.mine_all()
        digests = list(cells.config.cells)[:2]
        for digest in reversed(digests) if backwards else digests:
            cells.run(digest)
        found.append({digest: record["collections"] for digest, record in cells.done.items()})
    assert found[0] == found[1]
    first, second = (record["sample"]["scores"] for record in found[0].values())
    assert first != second  # another seed is another model


def test_a_cell_that_cannot_be_trained_is_a_result(config, tmp_path):
    config["studies"]["methods"] |= {"filters": ["naive", "MaxScore(-1)"], "paper": {}, "also": [], "seeds": [1]}
    assert run(config, tmp_path, "--no-figures") == 0
    (table,) = report(tmp_path)["studies"]
    assert [row["label"] for row in table["rows"]] == ["naive"]
    assert "negatives" in table["failed"]["MaxScore(-1.0)"]
    assert "MaxScore(-1.0): not trained" in (tmp_path / "out" / "report" / "micro" / "ablation.md").read_text()


def test_rows_that_stay_short_are_counted_and_left_out(config, tmp_path):
    config["studies"]["methods"] |= {"teachers": ["words"], "filters": ["PercPos(0.5)"], "paper": {}, "also": []}
    mined = MinedSets(config_from(config), tmp_path)
    (mining,) = mined.config.minings().values()
    pairs = mined.sets[0].pairs
    odd = pairs.map(lambda row, at: row if at % 3 else {"query": f"qqqxyz{at}"}, with_indices=True)
    mined.sets[0] = dataclasses.replace(mined.sets[0], pairs=odd)
    mined.mine_all()  # no document lies below the 0 of a query whose words nobody has
    rows, told = Dataset.from_parquet(str(mined.training_file(mining, "sample"))), mined.statistics(mining)["sample"]
    assert told["rows"] == len(pairs) == len(mined.read(mining, "sample"))
    assert told["short_rows"] == len(pairs) - len(rows) >= len(pairs) // 3
    assert {len(negatives) for negatives in rows["negatives"]} == {2}
    assert not any(query.startswith("qqqxyz") for query in rows["query"])


def test_only_some_studies(config, tmp_path, capsys):
    assert run(config, tmp_path, "--only", "method") == 2
    assert "the studies are ['methods']" in capsys.readouterr().err


def test_false_negatives_are_counted_by_judgements_that_mining_does_not_see(config, tmp_path):
    training_set = load_training_set(config["train"][0], tmp_path)
    first = training_set.pairs[0]
    other = sorted(training_set.judgements.relevant[first["query_id"]])
    texts = training_set.corpus.texts(training_set.corpus.rows_of_ids(other)).to_pylist()
    hidden = [text for text in texts if text != first["positive"]]
    assert len(hidden) == 1
    wrong = training_set.pairs[1]["positive"]
    mined = Dataset.from_list(
        [{**first, "negatives": [hidden[0], wrong]}, {**training_set.pairs[1], "negatives": [first["positive"]]}]
    )
    assert training_set.false_negatives(mined) == pytest.approx(1 / 3)


def test_a_bag_of_words_is_the_mean_of_its_word_embeddings(tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = changed_student(str(tiny_model(tmp_path / "tiny")), tmp_path / "students", bag_of_words=True)
    assert changed_student(str(tmp_path / "tiny" / "st"), tmp_path / "students", bag_of_words=True) == folder
    model = SentenceTransformer(str(folder), device="cpu")
    assert len(model[0].auto_model.encoder.layer) == 0
    embeddings = model[0].auto_model.embeddings
    ids = model.tokenizer("w1 w2 w3", return_tensors="pt")["input_ids"]
    expected = embeddings(input_ids=ids)[0].mean(dim=0).detach().numpy()
    np.testing.assert_allclose(model.encode("w1 w2 w3"), expected, rtol=1e-5, atol=1e-6)
    prompted = changed_student(str(tmp_path / "tiny" / "st"), tmp_path / "students", prompts={"query": "w9 "})
    assert SentenceTransformer(str(prompted), device="cpu").prompts["query"] == "w9 "


# Tables


def made_up(config: dict, seeds: int, queries: int = 60) -> tuple:
    """A study of five rows with made-up results: two far apart, two close to each other."""
    config["studies"] = {
        "made": {
            "teachers": ["toy"], "filters": ["naive", "PercPos(0.9)", "PercPos(0.95)", "MarginPos(0.1)", "MaxScore(0.7)"],
            "training": ["own"], "seeds": list(range(seeds)), "source": "Table 3",
            "paper": {"naive": 0.1, "MaxScore(0.7)": 0.2, "PercPos(0.9)": 0.3, "PercPos(0.95)": 0.4},
        }
    }  # fmt: skip
    read = config_from(config)
    (study,) = read.studies
    rng = np.random.default_rng(7)
    base = rng.uniform(0, 1, queries)
    shifts = dict(zip((row.label for row in study.rows), (0.0, 0.2, 0.205, 0.1, 0.3), strict=True))
    ids = [f"q{i}" for i in range(queries)]
    records, systems = {}, {}
    for row in study.rows:
        systems[row.label] = (
            base + shifts[row.label] + rng.normal(0, 0.1, (seeds, queries)) + rng.normal(0, 0.02, (seeds, 1))
        )
        for cell, values in zip(row.cells, systems[row.label], strict=True):
            records[read.digest(cell)] = {
                "cell": {"mining": {}}, "mining": {"sample": {"false_negative_rate": 0.25, "hardness": 0.5, "short_rows": 0}},
                "collections": {"sample": {"query_ids": ids, "scores": values.tolist(), "means": {}}},
            }  # fmt: skip
    return read, study, records, systems


def holm_by_hand(p: list[float]) -> list[float]:
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, p[at] * (len(p) - rank)))
        adjusted[at] = highest
    return adjusted


def test_the_table_of_one_seed_is_scipy_s_t_test_with_holm_s_correction(config):
    read, study, records, systems = made_up(config, seeds=1)
    table = study_table(read, study, records, draws=500)
    rows = table["rows"][1:]
    found = [row["collections"]["sample"]["comparison"] for row in rows]
    p = [float(stats.ttest_rel(systems[row["label"]][0], systems["naive"][0]).pvalue) for row in rows]
    np.testing.assert_allclose([f["p_value"] for f in found], p, rtol=1e-9)
    np.testing.assert_allclose([f["adjusted_p"] for f in found], holm_by_hand(p), rtol=1e-9)
    for row, comparison in zip(rows, found, strict=True):
        difference = systems[row["label"]][0] - systems["naive"][0]
        assert comparison["difference"] == pytest.approx(difference.mean())
        assert comparison["effect_size"] == pytest.approx(difference.mean() / difference.std(ddof=1))
        assert row["average"] == pytest.approx(systems[row["label"]].mean())


def test_the_table_of_several_seeds_has_intervals_of_both_levels(config):
    """Against a simple estimate: variance of seed means of both systems plus that of queries, less the noise in both."""
    read, study, records, systems = made_up(config, seeds=4)
    table = study_table(read, study, records, draws=4000)
    assert table["rows"][0]["collections"]["sample"]["seed_means"] == pytest.approx(
        systems["naive"].mean(axis=1).tolist()
    )
    for row in table["rows"][1:]:
        a, b = systems["naive"], systems[row["label"]]
        queries = (b.mean(axis=0) - a.mean(axis=0)).var(ddof=1) / a.shape[1]
        seeds = sum(s.mean(axis=1).var(ddof=1) / len(s) for s in (a, b))
        noise = sum(
            (s - s.mean(0) - s.mean(1, keepdims=True) + s.mean()).var(axis=1, ddof=1).sum()
            / s.shape[1]
            / (len(s) * (len(s) - 1))
            for s in (a, b)
        )
        found = row["collections"]["sample"]["comparison"]
        assert found["difference"] == pytest.approx(b.mean() - a.mean())
        half = (found["high"] - found["low"]) / 2
        error = np.sqrt(queries + seeds)
        assert np.sqrt(queries + seeds - noise) * 1.96 < half * 1.02 and half < 4.0 * error
        assert row["mining"] == {"false_negative_rate": 0.25, "hardness": 0.5, "short_rows": 0.0}
    adjusted = [row["collections"]["sample"]["comparison"] for row in table["rows"][1:]]
    np.testing.assert_allclose([c["adjusted_p"] for c in adjusted], holm_by_hand([c["p_value"] for c in adjusted]))


def test_the_order_is_kendall_s_tau_and_pairs_say_what_differs(config):
    read, study, records, systems = made_up(config, seeds=3)
    order = study_table(read, study, records, draws=2000)["order"]
    labels = list(study.paper)
    ours = {label: systems[label].mean() for label in labels}
    agreeing = [(ours[a] < ours[b]) for a, b in itertools.combinations(sorted(labels, key=study.paper.get), 2)]
    assert order["tau"] == pytest.approx((sum(agreeing) - (len(agreeing) - sum(agreeing))) / len(agreeing))
    assert order["paper"] == ["naive", "MaxScore(0.7)", "PercPos(0.9)", "PercPos(0.95)"]
    assert order["ours"][0] == "naive" and order["ours"][-1] == "MaxScore(0.7)"
    verdicts = {(p["worse"], p["better"]): p["verdict"] for p in order["pairs"]}
    assert verdicts["naive", "PercPos(0.95)"] == "agrees"
    assert verdicts["MaxScore(0.7)", "PercPos(0.9)"] == "contradicts"
    assert verdicts["PercPos(0.9)", "PercPos(0.95)"] == "open"
    assert len(order["pairs"]) == 6


def test_the_interval_of_a_mean_is_the_bootstrap_s(config):
    values = np.random.default_rng(3).normal(0.5, 0.2, (1, 400))
    low, high = mean_interval(values)
    error = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.004)


def test_the_markdown_says_what_is_open_and_what_is_not_done(config):
    read, study, records, _ = made_up(config, seeds=2)
    text = markdown(study_table(read, study, records, draws=500))
    assert "| `naive` |" in text and "25.0%" in text and "0.4000" in text and "cells are done" not in text
    rest = dict(list(records.items())[:-1])
    text = markdown(study_table(read, study, rest, draws=500))
    assert "9 of 10 cells are done" in text
    assert "No cell is done yet" in markdown(study_table(read, study, {}))


def test_cells_of_other_queries_are_refused(config):
    _, _, records, _ = made_up(config, seeds=2)
    check_same_queries(records)
    last = records[list(records)[-1]]["collections"]["sample"]
    last["query_ids"] = last["query_ids"][::-1]
    with pytest.raises(InputError, match="other queries of 'sample'"):
        check_same_queries(records)
