"""The whole table of faults, with figures tried and held: ``python -m tests.faults.run`` or ``make faults``.

    python -m tests.faults.run --minutes 15 --examples 10000 --output out/faults.json

Commands are struck by every fault in turn, with other seeds in every round, until the time is over. Damaged cache files,
malformed answers, a failing Hub, mutated records and specs, hostile data files and tampered rows are tests that take the
environment variables below; each of their cases counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = {
    "damaged cache files": ["tests/faults/test_cache_files.py"],
    "mutated records": ["tests/mining/test_record_schema.py"],
    "mutated specs": ["tests/faults/test_specs.py"],
    "hostile data files": ["tests/faults/test_data_files.py"],
    "answers of services": ["tests/utils/test_http.py", "tests/teachers/test_remote.py"],
    "a failing Hub": ["tests/hub/test_push_faults.py"],
    "tampered rows, records and cards": ["tests/hub/test_tampering.py", "tests/hub/test_card_escapes.py"],
    "records that reach for files": ["tests/hub/test_reach.py"],
    "errors at the command line": ["tests/cli/test_boundary.py"],
    "the five worst": ["tests/faults/test_five_worst.py"],
}
EXAMPLES = re.compile(r"(\d+) passing, (\d+) failing")


def main() -> int:
    """Run everything, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="for commands x faults (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=300, help="of each fuzz (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["commands", "suites"])
    parser.add_argument("--output", default="out/faults.json", type=Path)
    args = parser.parse_args()
    figures, failures = {}, []
    if args.only != "suites":
        figures |= struck_commands(args.minutes * 60, args.seed, failures)
    if args.only != "commands":
        figures |= {name: suite(name, files, args.examples, failures) for name, files in SUITES.items()}
    tried, held = (sum(row[column] for row in figures.values()) for column in ("tried", "held"))
    record = {
        "processor": processor(),
        "seed": args.seed,
        "tried": tried,
        "held": held,
        "kinds": figures,
        "failures": failures,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n")
    for name, row in figures.items():
        show(f"{name:<40} {row['tried']:>7,} tried {row['held']:>7,} held")
    show(f"{tried:,} cases tried, {held:,} held")
    return 0 if tried == held else 1


def struck_commands(seconds: float, seed: int, failures: list[str]) -> dict[str, dict[str, int]]:
    """Commands x faults, round by round, until the time is over."""
    os.environ.update(HF_POSMINE_OFFLINE="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
    from tests.hub.loopback import environment

    os.environ.update(environment())  # before huggingface_hub is imported
    from tests.faults.cases import COMMANDS, FAULTS, hold, make_data, undisturbed

    until, tried, held = time.monotonic() + seconds, Counter(), Counter()
    with tempfile.TemporaryDirectory(prefix="posmine-faults-") as folder:
        root = Path(folder)
        make_data(root / "data")
        expected = {name: undisturbed(name, root / "data", root / f"sound-{n}") for n, name in enumerate(COMMANDS)}
        number = 0
        while time.monotonic() < until:
            fault = list(FAULTS)[number % len(FAULTS)]
            command = list(COMMANDS)[(number + number // len(FAULTS)) % len(COMMANDS)]
            number += 1
            try:
                wrong = hold(command, fault, expected[command], root / "data", root / f"case-{number}", seed + number)
            except pytest.skip.Exception as skipped:  # no disk can be mounted here
                show(f"{command} x {fault}: {skipped}")
                continue
            tried[fault] += 1
            held[fault] += wrong is None
            if wrong is not None:
                failures.append(f"{command} x {fault}, seed {seed + number}: {wrong}")
                show(failures[-1])
            shutil.rmtree(root / f"case-{number}", ignore_errors=True)
    return {f"commands: {fault}": {"tried": tried[fault], "held": held[fault]} for fault in FAULTS}


def suite(name: str, files: list[str], examples: int, failures: list[str]) -> dict[str, int]:
    """The cases of test files: an example of hypothesis is one, and so is each damage of a file."""
    environment = {
        **os.environ,
        "HF_POSMINE_ALL_FAULTS": "1",
        "HF_POSMINE_FUZZ": str(examples),
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory() as folder:
        counted = Path(folder) / "count"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=line",
            "--timeout=7200",
            "--hypothesis-show-statistics",
            *files,
        ]
        environment["HF_POSMINE_COUNT"] = str(counted)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        inside = [int(line) for line in counted.read_text().split()] if counted.exists() else []
    outcomes = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    lost = outcomes.get("failed", 0) + outcomes.get("error", 0)
    fuzzed = [tuple(map(int, found)) for found in EXAMPLES.findall(done.stdout)]
    tried = outcomes.get("passed", 0) + lost + sum(sum(pair) for pair in fuzzed) + sum(inside)
    if lost or done.returncode:
        failures.append(f"{name}: {done.stdout[-1500:]}")
        show(failures[-1])
    return {"tried": tried, "held": tried - max(lost, int(done.returncode != 0))}


def show(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def processor() -> str:
    """The kind of processor."""
    models = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else []
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
