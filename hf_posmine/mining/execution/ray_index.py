"""Parts of the corpus on actors of a Ray cluster, searched as one index."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.mining.execution.ray_pool import use_own_threads
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.sharded import HasIndex, ShardedIndex, even_starts

if TYPE_CHECKING:
    from hf_posmine.core.types import Exclusions, Floats, Ranking, Teacher


class SearchPart:
    """An actor that searches a part of the corpus of one teacher.

    Args:
        teacher: with an :class:`~hf_posmine.search.exact.ExactIndex`.
        start: first document of the part.
        stop: first document behind it.
    """

    def __init__(self, teacher: HasIndex, start: int, stop: int) -> None:
        use_own_threads()
        whole = teacher.index
        assert isinstance(whole, ExactIndex)  # as search_actors made sure
        self.index = ExactIndex(
            whole.vectors.span(start, stop), whole.similarity, device=whole.device, engine=whole.engine
        )

    def search(self, vectors: Floats, k: int, below: Floats | None, exclude: Exclusions | None) -> Ranking:
        """As :meth:`ExactIndex.search`, among the documents of the part."""
        return self.index.search(vectors, k, below=below, exclude=exclude)

    def ready(self) -> bool:
        """Answers once the actor runs."""
        return True


@dataclass(frozen=True)
class RemotePart:
    """The index that an actor holds; when its machine is lost, Ray starts it elsewhere and asks again."""

    actor: Any

    def search(
        self, vectors: Floats, k: int, *, below: Floats | None = None, exclude: Exclusions | None = None
    ) -> Ranking:
        """As :meth:`ExactIndex.search`."""
        import ray

        return ray.get(self.actor.search.remote(vectors, k, below, exclude))


def search_actors(teacher: Teacher, parts: int, options: dict[str, Any]) -> list[Any]:
    """Actors that hold equal parts of a teacher's corpus; none for a teacher that is searched otherwise.

    Args:
        teacher: whose embeddings are stored.
        parts: how many.
        options: resources of each, as ``ray.remote`` takes them.
    """
    import ray

    if not isinstance(teacher, HasIndex) or not isinstance(index := teacher.index, ExactIndex):
        return []
    starts = even_starts(index.num_candidates, parts).tolist()
    actor = ray.remote(max_restarts=-1, max_task_retries=-1, scheduling_strategy="SPREAD", **options)(SearchPart)
    actors = [actor.remote(teacher, start, stop) for start, stop in itertools.pairwise(starts)]
    ray.get([a.ready.remote() for a in actors])
    return actors


def remote_index(whole: ExactIndex, actors: list[Any]) -> ShardedIndex:
    """The parts as one index that gives the rankings of ``whole``."""
    starts = even_starts(whole.num_candidates, len(actors))
    return ShardedIndex([RemotePart(actor) for actor in actors], starts, whole.vectors, whole.similarity)
