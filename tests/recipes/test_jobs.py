"""The job scripts run in this environment and name what they need; the layout is that of an extension of the hf CLI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_posmine.cli.completion import full_parser
from hf_posmine.cli.parser import VERBS
from hf_posmine.utils.upstream import parser_options
from tests.audit.planted import clean_rows, flag_embedding, write_jsonl

tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted((ROOT / "recipes" / "jobs").glob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run_script(script: Path, *arguments: object) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_POSMINE_OFFLINE": "1"}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("script", JOBS, ids=lambda script: script.stem)
def test_a_script_names_extras_that_exist(script):
    header = re.match(r"# /// script\n((?:# .*\n)+)# ///\n", script.read_text())
    assert header is not None
    stated = tomllib.loads(re.sub(r"(?m)^# ", "", header[1]))
    assert stated["requires-python"] == PROJECT["requires-python"]
    (needed,) = stated["dependencies"]
    extras = re.fullmatch(r"hf-posmine\[(.*)\]", needed)
    assert extras is not None and set(extras[1].split(",")) <= PROJECT["optional-dependencies"].keys()


def test_the_audit_job_states_its_cost(tmp_path):
    path = flag_embedding(clean_rows(20), tmp_path)
    shown = run_script(ROOT / "recipes/jobs/audit.py", path, "--dry-run", "--price", "1.5")
    assert re.search(r"20 rows, about \d+ seconds of one core on this machine, 0\.0\d at 1\.5 an hour", shown)


@pytest.mark.matrix
def test_the_mine_job_states_its_plan(tmp_path):
    rows = [{"query": row.query, "positive": row.positive} for row in clean_rows(20)]
    path = write_jsonl(tmp_path / "pairs.jsonl", rows)
    arguments = ("--teacher", "bm25", "--plan", "--output", tmp_path / "mined")
    shown = run_script(ROOT / "recipes/jobs/mine.py", path, *arguments)
    assert "write rows" in shown and "in all" in shown and not (tmp_path / "mined").exists()


@pytest.mark.matrix
def test_the_train_job_takes_a_recipe():
    assert "--config" in run_script(ROOT / "recipes/jobs/train.py", "--help")


def test_light_work_imports_no_model_library(tmp_path):
    path = flag_embedding(clean_rows(20), tmp_path)
    code = """
import sys
import numpy as np
from datasets import Dataset
from hf_posmine.audit import audit_data
from hf_posmine.core.filters import as_filters, lowest_ceiling
from hf_posmine.data import open_training_data
from hf_posmine.mining.summary import MiningSummary
from hf_posmine.mining.training_formats import to_training
audit_data(open_training_data(sys.argv[1]))
lowest_ceiling(as_filters(["PercPos(0.95)"]), np.array([0.5], np.float32))
rows = Dataset.from_dict({"query": ["q"], "positive": ["p"], "negatives": [["n", "m"]]})
to_training(rows, "n-tuple")
MiningSummary.from_dataset(rows)
print("heavy:", [name for name in ("torch", "sentence_transformers", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, check=True)
    assert "heavy: []" in done.stdout


def test_completion_knows_every_command_and_option():
    commands = next(action for action in full_parser()._actions if action.choices)
    assert list(commands.choices or ()) == list(VERBS)
    for verb, parser in dict(commands.choices or {}).items():
        assert parser_options(parser).keys() >= {"debug", "offline"}, verb


def test_the_shell_is_answered(tmp_path):
    answer = tmp_path / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "COMP_LINE": "hf-posmine audit --rep", "COMP_POINT": "22", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "hf_posmine.cli"], env=environment, check=False, capture_output=True)
    assert set(re.split(r"[\s\x0b]+", answer.read_text().strip())) == {"--repair", "--report"}


def test_the_repository_is_an_extension_of_the_hf_cli():
    extensions = pytest.importorskip("huggingface_hub.cli.extensions")
    _, name, short = extensions._normalize_repo_id(f"owner/{PROJECT['name']}")
    assert extensions._get_executable_name(short) in PROJECT["scripts"]  # what the installed environment must hold
    assert name == PROJECT["name"] and PROJECT["description"]
    assert (ROOT / "pyproject.toml").is_file()  # read for the description, and installed from the repository's archive
