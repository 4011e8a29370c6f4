"""Students: saved models and decoders, cut, with adapters, with a length for each role; and models that will not do."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from hf_posmine.core.errors import InputError
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.training.recipe import Student
from hf_posmine.training.student import load_student
from tests.support.distributed import WORDS
from tests.support.stage_runs import INSTRUCTION, decoder, saved_student

TEXTS = ["w1 w2 w3", "w40", " ".join(WORDS[:50])]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saved_student(tmp_path_factory.mktemp("student"), dropout=0.0)


@pytest.fixture(scope="module")
def mistral(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("student") / "mistral")


def tokens(model, text, task):
    return int(model.preprocess([text], task=task)["attention_mask"].sum())


def test_the_embedded_model_cut_to_two_layers_saves_and_reloads_with_equal_vectors(embedded_model, tmp_path):
    whole = load_student(Student("embedded"))
    cut = load_student(Student("embedded", num_layers=2))
    texts = ["why is the sky blue?", "a"]
    assert np.array_equal(whole.encode(texts), embedded_model.encode(texts))
    hidden = cut[0].model.encoder.layer[-1]
    assert len(cut[0].model.encoder.layer) == 2
    assert torch.equal(hidden.output.dense.weight, whole[0].model.encoder.layer[1].output.dense.weight)
    cut.save(str(tmp_path))
    again = SentenceTransformer(str(tmp_path), device="cpu")
    assert again[0].auto_model.config.num_hidden_layers == 2
    assert np.array_equal(again.encode(texts), cut.encode(texts))
    assert np.abs(cut.encode(texts) - whole.encode(texts)).max() > 0.01


def test_two_layers_are_the_second_hidden_state_of_the_whole(saved):
    """Against the states that transformers gives back, pooled here in float64."""
    cut, whole = load_student(Student(str(saved), num_layers=1)), load_student(Student(str(saved)))
    for text in TEXTS:
        features = {name: value for name, value in whole.preprocess([text]).items() if name != "modality"}
        with torch.inference_mode():
            states = whole[0].model.eval()(**features, output_hidden_states=True).hidden_states
        expected = states[1][0].double().mean(dim=0).numpy()
        np.testing.assert_allclose(cut.encode([text])[0], expected, atol=1e-6)


def test_instructions_are_not_pooled_by_a_saved_model_with_mean_pooling(saved):
    stock, student = SentenceTransformer(str(saved), device="cpu"), load_student(Student(str(saved)))
    assert np.array_equal(stock.encode(TEXTS), student.encode(TEXTS))
    features = student.preprocess([(INSTRUCTION, "w7 w8")])
    with torch.inference_mode():
        out = student.eval()(dict(features))
    ids = student.tokenizer.convert_ids_to_tokens(features["input_ids"][0])
    first = ids.index("w7")
    expected = out["token_embeddings"][0, first:].double().mean(dim=0)
    np.testing.assert_allclose(out["sentence_embedding"][0].double(), expected, atol=1e-6)


def test_a_decoder_becomes_bidirectional_with_the_papers_lengths(mistral):
    student = load_student(Student(str(mistral)))
    assert isinstance(student, InstructSentenceTransformer) and student.bidirectional
    assert (student[0].query_length, student[0].document_length) == (192, 512)
    features = [student.preprocess([f"near {word}"]) for word in ("far", "why")]
    first = []
    for f in features:
        with torch.inference_mode():
            first.append(student[0].eval()(dict(f))["token_embeddings"][0, 1])
    assert not torch.allclose(*first)


def test_a_decoder_keeps_its_first_layers(mistral):
    student = load_student(Student(str(mistral), num_layers=1))
    assert len(student[0].model.layers) == student[0].config.num_hidden_layers == 1


@pytest.mark.parametrize(
    ("told", "query", "document"),
    [
        ({}, 52, 52),  # 50 words and the two special tokens; the model takes 64
        ({"max_query_length": 10}, 10, 52),
        ({"max_document_length": 20}, 52, 20),
        ({"max_query_length": 10, "max_document_length": 20}, 10, 20),
    ],
)
def test_each_role_has_its_length_and_one_that_is_not_told_keeps_the_models(saved, told, query, document):
    student = load_student(Student(str(saved), **told))
    assert tokens(student, TEXTS[2], "query") == query
    assert tokens(student, TEXTS[2], "document") == document


@pytest.mark.parametrize("kind", ["saved", "mistral"])
def test_adapters_alone_are_trained_and_are_float32_on_a_base_in_bfloat16(kind, request):
    student = load_student(Student(str(request.getfixturevalue(kind)), dtype="bfloat16", lora={"r": 4}))
    trained = {name: p for name, p in student.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    assert all(p.dtype == torch.bfloat16 for name, p in student.named_parameters() if name not in trained)
    shapes = [p.shape for name, p in trained.items() if "lora_A" in name]
    assert all(shape[0] == 4 for shape in shapes)


def test_template_and_attention_reach_the_model(saved):
    told = {"instruction_template": "do {instruction} on {text}", "attn_implementation": "eager"}
    student = load_student(Student(str(saved), **told))
    assert student.instruction_template == "do {instruction} on {text}"
    assert student[0].config._attn_implementation == "eager"


def with_more_tokens(saved, folder):
    shutil.copytree(saved, folder)
    file = folder / "tokenizer.json"
    described = json.loads(file.read_text())
    described["model"]["vocab"] |= {f"new{n}": 65 + n for n in range(3)}
    file.write_text(json.dumps(described))
    return folder


def test_the_tokenizer_of_another_model_is_refused(saved, tmp_path):
    with pytest.raises(InputError, match="the tokenizer knows 68 tokens, but the model embeds 65"):
        load_student(Student(str(with_more_tokens(saved, tmp_path / "other"))))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"num_layers": 3}, "num_layers=3, but BertModel has 2 layers"),
        ({"dtype": "float99"}, "cannot load the student .*dtype"),
        ({"attn_implementation": "none"}, "cannot load the student .*none"),
        ({"instruction_template": "no place"}, "instruction_template='no place'"),
        ({"max_document_length": 65}, "max_document_length=65, but .* has 64 positions"),
        ({"lora": {"rank": 4}}, r"lora=\{'rank': 4\}: .*rank"),
        ({"lora": {"target_modules": ["nowhere"]}}, "lora=.*nowhere"),
        ({"lora": {"r": 0}}, "lora=.*positive"),
    ],
)
def test_what_a_student_cannot_be_is_refused(saved, told, message):
    with pytest.raises(InputError, match=message) as caught:
        load_student(Student(str(saved), **told))
    assert "\n" not in str(caught.value)


def test_models_that_are_not_there_are_refused(saved, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="nobody/nothing"):
        load_student(Student("nobody/nothing"))  # offline, as all tests are
    monkeypatch.delenv("HF_POSMINE_OFFLINE")
    with pytest.raises(InputError, match="cannot load the student 'nobody/nothing'"):
        load_student(Student("nobody/nothing"))
    with pytest.raises(InputError, match="cannot load the student"):
        load_student(Student(str(tmp_path)))


def test_a_model_whose_layers_are_hidden_elsewhere_is_not_cut(saved, monkeypatch):
    from transformers import BertModel

    class Elsewhere(torch.nn.Module):
        pass

    load = InstructSentenceTransformer.__init__

    def hidden(self, *args, **options):
        load(self, *args, **options)
        assert isinstance(self[0].model, BertModel)
        self[0].model.encoder = Elsewhere()

    monkeypatch.setattr(InstructSentenceTransformer, "__init__", hidden)
    with pytest.raises(InputError, match="the layers of BertModel are not where"):
        load_student(Student(str(saved), num_layers=1))


@pytest.mark.parametrize(
    ("stored", "pooled", "asked", "expected"),
    [
        ({"query": "w50: "}, True, None, True),
        ({"query": "w50: "}, True, False, False),
        ({"query": "w50: "}, False, None, False),
        ({}, True, None, False),
        ({}, True, True, True),
    ],
    ids=["E5-like stays", "unless asked", "an embedder of ours stays", "without prompts", "without prompts, asked"],
)
def test_a_student_that_pools_its_own_prompts_keeps_its_pooling(tmp_path, stored, pooled, asked, expected):
    path = saved_student(tmp_path / "student", prompts=stored)
    config = path / "1_Pooling" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"include_prompt": pooled}))
    assert load_student(Student(str(path), pool_instructions=asked))[1].include_prompt is expected
