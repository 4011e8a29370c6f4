"""The wording of settings, methods and exclusion reasons in cards, reports and the terminal."""

from __future__ import annotations

EXCLUSION_WORDS = {
    "positive": "the row's positive", "sibling": "another positive of the query",
    "unknown": "of unknown relevance by the judgements", "query": "the query's own text",
    "variant": "a positive with another title or invisible characters", "container": "contains a positive",
    "same_source": "from the same source as a positive",
    "near_duplicate": "near duplicate of a positive",
}  # fmt: skip
ON_SHORT_WORDS = {
    "keep": "kept",
    "drop": "left out",
    "raise": "none",
    "random": "filled with random documents below the ceiling",
}
CEILING_FROM_WORDS = {
    "min": "lowest of their scores",
    "own": "row's own",
    "mean": "mean of their scores",
    "max": "highest of their scores",
}
MATCH_WORDS = {
    "exact": "equal texts",
    "normalized": "texts that differ in case, white space or compatible forms (NFKC)",
    "loose": "texts that differ in case, white space, compatible forms (NFKC) or invisible characters",
}
FILTER_NAMES_IN_PAPER = {
    "PercPos": "TopK-PercPos", "MarginPos": "TopK-MarginPos", "MaxScore": "TopK-Abs", "SkipTop": "Top-K shifted by N",
    "RankWindow": "a window of ranks", "MinScore": "a least score", "PerGroup": "a quota per group",
}  # fmt: skip
