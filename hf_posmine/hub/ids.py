"""Ids of the Hub, as they are checked without a request."""

from __future__ import annotations

import re

COMMIT = re.compile(r"[0-9a-f]{40}")
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?", re.ASCII)


def on_hub(path: str | None, commit: str | None) -> bool:
    """Whether these name a Hub repository at a commit; a branch or a short digest does not count."""
    return path is not None and commit is not None and bool(REPO_ID.fullmatch(path)) and bool(COMMIT.fullmatch(commit))
