"""New negatives in the place of those that a judge suspects: mined below the same ceiling, and judged like the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import of_rows
from hf_posmine.data.texts import normalize
from hf_posmine.evaluation.judge.actions import candidates_of
from hf_posmine.evaluation.judge.candidates import SUSPECTS, JudgedList, Suspect, Verdict
from hf_posmine.mining.columns import JUDGED_POSITIVES, SIDE_BY_SIDE, written_columns, written_side_by_side
from hf_posmine.mining.miner import PositiveAwareMiner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.core.settings import Keep
    from hf_posmine.evaluation.judge.candidates import CandidateJudge

ROWS = 1000
DEPTH = 50
KEPT: dict[str, Keep] = {
    "negatives_scores": "scores",
    "negatives_positive_scores": "scores",
    "negatives_second_scores": "scores",
    "negatives_ids": "ids",
    "negatives_ranks": "ranks",
}
"""Columns of the negatives, and the setting that lets mining write them."""


@dataclass
class _OpenRow:
    """A row with too few clean negatives, and what is left to try for it.

    Attributes:
        row: its number.
        one: its query and positive.
        missing: negatives that it wants.
        left: the next candidates: values by column.
        taken: those that were judged.
        verdicts: of these.
    """

    row: int
    one: JudgedList
    missing: int
    left: Iterator[dict[str, Any]]
    taken: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


def top_up(
    mined: Dataset,
    judgements: Sequence[Sequence[Verdict]],
    judge: CandidateJudge,
    miner: PositiveAwareMiner,
    *,
    num_negatives: int,
    suspect: Suspect = "relevant",
    depth: int = DEPTH,
) -> tuple[Dataset, list[list[Verdict]]]:
    """Rows with more negatives, so that each has ``num_negatives`` clean ones (not suspects), and the verdicts on all.

    The next candidates below the miner's ceiling are judged in their order, only as many as are missing each time: the clean
    negatives of a row are the first that a judge of all candidates would leave. Then
    :func:`~hf_posmine.evaluation.judge.actions.apply_judgements` acts on old and new ones alike. A row that has fewer after
    ``depth`` candidates stays short.

    Args:
        mined: a mined Dataset.
        judgements: per row, the verdict on each of its negatives.
        judge: who judged them.
        miner: that mined the rows, or another where they hold texts alone.
        num_negatives: that every row should have.
        suspect: which verdicts make a suspect; unreadable ones never do.
        depth: candidates of a row, those that it has included.

    Raises:
        InputError: rows of several teachers or with random fills, or columns that the miner does not write.
    """
    lists = candidates_of(mined, miner.query_column, miner.positive_column)
    source = _DeepMiner.of(mined, miner, max(depth, num_negatives))
    made: list[Any] = [list(row) for row in judgements]
    added: list[list[dict[str, Any]]] = [[] for _ in lists]
    wanted = {row: num_negatives - _clean(verdicts, suspect) for row, verdicts in enumerate(judgements)}
    short = [row for row, missing in wanted.items() if missing > 0]
    for start in range(0, len(short), ROWS):
        rows = short[start : start + ROWS]
        open_ = [
            _OpenRow(row, lists[row], wanted[row], iter(found))
            for row, found in zip(rows, source.candidates(mined, rows, lists), strict=True)
        ]
        _judge_in_turns(open_, judge, suspect)
        for one in open_:
            added[one.row], made[one.row] = one.taken, made[one.row] + one.verdicts
    return _extended(mined, source.columns, added), made


def _clean(verdicts: Sequence[Verdict], suspect: Suspect) -> int:
    """Negatives that stay where all that is relevant to the action is taken."""
    return sum(verdict not in SUSPECTS[suspect] for verdict in verdicts)


def _judge_in_turns(open_: Sequence[_OpenRow], judge: CandidateJudge, suspect: Suspect) -> None:
    """Judge the missing number of candidates of every open row, until none is open or has candidates."""
    while True:
        asked = []
        for one in open_:
            new = [entry for _, entry in zip(range(one.missing), one.left, strict=False)]
            if new:
                asked.append((one, new))
        if not asked:
            return
        lists = [replace(one.one, passages=tuple(entry["negatives"] for entry in new)) for one, new in asked]
        for (one, new), verdicts in zip(asked, judge.judge_candidates(lists), strict=True):
            one.taken += new
            one.verdicts += verdicts
            one.missing -= _clean(verdicts, suspect)


@dataclass(frozen=True)
class _DeepMiner:
    """A miner of many candidates, and the columns that it gives for each.

    Attributes:
        miner: with ``depth`` negatives a row.
        columns: side by side, of the rows.
    """

    miner: PositiveAwareMiner
    columns: tuple[str, ...]

    @classmethod
    def of(cls, mined: Dataset, miner: PositiveAwareMiner, depth: int) -> _DeepMiner:
        if miner.settings.ensemble:
            raise InputError("rows of several teachers cannot be topped up; mine again with a larger num_negatives")
        if "num_random" in written_columns(mined):
            raise InputError("rows with random fills cannot be topped up; mine with on_short='keep'")
        columns = [name for name in written_side_by_side(mined) if name in SIDE_BY_SIDE]
        unknown = [name for name in columns if name not in KEPT and name != "negatives"]
        if unknown:
            raise InputError(f"column {unknown[0]!r} cannot be topped up; leave it out of the rows")
        opinion = miner.second_opinion
        changes: dict[str, Any] = {
            "num_negatives": depth if opinion is None else min(depth, opinion.depth),
            "keep": tuple(dict.fromkeys(KEPT[name] for name in columns if name in KEPT)),
            "filters": [repr(f) for f in miner.settings.all_filters if not of_rows([f])],  # each row has its candidates
            "sampler": "Top()",
            "negatives_as": "texts",
            "on_short": "keep",
            "weak_positive": "keep",
        }
        deep = PositiveAwareMiner(
            teachers=miner.teachers, second_opinion=opinion, **miner.inputs, **{**miner.settings.to_dict(), **changes}
        )
        return cls(deep, tuple(columns))

    def candidates(
        self, mined: Dataset, rows: Sequence[int], lists: Sequence[JudgedList]
    ) -> list[list[dict[str, Any]]]:
        """The candidates of some rows in their order, without those that a row has: values by column."""
        inputs = [self.miner.query_column, self.miner.positive_column, self.miner.positive_id_column]
        batch = mined.select_columns([name for name in inputs if name]).select(rows).with_format(None)[:]
        found: Mapping[str, Any] = self.miner(batch)
        missing = [name for name in self.columns if name not in found]
        if missing:
            raise InputError(
                f"the rows have {missing[0]!r}, which this miner does not write; top up with the miner of their record, or "
                "leave the column out"
            )
        made = []
        for at, row in enumerate(rows):
            relabelled = (mined[row][JUDGED_POSITIVES] or []) if JUDGED_POSITIVES in mined.column_names else []
            seen = {normalize(text) for text in (lists[row].positive, *lists[row].passages, *relabelled)}
            entries = [{name: found[name][at][i] for name in self.columns} for i in range(len(found["negatives"][at]))]
            made.append([entry for entry in entries if normalize(entry["negatives"]) not in seen])
        return made


def _extended(mined: Dataset, columns: Sequence[str], added: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
    """The rows with the new values behind those that they have."""

    def extend(row: dict[str, Any], number: int) -> dict[str, Any]:
        return {name: [*row[name], *(entry[name] for entry in added[number])] for name in columns}

    return mined.map(extend, with_indices=True, features=mined.features, load_from_cache_file=False)
