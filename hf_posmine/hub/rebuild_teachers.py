"""From a record back to the teachers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.hub.inputs import InputChange, Inputs
from hf_posmine.hub.reach import check_model
from hf_posmine.mining.provenance import hub_revision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.record import MiningRecord, TeacherRecord
    from hf_posmine.mining.second_opinion import SecondOpinion


NAMED = {"sparse": "sparse", "late interaction": "late", "cross-encoder": "cross"}
"""Kinds whose model is all there is to know, and what :func:`~hf_posmine.teachers.factory.make_teacher` calls them."""


def rebuild_teachers(
    record: MiningRecord, inputs: Inputs, corpus: Corpus, known: Qrels | None, changes: list[InputChange]
) -> list[Any]:
    """The teachers that a record describes.

    Raises:
        InputError: a teacher that cannot be made from a record, or a model that was local and is not here.
    """
    kinds = [teacher.recipe.get("kind") for teacher in record.teachers]
    if inputs.teacher is not None and kinds.count("dense") != 1:
        raise InputError(f"the record has {kinds.count('dense')} dense teachers; another teacher can only replace one")
    return [_teacher(was, inputs, corpus, known, changes) for was in record.teachers]


def rebuild_opinion(
    record: MiningRecord, inputs: Inputs, corpus: Corpus, changes: list[InputChange]
) -> SecondOpinion | None:
    """The second opinion that a record describes."""
    from hf_posmine.mining.second_opinion import SecondOpinion

    was = record.second_opinion
    if was is None:
        return None
    own = replace(inputs, teacher=None)
    return SecondOpinion(
        _teacher(was.teacher, own, corpus, None, changes), list(was.filters), rank_by=was.rank_by, depth=was.depth,  # type: ignore[arg-type]
        band=was.band,
    )  # fmt: skip


def _teacher(
    was: TeacherRecord, inputs: Inputs, corpus: Corpus, known: Qrels | None, changes: list[InputChange]
) -> Any:
    recipe, kind = was.recipe, was.recipe.get("kind")
    if kind == "dense":
        return _dense(was, inputs, corpus, known, changes)
    if kind in NAMED:
        return _named(was, inputs, corpus, changes)
    if kind == "bm25":
        from hf_posmine.teachers.bm25 import BM25Teacher

        return BM25Teacher(corpus, **{name: recipe[name] for name in ("language", "stem", "k1", "b")})
    if kind == "random":
        from hf_posmine.teachers.random import RandomTeacher

        return RandomTeacher(corpus, seed=recipe["seed"])
    raise InputError(
        f"a teacher of the record is of the kind {kind!r}, which cannot be made from a record; build the miner by hand"
    )


def _named(was: TeacherRecord, inputs: Inputs, corpus: Corpus, changes: list[InputChange]) -> Any:
    """A sparse, late interaction or cross-encoder teacher, by the name of its model."""
    from hf_posmine.teachers.factory import make_teacher

    commit, folder = was.recipe.get("commit"), Path(was.name).expanduser()
    check_model(was.name, commit, allow_local=inputs.allow_local)
    prompts = {f"{role}_prompt": prompt for role, prompt in was.recipe.get("prompts", {}).items()}
    name = f"{NAMED[was.recipe['kind']]}:{folder if folder.is_dir() else was.name}"
    teacher = make_teacher(name, corpus, revision=commit, device=inputs.device, **prompts)
    if teacher.fingerprint != was.fingerprint:
        changes.append(InputChange(f"the teacher {was.name}", was.fingerprint[:16], teacher.fingerprint[:16]))
    return teacher


def _dense(was: TeacherRecord, inputs: Inputs, corpus: Corpus, known: Qrels | None, changes: list[InputChange]) -> Any:
    from hf_posmine.teachers.dense import DenseTeacher

    model, recipe = _model(was, inputs, changes), was.recipe
    options = {
        "queries": known.queries if known is not None else None,
        "similarity": recipe["similarity"], "dtype": recipe["dtype"], "device": inputs.device, "index": recipe.get("index"),
    }  # fmt: skip
    teacher = DenseTeacher(model, corpus, **options)
    prompts = recipe["prompts"]
    if teacher.model.prompts != prompts:
        given = {f"{role}_prompt": prompts[role] for role in ("query", "document")}
        teacher = DenseTeacher(model, corpus, **options, **given)
    if teacher.model.digest != recipe["model_digest"]:
        found = str(teacher.model.digest)
        changes.append(InputChange(f"the weights of the teacher {was.name}", str(recipe["model_digest"]), found))
    teacher.name = was.name
    return teacher


def _model(was: TeacherRecord, inputs: Inputs, changes: list[InputChange]) -> Any:
    """The recorded model at its commit, with the settings it had."""
    from hf_posmine.encoding.defaults import EMBEDDED
    from hf_posmine.encoding.encode import load_model

    if inputs.teacher is not None and not isinstance(inputs.teacher, (str, Path)):
        return inputs.teacher
    name, commit = str(inputs.teacher or was.name), None if inputs.teacher else was.recipe.get("commit")
    if inputs.teacher is None and name != EMBEDDED:
        check_model(name, commit, allow_local=inputs.allow_local)
    folder = Path(name).expanduser()
    if commit is not None:
        head = hub_revision(name, "model")
        if head is not None and head != commit:
            changes.append(InputChange(f"the teacher {name}", f"commit {commit}", f"commit {head}", decisive=False))
    elif name != EMBEDDED and not folder.is_dir() and folder.is_absolute():
        raise InputError(
            f"no such folder: {name}; pass a model folder or a Hub id as Inputs(teacher=...), or --teacher"
        )
    model = load_model(
        str(folder) if folder.is_dir() else name, device=inputs.device, revision=commit, **_backend(was.recipe)
    )
    return model if inputs.teacher else _as_it_was(model, was.recipe)


def _backend(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """How the passes were computed, where that was not by torch."""
    return {name: recipe[name] for name in ("backend", "compute") if name in recipe}


def _as_it_was(model: Any, recipe: Mapping[str, Any]) -> Any:
    import torch

    if "backend" not in recipe and recipe.get("weights_dtype") and str(model.dtype) != recipe["weights_dtype"]:
        model = model.to(getattr(torch, str(recipe["weights_dtype"]).removeprefix("torch.")))
    for name in ("max_seq_length", "truncate_dim"):
        if recipe.get(name) is not None and getattr(model, name, None) != recipe[name]:
            setattr(model, name, recipe[name])
    return model
