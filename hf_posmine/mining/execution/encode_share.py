"""The encoding of a miner's teachers in pieces that different processes do, each of them once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.teachers.capabilities import Prepared, StoredInShards, prepare
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_posmine.core.types import Teacher
    from hf_posmine.mining.miner import PositiveAwareMiner

WHOLE = -1


@dataclass(frozen=True)
class Piece:
    """One shard of a teacher's store, or all that a teacher prepares if it has no shards.

    Attributes:
        teacher: number among :func:`scorers`.
        part: number among the teacher's ``parts()``; -1 for all of a teacher without.
        shard: number of the shard.
    """

    teacher: int
    part: int = WHOLE
    shard: int = WHOLE


@dataclass(frozen=True)
class Rank:
    """Which of several equal processes this is, as accelerate and torchrun say it.

    Attributes:
        number: from 0.
        world: how many there are.
        local: number on this machine, which chooses the GPU.
    """

    number: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def from_environment(cls) -> Rank:
        """From ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``; alone if they are not set.

        Raises:
            InputError: one of them without the other, or out of range.
        """
        variables = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")}
        if variables == {"RANK": None, "WORLD_SIZE": None}:
            return cls()
        try:
            number, world = int(variables["RANK"] or ""), int(variables["WORLD_SIZE"] or "")
            local = int(os.environ.get("LOCAL_RANK") or number)
        except ValueError:
            raise InputError(
                f"RANK={variables['RANK']!r}, WORLD_SIZE={variables['WORLD_SIZE']!r}; set both to whole numbers"
            ) from None
        if not 0 <= number < world:
            raise InputError(f"RANK={number}, WORLD_SIZE={world}; the rank counts from 0 to one below the size")
        return cls(number, world, local)

    def share(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Every world-th piece, from this rank's number on: no piece twice, none left out.

        >>> len(Rank(1, 3).share([Piece(0, 0, shard) for shard in range(8)]))
        3
        """
        return list(pieces[self.number :: self.world])

    def label(self, what: str) -> str:
        """The text of a progress bar."""
        return what if self.world == 1 else f"{what} (rank {self.number} of {self.world})"

    def use_gpu(self) -> None:
        """Let this process take its own GPU where the machine has several; a teacher's device wins."""
        import torch

        if torch.cuda.device_count() > 1:
            torch.cuda.set_device(self.local % torch.cuda.device_count())


def scorers(miner: PositiveAwareMiner) -> list[Teacher]:
    """All teachers of a miner, the one of the second opinion included."""
    opinion = miner.second_opinion
    return [*miner.teachers, *([] if opinion is None else opinion.scorers)]


def pieces_of(teachers: Sequence[Teacher]) -> list[Piece]:
    """All pieces of the encoding, finished or not; makes the stores ready."""
    pieces = []
    for number, teacher in enumerate(teachers):
        if isinstance(teacher, StoredInShards):
            shards = teacher.stored_shards()
            for part, (role, texts) in enumerate(shards.parts()):
                pieces += [Piece(number, part, shard) for shard in range(shards.begin(role, texts))]
        elif isinstance(teacher, Prepared):
            pieces.append(Piece(number))
    return pieces


def is_done(teachers: Sequence[Teacher], piece: Piece) -> bool:
    """Whether this process has made sure that a piece is done."""
    teacher = teachers[piece.teacher]
    if piece.part == WHOLE or not isinstance(teacher, StoredInShards):
        return False
    shards = teacher.stored_shards()
    role, texts = shards.parts()[piece.part]
    return shards.is_trusted(role, texts, piece.shard)


def do_piece(teachers: Sequence[Teacher], piece: Piece, progress: Callable[[int], object]) -> bool:
    """Do a piece unless it is done; returns whether a shard was encoded."""
    teacher = teachers[piece.teacher]
    if piece.part == WHOLE or not isinstance(teacher, StoredInShards):
        prepare(teacher)
        return False
    shards = teacher.stored_shards()
    role, texts = shards.parts()[piece.part]
    return shards.fill_shard(role, texts, piece.shard, progress)


def trust(teachers: Sequence[Teacher]) -> None:
    """Once all pieces are done: nobody checks the shards again, and what dead processes left is cleared away."""
    for teacher in teachers:
        if isinstance(teacher, StoredInShards):
            shards = teacher.stored_shards()
            for role, texts in shards.parts():
                shards.trust(role, texts)


def encode_share(teachers: Sequence[Teacher], rank: Rank | None = None) -> tuple[int, int, int]:
    """Encode this process's share of what the teachers store.

    Run it in as many processes as the rank says; each encodes other shards, and what is finished is never encoded again.
    The processes do not talk to each other, so one may fail and be run again.

    Args:
        teachers: the same ones in every process.
        rank: by default from the environment.

    Returns:
        Shards encoded now, shards of this share, shards in all.
    """
    rank = Rank.from_environment() if rank is None else rank
    pieces = pieces_of(teachers)
    share, encoded = rank.share(pieces), 0
    with progress_bar(None, rank.label("Encoding"), "text") as bar:
        for piece in share:
            encoded += do_piece(teachers, piece, bar.update)
    return encoded, len(share), len(pieces)
