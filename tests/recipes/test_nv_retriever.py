"""NV-Retriever's scripts: each on toy data, what they cost, and the whole recipe from a Hub to its table of results."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, MistralModel

from hf_posmine.cli.main import main as hf_posmine
from hf_posmine.core.errors import InputError
from hf_posmine.evaluation import load_collection
from hf_posmine.evaluation.results import RetrievalResult
from hf_posmine.mining.provenance import read_provenance
from hf_posmine.models import ModelShape
from hf_posmine.training.dataset_rows import load_rows
from hf_posmine.training.dataset_spec import DatasetSpec
from hf_posmine.training.instructions import instruction_for
from hf_posmine.training.recipe import read_recipe
from nv.cost import Texts
from nv.sets import drawn_rows, from_every_file, load_set, part_of
from nv.teacher import load_teacher
from tests.hub.conftest import hub  # noqa: F401 - a fixture
from tests.hub.store import MAIN, File, Repo
from tests.models.conftest import WORDS, sentencepiece

ROOT = Path(__file__).parents[2]
NV = ROOT / "recipes" / "nv_retriever"
SETS = ("SciFact", "SQuAD", "PAQ", "STSBenchmark")
CLASSES = ("Banking77", "Imdb", "ArxivClusteringS2S", "MedrxivClusteringP2P")
SMALL = [
    "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1", "--max_steps", "2", "--warmup_steps", "0",
    "--bf16", "false", "--dtype", "float32", "--use_cpu", "true", "--disable_tqdm", "true", "--save_steps", "9",
]  # fmt: skip


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"recipe_{Path(name).stem}", NV / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# A Hub with toy sets under the names of the real ones


def words(number: int, count: int = 6) -> str:
    return " ".join(np.random.default_rng([number, count]).choice(WORDS.split(), count))


def publish(server, name: str, **splits: Dataset) -> None:
    """A data set on the Hub: ``config__split`` or ``split``, a list of Datasets for several files."""
    repo, files, configs = Repo("datasets", name), {}, {}
    for key, parts in splits.items():
        config, _, split = key.rpartition("__")
        path = f"{config or 'data'}/{split}"
        for number, part in enumerate(parts if isinstance(parts, list) else [parts]):
            buffer = io.BytesIO()
            part.to_parquet(buffer)
            files[f"{path}-{number}.parquet"] = File(buffer.getvalue())
        configs.setdefault(config or "default", []).append({"split": split, "path": f"{path}-*.parquet"})
    card = {"configs": [{"config_name": config, "data_files": parts} for config, parts in configs.items()]}
    files["README.md"] = File(f"---\n{yaml.safe_dump(card)}---\n".encode())
    repo.refs[MAIN] = repo.commit(files, None, "toy", "", name.partition("/")[0]).oid
    server.repos["datasets", name] = repo


def judged(start: int, stop: int) -> Dataset:
    rows = range(start, stop)
    return Dataset.from_dict(
        {"query-id": [f"q{i}" for i in rows], "corpus-id": [f"d{i}" for i in rows], "score": [1] * len(rows)}
    )


@pytest.fixture
def toy_hub(hub, fresh_home):  # noqa: F811
    """The sets of SETS and CLASSES, each some rows long."""
    number = range(40)
    corpus = {
        "_id": [f"d{i}" for i in number],
        "title": [words(i, 2) for i in number],
        "text": [words(i + 1, 8) for i in number],
    }
    queries = {"_id": [f"q{i}" for i in number], "text": [words(i, 5) for i in number]}
    test = judged(24, 40)
    publish(
        hub, "mteb/scifact", corpus__corpus=Dataset.from_dict(corpus), queries__queries=Dataset.from_dict(queries),
        default__train=judged(0, 24), default__test=test,
    )  # fmt: skip
    pairs = {"question": [words(i, 5) for i in number], "context": [f"{words(i + 3, 9)} {i}" for i in number]}
    publish(hub, "rajpurkar/squad", train=Dataset.from_dict(pairs))
    paq = [Dataset.from_dict({"query": [f"{words(i)} {f}" for i in number], "answer": [f"{words(i + f)} {f} {i}" for i in number],
                              "other": [0] * 40}) for f in range(3)]  # fmt: skip
    publish(hub, "sentence-transformers/paq", train=paq)
    sts = {
        "sentence1": [words(i, 4) for i in number],
        "sentence2": [words(i + 1, 4) for i in number],
        "score": [4.5, 3.0] * 20,
    }
    publish(hub, "mteb/stsbenchmark-sts", train=Dataset.from_dict(sts))
    labels = {"text": [f"{words(i, 5)} {i}" for i in number], "label": [i % 4 for i in number]}
    publish(hub, "mteb/banking77", train=Dataset.from_dict(labels))
    publish(hub, "mteb/imdb", train=Dataset.from_dict(labels | {"label": [i % 2 for i in number]}))
    for archive, column in (("arxiv", "categories"), ("biorxiv", "category"), ("medrxiv", "category")):
        papers = {"title": [f"{words(i, 3)} {i}" for i in number], "abstract": [words(i + 2, 9) for i in number]}
        papers[column] = [("cs.IR math.CO", "cs.CL", "q-bio")[i % 3] for i in number]
        publish(hub, f"mteb/raw_{archive}", train=Dataset.from_dict(papers))
        tested = {"sentences": [papers["title"][:4]], "labels": [["x"] * 4]}
        publish(hub, f"mteb/{archive}-clustering-s2s", test=Dataset.from_dict(tested))
    return hub


def mistral(folder: Path, seed: int, **ends: bool) -> Path:
    tokenizer = sentencepiece(**ends)
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id, initializer_range=0.3,
    )  # fmt: skip
    MistralModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory):
    """A decoder to train, and a teacher that pools the end token."""
    folder = tmp_path_factory.mktemp("models")
    student = mistral(folder / "student", 0)
    backbone = Transformer(str(mistral(folder / "backbone", 1, eos=True)))
    pooling = Pooling(backbone.get_embedding_dimension(), "lasttoken")
    SentenceTransformer(modules=[backbone, pooling], device="cpu").save_pretrained(str(folder / "teacher"))
    return folder / "teacher", student


@pytest.fixture
def recipe(toy_models, tmp_path):
    """The recipe's own files, with toy models and without the sets that are not on the toy Hub."""
    teacher, student = toy_models
    changed = {"out/nv_retriever": str(tmp_path / "out"), "intfloat/e5-mistral-7b-instruct": str(teacher)}
    changed |= {
        "mistralai/Mistral-7B-v0.1": str(student),
        "revision: 07163b72af1488142a360786df853f237b1a3ca1": "revision: null",
    }
    folder = tmp_path / "recipe"
    folder.mkdir()
    for file in NV.glob("*.yaml"):
        text = file.read_text()
        for old, new in changed.items():
            text = text.replace(old, new)
        values = yaml.safe_load(text)
        if file.stem in ("stage1", "stage2"):
            values["datasets"] = [entry for entry in values["datasets"] if entry["name"] in SETS + CLASSES]
        if file.stem == "mine":
            values["datasets"] = {name: values["datasets"][name] for name in SETS}
            values["mining"]["filters"] = ["PercPos(0.999)"]  # random weights score all texts alike
        if file.stem == "evaluate":
            values |= {"dtype": "float32", "sets": {"SciFact": {"paper": 81.31, "source": "mteb/scifact"}}}
        (folder / file.name).write_text(yaml.safe_dump(values))
    return folder


def test_the_whole_recipe_from_the_hub_to_the_table(toy_hub, recipe, tmp_path, capsys):
    out = tmp_path / "out"
    mine, clusters, evaluate = (script(name) for name in ("1_mine.py", "2_clusters.py", "5_evaluate.py"))
    mining = ["--config", str(recipe / "mine.yaml"), "--output", str(out / "mined")]

    mine.main([*mining, "--dry-run"])
    planned = capsys.readouterr().out
    assert not out.exists() and "1 mine: 4 sets" in planned and "40 documents of" in planned
    mine.main(mining)
    shown = capsys.readouterr().out
    assert all(name in shown for name in SETS)

    clusters.main(["--config", str(recipe / "clusters.yaml"), "--output", str(out / "clusters")])
    assert {path.name for path in (out / "clusters").iterdir()} == {
        "arxiv.parquet",
        "biorxiv.parquet",
        "medrxiv.parquet",
    }

    stages = [["train", "--config", str(recipe / f"stage{number}.yaml"), *SMALL, "--quiet"] for number in (1, 2)]
    assert hf_posmine([*stages[0], "--dry-run", "--node", "8xA100"]) == 0
    assert re.search(r"work +\d\.\de\+\d\d operations, about .* on 8 A100 of 312 TFLOP/s", capsys.readouterr().out)
    assert [hf_posmine(train) for train in stages] == [0, 0]

    evaluation = [
        "--config",
        str(recipe / "evaluate.yaml"),
        "--model",
        str(out / "stage2"),
        "--output",
        str(out / "results"),
    ]
    evaluate.main([*evaluation, "--dry-run"])
    assert "40 documents of" in capsys.readouterr().out
    evaluate.main(evaluation)
    table = capsys.readouterr().out
    result = RetrievalResult.load(out / "results" / "stage2--SciFact.json")
    assert len(result.query_ids) == 16
    evaluate.main([*evaluation, "--trial", "5"])
    assert len(RetrievalResult.load(out / "results" / "stage2--SciFact--trial-5.json").query_ids) == 5
    assert re.search(rf"SciFact\W+{100 * result.means['ndcg@10']:.2f}\W+81\.31", table)


def test_mined_sets_hold_what_the_stages_read_and_are_left_alone(toy_hub, recipe, tmp_path, monkeypatch):
    mine, out = script("1_mine.py"), tmp_path / "mined"
    arguments = ["SciFact", "STSBenchmark", "--config", str(recipe / "mine.yaml"), "--output", str(out)]
    mine.main(arguments)
    rows = load_rows(DatasetSpec("SciFact", str(out / "SciFact"), "retrieval", instruction=""))
    assert 0 < len(rows) <= 24 and all(len(found) == 5 for found in rows["negatives"])
    texts = {f"{words(i, 2)} {words(i + 1, 8)}" for i in range(40)}
    for row in rows:
        assert set(row["negatives"]) <= texts - {row["positive"]}
        assert all(score < 0.999 * row["positive_score"] for score in row["negatives_scores"])
    before = "Instruct: Given a scientific claim, retrieve documents that support or refute the claim\nQuery: "
    record = read_provenance(out / "SciFact" / "provenance.json")
    assert record.teachers[0].recipe["prompts"] == {"query": before, "document": ""}
    record = read_provenance(out / "STSBenchmark" / "provenance.json")
    assert len(set(record.teachers[0].recipe["prompts"].values())) == 1  # both sides of a symmetric task
    trial = tmp_path / "trial"
    mine.main(["SQuAD", *arguments[2:4], "--output", str(trial), "--trial", "3"])
    record = read_provenance(trial / "SQuAD" / "provenance.json")
    assert record.corpus.documents == 30 and 0 < record.rows["train"].rows <= 3  # short rows are dropped
    monkeypatch.setattr(mine, "load_teacher", lambda options: pytest.fail("nothing is left to mine"))
    mine.main(arguments)


# Reading


def options_of(name: str):
    return yaml.safe_load((NV / "mine.yaml").read_text())["datasets"][name]


def test_rows_are_drawn_before_they_are_mined_and_the_positives_of_the_others_stay_known(toy_hub):
    squad = load_set(options_of("SQuAD"), 10, seed=0)
    assert (len(squad.drawn), len(squad.known), squad.corpus) == (10, 40, None)
    assert set(squad.drawn["query"]) <= set(squad.known["query"])
    assert squad.drawn["query"] == load_set(options_of("SQuAD"), 10, seed=0).drawn["query"]
    scifact = load_set(options_of("SciFact"), 10, seed=0)
    assert (len(scifact.drawn), len(scifact.known), scifact.corpus.num_candidates) == (10, 24, 40)
    by_query = dict(zip(scifact.known["query"], scifact.known["positive"], strict=True))
    assert all(by_query[row["query"]] == row["positive"] for row in scifact.drawn)
    assert scifact.known["positive"][3] == f"{words(3, 2)} {words(4, 8)}"  # title and text


def test_a_trial_is_small_and_holds_the_positives(toy_hub):
    trial = load_set(options_of("SciFact"), 900, seed=0, trial=2)
    assert len(trial.drawn) == 2 and trial.corpus.num_candidates <= 22
    assert (trial.corpus.rows_of_texts(trial.known["positive"]) >= 0).all()
    assert len(load_set(options_of("PAQ"), 900, seed=0, trial=3).known) == 30
    collection = load_collection("mteb/scifact")
    part = part_of(collection, 2)
    assert len(part.scored_queries) == 2 and len(part.corpus) <= 22 and part.lost_positives == 0
    assert all(part.qrels[query] == collection.qrels[query] for query in part.scored_queries)


def test_a_stream_gives_as_many_rows_of_every_file(toy_hub):
    paq = load_set(options_of("PAQ") | {"rows": 30}, 12, seed=0)
    assert (len(paq.known), len(paq.drawn), paq.known.column_names) == (30, 12, ["query", "positive"])
    assert Counter(query[-1] for query in paq.known["query"]) == {"0": 10, "1": 10, "2": 10}
    first = paq.known["query"][:10]
    assert first != [f"{words(i)} 0" for i in range(10)]  # drawn from four times as many


def test_a_stream_is_not_read_to_its_end():
    read = []

    def rows(start):
        for number in range(start, start + 10_000):
            read.append(number)
            yield {"query": number}

    from datasets import IterableDataset

    stream = IterableDataset.from_generator(rows, gen_kwargs={"start": 0})
    assert len(from_every_file(stream, 50, seed=0)) == 50
    assert len(read) <= 4 * 50 + 1


def test_draws_are_in_order_and_without_repeats():
    rows = drawn_rows(1000, 100, seed=3)
    assert len(set(rows.tolist())) == 100 and (np.diff(rows) > 0).all()
    assert drawn_rows(5, 100, seed=3).tolist() == [0, 1, 2, 3, 4]


def test_the_teacher_must_read_the_end_token_that_it_pools(monkeypatch, tmp_path):
    """tokenizer.json of e5-mistral adds no end token; its configuration asks for one, which transformers 5 does not heed."""
    from transformers import AutoTokenizer, LlamaTokenizer

    import nv.teacher

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁a": 3, "a": 4, "▁": 5}
    backend = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    LlamaTokenizer(tokenizer_object=backend, add_bos_token=True, add_eos_token=False).save_pretrained(tmp_path)

    class Model:
        def __init__(self, heed: bool, processor_kwargs: dict[str, bool]) -> None:
            self.tokenizer = AutoTokenizer.from_pretrained(tmp_path, **(processor_kwargs if heed else {}))

    options = {"model": str(tmp_path), "dtype": "float16", "max_length": 4096}
    for heed in (True, False):
        stand_in = lambda name, heed=heed, processor_kwargs=None, **_: Model(heed, processor_kwargs)  # noqa: E731
        monkeypatch.setattr(nv.teacher, "load_model", stand_in)
        if heed:
            assert load_teacher(options).max_seq_length == 4096
        else:
            with pytest.raises(InputError, match="without its first or last token"):
                load_teacher(options)
    assert nv.teacher.load_tokenizer(options)("a")["input_ids"] == [1, 3, 2]


def test_clusters_leave_out_what_mteb_tests(toy_hub, tmp_path, capsys):
    script("2_clusters.py").main(["--output", str(tmp_path), "--trial", "20"])
    for name, label in (("arxiv", "cs.IR"), ("medrxiv", "cs.IR math.CO")):
        rows = Dataset.from_parquet(str(tmp_path / f"{name}.parquet"), cache_dir=str(tmp_path / "cache" / name))
        assert len(rows) == 20 and not {f"{words(i, 3)} {i}" for i in range(4)} & set(rows["title"])
        assert label in rows["label"] and rows[0]["text"].startswith(rows[0]["title"] + " ")
    stage = read_recipe(NV / "stage2.yaml").contrastive.datasets
    needed = {Path(spec.path).name for spec in stage if spec.task == "clustering"}
    assert needed == {path.name for path in tmp_path.glob("*.parquet")}
    assert "20 of 40 papers" in capsys.readouterr().out


# Evaluation


def test_the_paper_s_values_and_tasks_are_table_5_and_mteb_s():
    plan, module = yaml.safe_load((NV / "evaluate.yaml").read_text()), script("5_evaluate.py")
    assert len(plan["sets"]) == 15
    assert round(sum(options["paper"] for options in plan["sets"].values()) / 15, 2) == 60.90  # Table 5's own mean
    tasks = {task: source for name in plan["sets"] for task, source in module.tasks_of(name, plan).items()}
    assert len(tasks) == 14 + 12 and all(source == f"mteb:{task}" for task, source in tasks.items())
    assert all(instruction_for(task) for task in tasks)


def test_each_task_is_measured_once_and_a_set_is_the_mean_of_its_tasks(monkeypatch, tmp_path, capsys):
    module, asked, encoded = script("5_evaluate.py"), [], []

    class Collection:
        def __init__(self, source: str) -> None:
            self.corpus = source

    def measure(model, collection, *, model_name, query_instruction, **_):
        asked.append((collection.corpus, query_instruction))
        return RetrievalResult(
            collection.corpus, model_name, ("1", "2"), {"ndcg@10": np.array([0.5, len(asked) / 100])}
        )

    monkeypatch.setattr(module, "InstructSentenceTransformer", lambda *_, **__: object())
    monkeypatch.setattr(module, "load_collection", Collection)
    monkeypatch.setattr(module, "evaluate_retrieval", measure)
    monkeypatch.setattr(module, "DenseTeacher", lambda model, corpus: corpus)
    monkeypatch.setattr(module, "encode_all", lambda teachers, claims, rank: encoded.append(teachers[0]))
    arguments = ["CQADupstack", "SciFact", "--model", "runs/me", "--output", str(tmp_path)]
    module.main(arguments)
    module.main(arguments)  # reads back
    plan = yaml.safe_load((NV / "evaluate.yaml").read_text())
    wanted = [f"mteb:{task}" for task in [*module.tasks_of("CQADupstack", plan), "SciFact"]]
    assert [source for source, _ in asked] == encoded == wanted
    assert asked[0][1].startswith("Given a question, retrieve detailed question descriptions from Stackexchange")
    first, second = capsys.readouterr().out.split("runs/me")[1:]
    assert first == second
    cells = [re.findall(r"[\d.]+", line) for line in first.splitlines() if re.search(r"CQAD|SciFact|mean", line)]
    assert cells == [["28.25", "49.36"], ["31.50", "81.31"], ["29.88", "65.34"]]


# Cost


def test_the_plan_of_all_steps_follows_from_the_shape_of_mistral(capsys):
    script("0_plan.py").main(["--node", "8x100@0.5"])
    shown = capsys.readouterr().out
    line = re.compile(r"^(\d [a-z]+(?: \d)?|in all) +([\d,.]+) +\d\.\de\+\d\d(?: +\d+ GiB .* ([\d.]+) G tokens)?", re.M)
    steps = line.findall(shown)
    hours = {step: float(value.replace(",", "")) for step, value, _ in steps}
    assert list(hours) == ["1 mine", "3 stage 1", "4 stage 2", "5 evaluate", "in all"]
    # by hand: 6.98e9 weights in 32 layers of 4096 x (2 x 4096 + 2 x 1024 + 3 x 14336), two operations a weight and token
    weights = 32 * 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336)
    tokens = {step: 1e9 * float(count) for step, _, count in steps if count}
    for step, passes in (("1 mine", 1), ("5 evaluate", 1), ("3 stage 1", 3), ("4 stage 2", 3)):
        by_hand = passes * 2 * weights * tokens[step] / (8 * 50e12) / 3600
        assert by_hand < hours[step] < 1.2 * by_hand  # attention and adapters come on top
    assert hours["in all"] == pytest.approx(sum(hours.values()) - hours["in all"], abs=0.3)


def test_the_sizes_are_of_the_sets_of_the_recipe():
    sizes = yaml.safe_load((NV / "sizes.yaml").read_text())
    stage = read_recipe(NV / "stage2.yaml").contrastive.datasets
    mined = {spec.name for spec in stage if "/mined/" in spec.path}
    assert set(sizes["mining"]) == mined == set(yaml.safe_load((NV / "mine.yaml").read_text())["datasets"])
    assert set(sizes["others"]) == {spec.name for spec in stage} - mined
    assert set(sizes["evaluation"]) == set(yaml.safe_load((NV / "evaluate.yaml").read_text())["sets"])


def test_texts_cost_what_each_of_them_costs():
    shape = ModelShape(
        frozen=1000, trained=0, layers=2, hidden=8, attention=8, frozen_bytes=0, trained_bytes=0, itemsize=2
    )
    lengths = np.array([3, 5, 10])
    assert Texts(30, lengths).operations(shape) == 10 * sum(shape.forward(np.array([length])) for length in lengths)
    assert Texts.of_words(7, 100, 1.5, most=120, before=4).lengths.tolist() == [120]


@pytest.mark.matrix
def test_two_processes_share_a_set(toy_hub, recipe, tmp_path):
    def start(output: str, **rank: str) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_POSMINE_HOME": str(tmp_path / f"home-{output}")} | rank
        command = [sys.executable, str(NV / "1_mine.py"), "SciFact", "--config", str(recipe / "mine.yaml")]
        return subprocess.Popen(
            [*command, "--output", str(tmp_path / output)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    values = yaml.safe_load((recipe / "mine.yaml").read_text())
    (recipe / "mine.yaml").write_text(yaml.safe_dump(values | {"batch_size": 5}))
    running = [start("both", RANK=str(number), WORLD_SIZE="2") for number in range(2)] + [start("alone")]
    for process in running:
        shown = process.communicate()[0]
        assert process.returncode == 0, shown
    rows = [
        load_rows(DatasetSpec("SciFact", str(tmp_path / name / "SciFact"), "retrieval", instruction=""))
        for name in ("both", "alone")
    ]
    assert list(rows[0]) == list(rows[1])
    assert json.loads((tmp_path / "both/SciFact/.mining/train.json").read_text())["shards"] == 5
