"""Which rows meet in a batch, and in what order the data sets take turns."""

from __future__ import annotations

from collections import Counter

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset

from hf_posmine.core.errors import InputError
from hf_posmine.training.samplers import NoDuplicateTexts, SameDatasetPerStep


def unique_rows(count: int, prefix: str = "", **extra) -> Dataset:
    columns = {c: [f"{prefix}{c}{i}" for i in range(count)] for c in ("query", "positive", "negative_1")}
    return Dataset.from_dict(columns | {name: [value] * count for name, value in extra.items()})


def epoch(sampler, number: int = 0) -> list[list[int]]:
    sampler.set_epoch(number)
    return list(sampler)


@settings(deadline=None, max_examples=40)
@given(
    numbers=st.lists(st.tuples(*[st.integers(0, 12)] * 2), min_size=1, max_size=60),
    size=st.integers(1, 8),
    drop_last=st.booleans(),
)
def test_batches_are_full_each_row_comes_once_and_len_keeps_its_word(numbers, size, drop_last):
    """However many texts repeat; what the trainer's schedule and a resumed run count on."""
    data = Dataset.from_dict(
        {
            "query": [f"q{a}" for a, _ in numbers],
            "positive": [f"p{b}" for _, b in numbers],
            "negative_1": ["n"] * len(numbers),
        }
    )
    sampler = NoDuplicateTexts(data, size, drop_last)
    batches = epoch(sampler)
    sizes = [size] * (len(data) // size) + ([] if drop_last or not len(data) % size else [len(data) % size])
    assert [len(b) for b in batches] == sizes
    assert len(sampler) == len(sizes)
    seen = Counter(row for b in batches for row in b)
    assert max(seen.values(), default=1) == 1
    assert len(seen) == sum(sizes)


def test_no_text_comes_twice_in_a_batch_neither_across_rows_nor_across_columns():
    # 120 rows of 40 documents, which are positives, negatives and queries; by the end of the epoch no choice is left
    documents = [f"Text  {i % 40}" if i % 2 else f"text {i % 40}" for i in range(120)]
    data = Dataset.from_dict(
        {
            "query": [f"q{i}" if i % 3 else f"text {(i + 7) % 40}" for i in range(120)],
            "positive": documents,
            "negative_1": documents[13:] + documents[:13],
            "query_instruction": ["Find it"] * 120,
            "in_batch_negatives": [True] * 120,
            "dataset_name": ["one"] * 120,
        }
    )
    repeats = 0
    for number in range(3):
        for batch in epoch(NoDuplicateTexts(data, 5, False), number)[:-2]:
            rows = [{" ".join(data[i][c].lower().split()) for c in ("query", "positive", "negative_1")} for i in batch]
            repeats += sum(map(len, rows)) - len(set.union(*rows))
    assert repeats == 0


def test_rows_without_in_batch_negatives_share_texts_freely_and_in_random_order():
    labels = Dataset.from_dict(
        {
            "query": [f"q{i}" for i in range(64)],
            "positive": [f"label {i % 2}" for i in range(64)],
            "negative_1": [f"label {1 - i % 2}" for i in range(64)],
            "in_batch_negatives": [False] * 64,
        }
    )
    batches = epoch(NoDuplicateTexts(labels, 16, True))
    assert [len(b) for b in batches] == [16] * 4
    assert batches == epoch(NoDuplicateTexts(unique_rows(64), 16, True))  # no row waits for another batch


def test_in_a_mixed_set_only_rows_with_in_batch_negatives_are_kept_apart():
    count = 40
    data = Dataset.from_dict(
        {
            "query": [f"q{i}" for i in range(count)],
            "positive": ["yes" if i % 2 else f"p{i % 20}" for i in range(count)],
            "in_batch_negatives": [not i % 2 for i in range(count)],
        }
    )
    for batch in epoch(NoDuplicateTexts(data, 8, True)):
        apart = [data[i]["positive"] for i in batch if not i % 2]
        assert len(apart) == len(set(apart))
        assert len(batch) == 8


def test_a_last_batch_of_one_pair_is_left_out_and_one_row_with_a_negative_is_not():
    pairs = unique_rows(9).remove_columns("negative_1")
    assert [len(b) for b in epoch(NoDuplicateTexts(pairs, 4, False))] == [4, 4]
    assert [len(b) for b in epoch(NoDuplicateTexts(unique_rows(9), 4, False))] == [4, 4, 1]


def test_the_order_follows_from_seed_and_epoch_alone():
    data = unique_rows(30)
    first, again = NoDuplicateTexts(data, 4, False, seed=5), NoDuplicateTexts(data, 4, False, seed=5)
    list(again)
    assert epoch(first, 1) == epoch(again, 1)
    assert epoch(first, 1) != epoch(first, 2)
    assert epoch(first, 1) != epoch(NoDuplicateTexts(data, 4, False, seed=6), 1)


def turns(sizes: dict[str, int], mixing, world_size: int = 1, batch: int = 4, seed: int = 0):
    """A sampler over data sets of these sizes, and which data set a row is of."""
    sets = DatasetDict({name: unique_rows(size, name) for name, size in sizes.items()})
    samplers = [NoDuplicateTexts(data, batch, world_size > 1, seed=seed) for data in sets.values()]
    joined = ConcatDataset(list(sets.values()))
    sampler = SameDatasetPerStep(joined, samplers, seed=seed, names=list(sizes), mixing=mixing, world_size=world_size)
    owner = [name for name, size in sizes.items() for _ in range(size)]
    return sampler, owner


@pytest.mark.parametrize("mixing", ["proportional", "round_robin", {"a": 1.0, "b": 2.0, "c": 0.5}], ids=str)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_at_each_step_all_processes_have_the_same_set(mixing, world_size):
    sampler, owner = turns({"a": 50, "b": 26, "c": 40}, mixing, world_size)
    for number in range(3):
        batches = epoch(sampler, number)
        assert len(batches) == len(sampler)
        assert len(batches) % world_size == 0
        for start in range(0, len(batches), world_size):
            assert len({owner[row] for batch in batches[start : start + world_size] for row in batch}) == 1
        assert epoch(sampler, number) == batches
    assert epoch(sampler, 0) != epoch(sampler, 1)


def test_proportional_mixing_uses_each_row_once_on_one_process_and_at_most_once_on_two():
    sampler, owner = turns({"a": 50, "b": 27}, "proportional")
    assert sorted(row for batch in epoch(sampler, 2) for row in batch) == list(range(77))
    order = [owner[batch[0]] for batch in epoch(sampler)]
    assert order != sorted(order)
    sampler, owner = turns({"a": 50, "b": 27}, "proportional", world_size=2)
    seen = Counter(row for batch in epoch(sampler) for row in batch)
    assert max(seen.values()) == 1
    assert Counter(owner[row] for row in seen) == {"a": 48, "b": 24}  # 12 of 12 and 6 of 6 full batches, in pairs


def test_round_robin_takes_turns_until_the_smallest_is_used_up_and_then_goes_on():
    sampler, owner = turns({"a": 48, "b": 12, "c": 20}, "round_robin")
    first, second = epoch(sampler, 0), epoch(sampler, 1)
    assert [owner[batch[0]] for batch in first] == ["a", "b", "c"] * 3
    of_a = [
        row for batch in first + second + epoch(sampler, 2) + epoch(sampler, 3) for row in batch if owner[row] == "a"
    ]
    assert sorted(of_a) == list(range(48))  # four epochs of three batches are one pass over its twelve


def test_weights_share_out_the_steps_and_every_row_comes_equally_often():
    sampler, owner = turns({"a": 40, "b": 8}, {"a": 1, "b": 2})
    batches = epoch(sampler)
    assert len(batches) == 12  # as many as proportional mixing
    assert Counter(owner[batch[0]] for batch in batches) == {"a": 4, "b": 8}
    seen = Counter(row for number in range(5) for batch in epoch(sampler, number) for row in batch)
    assert {seen[row] for row in range(40)} == {2}
    assert {seen[row] for row in range(40, 48)} == {20}
    passes = [sorted(batch) for batch in batches if owner[batch[0]] == "b"]
    assert len({tuple(batch) for batch in passes}) > 2  # each pass in another order


def test_remainders_go_to_the_largest():
    sampler, _ = turns({"a": 16, "b": 16, "c": 16}, {"a": 3, "b": 3, "c": 2})  # of 12: 4.5, 4.5, 3
    assert sampler.shares == [5, 4, 3]


@pytest.mark.parametrize(
    ("sizes", "mixing", "world_size", "says"),
    [
        ({"a": 40, "b": 7}, "proportional", 2, "'b' has 1 batches of 4 rows"),
        ({"a": 40, "b": 8}, {"a": 1}, 1, "must give each of"),
        ({"a": 40, "b": 8}, {"a": 1, "b": 0}, 1, "above 0"),
        ({"a": 40, "b": 8}, {"a": 1, "b": 0.01}, 1, "gives data set 'b' none of the 12 steps"),
        ({"a": 40, "b": 8}, "by_size", 1, "'by_size' is unknown"),
    ],
)
def test_a_data_set_that_never_has_a_turn_is_an_error(sizes, mixing, world_size, says):
    with pytest.raises(InputError, match=says):
        turns(sizes, mixing, world_size)
