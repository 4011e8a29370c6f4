"""What users may rely on: the names of the public modules, and that the import is light."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hf_posmine

ROOT = Path(__file__).parent.parent
PUBLIC = {
    "hf_posmine": [
        "Corpus", "CrossSample", "DenseTeacher", "IntraSample", "MarginPos", "MaxFNRate", "MaxScore", "MinScore", "MiningSummary",
        "PercPos", "PositiveAwareMiner", "Qrels", "RankWindow", "SampledTopK", "SimANS", "SkipTop", "Stratified",
        "Top", "Top1Sampled", "Uniform", "mine", "push_dataset", "push_model", "remine", "to_training", "verify",
    ],
    "hf_posmine.compat": ["mine_hard_negatives"],
    "hf_posmine.core": [
        "ColumnError", "Consistency", "CorruptShardError", "DiskFullError", "ENSEMBLES", "Exclusions", "FILTERS",
        "FartherFromPositive", "Filter", "HubError", "InputError", "MiningSettings", "MissingExtraError", "NearerToPositive",
        "PerGroup", "PosmineError", "Ranking", "SAMPLERS", "ShortRowError", "SpecError", "StoreError", "Teacher",
        "as_filters", "as_sampler",
    ],
    "hf_posmine.utils": [
        "Node", "build_once", "json_digest", "progress_bar", "quiet_bars", "remove_stale", "replace_folder", "store_root",
        "write_file",
    ],
    "hf_posmine.data": [
        "Corpus", "Qrels", "SAMPLE", "beir_pairs", "is_beir", "load_files", "load_source", "normalize", "open_training_data",
        "pick_columns", "text_keys", "text_numbers", "TrainingData",
    ],
    "hf_posmine.encoding": ["load_model", "model_source"],
    "hf_posmine.models": ["InstructSentenceTransformer", "ModelShape", "bidirectional_encoder", "load_nv_retriever"],
    "hf_posmine.search": ["ExactIndex", "search_on"],
    "hf_posmine.teachers": [
        "BM25", "BM25Teacher", "BestPassageTeacher", "Cross", "CrossEncoderTeacher", "Dense", "DenseTeacher", "EmbeddingService",
        "Endpoint", "Late", "LateInteractionTeacher", "MaxP", "MultiVectorTeacher", "Random", "RandomTeacher", "RemoteTeacher",
        "RunFile", "RunTeacher", "Sparse", "SparseTeacher", "StoredRun", "TeacherContext", "VectorFiles", "VectorTeacher",
        "as_teacher_spec", "make_teacher", "make_teachers", "select_below", "open_teacher",
    ],
    "hf_posmine.mining": ["NegativesCollator", "SecondOpinion", "ragatouille", "to_margin_mse", "with_texts"],
    "hf_posmine.mining.execution": [
        "MapWithMiner", "Rank", "Workers", "encode_all", "mine_on_ray", "mine_share", "read_shards",
    ],
    "hf_posmine.mining.provenance": ["now", "provenance", "read_provenance", "versions", "write_provenance"],
    "hf_posmine.audit": ["AuditResult", "AuditSettings", "KINDS", "TopUp", "audit_data"],
    "hf_posmine.report": ["MinedRows", "Report", "TableLimits", "make_report", "write_report"],
    "hf_posmine.evaluation": [
        "Asker", "Cascade", "ChatServer", "Collection", "Comparison", "DRAWS", "HubChat", "Judge", "Judgements",
        "MeasuredJudge", "OracleJudge", "QuestionMaker", "QuestionSettings", "QuoteJudge", "RetrievalEvaluator", "RetrievalResult",
        "RetrievalSettings", "Scores", "apply_judgements", "calibrate", "cascade_rates", "certify",
        "certify_by_judge", "choose",
        "clustering_v_measure", "compare", "compare_runs", "compare_table", "corrected", "evaluate_retrieval",
        "judge_negatives", "judgements_of_pairs", "load_collection", "load_judged", "mine_config",
        "neighbour_accuracy", "overlap_matrix", "parse_measure", "read_table", "sts_spearman", "sweep",
        "question_rows", "teacher_agreement", "top_up",
    ],
    "hf_posmine.evaluation.plots": [
        "COLOURS", "look", "new_figure", "plot_calibration", "plot_overlap", "plot_sweep", "plot_trade_off", "save_figure",
        "shared_legend",
    ],
    "hf_posmine.training": [
        "CachedInfoNCELoss", "InfoNCELoss", "Neighbours", "Recipe", "RecipeTrainer", "instruction_for", "load_blend",
        "load_student", "merge_by_validation", "merge_models", "read_recipe", "recipe_from", "run_rounds", "run_stage", "typed",
    ],
    "hf_posmine.training.convert": [
        "Converted", "join_positives", "labels_to_triples", "nli_to_triples", "reranking_to_rows", "retrieval_to_rows",
        "sts_to_pairs",
    ],
    "hf_posmine.cli.main": ["main"],
}  # fmt: skip
MOST_AT_THE_TOP = 26


@pytest.mark.parametrize("module", PUBLIC)
def test_the_names_are_these_and_no_others(module):
    package = importlib.import_module(module)
    assert sorted(package.__all__) == sorted(PUBLIC[module])
    for name in PUBLIC[module]:
        assert getattr(package, name).__doc__
        assert name in dir(package)


def test_few_names_are_at_the_top():
    assert len(hf_posmine.__all__) <= MOST_AT_THE_TOP


@pytest.mark.parametrize("module", PUBLIC)
def test_type_checkers_and_the_import_on_first_use_know_the_same_names(module):
    package = importlib.import_module(module)
    tree = ast.parse(Path(str(package.__file__)).read_text())
    if not any(isinstance(node, ast.ImportFrom) and node.module == "hf_posmine.core.lazy" for node in tree.body):
        return  # everything is imported or defined there
    typed = {
        (alias.name, imported.module)
        for node in tree.body
        if isinstance(node, ast.If)
        for imported in node.body
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }
    (lazy,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args[1:]]
    modules = ast.literal_eval(lazy.args[1])
    assert typed == {(name, f"{module}.{at}") for at, names in modules.items() for name in names}
    assert sorted(name for name, _ in typed) == sorted(PUBLIC[module])


def code_of(path: Path) -> list[str]:
    """The Python of a file: itself, or the blocks of a page."""
    text = path.read_text()
    if path.suffix == ".py":
        return [text]
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    if path.parent.name == "model_card_templates":  # the rest is Jinja
        return [line for block in blocks for line in block.splitlines() if re.match(r"(from|import) ", line)]
    prompts = re.compile(r"^(>>> |\.\.\. |>>>$|\.\.\.$)", re.M)
    return [
        "\n".join(prompts.sub("", line) for line in block.splitlines() if prompts.match(line))
        if ">>>" in block
        else block
        for block in blocks
    ]


FOLDERS = ("recipes", "docs", "model_card_templates", "hf_posmine/data/sample")
FILES = sorted(path for folder in FOLDERS for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind))
SHOWN = [*FILES, ROOT / "README.md"]


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_shown_imports_public_names_only(path):
    for code in code_of(path):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert alias.name.split(".")[0] != "hf_posmine" or alias.name in PUBLIC, alias.name
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "hf_posmine":
                hidden = [
                    a.name for a in node.names if a.name not in [*PUBLIC.get(str(node.module), []), "__version__"]
                ]
                assert not hidden, f"from {node.module} import {', '.join(hidden)}"


def test_the_reference_describes_every_name_and_no_other():
    text = (ROOT / "docs" / "api.md").read_text()
    module, described = "", {}
    for line in text.splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif found := re.match(r"\.\. (?:auto(?:class|function|data|exception)|py:data):: (\S+)", line):
            described.setdefault(module, []).append(found[1])
    aliased = {"hf_posmine.core": {"Filter", "FILTERS", "SAMPLERS", "ENSEMBLES"}, "hf_posmine.evaluation": {"Scores"}}
    for module, names in PUBLIC.items():
        elsewhere = {name for name in names if module != "hf_posmine" and name in PUBLIC["hf_posmine"]}
        assert set(names) - elsewhere - aliased.get(module, set()) <= set(described.get(module, [])), module
        assert set(described.get(module, [])) <= set(names), module


def test_the_import_is_light():
    code = (
        "import sys, json; import hf_posmine;"
        "print(json.dumps([m for m in ('torch', 'datasets', 'numpy', 'transformers', 'pyarrow') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_version_is_the_changelog_s_and_the_package_s():
    assert f'version = "{hf_posmine.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_the_examples_of_the_readme_run():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    shown = doctest.DocTestParser().get_doctest(
        "\n".join(b for b in blocks if ">>>" in b), {}, "README.md", "README.md", 0
    )
    assert shown.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(shown).failed == 0
    for block in blocks:
        compile("" if ">>>" in block else block, "README.md", "exec")


@pytest.mark.parametrize("module", PUBLIC)
def test_no_public_name_is_that_of_a_module_beside_it(module):
    """Importing such a module would put it in the place of the name."""
    folder = Path(importlib.import_module(module).__file__).parent
    if (folder / "__init__.py").samefile(importlib.import_module(module).__file__):
        assert not {path.stem for path in folder.iterdir()} & set(PUBLIC[module])
