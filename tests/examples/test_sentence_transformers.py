"""The scripts of ``examples/sentence-transformers`` run on a small file, with one import of this package."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_from_disk

from tests.support import tiny

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples" / "sentence-transformers").glob("*.py"))


@pytest.fixture
def pairs(tmp_path) -> Path:
    colours, things = ["red", "green", "blue"], ["cat", "dog", "bird", "tree"]
    rows = [{"query": f"{c} {t}", "answer": f"a {t} of {c} stone", "note": t} for c in colours for t in things]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def run(script: str, *arguments: object) -> str:
    path = next(path for path in SCRIPTS if path.name == script)
    words = [sys.executable, str(path), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_imports_one_name_of_this_package(script):
    imports = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = [
        (node.module, [name.name for name in node.names]) for node in imports if node.module.startswith("hf_posmine")
    ]
    assert ours == [("hf_posmine.compat", ["mine_hard_negatives"])]


def test_mine_triplets(pairs, tmp_path):
    model, output = tiny.static(tmp_path / "model"), tmp_path / "triplets"
    run("mine_triplets.py", "--pairs", pairs, "--model", model, "--num-negatives", 2, "--output", output)
    mined = load_from_disk(str(output))
    assert mined.column_names == ["query", "answer", "negative", "scores", "note"]
    assert len(mined) > 12
    assert all(negative < positive for positive, negative in mined["scores"])


def test_train_on_negatives(pairs, tmp_path):
    from sentence_transformers import SentenceTransformer

    model, output = tiny.static(tmp_path / "model"), tmp_path / "trained"
    words = ["--pairs", pairs, "--model", model, "--num-negatives", 1, "--output", output, "--max-steps", 2]
    run("train_on_negatives.py", *words)
    before, after = (SentenceTransformer(str(folder), device="cpu").encode("red cat") for folder in (model, output))
    assert (before != after).any()
