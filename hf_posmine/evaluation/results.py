"""Results per query: kept as JSON, shown as a table, aligned for a comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.evaluation.measures import Run, Scores

KIND = "hf_posmine retrieval result"


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """One model on one collection.

    Attributes:
        name: of the collection.
        model: its Hub id, folder or other name.
        query_ids: the scored queries, Q of them.
        scores: per measure, float64 ``[Q]``.
        details: settings and versions behind the figures.
        run: what was retrieved; not kept in the JSON (``run.write_trec`` exports it).
    """

    name: str
    model: str
    query_ids: tuple[str, ...]
    scores: Mapping[str, Scores]
    details: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None

    @property
    def num_queries(self) -> int:
        """Queries that were scored."""
        return len(self.query_ids)

    @property
    def means(self) -> dict[str, float]:
        """The mean of each measure over the queries."""
        return {measure: float(values.mean()) for measure, values in self.scores.items()}

    def table(self) -> Any:
        """The means as a rich table."""
        return results_table([self])

    def save(self, path: str | Path) -> Path:
        """Write everything but the run as JSON."""
        record = {
            "kind": KIND, "collection": self.name, "model": self.model, "means": self.means, "queries": self.num_queries,
            "details": dict(self.details), "query_ids": list(self.query_ids),
            "scores": {measure: values.tolist() for measure, values in self.scores.items()},
        }  # fmt: skip
        write_file(Path(path), lambda temporary: temporary.write_text(json.dumps(record) + "\n", encoding="utf-8"))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> RetrievalResult:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: no such file, or another kind of file.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError:
            raise InputError(f"no such file: {path}") from None
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("kind") != KIND:
            raise InputError(f"{str(path)!r} is not a retrieval result; write one with hf-posmine evaluate --output")
        scores = {measure: np.array(values, np.float64) for measure, values in record["scores"].items()}
        return cls(record["collection"], record["model"], tuple(record["query_ids"]), scores, record["details"])


def aligned_scores(results: Mapping[str, RetrievalResult], measure: str) -> dict[str, Scores]:
    """The measure's values of several systems, query by query in the order of the first.

    Raises:
        InputError: another collection, other queries, or a measure that was not computed.
    """
    first_name, first = next(iter(results.items()))
    aligned = {}
    for name, result in results.items():
        if measure not in result.scores:
            raise InputError(f"{name} has no {measure}; it has {', '.join(result.scores)}")
        if result.name != first.name:
            raise InputError(
                f"{name} was measured on {result.name!r}, {first_name} on {first.name!r}; compare like with like"
            )
        position = {query: number for number, query in enumerate(result.query_ids)}
        odd = sorted(set(first.query_ids) ^ set(position))
        if odd:
            raise InputError(
                f"{first_name} scored {first.num_queries} queries and {name} {result.num_queries}; {len(odd)} are in one "
                f"only, such as {odd[0]!r}: evaluate both on the same judgements"
            )
        aligned[name] = result.scores[measure][[position[query] for query in first.query_ids]]
    return aligned


def results_table(results: Sequence[RetrievalResult]) -> Any:
    """Means as a rich table, a row per collection, and their mean where there are several."""
    from rich.table import Table

    measures = list(results[0].scores)
    table = Table(title=f"Retrieval by {results[0].model}", title_justify="left")
    for column in ("collection", "queries", *measures):
        table.add_column(column, justify="left" if column == "collection" else "right")
    for result in results:
        table.add_row(result.name, str(result.num_queries), *(f"{result.means[measure]:.4f}" for measure in measures))
    if len(results) > 1:
        means = [np.mean([result.means[measure] for result in results]) for measure in measures]
        table.add_section()
        table.add_row("mean", "", *(f"{mean:.4f}" for mean in means))
    return table
