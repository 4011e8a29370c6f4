"""Recipes: they read, their numbers are the paper's and say so, and the scripts' steps do what they say."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from datasets import Dataset

from hf_posmine.cli.parser import find_verb, parse
from hf_posmine.core.settings import MiningSettings
from hf_posmine.training.blend import load_blend
from hf_posmine.training.recipe import read_recipe

if TYPE_CHECKING:
    from hf_posmine.training.dataset_spec import DatasetSpec

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
NV = RECIPES / "nv_retriever"
STAGES = sorted([*RECIPES.glob("*/stage*.yaml"), *RECIPES.glob("*/rounds.yaml")])
ACCELERATE = sorted((RECIPES / "accelerate").glob("*.yaml"))
PACKAGES = (RECIPES / "ablation" / "ablation", NV / "nv")  # modules of their scripts
SCRIPTS = sorted(path for path in RECIPES.rglob("*.py") if path.parent not in PACKAGES)
RETRIEVAL = {
    "ArguAna": 4_065, "BioASQ": 2_495, "FEVER": 50_000, "FiQA2018": 14_166, "GOOAQ": 20_000, "HotpotQA": 85_000,
    "MS-MARCO": 200_000, "NFCorpus": 3_685, "NLI": 20_000, "NQ": 100_231, "PAQ": 20_000, "SciFact": 919, "SQuAD": 87_599,
    "StackExchange": 100_000, "TriviaQA": 20_000,
}  # fmt: skip
OTHERS = {
    "Banking77": 10_000, "AmazonCounterfactual": 4_018, "AmazonReviews": 20_000, "Emotion": 16_000, "Imdb": 15_000,
    "MTOPIntent": 10_000, "ToxicConversations": 40_000, "TweetSentimentExtraction": 27_481,
    "STS12": 1_868, "STS22": 416, "STSBenchmark": 2_812,
    "ArxivClusteringP2P": 35_000, "ArxivClusteringS2S": 35_000, "BiorxivClusteringP2P": 4_070,
    "BiorxivClusteringS2S": 4_070, "MedrxivClusteringP2P": 1_160, "MedrxivClusteringS2S": 1_160,
}  # fmt: skip
"""Table 9 of the paper; its sums are 728,160 and 228,055."""


def name_of(path: Path) -> str:
    return str(path.relative_to(RECIPES))


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"recipe_{Path(name).stem}", NV / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stage(number: int, *overrides: str):
    return read_recipe(NV / f"stage{number}.yaml", overrides)


def sizes(number: int) -> dict[str, int | None]:
    return {spec.name: spec.max_samples for spec in stage(number).contrastive.datasets}


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_a_stage_is_a_recipe_and_its_trainer_takes_the_arguments(path):
    recipe = read_recipe(path, ["--bf16", "false"] if "bf16" in path.read_text() else [])  # a CPU may have none
    args = recipe.training_arguments()
    assert args.learning_rate == recipe.trainer["learning_rate"]
    assert all(spec.task and spec.text_before for spec in recipe.contrastive.datasets)


@pytest.mark.parametrize("path", sorted(set(RECIPES.glob("*/mine.yaml")) - {NV / "mine.yaml"}), ids=name_of)
def test_a_mining_file_holds_options_of_the_command(path):
    args = parse(find_verb(["mine"]), ["mine", "--config", str(path)])
    MiningSettings(filters=args.filters, sampler=args.sampler, num_negatives=args.num_negatives)


def test_every_yaml_is_of_a_kind_that_is_tested_here():
    scale = RECIPES.glob("scale/*.yaml")  # tests/cli/test_encode_command.py
    ablation = RECIPES.glob("ablation/*.yaml")  # tests/recipes/test_ablation.py
    steps = {NV / f"{name}.yaml" for name in ("clusters", "evaluate", "sizes")}  # test_nv_retriever.py
    questions = {RECIPES / "from_documents" / "questions.yaml"}  # test_from_documents.py
    assert set(RECIPES.rglob("*.yaml")) == {
        *STAGES,
        *RECIPES.glob("*/mine.yaml"),
        *ACCELERATE,
        *scale,
        *ablation,
        *steps,
        *questions,
    }


@pytest.mark.parametrize("path", ACCELERATE, ids=name_of)
def test_accelerate_reads_its_configuration(path):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(path))  # refuses unknown keys, but not those of fsdp_config
    kinds = {"single": ("NO", 1), "ddp": ("MULTI_GPU", 8), "fsdp2": ("FSDP", 8), "deepspeed_zero3": ("DEEPSPEED", 8)}
    assert (config.distributed_type.value, config.num_processes) == kinds[path.stem]
    known = {action.dest for action in launch_command_parser()._actions}
    assert {*config.fsdp_config, *config.deepspeed_config} <= known
    if config.fsdp_config:
        assert "fsdp_transformer_layer_cls_to_wrap" not in config.fsdp_config  # the model's own layers are gathered


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_is_short_documented_and_numbered(path):
    text = path.read_text("utf8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert len(text.splitlines()) <= 150
    numbers = [int(number) for number in re.findall(r"^ *# (\d+)\. ", text, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers or path.parent.name == "jobs"  # one step: the command itself


@pytest.mark.parametrize("path", [path for path in SCRIPTS if "# /// script" in path.read_text()], ids=name_of)
def test_the_inline_requirements_are_those_of_this_package(path):
    tomllib = pytest.importorskip("tomllib")
    block = re.search(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", path.read_text())  # PEP 723
    header = tomllib.loads("".join(line[2:] or "\n" for line in block["content"].splitlines(keepends=True)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = [name for name in header["dependencies"] if name.startswith("hf-posmine")]
    extras = set(re.fullmatch(r"hf-posmine\[(.*)\]", requirement)[1].split(","))
    assert extras <= set(project["optional-dependencies"])
    assert ("train" in extras) == (path.name == "train.py")
    assert header["requires-python"] == project["requires-python"]


def test_train_py_hands_its_arguments_to_the_command(monkeypatch, capsys):
    import runpy

    monkeypatch.setattr("sys.argv", ["train.py", "--config", "nowhere.yaml"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(RECIPES / "train.py"), run_name="__main__")
    assert end.value.code == 2
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("README.md")), ids=name_of)
def test_the_links_of_a_readme_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text("utf8"))
    missing = [link for link in links if not link.startswith("http") and not (path.parent / link).exists()]
    assert links and not missing
    folders = {folder.name for folder in RECIPES.iterdir() if folder.is_dir() and not folder.name.startswith("_")}
    assert path.parent != RECIPES or folders <= set(links)


def test_the_samples_are_those_of_table_9_and_the_readme_names_the_sets_that_are_missing():
    assert (sum(RETRIEVAL.values()), sum(OTHERS.values())) == (728_160, 228_055)
    readme = (NV / "README.md").read_text()
    missing = {"ArguAna", "BioASQ"}
    for name in missing:
        assert f"| {name} ({RETRIEVAL[name]:,}) |" in readme
    there = {name: size for name, size in RETRIEVAL.items() if name not in missing}
    assert sizes(1) == there
    assert sizes(2) == there | OTHERS


def test_both_stages_take_retrieval_the_same_way():
    first, second = stage(1).contrastive.datasets, stage(2).contrastive.datasets
    assert second[: len(first)] == first


@pytest.mark.parametrize(("number", "negatives", "device", "accumulation"), [(1, 1, 32, 4), (2, 5, 8, 16)])
def test_the_stages_have_the_numbers_of_tables_10_and_11(number, negatives, device, accumulation):
    recipe = stage(number)
    trainer, student = recipe.trainer, recipe.student
    assert recipe.contrastive.num_negatives == negatives
    assert trainer["per_device_train_batch_size"] == device
    assert trainer["gradient_accumulation_steps"] == accumulation
    assert 8 * device * accumulation == 1024
    assert (trainer["learning_rate"], trainer["warmup_steps"], trainer["num_train_epochs"]) == (1e-5, 100, 12)
    assert (student.max_query_length, student.max_document_length) == (192, 512)
    assert (student.lora["r"], student.lora["lora_alpha"]) == (16, 32)
    assert stage(2).student.model == stage(1).trainer["output_dir"]


def test_one_switch_turns_in_batch_negatives_on_for_all_that_is_not_retrieval(tmp_path):
    def in_batch(text: str) -> dict[str, bool]:
        (tmp_path / "stage.yaml").write_text(text)
        return {spec.name: spec.in_batch for spec in read_recipe(tmp_path / "stage.yaml").contrastive.datasets}

    text = (NV / "stage2.yaml").read_text()
    assert {name for name, on in in_batch(text).items() if not on} == set(OTHERS)
    assert all(in_batch(text.replace("&in_batch false", "&in_batch true")).values())


@pytest.mark.parametrize("path", sorted(NV.glob("*.yaml")), ids=name_of)
def test_every_number_says_where_it_is_from(path):
    bookkeeping = "save_steps|save_total_limit|logging_steps|seed"
    number = re.compile(r"[ ,{](?!" + bookkeeping + r")\w+: [\d.]+(e-?\d+)?\s*(,|}|#|$)")
    source = re.compile(r"#.*(paper|Table|ours|NV-Embed|E5-Mistral|BEIR|Mistral's configuration)")
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    numbered = [line for line in lines if number.search(f" {line}")]
    assert numbered
    assert [line for line in numbered if not source.search(line)] == []


def test_what_is_mined_is_what_stage_2_trains_on():
    plan = yaml.safe_load((NV / "mine.yaml").read_text())
    settings = MiningSettings.from_options(plan["mining"])
    assert settings.num_negatives >= stage(2).contrastive.num_negatives
    mined = {spec.name for spec in stage(2).contrastive.datasets if spec.path.startswith("out/nv_retriever/mined/")}
    assert set(plan["datasets"]) == mined
    assert all(spec.path.endswith(f"/{spec.name}") for spec in stage(2).contrastive.datasets if spec.name in mined)
    assert plan["teacher"]["max_length"] == 4096
    keys = {"beir": {"path"}, "pairs": {"path", "query", "positive"}, "sts": {"path"}}
    for options in plan["datasets"].values():
        extra = set(options) - {"layout"} - keys[options["layout"]]
        assert keys[options["layout"]] <= set(options) and extra <= {"config", "data_files", "rows", "stream"}


def toy_rows(spec: DatasetSpec) -> list[dict]:
    """Rows with the columns that the real set has."""
    if spec.task == "retrieval":
        return [{"query": f"q{i}", "positive": f"p{i}", "negatives": [f"n{i} {j}" for j in range(5)]} for i in range(3)]
    classes = 2 if spec.label_texts else 4
    labels = [i % classes for i in range(8 * classes)]
    return [{"text": f"text {i}", "title": f"title {i}", "label": label} for i, label in enumerate(labels)]


def test_stage_2_blends_rows_of_the_columns_that_its_sets_have(tmp_path):
    specs = []
    for spec in stage(2).contrastive.datasets:
        path = str(tmp_path / f"{spec.name}.parquet")
        Dataset.from_list(toy_rows(spec)).to_parquet(path)
        specs.append(replace(spec, path=path, config=None))
    blend = load_blend(specs, num_negatives=5, seed=0)
    for name, rows in blend.datasets.items():
        last = "negative_1" if blend.specs[name].label_texts else "negative_5"
        assert max(column for column in rows.column_names if re.fullmatch(r"negative_\d", column)) == last
        assert set(rows["in_batch_negatives"]) == {name in RETRIEVAL}
        assert ("positive_instruction" in rows.column_names) == bool(re.match("STS|.*Clustering", name))
    toxic = blend.datasets["ToxicConversations"].to_pandas().set_index("query")
    assert toxic.loc["text 1", ["positive", "negative_1"]].tolist() == ["toxic", "not toxic"]
    assert blend.datasets["ArxivClusteringS2S"]["query"][0].startswith("title")
