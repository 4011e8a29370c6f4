"""Restore what a command changes in its process when it ends: ``main`` is also called from Python."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import TYPE_CHECKING

from hf_posmine.utils.memory import open_files_limit
from hf_posmine.utils.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Put the environment, the limit of open files and the form of warnings back, also after an error."""
    environment, form = dict(os.environ), warnings.formatwarning
    warnings.formatwarning = _one_line_warning
    try:
        with open_files_limit():
            yield
    finally:
        warnings.formatwarning = form
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


def _one_line_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {one_line(message)}\n"
