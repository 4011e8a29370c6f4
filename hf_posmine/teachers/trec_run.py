"""A retrieval run that somebody else made, as a teacher: TREC files, or the documents/queries/scores layout."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import PADDING, Exclusions, Floats, Ranking, Rows, ScoreKind, SearchRequest
from hf_posmine.data.texts import KeyIndex, text_keys
from hf_posmine.data.trec_lines import run_lines
from hf_posmine.teachers.multi_search import stored_prefix
from hf_posmine.utils.cache import build_once, checked
from hf_posmine.utils.files import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.teachers.spellings import RunFile


class RunTeacher:
    """Scores of a run, down to its depth.

    A document that is not in the run of a query ranks below all documents that are: it scores ``-inf`` and is never found. So a
    row whose positive is not in the run has no ceiling that the run could reach: with a filter on the positive's score it
    gets no negatives, its ``positive_score`` is null, and ``on_short`` decides. Methods without the positive's score
    (none, ``SkipTop``, ``RankWindow``, ``MaxScore``) do not mind.

    Args:
        corpus: the documents, with the ids of the run.
        queries: text by query id.
        entries: query id, document id and score of every line, in any order.
        score_kind: what the scores mean, such as bm25.
        name: what the output calls the teacher.

    Raises:
        InputError: ids that the corpus or the queries lack, scores that are not finite, a document twice for one query.
    """

    def __init__(
        self,
        corpus: Corpus,
        queries: Mapping[str, str],
        entries: Iterable[tuple[str, str, float]],
        *,
        score_kind: ScoreKind = "bm25",
        name: str = "run",
    ) -> None:
        self.corpus, self.score_kind, self.name = corpus, score_kind, name
        self.spec: RunFile | None = None
        query_ids, document_ids, scores = _columns(entries)
        number = {query: i for i, query in enumerate(queries)}
        lost = next((query for query in query_ids if query not in number), None)
        if lost is not None:
            raise InputError(f"the run names the query {lost!r}, which queries= lacks")
        rows = np.array([number[query] for query in query_ids], np.int64)
        documents = corpus.required_rows(document_ids, "document")
        self._arrays = _padded(rows, documents, scores, len(number))
        self._arrays["query_keys"] = text_keys(queries.values(), corpus.match)
        self._check_repeats()

    @classmethod
    def from_trec(cls, file: str | Path, corpus: Corpus, queries: Mapping[str, str], **options: Any) -> RunTeacher:
        """From lines ``query Q0 document rank score tag``; the score decides, the rank is not read."""
        entries = ((line.query, line.document, line.value) for line in run_lines(file))
        return cls(corpus, queries, entries, **{"name": Path(file).stem, **options})

    @classmethod
    def from_files(cls, spec: RunFile, corpus: Corpus) -> RunTeacher:
        """From a TREC file and the table of its queries, as ``Run("run.trec", queries="queries.jsonl")`` names them.

        Raises:
            InputError: a file that is not there, or no table of queries.
        """
        from hf_posmine.data.layouts import query_columns
        from hf_posmine.data.sources import load_files

        if spec.queries is None:
            raise InputError(f"{spec!r} has no texts of queries; give Run({spec.file!r}, queries='queries.jsonl')")
        file = Path(spec.file).expanduser()
        if not file.is_file():
            raise InputError(f"no such run file: {spec.file}")
        table = load_files(Path(spec.queries).expanduser())
        id_column, text_column = query_columns(table.column_names)
        queries = dict(zip(map(str, table[id_column]), table[text_column], strict=True))
        run = cls.from_trec(file, corpus, queries, score_kind=spec.score_kind)
        run.spec = spec
        return run

    @classmethod
    def from_scores(cls, scores: Any, corpus: Corpus, queries: Mapping[str, str], **options: Any) -> RunTeacher:
        """From the scores part of the documents/queries/scores layout: ``query_id``, ``document_ids``, ``scores``.

        Args:
            scores: a Dataset with one row per query.
            corpus: the documents part, by ids: ``Corpus.from_dataset(documents, "document", "document_id")``.
            queries: the queries part, text by id.
            options: ``score_kind`` and ``name``.
        """
        entries = (
            (str(row["query_id"]), str(document), float(score))
            for row in scores
            for document, score in zip(row["document_ids"], row["scores"], strict=True)
        )
        return cls(corpus, queries, entries, **options)

    def _check_repeats(self) -> None:
        ids = np.sort(self._arrays["doc_ids"], axis=1)
        again = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)
        if again.any():
            row, column = np.argwhere(again)[0].tolist()
            raise InputError(
                f"the run has {self.corpus.describe(int(ids[row, column]))} twice for one query; keep one line"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Content digest."""
        digest = hashlib.sha256(f"{self.score_kind} {self.corpus.fingerprint}".encode())
        for name in sorted(self._arrays):
            digest.update(np.ascontiguousarray(self._arrays[name]).tobytes())
        return digest.hexdigest()[:32]

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        facts = {"kind": "run", "name": self.name, "depth": int(self._arrays["doc_ids"].shape[1])}
        return facts if self.spec is None else {**facts, "spelling": repr(self.spec)}

    def search(
        self, queries: Sequence[str], k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """The best ``k`` documents of the run strictly below the ceilings; see :class:`hf_posmine.core.types.Teacher`."""
        below = np.full(len(queries), np.inf, np.float32) if below is None else below
        exclude = Exclusions.given(exclude, len(queries))
        rows, everyone = self._rows(queries), np.arange(len(queries))
        ids, scores = self._arrays["doc_ids"][rows], self._arrays["scores"][rows]
        no_candidates = np.arange(self.corpus.num_candidates, len(self.corpus))
        exclude = Exclusions(exclude.rows, exclude.bounds, np.union1d(exclude.everywhere, no_candidates))
        known = np.ones(len(rows), bool)
        found = stored_prefix(ids, scores, [SearchRequest(everyone, k, below)], exclude, complete=True, known=known)
        return found[0][0]

    def score(self, queries: Sequence[str], doc_ids: Rows) -> Floats:
        """Scores float32 ``[B, m]`` of corpus rows int64 ``[B, m]``; ``-inf`` where the run does not have them."""
        rows = self._rows(queries)
        out = np.full(doc_ids.shape, -np.inf, np.float32)
        for column in range(doc_ids.shape[1]):
            hits = (self._arrays["doc_ids"][rows] == doc_ids[:, column : column + 1]) & (
                doc_ids[:, column : column + 1] >= 0
            )
            at, place = np.nonzero(hits)
            out[at, column] = self._arrays["scores"][rows[at], place]
        return out

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """``-inf`` for each: a text outside the corpus is not in the run."""
        return np.full(len(queries), -np.inf, np.float32)

    def _rows(self, queries: Sequence[str]) -> Rows:
        rows = self._known.rows(text_keys(queries, self.corpus.match))
        lost = np.flatnonzero(rows < 0)
        if len(lost):
            raise InputError(f"{len(lost)} queries are not in the run {self.name!r}, such as {queries[lost[0]][:60]!r}")
        return rows

    @cached_property
    def _known(self) -> KeyIndex:
        return KeyIndex.build(np.asarray(self._arrays["query_keys"]))

    def __getstate__(self) -> dict[str, Any]:
        """The arrays go to disk once, by content."""
        folder = build_once(cache_root() / "run-files" / self.fingerprint, self._write)
        state = {"corpus": self.corpus, "name": self.name, "score_kind": self.score_kind, "spec": self.spec}
        return {**state, "folder": folder, "fingerprint": self.fingerprint}

    def _write(self, folder: Path) -> None:
        for name, array in self._arrays.items():
            np.save(folder / f"{name}.npy", array)

    def __setstate__(self, state: dict[str, Any]) -> None:
        folder = checked(state.pop("folder"))
        names = ("doc_ids", "scores", "query_keys")
        self._arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
        self.__dict__.update(state)


def _columns(entries: Iterable[tuple[str, str, float]]) -> tuple[list[str], list[str], Floats]:
    query_ids: list[str] = []
    document_ids: list[str] = []
    values: list[float] = []
    for query, document, score in entries:
        query_ids.append(query)
        document_ids.append(document)
        values.append(score)
    scores = np.array(values, np.float32)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise InputError(f"the run's score of {document_ids[bad[0]]!r} for {query_ids[bad[0]]!r} is {values[bad[0]]!r}")
    if not values:
        raise InputError("the run is empty")
    return query_ids, document_ids, scores


def _padded(rows: Rows, documents: Rows, scores: Floats, queries: int) -> dict[str, np.ndarray]:
    """Documents of each query best first, ties in document order; padded to the longest."""
    order = np.lexsort((documents, -scores, rows))
    rows, documents, scores = rows[order], documents[order], scores[order]
    counts = np.bincount(rows, minlength=queries)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    ids = np.full((queries, max(1, int(counts.max(initial=0)))), PADDING, np.int64)
    values = np.full(ids.shape, -np.inf, np.float32)
    ids[rows, columns], values[rows, columns] = documents, scores
    return {"doc_ids": ids, "scores": values}
