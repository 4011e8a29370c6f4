"""Restore what a command changes in its process when it ends: ``main`` is also called from Python."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from hf_posmine.utils.memory import open_files_limit

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Put the environment and the limit of open files back, also after an error."""
    environment = dict(os.environ)
    try:
        with open_files_limit():
            yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


@contextlib.contextmanager
def without_bars(wanted: bool) -> Iterator[None]:
    """Switch the progress bars of ``datasets`` and ``transformers`` off, and on again if they were."""
    if not wanted:
        yield
        return
    import datasets
    from transformers.utils import logging

    shown = not datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown[0]:
            datasets.enable_progress_bars()
        if shown[1]:
            logging.enable_progress_bar()
