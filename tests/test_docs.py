"""The pages of ``docs/`` are true: examples run, code compiles, commands parse, links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hf_posmine.cli.parser import find_verb, parse
from hf_posmine.core.errors import InputError

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "recipes").rglob("README.md"), ROOT / "CHANGELOG.md"]
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_python_runs_or_at_least_compiles(page):
    code = blocks(page, "python")
    shown = "\n".join(block for block in code if ">>>" in block)
    test = doctest.DocTestParser().get_doctest(shown, {}, name_of(page), name_of(page), 0)
    assert doctest.DocTestRunner(optionflags=OPTIONS).run(test).failed == 0
    for block in code:
        compile("" if ">>>" in block else block, name_of(page), "exec")


def commands(page: Path) -> list[list[str]]:
    """Every ``hf-posmine ...`` line of the page's shell blocks."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = [re.sub(r"^\s*(\w+=\S+\s+)*", "", line) for line in text.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("hf-posmine ")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_commands_are_commands(page):
    for words in commands(page):
        words = [word for word in words if word != "..."]
        if "--config" in words:  # the file is the reader's
            at = words.index("--config")
            words = [*words[:at], *words[at + 2 :]]
        try:
            parse(find_verb(words), words)
        except InputError as error:
            assert "the following arguments are required" in str(error) and "--config" in " ".join(commands_of(page))


def commands_of(page: Path) -> list[str]:
    return [" ".join(words) for words in commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_yaml_reads(page):
    for block in blocks(page, "yaml"):
        assert yaml.safe_load(block)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith("http")]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_every_page_can_be_reached():
    trees = "\n".join(re.findall(r"```{toctree}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.S))
    listed = set(re.findall(r"^(\w+)$", trees, re.M)) | {"index"}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} == listed


def test_the_cells_of_the_tutorial_run_in_order(tmp_path):
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text("utf8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 5
    place = {**os.environ, "PYTHONPATH": str(ROOT), "HF_POSMINE_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(cells)], cwd=tmp_path, env=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "comparison.json").is_file() and "positive_column" in done.stdout


def walk_steps() -> list[tuple[str, str]]:
    return re.findall(
        r"^\|[^|]+\| `(hf_posmine/[^`]+\.py)` \| `([^`]+)` \|$", (ROOT / "docs" / "contributing.md").read_text(), re.M
    )


def test_the_walks_through_the_code_name_what_is_there():
    assert len(walk_steps()) == 19
    for file, name in walk_steps():
        found: object = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        for part in name.split("."):
            found = inspect.getattr_static(found, part)


def test_each_folder_has_a_line():
    listed = re.findall(r"^\| `hf_posmine/(\w+)` \|", (ROOT / "docs" / "contributing.md").read_text(), re.M)
    assert set(listed) == {path.parent.name for path in (ROOT / "hf_posmine").glob("*/__init__.py")}


def test_published_figures_hold_no_path_of_a_machine():
    paths = re.compile(r'"/(?:tmp|home|root|work|mnt|Users)/')
    assert not [file.name for file in (ROOT / "docs").rglob("*.json") if paths.search(file.read_text("utf8"))]
