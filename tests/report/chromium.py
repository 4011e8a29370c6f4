"""A real browser for pages: Chromium of this machine, driven by playwright."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def missing() -> str | None:
    """What keeps a browser from running here; None where nothing does."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "the package playwright is not installed (pip install playwright)"
    if found() is None:
        return f"no Chromium in PATH (looked for {', '.join(NAMES)})"
    return None


def found() -> str | None:
    """The path of a Chromium."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A headless browser, closed in the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found(), args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()
