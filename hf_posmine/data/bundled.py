"""The judged collection that ships with the package."""

from __future__ import annotations

from pathlib import Path

SAMPLE = Path(__file__).parent / "sample"
"""A BEIR folder: 340 documents, their queries, and two sets of judgements (``train`` and ``complete``)."""
