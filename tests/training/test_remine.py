"""Mining within a run: the student's own negatives, the same batches, and a run that is killed and given again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from hf_posmine import PositiveAwareMiner
from hf_posmine.core.errors import InputError
from hf_posmine.mining.second_opinion import SecondOpinion
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.training.remine import CurrentNegatives, PairRows, Remine, prompts_of
from hf_posmine.training.samplers import NoDuplicateTexts, StepsPerEpoch
from hf_posmine.training.stage import run_stage
from hf_posmine.training.trainer import RecipeTrainer
from tests.support.stage_runs import label_file, recipe, retrieval_file, saved_student, told
from tests.training.test_sharded import launch

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remine")
    saved_student(folder / "teacher")
    saved_student(folder / "student")  # with dropout, so that a resumed run needs its random state
    retrieval_file(folder / "mined.parquet", rows=32)
    pairs = Dataset.from_parquet(str(folder / "mined.parquet")).remove_columns("negatives")
    pairs.to_parquet(str(folder / "pairs.parquet"))
    label_file(folder / "labels.parquet")
    return folder


def stage(folder, tmp_path, student="student", **changes):
    """Six steps of four rows; the set is mined by the teacher first."""
    tmp_path.mkdir(exist_ok=True)
    options = {"max_steps": 6, "per_device_train_batch_size": 4, "save_steps": 1, "remine_steps": 2} | changes
    made = told(folder / student / "st", folder / "pairs.parquet", tmp_path / "out", **options)
    made["datasets"][0] |= {"mine": {"teacher": str(folder / "teacher/st"), "filters": ["PercPos(0.999)"]}}
    return recipe(tmp_path, made)


def weights(tmp_path):
    return load_file(tmp_path / "out" / WEIGHTS)


def equal(one, two):
    return all(np.array_equal(one[name], two[name]) for name in one)


def kept(tmp_path, step):
    rows = Dataset.from_parquet(str(tmp_path / "out" / "remined" / f"step-{step:06d}" / "pairs.parquet"))
    return {row["query"]: [row["negative_1"], row["negative_2"]] for row in rows}


def mined_afresh(folder, model, ceiling, before):
    """The negatives by a miner of their own, in place of those of ``before`` where a row has two."""
    pairs = Dataset.from_parquet(str(folder / "pairs.parquet"))
    opinion = SecondOpinion(str(folder / "teacher/st"), "PercPos(0.999)") if ceiling == "teacher" else None
    miner = PositiveAwareMiner.from_dataset(
        pairs, model, second_opinion=opinion, filters=() if opinion else "PercPos(0.999)", num_negatives=2, seed=3,
        teacher_options={"query_prompt": "w1 w2: "},
    )  # fmt: skip
    mined = pairs.map(miner, batched=True)
    found = dict(zip(mined["query"], mined["negatives"], strict=True))
    return {query: found[query] if len(found[query]) == 2 else texts for query, texts in before.items()}


@pytest.mark.parametrize("ceiling", ["teacher", pytest.param("student", marks=pytest.mark.matrix)])
def test_batches_hold_what_the_student_finds_at_that_step(folder, tmp_path, monkeypatch, ceiling):
    served = []
    applied = CurrentNegatives.applied

    def watched(self, features):
        rows = applied(self, features)
        served.append({row["query"]: [row["negative_1"], row["negative_2"]] for row in rows})
        return rows

    monkeypatch.setattr(CurrentNegatives, "applied", watched)
    run_stage(stage(folder, tmp_path, round_ceiling=ceiling))
    state = json.loads((tmp_path / "out/checkpoint-6/trainer_state.json").read_text())
    shares = [entry["negatives_changed"] for entry in state["log_history"] if "negatives_changed" in entry]
    first, *batches = served  # the first row is read before training, by the check of rows
    before = {query: texts for batch in (first, *batches[:2]) for query, texts in batch.items()}
    for number, step in enumerate((2, 4)):
        model = InstructSentenceTransformer(str(tmp_path / f"out/checkpoint-{step}"))
        assert prompts_of(model.instruction_template, stage(folder, tmp_path).contrastive.datasets[0]) == {
            "query_prompt": "w1 w2: "
        }
        now = kept(tmp_path, step)
        assert now == mined_afresh(folder, model, ceiling, kept(tmp_path, 2) if number else now | before)
        for batch in batches[step : step + 2]:
            assert batch == {query: now[query] for query in batch}
    then, now = kept(tmp_path, 2), kept(tmp_path, 4)
    new = np.mean([text not in then[query] for query, texts in now.items() for text in texts])
    assert len(shares) == 2 and shares[0] > 0
    assert shares[1] == pytest.approx(new, abs=1e-4)


def test_a_set_for_which_the_student_finds_nothing_keeps_its_negatives(folder, tmp_path):
    made = told(folder / "student/st", folder / "pairs.parquet", tmp_path / "out", max_steps=4, remine_steps=2,
                per_device_train_batch_size=4, save_steps=2, round_ceiling="student")  # fmt: skip
    # far below the positive by the scale of BM25, and below every cosine
    made["datasets"][0] |= {"mine": {"teacher": "bm25", "filters": ["MarginPos(1.5)"]}}
    with pytest.warns(UserWarning, match="no row found 2 negatives .* its rows keep their negatives"):
        run_stage(recipe(tmp_path, made))
    assert json.loads((tmp_path / "out/remined/step-000002/changed.json").read_text()) == {"pairs": 0.0}
    assert len(kept(tmp_path, 2)) > 8


def killed_at(number):
    step = RecipeTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == number:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    return RecipeTrainer, "training_step", training_step


def killed_while_mining():
    mine = Remine.mine

    def killed(self, model):
        mine(self, model)
        raise KeyboardInterrupt

    return Remine, "mine", killed


@pytest.mark.parametrize(
    "kills",
    [
        (killed_while_mining(), killed_at(3)),  # before step 2, and between two minings
        pytest.param((killed_at(1), killed_at(2), killed_at(4), killed_at(5)), marks=pytest.mark.matrix),
    ],
    ids=("mining", "training"),
)
def test_a_run_killed_anywhere_ends_with_the_same_weights(folder, tmp_path, monkeypatch, kills):
    run_stage(stage(folder, tmp_path / "whole"))
    again = stage(folder, tmp_path / "again")
    for owner, name, stand_in in kills:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stand_in)
            with pytest.raises(KeyboardInterrupt):
                run_stage(again)
    run_stage(again)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "again"))
    assert all(kept(tmp_path / "whole", step) == kept(tmp_path / "again", step) for step in (2, 4))
    assert not (tmp_path / "again/out/remined/store").exists()


@pytest.mark.matrix
def test_without_a_mining_the_run_is_the_plain_one(folder, tmp_path):
    """Epochs of other lengths change neither the batches nor the number of steps; each epoch draws a number, as dropout does."""
    saved_student(tmp_path / "still", dropout=0.0)
    changes = {"student": tmp_path / "still", "max_steps": None, "num_train_epochs": 2, "save_steps": 100}
    changes["per_device_train_batch_size"] = 12  # 3 batches of 32 rows, the last one smaller
    run_stage(stage(folder, tmp_path / "plain", remine_steps=None, **changes))
    run_stage(stage(folder, tmp_path / "long", remine_steps=1000, **changes))
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "long"))


@pytest.mark.matrix
@pytest.mark.parametrize("changes", [{"dataloader_num_workers": 2}, {"dataloader_num_workers": 1, "save_steps": 5}])
def test_workers_that_read_ahead_see_the_same_negatives(folder, tmp_path, changes):
    run_stage(stage(folder, tmp_path / "alone"))
    run_stage(stage(folder, tmp_path / "workers", **changes))
    assert equal(weights(tmp_path / "alone"), weights(tmp_path / "workers"))


@pytest.mark.matrix
def test_two_processes_mine_once_and_train_on_the_same_negatives(folder, tmp_path, fresh_home):
    stage(folder, tmp_path, per_device_train_batch_size=2, round_ceiling="student")
    launch("ddp.yaml", tmp_path / "recipe.yaml")
    model = InstructSentenceTransformer(str(tmp_path / "out/checkpoint-2"))
    assert kept(tmp_path, 2) == mined_afresh(folder, model, "student", kept(tmp_path, 2))
    assert len(list((fresh_home / "blends").glob("*/rows.parquet"))) == 3  # by the teacher, and at steps 2 and 4


@pytest.mark.matrix
def test_a_blend_mines_again_only_what_was_mined(folder, tmp_path):
    labels = {
        "name": "labels", "path": str(folder / "labels.parquet"), "task": "classification", "positives": "example",
        "instruction": "",
    }  # fmt: skip
    made = stage(folder, tmp_path, save_steps=100)
    both = [{"name": spec.name, "path": spec.path, "task": spec.task, "instruction": spec.instruction, "mine": spec.mine}
            for spec in made.contrastive.datasets]  # fmt: skip
    run_stage(stage(folder, tmp_path, save_steps=100, gradient_accumulation_steps=2, datasets=[*both, labels]))
    assert sorted(path.name for path in (tmp_path / "out/remined/step-000002").iterdir()) == [
        "changed.json",
        "pairs.parquet",
    ]
    assert SentenceTransformer(str(tmp_path / "out")).encode("w1").shape == (16,)


@settings(max_examples=60)
@given(rows=st.integers(3, 40), batch=st.integers(1, 7), per_epoch=st.integers(1, 11), epochs=st.integers(1, 6))
def test_epochs_of_so_many_batches_are_the_passes_in_order(rows, batch, per_epoch, epochs):
    texts = {name: [f"{name} {i}" for i in range(rows)] for name in ("query", "positive", "negative_1")}
    passes = NoDuplicateTexts(Dataset.from_dict(texts), batch, drop_last=False, seed=1)
    wanted: list[list[int]] = []
    number = 0
    while len(wanted) < per_epoch * epochs:
        passes.set_epoch(number)
        wanted += list(passes)
        number += 1
    cut = StepsPerEpoch(passes, per_epoch)
    found = []
    for epoch in range(epochs):
        cut.set_epoch(epoch)
        part = list(cut)
        assert len(part) == len(cut) == per_epoch
        found += part
    assert found == wanted[: per_epoch * epochs]


TEXTS = st.sampled_from(["a", "b", "c", "A", "a ", ""])


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), asked=st.lists(st.tuples(TEXTS, TEXTS), max_size=8)
)
def test_pairs_are_found_by_their_texts(rows, asked):
    columns = {"query": [q for q, _ in rows], "positive": [p for _, p in rows], "negative_1": ["n"] * len(rows)}
    found = PairRows(Dataset.from_dict(columns)).find([q for q, _ in asked], [p for _, p in asked])
    assert [row >= 0 for row in found] == [pair in rows for pair in asked]
    assert all(rows[row] == pair for row, pair in zip(found, asked, strict=True) if row >= 0)


def test_two_sets_with_the_same_pair_are_refused():
    columns = {"query": ["a"], "positive": ["b"], "negative_1": ["n"]}
    rows = Dataset.from_dict(columns)
    with pytest.raises(InputError, match="'one' and 'two' share a pair"):
        CurrentNegatives({"one": rows, "two": rows})
    CurrentNegatives({"one": rows, "two": Dataset.from_dict(columns | {"positive": ["c"]})})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 2}, "beside rounds=2"),
        ({"save_strategy": "epoch"}, "give save_strategy: steps"),
        ({"false_negatives": "PercPos(0.95)", "guide": "embedded"}, "guide has vectors"),
        ({"dataloader_num_workers": 1, "dataloader_persistent_workers": True}, "persistent workers"),
        ({"remine_steps": 0}, "expected at least 1"),
    ],
)
def test_what_does_not_go_with_it_is_refused(folder, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        stage(folder, tmp_path, **changes)


def test_a_set_must_be_mined(folder, tmp_path):
    made = told(folder / "student/st", folder / "mined.parquet", tmp_path / "out", remine_steps=2)
    with pytest.raises(InputError, match="no data set has mine"):
        recipe(tmp_path, made)


def test_what_was_mined_must_be_there(folder, tmp_path):
    negatives = CurrentNegatives({"pairs": Dataset.from_dict({"query": ["a"], "positive": ["b"], "negative_1": ["n"]})})
    negatives.write(tmp_path / "step-000002")
    negatives.read(tmp_path / "step-000002")
    (tmp_path / "step-000002/pairs.parquet").unlink()
    with pytest.raises(InputError, match=r"pairs.parquet is missing, which the run needs to resume"):
        negatives.read(tmp_path / "step-000002")
