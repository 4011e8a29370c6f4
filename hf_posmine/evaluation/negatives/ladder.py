"""The settings that are tried for a guaranteed rate, declared before any evidence is looked at: families, each the safest first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters
from hf_posmine.evaluation.negatives.calibrate import families_of
from hf_posmine.evaluation.negatives.hold_out import HiddenRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.core.types import Filter, Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.negatives.false_negatives import Judgements

LADDER = ("PercPos", "MarginPos", "SkipTop", "PercPos, normalised")
"""Families by default: those of them that the teacher's scores allow."""
UNSCALED = ("PercPos", "SkipTop")
"""Families whose numbers depend on no scores."""
LEAST_ASIDE, MOST_ASIDE = 10, 100
Families: TypeAlias = "Sequence[str] | Mapping[str, Sequence[Any]]"


def declared(
    corpus: Corpus, judgements: Judgements, teacher: Teacher, families: Families | None, seed: int, *, several: bool
) -> tuple[Judgements, Mapping[str, Sequence[Any]]]:
    """The queries that are evidence, and the ladder.

    Args:
        corpus: the documents.
        judgements: whose queries they are.
        teacher: its scores scale the ladder.
        families: per family its settings, the safest first; or names of :data:`LADDER` or ``"MaxScore"``. Margins, ceilings and the
            score of unrelated pairs are measured on queries that are set aside, a tenth and at least 10.
        seed: of that draw.
        several: whether only queries with several positives are evidence.

    Raises:
        InputError: a name that the teacher's scores do not allow, or no query left.
    """
    families = [families] if isinstance(families, str) else families
    if families is not None and not isinstance(families, (list, tuple)):
        return judgements, families  # type: ignore[return-value]
    names = sorted(query for query, found in judgements.relevant.items() if len(found) > several)
    order = np.random.default_rng(seed).permutation(names).tolist()
    scaled = families is None or not set(families) <= set(UNSCALED)
    aside = min(max(LEAST_ASIDE, len(names) // 10), MOST_ASIDE) if scaled else 0
    if aside >= len(order):
        raise InputError(
            f"{len(order)} queries with {'several positives' if several else 'a positive'} are too few: {aside} scale the ladder, "
            "and the rest are the evidence, of which 60 are the least for a rate of 0.05"
        )
    scale = only(judgements, order[:aside] or order)
    rows = HiddenRows.of(corpus, scale, "rest") if several else HiddenRows.whole(corpus, scale)
    made = families_of(corpus, rows, teacher)
    made["SkipTop"] = made["SkipTop"][::-1]
    unknown = [name for name in families or () if name not in made]
    if unknown:
        raise InputError(f"families={unknown[0]!r}; for {teacher.score_kind} scores there are {', '.join(made)}")
    taken = [name for name in LADDER if name in made] if families is None else list(families)
    return only(judgements, order[aside:]), {name: made[name] for name in taken}


def only(judgements: Judgements, queries: Sequence[str]) -> Judgements:
    """Some of the queries."""
    return replace(judgements, relevant={query: judgements.relevant[query] for query in queries})


def joined(ladder: Mapping[str, Sequence[Any]], more: Sequence[Filter]) -> dict[str, list[list[Any]]]:
    """Every setting with the filters that all have."""
    return {name: [[*more, *as_filters(setting)] for setting in members] for name, members in ladder.items()}
