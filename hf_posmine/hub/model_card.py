"""The model card: facts for its template, and metadata the Hub understands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.hub.cards import cell, hub_link, join_card, marked, merge_body, merged_tags, render, split_card
from hf_posmine.hub.ids import COMMIT, on_hub

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from hf_posmine.hub.card_values import About
    from hf_posmine.hub.training_record import StageRecord, TrainedOn, TrainingRecord

TAGS = (
    "sentence-transformers", "sentence-similarity", "feature-extraction", "dense", "hard-negatives", "nv-retriever", "hf-posmine",
)  # fmt: skip
NAME = "model"
SETTINGS = {
    "model": "started from", "lora": "adapters", "merge_adapters": "adapters merged at the end",
    "num_negatives": "hard negatives per row", "batches": "batches", "temperature": "temperature",
    "false_negatives": "ceiling for in-batch negatives", "per_device_train_batch_size": "rows per step and device",
    "gradient_accumulation_steps": "accumulated steps", "num_train_epochs": "epochs", "learning_rate": "learning rate",
    "warmup_steps": "warm-up", "warmup_ratio": "warm-up", "lr_scheduler_type": "schedule", "weight_decay": "weight decay",
    "max_query_length": "tokens of a query", "max_document_length": "tokens of a document", "dtype": "weights", "bf16": "bf16",
    "num_layers": "layers kept", "seed": "seed",
}  # fmt: skip


def model_card(
    readme: str | None, repo_id: str, model: SentenceTransformer, record: TrainingRecord, about: About, adapters: bool
) -> bytes:
    """The whole card: the old one with its metadata brought up to date and the generated part exchanged.

    Args:
        readme: the card as it is; None without one.
        repo_id: with its namespace.
        model: the SentenceTransformer.
        record: how it was made.
        about: values of the author; without them those of the old card stay.
        adapters: whether it is pushed as adapters on its base.
    """
    from huggingface_hub import ModelCardData

    old, body = split_card(readme)
    name = about.title or repo_id.rpartition("/")[2]
    new = {key: value for key, value in old.items() if key not in ("model-index", "model_name", "eval_results")}
    new |= {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    new |= {"tags": merged_tags(new.get("tags"), [*TAGS, *about.tags])}
    base = _base(record)
    new |= ({"base_model": base} if base else {}) | ({"base_model_relation": "adapter"} if base and adapters else {})
    hub_sets = [d.path for stage in record.stages for d in stage.datasets if on_hub(d.path, d.revision)]
    new |= {"datasets": merged_tags(new.get("datasets"), hub_sets)} if hub_sets else {}
    for key, value in (("license", about.license), ("language", about.languages)):
        new |= {key: value} if value else {}
    results = _eval_results(record)
    if results:
        new |= {"model_name": name, "eval_results": results, "metrics": sorted({r.metric_type for r in results})}
    facts = _facts(repo_id, model, record, about, new.get("license"), adapters)
    return join_card(
        ModelCardData(**new), merge_body(body, f"# {cell(name)}", marked(NAME, render("model_card.md", facts)), NAME)
    )


def _facts(
    repo_id: str, model: SentenceTransformer, record: TrainingRecord, about: About, license_: Any, adapters: bool
) -> dict[str, Any]:
    from hf_posmine.models.instruct import InstructSentenceTransformer

    instructed = isinstance(model, InstructSentenceTransformer)
    return {
        "repo_id": repo_id,
        "description": about.description,
        "ours": adapters and instructed,
        "dimensions": model.get_embedding_dimension(),
        "max_seq_length": model.max_seq_length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "similarity": record.similarity,
        "bidirectional": instructed and model.bidirectional,
        "prompts": {name: prompt for name, prompt in record.prompts.items() if prompt},
        "adapters": adapters,
        "base_words": _base_words(record),
        "stages": [_stage(stage) for stage in record.stages],
        "evaluation": [asdict(e) for e in record.stages[-1].evaluation] if record.stages else [],
        "positive_aware": any(_positive_aware(d.mined) for stage in record.stages for d in stage.datasets),
        "trained_on": [_set(d) for stage in record.stages for d in stage.datasets],
        "license": license_ if isinstance(license_, str) else ", ".join(license_ or []),
        "record_json": record.to_json(),
    }


def _base(record: TrainingRecord) -> str | None:
    """The Hub id of the base, where it has one."""
    from hf_posmine.encoding.defaults import DEFAULT_MODEL, EMBEDDED

    if record.base == EMBEDDED:
        return DEFAULT_MODEL
    return record.base if on_hub(record.base, record.base_commit) else None


def _base_words(record: TrainingRecord) -> str | None:
    """The base as the card names it."""
    known = _base(record)
    if known is None:
        return cell(_folder_name(record.base)) if record.base else None
    commit = record.base_commit if COMMIT.fullmatch(record.base_commit or "") else None
    return hub_link(known, commit if known == record.base else None)


def _stage(stage: StageRecord) -> dict[str, Any]:
    shown = [(words, stage.recipe.get(key)) for key, words in SETTINGS.items()]
    settings = [
        (words, _folder_name(value) if words == "started from" else value)
        for words, value in shown
        if value is not None
    ]
    rows = sum(d.rows for d in stage.datasets)
    return {"settings": settings, "steps": stage.steps, "datasets": [_set(d) for d in stage.datasets], "rows": rows}


def _set(trained: TrainedOn) -> dict[str, Any]:
    known = on_hub(trained.path, trained.revision)
    link = hub_link(trained.path, trained.revision, dataset=True) if known else cell(_folder_name(trained.path))
    mined = trained.mined or {}
    filters = mined.get("filters") or "none"
    how = f"{filters if isinstance(filters, str) else ' '.join(filters)}, {mined.get('teacher', 'default teacher')}"
    return asdict(trained) | {"link": link, "how": how if trained.mined else "as they came"}


def _positive_aware(mined: Any) -> bool:
    return any(name in str((mined or {}).get("filters")) for name in ("PercPos", "MarginPos"))


def _folder_name(path: object) -> str:
    """A Hub id as it is; of a local folder only its name."""
    text = str(path)
    local = text.startswith(("/", "~", ".")) or text.count("/") > 1 or Path(text).exists()
    return text.rstrip("/").rpartition("/")[2] if local else text


def _eval_results(record: TrainingRecord) -> list[Any]:
    from huggingface_hub import EvalResult

    last = record.stages[-1].evaluation if record.stages else ()
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=e.collection.replace(" ", "-").lower(),
            dataset_name=e.collection,
            metric_type=e.measure,
            metric_name=e.measure,
            metric_value=round(e.mean, 6),
        )
        for e in last
    ]
