"""Search by parts: the rankings of one index, however the documents are cut."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine.core.errors import InputError
from hf_posmine.core.types import Exclusions, Ranking
from hf_posmine.encoding.store import Vectors
from hf_posmine.search import ExactIndex
from hf_posmine.search.sharded import ShardedIndex, even_starts, merge, search_on, within
from hf_posmine.teachers import RandomTeacher
from tests.mining.test_mine import make_miner, make_pairs

FIELDS = ("doc_ids", "scores", "above")


def documents(rng: np.random.Generator, count: int) -> np.ndarray:
    """Small whole numbers, so that many scores are equal, and the documents in shards of uneven length."""
    return rng.integers(-2, 3, (count, 6)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    parts=st.integers(1, 7),
    k=st.integers(1, 12),
    similarity=st.sampled_from(["cosine", "dot", "euclidean", "manhattan"]),
)
def test_parts_give_the_ranking_of_the_whole(seed, count, parts, k, similarity):
    rng = np.random.default_rng(seed)
    array = documents(rng, count)
    cuts = np.sort(rng.integers(0, count + 1, 2))
    vectors = Vectors(tuple(s for s in (array[: cuts[0]], array[cuts[0] : cuts[1]], array[cuts[1] :]) if len(s)))
    candidates = int(rng.integers(1, count + 1))
    queries = documents(rng, 5)
    exclude = Exclusions.of([rng.integers(0, count, 3) for _ in range(5)], rng.integers(0, count, 2))
    below = np.where(rng.random(5) < 0.3, np.inf, rng.integers(-3, 4, 5) / 2).astype(np.float32)
    whole = ExactIndex(vectors, similarity, num_candidates=candidates, engine="torch")
    cut = ShardedIndex.over(vectors, similarity, ["cpu"] * parts, num_candidates=candidates, engine="torch")
    for options in ({}, {"below": below}, {"below": below, "exclude": exclude}):
        one, other = whole.search(queries, k, **options), cut.search(queries, k, **options)
        for field in FIELDS:
            assert np.array_equal(getattr(one, field), getattr(other, field)), field
    rows = rng.integers(-1, count, (5, 3))
    assert np.array_equal(whole.score(queries, rows), cut.score(queries, rows))


def test_a_teacher_searches_on_several_devices_and_pickles_without_them(toy_model, fresh_home):
    pairs = make_pairs()
    expected = pairs.map(make_miner(pairs), batched=True).to_dict()
    miner = make_miner(pairs)
    search_on(miner.teachers[0], ["cpu", "cpu", "cpu"])
    assert len(miner.teachers[0].index.parts) == 3
    assert pairs.map(miner, batched=True, load_from_cache_file=False).to_dict() == expected
    assert not isinstance(pickle.loads(pickle.dumps(miner)).teachers[0].index, ShardedIndex)
    with pytest.raises(InputError, match="'random' is not searched exactly by vectors"):
        search_on(RandomTeacher(miner.corpus), ["cpu", "cpu"])


def test_exclusions_may_be_lists_as_for_the_whole_index():
    array = np.eye(4, dtype=np.float32)
    cut = ShardedIndex.over(Vectors((array,)), "dot", ["cpu", "cpu"])
    found = cut.search(np.array([[4, 3, 2, 1]], np.float32), 2, exclude=[[0, 2]])
    assert found.doc_ids.tolist() == [[1, 3]]


def test_merging_by_hand():
    """Two parts of three documents; equal scores come in the order of the documents, padding last."""
    left = Ranking(np.array([[2, 0, -1]]), np.array([[5, 4, -np.inf]], np.float32), np.array([1]))
    right = Ranking(np.array([[1, 0, 2]]), np.array([[5, 4.5, 4]], np.float32), np.array([3]))
    merged = merge([left, right], np.array([0, 3, 6]), 3)
    assert merged.doc_ids.tolist() == [[2, 4, 3]]
    assert merged.scores.tolist() == [[5, 5, 4.5]]
    assert merged.above.tolist() == [4]
    nothing = merge([left, left], np.array([0, 3, 6]), 6)
    assert nothing.doc_ids.tolist() == [[2, 5, 0, 3, -1, -1]]


@given(
    st.lists(st.lists(st.integers(0, 19), max_size=5), min_size=1, max_size=4), st.integers(0, 20), st.integers(0, 20)
)
def test_exclusions_of_a_part_are_those_inside_it(groups, one, two):
    start, stop = min(one, two), max(one, two)
    part = within(Exclusions.of(groups, groups[0]), start, stop)
    for number, group in enumerate(groups):
        assert part.of_query(number).tolist() == sorted({row - start for row in group if start <= row < stop})
    assert part.everywhere.tolist() == sorted({row - start for row in groups[0] if start <= row < stop})


def test_parts_are_even_and_there_are_no_empty_ones():
    assert even_starts(3, 8).tolist() == [0, 1, 2, 3]
    assert even_starts(0, 2).tolist() == [0, 0]
    sizes = np.diff(even_starts(1001, 8))
    assert sizes.sum() == 1001 and set(sizes) == {125, 126}
    with pytest.raises(InputError, match="1 parts and 1 starts"):
        ShardedIndex([None], [0], Vectors((np.eye(2),)), "dot")
