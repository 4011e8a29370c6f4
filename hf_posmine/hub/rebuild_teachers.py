"""From a record back to the teachers, by their spellings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.hub.inputs import InputChange, Inputs
from hf_posmine.hub.teacher_inputs import in_place_of, recorded_spec, replacements
from hf_posmine.mining.provenance import hub_revision
from hf_posmine.teachers.capabilities import describe, renamed
from hf_posmine.teachers.factory import make_teacher, open_teacher
from hf_posmine.teachers.spellings import TeacherContext

if TYPE_CHECKING:
    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.record import TeacherRecord


def rebuild_teachers(
    recorded: list[TeacherRecord], inputs: Inputs, corpus: Corpus, queries: Corpus | None, changes: list[InputChange]
) -> list[Teacher]:
    """The teachers of a record, or those given in their place; every difference is added to ``changes``.

    Raises:
        InputError: a teacher that has to be given.
    """
    given = replacements(recorded, inputs)
    return [_teacher(was, given.get(at), inputs, corpus, queries, changes) for at, was in enumerate(recorded)]


def _teacher(
    was: TeacherRecord, given: Any, inputs: Inputs, corpus: Corpus, queries: Corpus | None, changes: list[InputChange]
) -> Teacher:
    recipe, settings = was.recipe, ("similarity", "dtype", "index") if was.recipe.get("kind") == "dense" else ()
    if given is not None and not isinstance(given, str):
        return _compared(
            was, make_teacher(given, corpus, queries=queries, **{n: recipe.get(n) for n in settings}), changes
        )
    spec = recorded_spec(was, allow_local=inputs.allow_local) if given is None else in_place_of(was, given)
    head = hub_revision(was.name, "model") if given is None and recipe.get("commit") else None
    if head is not None and head != recipe["commit"]:
        moved = f"commit {recipe['commit']}", f"commit {head}"
        changes.append(InputChange(f"the teacher {was.name}", *moved, decisive=False))
    context = TeacherContext(queries, device=inputs.device, backend=recipe.get("backend", "torch"))
    return _compared(was, open_teacher(spec, corpus, context), changes)


def _compared(was: TeacherRecord, teacher: Teacher, changes: list[InputChange]) -> Teacher:
    """The teacher under its recorded name; other weights, or else other scores, are noted."""
    recorded, found = was.recipe.get("model_digest"), describe(teacher).get("model_digest")
    if recorded != found:
        changes.append(InputChange(f"the weights of the teacher {was.name}", str(recorded), str(found)))
    elif teacher.fingerprint != was.fingerprint:
        changes.append(InputChange(f"the teacher {was.name}", was.fingerprint[:16], teacher.fingerprint[:16]))
    return renamed(teacher, was.name)
