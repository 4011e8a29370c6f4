"""A cross-encoder's second opinion against a call per pair, and the candidates it may leave unasked."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import MarginPos, MaxScore, MinScore, PercPos, SkipTop
from hf_posmine.core.errors import ColumnError, InputError, SpecError
from hf_posmine.mining.rerank import rerank
from hf_posmine.mining.second_opinion import far_below, second_opinion
from hf_posmine.teachers.cross_encoder import score_pairs
from tests.support import tiny
from tests.support.tiny import WORDS

disable_progress_bars()


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """A BERT with random weights and one label."""
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(tiny.cross(tmp_path_factory.mktemp("cross") / "model")), device="cpu")


class Counting:
    """A cross-encoder that records the pairs of every call."""

    def __init__(self, model):
        self.model, self.activation_fn, self.calls = model, model.activation_fn, []

    def predict(self, pairs, **options):
        self.calls.append(list(pairs))
        return self.model.predict(pairs, **options)

    @property
    def pairs(self):
        return [pair for call in self.calls for pair in call]


@pytest.fixture(scope="module")
def candidates():
    """40 rows of 12 candidates by a teacher, two rows with fewer, texts of 1 to 30 words."""
    rng = np.random.default_rng(1)

    def text():
        return " ".join(rng.choice(WORDS, size=rng.integers(1, 30)))

    rows = [12] * 38 + [3, 0]
    scores = [np.sort(rng.uniform(0, 0.9, size=n))[::-1].astype(np.float32).tolist() for n in rows]
    return Dataset.from_dict(
        {
            "query": [text() for _ in rows],
            "positive": [[text() for _ in range(1 + at % 2)] for at in range(len(rows))],
            "negatives": [[text() for _ in range(n)] for n in rows],
            "negatives_scores": scores,
            "negatives_ids": [[f"{at}-{i}" for i in range(n)] for at, n in enumerate(rows)],
            "positive_score": [0.8] * len(rows),
            "number": list(range(len(rows))),
        }
    )


def one_by_one(model, query, texts):
    return [float(model.predict([(query, text)], show_progress_bar=False)[0]) for text in texts]


def test_scores_are_those_of_a_call_per_pair_in_one_stream(cross_encoder, candidates):
    counting = Counting(cross_encoder)
    queries = [row["query"] for row in candidates for _ in row["negatives"]]
    documents = [text for row in candidates for text in row["negatives"]]
    scores = score_pairs(counting, [*queries, queries[0]], [*documents, documents[0]])
    assert scores.dtype == np.float32 and scores[0] == scores[-1]
    alone = [one_by_one(cross_encoder, q, [d])[0] for q, d in zip(queries, documents, strict=True)]
    np.testing.assert_allclose(scores[:-1], alone, atol=1e-5)
    assert np.std(alone) > 0.01  # else any order would do
    (call,) = counting.calls
    assert len(call) == len(set(zip(queries, documents, strict=True)))


def test_a_model_that_cannot_score_pairs_is_refused(cross_encoder):
    class Wrong:
        def __init__(self, made):
            self.made = made

        def predict(self, pairs, **_):
            return self.made[: len(pairs)]

    with pytest.raises(InputError, match=r"scores of shape \(2, 3\) for 2 pairs; use one label"):
        score_pairs(Wrong(np.ones((2, 3))), ["q", "q"], ["a", "b"])
    with pytest.raises(InputError, match="no finite score to 'q' with 'bb'"):
        score_pairs(Wrong(np.array([1.0, np.nan])), ["q", "q"], ["a", "bb"])
    with pytest.raises(InputError, match="2 queries and 1 documents"):
        score_pairs(cross_encoder, ["q", "r"], ["a"])
    assert score_pairs(Wrong(np.empty(0)), [], []).shape == (0,)


# ---------------------------------------------------------------- who has to be asked


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_only_what_walking_down_the_list_would_ask_is_asked(data):
    rows, width, n = (data.draw(st.integers(1, top)) for top in (4, 7, 4))
    table = np.array(data.draw(st.lists(st.integers(0, 5), min_size=rows * width, max_size=rows * width)), np.float32)
    table = table.reshape(rows, width)
    counts = np.array(data.draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows)))
    there = np.arange(width) < counts[:, None]
    flags = data.draw(st.lists(st.booleans(), min_size=rows * width, max_size=rows * width))
    assumed = np.array(flags).reshape(rows, width) if data.draw(st.booleans()) else None
    ceilings, floors = np.full(rows, 4, np.float32), np.full(rows, 1, np.float32)
    asked = []

    def ask(at, columns):
        asked.extend(zip(at.tolist(), columns.tolist(), strict=True))
        return table[at, columns]

    opinion = second_opinion(ask, there, ceilings, floors, n, assumed=assumed)
    needed, chosen = [], np.full((rows, n), -1)
    for row in range(rows):
        taken = []
        for column in range(counts[row]):
            if len(taken) == n:
                break
            if assumed is None or not assumed[row, column]:
                needed.append((row, column))
                if not 1 <= table[row, column] < 4:
                    continue
            taken.append(column)
        chosen[row, : len(taken)] = taken
    assert sorted(asked) == sorted(needed)
    assert (opinion.columns == chosen).all()
    expected = np.full(table.shape, np.nan, np.float32)
    for row, column in needed:
        expected[row, column] = table[row, column]
    np.testing.assert_array_equal(opinion.scores, expected)


def test_far_below_is_measured_on_the_teachers_scale():
    scores = np.float32([[0.75, 0.5, 0.25], [0.75, 0.5, -np.inf]])
    assert far_below(scores, np.float32([0.75, 1.0]), 0.25).tolist() == [[False, True, True], [True, True, True]]
    with pytest.raises(InputError, match="band=-1"):
        far_below(scores, np.float32([0, 0]), -1)


# ---------------------------------------------------------------- a mined dataset


def slow(model, row, filters, n, rank_by="teacher", band=None):
    """One row by loops: names of the chosen, and their second scores where asked."""
    p = min(one_by_one(model, row["query"], row["positive"]))
    good = []
    for name, text, score in zip(row["negatives_ids"], row["negatives"], row["negatives_scores"], strict=True):
        if band is not None and score <= row["positive_score"] - band:
            good.append((name, None))
            continue
        second = one_by_one(model, row["query"], [text])[0]
        if all(f.floor(np.float32([p]))[0] <= second < f.ceiling(np.float32([p]))[0] for f in filters):
            good.append((name, second))
    if rank_by == "second":
        good.sort(key=lambda pair: -pair[1])
    return good[:n], p


@pytest.mark.parametrize(
    ("filters", "options"),
    [
        ([PercPos(0.98)], {}),
        ([MarginPos(0.001), MinScore(0.01)], {}),
        ([PercPos(0.98)], {"band": 0.4}),
        ([MaxScore(0.5)], {"rank_by": "second"}),
        ([], {"rank_by": "second"}),
    ],
    ids=str,
)
def test_a_reranked_dataset_is_that_of_slow_loops(filters, options, cross_encoder, candidates):
    counting = Counting(cross_encoder)
    made = rerank(candidates, counting, filters, 3, **options)
    assert made["number"][:] == candidates["number"][:]
    changed = 0
    for old, new in zip(candidates, made, strict=True):
        expected, p = slow(cross_encoder, old, filters, 3, **options)
        assert new["negatives_ids"] == [name for name, _ in expected]
        changed += new["negatives_ids"] != old["negatives_ids"][:3]
        place = {name: at for at, name in enumerate(old["negatives_ids"])}
        assert new["negatives"] == [old["negatives"][place[name]] for name, _ in expected]
        assert new["negatives_scores"] == [old["negatives_scores"][place[name]] for name, _ in expected]
        for given_score, (_, score) in zip(new["negatives_second_scores"], expected, strict=True):
            assert given_score == (None if score is None else pytest.approx(score, abs=1e-5))
        assert new["positive_second_score"] == pytest.approx(p, abs=1e-5)
    assert changed > 5
    everything = sum(len(set(texts)) for name in ("negatives", "positive") for texts in candidates[name])
    if options.get("rank_by") == "second":
        assert len(counting.pairs) == everything
    else:
        assert len(counting.pairs) < 0.8 * everything


def test_what_has_no_effect_or_no_meaning_is_refused(cross_encoder, candidates):
    with pytest.raises(InputError, match="neither ranks nor filters"):
        rerank(candidates, cross_encoder, [], 3)
    with pytest.raises(InputError, match="band= has no effect"):
        rerank(candidates, cross_encoder, [], 3, rank_by="second", band=0.1)
    with pytest.raises(InputError, match="give it to the miner"):
        rerank(candidates, cross_encoder, [SkipTop(3), PercPos(0.9)], 3)
    with pytest.raises(ColumnError, match=r"mine with keep=\('scores',\)"):
        rerank(candidates.remove_columns("negatives_scores"), cross_encoder, PercPos(0.9), 3, band=0.1)
    with pytest.raises(ColumnError, match="no column 'negatives'"):
        rerank(candidates.remove_columns(["negatives", "negatives_ids"]), cross_encoder, PercPos(0.9), 3)
    import torch

    logits = Counting(cross_encoder)
    logits.activation_fn = torch.nn.Identity()
    with pytest.raises(SpecError, match="a logit has no meaningful zero"):
        rerank(candidates, logits, PercPos(0.9), 3)
