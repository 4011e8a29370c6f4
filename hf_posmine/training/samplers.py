"""Batch samplers: which rows share a batch, and whose turn it is among data sets, the same on every process.

Both samplers are functions of seed and epoch alone, so that a resumed run meets the same batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from sentence_transformers.base.sampler import DefaultBatchSampler, MultiDatasetDefaultBatchSampler

from hf_posmine.core.errors import InputError
from hf_posmine.data.texts import text_numbers
from hf_posmine.training.collator import IN_BATCH, has_negatives, text_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from datasets import Dataset
    from torch.utils.data import BatchSampler, ConcatDataset

    from hf_posmine.core.types import Mask, Rows

Mixing: TypeAlias = Literal["proportional", "round_robin"] | Mapping[str, float]
READ_ROWS = 8192
LOOKAHEAD = 32  # batches' worth of rows that wait for a batch without their texts; bounds the search for row after row


class NoDuplicateTexts(DefaultBatchSampler):
    """Random batches in which no text comes twice, so that no in-batch negative is somebody's positive or query.

    Texts are compared across rows and columns, normalised (semantics 1). Instructions and flags are not compared: the
    stock ``no_duplicates`` compares them too and makes batches of one row. Rows whose ``in_batch_negatives`` is false
    may repeat texts freely, so that a set with two label texts still gives full batches.

    Each epoch has every row once, in batches of exactly ``batch_size``, the last smaller one included unless
    ``drop_last``. Where the rows left do not allow full batches without a repeated text, the batches are filled all the
    same: the losses of :mod:`hf_posmine.training.losses` leave equal texts out. A last batch of a single row is left
    out when the rows have no negative columns, since nothing in it can be contrasted.

    Args:
        dataset: columns ``query, positive, negative_1..n``, and perhaps instructions and ``in_batch_negatives``.
        batch_size: rows per batch.
        drop_last: leave out a last batch that is not full.
        valid_label_columns: columns without texts.
        generator: not used; the order follows from seed and epoch.
        seed: of the order, with the epoch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        columns = [c for c in text_columns(dataset.column_names) if c not in (valid_label_columns or ())]
        self.least = batch_size if drop_last else 1 + (not has_negatives(columns))
        self.keys, self.checked = _text_keys(dataset, columns)

    def __len__(self) -> int:
        full, rest = divmod(len(self.keys), self.batch_size)
        return full + (rest >= self.least)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed or 0, self.epoch]).permutation(len(self.keys)).tolist()
        fresh = iter(order)
        waiting: list[int] = []
        for _ in range(len(self)):
            batch, waiting = self._fill(waiting, fresh)
            yield batch

    def _fill(self, waiting: list[int], fresh: Iterator[int]) -> tuple[list[int], list[int]]:
        """One batch, and the rows that wait for the next: those that have waited longest are tried first."""
        batch: list[int] = []
        passed: list[int] = []
        texts: set[int] = set()
        candidates = chain(waiting, islice(fresh, self.batch_size * LOOKAHEAD - len(waiting)))
        for row in candidates:
            keys = self.keys[row].tolist() if self.checked[row] else ()
            if texts.isdisjoint(keys):
                batch.append(row)
                texts.update(keys)
            else:
                passed.append(row)
            if len(batch) == self.batch_size:
                return batch, [*passed, *candidates]
        missing = self.batch_size - len(batch)
        return batch + passed[:missing], passed[missing:]


class SameDatasetPerStep(MultiDatasetDefaultBatchSampler):
    """Batches of one data set each, and at each step the same data set on all processes.

    The stock samplers deal batches of different data sets to the processes of one step; with gathered negatives that
    mixes the documents of two data sets or waits for ever. Here every ``world_size`` batches in a row are of one set.

    An epoch has, by ``mixing``:

    - ``"proportional"``: all batches of all sets, in random order; each row at most once.
    - ``"round_robin"``: the sets in turn, until the smallest has been used once.
    - weights by name: as many steps as proportional mixing, shared out in proportion to the weights (largest
      remainders), in random order. A set that is used up starts again in another order.

    In the last two a set resumes in the next epoch where it stopped, so that all its rows come equally often. Batches
    that do not make up a whole step for all processes are left out, other ones in each epoch.

    Args:
        dataset: the data sets, concatenated.
        batch_samplers: one per data set.
        generator: not used; the order follows from seed and epoch.
        seed: of the order, with the epoch.
        names: one per data set.
        mixing: see above.
        world_size: processes.

    Raises:
        InputError: a data set that never gets a step, or weights that are not one positive number per data set.
    """

    def __init__(
        self,
        dataset: ConcatDataset,
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int | None = 0,
        *,
        names: Sequence[str],
        mixing: Mixing = "proportional",
        world_size: int = 1,
    ) -> None:
        super().__init__(dataset, batch_samplers, generator, seed)
        self.mixing, self.world_size = mixing, world_size
        self.steps = [len(sampler) // world_size for sampler in batch_samplers]
        for name, steps, sampler in zip(names, self.steps, batch_samplers, strict=True):
            if not steps:
                raise InputError(
                    f"data set {name!r} has {len(sampler)} batches of {sampler.batch_size} rows, too few for a step on "
                    f"{world_size} processes; lower the batch size or leave the data set out"
                )
        self.shares = _shares(self.steps, names, mixing)

    def __len__(self) -> int:
        return sum(self.shares) * self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        starts = [0, *accumulate(len(dataset) for dataset in self.dataset.datasets)]
        streams = [self._stream(which) for which in range(len(self.batch_samplers))]
        for which in self._order():
            for batch in islice(streams[which], self.world_size):
                yield [row + starts[which] for row in batch]

    def _order(self) -> list[int]:
        if self.mixing == "round_robin":
            return list(range(len(self.shares))) * self.shares[0]
        turns = np.repeat(np.arange(len(self.shares)), self.shares)
        return np.random.default_rng([self.seed or 0, self.epoch]).permutation(turns).tolist()

    def _stream(self, which: int) -> Iterator[list[int]]:
        """The batches of one data set from where the epoch before left it, pass after pass."""
        sampler, steps = self.batch_samplers[which], self.steps[which]
        done, first = divmod(self.epoch * self.shares[which], steps)
        while True:
            sampler.set_epoch(done)
            yield from islice(sampler, first * self.world_size, steps * self.world_size)
            done, first = done + 1, 0


class StepsPerEpoch(DefaultBatchSampler):
    """The batches of a sampler, pass after pass, in epochs of a fixed number of them.

    Something can then be done between two epochs, every so many steps, at the same place after a resume.

    Args:
        passes: gives the batches of one pass over the rows.
        batches: of an epoch, over all processes.
    """

    def __init__(self, passes: DefaultBatchSampler | MultiDatasetDefaultBatchSampler, batches: int) -> None:
        super().__init__(passes.sampler, passes.batch_size, passes.drop_last)
        self.passes, self.batches = passes, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        number, first = divmod(self.epoch * self.batches, len(self.passes))
        left = self.batches
        while left:
            self.passes.set_epoch(number)
            for batch in islice(self.passes, first, first + left):
                yield batch
                left -= 1
            number, first = number + 1, 0


def _text_keys(dataset: Dataset, columns: Sequence[str]) -> tuple[Rows, Mask]:
    """Keys of the texts ``[N, C]``, and which rows take in-batch negatives, bool ``[N]``."""
    flag = [IN_BATCH] if IN_BATCH in dataset.column_names else []
    keys: list[Any] = [np.empty((0, len(columns)), np.uint64)]
    flags: list[Any] = [np.empty(0, bool)]
    for table in dataset.select_columns([*columns, *flag]).with_format("arrow").iter(READ_ROWS):
        texts = [text_numbers(str(text) for text in table[column].to_pylist()) for column in columns]
        keys.append(np.stack(texts, axis=1))
        flags.append(np.array([v is not False for v in table[IN_BATCH].to_pylist()] if flag else [True] * len(table)))
    return np.concatenate(keys), np.concatenate(flags)


def _shares(steps: Sequence[int], names: Sequence[str], mixing: Mixing) -> list[int]:
    """Steps of an epoch per data set."""
    if mixing == "proportional":
        return list(steps)
    if mixing == "round_robin":
        return [min(steps)] * len(steps)
    if not isinstance(mixing, Mapping):
        raise InputError(f"mixing {mixing!r} is unknown; use 'proportional', 'round_robin' or a weight per data set")
    if set(mixing) != set(names) or not all(weight > 0 for weight in mixing.values()):
        raise InputError(
            f"weights {dict(mixing)} must give each of the data sets {list(names)} one number above 0, and no other"
        )
    weights = np.array([mixing[name] for name in names], np.float64)
    wanted = weights / weights.sum() * sum(steps)
    shares = np.floor(wanted).astype(np.int64)
    shares[np.argsort(shares - wanted, kind="stable")[: sum(steps) - shares.sum()]] += 1
    if not shares.all():
        name = names[int(shares.argmin())]
        raise InputError(
            f"weight {mixing[name]} gives data set {name!r} none of the {sum(steps)} steps of an epoch; raise it or "
            "leave the data set out"
        )
    return shares.tolist()
