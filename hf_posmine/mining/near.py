"""Candidates near a known positive which the corpus lacks, by the cosine of a dense teacher's vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from hf_posmine.data.lookalikes import NEAR, Lookalikes, folder_of
from hf_posmine.teachers.capabilities import near_duplicates_of
from hf_posmine.utils.cache import build_once

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.core.types import Rows, Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.teachers.capabilities import NearDuplicates

NEAR_BOUND = 0.95
"""Cosine from which on a document is taken for another form of the positive."""
BLOCK_POSITIVES = 1024


@dataclass(frozen=True)
class NearLookalikes:
    """The candidates near positives outside the corpus: found for all of them at once, or for those of a batch.

    Attributes:
        teacher: a teacher that compares documents, by ``near_documents(rows, bound)``.
        codes: int64 ``[P]``, the positives that have vectors: corpus rows that are not candidates, sorted.
        folder: where those of all positives are kept.
    """

    teacher: NearDuplicates
    codes: Rows
    folder: Path

    @classmethod
    def of(cls, teacher: Teacher, corpus: Corpus, codes: Rows) -> NearLookalikes | None:
        """For the positives that have vectors; None if none has, or the teacher does not compare documents.

        Args:
            teacher: who compares.
            corpus: the documents.
            codes: the positives, as in :class:`~hf_posmine.data.lookalikes.Lookalikes`.
        """
        rows, comparing = np.asarray(codes[codes >= corpus.num_candidates]), near_duplicates_of(teacher)
        if not len(rows) or comparing is None:
            return None
        identity = [
            "near",
            corpus.fingerprint,
            teacher.fingerprint,
            NEAR_BOUND,
            xxhash.xxh3_128_hexdigest(rows.tobytes()),
        ]
        return cls(comparing, rows, folder_of(identity))

    def prepare(self) -> Lookalikes:
        """Those of all positives, found once for the same texts and teacher."""
        return Lookalikes.opened(build_once(self.folder, lambda new: self._search_all().write(new)))

    def _search_all(self) -> Lookalikes:
        found: list[tuple[Rows, Rows, int]] = []
        for start in range(0, len(self.codes), BLOCK_POSITIVES):
            near = self._search(self.codes[start : start + BLOCK_POSITIVES])
            at = np.repeat(start + np.arange(len(near)), [len(rows) for rows in near])
            found.append((at, np.concatenate([self.codes[:0], *near]), NEAR))
        return Lookalikes.build(self.codes, np.zeros(len(self.codes), bool), found)

    def of_rows(self, positives: Rows) -> list[Rows]:
        """Of each row the candidates near its positives, int64 ``[B, m]`` of codes, -1 where padded."""
        wanted = np.intersect1d(positives, self.codes)
        if not len(wanted):
            return [wanted] * len(positives)
        if self.folder.is_dir():
            at, rows, _ = Lookalikes.opened(self.folder).of(wanted)
            near = np.split(rows, np.searchsorted(at, np.arange(1, len(wanted))))
        else:
            near = self._search(wanted)
        by_code = dict(zip(wanted.tolist(), near, strict=True))
        return [
            np.concatenate([wanted[:0], *(by_code[code] for code in row if code in by_code)])
            for row in positives.tolist()
        ]

    def _search(self, rows: Rows) -> list[Rows]:
        return self.teacher.near_documents(rows, NEAR_BOUND)
