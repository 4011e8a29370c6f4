"""The cost of keys that cannot be forged: CPU seconds of building a corpus with them, and with 64-bit hashes.

    python -m benchmarks.text_keys [--documents 100000] [--repeats 7]

Three kinds of builds alternate in one process, after one of each that is not counted:

- ``keys``: as the package builds a corpus;
- ``hashes``: the same with 64-bit hashes in place of the keys;
- ``before``: with 64-bit hashes, each text split to be normalised and digested by itself, as when there were no keys.

Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import tempfile
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from benchmarks.measure import machine, now, release_memory
from hf_posmine.data import texts as texts_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WORDS = 20_000
LEAST_WORDS, MOST_WORDS = 30, 90


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    texts = documents(args.documents)
    ids = [f"doc-{number}" for number in range(len(texts))]
    result = {
        "documents": len(texts),
        "mean_characters": round(statistics.fmean(map(len, texts)), 1),
        "builds": {
            name: compare(texts, given, args.repeats) for name, given in (("texts", None), ("texts and ids", ids))
        },
        "machine": machine(),
    }
    print(json.dumps(result, indent=1))


def documents(number: int) -> list[str]:
    """Texts of random words."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(3, 9))) for _ in range(WORDS)]
    return [" ".join(draw.choices(words, k=draw.randint(LEAST_WORDS, MOST_WORDS))) for _ in range(number)]


def compare(texts: Sequence[str], ids: Sequence[str] | None, repeats: int) -> dict[str, Any]:
    """CPU seconds of each build, their medians, and by how many percent a build with keys exceeds the others."""
    kinds: dict[str, Callable[[], Any]] = {"keys": contextlib.nullcontext, "hashes": hashes, "before": before}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(repeats + 1):
        for name in sorted(kinds, reverse=bool(repeat % 2)):
            with kinds[name]():
                spent = build(texts, ids)
            if repeat:
                seconds[name].append(spent)
    medians = {name: statistics.median(all_) for name, all_ in seconds.items()}
    added = {name: round(100 * (medians["keys"] / medians[name] - 1), 1) for name in ("hashes", "before")}
    return {"seconds": seconds, "medians": medians, "added_percent": added}


def build(texts: Sequence[str], ids: Sequence[str] | None) -> float:
    """CPU seconds of one build in a new folder."""
    from hf_posmine import Corpus

    release_memory()
    with tempfile.TemporaryDirectory(prefix="posmine-keys-") as folder:
        before = now()[1]
        Corpus.from_texts(texts, ids, cache_dir=folder)
        return now()[1] - before


@contextlib.contextmanager
def hashes() -> Iterator[None]:
    """Hashes of 64 bits by xxh3, which can be forged, in place of keys."""
    with mock.patch.multiple(texts_module, KEY=np.dtype(np.uint64), text_keys=texts_module.text_numbers):
        yield


@contextlib.contextmanager
def before() -> Iterator[None]:
    """As :func:`hashes`, and text by text what now happens to many at once."""

    def split(text: str) -> str:
        return " ".join(text.lower().split()) if text.isascii() else texts_module.normalize(text)

    def one_by_one(column: Any) -> bytes:
        encoded = [value.encode() for value in column.to_pylist()]
        return b"".join(len(value).to_bytes(8, "little") + value for value in encoded)

    forms = {**texts_module.FORMS, "normalized": split}
    with hashes(), mock.patch.multiple(texts_module, FORMS=forms, _with_lengths=one_by_one):
        yield


if __name__ == "__main__":
    main()
