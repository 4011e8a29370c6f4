"""Capabilities that a teacher can have beyond the six members of ``Teacher``, and the defaults for those without.

A capability is a Protocol that ``isinstance`` checks. Everything that needs one goes through the functions below, so a
teacher that has none of them works everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Exclusions, Ranking, Rows, Scorer, SearchRequest, Teacher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hf_posmine.core.types import Floats
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import TextPart
    from hf_posmine.encoding.encode import Role
    from hf_posmine.search.approximate import ApproximateIndex
    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.search.sharded import ShardedIndex
    from hf_posmine.teachers.window import CutTexts


@runtime_checkable
class HasCorpus(Protocol):
    """A teacher with the corpus that it scores."""

    @property
    def corpus(self) -> Corpus:
        """The documents; row r of the corpus is document r of every ranking."""


@runtime_checkable
class Described(Protocol):
    """A teacher that describes itself for a record."""

    def describe(self) -> dict[str, Any]:
        """Plain values: its kind and everything that decides its scores."""


@runtime_checkable
class Prepared(Protocol):
    """A teacher that works before the first search: it encodes or indexes the corpus."""

    def prepare(self) -> None:
        """Do that work, unless it is on disk."""


class Shards(Protocol):
    """Vectors stored in shards, which several processes can fill, each its own."""

    def parts(self) -> Sequence[tuple[Role, TextPart]]:
        """The texts whose vectors are stored."""

    def begin(self, role: Role, part: TextPart) -> int:
        """Make the folder of a part ready; returns its number of shards."""

    def fill_shard(self, role: Role, part: TextPart, number: int, done: Callable[[int], object]) -> bool:
        """Encode one shard unless it is there and whole; returns whether it did."""

    def is_trusted(self, role: Role, part: TextPart, number: int) -> bool:
        """Whether this process checked that a shard is there and whole."""

    def trust(self, role: Role, part: TextPart) -> None:
        """Take all shards as filled or checked by others."""


@runtime_checkable
class StoredInShards(Protocol):
    """A teacher whose vectors are stored in shards."""

    def stored_shards(self) -> Shards:
        """The shards of its corpus and of the queries known beforehand."""


@runtime_checkable
class ManySearcher(Protocol):
    """A teacher that answers several searches of one batch together at a lower cost."""

    def search_many(self, queries: Sequence[str], wants: Sequence[SearchRequest], exclude: Exclusions) -> list[Ranking]:
        """The ranking of each request, as ``search`` gives it."""


@runtime_checkable
class NearDuplicates(Protocol):
    """A teacher that compares documents with each other."""

    def near_documents(self, rows: Rows, bound: float) -> list[Rows]:
        """For each corpus row the candidates whose cosine with it is at least ``bound``, itself included."""


@runtime_checkable
class SearchesVectors(Protocol):
    """A teacher whose score of a query with a document follows from the vectors of these two alone."""

    @property
    def index(self) -> ExactIndex | ApproximateIndex | ShardedIndex:
        """The index over the candidates of its corpus; what is missing is encoded."""

    def embed_queries(self, queries: Sequence[str]) -> Floats:
        """Vectors float32 ``[B, d]``."""

    def embed_documents(self, documents: Sequence[str]) -> Floats:
        """Vectors float32 ``[B, d]`` of texts outside the corpus."""


@runtime_checkable
class DeviceBound(Protocol):
    """A teacher that searches on a device."""

    @property
    def search_device(self) -> str:
        """The device, such as ``cpu`` or ``cuda:0``."""

    def use_rank(self, rank: int) -> None:
        """Take the GPU of this rank, unless a device was chosen."""


@runtime_checkable
class Metered(Protocol):
    """A teacher behind a service that counts requests."""

    @property
    def name(self) -> str:
        """The name in the output."""

    def bill(self) -> str | None:
        """The requests of this process and their cost in one line; None without requests."""


@runtime_checkable
class Lexical(Protocol):
    """A teacher that scores the words which query and document share."""

    def warn_of_unmatched(self, queries: Corpus) -> None:
        """Warn, once and with their count, of queries that share no word with any document."""


@runtime_checkable
class ReadsWindow(Protocol):
    """A teacher that reads of each document so many tokens alone."""

    def cut_texts(self) -> CutTexts | None:
        """The documents that are longer; None where they were not counted, or nothing limits it."""


@runtime_checkable
class Renamable(Protocol):
    """A teacher whose name in the output can be set."""

    name: str


@runtime_checkable
class StandsFor(Protocol):
    """A teacher that gives the scores of another one, which may have capabilities that it lacks."""

    def stands_for(self) -> Teacher | None:
        """The other teacher; None where it is not at hand."""


MEMBERS = ("name", "score_kind", "fingerprint", "search", "score", "score_texts")


def require_teacher(value: object, what: str, cure: str) -> Teacher:
    """The value, if it is a teacher.

    Raises:
        InputError: it is not, with the members it lacks.
    """
    if isinstance(value, Teacher):
        return value
    lacks = ", ".join(name for name in MEMBERS if not hasattr(value, name))
    raise InputError(f"{what} {value!r:.60} is not a Teacher, it lacks {lacks}; {cure}")


def describe(teacher: Teacher) -> dict[str, Any]:
    """A teacher as a record holds it; without :class:`Described` its kind is ``other``."""
    return dict(teacher.describe()) if isinstance(teacher, Described) else {"kind": "other"}


def renamed(teacher: Teacher, name: str) -> Teacher:
    """The teacher under another name in the output, where it can take one."""
    if teacher.name != name and isinstance(teacher, Renamable):
        teacher.name = name
    return teacher


def corpus_of(teacher: Teacher) -> Corpus | None:
    """The documents of a teacher that has them."""
    return teacher.corpus if isinstance(teacher, HasCorpus) else None


def prepare(teacher: Teacher) -> None:
    """Let a teacher do beforehand what it can."""
    if isinstance(teacher, Prepared):
        teacher.prepare()


def search_many(
    teacher: Teacher, queries: Sequence[str], wants: Sequence[SearchRequest], exclude: Exclusions
) -> list[Ranking]:
    """The rankings of several searches, together where the teacher can, else one after the other."""
    if isinstance(teacher, ManySearcher):
        return teacher.search_many(queries, wants, exclude)
    return [_search_one(teacher, queries, want, exclude) for want in wants]


def _search_one(teacher: Teacher, queries: Sequence[str], want: SearchRequest, exclude: Exclusions) -> Ranking:
    if not len(want.rows):
        return Ranking.nothing(0, want.k)
    mine = [queries[i] for i in want.rows.tolist()]
    return teacher.search(mine, want.k, below=want.below, exclude=exclude.take(want.rows))


def near_duplicates_of(teacher: Teacher) -> NearDuplicates | None:
    """The teacher, or the one it stands for, if it compares documents with each other."""
    return next((one for one in _originals(teacher) if isinstance(one, NearDuplicates)), None)


def vectors_of(teacher: Scorer) -> SearchesVectors | None:
    """The teacher, or the one it stands for, if its scores follow from vectors of queries and documents."""
    return next((one for one in _originals(teacher) if isinstance(one, SearchesVectors)), None)


def search_device(teacher: Teacher) -> str:
    """The device on which a teacher searches."""
    return next((one.search_device for one in _originals(teacher) if isinstance(one, DeviceBound)), "cpu")


def use_rank(teacher: Teacher, rank: int) -> None:
    """Give a teacher that searches on a device the GPU of this rank."""
    for one in _originals(teacher):
        if isinstance(one, DeviceBound):
            one.use_rank(rank)


def _originals(teacher: Scorer) -> Iterator[Scorer]:
    """The teacher, then the one it stands for, and so on."""
    current: Scorer | None = teacher
    while current is not None:
        yield current
        current = current.stands_for() if isinstance(current, StandsFor) else None
