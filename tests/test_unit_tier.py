"""``make unit`` fails where a test imports torch: the plugin that guards it works."""

from __future__ import annotations

import subprocess
import sys

PLUGIN = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-c",
    "/dev/null",
    "-p",
    "tests.support.no_torch",
    "-p",
    "no:cacheprovider",
]


def run(tmp_path, line: str) -> subprocess.CompletedProcess:
    file = tmp_path / "test_one.py"
    file.write_text(f"def test_one():\n    {line}\n")
    return subprocess.run([*PLUGIN, "--rootdir", str(tmp_path), str(file)], capture_output=True, text=True, check=False)


def test_an_import_of_torch_fails_the_tier(tmp_path):
    done = run(tmp_path, "from datasets import Dataset")
    assert done.returncode == 1
    assert "the unit tests need numpy only, and something imports datasets" in done.stdout
    assert run(tmp_path, "import hf_posmine.core.settings").returncode == 0
