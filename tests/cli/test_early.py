"""What is misspelt on a command line is answered before torch and datasets are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "datasets", "transformers", "sentence_transformers", "numba", "pandas", "rich")
MINE = "mine pairs.parquet --output mined --teacher embedded "
WRONG = {
    "min pairs.parquet": "did you mean 'mine'?",
    "mine pairs.parquet --output mined --num-negative": "expected one argument",
    MINE + "--sampler Topk(3)": "unknown sampler 'Topk'",
    MINE + "--filters MarginPoss(0.1)": "did you mean MarginPos?",
    MINE + "--filters SkipTop(0.5)": "SkipTop",
    "mine piars.parquet --output mined": "did you mean 'pairs.parquet'?",
    MINE + "--corpus documents.jsonl": "--corpus documents.jsonl does not exist",
    MINE + "--query-column question": "its columns are ['query', 'positive']",
    MINE + "--corpus pairs.parquet --corpus-id-column key": "id column 'key' is not in the dataset",
    "mine pairs.parquet --output mined --teacher BM52('german')": "unknown teacher 'BM52'",
    "mine pairs.parquet --output mined --teacher ./modls/e5": "teacher ./modls/e5: ./modls/e5 does not exist",
    "mine pairs.parquet --output mined --teacher some/model --offline": "'some/model' must be a local folder",
    MINE + "--second-opinion cross:/nowhere/reranker": "/nowhere/reranker does not exist",
    "train --config stage.yml": "did you mean 'stage1.yml'?",
}
SCRIPT = f"""
import contextlib, io, json, sys
from hf_posmine.cli.main import main
answers = []
for line in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as error:
        status = main(line.split())
    answers.append((status, error.getvalue(), [name for name in {HEAVY} if name in sys.modules]))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Each line's exit status, error and the large packages imported until then, in one process."""
    folder = tmp_path_factory.mktemp("work")
    pq.write_table(pa.table({"query": ["q"], "positive": ["p"]}), folder / "pairs.parquet")
    (folder / "stage1.yml").write_text("seed: 1\n")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, input=json.dumps(list(WRONG)), capture_output=True, text=True,
        check=True, env={"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": "", "HF_POSMINE_OFFLINE": "0"},
    )  # fmt: skip
    return dict(zip(WRONG, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("line", WRONG)
def test_a_misspelt_command_line_is_answered_without_large_imports(answers, line):
    status, error, imported = answers[line]
    assert status == 2
    assert WRONG[line] in error
    assert error.count("\n") == 1
    assert imported == []
