"""Plugin of ``make unit``: a test that imports torch fails there, and the line of the import is in its traceback."""

from __future__ import annotations

import sys
import time
from importlib.abc import MetaPathFinder
from typing import NoReturn

import pytest
from hypothesis import settings

HEAVY = ("torch", "transformers", "sentence_transformers", "datasets")


class Refuse(MetaPathFinder):
    """Answers the import of a heavy package with an error."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.partition(".")[0] in HEAVY:
            self.refuse(fullname)

    def refuse(self, fullname: str) -> NoReturn:
        raise AssertionError(f"the unit tests need numpy only, and something imports {fullname}")


@pytest.hookimpl(trylast=True)  # the profile of conftest.py is loaded before
def pytest_configure() -> None:
    sys.meta_path.insert(0, Refuse())
    settings.register_profile("unit", max_examples=25, deadline=None)  # `make test` runs the usual 100
    settings.load_profile("unit")


def pytest_sessionfinish() -> None:
    assert not [name for name in HEAVY if name in sys.modules]


def pytest_unconfigure() -> None:
    sys.stdout.write(f"{time.process_time():.1f} s of CPU (10 at most)\n")
