"""The skill is laid out as the ecosystem's are, its commands exist, and its tasks can be done, and not by doing nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hf_posmine.cli.parser import VERBS, command_of, make_parser
from hf_posmine.utils.upstream import parser_options
from skills.evaluation.grade import CHECKS, grade
from skills.evaluation.run import baseline, load_tasks, prepare

ROOT = Path(__file__).resolve().parents[1]
SKILL = ROOT / "skills" / "hf-posmine"
TASKS = load_tasks()
FEW = ("mine-two", "audit-fail", "top-up-tuples", "choose-logits")
"""Run with every change; the others with the slow tests."""


def test_the_front_matter_is_that_of_a_skill():
    _, front, body = (SKILL / "SKILL.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["name"] == SKILL.name and 50 < len(facts["description"]) <= 1024
    assert len(body.splitlines()) < 500
    linked = re.findall(r"\]\(([\w/.-]+)\)", body) + re.findall(r"python (scripts/\S+\.py)", body)
    assert linked and all((SKILL / name).is_file() for name in linked)


@pytest.mark.parametrize("page", sorted(SKILL.rglob("*.md")), ids=lambda page: page.stem)
def test_commands_and_options_exist(page):
    text = page.read_text()
    for verb, words in re.findall(r"`hf-posmine ([^\s`]+)([^`]*)`", text):
        if verb != "COMMAND":
            assert verb in VERBS
            options = parser_options(make_parser(command_of(verb)))
            named = re.findall(r"--([a-z-]+)", words)
            assert {name.replace("-", "_") for name in named} <= options.keys() | {"help"}, (verb, named)


def test_the_script_describes_rows(tmp_path):
    prepare(TASKS[0], tmp_path / "task")
    script = SKILL / "scripts" / "preflight.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "task" / "flag.jsonl")],
        stdout=subprocess.PIPE, text=True, check=True, env={"PYTHONPATH": str(ROOT), "HF_POSMINE_OFFLINE": "1"},
    )  # fmt: skip
    assert json.loads(done.stdout)["suspects"] == {"same_text": 2, "same_normalized": 1, "duplicate_negative": 1}


def test_there_are_forty_tasks_with_checks_that_exist():
    assert len(TASKS) == len({task.id for task in TASKS}) == 40
    for task in TASKS:
        assert task.checks and task.checks.keys() <= CHECKS.keys(), task.id
        assert len(task.prompt) > 40 and (task.run or task.write), task.id


@pytest.mark.parametrize(
    "task",
    [task if task.id in FEW else pytest.param(task, marks=pytest.mark.matrix) for task in TASKS],
    ids=lambda task: task.id,
)
def test_the_recorded_commands_pass_and_an_untouched_folder_fails(task, tmp_path):
    prepare(task, tmp_path / "task")
    assert grade(tmp_path / "task", task.checks)
    baseline(task, tmp_path / "task")
    assert grade(tmp_path / "task", task.checks) == []
