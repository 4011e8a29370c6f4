"""NLI: what a premise entails is its positive, what contradicts it its hard negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.check import whole
from hf_posmine.core.errors import ColumnError
from hf_posmine.data.texts import text_keys
from hf_posmine.training.convert.shared import (
    draw_different,
    first_of_each,
    label_names,
    not_blank,
    read_texts,
    read_whole,
    training_rows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Mask, Rows
    from hf_posmine.training.convert.shared import Converted

WHY_WHOLE = "the hypotheses of a premise may stand anywhere"
ENTAILMENT, NEUTRAL, CONTRADICTION = "entailment", "neutral", "contradiction"
RELATIONS = (ENTAILMENT, NEUTRAL, CONTRADICTION)
SPARE = 4
"""Fillers drawn beyond need, since one may be a text that the premise already has."""


def nli_to_triples(
    dataset: Dataset,
    premise: str = "premise",
    hypothesis: str = "hypothesis",
    label: str = "label",
    *,
    num_negatives: int = 1,
    label_texts: Mapping[Any, str] | None = None,
    seed: int = 0,
) -> Converted:
    """Premises and labelled hypotheses -> (premise, entailed, contradicting), one row per entailed hypothesis.

    A premise needs at least one contradiction. Those it lacks for n are filled with hypotheses of other premises, drawn
    at random, and counted in ``filled_negatives``. Texts are the same under :func:`~hf_posmine.data.texts.normalize`; a
    hypothesis that both follows from a premise and contradicts it is used as neither.

    Args:
        dataset: a Dataset; not a stream, since the hypotheses of a premise may stand anywhere.
        premise: column of the premises.
        hypothesis: column of the hypotheses.
        label: column of the relation, as ClassLabel or text; None and -1 mean unlabelled.
        num_negatives: n.
        label_texts: label -> ``entailment``, ``neutral`` or ``contradiction``, where the labels have other names.
        seed: of the fillers.

    Raises:
        ColumnError: a column that is missing or holds something else, or a label that names no relation.
    """
    whole("num_negatives", num_negatives, least=1)
    read = read_whole(dataset, [premise, hypothesis, label], WHY_WHOLE)
    texts = [*read_texts(read, premise), *read_texts(read, hypothesis)]
    relation = _relations(read[label], label, label_names(dataset, label), label_texts)
    pairs = _Pairs(texts, relation)
    rows = np.flatnonzero(pairs.entailed)
    negatives = pairs.contradictions(num_negatives)[pairs.premises[rows]]
    bare = negatives[:, 0] < 0
    pairs.counts["dropped_no_contradiction"] = int(bare.sum())
    rows, negatives = rows[~bare], negatives[~bare]
    pairs.counts["filled_negatives"] = int((negatives < 0).sum())
    negatives = pairs.fill(rows, negatives, np.random.default_rng(seed))
    short = (negatives < 0).any(axis=1)
    pairs.counts["dropped_few_negatives"] = int(short.sum())
    rows, negatives = rows[~short], negatives[~short]
    size = len(texts) // 2
    return training_rows(texts, rows, size + rows, size + negatives, pairs.counts)


class _Pairs:
    """Premise and hypothesis of each row as numbers: equal texts, equal numbers.

    Attributes:
        premises: int64 ``[N]``.
        hypotheses: int64 ``[N]``.
        entailed: bool ``[N]``, rows that become training rows.
        contradicted: bool ``[N]``, rows whose hypothesis is a negative of their premise.
        counts: of the rows, by what became of them.
    """

    def __init__(self, texts: Sequence[str], relation: Rows) -> None:
        size = len(relation)
        _, numbers = np.unique(text_keys(texts), return_inverse=True)
        self.premises, self.hypotheses = numbers.astype(np.int64).reshape(2, size)
        self._base = len(texts)
        self._pair = self.premises * self._base + self.hypotheses
        has_text = not_blank(texts).reshape(2, size).all(axis=0)
        same = self.premises == self.hypotheses
        usable = has_text & ~same
        entails, contradicts = usable & (relation == 0), usable & (relation == RELATIONS.index(CONTRADICTION))
        both = np.intersect1d(self._pair[entails], self._pair[contradicts])
        conflicting = (entails | contradicts) & np.isin(self._pair, both)
        self.entailed = self._once(entails & ~conflicting)
        self.contradicted = self._once(contradicts & ~conflicting)
        self.counts = {
            "rows_in": size,
            "rows_out": 0,
            "dropped_unlabelled": int((relation < 0).sum()),
            "dropped_blank_text": int(((relation >= 0) & ~has_text).sum()),
            "dropped_same_text": int(((relation >= 0) & has_text & same).sum()),
            "dropped_conflicting_labels": int(conflicting.sum()),
            "dropped_duplicate_pair": int((entails & ~conflicting & ~self.entailed).sum()),
            "neutral": int((usable & (relation == RELATIONS.index(NEUTRAL))).sum()),
            "contradiction": int((contradicts & ~conflicting).sum()),
        }

    def _once(self, rows: Mask) -> Mask:
        """Of equal pairs the first."""
        at = np.flatnonzero(rows)
        once = np.zeros(len(rows), bool)
        once[at[first_of_each(self._pair[at])]] = True
        return once

    def contradictions(self, n: int) -> Rows:
        """The first n rows that contradict each premise number, int64 ``[premise numbers, n]``, -1 where there are fewer."""
        rows = np.flatnonzero(self.contradicted)
        rows = rows[np.argsort(self.premises[rows], kind="stable")]
        _, start, count = np.unique(self.premises[rows], return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(start, count)
        table = np.full((int(self.premises.max()) + 1, n), -1, np.int64)
        table[self.premises[rows[rank < n]], rank[rank < n]] = rows[rank < n]
        return table

    def fill(self, rows: Rows, negatives: Rows, rng: np.random.Generator) -> Rows:
        """Put rows of other hypotheses where ``negatives`` int64 ``[R, n]`` has -1, if the few drawn allow it."""
        documents = np.flatnonzero(self.entailed | self.contradicted)
        documents = documents[first_of_each(self.hypotheses[documents])]
        spare = min(negatives.shape[1] + SPARE, len(documents))
        drawn = documents[draw_different(rng, np.full(len(rows), len(documents)), spare)]
        theirs = self.premises[rows][:, None]
        known = np.isin(theirs * self._base + self.hypotheses[drawn], self._pair)
        free = ~known & (self.hypotheses[drawn] != theirs)
        offered = np.concatenate([negatives, np.where(free, drawn, -1)], axis=1)
        first = np.argsort(offered < 0, axis=1, kind="stable")[:, : negatives.shape[1]]
        return np.take_along_axis(offered, first, axis=1)


def _relations(
    values: Sequence[Any], column: str, names: Sequence[str] | None, label_texts: Mapping[Any, str] | None
) -> Rows:
    """Places in ``RELATIONS``, int64 ``[N]``, -1 where unlabelled."""
    known = dict(enumerate(names or ())) | {relation: relation for relation in RELATIONS} | dict(label_texts or {})
    places: dict[Any, int] = {label: RELATIONS.index(text) for label, text in known.items() if text in RELATIONS}
    places |= {None: -1, -1: -1}
    found = np.empty(len(values), np.int64)
    for row, value in enumerate(values):
        place = places.get(value) if isinstance(value, (str, int, float, type(None))) else None
        if place is None:
            raise ColumnError(
                f"column {column!r}, row {row}: label {value!r} names no relation; say which is which in label_texts, such as "
                "{0: 'entailment', 1: 'neutral', 2: 'contradiction'}"
            )
        found[row] = place
    return found
