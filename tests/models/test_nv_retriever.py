"""The published layout, written by hand around tiny random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from hf_posmine.core.errors import InputError
from hf_posmine.models.nv_retriever import PREFIXES, load_nv_retriever
from tests.models import oracle
from tests.models.conftest import TEXTS, config_of, exported, random_encoder, sentencepiece, tokens_of

QUERY = "Given a web search query, retrieve relevant passages that answer the query:  "
DOCUMENT = "passage:  "


@pytest.fixture(scope="module")
def original():
    return random_encoder(query_instruction=None)


@pytest.fixture
def checkpoint(original, tmp_path):
    """A function that writes the weights under other names, and the configuration of a wrapper."""

    def write(rename=lambda name: name, *, extra=None, drop=(), shards=1, config=None):
        told = config_of("mistral", original.tokenizer).to_dict()
        told |= {"model_type": "nvretriever", "auto_map": {"AutoModel": "modeling.NVRetriever"}}
        told["rope_theta"] = told.pop("rope_parameters")["rope_theta"]  # as configurations were written before
        (tmp_path / "config.json").write_text(json.dumps(config(told) if config else told))
        sentencepiece().save_pretrained(tmp_path)
        weights = {
            rename(name): tensor.clone() for name, tensor in original[0].model.state_dict().items() if name not in drop
        }
        weights |= extra or {}
        if shards == 1:
            save_file(weights, tmp_path / "model.safetensors")
            return tmp_path
        names = sorted(weights)
        files = {
            name: f"model-{number % shards + 1:05d}-of-{shards:05d}.safetensors" for number, name in enumerate(names)
        }
        for file in set(files.values()):
            save_file({name: weights[name] for name in names if files[name] == file}, tmp_path / file)
        save_file({"stray": torch.zeros(1)}, tmp_path / "consolidated.safetensors")  # the index does not name it
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
        return tmp_path

    return write


def load(folder, **options):
    return load_nv_retriever(folder, dtype="float32", device="cpu", **options)


def test_its_vectors_are_the_oracles_under_the_cards_prompts(checkpoint):
    model = load(checkpoint())
    config, weights = exported(model)
    for prompt, vectors in ((QUERY, model.encode_query(TEXTS)), (DOCUMENT, model.encode_document(TEXTS))):
        for text, vector in zip(TEXTS, vectors, strict=True):
            ids, keep = tokens_of(model.tokenizer, prompt, text)
            states = oracle.hidden_states(config, weights, ids)
            np.testing.assert_allclose(vector, oracle.masked_mean(states, keep), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_weights_are_found_behind_every_known_prefix(checkpoint, original, prefix):
    model = load(checkpoint(lambda name: prefix + name))
    for name, tensor in original[0].model.state_dict().items():
        assert torch.equal(model[0].model.state_dict()[name], tensor), name


def test_shards_are_read_by_their_index(checkpoint, original):
    model = load(checkpoint(lambda name: f"model.{name}", shards=3))
    assert np.array_equal(model.encode(TEXTS), original.encode(TEXTS))


def test_a_configuration_may_be_nested(checkpoint, original):
    model = load(checkpoint(config=lambda told: {"model_type": "wrapper", "text_config": told}))
    assert np.array_equal(model.encode(TEXTS), original.encode(TEXTS))


def test_the_rotary_base_is_that_of_the_configuration(checkpoint, original):
    model = load(checkpoint(config=lambda told: told | {"rope_theta": 123.0}))
    assert model[0].config.rope_parameters["rope_theta"] == 123.0
    assert np.abs(model.encode(TEXTS) - original.encode(TEXTS)).max() > 1e-3


PLACE = "layers.1.self_attn.q_proj.weight"


def lora(scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    path = f"base_model.model.model.{PLACE.removesuffix('.weight')}"
    return {
        f"{path}.lora_A.default.weight": torch.randn(2, 32, generator=generator),
        f"{path}.lora_B.default.weight": torch.randn(32, 2, generator=generator) * scale,
    }


def test_adapters_are_added_at_the_papers_scale(checkpoint, original):
    def rename(name):
        return "base_model.model.model." + (name.replace(".weight", ".base_layer.weight") if name == PLACE else name)

    model = load(checkpoint(rename, extra=lora()))
    down, up = lora().values()
    for name, tensor in original[0].model.state_dict().items():
        change = 2 * up @ down if name == PLACE else 0  # alpha 32 at rank 16
        torch.testing.assert_close(model[0].model.state_dict()[name], tensor + change)


@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
def test_an_adapter_without_its_partner_is_refused(checkpoint, part):
    alone = {name: tensor for name, tensor in lora().items() if part in name}
    with pytest.raises(InputError, match=rf"adapter weight '.*{part}.*' has no partner or no place"):
        load(checkpoint(extra=alone))


def test_an_adapter_without_a_place_is_refused(checkpoint):
    elsewhere = {name.replace("q_proj", "other_proj"): tensor for name, tensor in lora().items()}
    with pytest.raises(InputError, match=r"other_proj.*no partner or no place"):
        load(checkpoint(extra=elsewhere))


def test_a_weight_without_a_place_is_refused(checkpoint):
    with pytest.raises(InputError, match=r"1 have no place \(first \['latent\.weight'\]\), 0 places have none"):
        load(checkpoint(extra={"latent.weight": torch.zeros(2)}))
    with pytest.raises(InputError, match=r"known prefixes are \('', 'model\.'"):
        load(checkpoint(lambda name: f"strange.{name}"))


def test_a_place_without_a_weight_is_refused(checkpoint):
    with pytest.raises(InputError, match=r"0 have no place.*1 places have none \(first \['norm\.weight'\]\)"):
        load(checkpoint(drop=["norm.weight"]))


def test_a_weight_of_another_shape_is_refused(checkpoint):
    with pytest.raises(InputError, match=r"weight 'norm\.weight' is \(3,\), but its place is \(32,\)"):
        load(checkpoint(extra={"norm.weight": torch.zeros(3)}))


def test_a_folder_without_safetensors_is_refused(checkpoint):
    folder = checkpoint()
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no safetensors file"):
        load(folder)


def test_another_configuration_is_refused(checkpoint):
    with pytest.raises(InputError, match=r"has no hidden_size, so it is not Mistral's; its keys are \['d_model'\]"):
        load(checkpoint(config=lambda told: {"d_model": 32}))


def test_it_is_bfloat16_by_default_and_saved_for_everybody(checkpoint, tmp_path):
    model = load_nv_retriever(checkpoint(), device="cpu")
    assert model[0].model.dtype == torch.bfloat16
    assert model.prompts == {"query": QUERY, "document": DOCUMENT}
    model.save(str(tmp_path / "saved"))
    stock = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert np.abs(stock.encode_query(TEXTS) - model.encode_query(TEXTS)).max() == 0.0
    assert np.abs(stock.encode_document(TEXTS) - model.encode_document(TEXTS)).max() == 0.0


def test_it_is_fetched_from_the_hub(hub, checkpoint, original):
    from huggingface_hub import HfApi

    folder = checkpoint(lambda name: f"model.{name}")
    (folder / "modeling.py").write_text("raise SystemExit")
    HfApi().create_repo("alice/nv")
    HfApi().upload_folder(repo_id="alice/nv", folder_path=str(folder))
    assert np.array_equal(load("alice/nv").encode(TEXTS), original.encode(TEXTS))
