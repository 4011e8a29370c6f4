"""Batches of near rows, against loops over all pairs of rows."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.filters import PercPos
from hf_posmine.training.neighbour_batches import NearRows, NeighbourBatches
from hf_posmine.training.neighbours import Neighbours
from hf_posmine.training.stage import prepare, run_stage
from tests.support import tiny
from tests.support.distributed import tiny_model
from tests.support.stage_runs import label_file, recipe, retrieval_file, told


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def made_up(rows: int, negatives: int, seed: int, share: float, neighbours: int = 3) -> tuple[Dataset, NearRows]:
    """Random rows in three dimensions, so that many pairs are above a ceiling, and neighbours at random."""
    rng = np.random.default_rng(seed)
    queries, documents = unit(rng.standard_normal((rows, 3))), unit(rng.standard_normal((rows * (1 + negatives), 3)))
    at = np.arange(len(documents)).reshape(rows, -1)
    guide = SimpleNamespace(query_vectors=lambda rows: queries[rows], document_vectors=lambda rows: documents[rows])
    own = np.einsum("nd,nd->n", queries, documents[at[:, 0]])
    near = rng.integers(-1, len(documents), (rows, neighbours))
    ceilings = PercPos(share).ceiling(own)
    above = (queries @ documents[at[:, 0]].T >= ceilings[:, None]).mean(axis=1)
    found = NearRows(guide, np.arange(rows), at, 1, near, ceilings, above)
    names = ["query", "positive", *(f"negative_{n}" for n in range(1, 1 + negatives))]
    return Dataset.from_dict({name: [f"{name} {row}" for row in range(rows)] for name in names}), found


def clash(near: NearRows, one: int, other: int, slack: float) -> bool:
    """Whether a document of either row is at or above the ceiling of the other, by one product after the other."""
    for row, owner in ((one, other), (other, one)):
        query, documents = near.vectors(row)[0].astype(np.float64), near.vectors(owner)[1].astype(np.float64)
        if any(float(query @ document) >= near.ceilings[row] - slack for document in documents):
            return True
    return False


@settings(max_examples=60)
@given(
    rows=st.integers(1, 40),
    negatives=st.integers(0, 2),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.5, 0.95, 1.5]),
    size=st.integers(1, 5),
    processes=st.integers(1, 3),
    drop_last=st.booleans(),
)
def test_each_row_comes_once_and_none_above_a_ceiling_meet_unless_nothing_else_is_left(
    rows, negatives, seed, share, size, processes, drop_last
):
    data, near = made_up(rows, negatives, seed, share)
    sampler = NeighbourBatches(data, size, drop_last, seed=seed, near=near, processes=processes)
    sampler.set_epoch(seed % 3)
    batches = list(sampler)
    least = size if drop_last else 2 - bool(negatives)
    assert [len(b) for b in batches] == [size] * (rows // size) + [rows % size] * (
        rows % size >= least and rows % size > 0
    )
    assert len(sampler) == len(batches)
    flat = [row for batch in batches for row in batch]
    assert len(set(flat)) == len(flat)
    steps = [list(chain(*batches[at : at + processes])) for at in range(0, len(batches), processes)]
    for number, step in enumerate(steps):
        free = 1
        while free < len(step) and not any(clash(near, step[free], row, 0.0) for row in step[:free]):
            free += 1
        rest = step[free:] + list(chain(*steps[number + 1 :])) if free < len(step) else []
        for row in rest:  # it was filled up: whatever was left clashes with what is together
            assert any(clash(near, row, there, 2e-5) for there in step[:free])


def test_rows_that_take_no_in_batch_negatives_have_no_ceiling_of_their_own():
    data, near = made_up(8, 1, 0, 0.95)
    near = NearRows(**{**vars(near), "ceilings": np.full(8, -1.0, np.float32)})  # everything is above it
    order = np.random.default_rng([0, 0]).permutation(8).tolist()
    assert list(NeighbourBatches(data, 4, False, near=near, processes=1)) == [
        order[:4],
        order[4:],
    ]  # nothing fits: at random
    near = NearRows(
        **{**vars(near), "near": near.documents[:, :1][[1, 2, 3, 0, 5, 6, 7, 4]], "above": np.zeros(8)}
    )  # two circles of neighbours
    free = data.add_column("in_batch_negatives", [False] * 8)
    groups = list(NeighbourBatches(free, 4, False, near=near, processes=1))
    assert sorted(map(sorted, groups)) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_each_process_gets_its_share_of_the_same_steps():
    data, near = made_up(40, 0, 3, 1.0)
    near = NearRows(**{**vars(near), "ceilings": np.full(40, 0.9, np.float32)})
    alone = list(NeighbourBatches(data, 4, False, seed=5, near=near, processes=2))
    shares = [
        list(BatchSamplerShard(NeighbourBatches(data, 4, False, seed=5, near=near, processes=2), 2, rank))
        for rank in (0, 1)
    ]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == alone
    step = alone[0] + alone[1]
    assert not any(clash(near, a, b, 0.0) for at, a in enumerate(step) for b in step[:at])


def test_the_order_follows_from_seed_and_epoch_alone():
    data, near = made_up(40, 0, 1, 0.95)

    def order(seed, epoch):
        sampler = NeighbourBatches(data, 4, False, seed=seed, near=near, processes=1)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert len({str(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    tiny.static(folder / "teacher")
    tiny_model(folder / "student")
    retrieval_file(folder / "pairs.parquet")
    label_file(folder / "labels.parquet")
    return folder


def texts(rng, rows):
    return [" ".join(rng.choice(tiny.WORDS, size=rng.integers(2, 6))) for _ in range(rows)]


@pytest.mark.parametrize("ceiling", [None, "PercPos(0.9)"])
def test_neighbours_are_the_best_positives_below_the_ceiling_by_the_teachers_vectors(folder, ceiling):
    rng = np.random.default_rng(4)
    names = ["query", "positive", "negative_1"]
    data = Dataset.from_dict({name: texts(rng, 30) for name in names}).shuffle(seed=1)  # its table is in another order
    near = Neighbours(str(folder / "teacher"), ceiling, k=4).within(data)
    model = SentenceTransformer(str(folder / "teacher"), device="cpu")
    vectors = {name: unit(model.encode(data[name]).astype(np.float64)) for name in names}
    for row in range(len(data)):
        scores = {}
        for text, vector in zip(data["positive"], vectors["positive"], strict=True):
            if text != data["positive"][row]:
                scores[text] = float(vectors["query"][row] @ vector)
        own = float(vectors["query"][row] @ vectors["positive"][row])
        limit = np.inf if ceiling is None else own - abs(own) * 0.1
        best = sorted((score for score in scores.values() if score < limit), reverse=True)[:4]
        found = [near.guide.teacher.corpus.texts(np.array([d]))[0].as_py() for d in near.near[row] if d >= 0]
        assert np.allclose([scores[text] for text in found], best, atol=1e-5)
        assert np.isclose(near.ceilings[row], limit, atol=1e-5)
        assert np.isclose(
            near.above[row], sum(score >= limit for score in scores.values()) / (len(scores) + 1), atol=1e-9
        )


def test_rows_of_one_subject_share_a_batch(folder):
    subjects = ["red green", "cat dog", "sky sea", "tree stone"]
    words = [f"{subject} {word}" for subject in subjects for word in ("blue", "bird", "house", "river", "of", "in")]
    data = Dataset.from_dict({"query": words, "positive": [f"{text} a" for text in words]})
    near = Neighbours(str(folder / "teacher"), k=5).within(data)
    of_subject = [[row // 6 for row in batch] for batch in NeighbourBatches(data, 6, False, near=near, processes=1)]
    together = np.mean([of.count(one) for of in of_subject for one in of])
    assert together > 4  # of 6; random batches have 2.1


def test_a_stage_resumes_with_the_same_batches_and_masks_by_the_teacher(folder, tmp_path):
    near = {"teacher": str(folder / "teacher"), "ceiling": "PercPos(0.95)", "k": 3}
    given = told(folder / "student" / "st", folder / "pairs.parquet", tmp_path / "out", neighbours=near)
    labels = {"name": "kinds", "path": str(folder / "labels.parquet"), "task": "classification", "positives": "example"}
    given["datasets"].append({**labels, "instruction": "w3"})  # takes no in-batch negatives
    stage, lines = recipe(tmp_path, given), []
    assert (stage.objective.guide, stage.objective.false_negatives) == (near["teacher"], "PercPos(0.95)")
    run_stage(stage, lines.append)
    assert any("the loss leaves out what is above PercPos(0.95)" in line for line in lines)
    whole = load_file(tmp_path / "out" / "model.safetensors")
    trainer, _ = prepare(recipe(tmp_path, {**given, "output_dir": str(tmp_path / "again")}))
    pairs, labels = trainer.get_train_dataloader().batch_sampler.batch_samplers
    assert isinstance(pairs, NeighbourBatches) and np.isfinite(pairs.near.ceilings).all()
    assert not isinstance(labels, NeighbourBatches)
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    again = {name.removeprefix("0.model."): value for name, value in trainer.model.state_dict().items()}
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_stock_trainer_takes_them_too(folder, tmp_path):
    rng = np.random.default_rng(2)
    data = Dataset.from_dict({"anchor": texts(rng, 12), "positive": texts(rng, 12)})
    args = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "stock"), use_cpu=True, report_to="none", max_steps=2, per_device_train_batch_size=4,
        batch_sampler=Neighbours(str(folder / "teacher"), k=2), save_strategy="steps", save_steps=2,
    )  # fmt: skip
    model = SentenceTransformer(str(folder / "student" / "st"), device="cpu")
    loss = MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=data, loss=loss)
    assert isinstance(trainer.get_train_dataloader().batch_sampler, NeighbourBatches)
    trainer.train()
    assert (tmp_path / "stock" / "checkpoint-2").is_dir()


@pytest.mark.parametrize(
    ("near", "others", "message"),
    [
        ({}, {}, "needs the dense teacher"),
        ({"teacher": "embedded", "size": 3}, {}, "has no option 'size'"),
        ({"teacher": "embedded", "k": -1}, {}, "k=-1"),
        ({"teacher": "embedded", "k": 0}, {}, "k=0 has no effect without a ceiling"),
        ({"teacher": "embedded", "above": "masked"}, {}, "above=masked has no effect without a ceiling"),
        ({"teacher": "embedded", "above": "gone", "ceiling": "PercPos(0.9)"}, {}, "choose one of"),
        ({"teacher": "embedded", "ceiling": "SkipTop(3)"}, {}, "sets no ceiling"),
        ({"teacher": "embedded"}, {"batch_sampler": "no_duplicates"}, "give one of the two"),
        (
            {"teacher": "embedded", "ceiling": "PercPos(0.9)"},
            {"false_negatives": "PercPos(0.95)"},
            r"which holds 'PercPos\(0.9\)'; leave false_negatives out",
        ),
        ({"teacher": "bm25"}, {}, "is not a dense teacher"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, tmp_path, near, others, message):
    given = told(folder / "student" / "st", folder / "pairs.parquet", tmp_path / "out", neighbours=near, **others)
    with pytest.raises((InputError, SpecError), match=message):
        prepare(recipe(tmp_path, given))
