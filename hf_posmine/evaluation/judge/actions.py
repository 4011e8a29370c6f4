"""Judgements on a mined dataset: which negatives are judged, and the action on those judged relevant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.columns import check_text_lists, check_texts
from hf_posmine.data.layouts import pick_columns
from hf_posmine.evaluation.judge.candidates import SUSPECTS, JudgedList, Suspect, Verdict
from hf_posmine.mining.by_id import require_texts
from hf_posmine.mining.columns import JUDGED_POSITIVES, without_outputs, written_columns, written_side_by_side

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_posmine.evaluation.judge.candidates import CandidateJudge

Action: TypeAlias = Literal["flag", "drop", "demote", "relabel", "relabel_or_drop"]
RELABEL: tuple[Action, ...] = ("relabel", "relabel_or_drop")


def judge_negatives(
    mined: Dataset, judge: CandidateJudge, *, query_column: str | None = None, positive_column: str | None = None
) -> list[list[Verdict]]:
    """The verdict on every negative of every row, beside its first positive.

    Args:
        mined: a mined Dataset.
        judge: such as a :class:`~hf_posmine.evaluation.judge.judge.Judge`.
        query_column: by default found by name.
        positive_column: texts or lists of texts; by default found by name.
    """
    lists = candidates_of(mined, query_column, positive_column)
    return judge.judge_candidates(lists)


def candidates_of(
    mined: Dataset, query_column: str | None = None, positive_column: str | None = None
) -> list[JudgedList]:
    """The negatives of every row as candidates of a judge.

    Raises:
        ColumnError: no texts of negatives or of positives.
        InputError: images.
    """
    require_texts(mined, "a judge")
    query, positive, _ = pick_columns(without_outputs(mined), query_column, positive_column, None)
    if positive is None:
        raise ColumnError("a judge compares with the text of the positive; give positive_column=")
    queries = check_texts(mined[query], query)
    positives = check_text_lists(mined[positive], positive)
    rows = zip(queries, positives, mined["negatives"][:], strict=True)
    return [JudgedList(q, p[0], tuple(passages)) for q, p, passages in rows]


def apply_judgements(
    mined: Dataset, judgements: list[list[Verdict]], *, action: Action, suspect: Suspect = "relevant"
) -> Any:
    """Drop, demote, relabel or flag the negatives judged relevant; ``negatives_verdicts`` holds the verdicts on the rest.

    Rows, their order and all other columns stay. What could not be read is not a suspect.

    Args:
        mined: a mined Dataset.
        judgements: per row, the verdict on each negative.
        action: ``flag`` them in ``negatives_suspect``; ``drop`` them; ``demote`` them behind the others; ``relabel`` them:
            move them to ``judged_positives``; ``relabel_or_drop``: the same, and drop what is relevant and no suspect (with
            ``suspect="better"`` this is ARHN, arXiv 2604.11092).
        suspect: which verdicts make one: any ``relevant`` negative, one that is ``at_least_equal`` to the positive, or
            only one that is ``better`` (RLHN, arXiv 2505.16967).
    """
    if action not in get_args(Action):
        raise InputError(f"action={action!r}; expected one of {', '.join(get_args(Action))}")
    if suspect not in SUSPECTS:
        raise InputError(f"suspect={suspect!r}; expected one of {', '.join(SUSPECTS)}")
    if len(judgements) != len(mined):
        raise InputError(f"{len(judgements)} judged rows for {len(mined)} mined ones; judge the same dataset")
    if action == "demote" and "num_random" in written_columns(mined):
        raise InputError("demote would mix random fills with mined negatives; use flag, drop or relabel")
    parallel = written_side_by_side(mined)
    return mined.map(
        _act,
        with_indices=True,
        fn_kwargs={
            "judgements": judgements,
            "action": action,
            "suspects": SUSPECTS[suspect],
            "taken": SUSPECTS[taken_by(action, suspect)],
            "parallel": parallel,
        },
        features=_features(mined, action),
    )


def _features(mined: Dataset, action: Action) -> Any:
    from datasets import Features, List, Value

    features = Features({**mined.features, "negatives_verdicts": List(Value("string"))})
    if action == "flag":
        features["negatives_suspect"] = List(Value("bool"))
    if action in RELABEL:
        features[JUDGED_POSITIVES] = List(Value("string"))
    return features


def taken_by(action: Action, suspect: Suspect) -> Suspect:
    """Which verdicts an action takes from the negatives; those of ``suspect`` may be fewer.

    >>> taken_by("relabel", "better"), taken_by("relabel_or_drop", "better")
    ('better', 'relevant')
    """
    return "relevant" if action == "relabel_or_drop" else suspect


def _act(
    row: dict[str, Any], number: int, judgements: list[list[Verdict]], action: Action, suspects: tuple[str, ...],
    taken: tuple[str, ...], parallel: list[str],
) -> dict[str, Any]:  # fmt: skip
    """One row after the action."""
    verdicts, count = judgements[number], len(row["negatives"])
    if len(verdicts) != count:
        raise InputError(f"row {number} has {count} negatives and {len(verdicts)} verdicts; judge the same dataset")
    bad = [verdict in suspects for verdict in verdicts]
    new: dict[str, Any] = {}
    order = list(range(count))
    if action == "flag":
        new["negatives_suspect"] = bad
    elif action == "demote":
        order.sort(key=lambda at: bad[at])
    else:
        out = [verdict in taken for verdict in verdicts]
        order = [at for at in order if not out[at]]
        if action in RELABEL:
            before = row.get(JUDGED_POSITIVES) or []
            new[JUDGED_POSITIVES] = before + [row["negatives"][at] for at in range(count) if bad[at]]
        filled = row.get("num_random")
        if filled is not None:  # they are at the end
            new["num_random"] = filled - sum(out[count - filled :])
    lists = {name: [row[name][at] for at in order] for name in parallel}
    return {**lists, **new, "negatives_verdicts": [verdicts[at] for at in order]}
