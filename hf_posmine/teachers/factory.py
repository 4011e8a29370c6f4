"""Teachers by one word, as the command line and ``PositiveAwareMiner.from_dataset`` take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Teacher
from hf_posmine.teachers.dense_model import Encodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.data.corpus import Corpus

TeacherLike: TypeAlias = str | Teacher | Encodes | Callable[[list[str]], Any]
"""A teacher that is ready, its name, or a model or function that turns texts into vectors."""

ENCODED = ("store", "query_prompt", "document_prompt", "device", "revision")
ASKED = ("api_key_env", "batch_size", "concurrency", "retries", "timeout", "price")
"""What only a service can be told; see :class:`~hf_posmine.teachers.endpoint.Endpoint`."""
SERVED = ("store", "query_prompt", "document_prompt", "similarity", "device", "dtype", *ASKED)
OPTIONS: dict[str, tuple[str, ...]] = {
    "bm25": ("store", "stem", "k1", "b"),
    "random": ("store",),
    "sparse": ENCODED,
    "late": ENCODED,
    "cross": ("device", "revision"),
    "http": SERVED,
    "https": SERVED,
}
"""What each kind may be told; every other name is a dense model, which checks for itself."""
DEFAULTS = {("dtype", "float32"), ("backend", "torch")}
"""Options that count as not given."""
HELP = (
    "a Hub id or folder, 'embedded', 'bm25', 'bm25:german', 'random', 'sparse:<model>', 'late:<model>', 'cross:<model>', or "
    "an http address"
)


def make_teacher(teacher: TeacherLike, corpus: Corpus, *, queries: Corpus | None = None, **options: Any) -> Teacher:
    """A teacher from its name or its model; a ready teacher stays what it is.

    Args:
        teacher: ``bm25`` or ``bm25:<language>``, ``random`` or ``random:<seed>``, ``sparse:<model>``, ``late:<model>``,
            ``cross:<model>``, the address of an embedding service (``https://host/v1/embeddings#<model>`` or ``http://host/embed``),
            else what :class:`~hf_posmine.teachers.dense.DenseTeacher` takes.
        corpus: the documents.
        queries: query texts to encode beforehand, for teachers that store them.
        options: of the teacher's class; None counts as not given.

    Raises:
        InputError: options that such a teacher does not have.
    """
    if isinstance(teacher, Teacher):
        return teacher
    kind, _, rest = teacher.partition(":") if isinstance(teacher, str) else ("", "", "")
    if kind not in OPTIONS:
        from hf_posmine.teachers.dense import DenseTeacher

        asked = [name for name in ASKED if options.pop(name, None) is not None]
        if asked:
            raise InputError(f"{asked[0]} is for services, named by their address; the teacher {teacher!r} is none")
        return DenseTeacher(teacher, corpus, queries=queries, **options)
    given = _given(options)
    unknown = [name for name in given if name not in OPTIONS[kind]]
    if unknown:
        known = ", ".join(OPTIONS[kind]) or "none"
        raise InputError(f"the teacher {teacher!r} has no option {unknown[0]!r}; it has: {known}")
    return _MAKERS[kind](str(teacher), rest, corpus, queries, given)


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


def _takes(teacher: TeacherLike, option: str) -> bool:
    if isinstance(teacher, Teacher):
        return False
    kind = teacher.partition(":")[0] if isinstance(teacher, str) else ""
    return option in OPTIONS[kind] if kind in OPTIONS else option not in ASKED


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were set."""
    return {name: v for name, v in options.items() if v is not None and (name, v) not in DEFAULTS}


def _bm25(name: str, language: str, corpus: Corpus, queries: Corpus | None, options: dict[str, Any]) -> Teacher:
    from hf_posmine.teachers.bm25 import BM25Teacher

    return BM25Teacher(corpus, language=language or "english", **options)


def _random(name: str, seed: str, corpus: Corpus, queries: Corpus | None, options: dict[str, Any]) -> Teacher:
    from hf_posmine.teachers.random import RandomTeacher

    if seed and not seed.isdigit():
        raise InputError(f"teacher {name!r}: the seed must be a whole number, such as random:1")
    return RandomTeacher(corpus, seed=int(seed or 0))  # it stores nothing


def _encoded(name: str, model: str, corpus: Corpus, queries: Corpus | None, options: dict[str, Any]) -> Teacher:
    from hf_posmine.teachers.late_interaction import LateInteractionTeacher
    from hf_posmine.teachers.sparse import SparseTeacher

    _require_model(name, model)
    return (SparseTeacher if name.startswith("sparse") else LateInteractionTeacher)(model, corpus, **options)


def _cross(name: str, model: str, corpus: Corpus, queries: Corpus | None, options: dict[str, Any]) -> Teacher:
    from hf_posmine.teachers.cross_encoder import CrossEncoderTeacher

    _require_model(name, model)
    return CrossEncoderTeacher(model, corpus, **options)


def _require_model(name: str, model: str) -> None:
    if not model:
        raise InputError(f"teacher {name!r} names no model; write {name.rstrip(':')}:<Hub id or folder>")


def _remote(name: str, _: str, corpus: Corpus, queries: Corpus | None, options: dict[str, Any]) -> Teacher:
    from hf_posmine.teachers.endpoint import Endpoint
    from hf_posmine.teachers.remote import RemoteTeacher

    url, _, model = name.partition("#")
    asked = {option: options.pop(option) for option in ASKED if option in options}
    return RemoteTeacher(Endpoint(url, model=model or None, **asked), corpus, queries=queries, **options)


_MAKERS = {
    "bm25": _bm25, "random": _random, "sparse": _encoded, "late": _encoded, "cross": _cross, "http": _remote, "https": _remote,
}  # fmt: skip
