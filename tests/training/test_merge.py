"""Merged weights against numpy, the shares that validation chooses, and what cannot be merged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.training.merge import merge_by_validation, merge_models, slerp
from tests.support.distributed import tiny_model
from tests.support.stage_runs import collection


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three copies of a tiny model with other weights, one of another size, one with prompts."""
    folder = tmp_path_factory.mktemp("merge")
    base = tiny_model(folder / "base")
    for number in range(3):
        model = SentenceTransformer(str(base), device="cpu")
        torch.manual_seed(number)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        model.save_pretrained(str(folder / f"m{number}"), create_model_card=False)
    model.prompts["query"] = "find: "
    model.save_pretrained(str(folder / "prompted"), create_model_card=False)
    collection(folder / "heldout")
    return folder


def names(folder, *numbers):
    return [str(folder / f"m{number}") for number in numbers]


def weights(path):
    return load_file(path / "model.safetensors")


def merged_weights(model):
    return {name.partition(".")[2].removeprefix("model."): w.numpy() for name, w in model.state_dict().items()}


def test_the_mean_is_that_of_numpy(folder):
    found = merge_models(names(folder, 0, 1, 2), shares=[2, 1, 1])
    assert found.shares == (0.5, 0.25, 0.25)
    parts = [weights(folder / f"m{number}") for number in range(3)]
    for name, value in merged_weights(found.model).items():
        wanted = 0.5 * parts[0][name] + 0.25 * parts[1][name] + 0.25 * parts[2][name]
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp_keeps_the_arc(share):
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(12), dim=0) for _ in range(2))
    found = slerp(a.reshape(3, 4), b.reshape(3, 4), share).flatten()
    angle = torch.arccos(a @ b)
    assert found.norm().item() == pytest.approx(1, abs=1e-5)
    assert torch.arccos((found @ a).clamp(-1, 1)).item() == pytest.approx(share * angle.item(), abs=1e-3)
    same = slerp(a, 2 * a, share)  # of one direction: linear
    torch.testing.assert_close(same, (1 + share) * a, rtol=1e-5, atol=1e-6)


def test_the_greedy_soup_takes_what_does_not_make_it_worse(folder):
    parts = [weights(folder / f"m{number}") for number in range(3)]
    name = next(name for name in parts[0] if name.endswith("word_embeddings.weight"))
    wanted = (parts[0][name] + parts[2][name]) / 2  # validation likes the mean of two of the three

    def score(model):
        return -float(np.abs(merged_weights(model)[name] - wanted).sum())

    found = merge_by_validation(names(folder, 0, 1, 2), score)
    assert found.shares == (0.5, 0.0, 0.5)
    assert len(found.tried) == 5
    np.testing.assert_allclose(merged_weights(found.model)[name], wanted, rtol=1e-5, atol=1e-6)


def test_slerp_by_validation_tries_tenths(folder):
    start = weights(folder / "m0")
    name = next(name for name in start if name.endswith("word_embeddings.weight"))
    wanted = slerp(torch.tensor(start[name]), torch.tensor(weights(folder / "m1")[name]), 0.7).numpy()
    found = merge_by_validation(
        names(folder, 0, 1), lambda model: -float(np.abs(merged_weights(model)[name] - wanted).sum()), "slerp"
    )
    assert found.shares == pytest.approx((0.3, 0.7)) and len(found.tried) == 11


def test_the_command_saves_a_model_with_its_record(folder, tmp_path, capsys):
    arguments = [
        "merge",
        *names(folder, 0, 1),
        "--validate",
        str(folder / "heldout"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    record = json.loads((tmp_path / "out" / "merge.json").read_text())
    assert record["models"] == names(folder, 0, 1) and sum(record["shares"]) == pytest.approx(1)
    assert [entry["shares"] for entry in record["tried"]] == [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(["w1"]).shape == (1, 16)
    assert "saved" in capsys.readouterr().out
    assert main(arguments) == 2  # the folder exists
    assert "name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: merge_models(names(f, 0)), "at least two models, got 1"),
        (lambda f: merge_models(names(f, 0, 1, 2), "slerp"), "merges two models, got 3"),
        (lambda f: merge_models(names(f, 0, 1), shares=[1]), "expected 2 numbers"),
        (lambda f: merge_models(names(f, 0, 1), shares=[0, 0]), "not all of them 0"),
        (lambda f: merge_models([*names(f, 0), "embedded"]), "different architectures"),
        (lambda f: merge_models([*names(f, 2), str(f / "prompted")]), "different prompts"),
        (lambda f: merge_models(names(f, 0, 1), "median"), r"choose one of \['mean', 'slerp'\]"),
    ],
)
def test_what_cannot_be_merged_is_refused(folder, make, says):
    with pytest.raises(InputError, match=says):
        make(folder)
