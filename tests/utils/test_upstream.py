"""Private parts of other libraries: each is there, does what is relied upon, and calls what this package overrides."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, DatasetInfo, Features, List, Value
from huggingface_hub import DatasetCardData
from sentence_transformers import SentenceTransformerTrainingArguments

from hf_posmine.core.errors import InputError, UpstreamError
from hf_posmine.models import instruct
from hf_posmine.models.bidirectional import bidirectional_encoder
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.models.transformer import InstructionTransformer
from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss
from hf_posmine.training.trainer import RecipeTrainer
from hf_posmine.utils import upstream
from tests.hub.conftest import hub  # noqa: F401 - a fixture
from tests.support.distributed import rows, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["w1 w2", "w3"]


class Parent:
    def _kept(self) -> int:
        return 1


def test_a_method_that_no_parent_has_is_refused_at_import():
    @upstream.overrides_private("_kept")
    class Child(Parent):
        def _kept(self) -> int:
            return 2

    assert Child()._kept() == 2
    with pytest.raises(UpstreamError, match=r"numpy .* has no '_renamed' for Stray to override; install a release"):

        @upstream.overrides_private("_renamed", package="numpy")
        class Stray(Parent):
            def _renamed(self) -> int:
                return 2

    with pytest.raises(UpstreamError, match="has no '_kept' for Forgot to override"):

        @upstream.overrides_private("_kept")
        class Forgot(Parent):
            pass


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("upstream"))


def load(saved: Path) -> InstructSentenceTransformer:
    return InstructSentenceTransformer(str(saved), device="cpu")


def load_unsaved(saved: Path) -> None:
    with pytest.raises(InputError, match=r"no modules\.json"):
        InstructSentenceTransformer(str(saved.parent / "bert"), device="cpu")


def step(saved: Path, loss: type) -> None:
    model = load(saved)
    loss(model)([model.preprocess(TEXTS) for _ in range(3)], labels=None).backward()


def describe_columns(saved: Path) -> None:
    model = load(saved)
    model.model_card_data.compute_dataset_metrics(rows(4, 1, True), {"name": "n", "size": 4}, InfoNCELoss(model))


def trainer(saved: Path) -> RecipeTrainer:
    model = load(saved)
    out = str(saved.parent / "out")
    arguments = SentenceTransformerTrainingArguments(
        out, use_cpu=True, report_to="none", disable_tqdm=True, max_steps=1
    )
    return RecipeTrainer(model=model, args=arguments, train_dataset=rows(8, 1, True), loss=InfoNCELoss(model))


CALLS = {
    (InstructSentenceTransformer, "_parse_model_config"): load,
    (InstructSentenceTransformer, "_post_init"): load,
    (InstructSentenceTransformer, "_load_default_modules"): load_unsaved,
    (InstructSentenceTransformer, "_get_model_config"): lambda saved: load(saved).save(str(saved.parent / "again")),
    (InstructSentenceTransformer, "_inference"): lambda saved: load(saved).encode(TEXTS),
    (instruct._CardData, "_compute_column_stats"): describe_columns,
    (InstructionTransformer, "_load_config"): load,
    (InstructionTransformer, "_load_model"): load,
    (InstructionTransformer, "_can_flatten_inputs"): load,
    (InstructionTransformer, "_should_flatten_inputs"): lambda saved: load(saved).preprocess(TEXTS),
    (InfoNCELoss, "compute_loss_from_embeddings"): lambda saved: step(saved, InfoNCELoss),
    (CachedInfoNCELoss, "calculate_loss"): lambda saved: step(saved, CachedInfoNCELoss),
    (RecipeTrainer, "_save"): lambda saved: trainer(saved).save_model(),
}


@pytest.mark.parametrize(
    ("cls", "method"), CALLS, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_the_parent_calls_what_is_overridden(saved, monkeypatch, cls, method):
    calls = []
    ours = getattr(cls, method)

    def counted(*args, **kwargs):
        calls.append(method)
        return ours(*args, **kwargs)

    monkeypatch.setattr(cls, method, counted)
    CALLS[cls, method](saved)
    assert calls


def test_modules_of_a_saved_model_are_resolved_to_ours(saved):
    assert type(load(saved)[0]) is InstructionTransformer


def test_equal_rows_have_equal_fingerprints():
    one, other = (Dataset.from_dict({"text": ["a"]}) for _ in range(2))
    assert upstream.dataset_fingerprint(one) == upstream.dataset_fingerprint(other) != ""
    changed = one.map(lambda row: {"text": row["text"] + "b"})
    assert upstream.dataset_fingerprint(changed) != upstream.dataset_fingerprint(one)


def test_a_stream_learns_its_features_from_its_rows():
    stream = datasets.IterableDataset.from_generator(lambda: iter([{"query": "a", "score": 0.5}]))
    assert stream.features is None
    assert upstream.with_features(stream).features == {"query": Value("string"), "score": Value("float64")}


def test_a_table_is_cast_to_nested_features():
    schema = Features({"negatives": List(Value("string")), "rank": Value("int64")}).arrow_schema
    table = pa.table(
        {"negatives": pa.array([["a"]], pa.large_list(pa.large_string())), "rank": pa.array([1], pa.int32())}
    )
    cast = upstream.cast_table(table, schema)
    assert cast.schema.types == schema.types and cast.to_pylist() == table.to_pylist()


def test_sections_of_a_card_are_written_and_read():
    data = DatasetCardData()
    info = DatasetInfo(features=Features({"query": Value("string")}), splits=datasets.SplitDict())
    upstream.dataset_infos({"default": info}).to_dataset_card_data(data)
    files = [{"split": "train", "path": "data/train-*"}]
    upstream.metadata_configs({"default": {"data_files": files}}).to_dataset_card_data(data)
    assert data.to_dict()["configs"] == [{"config_name": "default", "data_files": files}]
    assert upstream.dataset_infos().from_dataset_card_data(data)["default"].features == info.features


def test_rows_of_a_hub_dataset_are_known_by_their_cache_folder(hub, tmp_path, monkeypatch):  # noqa: F811
    """With the real ``load_dataset``, so that another layout of its cache fails here."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from huggingface_hub import HfApi

    Dataset.from_dict({"query": ["a", "b"]}).push_to_hub("alice/pairs")
    revision = HfApi().dataset_info("alice/pairs").sha
    loaded = datasets.load_dataset("alice/pairs", split="train", cache_dir=str(tmp_path / "cache"))
    for dataset in (loaded, loaded.filter(lambda row: row["query"] == "a")):
        found = {upstream.hub_rows(file["filename"]) for file in dataset.cache_files}
        assert found == {("alice/pairs", None, revision)}
    assert upstream.hub_rows(tmp_path / "rows.arrow") is None


@pytest.mark.parametrize("name", ["a b", "a/b/c", "-a"])
def test_names_that_the_hub_refuses_are_refused(name):
    upstream.check_repo_id("user/pairs-1.0")
    with pytest.raises(InputError, match=r"repo_id="):
        upstream.check_repo_id(name)


def test_options_of_a_command_are_found():
    parser = argparse.ArgumentParser()
    option = parser.add_argument("--num-negatives", type=int)
    assert upstream.parser_options(parser) == {"num_negatives": option}


def test_a_batch_of_map_gives_columns_as_they_are_stored():
    seen = []

    def look(batch):
        seen.extend([upstream.encoded_column(batch, "x").to_pylist(), upstream.encoded_column(dict(batch), "x")])
        batch["x"] = [3, 4]
        seen.append(upstream.encoded_column(batch, "x"))
        return {}

    Dataset.from_dict({"x": [1, 2]}).map(look, batched=True)
    assert seen == [[1, 2], None, None]


def test_weights_of_an_index_of_words():
    bm25s = pytest.importorskip("bm25s")
    model = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numpy")
    scores, vocabulary = upstream.bm25_weights(model, [["blue", "sky"], ["blue"]])
    assert set(vocabulary) >= {"blue", "sky"}
    at = vocabulary["sky"]
    assert scores["indices"][scores["indptr"][at] : scores["indptr"][at + 1]].tolist() == [0]
    assert len(scores["data"]) == 3


def test_products_in_int8_are_exact():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.integers(-127, 128, shape, np.int8)) for shape in ((32, 64), (24, 64)))
    exact = a.int() @ b.int().T
    assert torch.equal(upstream.int8_product(a, b.t()), exact)
    out = torch.empty(32, 24, dtype=torch.int32)
    upstream.int8_product(a, b.t(), out)
    assert torch.equal(out, exact)


def test_linear_layers_by_onednn():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch lacks oneDNN")
    states, weight, bias = torch.randn(32, 64), torch.randn(24, 64), torch.randn(24)
    for offset in (bias, None):
        expected = torch.nn.functional.linear(
            states.double(), weight.double(), None if offset is None else offset.double()
        )
        np.testing.assert_allclose(upstream.onednn_linear(states, weight, offset), expected, atol=1e-4)


def test_the_mapping_behind_an_array(tmp_path):
    (tmp_path / "numbers").write_bytes(bytes(8192))
    buffer = upstream.mapped_buffer(np.memmap(tmp_path / "numbers", np.uint8, "r"))
    assert buffer is not None and len(buffer) == 8192
    assert upstream.mapped_buffer(np.zeros(3)) is None


def test_a_peft_older_than_transformers_needs_is_refused_before_a_model_is_loaded(monkeypatch):
    upstream.check_peft()  # the installed pair works
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "999.1")
    with pytest.raises(
        InputError, match=r"needs peft 999\.1 or newer for LoRA, and peft \d.* is installed; run: pip install"
    ):
        bidirectional_encoder("a/model-that-is-never-looked-up", lora={})
