"""Limits that keep the package readable: sizes, types, names and plain language, counted in its source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hf_posmine"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCE = {str(path.relative_to(PACKAGE)): path.read_text("utf8") for path in FILES}
TREES = {name: ast.parse(text) for name, text in SOURCE.items()}

LIMITS = {
    "names at the top": 17,  # the 15 of the tree, audit/ and compat.py
    "verbs of speech": 49,  # "said", "told" and "hears" as words
    "calls of getattr and hasattr": 59,
    "parameters typed Any": 99,
    "lines of DenseTeacher": 180,  # docstring included
    "lines of hub/rebuild_teachers.py": 60,
    "lines of a function": 60,
    "lines of the package": 57_800,  # goal: 29,000
}
LONG_FUNCTIONS = {
    "search/kernels.py:_collect",  # numba compiles it as one loop
}
UNPROBED = ("mining/", "hub/", "cli/")
"""Folders without ``getattr`` and ``hasattr``: they ask for a Protocol or a class."""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield name, node


def parameters_typed_any() -> list[str]:
    found = []
    for name, node in functions():
        spec = node.args
        every = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
        for parameter in every:
            if (
                parameter is not None
                and isinstance(parameter.annotation, ast.Name)
                and parameter.annotation.id == "Any"
            ):
                found.append(f"{name}:{parameter.lineno} {node.name}({parameter.arg})")
    return found


def probes() -> list[str]:
    return [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
    ]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines from the name to the end, without the docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and ast.get_docstring(node, clean=False) is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def lines_of_class(name: str) -> int:
    (found,) = [n for tree in TREES.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name]
    return found.end_lineno - found.lineno + 1


def verbs_of_speech() -> list[str]:
    return [
        f"{name}:{number}"
        for name, text in SOURCE.items()
        for number, line in enumerate(text.splitlines(), 1)
        for _ in re.finditer(r"\b(?:said|told|hears)\b", line, re.IGNORECASE)
    ]


MEASURES = {
    "names at the top": lambda: len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]),
    "verbs of speech": lambda: len(verbs_of_speech()),
    "calls of getattr and hasattr": lambda: len(probes()),
    "parameters typed Any": lambda: len(parameters_typed_any()),
    "lines of DenseTeacher": lambda: lines_of_class("DenseTeacher"),
    "lines of hub/rebuild_teachers.py": lambda: len(SOURCE["hub/rebuild_teachers.py"].splitlines()),
    "lines of a function": lambda: max(length(n) for f, n in functions() if f"{f}:{n.name}" not in LONG_FUNCTIONS),
    "lines of the package": lambda: sum(len(text.splitlines()) for text in SOURCE.values()),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_count_stays_below_its_limit(what):
    count = MEASURES[what]()
    sys.stdout.write(f"{what}: {count} of {LIMITS[what]}\n")
    assert count <= LIMITS[what]


def test_functions_that_may_be_long_are_there_and_are_long():
    lengths = {f"{file}:{node.name}": length(node) for file, node in functions()}
    assert all(lengths[name] > LIMITS["lines of a function"] for name in LONG_FUNCTIONS)


@pytest.mark.parametrize("folder", UNPROBED)
def test_a_folder_asks_for_protocols_and_probes_no_attribute(folder):
    assert any(name.startswith(folder) for name in SOURCE)
    assert [place for place in probes() if place.startswith(folder)] == []


def test_no_teacher_is_typed_any():
    assert [p for p in parameters_typed_any() if re.search(r"\(\*{0,2}(?:\w+_)?teachers?\)", p)] == []


def test_class_names_are_unique():
    names = Counter(n.name for tree in TREES.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == set()


def test_no_module_opens_with_a_riddle():
    opening = re.compile(r"(?:What|Who|Where|How|Which|Whatever|Is)\b")
    assert [name for name, tree in TREES.items() if opening.match(ast.get_docstring(tree) or "")] == []


def test_negations_are_plain():
    negation = re.compile(r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|better\b|filter\.)", re.IGNORECASE)
    lines = [(name, line.strip()) for name, text in SOURCE.items() for line in text.splitlines()]
    assert [(name, line) for name, line in lines if negation.search(line)] == []


@pytest.mark.parametrize("folder", ["recipes", "benchmarks"])
def test_verbs_of_speech_name_no_data_outside_the_package(folder):
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".md")]
    spoken = re.compile(r"\b(?:said|told|hears)\b", re.IGNORECASE)
    assert files and [str(path) for path in files if spoken.search(path.read_text("utf8"))] == []


def test_the_core_imports_numpy_only():
    modules = sorted(
        "hf_posmine.core" + ("" if path.stem == "__init__" else f".{path.stem}")
        for path in (PACKAGE / "core").glob("*.py")
    )
    script = (
        "import importlib, sys\nimport numpy, numpy.random\nbefore = set(sys.modules)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) <= {"hf_posmine", "numpy"}
