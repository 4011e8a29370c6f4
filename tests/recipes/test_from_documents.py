"""The recipe from documents alone: its options exist, and killed anywhere it continues to the same report."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from hf_posmine.cli.parser import find_verb, parse
from hf_posmine.evaluation.questions.settings import QuestionSettings
from tests.conftest import SAMPLE
from tests.support.questions import QuestionService, sample_script

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "from_documents"


def test_the_file_of_questions_holds_options_of_the_command():
    args = parse(find_verb(["questions"]), ["questions", "--config", str(RECIPE / "questions.yaml")])
    assert QuestionSettings(kinds=tuple(args.kinds), per_kind=args.per_kind).gates == tuple(args.gates)
    assert args.path and args.model and args.output


def run(service: QuestionService, out: Path, home: Path) -> subprocess.Popen:
    words = [str(SAMPLE), "--url", service.url, "--model", "toy", "--output", str(out), "--documents", "90"]
    words += ["--teacher", "bm25", "--student", "embedded", "--top-k", "5"]
    where = {**os.environ, "PYTHONPATH": str(ROOT), "HF_POSMINE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(RECIPE / "run.py"), *words]
    return subprocess.Popen(
        script, env=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def kill_when(process: subprocess.Popen, reached) -> None:
    """End a process and its children at once, as soon as something has happened."""
    while not reached():
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.matrix
def test_killed_anywhere_it_continues_pays_nothing_twice_and_ends_with_the_same_report(tmp_path):
    service, straight = QuestionService(sample_script()), QuestionService(sample_script())
    out, home = tmp_path / "out", tmp_path / "home"
    moments = [
        lambda: len(service.requests) >= 60,  # the writer is asked
        lambda: any(
            "query" in body["messages"][1]["content"][:9] for _, _, body in list(service.requests)
        ),  # the judge is
        (out / "split" / "split.json").is_file,
        (out / "stage1" / "recipe.json").is_file,  # training has begun
        (out / "stage2" / "recipe.json").is_file,
    ]
    for reached in moments:
        kill_when(run(service, out, home), reached)
    assert run(service, out, home).wait(timeout=400) == 0
    assert run(straight, tmp_path / "straight", tmp_path / "other").wait(timeout=400) == 0
    reports = [(folder / "report.md").read_text() for folder in (out, tmp_path / "straight")]
    addresses = re.compile(r"http://\S+|\S*/(?:out|straight)\b")
    assert addresses.sub("", reports[0]) == addresses.sub("", reports[1])
    paid, once = Counter(service.answered), Counter(straight.answered)
    assert paid.keys() == once.keys()
    assert sum(paid.values()) <= sum(once.values()) + 2 * 8  # what was on its way at the two kills
    assert (
        f"| requests | {json.loads((out / 'asked' / 'questions.json').read_text())['attrition']['requests']:,} |"
        in reports[0]
    )
    shutil.rmtree(home)
