"""What is saved loads where this package is not installed, with the same vectors to the last bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
import warnings
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling

from hf_posmine import __version__
from hf_posmine.core.errors import InputError
from hf_posmine.models.bidirectional import bidirectional_encoder
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.models.portable import REQUIREMENTS, STOCK_POOLING, STOCK_TRANSFORMER, explain, wrongly_measured
from tests.models.conftest import INSTRUCTION, REBUILT, TEXTS, byte_level, random_encoder, rebuilt, sentencepiece

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = Dataset.from_dict(
    {
        "anchor": ["who wrote it", "why", "what is near", "42 ??"] * 2,
        "positive": ["the paper about hard negatives", "and why", "far is not near", "1234"] * 2,
    }
)

STRANGER = textwrap.dedent(
    """
    import json, sys

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "hf_posmine":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Blocker())
    try:
        import hf_posmine
        raise SystemExit("hf_posmine is on the path")
    except ModuleNotFoundError:
        pass
    import numpy, torch
    torch.set_num_threads(1)
    from sentence_transformers import SentenceTransformer

    job = json.load(open(sys.argv[1]))
    refused = {}
    for name, folder in job["folders"].items():
        try:
            model = SentenceTransformer(folder, device="cpu")
            vectors = {"query": model.encode_query(job["texts"]), "document": model.encode_document(job["texts"])}
            numpy.savez(f"{job['out']}/{name}.npz", attention=model[0].config._attn_implementation, **vectors)
        except Exception as error:
            refused[name] = f"{type(error).__name__}: {error}"
    json.dump(refused, open(job["out"] + "/refused.json", "w"))
    assert not any(name.startswith("hf_posmine") for name in sys.modules)
    """
)


def arguments(folder: Path, **options) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        str(folder),
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        prompts={"anchor": "Given a question: "},
        **options,
    )


def trained(model, folder: Path, *, resume: str | None = None, **options):
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments(folder, **options),
        train_dataset=PAIRS,
        eval_dataset=PAIRS,
        loss=MultipleNegativesRankingLoss(model),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


def chatting():
    tokenizer = sentencepiece()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


EVERY_STEP = {"max_steps": 3, "eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1}
WORST = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
"""The "best" checkpoint is then not the last."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, tuple[Path, InstructSentenceTransformer]]:
    """Folders as a stranger will find them, and the models that were saved there."""
    root = tmp_path_factory.mktemp("saved")
    models = {
        "sentencepiece": random_encoder(),
        "byte-level": random_encoder(tokenizer=byte_level(), document_prompt="passage: "),
        "end token": random_encoder(tokenizer=byte_level(eos=True)),
        **{family: random_encoder(family, rebuilt(cls), document_prompt="a: ") for family, cls in REBUILT.items()},
        "bfloat16": random_encoder(dtype="bfloat16"),
        "another template": random_encoder(instruction_template="Instruct: {instruction}\nQuery: {text}"),
        "last token": random_encoder(pooling="lasttoken"),
        "short": random_encoder(max_query_length=12, max_document_length=5),
        "chat template": random_encoder(tokenizer=chatting()),
        "unpadded": random_encoder(attn_implementation="posmine_varlen"),
        "trained": trained(random_encoder(), root / "run", **EVERY_STEP, **WORST),
    }
    base, start = root / "base", {"query_instruction": INSTRUCTION, "device": "cpu"}
    models["sentencepiece"].save(str(base))
    first = str(root / "run" / "checkpoint-1")
    models["resumed"] = trained(bidirectional_encoder(base, **start), root / "again", resume=first, **EVERY_STEP)

    trained(bidirectional_encoder(base, lora={"r": 4}, **start), root / "lora", **EVERY_STEP)
    first = str(root / "lora" / "checkpoint-1")
    adapters = bidirectional_encoder(base, lora={"r": 4}, **start)
    adapters = trained(adapters, root / "lora again", resume=first, **EVERY_STEP)
    adapters.save(str(root / "adapters"))
    kept = InstructSentenceTransformer(str(root / "adapters"), device="cpu")
    models["merged"] = adapters.merge_adapters()
    for name, model in models.items():
        model.save(str(root / name))
    found = {name: (root / name, model.eval()) for name, model in models.items()}
    return {**found, "adapters": (root / "adapters", kept), "checkpoint": (root / "run" / "checkpoint-2", None)}


@pytest.fixture(scope="module")
def stranger(saved, tmp_path_factory) -> dict[str, dict[str, np.ndarray] | str]:
    """What plain sentence-transformers makes of each folder in a process without this package: vectors, or its refusal."""
    out = tmp_path_factory.mktemp("stranger")
    job = {"folders": {name: str(folder) for name, (folder, _) in saved.items()}, "texts": TEXTS, "out": str(out)}
    (out / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(out / "job.json")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused = json.loads((out / "refused.json").read_text())
    return {name: refused[name] if name in refused else dict(np.load(out / f"{name}.npz")) for name in saved}


SAME = (
    "sentencepiece",
    "byte-level",
    "end token",
    *REBUILT,
    "bfloat16",
    "another template",
    "last token",
    "short",
    "chat template",
    "trained",
    "resumed",
    "merged",
)


@pytest.mark.parametrize("name", SAME)
def test_a_stranger_gets_the_same_vectors(saved, stranger, name):
    folder, model = saved[name]
    assert isinstance(stranger[name], dict), stranger[name]
    again = InstructSentenceTransformer(str(folder), device="cpu")
    for role in ("query", "document"):
        vectors = getattr(model, f"encode_{role}")(TEXTS)
        assert np.abs(stranger[name][role] - vectors).max() == 0.0
        assert np.abs(getattr(again, f"encode_{role}")(TEXTS) - vectors).max() == 0.0
    assert again.bidirectional
    assert again.instruction_template == model.instruction_template


def test_tokenizers_that_build_themselves_anew_are_read_as_they_stand(saved):
    for family, cls in REBUILT.items():
        folder, _ = saved[family]
        assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == cls.__name__
        settings = json.loads((folder / "sentence_bert_config.json").read_text())
        assert settings["processor_kwargs"] == {"tokenizer_type": "granite"}
    settings = json.loads((saved["sentencepiece"][0] / "sentence_bert_config.json").read_text())
    assert not settings.get("processor_kwargs")


def test_the_models_differ_so_that_equality_says_something(saved, stranger):
    plain = stranger["sentencepiece"]
    for name in ("trained", "resumed", "merged", "last token", "short"):
        assert np.abs(stranger[name]["query"] - plain["query"]).max() > 1e-3, name
    assert np.abs(plain["query"] - plain["document"]).max() > 1e-3


def test_an_unpadded_model_is_padded_elsewhere(saved, stranger):
    _, model = saved["unpadded"]
    assert str(stranger["unpadded"]["attention"]) == "sdpa"
    np.testing.assert_allclose(stranger["unpadded"]["query"], model.encode_query(TEXTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "checkpoint"),
    [("trained", "run/checkpoint-1"), ("resumed", "run/checkpoint-3"), ("merged", "lora/checkpoint-3")],
)
def test_training_ends_where_it_should(saved, name, checkpoint):
    """The best model is loaded at the end, and a resumed run ends as the one that was not interrupted."""
    folder, model = saved[name]
    expected = InstructSentenceTransformer(str(folder.parent / checkpoint), device="cpu").encode_query(TEXTS)
    other = InstructSentenceTransformer(str(folder.parent / "run/checkpoint-2"), device="cpu").encode_query(TEXTS)
    np.testing.assert_allclose(model.encode_query(TEXTS), expected, rtol=0, atol=1e-5)
    assert np.abs(expected - other).max() > 1e-3


def test_a_checkpoint_of_the_trainer_is_portable_too(saved, stranger):
    again = InstructSentenceTransformer(str(saved["checkpoint"][0]), device="cpu")
    assert again.bidirectional
    assert np.abs(stranger["checkpoint"]["query"] - again.encode_query(TEXTS)).max() == 0.0


def test_adapters_alone_are_refused_elsewhere_and_right_here(saved, stranger):
    folder, kept = saved["adapters"]
    assert not (folder / "config.json").exists()
    assert "references the module class 'hf_posmine" in stranger["adapters"]
    _, merged = saved["merged"]
    assert kept.bidirectional
    np.testing.assert_allclose(kept.encode_query(TEXTS), merged.encode_query(TEXTS), rtol=0, atol=1e-5)


def test_every_save_demands_a_transformers_that_obeys(saved, tmp_path):
    def demanded(folder: Path):
        return json.loads((folder / "config_sentence_transformers.json").read_text())["requirements"]

    for name, (folder, _) in saved.items():
        assert demanded(folder) == REQUIREMENTS, name
    again = InstructSentenceTransformer(str(saved["sentencepiece"][0]), device="cpu")
    again.save(str(tmp_path / "again"))
    assert demanded(tmp_path / "again") == REQUIREMENTS


def test_a_saved_model_says_which_versions_wrote_it(saved, tmp_path):
    """Also after plain sentence-transformers could have read it; a later writer is one warning when it is loaded."""
    names = {"sentence_transformers": "sentence-transformers", "transformers": "transformers", "pytorch": "torch",
             "accelerate": "accelerate", "peft": "peft", "hf_posmine": "hf-posmine"}  # fmt: skip
    installed = {name: metadata.version(package) for name, package in names.items()}
    folder, _ = saved["checkpoint"]
    written = json.loads((folder / "config_sentence_transformers.json").read_text())["__version__"]
    assert {name: version.partition("+")[0] for name, version in written.items()} == {
        name: version.partition("+")[0] for name, version in installed.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert InstructSentenceTransformer(str(folder), device="cpu")._written_by == written
    later = tmp_path / "later"
    shutil.copytree(folder, later)
    config = json.loads((later / "config_sentence_transformers.json").read_text())
    config["__version__"]["hf_posmine"] = "99.1"
    (later / "config_sentence_transformers.json").write_text(json.dumps(config))
    with pytest.warns(
        UserWarning, match=r"was saved by hf-posmine 99\.1, and \d.* is installed.*pip install -U"
    ) as told:
        InstructSentenceTransformer(str(later), device="cpu")
    assert len([w for w in told if "hf-posmine" in str(w.message)]) == 1


def test_nothing_of_this_package_is_named_on_disk(saved):
    for name in (*SAME, "checkpoint"):
        folder, _ = saved[name]
        for file in folder.rglob("*.json"):
            if file.name != "trainer_state.json":
                plain = json.loads(file.read_text("utf8"))
                if "__version__" in plain:  # who wrote it is no class to import
                    assert plain["__version__"].pop("hf_posmine") == __version__
                assert "posmine" not in json.dumps(plain), (name, file.name)
        assert json.loads((folder / "config.json").read_text())["is_causal"] is False


def test_the_names_on_disk_are_those_of_sentence_transformers():
    for name, cls in ((STOCK_TRANSFORMER, Transformer), (STOCK_POOLING, Pooling)):
        assert name == f"{cls.__module__}.{cls.__qualname__}"
    assert set(InstructSentenceTransformer._module_classes) >= {STOCK_TRANSFORMER, STOCK_POOLING}
    assert set(SentenceTransformer._module_classes).isdisjoint({STOCK_TRANSFORMER, STOCK_POOLING})


def test_a_prompt_that_melts_into_texts_is_refused_when_built():
    with pytest.raises(InputError, match=r"the prompt 'query' \('123'\) has 1 tokens before a text.*would leave 3 out"):
        random_encoder(tokenizer=byte_level(), query_instruction="123", instruction_template="{instruction}{text}")


def test_a_prompt_set_later_that_cannot_be_measured_is_warned_of_and_not_portable(tmp_path):
    model = random_encoder(tokenizer=byte_level())
    model.prompts["query"] = "123"
    with pytest.warns(UserWarning, match=r"loads with hf_posmine only: the prompt 'query'"):
        model.save(str(tmp_path))
    with pytest.raises(ValueError, match=r"references the module class 'hf_posmine"):
        SentenceTransformer(str(tmp_path), device="cpu")
    again = InstructSentenceTransformer(str(tmp_path), device="cpu")
    assert np.abs(again.encode_query(["why", "42"]) - model.encode_query(["why", "42"])).max() == 0.0


def test_a_prompt_that_melts_only_into_some_texts_is_found():
    tokenizer = byte_level(words=("it:(",) * 9)
    assert wrongly_measured(tokenizer, {"query": "it:"}) == {"query": (3, 2)}
    assert wrongly_measured(tokenizer, {"query": "it"}) == {}


def test_prompts_are_measured_as_they_stand_in_front_of_texts():
    tokenizer = random_encoder(tokenizer=byte_level()).tokenizer
    assert wrongly_measured(tokenizer, {"query": "why: ", "document": ""}) == {}
    wrong = wrongly_measured(byte_level(), {"query": "why: "})
    assert wrong == {"query": (4, 3)}
    assert "let the prompt, or the template before {text}, end in a space" in explain(wrong, {"query": "why: "})


def test_a_model_that_pools_its_prompts_needs_no_measure(tmp_path):
    model = random_encoder(tokenizer=byte_level())
    model.set_pooling_include_prompt(True)
    model.prompts["query"] = "123"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save(str(tmp_path))
    stock = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.abs(stock.encode_query(TEXTS) - model.encode_query(TEXTS)).max() == 0.0


def test_a_decoder_without_modules_is_no_saved_model(tmp_path):
    model = random_encoder()
    model[0].model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no modules\.json.*bidirectional_encoder"):
        InstructSentenceTransformer(str(tmp_path), device="cpu")


def test_any_saved_text_model_loads_and_takes_instructions(embedded_model, tmp_path):
    """An encoder that was never a decoder: instructions attend and, as its pooling says, are pooled."""
    embedded_model.save(str(tmp_path))
    model = InstructSentenceTransformer(str(tmp_path), device="cpu")
    assert model.bidirectional
    np.testing.assert_allclose(model.encode(TEXTS), embedded_model.encode(TEXTS), rtol=0, atol=1e-6)
    joined = model.encode([("why", text) for text in TEXTS])
    np.testing.assert_allclose(joined, embedded_model.encode([f"why: {text}" for text in TEXTS]), rtol=0, atol=1e-6)


def test_what_is_pushed_to_the_hub_is_portable(hub):
    model = random_encoder()
    model.push_to_hub("alice/encoder")
    stock = SentenceTransformer("alice/encoder", device="cpu")
    assert type(stock[0]) is Transformer
    assert np.abs(stock.encode_query(TEXTS) - model.encode_query(TEXTS)).max() == 0.0
    ours = InstructSentenceTransformer("alice/encoder", device="cpu")
    assert np.abs(ours.encode_query(TEXTS) - model.encode_query(TEXTS)).max() == 0.0
