"""The record beside every saved output: the whole recipe, with digests of everything it depends on."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.miner import ALGO_VERSION, PositiveAwareMiner
from hf_posmine.paths import write_file

if TYPE_CHECKING:
    from hf_posmine.summary import MiningSummary

SCHEMA = 1
PACKAGES = ("hf-posmine", "datasets", "sentence-transformers", "transformers", "torch", "numpy", "pyarrow", "numba")


def provenance(
    miner: PositiveAwareMiner,
    *,
    source: dict[str, Any],
    corpus_source: dict[str, Any] | None = None,
    summary: MiningSummary | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """The record of a mining run, as plain JSON values.

    Args:
        miner: what mined.
        source: where the rows came from, such as ``{"path": ..., "split": ..., "revision": ...}``.
        corpus_source: where the documents came from; None means the rows' positives.
        summary: what came out.
        command: the command line, if there was one.
    """
    corpus, known = miner.corpus, miner.known_positives
    return {
        "schema": SCHEMA,
        "tool": "hf_posmine",
        "algo_version": ALGO_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "miner_fingerprint": miner.fingerprint,
        "settings": miner.settings.to_dict(),
        "teachers": [_describe(teacher) for teacher in miner.teachers],
        "source": source,
        "columns": {
            "query": miner.query_column,
            "positive": miner.positive_column,
            "positive_id": miner.positive_id_column,
        },
        "corpus": {
            "source": corpus_source,
            "fingerprint": corpus.fingerprint,
            "documents": len(corpus),
            "candidates": corpus.num_candidates,
            "duplicates_dropped": corpus.duplicates,
            "match": corpus.match,
            "excluded_everywhere": len(miner.excluded_everywhere),
        },
        "known_positives": None
        if known is None
        else {
            "fingerprint": known.fingerprint,
            "queries": known.num_queries,
            "judgements": known.num_judgements,
        },
        "summary": None if summary is None else summary.to_dict(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_provenance(path: str | Path, record: dict[str, Any]) -> None:
    """Write the record as indented JSON, whole or not at all."""
    write_file(Path(path), lambda temporary: temporary.write_text(json.dumps(record, indent=1) + "\n"))


def _describe(teacher: Any) -> dict[str, Any]:
    describe = getattr(teacher, "describe", None)
    basic = {"name": teacher.name, "score_kind": teacher.score_kind, "fingerprint": teacher.fingerprint}
    return basic | (describe() if callable(describe) else {})
