"""Runs the mining tests of sentence-transformers against ``hf_posmine.compat.mine_hard_negatives``.

``python -m tests.support.peer_suite CHECKOUT`` takes a checkout of its repository; nothing of it is copied. Its models come
from the Hub where that can be reached (``HF_POSMINE_OFFLINE=0``). Elsewhere a bi-encoder is replaced by the embedded
all-MiniLM-L6-v2, and a cross-encoder by a tiny one of random weights: the tests check shapes, columns, messages and that
scores agree with the model, whichever it is.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

SUITE = "tests/util/test_hard_negatives.py"
NO_FAISS = "The search is exact without FAISS, so no limit of a GPU index caps range_max."
DIFFERENCES = {
    "test_non_faiss_batched_search_matches_single_batch": (
        "It counts calls of the model's similarity function; here the index computes similarities."
    ),
    "test_num_negatives_exceeds_range_window_capped_by_faiss": NO_FAISS,
    "test_range_min_above_faiss_capped_range_max": NO_FAISS,
}
"""Tests that cannot pass, with the reason: the table of docs/migrate.md."""


class Substitute:
    """A pytest plugin: our function for theirs, models that need no Hub, and the counts by test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes: dict[str, Counter[str]] = {}

    def pytest_configure(self) -> None:
        import sentence_transformers.util

        from hf_posmine.compat import mine_hard_negatives
        from hf_posmine.encoding.encode import model_source
        from tests.support import tiny

        sentence_transformers.util.mine_hard_negatives = mine_hard_negatives
        _load_instead(sentence_transformers.SentenceTransformer, lambda: model_source("embedded"))
        _load_instead(sentence_transformers.CrossEncoder, lambda: str(tiny.cross(self.folder / "cross")))

    def pytest_collection_modifyitems(self, items) -> None:
        import pytest

        for item in items:
            reason = DIFFERENCES.get(item.originalname)
            if reason is not None:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.rsplit("::", 1)[-1].partition("[")[0]
            different = hasattr(report, "wasxfail") and report.outcome == "skipped"
            self.outcomes.setdefault(name, Counter())["differs" if different else report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter) -> None:
        total: Counter[str] = Counter()
        for name, outcomes in self.outcomes.items():
            total += outcomes
            counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            terminalreporter.write_line(f"{name}: {counts}")
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(total.items()))
        terminalreporter.write_line(f"{sum(total.values())} cases of {len(self.outcomes)} tests: {counts}")


def _load_instead(kind: type, substitute) -> None:
    """Let a class of models load another one where a Hub id cannot be had."""
    original = kind.__init__

    @functools.wraps(original)
    def load(self, name=None, *args, **kwargs):
        try:
            original(self, name, *args, **kwargs)
        except OSError:
            original(self, substitute(), *args, **kwargs)
            print(f"{name} is not to be had here: {substitute()} instead", file=sys.stderr)  # noqa: T201 - the log

    kind.__init__ = load


def main(checkout: str) -> int:
    """Run the suite; 0 if every test passed but those of the table, which must not."""
    import pytest

    path = Path(checkout).absolute() / SUITE
    if not path.is_file():
        print(f"{path} is not there; give a checkout of the sentence-transformers repository", file=sys.stderr)  # noqa: T201 - the command's
        return 2
    if os.environ.get("HF_POSMINE_OFFLINE", "1") != "0":
        os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="posmine-peer-") as folder:
        os.environ["HF_POSMINE_HOME"] = f"{folder}/home"
        options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", f"--rootdir={checkout}"]
        return int(pytest.main([str(path), *options], plugins=[Substitute(Path(folder))]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.support.peer_suite CHECKOUT")
    sys.exit(main(sys.argv[1]))
