"""A run on disk is just another teacher: search once, select many times (design, ideas 1 and 3)."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.core.types import Exclusions, Floats, Ranking, Rows, ScoreKind, SearchRequest
from hf_posmine.data.layouts import pick_columns
from hf_posmine.data.qrels import Qrels
from hf_posmine.data.texts import KeyIndex, text_keys
from hf_posmine.teachers.capabilities import corpus_of, describe, search_many
from hf_posmine.teachers.multi_search import stored_prefix
from hf_posmine.teachers.run_writer import pair_keys, queries_of, write_run
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus

RUN_VERSION = 1


class StoredRun:
    """The best documents of every query by one teacher, and the scores of the positives, on disk.

    As a teacher it gives what its teacher would give. Where the stored depth is too shallow to be sure, because too few
    stored documents score below a ceiling, only those queries are searched again by the teacher.

    Args:
        path: folder that :meth:`build` wrote.
        corpus: the documents it was built over.
        teacher: who scores what the run does not hold; without it such a question is an error.

    Raises:
        StoreError: no run there, or one of another corpus or teacher.
    """

    def __init__(self, path: str | Path, corpus: Corpus, teacher: Teacher | None = None) -> None:
        self.path, self.corpus, self.teacher = Path(path), corpus, teacher
        if not (self.path / "run.json").is_file():
            raise StoreError(f"no run in {str(path)!r}; make one with StoredRun.build")
        self.info: dict[str, Any] = json.loads((checked(self.path) / "run.json").read_text())
        theirs = {"corpus": corpus.fingerprint, "teacher": None if teacher is None else teacher.fingerprint}
        for what, digest in theirs.items():
            if digest is not None and digest != self.info[what]:
                raise StoreError(
                    f"the run in {str(path)!r} is of another {what} ({self.info[what][:8]}, this is {digest[:8]}); "
                    "build it again, or pass the one it was built with"
                )

    @classmethod
    def build(
        cls,
        teacher: Teacher,
        pairs: Dataset,
        depth: int = 200,
        *,
        path: str | Path | None = None,
        corpus: Corpus | None = None,
        query_column: str | None = None,
        positive_column: str | None = None,
        positive_id_column: str | None = None,
    ) -> StoredRun:
        """Search every query of a dataset once, and score its positives.

        Args:
            teacher: who scores.
            pairs: dataset of queries and positives.
            depth: documents stored per query.
            path: folder of the run, by default below :func:`~hf_posmine.utils.files.cache_root`. A run that is there already
                is taken if it is this one.
            corpus: the documents, by default the teacher's.
            query_column: by default found by name; the other columns likewise.
            positive_column: texts or lists of texts.
            positive_id_column: instead of it, ids of the corpus.
        """
        if depth < 1:
            raise InputError(f"depth={depth}; store at least one document per query")
        corpus = corpus if corpus is not None else corpus_of(teacher)
        if corpus is None:
            raise InputError(f"the teacher {teacher.name!r} does not know its corpus; pass corpus=")
        columns = pick_columns(pairs, query_column, positive_column, positive_id_column)
        known = Qrels.from_dataset(pairs, *columns, match=corpus.match)
        queries = queries_of(known)
        depth = min(depth, corpus.num_candidates)
        facts = {
            "version": RUN_VERSION, "corpus": corpus.fingerprint, "teacher": teacher.fingerprint, "name": teacher.name,
            "score_kind": teacher.score_kind, "depth": depth, "queries": queries.fingerprint,
            "known_positives": known.fingerprint,
        }  # fmt: skip
        digest = json_digest(facts)
        folder = Path(path) if path else cache_root() / "runs" / digest

        def write(new: Path) -> None:
            write_run(new, teacher, corpus, queries, known, depth)
            (new / "run.json").write_text(json.dumps({**facts, "digest": digest, "described": describe(teacher)}))

        build_once(folder, write, finished=path is not None)
        run = cls(folder, corpus, teacher)
        if run.info["digest"] != digest:
            raise StoreError(
                f"{str(folder)!r} holds a run of {run.info['name']!r} to depth {run.info['depth']} over other queries or with "
                f"another depth than {depth}; choose another path or delete it"
            )
        return run

    @property
    def name(self) -> str:
        """The name of its teacher."""
        return str(self.info["name"])

    @property
    def score_kind(self) -> ScoreKind:
        """What its scores mean."""
        return self.info["score_kind"]

    @property
    def fingerprint(self) -> str:
        """That of its teacher, whose scores it gives."""
        return str(self.info["teacher"])

    @property
    def depth(self) -> int:
        """Documents stored per query."""
        return int(self.info["depth"])

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        return {**self.info["described"], "stored_depth": self.depth}

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents strictly below the ceilings; see :class:`hf_posmine.core.types.Teacher`."""
        below = np.full(len(queries), np.inf, np.float32) if below is None else below
        return self.search_many(queries, [SearchRequest(np.arange(len(queries)), k, below)], exclude)[0]

    def search_many(
        self, queries: Sequence[str], wants: Sequence[SearchRequest], exclude: Exclusions | None = None
    ) -> list[Ranking]:
        """Several searches at once, which share what has to be searched again.

        Args:
            queries: B texts.
            wants: which queries, how deep and below which ceilings.
            exclude: documents that may not be candidates.
        """
        exclude = Exclusions.given(exclude, len(queries))
        rows = self._rows(queries)
        here = np.maximum(rows, 0)
        ids, scores = np.asarray(self._arrays["doc_ids"][here]), np.asarray(self._arrays["scores"][here])
        complete = self.depth >= self.corpus.num_candidates
        found = stored_prefix(ids, scores, wants, exclude, complete=complete, known=rows >= 0)
        open_ = [
            SearchRequest(want.rows[~sure], want.k, want.below[~sure])
            for want, (_, sure) in zip(wants, found, strict=True)
        ]
        if any(len(want.rows) for want in open_):
            again = search_many(self._asked(queries, open_), queries, open_, exclude)
            for (ranking, sure), deep in zip(found, again, strict=True):
                ranking.put(~sure, deep)
        return [ranking for ranking, _ in found]

    def _asked(self, queries: Sequence[str], open_: Sequence[SearchRequest]) -> Teacher:
        if self.teacher is None:
            row = next(int(want.rows[0]) for want in open_ if len(want.rows))
            raise StoreError(
                f"the run holds {self.depth} documents per query, too few below the ceiling of {queries[row][:60]!r}, or not "
                "that query; pass StoredRun(..., teacher=) to search it again, or build a deeper run"
            )
        return self.teacher

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``: stored for positives and for what was found."""
        rows = self._rows(queries)[:, None]
        out = self._of_positives(rows, doc_ids)
        lost = np.isnan(out) & (doc_ids >= 0)
        for at, column in np.argwhere(lost & (rows >= 0)).tolist():
            hit = np.flatnonzero(self._arrays["doc_ids"][rows[at, 0]] == doc_ids[at, column])
            if len(hit):
                out[at, column] = self._arrays["scores"][rows[at, 0], hit[0]]
        lost &= np.isnan(out)
        open_ = np.flatnonzero(lost.any(axis=1))
        if len(open_):
            teacher = self._asked(queries, [SearchRequest(open_, 1, np.empty(0, np.float32))])
            out[open_] = teacher.score([queries[i] for i in open_.tolist()], doc_ids[open_])
        out[doc_ids < 0] = -np.inf
        return out

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i: stored for positives outside the corpus."""
        keys = text_keys(documents, self.corpus.match)
        out = self._of_positives(self._rows(queries), keys)
        lost = np.flatnonzero(np.isnan(out))
        if len(lost):
            teacher = self._asked(queries, [SearchRequest(lost, 1, np.empty(0, np.float32))])
            out[lost] = teacher.score_texts([queries[i] for i in lost.tolist()], [documents[i] for i in lost.tolist()])
        return out

    def _of_positives(self, rows: Rows, documents: np.ndarray) -> Floats:
        """Stored scores of positives by query row and document (corpus row, or key of a text), NaN where there is none."""
        wanted = pair_keys(np.broadcast_to(rows, documents.shape).ravel(), documents.ravel())
        at = self._positives.rows(wanted)
        stored = np.append(self._arrays["positive_scores"], np.float32(np.nan))
        return stored[at].reshape(documents.shape).astype(np.float32)

    @cached_property
    def _positives(self) -> KeyIndex:
        return KeyIndex.build(np.asarray(self._arrays["positive_keys"]))

    def _rows(self, queries: Sequence[str]) -> Rows:
        """The row of each query in the run, -1 where it is not there."""
        return self._known.rows(text_keys(queries, "exact"))

    @cached_property
    def _known(self) -> KeyIndex:
        return KeyIndex.build(np.asarray(self._arrays["query_keys"]))

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        names = ("query_keys", "doc_ids", "scores", "positive_keys", "positive_scores")
        return {name: np.load(checked(self.path) / f"{name}.npy", mmap_mode="r") for name in names}

    def prepare(self) -> None:
        """Nothing to do: the run is on disk."""

    def stands_for(self) -> Teacher | None:
        """Its teacher, which compares documents and searches on a device where the run does not."""
        return self.teacher

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "corpus": self.corpus, "teacher": self.teacher, "info": self.info}
