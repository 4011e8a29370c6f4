"""Teachers from their spelling: what the command line, a YAML file, ``PositiveAwareMiner.from_dataset`` and a record hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Teacher
from hf_posmine.teachers.dense_model import Encodes
from hf_posmine.teachers.spellings import (
    ACCESS,
    BM25,
    TEACHERS,
    Cross,
    Dense,
    Endpoint,
    Late,
    MaxP,
    Random,
    RunFile,
    Sparse,
    TeacherContext,
    TeacherSpec,
    VectorFiles,
    as_teacher_spec,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

    from hf_posmine.data.corpus import Corpus

TeacherLike: TypeAlias = str | TeacherSpec | Teacher | Encodes | Callable[[list[str]], Any]
"""A ready teacher, a spelling or its value, or a model or function that turns texts into vectors."""

READS_TEXTS = (BM25, Cross, Endpoint, Sparse, MaxP)
"""Teachers that cannot score images."""
DEFAULTS = {("dtype", "float32"), ("backend", "torch")}
"""Options that count as not given."""
HELP = (
    "a Hub id or folder, 'embedded', 'bm25', 'bm25:german', 'random', 'sparse:<model>', 'late:<model>', 'cross:<model>', an "
    'http address, or a spelling such as \'Dense("<model>", query_prompt="query: ")\'; of ' + ", ".join(TEACHERS)
)


def open_teacher(spec: TeacherSpec, corpus: Corpus, context: TeacherContext | None = None) -> Teacher:
    """The teacher that a spelling names, over a corpus.

    Args:
        spec: what decides the scores.
        corpus: the documents.
        context: where and how they are computed.

    Raises:
        InputError: a teacher of texts over images.
    """
    if isinstance(spec, READS_TEXTS) and corpus.num_images:
        raise InputError(
            f"{spec} reads texts, and {corpus.num_images:,} documents of the corpus are images; take a model of images, vectors "
            "of your own, or their texts as the corpus"
        )
    return _OPENERS[type(spec)](spec, corpus, context or TeacherContext())


def make_teacher(teacher: TeacherLike, corpus: Corpus, *, queries: Corpus | None = None, **options: Any) -> Teacher:
    """A teacher from its spelling or its model; a ready teacher stays what it is.

    Args:
        teacher: a spelling or a shorthand, see :func:`~hf_posmine.teachers.spellings.as_teacher_spec`, or a model as
            :class:`~hf_posmine.teachers.dense.DenseTeacher` takes it.
        corpus: the documents.
        queries: query texts to encode beforehand, for teachers that store them.
        options: fields of the spelling and of :class:`~hf_posmine.teachers.spellings.TeacherContext`; None counts as not
            given.

    Raises:
        InputError: options that such a teacher does not have.
    """
    if isinstance(teacher, Teacher):
        return teacher
    spec = _spec_of(teacher)
    if spec is None:
        return _dense(teacher, corpus, queries=queries, **_without_access(teacher, options))
    given = _given(options)
    unknown = [name for name in given if name not in _options_of(spec)]
    if unknown and unknown[0] in ACCESS:
        raise InputError(
            f"{unknown[0]} is for services, named by their address; the teacher {str(teacher)!r} is not one"
        )
    if unknown:
        known = ", ".join(_options_of(spec))
        raise InputError(f"the teacher {str(teacher)!r} has no option {unknown[0]!r}; it has: {known}")
    own = {name: value for name, value in given.items() if name not in spec.takes}
    context = TeacherContext(queries, **{name: value for name, value in given.items() if name in spec.takes})
    return open_teacher(replace(spec, **own), corpus, context)


def make_teachers(
    teachers: Sequence[TeacherLike], corpus: Corpus, *, queries: Corpus | None = None, **options: Any
) -> list[Teacher]:
    """Several teachers; each takes the options it has, and one that none has is an error."""
    if len(teachers) == 1:
        return [make_teacher(teachers[0], corpus, queries=queries, **options)]
    unused = [name for name in _given(options) if not any(_takes(teacher, name) for teacher in teachers)]
    if unused:
        raise InputError(f"none of the teachers {list(map(str, teachers))} has an option {unused[0]!r}")
    return [
        make_teacher(t, corpus, queries=queries, **{name: value for name, value in options.items() if _takes(t, name)})
        for t in teachers
    ]


def _spec_of(teacher: TeacherLike) -> TeacherSpec | None:
    """The spelling of a teacher that has one; None for a model in memory."""
    if isinstance(teacher, str):
        return as_teacher_spec(teacher)
    return teacher if isinstance(teacher, tuple(TEACHERS.values())) else None  # type: ignore[return-value]


def _options_of(spec: TeacherSpec) -> list[str]:
    """The options of such a teacher: its fields behind the first, which names it, and those of the context."""
    first, *others = [entry.name for entry in fields(spec)]
    if isinstance(spec, BM25) and spec.tokenizer is None:
        others.remove("revision")  # it is that of a tokenizer
    return [*([first] if isinstance(spec, (BM25, Random)) else []), *others, *spec.takes]


def _takes(teacher: TeacherLike, option: str) -> bool:
    if isinstance(teacher, Teacher):
        return False
    spec = _spec_of(teacher)
    return option not in ACCESS if spec is None else option in _options_of(spec)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were set."""
    return {name: v for name, v in options.items() if v is not None and (name, v) not in DEFAULTS}


def _without_access(teacher: TeacherLike, options: dict[str, Any]) -> dict[str, Any]:
    asked = [name for name in ACCESS if options.get(name) is not None]
    if asked:
        raise InputError(f"{asked[0]} is for services, named by their address; {type(teacher).__name__} is not one")
    return {name: value for name, value in options.items() if name not in ACCESS}


def _dense(model: str | SentenceTransformer, corpus: Corpus, **options: Any) -> Teacher:
    from hf_posmine.teachers.dense import DenseTeacher

    return DenseTeacher(model, corpus, **options)


def _open_dense(spec: Dense, corpus: Corpus, context: TeacherContext) -> Teacher:
    if not context.weights:
        from hf_posmine.teachers.unloaded import ModelFacts, UnloadedTeacher

        facts = ModelFacts.of(spec)
        if facts is not None:
            return UnloadedTeacher(facts, spec, corpus, context)
    own = {name: value for name, value in vars(spec).items() if name != "model"}
    how = {name: vars(context)[name] for name in spec.takes if name != "weights"}
    return _dense(spec.model, corpus, queries=context.queries, **own, **how)


def _open_bm25(spec: BM25, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.teachers.bm25 import BM25Teacher

    return BM25Teacher(
        corpus, language=spec.language, stem=spec.stem, k1=spec.k1, b=spec.b, tokenizer=spec.tokenizer, revision=spec.revision,
        store=context.store,
    )  # fmt: skip


def _open_random(spec: Random, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.teachers.random import RandomTeacher

    return RandomTeacher(corpus, seed=spec.seed)  # it stores nothing


def _open_encoded(spec: Sparse | Late, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.teachers.late_interaction import LateInteractionTeacher
    from hf_posmine.teachers.sparse import SparseTeacher

    kind = SparseTeacher if isinstance(spec, Sparse) else LateInteractionTeacher
    return kind(
        spec.model, corpus, query_prompt=spec.query_prompt, document_prompt=spec.document_prompt, store=context.store,
        device=context.device, revision=spec.revision,
    )  # fmt: skip


def _open_cross(spec: Cross, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.teachers.cross_encoder import CrossEncoderTeacher

    return CrossEncoderTeacher(spec.model, corpus, device=context.device, revision=spec.revision)


def _open_endpoint(spec: Endpoint, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.teachers.endpoint import EmbeddingService
    from hf_posmine.teachers.remote import RemoteTeacher

    access = {name: vars(context)[name] for name in ACCESS if vars(context)[name] is not None}
    own = {name: vars(spec)[name] for name in ("query_prompt", "document_prompt", "similarity", "dtype", "fingerprint")}
    how: dict[str, Any] = {
        "queries": context.queries,
        "store": context.store,
        "device": context.device,
        "engine": context.engine,
    }
    if context.shard_rows is not None:
        how["shard_rows"] = context.shard_rows
    return RemoteTeacher(EmbeddingService(spec.url, model=spec.model, **access), corpus, **own, **how)


def _open_best_passage(spec: MaxP, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.data.passages import Passages
    from hf_posmine.teachers.best_passage import BestPassageTeacher

    passages = Passages.of(corpus, spec.words, spec.overlap)
    return BestPassageTeacher(open_teacher(spec.of_passages, passages.corpus, context), passages)


def _open_run(spec: RunFile, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.teachers.trec_run import RunTeacher

    return RunTeacher.from_files(spec, corpus)


def _open_vectors(spec: VectorFiles, corpus: Corpus, context: TeacherContext) -> Teacher:
    from hf_posmine.teachers.maxsim import KINDS
    from hf_posmine.teachers.multi_vectors import MultiVectorTeacher
    from hf_posmine.teachers.vectors import VectorTeacher

    if spec.similarity in KINDS:
        return MultiVectorTeacher.load(spec, corpus)
    return VectorTeacher.load(spec, corpus, engine=context.engine)


_OPENERS: dict[type, Callable[[Any, Corpus, TeacherContext], Teacher]] = {
    BM25: _open_bm25, Cross: _open_cross, Dense: _open_dense, Endpoint: _open_endpoint, Late: _open_encoded,
    MaxP: _open_best_passage, Random: _open_random, RunFile: _open_run, Sparse: _open_encoded, VectorFiles: _open_vectors,
}  # fmt: skip
