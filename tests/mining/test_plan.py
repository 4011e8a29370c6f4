"""The plan of a job: what it counts, what it refuses, and how it reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from hf_posmine import Corpus, PercPos, PositiveAwareMiner
from hf_posmine.cli import limits
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.data.plain_table import PlainTable
from hf_posmine.mining.execution import plan as module
from hf_posmine.mining.execution.plan import JobEstimate, Step, plan_mining
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.teachers.spellings import Dense
from hf_posmine.teachers.unloaded import ModelFacts, UnloadedTeacher
from hf_posmine.utils.memory import parse_size
from hf_posmine.utils.threads import num_threads
from tests.conftest import SAMPLE, ToyModel
from tests.support import tiny
from tests.support.distributed import tiny_model

PAIRS = {"query": [f"question {n % 90}" for n in range(100)], "positive": [f"answer number {n}" for n in range(100)]}
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _short_probes(fresh_home, monkeypatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(module, "PROBE_DOCUMENTS", (256, 1024))


@pytest.fixture
def miner():
    corpus = Corpus.from_texts([f"document number {n}" for n in range(300)])
    return PositiveAwareMiner.from_dataset(
        Dataset.from_dict(PAIRS),
        ToyModel(),
        corpus=corpus,
        teacher_options={"fingerprint": "toy", "shard_rows": 64},
        filters=[PercPos(0.95)],
    )


def steps(plan: JobEstimate) -> dict[str, Step]:
    return {f"{step.name} {step.amount.split(' ', 1)[-1]}": step for step in plan.steps}


def test_it_counts_what_is_to_be_encoded_searched_and_written(miner):
    plan = plan_mining(miner, 100)
    documents, queries, search, rows = plan.steps
    assert (documents.amount, queries.amount) == ("400 documents", "90 queries")
    assert documents.writes == 400 * 16 * 4 and queries.writes == 90 * 16 * 4
    assert (search.amount, search.reads) == ("100 x 300, d = 16", 300 * 16 * 4)
    assert rows.amount == "100 rows" and rows.writes > 100 * 4 * 16
    assert all(step.seconds > 0 for step in plan.steps)
    assert plan.writes == sum(step.writes for step in plan.steps)
    assert plan.holds == plan.program + max(step.holds for step in plan.steps) > plan.program > 10 * MIB


def test_what_the_store_holds_is_not_counted_again(miner):
    miner.prepare()
    documents, queries, *_ = plan_mining(miner, 100).steps
    assert documents.amount == "0 documents (400 stored already)" and queries.amount == "0 queries (90 stored already)"
    assert documents.seconds == queries.seconds == documents.writes == documents.reads == 0
    folder = miner.teachers[0].embeddings.store.folder(miner.teachers[0].model.keys["document"], miner.corpus.parts[0])
    (folder / "shard-000001.safetensors").unlink()
    documents = plan_mining(miner, 100).steps[0]
    assert documents.amount == "64 documents (336 stored already)"


def test_a_stream_that_does_not_say_its_rows_and_teachers_that_cannot_be_tried(miner):
    plan = plan_mining(miner, None)
    assert plan.steps[2].amount == "0 x 300, d = 16"
    assert "does not say how many rows" in str(plan)
    random = PositiveAwareMiner.from_dataset(Dataset.from_dict(PAIRS), "random", filters=())
    plan = plan_mining(random, 100)
    assert plan.steps[0].seconds is None
    assert "is not estimated" in str(plan) and "?" in str(plan)


def test_the_search_fits_the_memory_that_is_allowed(miner, monkeypatch):
    taken = plan_mining(miner, 100).program
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", str(taken + 40 * MIB))
    plan = plan_mining(miner, 100)
    assert plan.steps[2].holds < 40 * MIB
    assert plan.limit == taken + 40 * MIB
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", str(taken // 2))
    with pytest.raises(InputError, match=r"is too small: .* allow \d+MiB"):
        plan_mining(miner, 100)


def plan_of(**changes) -> JobEstimate:
    steps = (
        Step("encode", "5 documents", 10, 300 * MIB, 2000 * MIB, 7.0),
        Step("search on cpu", "1 x 5", seconds=None),
    )
    usual = {"program": 500 * MIB, "limit": None, "free": 4 << 40, "place": "/data", "batch_size": 1}
    return JobEstimate(**{"steps": steps, **usual, **changes})


def test_a_plan_that_cannot_work_says_what_is_missing():
    assert plan_of().check() == plan_of()
    with pytest.raises(InputError, match=r"writes about 2.0 GiB and /data has 1.0 GiB left; free some"):
        plan_of(free=1 << 30).check()
    with pytest.raises(InputError, match=r"needs about 800.0 MiB of memory.* 500.0 MiB, and 700.0 MiB are") as error:
        plan_of(limit=700 * MIB).check()
    enough = parse_size(str(error.value).rsplit(" ", 1)[1])
    assert plan_of(limit=enough).check()


def test_a_plan_reads_as_a_table_and_as_a_line():
    lines = str(plan_of(limit=1 << 30, notes=("A note.",))).splitlines()
    assert [word in lines[4] for word in ("encode", "5 documents", "10 B", "300.0 MiB", "2.0 GiB", "7 s")] == [True] * 6
    total = next(line for line in lines if "in all" in line)
    assert [word in total for word in ("of 1.0 GiB allowed", "800.0 MiB", "2.0 GiB", "7 s")] == [True] * 4
    assert lines[-1] == "A note."
    assert max(map(len, lines)) <= 120
    short = "Plan: encode 5 documents (7 s); search on cpu 1 x 5 (?); 800.0 MiB of memory, 2.0 GiB of disk"
    assert plan_of().short() == short


def test_the_command_line_plans_and_does_nothing(tmp_path, capsys, fresh_home):
    arguments = [str(SAMPLE), "--teacher", "embedded", "--output", str(tmp_path / "mined"), "--plan", "--quiet"]
    assert main(["mine", *arguments]) == 0
    said = capsys.readouterr().out
    assert "340 documents" in said and "171 x 340, d = 384" in said
    assert not (tmp_path / "mined").exists()
    assert not list(fresh_home.rglob("shard-*"))


@pytest.mark.parametrize("option", ["--max-memory", "--max-gpu-memory"])
def test_limits_that_are_no_sizes_name_the_option(option, tmp_path, capsys):
    assert main(["mine", str(SAMPLE), "--output", str(tmp_path / "x"), option, "lots"]) == 2
    assert f"{option}='lots' is not a size" in capsys.readouterr().err


def test_a_limit_reaches_workers_by_the_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_POSMINE_MAX_MEMORY", "1TiB")  # so that the test takes it back
    arguments = [
        str(SAMPLE),
        "--teacher",
        "embedded",
        "--output",
        str(tmp_path / "x"),
        "--max-memory",
        "20MiB",
        "--quiet",
    ]
    assert main(["mine", *arguments]) == 2
    assert "a memory limit of 20.0 MiB is too small" in capsys.readouterr().err


def test_only_long_jobs_are_announced(miner, monkeypatch, capsys):
    rows = Dataset.from_dict(PAIRS)
    monkeypatch.setattr(limits, "make_plan", None)  # not even tried
    limits.announce(miner, rows, 10)
    monkeypatch.undo()
    monkeypatch.setattr(limits, "LONG_TEXTS", 10)
    monkeypatch.setattr(module, "LONG_SECONDS", 0)
    limits.announce(miner, rows, 10)
    assert capsys.readouterr().out.startswith("Plan: encode 400 documents (")


def test_threads_are_counted_without_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert num_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert num_threads() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert num_threads() == os.cpu_count()


def test_batches_give_every_core_a_span():
    assert 1000 <= module.suited_batch() <= 5000
    assert np.issubdtype(type(module.suited_batch()), np.integer) or isinstance(module.suited_batch(), int)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Files of a model with prompts, a dense layer and weights in two files."""
    from sentence_transformers.sentence_transformer.modules import Dense as Layer
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = tmp_path_factory.mktemp("facts")
    loaded = SentenceTransformer(str(tiny_model(folder)), device="cpu", prompts={"query": "q: ", "passage": "d: "})
    layers = [loaded[0], Pooling(16, pooling_mode=("mean", "max")), Layer(32, 24)]
    whole = SentenceTransformer(modules=layers, device="cpu", prompts=loaded.prompts, similarity_fn_name="dot")
    whole.save(str(folder / "whole"))
    return folder / "whole"


def parquet(folder, **columns):
    for name, values in columns.items():
        pq.write_table(pa.table(values), folder / f"{name}.parquet")


@pytest.fixture
def files(tmp_path):
    """Pairs by id and a corpus, with documents that are one, and queries that come again."""
    documents = [f"document number {n % 280}" for n in range(300)]
    parquet(
        tmp_path,
        corpus={"id": [f"d{n}" for n in range(300)], "title": ["A title"] * 300, "text": documents},
        pairs={"query": PAIRS["query"], "positive_id": [f"d{n}" for n in range(100)]},
    )
    return tmp_path


def planned(files, *more: str) -> list[str]:
    arguments = [
        str(files / "pairs.parquet"),
        "--corpus",
        str(files / "corpus.parquet"),
        "--output",
        str(files / "mined"),
    ]
    return ["mine", *arguments, "--positive-id-column", "positive_id", "--device", "cpu", "--plan", *more]


def test_a_plan_of_a_dense_teacher_imports_no_library_of_models(files, model):
    code = """
import json, sys
from hf_posmine.cli.main import main
assert main(json.loads(sys.argv[1])) == 0
heavy = ("torch", "transformers", "sentence_transformers", "datasets", "numba")
found = [name for name in heavy if name in sys.modules]
assert not found, found
"""
    words = json.dumps(planned(files, "--teacher", str(model)))
    done = subprocess.run([sys.executable, "-c", code, words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "280 documents" in done.stdout and "90 queries" in done.stdout and "100 x 280, d = 24" in done.stdout
    assert "follow from the tokens of 256 of 280 documents and 90 of 90 queries" in done.stdout


def test_facts_of_a_model_are_those_of_the_loaded_one(model, embedded_model, tmp_path):
    for name, loaded in ((str(model), SentenceTransformer(str(model), device="cpu")), ("embedded", embedded_model)):
        facts, teacher = ModelFacts.of(Dense(name)), DenseTeacher(name, Corpus.from_texts(["a"]), store=tmp_path)
        assert facts.dimensions == loaded.encode("a").shape[0]
        assert facts.tokens == dict.fromkeys(("query", "document"), loaded.max_seq_length)
        assert (facts.similarity, facts.prompts) == (teacher.similarity, teacher.model.prompts)
        assert (facts.name, facts.commit) == (teacher.name, teacher.model.commit)
        backbone = loaded[0].auto_model
        assert facts.weights == sum(w.numel() for w in backbone.encoder.parameters() if w.ndim > 1)
        held = 4 * sum(w.numel() for w in backbone.parameters())
        assert held <= facts.size < 1.01 * held + 4096
    spec = Dense(str(model), query_prompt="", document_prompt="x ", similarity="cosine", max_length=8, truncate_dim=7)
    facts = ModelFacts.of(spec)
    assert (facts.dimensions, facts.similarity, facts.prompts) == (7, "cosine", {"query": "", "document": "x "})
    text, width = "[UNK] " * 50, 2 * facts.weights * 8 + 4 * 2 * 16 * 64
    assert facts.operations([text, text], "query") == width  # cut to 8 tokens, in two layers of 16 dimensions


def test_weights_in_several_files_count_together(model, tmp_path):
    from safetensors.numpy import load_file, save_file

    whole = ModelFacts.of(Dense(str(model)))
    shutil.copytree(model, tmp_path / "split")
    file = tmp_path / "split" / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    names = sorted(tensors)
    weight_map = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for part in sorted(set(weight_map.values())):
        save_file({name: tensors[name] for name in names if weight_map[name] == part}, file.with_name(part))
    file.with_name("model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    split = ModelFacts.of(Dense(str(tmp_path / "split")))
    assert (split.weights, split.size, split.dimensions) == (whole.weights, whole.size, 24)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"num_experts": 8}),
        ("config.json", {"is_encoder_decoder": True}),
        ("config.json", {"hidden_size": None}),
        ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "custom.Transformer"}]),
        ("model.safetensors", None),
        ("tokenizer.json", None),
    ],
)
def test_a_model_whose_files_leave_its_work_open_has_no_facts(model, tmp_path, file, change):
    shutil.copytree(model, tmp_path / "other")
    path = tmp_path / "other" / file
    if change is None:
        path.unlink()
    else:
        read = json.loads(path.read_text())
        path.write_text(json.dumps({**read, **change} if isinstance(change, dict) else change))
    assert ModelFacts.of(Dense(str(tmp_path / "other"))) is None


def test_a_static_model_is_loaded_and_one_of_another_kind_refused(tmp_path):
    assert ModelFacts.of(Dense(str(tiny.static(tmp_path / "static")))) is None
    with pytest.raises(InputError, match="was saved as a CrossEncoder"):
        ModelFacts.of(Dense(str(tiny.cross(tmp_path / "cross"))))


def test_a_plan_without_weights_counts_as_one_with_them(files, model, capsys, monkeypatch):
    estimates = []
    monkeypatch.setattr("hf_posmine.cli.mine.show", estimates.append)
    for more in ([], ["--max-memory", "1TiB"]):  # with a limit, what the program holds is measured
        assert main(planned(files, "--teacher", str(model), *more)) == 0
    monkeypatch.delenv("HF_POSMINE_MAX_MEMORY", raising=False)
    fast, tried = estimates
    assert [step.about for step in fast.steps] == [True, True, True, False] and not any(s.about for s in tried.steps)
    for one, other in zip(fast.steps, tried.steps, strict=True):
        assert (one.name, one.amount, one.reads, one.writes) == (other.name, other.amount, other.reads, other.writes)
    assert "in all" in str(fast) and "about" in str(fast) and "about" not in str(tried)
    assert "about under" not in str(fast) and "under 1 s" in str(fast)
    assert all(step.seconds > 0 for step in fast.steps) and fast.program > 400 * MIB


def test_what_is_stored_goes_by_the_name_of_the_model(files, model, monkeypatch):
    estimates = []
    monkeypatch.setattr("hf_posmine.cli.mine.show", estimates.append)
    corpus = Corpus.from_files(files / "corpus.parquet")
    DenseTeacher(str(model), corpus, shard_rows=64).prepare()
    next(corpus.parts[0].path.parents[1].rglob("shard-000001*")).unlink()
    assert main(planned(files, "--teacher", str(model))) == 0
    assert main(planned(files, "--teacher", str(model), "--document-prompt", "other")) == 0
    stored, other = estimates
    assert stored.steps[0].amount == "64 documents (216 stored already)" and "was not compared" not in str(other)
    assert other.steps[0].amount == "280 documents" and "its weights were not compared" in str(stored)


def test_a_plan_refuses_what_mining_would(files, model, capsys):
    assert main(planned(files, "--teacher", str(model), "--filters", "SkipTop(500)")) == 2
    assert "begin at rank 500" in capsys.readouterr().err
    parquet(files, pairs={"query": ["a", "b"], "positive_id": ["d1", "lost"]})
    assert main(planned(files, "--teacher", str(model))) == 2
    assert "name document ids that the corpus lacks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "plain"),
    [
        ({"a": ["x"], "b": [1], "c": [["x", "y"]], "d": [0.5]}, True),
        ({"a": [None, "x"]}, False),
        ({"a": [[]], "b": ["x"]}, False),
        ({"a": [{"text": "x"}]}, False),
        ({"a": [b"image"]}, False),
    ],
)
def test_a_table_is_read_plainly_only_where_a_row_shows_what_columns_hold(tmp_path, columns, plain):
    parquet(tmp_path, rows=columns)
    table = PlainTable.open(str(tmp_path / "rows.parquet"))
    assert (table is not None) == plain
    if table is not None:
        assert (len(table), table.column_names) == (1, list(columns))
        assert list(table.select_columns(["b", "a"]).iter(10)) == [{"b": [1], "a": ["x"]}]
        assert list(table.remove_columns(["c", "d"])) == [{"a": "x", "b": 1}]


def test_other_files_are_not_read_plainly(tmp_path):
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    (tmp_path / "rows.jsonl").write_text("{}")
    assert not any(PlainTable.open(str(tmp_path / name)) for name in ("damaged.parquet", "rows.jsonl", "lost.parquet"))


def test_a_teacher_that_was_not_loaded_is_only_for_plans(files, model):
    corpus = Corpus.from_files(files / "corpus.parquet")
    rows = Dataset.from_parquet(str(files / "pairs.parquet"))
    how = {"corpus": corpus, "positive_id_column": "positive_id", "teacher_options": {"weights": False}}
    miner = PositiveAwareMiner.from_dataset(rows, str(model), **how)
    assert isinstance(miner.teachers[0], UnloadedTeacher)
    assert miner.teachers[0].fingerprint != DenseTeacher(str(model), corpus).fingerprint
