"""The columns of a data set of a blend: as its spec names them, else as mining recorded them, else by layout and name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_posmine.core.errors import ColumnError
from hf_posmine.core.suggest import respelled
from hf_posmine.data.columns import column_names
from hf_posmine.data.layouts import pick_columns
from hf_posmine.mining.columns import JUDGED_POSITIVES, list_column, without_outputs
from hf_posmine.training.convert.lists import find_negatives
from hf_posmine.training.dataset_spec import ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset

    from hf_posmine.mining.record import MiningRecord
    from hf_posmine.training.dataset_spec import DatasetSpec

NEGATIVES = {"retrieval": "negatives", "reranking": "negative"}
"""Tasks whose rows bring their negatives, and the role of these."""


@dataclass(frozen=True)
class RoleColumns:
    """The columns that training rows were made from.

    Attributes:
        by_role: role -> column, in the order of :data:`~hf_posmine.training.dataset_spec.ROLES`; the negatives' is None
            where they are in numbered columns or are not read.
        num_negatives: of a row, as wanted.
    """

    by_role: Mapping[str, str | None]
    num_negatives: int

    @classmethod
    def of(cls, spec: DatasetSpec, dataset: Dataset, recorded: MiningRecord | None, *, wanted: int) -> RoleColumns:
        """The columns of a loaded data set.

        Raises:
            ColumnError: a column that is missing or ambiguous; the message names the key that chooses.
        """
        defaults = ROLES[spec.task] if recorded is None else {**ROLES[spec.task], **_recorded(recorded, dataset)}
        roles = {role: spec.columns.get(role, defaults[role]) for role in ROLES[spec.task]}
        if spec.task in NEGATIVES:
            try:
                by_id = spec.corpus is not None or "corpus" in (spec.mine or {})
                roles |= _found(dataset, roles, NEGATIVES[spec.task] if wanted and spec.mine is None else None, by_id)
            except ColumnError as error:
                hints = {"query_column": "query", "positive_column": "positive", "negatives": NEGATIVES[spec.task]}
                keys = {argument: f"columns: {{{role}: ...}}" for argument, role in hints.items()}
                raise ColumnError(respelled(str(error), keys)) from error
        if JUDGED_POSITIVES in roles:
            judged = _judged(spec, dataset, roles.pop(JUDGED_POSITIVES))
            roles |= {} if judged is None else {JUDGED_POSITIVES: judged}
        return cls(roles, wanted)

    def __str__(self) -> str:
        """The line that every run prints."""
        named = (f"{role}: {column}" for role, column in self.by_role.items() if column is not None)
        return " · ".join([*named, f"negatives per row: {self.num_negatives}"])


def _judged(spec: DatasetSpec, dataset: Dataset, named: str | None) -> str | None:
    """The column of judged positives, None where there is none or it is left out."""
    if spec.judged_positives is False:
        return None
    column = named or JUDGED_POSITIVES
    if column in column_names(dataset):
        return column
    if named or spec.judged_positives:
        raise ColumnError(
            f"no column {column!r} among {column_names(dataset)}; write it with hf-posmine judge --action relabel, or leave "
            "judged_positives out"
        )
    return None


def _recorded(recorded: MiningRecord, dataset: Dataset) -> dict[str, str]:
    """The roles of the columns that the miner read and wrote."""
    named = {"query": recorded.columns.query, "positive": recorded.columns.positive}
    named |= dict.fromkeys(NEGATIVES.values(), list_column(column_names(dataset)) or "negatives")
    return {role: column for role, column in named.items() if column in column_names(dataset)}


def _found(
    dataset: Dataset, roles: Mapping[str, str | None], negatives: str | None, named: bool
) -> dict[str, str | None]:
    """The roles that are not given, by layout and name; ``negatives`` is their role where they are wanted.

    Args:
        dataset: the rows.
        roles: as given.
        negatives: the role of the negatives; None where they are not read.
        named: whether a corpus has the documents of ids.
    """
    query, positive, by_id = pick_columns(without_outputs(dataset), roles["query"], roles["positive"], None)
    if positive is None and not named:
        raise ColumnError(
            f"column {by_id!r} holds ids of the positives; give corpus: with the documents that they name, or name their column "
            "with positive_column="
        )
    positive = positive or by_id
    if negatives is None:
        return {"query": query, "positive": positive}
    given = roles[negatives] or find_negatives(column_names(dataset), (query, str(positive)))
    return {"query": query, "positive": positive, negatives: given}
