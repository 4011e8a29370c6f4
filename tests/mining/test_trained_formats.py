"""Every training format through the trainer and the loss that it is for, as they are installed."""

from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from datasets import Dataset

from hf_posmine import to_training
from hf_posmine.hub.variants import make_configs
from hf_posmine.mining import to_margin_mse
from hf_posmine.mining.record import Columns
from tests.support import tiny

pytest.importorskip("accelerate", reason="the trainers need accelerate (the extra 'train')")

MINED = Dataset.from_dict(
    {
        "query": ["red cat", "blue bird", "green tree", "stone house"],
        "positive": ["a red cat", "a blue bird", "the green tree", "house of stone"],
        "negatives": [["red dog", "blue cat"], ["blue sky", "red bird"], ["green sea"], ["stone river", "red house"]],
        "positive_score": [1.0, 0.75, 0.875, 0.625],
        "negatives_scores": [[0.5, 0.25], [0.5, 0.125], [0.25], [0.5, 0.375]],
    }
)
FULL = MINED.select([0, 1, 3])
"""The rows that have two negatives."""
SCORES = [[1.0, 0.5, 0.25], [0.75, 0.5, 0.125], [0.625, 0.5, 0.375]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def trained(kind, model, loss, rows, folder):
    """One step over all rows; the columns and labels that the loss got, and its value."""
    import sentence_transformers

    got = {}

    class Recording(loss):
        def forward(self, inputs, labels=None, **rest):
            inputs = list(inputs)
            got.setdefault("columns", len(inputs))
            got.setdefault("labels", labels)
            return super().forward(inputs, labels, **rest)

    arguments = getattr(sentence_transformers, f"{kind}TrainingArguments")(
        str(folder), max_steps=1, per_device_train_batch_size=len(rows), report_to=[], logging_steps=1,
        save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = getattr(sentence_transformers, f"{kind}Trainer")(
        model, arguments, train_dataset=rows, loss=Recording(model)
    )
    trainer.train()
    (value,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert math.isfinite(value)
    labels = got["labels"]
    return got["columns"], [row.tolist() for row in labels] if labels is not None else None, trainer.model


def in_order(labels, expected):
    """Whether the labels are those expected, whatever order the sampler drew the rows in."""
    return sorted(labels, key=str) == sorted(expected, key=str)


BI_ENCODER = {
    "triplet": (lambda: to_training(MINED, "triplet"), "TripletLoss", 3, None),
    "triplet, in-batch": (lambda: to_training(MINED, "triplet"), "MultipleNegativesRankingLoss", 3, None),
    "n-tuple": (lambda: to_training(MINED, "n-tuple", on_short="repeat"), "MultipleNegativesRankingLoss", 4, None),
    "n-tuple with scores": (lambda: to_training(FULL, "n-tuple", scores=True), "DistillKLDivLoss", 4, SCORES),
    "n-tuple with scores, margins": (lambda: to_training(FULL, "n-tuple", scores=True), "MarginMSELoss", 4, SCORES),
    "triplet with scores": (
        lambda: to_training(FULL.select([0]), "triplet", scores=True), "MarginMSELoss", 3, [[1.0, 0.5], [1.0, 0.25]],
    ),
    "margins": (lambda: to_margin_mse(FULL), "MarginMSELoss", 4, [[0.5, 0.75], [0.25, 0.625], [0.125, 0.25]]),
    "labelled pairs": (lambda: to_training(FULL.select([0]), "labeled-pair"), "CoSENTLoss", 2, [1, 0, 0]),
    "pairs with scores": (
        lambda: to_training(FULL.select([0]), "labeled-pair", scores=True), "CosineSimilarityLoss", 2, [1.0, 0.5, 0.25],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BI_ENCODER)
def test_formats_of_bi_encoders(case, folder, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    make, loss, columns, labels = BI_ENCODER[case]
    model = SentenceTransformer(str(tiny.static(folder / "static")), device="cpu")
    before = model[0].embedding.weight.detach().clone()
    got, seen, after = trained("SentenceTransformer", model, getattr(losses, loss), make(), tmp_path)
    assert got == columns and not torch.equal(before, after[0].embedding.weight)
    assert seen is None if labels is None else in_order(seen, labels)


CROSS_ENCODER = {
    "labelled pairs": ("labeled-pair", False, "BinaryCrossEntropyLoss", [1.0, 0.0, 0.0]),
    "pairs with scores": ("labeled-pair", True, "MSELoss", [1.0, 0.5, 0.25]),
    "labelled lists": ("labeled-list", False, "LambdaLoss", [[1, 0, 0]]),
    "labelled lists, another loss": ("labeled-list", False, "ListNetLoss", [[1, 0, 0]]),
    "lists with scores": ("labeled-list", True, "RankNetLoss", [SCORES[0]]),
    "n-tuples with scores": ("n-tuple", True, "MarginMSELoss", [SCORES[0]]),
}


@pytest.mark.parametrize("case", CROSS_ENCODER)
def test_formats_of_cross_encoders(case, folder, tmp_path):
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import losses

    format, scores, loss, labels = CROSS_ENCODER[case]
    model = CrossEncoder(str(tiny.cross(folder / "cross")), device="cpu")
    rows = to_training(FULL.select([0]), format, scores=scores)
    columns, seen, _ = trained("CrossEncoder", model, getattr(losses, loss), rows, tmp_path)
    assert in_order(seen, labels) and columns == (4 if format == "n-tuple" else 2)


def published(on_short="drop", rows=MINED):
    """The tables of the pushed variant, by name."""
    configs = make_configs({"train": rows}, "default", ["scored"], Columns("query", "positive"), 2, on_short)
    return {config.name: config.splits["train"] for config in configs}, configs[-1].left_out


def test_the_published_tables_are_what_the_rows_hold():
    tables, left_out = published()
    assert left_out == 1 and tables["scores"]["scores"][:] == SCORES
    repeated, none = published("repeat")
    assert none == 0 and repeated["scores"][2]["scores"] == [0.875, 0.25, 0.25]
    assert len({*repeated["scores"][2]["document_ids"]}) == 2
    from hf_posmine.core.errors import InputError, ShortRowError

    with pytest.raises(ShortRowError, match="has 1 of 2 negatives"):
        published("raise")
    several = FULL.map(lambda row: {"positive": [row["positive"], "red"]})
    with pytest.raises(InputError, match="2 positives and one score, that of the lowest"):
        published(rows=several)


@pytest.mark.parametrize("source", ["published tables", "n-tuples with scores"])
def test_distillation_of_multi_vector_encoders(source, folder, tmp_path):
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss
    from sentence_transformers.util import resolve_ids

    rows = to_training(FULL, "n-tuple", scores=True)
    if source == "published tables":
        tables, _ = published()
        lookups = {"query_id": tables["queries"], "document_ids": tables["documents"]}
        plain = tables["scores"].map(resolve_ids(lookups), batched=True)
        rows = plain.remove_columns(["query_id", "document_ids"])
    model = MultiVectorEncoder(str(tiny.late(folder / "late")), device="cpu")
    columns, labels, _ = trained("MultiVectorEncoder", model, MultiVectorDistillKLDivLoss, rows, tmp_path)
    assert in_order(labels, SCORES) and columns == 4


def test_pylate_reads_the_published_tables():
    """Its module by itself: the package needs an earlier sentence-transformers than this one."""
    found = importlib.util.find_spec("pylate")
    if found is None or not found.submodule_search_locations:
        pytest.skip("PyLate is not installed (pip install --no-deps pylate)")
    file = f"{found.submodule_search_locations[0]}/utils/processing.py"
    spec = importlib.util.spec_from_file_location("pylate_processing", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tables, _ = published()
    reader = module.KDProcessing(tables["queries"], tables["documents"])
    rows = [tables["scores"].with_transform(reader.transform)[at] for at in range(3)]
    assert [row["query"] for row in rows] == FULL["query"][:]
    assert [row["documents"] for row in rows] == [[row["positive"], *row["negatives"]] for row in FULL]
    assert [row["scores"] for row in rows] == SCORES
