"""Rounds: who mines and who sets the ceiling in each, what changed, and a run that is given again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset
from safetensors.numpy import load_file

from hf_posmine import PositiveAwareMiner
from hf_posmine.core.errors import InputError
from hf_posmine.mining.second_opinion import SecondOpinion
from hf_posmine.training import rounds
from hf_posmine.training.blend import load_blend
from hf_posmine.training.rounds import round_recipe, run_rounds
from hf_posmine.training.stage import run_stage
from tests.support.stage_runs import recipe, retrieval_file, saved_student, told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    saved_student(folder / "teacher")
    saved_student(folder / "student", dropout=0.0)
    retrieval_file(folder / "mined.parquet")
    pairs = Dataset.from_parquet(str(folder / "mined.parquet")).remove_columns("negatives")
    pairs.to_parquet(str(folder / "pairs.parquet"))
    return folder


TEMPLATE = "{instruction}: {text}"


def stage(folder, tmp_path, **changes):
    made = told(folder / "student/st", folder / "pairs.parquet", tmp_path / "out", max_steps=3, rounds=2, **changes)
    mine = {"teacher": str(folder / "teacher/st"), "filters": ["PercPos(0.999)"]}
    made["datasets"][0] |= {"mine": mine, "instruction": "w1 w2"}
    return recipe(tmp_path, made)


def negatives(blend):
    return {row["query"]: [row["negative_1"], row["negative_2"]] for row in blend.datasets["pairs"]}


@pytest.mark.parametrize("ceiling", ["teacher", pytest.param("student", marks=pytest.mark.matrix)])
def test_the_second_round_learns_from_what_the_student_found(folder, tmp_path, ceiling):
    read, lines = stage(folder, tmp_path, round_ceiling=ceiling), []
    _, (first, second) = run_rounds(read, lines.append)
    assert [first.changed, second.folder] == [None, str(tmp_path / "out" / "round-2")]
    before, after = (
        load_blend(round_recipe(read, n, TEMPLATE).contrastive.datasets, num_negatives=2, seed=3) for n in (1, 2)
    )
    pairs = Dataset.from_parquet(str(folder / "pairs.parquet"))
    opinion = SecondOpinion(str(folder / "teacher/st"), "PercPos(0.999)") if ceiling == "teacher" else None
    miner = PositiveAwareMiner.from_dataset(
        pairs, first.folder, second_opinion=opinion, filters=() if opinion else "PercPos(0.999)", num_negatives=2, seed=3,
        on_short="drop", teacher_options={"query_prompt": "w1 w2: "},
    )  # fmt: skip
    mined = pairs.map(miner, batched=True)
    assert negatives(after) == dict(zip(mined["query"], mined["negatives"], strict=True))
    earlier = negatives(before)
    new = sum(len(set(texts) - set(earlier.get(query, ()))) for query, texts in negatives(after).items())
    assert second.changed == {"pairs": pytest.approx(new / (2 * len(mined)))} and new
    assert json.loads((tmp_path / "out" / "rounds.json").read_text())[1]["changed"] == second.changed
    assert any("round 2 of 2: new negatives" in line for line in lines)


def test_a_run_given_again_takes_finished_rounds_and_ends_with_the_same_weights(folder, tmp_path, monkeypatch):
    read = stage(folder, tmp_path, round_start="previous")
    trained = []
    monkeypatch.setattr(rounds, "run_stage", lambda r, announce: trained.append(r) or run_stage(r, announce))

    def killed(recipe, announce):
        if recipe.trainer["output_dir"].endswith("round-2"):
            raise KeyboardInterrupt
        return run_stage(recipe, announce)

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "run_stage", killed)
        with pytest.raises(KeyboardInterrupt):
            run_rounds(read)
    file = tmp_path / "out" / "round-1" / "model.safetensors"
    before = file.stat().st_mtime_ns
    run_rounds(read)
    assert file.stat().st_mtime_ns == before
    assert trained[1].student.model == str(tmp_path / "out" / "round-1")
    (tmp_path / "again").mkdir()
    other = stage(folder, tmp_path / "again", round_start="previous")
    run_rounds(other)
    one, two = (load_file(d / "out" / "round-2" / "model.safetensors") for d in (tmp_path, tmp_path / "again"))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_what_cannot_be_done_in_rounds_is_refused(folder, tmp_path):
    read = stage(folder, tmp_path)
    with pytest.raises(InputError, match="the recipe has 2 rounds"):
        run_stage(read)
    made = told(folder / "student/st", folder / "mined.parquet", tmp_path / "out", rounds=2)
    with pytest.raises(InputError, match="no data set has mine"):
        run_rounds(recipe(tmp_path, made))
    with pytest.raises(InputError, match="round_start='base'; choose one of"):
        stage(folder, tmp_path, round_start="base")
    made["datasets"][0]["mine"] = {"teacher": "embedded", "second_opinion": {"teacher": "bm25", "margin": 1}}
    with pytest.raises(InputError, match="expected a mapping with teacher"):
        recipe(tmp_path, made)
