"""push_model: the same vectors without this package, a true card, and the record of every stage."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from sentence_transformers import SentenceTransformer

from hf_posmine import push_model
from hf_posmine.cli.main import main
from hf_posmine.core.errors import HubError, InputError
from hf_posmine.hub.card_values import About
from hf_posmine.hub.training_record import TrainingRecord
from hf_posmine.models import InstructSentenceTransformer
from tests.hub.mining import make_miner, make_pairs

REPO = "alice/retriever"
TEXTS = ["red cat", "blue moon fox", "sun"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda _: None)


@pytest.fixture
def model(tiny_model_folder):
    return SentenceTransformer(str(tiny_model_folder), device="cpu")


def files(hub, revision="main"):
    return hub.repo(REPO, "models").files(revision)


def test_the_vectors_are_the_same_without_this_package(hub, model):
    push_model(model, REPO, private=True, about=About(license="mit", language="en"))
    assert hub.repo(REPO, "models").private
    code = (
        "import sys; sys.modules['hf_posmine'] = None\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"print(SentenceTransformer('{REPO}', device='cpu').encode({TEXTS!r}).tobytes().hex())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split()[-1] == model.encode(TEXTS).tobytes().hex()
    data = ModelCard.load(REPO).data
    assert (data.library_name, data.pipeline_tag, data.license, data.language) == (
        "sentence-transformers", "sentence-similarity", "mit", ["en"],
    )  # fmt: skip
    assert "hf-posmine" in data.tags and hub.unknown == []


def test_pushing_again_commits_nothing_and_other_weights_replace_the_old(hub, model, monkeypatch):
    push_model(model, REPO)
    before = hub.snapshot()
    monkeypatch.setattr("hf_posmine.hub.training_record.now", lambda: "2031-01-01T00:00:00+00:00")
    push_model(model, REPO)
    assert hub.snapshot() == before
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    push_model(model, REPO)
    loaded = SentenceTransformer(REPO, device="cpu")
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


def test_adapters_come_back_and_do_not_outlive_the_full_model(hub, tiny_model_folder):
    from peft import LoraConfig

    model = InstructSentenceTransformer(str(tiny_model_folder), device="cpu")
    model.add_adapter(LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False))
    push_model(model, REPO)
    assert "adapter_model.safetensors" in files(hub) and "model.safetensors" not in files(hub)
    loaded = InstructSentenceTransformer(REPO, device="cpu")
    np.testing.assert_allclose(loaded.encode(TEXTS), model.encode(TEXTS), rtol=1e-5)
    assert "from hf_posmine.models import InstructSentenceTransformer" in files(hub)["README.md"].decode()
    model.merge_adapters()
    push_model(model, REPO)
    assert "adapter_config.json" not in files(hub) and "adapter_model.safetensors" not in files(hub)
    np.testing.assert_allclose(
        SentenceTransformer(REPO, device="cpu").encode(TEXTS), model.encode(TEXTS), rtol=1e-4, atol=1e-6
    )


def test_a_hand_written_model_card_is_kept(hub, model):
    HfApi().create_repo(REPO)
    text = "\n# Mine\n\nBy  hand.\n"
    card = f"---\nlicense: mit\nbase_model: alice/other\n---\n{text}".encode()
    HfApi().upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=REPO)
    push_model(model, REPO, revision="next")
    assert files(hub)["README.md"] == card
    push_model(model, REPO)
    assert text in files(hub)["README.md"].decode()
    assert ModelCard.load(REPO).data.license == "mit"


def test_the_snippet_of_the_card_runs(hub, model):
    import re

    push_model(model, REPO)
    (snippet,) = re.findall(r"```python\n(.*?)```", files(hub)["README.md"].decode(), re.DOTALL)
    exec(compile(snippet, "README.md", "exec"), {})


@pytest.fixture(scope="module")
def recipe_file(tiny_model_folder, tmp_path_factory):
    """A recipe over rows that were mined and written with their record, and a judged collection."""
    from hf_posmine import MiningSummary
    from hf_posmine.mining.provenance import provenance, write_provenance

    folder = tmp_path_factory.mktemp("stage")
    pairs = make_pairs(24).remove_columns("note")
    miner = make_miner(pairs, str(tiny_model_folder), filters=["MinScore(-1.0)"])
    mined = pairs.map(miner, batched=True)
    mined.save_to_disk(str(folder / "mined"))
    summary = MiningSummary.from_dataset(mined, 2)
    write_provenance(
        folder / "mined" / "provenance.json", provenance(miner, source={"path": "pairs"}, summary=summary, mined=mined)
    )
    beir = folder / "held"
    (beir / "qrels").mkdir(parents=True)
    rows = list(make_pairs(8))
    (beir / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "title": "", "text": r["positive"]}) + "\n" for i, r in enumerate(rows))
    )
    (beir / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": r["query"]}) + "\n" for i, r in enumerate(rows))
    )
    (beir / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(8))
    )
    recipe = {
        "model": str(tiny_model_folder), "num_negatives": 1, "output_dir": str(folder / "out"), "max_steps": 2,
        "per_device_train_batch_size": 4, "report_to": "none", "seed": 1, "save_strategy": "no", "use_cpu": True,
        "datasets": [
            {"name": "colours", "path": str(folder / "mined"), "task": "retrieval", "instruction": "", }
        ],
        "evals": [{"name": "held", "path": str(beir)}],
    }  # fmt: skip
    (folder / "stage.yaml").write_text(json.dumps(recipe))
    return folder / "stage.yaml"


def test_a_recipe_ends_with_the_push_of_model_record_and_card(hub, recipe_file, tmp_path):
    out = str(tmp_path / "out")
    train = ["train", "--config", str(recipe_file), "--quiet", f"--output_dir={out}"]
    assert main([*train, "--push_to_hub=true", f"--hub_model_id={REPO}", "--hub_private_repo=true"]) == 0
    assert hub.repo(REPO, "models").private
    assert len(hub.repo(REPO, "models").log()) == 2
    record = TrainingRecord.from_json(files(hub)["provenance.json"].decode())
    assert (tmp_path / "out" / "provenance.json").read_bytes() == files(hub)["provenance.json"]
    (stage,) = record.stages
    (trained,) = stage.datasets
    assert (stage.steps, trained.name, trained.mined["filters"]) == (2, "colours", ["MinScore(-1.0)"])
    ndcg = next(e for e in stage.evaluation if e.measure == "ndcg@10")
    assert ndcg.low <= ndcg.mean <= ndcg.high and ndcg.queries == 8
    data = ModelCard.load(REPO).data
    assert {r.metric_type: r.metric_value for r in data.eval_results}["ndcg@10"] == pytest.approx(ndcg.mean, abs=1e-6)
    card = files(hub)["README.md"].decode()
    assert "## Training, stage 1 of 1" in card and "MinScore(-1.0)" in card and f"{ndcg.mean:.4f}" in card
    again = ["train", "--config", str(recipe_file), "--quiet", f"--model={out}", f"--output_dir={tmp_path / 'two'}"]
    assert main(again) == 0
    second = TrainingRecord.from_json((tmp_path / "two" / "provenance.json").read_text())
    assert len(second.stages) == 2 and second.stages[0] == stage and second.base == record.base
    assert main(["push", str(tmp_path / "two"), REPO, "--license", "mit"]) == 0
    assert "stage 2 of 2" in files(hub)["README.md"].decode()


def test_training_without_a_login_ends_before_it_starts(hub, recipe_file, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    train = ["train", "--config", str(recipe_file), "--quiet", f"--output_dir={tmp_path / 'out'}"]
    assert main([*train, "--push_to_hub=true", f"--hub_model_id={REPO}"]) == 2
    assert "nobody is logged in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and hub.requests == []
    assert main([*train, "--hub_token=hf_alice"]) == 2
    said = capsys.readouterr()
    assert "hub_token has no place in a recipe" in said.err and "hf_alice" not in said.err + said.out


def test_what_is_no_model_is_refused(hub, tmp_path):
    with pytest.raises(InputError, match="is not a saved sentence-transformers model"):
        push_model(tmp_path, REPO)
    with pytest.raises(InputError, match="a pull request goes to main"):
        push_model(tmp_path, REPO, create_pr=True, revision="x")
    assert hub.requests == []


def test_offline_is_said(model):
    with pytest.raises(HubError, match="the Hub is switched off"):
        push_model(model, REPO)
