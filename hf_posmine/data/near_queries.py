"""Queries that are nearly the same: an exact join by the trigrams of their letters."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from hf_posmine.data.texts import normalize
from hf_posmine.data.words import words_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def trigrams(text: str) -> frozenset[str]:
    """The trigrams of a text without case, punctuation and white space at its ends.

    >>> trigrams("Who?") == trigrams("who")
    True
    >>> trigrams("बाल") == trigrams("बल")
    False
    """
    folded = " ".join(words_of(normalize(text))) or normalize(text)
    padded = f" {folded} "
    return frozenset(padded[start : start + 3] for start in range(max(1, len(padded) - 2)))


def near_pairs(queries: Sequence[str], least: float) -> list[tuple[int, int]]:
    """Positions of queries whose trigrams have a Jaccard similarity of at least ``least``, each pair once.

    Two such sets share one of their rarest trigrams, so only these are looked up (prefix filter, Chaudhuri et al. 2006);
    no pair is missed.

    >>> near_pairs(["How many hearts has an octopus?", "how many hearts has an octopus", "Who wrote Faust?"], 0.8)
    [(0, 1)]
    """
    grams = [trigrams(query) for query in queries]
    counts = Counter(chain.from_iterable(grams))
    having: dict[str, list[int]] = defaultdict(list)
    pairs = []
    for at, mine in enumerate(grams):
        rarest = sorted(mine, key=lambda gram: (counts[gram], gram))[: len(mine) - math.ceil(least * len(mine)) + 1]
        for other in sorted({other for gram in rarest for other in having[gram]}):
            shared = len(mine & grams[other])
            if shared >= least * (len(mine) + len(grams[other]) - shared):
                pairs.append((other, at))
        for gram in rarest:
            having[gram].append(at)
    return pairs
