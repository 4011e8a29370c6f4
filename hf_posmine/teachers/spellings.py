"""Teachers as frozen values: ``BM25("german")`` is the repr, the YAML value, the CLI value and what a record carries.

A spelling holds what decides the scores. Where and how they are computed (device, store, backend, the key of a service)
is :class:`TeacherContext`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from hf_posmine.core.errors import InputError
from hf_posmine.core.spec import parse, spell_briefly
from hf_posmine.search.specs import Approximate, Lance

if TYPE_CHECKING:
    from hf_posmine.core.types import ScoreKind
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.encoding.backends import Backend, Compute
    from hf_posmine.search.exact import Engine


@dataclass(frozen=True)
class TeacherContext:
    """What a teacher is opened with that does not change its scores.

    Attributes:
        queries: query texts to encode beforehand, for teachers that store them.
        store: folder of what is encoded or indexed.
        device: where to encode and search.
        backend: what computes the passes of a dense model.
        shard_rows: rows of a shard of embeddings.
        engine: of exact search.
        api_key_env: environment variable that holds the key of a service.
        batch_size: texts per request to a service.
        concurrency: requests at a time.
        retries: further attempts after a failure.
        timeout: seconds per request.
        price: per million tokens.
        weights: load those of a dense model; else, where its configuration says enough, the teacher serves to plan alone.
    """

    queries: Corpus | None = None
    store: str | Path | None = None
    device: str | None = None
    backend: Backend = "torch"
    shard_rows: int | None = None
    engine: Engine = "auto"
    api_key_env: str | None = None
    batch_size: int | None = None
    concurrency: int | None = None
    retries: int | None = None
    timeout: float | None = None
    price: float | None = None
    weights: bool = True


ACCESS = ("api_key_env", "batch_size", "concurrency", "retries", "timeout", "price")
"""Options of a service."""


TYPES: dict[str, tuple[type, ...]] = {
    "stem": (bool,), "k1": (int, float), "b": (int, float), "seed": (int,), "max_length": (int,), "truncate_dim": (int,),
    "words": (int,), "overlap": (int,),
}  # fmt: skip
"""Types of fields that are not texts."""


@dataclass(frozen=True, repr=False)
class Spelling:
    """A teacher as a frozen value of checked types, spelled by its first field and what is not the default."""

    name: ClassVar[str]
    first: ClassVar[str | None] = None
    """What the first field is, where it must be given."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Fields of :class:`TeacherContext` that its teacher is opened with."""

    def __post_init__(self) -> None:
        values = vars(self)
        own = fields(self)
        first = values[own[0].name]
        if self.first is not None and (not isinstance(first, str) or not first.strip()):
            raise InputError(f"{self.name}({first!r}): give the {self.first}")
        for entry in own:
            value, types = values[entry.name], TYPES.get(entry.name, (str,))
            optional = entry.default is None or entry.name == "language"
            wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
            if entry.name != "index" and wrong and not (optional and value is None):
                expected = " or ".join(kind.__name__ for kind in types)
                raise InputError(f"{self.name}({entry.name}={value!r}): expected {expected}")

    def __repr__(self) -> str:
        return spell_briefly(self, self.name)


@dataclass(frozen=True, repr=False)
class BM25(Spelling):
    """Shared words; see :class:`~hf_posmine.teachers.bm25.BM25Teacher`.

    >>> BM25("german"), BM25(k1=0.9)
    (BM25('german'), BM25(k1=0.9))
    >>> BM25(tokenizer="bert-base-multilingual-cased")  # for scripts without spaces
    BM25(tokenizer='bert-base-multilingual-cased')
    """

    language: str | None = "english"
    stem: bool = True
    k1: float = 1.5
    b: float = 0.75
    tokenizer: str | None = None
    revision: str | None = None
    name = "BM25"
    takes = ("store",)


@dataclass(frozen=True, repr=False)
class Random(Spelling):
    """Chance; see :class:`~hf_posmine.teachers.random.RandomTeacher`."""

    seed: int = 0
    name = "Random"
    takes = ("store",)


@dataclass(frozen=True, repr=False)
class Dense(Spelling):
    """A dense model by Hub id or folder; see :class:`~hf_posmine.teachers.dense.DenseTeacher`.

    >>> Dense("intfloat/e5-base-v2", query_prompt="query: ")
    Dense('intfloat/e5-base-v2', query_prompt='query: ')
    """

    model: str
    query_prompt: str | None = None
    document_prompt: str | None = None
    similarity: str | None = None
    revision: str | None = None
    compute: Compute | None = None
    dtype: str = "float32"
    index: Any = field(default=None, hash=False)
    max_length: int | None = None
    truncate_dim: int | None = None
    name = "Dense"
    first = "model"
    takes = ("store", "device", "backend", "shard_rows", "engine", "weights")


@dataclass(frozen=True, repr=False)
class Sparse(Spelling):
    """A learned sparse model; see :class:`~hf_posmine.teachers.sparse.SparseTeacher`."""

    model: str
    query_prompt: str | None = None
    document_prompt: str | None = None
    revision: str | None = None
    name = "Sparse"
    first = "model"
    takes = ("store", "device")


@dataclass(frozen=True, repr=False)
class Late(Spelling):
    """A late-interaction model; see :class:`~hf_posmine.teachers.late_interaction.LateInteractionTeacher`."""

    model: str
    query_prompt: str | None = None
    document_prompt: str | None = None
    revision: str | None = None
    name = "Late"
    first = "model"
    takes = ("store", "device")


@dataclass(frozen=True, repr=False)
class Cross(Spelling):
    """A cross-encoder; see :class:`~hf_posmine.teachers.cross_encoder.CrossEncoderTeacher`."""

    model: str
    revision: str | None = None
    name = "Cross"
    first = "model"
    takes = ("device",)


@dataclass(frozen=True, repr=False)
class Endpoint(Spelling):
    """An embedding service; see :class:`~hf_posmine.teachers.remote.RemoteTeacher`.

    >>> Endpoint("https://host/v1/embeddings", model="e5")
    Endpoint('https://host/v1/embeddings', model='e5')
    """

    url: str
    model: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    similarity: str | None = None
    dtype: str = "float32"
    fingerprint: str | None = None
    name = "Endpoint"
    first = "address"
    takes = ("store", "device", "shard_rows", "engine", *ACCESS)


@dataclass(frozen=True, repr=False)
class RunFile(Spelling):
    """A TREC file with the texts of its queries, spelled ``Run("file")``; see :class:`~hf_posmine.teachers.trec_run.RunTeacher`.

    Attributes:
        file: lines ``query Q0 document rank score tag``.
        queries: table of the queries' ids and texts, such as BEIR's ``queries.jsonl``.
        score_kind: the scale of the scores.
    """

    file: str
    queries: str | None = None
    score_kind: ScoreKind = "bm25"
    name = "Run"
    first = "file"


@dataclass(frozen=True, repr=False)
class VectorFiles(Spelling):
    """Vectors on disk, spelled ``Vectors("folder")`` or ``Vectors("docs.parquet", queries="queries.parquet")``.

    See :meth:`~hf_posmine.teachers.vectors.VectorTeacher.load`; ``column`` names that of the vectors in both. With
    ``similarity="maxsim"`` the folder holds several vectors of each, see
    :meth:`~hf_posmine.teachers.multi_vectors.MultiVectorTeacher.load`.
    """

    path: str
    similarity: str = "cosine"
    queries: str | None = None
    column: str | None = None
    name = "Vectors"
    first = "folder or file"
    takes = ("engine",)


@dataclass(frozen=True, repr=False)
class MaxP(Spelling):
    """Documents by their best passage; see :class:`~hf_posmine.teachers.best_passage.BestPassageTeacher`.

    Attributes:
        teacher: who scores passages, in its spelling.
        words: of a passage, at most; characters in scripts without spaces.
        overlap: words that two neighbouring passages share.

    >>> MaxP("bm25:german"), MaxP(Dense("intfloat/e5-base-v2", query_prompt="query: "), words=100)
    (MaxP('bm25:german'), MaxP("Dense('intfloat/e5-base-v2', query_prompt='query: ')", words=100))
    """

    teacher: str
    words: int = 150
    overlap: int = 75
    name = "MaxP"
    first = "teacher of the passages"
    takes = ("store", "device", "backend", "shard_rows", "engine", *ACCESS)

    def __post_init__(self) -> None:
        if isinstance(self.teacher, Spelling):
            object.__setattr__(self, "teacher", repr(self.teacher))
        super().__post_init__()
        if not 0 <= self.overlap < self.words:
            raise InputError(
                f"MaxP(words={self.words}, overlap={self.overlap}): the overlap must be less than the words"
            )
        if isinstance(self.of_passages, (RunFile, VectorFiles, MaxP)):
            raise InputError(f"MaxP({self.teacher!r}): {self.of_passages.name} has no scores of passages; give a model")

    @property
    def of_passages(self) -> TeacherSpec:
        """Who scores passages."""
        return as_teacher_spec(self.teacher)


TeacherSpec: TypeAlias = BM25 | Random | Dense | Sparse | Late | Cross | Endpoint | RunFile | VectorFiles | MaxP
TEACHERS: dict[str, type] = {
    kind.name: kind for kind in (BM25, Cross, Dense, Endpoint, Late, MaxP, Random, RunFile, Sparse, VectorFiles)
}
"""Class by the name in the spelling."""
SHORTHAND: dict[str, type] = {"bm25": BM25, "random": Random, "sparse": Sparse, "late": Late, "cross": Cross}
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\(.*\)\s*", re.DOTALL)


def as_teacher_spec(text: str) -> TeacherSpec:
    """The teacher that a spelling or a shorthand names.

    Args:
        text: such as ``Dense("id", query_prompt="query: ")``; a Hub id or folder; ``embedded``; ``bm25`` or
            ``bm25:<language>``; ``random`` or ``random:<seed>``; ``sparse:<model>``, ``late:<model>``, ``cross:<model>``; or
            the address of a service, ``https://host/v1/embeddings#<model>``. The case of names of teachers does not matter.

    Raises:
        SpecError: an unknown name or wrong arguments, with what is known.
        InputError: a shorthand without its model.

    >>> as_teacher_spec("bm25:german"), as_teacher_spec("CROSS:BAAI/bge-reranker-base")
    (BM25('german'), Cross('BAAI/bge-reranker-base'))
    """
    call = _CALL.fullmatch(text)
    if call is not None and not Path(text).is_dir():
        name = {known.casefold(): known for known in TEACHERS}.get(call[1].casefold(), call[1])
        known = {**TEACHERS, "Approximate": Approximate, "Lance": Lance}
        spec: Any = parse(text.strip().replace(call[1], name, 1), known, "teacher")
        if type(spec) not in TEACHERS.values():
            raise InputError(f"{text!r} is an index, not a teacher; write Dense('<model>', index={text.strip()})")
        return spec  # type: ignore[no-any-return]
    if text.startswith(("http://", "https://")):
        url, _, model = text.partition("#")
        return Endpoint(url, model or None)
    kind, colon, rest = text.partition(":")
    made = SHORTHAND.get(kind.casefold())
    return Dense(text) if made is None else _from_shorthand(text, made, rest, bool(colon))


def _from_shorthand(text: str, kind: type, rest: str, colon: bool) -> TeacherSpec:
    if kind in (BM25, Random) and not rest:
        return kind()  # type: ignore[no-any-return]
    if kind is Random:
        if not rest.isdigit():
            raise InputError(f"teacher {text!r}: the seed must be a whole number, such as random:1")
        return Random(int(rest))
    if not rest and not colon and kind is not BM25:
        return Dense(text)  # a folder of that name
    if not rest:
        raise InputError(f"teacher {text!r} names no model; write {text.rstrip(':')}:<Hub id or folder>")
    return kind(rest)  # type: ignore[no-any-return]
