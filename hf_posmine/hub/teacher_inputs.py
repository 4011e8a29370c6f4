"""Which teachers of a record have to be given: a record from elsewhere opens no local path and calls no service."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.defaults import DEFAULT_MODEL, EMBEDDED
from hf_posmine.teachers.spellings import BM25, Endpoint, Random, Run, TeacherSpec, VectorFiles, as_teacher_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.hub.inputs import Inputs
    from hf_posmine.mining.record import TeacherRecord

HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
NAMES: dict[type, tuple[str, ...]] = {Endpoint: ("url", "model"), Run: ("file", "queries")}
"""The fields that name a teacher, where they are more than the first one."""
GIVE = "pass it as Inputs(teacher=...), or --teacher"


def recorded_spec(was: TeacherRecord) -> TeacherSpec:
    """The spelling of a recorded teacher, if the record alone leads to it.

    Raises:
        InputError: a teacher that has to be given, and why.
    """
    spelling = was.recipe.get("spelling")
    if not isinstance(spelling, str):
        raise InputError(
            f"the record does not say how to make the teacher {was.name!r}, of the kind {_kind(was)}; {GIVE}"
        )
    spec = as_teacher_spec(spelling)
    if isinstance(spec, (Run, VectorFiles)):
        raise InputError(
            f"the teacher {spelling} was made from local files; {GIVE}, such as {type_name(spec)}('<path>')"
        )
    if isinstance(spec, Endpoint):
        raise InputError(f"the teacher {spelling} is a service, which is called only if you name it; {GIVE}")
    if not isinstance(spec, (BM25, Random)):
        _check_from_hub(was, spec.model, spec.revision)
    return spec


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
    needed = [at for at, was in enumerate(recorded) if not _is_recorded(was)]
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
    own = {name: vars(spec)[name] for name in NAMES.get(type(spec), (fields(spec)[0].name,))}
    alone: Any = type(spec)
    if type(recorded) is not type(spec) or isinstance(spec, (BM25, Random)) or spec != alone(**own):
        return spec
    return replace(recorded, **own, **({"revision": None} if "revision" in vars(spec) else {}))


def _is_recorded(was: TeacherRecord) -> bool:
    try:
        recorded_spec(was)
    except InputError:
        return False
    return True


def _check_from_hub(was: TeacherRecord, model: str, revision: str | None) -> None:
    if model in (EMBEDDED, DEFAULT_MODEL):
        return
    if not HUB_ID.fullmatch(model) or Path(model).exists():
        raise InputError(f"the teacher {was.name!r} was a local folder when it was recorded; {GIVE}")
    if was.recipe.get("commit") is None or revision is None:
        raise InputError(f"the record names the teacher {was.name!r} without a commit of the Hub; {GIVE}")


def _kind(was: TeacherRecord) -> str:
    return repr(was.recipe.get("kind", "other"))
