"""Teachers of a record that the user has to give: a record from elsewhere opens no local path and calls no service."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.defaults import DEFAULT_MODEL, EMBEDDED
from hf_posmine.hub.reach import check_model
from hf_posmine.teachers.spellings import (
    BM25,
    Cross,
    Dense,
    Endpoint,
    Late,
    MaxP,
    Random,
    RunFile,
    Sparse,
    TeacherSpec,
    VectorFiles,
    as_teacher_spec,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.hub.inputs import Inputs
    from hf_posmine.mining.record import TeacherRecord

NAMES: dict[type, tuple[str, ...]] = {Endpoint: ("url", "model"), RunFile: ("file", "queries")}
"""The fields that name a teacher, where they are more than the first one."""
GIVE = "pass it as Inputs(teacher=...), or --teacher"


def recorded_spec(was: TeacherRecord, *, allow_local: bool = False) -> TeacherSpec:
    """The spelling of a recorded teacher, if the record alone leads to it.

    Args:
        was: as recorded.
        allow_local: whether local paths of the record may be read.

    Raises:
        InputError: a teacher that has to be given, and why.
    """
    spelling = was.recipe.get("spelling")
    if not isinstance(spelling, str):
        raise InputError(
            f"the record does not say how to make the teacher {was.name!r}, of the kind {_kind(was)}; {GIVE}"
        )
    try:
        spec = as_teacher_spec(spelling)
    except (RecursionError, MemoryError):
        raise InputError(f"the spelling of the teacher {was.name!r} is nested too deep; {GIVE}") from None
    _check_reach(spec.of_passages if isinstance(spec, MaxP) else spec, spelling, allow_local=allow_local)
    return spec


def _check_reach(spec: TeacherSpec, spelling: str, *, allow_local: bool) -> None:
    """Refuse a teacher of local files that are not allowed, or of a service."""
    if isinstance(spec, (RunFile, VectorFiles)) and not allow_local:
        raise InputError(
            f"the teacher {spelling} was made from local files; {GIVE}, such as {type_name(spec)}('<path>')"
        )
    if isinstance(spec, Endpoint):
        raise InputError(f"the teacher {spelling} is a service, which is called only if you name it; {GIVE}")
    if isinstance(spec, (Dense, Sparse, Late, Cross)) and spec.model not in (EMBEDDED, DEFAULT_MODEL):
        check_model(spec.model, spec.revision, allow_local=allow_local)
    if isinstance(spec, BM25) and spec.tokenizer is not None:
        check_model(spec.tokenizer, spec.revision, allow_local=allow_local)


def type_name(spec: TeacherSpec) -> str:
    """The name in a spelling."""
    return repr(spec).partition("(")[0]


def replacements(recorded: Sequence[TeacherRecord], inputs: Inputs) -> dict[int, Any]:
    """The given teachers by the number of the recorded one whose place they take.

    As many as have to be given take their places in order; a single one takes the place of the only dense teacher; else
    there must be one for each teacher with a model.

    Raises:
        InputError: another number of teachers.
    """
    if inputs.teacher is None:
        return {}
    given = list(inputs.teacher) if isinstance(inputs.teacher, (list, tuple)) else [inputs.teacher]
    needed = [at for at, was in enumerate(recorded) if not _is_recorded(was, inputs.allow_local)]
    dense = [at for at, was in enumerate(recorded) if was.recipe.get("kind") == "dense"]
    models = [at for at, was in enumerate(recorded) if was.recipe.get("kind") not in ("bm25", "random")]
    for places in (needed, dense, models):
        if places and len(places) == len(given):
            return dict(zip(places, given, strict=True))
    names = ", ".join(recorded[at].name for at in needed or models) or "none"
    raise InputError(f"{len(given)} teachers are given in the place of recorded ones; those to replace are: {names}")


def in_place_of(was: TeacherRecord, given: str) -> TeacherSpec:
    """A given spelling; a name alone keeps the other settings of the recorded spelling."""
    spec, spelling = as_teacher_spec(given), was.recipe.get("spelling")
    recorded = as_teacher_spec(spelling) if isinstance(spelling, str) else spec
    own: dict[str, Any] = {name: vars(spec)[name] for name in NAMES.get(type(spec), (fields(spec)[0].name,))}
    alone: Any = type(spec)
    if isinstance(spec, (BM25, Random)) or spec != alone(**own):
        return spec
    by_model = isinstance(spec, Dense) and isinstance(recorded, (Sparse, Late, Cross))  # a folder does not say its kind
    if type(recorded) is not type(spec) and not by_model:
        return spec
    own |= {"revision": None} if "revision" in vars(spec) else {}
    return replace(recorded, **own)


def _is_recorded(was: TeacherRecord, allow_local: bool) -> bool:
    try:
        recorded_spec(was, allow_local=allow_local)
    except InputError:
        return False
    return True


def _kind(was: TeacherRecord) -> str:
    return repr(was.recipe.get("kind", "other"))
