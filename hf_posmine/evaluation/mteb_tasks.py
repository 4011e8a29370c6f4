"""Retrieval tasks of MTEB by name, as judged collections: their data by mteb's own loader, scored per query here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.evaluation.collection import Collection, query_texts

if TYPE_CHECKING:
    from mteb import AbsTask


def mteb_collection(task: AbsTask, *, subset: str | None = None, split: str | None = None) -> Collection:
    """A retrieval task of MTEB.

    Args:
        task: its name, such as ``"SciFact"``, or a task object of mteb.
        subset: its subset, such as a language; needed where there are several.
        split: by default the task's own evaluation split.

    Raises:
        MissingExtraError: mteb is not installed.
        InputError: no such task, one that is not a retrieval task, or a subset or split it lacks.
    """
    task = _task(task) if isinstance(task, str) else task
    task.load_data()
    name = task.metadata.name
    subsets = task.dataset
    chosen = _only(name, "subset", subset, list(subsets), ["default"])
    splits = subsets[chosen]
    data = splits[_only(name, "split", split, list(splits), list(task.metadata.eval_splits))]
    if not isinstance(data, dict) or "relevant_docs" not in data:
        raise InputError(
            f"MTEB's task {name!r} is a {task.metadata.type} task; only retrieval tasks are scored per query"
        )
    judgements = (
        (query, document, score) for query, found in data["relevant_docs"].items() for document, score in found.items()
    )
    label = name if len(subsets) == 1 else f"{name}-{chosen}"
    return Collection.of(label, data["corpus"], query_texts(data["queries"]), judgements)


def _task(name: str) -> Any:
    try:
        import mteb
    except ImportError:
        raise MissingExtraError("an MTEB task", "mteb") from None
    try:
        return mteb.get_task(name)
    except KeyError as error:
        raise InputError(f"MTEB has no task {name!r}: {' '.join(str(error.args[0]).split())}") from None


def _only(task: str, what: str, wanted: str | None, there: list[str], preferred: list[str]) -> str:
    found = [name for name in ([wanted] if wanted else preferred) if name in there]
    if not found and not wanted and len(there) == 1:
        return there[0]
    if not found:
        raise InputError(f"MTEB's task {task!r} has no {what} {wanted!r}; choose one of {sorted(there)}")
    return found[0]
