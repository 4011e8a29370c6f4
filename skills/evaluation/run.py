"""Forty tasks for a coding assistant that has the skill, and their grading.

    python -m skills.evaluation.run --prepare DIR            # a folder per task: PROMPT.md and its files
    python -m skills.evaluation.run --grade DIR              # after somebody, or a model, worked there
    python -m skills.evaluation.run --baseline DIR           # run the recorded commands, and grade them

The recorded commands show that each task can be done and that the graders accept a right outcome; they are no score of a model. An
untouched folder fails every task.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from skills.evaluation.files import write_files
from skills.evaluation.grade import grade

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = Path(__file__).with_name("tasks.yaml")


@dataclass(frozen=True)
class SkillTask:
    """A task.

    Attributes:
        id: its name and folder.
        prompt: the task as the assistant gets it.
        checks: of the outcome, see :mod:`skills.evaluation.grade`.
        run: recorded commands, one after the other.
        write: recorded files, by name.
    """

    id: str
    prompt: str
    checks: dict[str, Any]
    run: tuple[str, ...] = ()
    write: dict[str, str] = field(default_factory=dict)


def load_tasks() -> list[SkillTask]:
    """All tasks."""
    entries = yaml.safe_load(TASKS.read_text("utf-8"))
    return [SkillTask(**(entry | {"run": tuple(entry.get("run", ()))})) for entry in entries]


def prepare(task: SkillTask, folder: Path) -> None:
    """The folder in which the assistant works."""
    folder.mkdir(parents=True)
    write_files(folder)
    (folder / "PROMPT.md").write_text(f"{task.prompt.strip()}\n\nThe files are here; there is no network.\n", "utf-8")


def baseline(task: SkillTask, folder: Path) -> None:
    """Do what was recorded."""
    from hf_posmine.cli.main import main

    for name, text in task.write.items():
        (folder / name).write_text(text, "utf-8")
    for command in task.run:
        with working_in(folder), contextlib.suppress(SystemExit):
            main(words_of(command))


def words_of(command: str) -> list[str]:
    """The arguments of an hf-posmine command."""
    words = shlex.split(command)
    if words[:1] != ["hf-posmine"]:
        raise ValueError(f"not an hf-posmine command: {command!r}")
    return words[1:]


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Relative paths are of this folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> int:
    """Exit status 1 if a task fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    for name in ("prepare", "grade", "baseline"):
        what.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--only", nargs="+", help="ids of tasks")
    args = parser.parse_args()
    failed = 0
    tasks = [task for task in load_tasks() if not args.only or task.id in args.only]
    for task in tasks:
        folder = args.folder / task.id
        if not args.grade:
            prepare(task, folder)
        if args.baseline:
            baseline(task, folder)
        if not args.prepare:
            wrong = grade(folder, task.checks)
            failed += bool(wrong)
            print(f"{'FAIL' if wrong else 'pass'}  {task.id}" + "".join(f"\n      {line}" for line in wrong))
    if not args.prepare:
        print(f"{len(tasks) - failed} of {len(tasks)} pass")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
