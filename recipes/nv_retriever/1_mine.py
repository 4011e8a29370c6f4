"""Mine the negatives of both stages with e5-mistral-7b-instruct, as mine.yaml says.

    python recipes/nv_retriever/1_mine.py                                        # all sets
    CUDA_VISIBLE_DEVICES=3 python recipes/nv_retriever/1_mine.py FEVER HotpotQA  # some, one process for each GPU

Mined sets go to out/nv_retriever/mined; what is there already is left alone. Embeddings are kept, so a run that was
interrupted goes on, and mining again with another filter encodes nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import Dataset, load_dataset
from rich.console import Console
from sentence_transformers import SentenceTransformer

from hf_posmine import Corpus, MiningSummary, PositiveAwareMiner, mine
from hf_posmine.encoding import load_model
from hf_posmine.mining.provenance import provenance, write_provenance
from hf_posmine.training import read_recipe
from hf_posmine.training.convert import sts_to_pairs
from hf_posmine.utils import replace_folder

HERE, OUT = Path(__file__).parent, Path("out/nv_retriever/mined")


def main() -> None:
    """All steps, in order."""
    # 1. What to mine. Stage 2 trains on all of it, so its recipe has every set's instruction.
    plan = yaml.safe_load((HERE / "mine.yaml").read_text("utf8"))
    instructions = {spec.name: spec.text_before for spec in read_recipe(HERE / "stage2.yaml").contrastive.datasets}
    wanted = sys.argv[1:] or list(plan["datasets"])
    left = [name for name in wanted if not (OUT / name).exists()]

    # 2. The teacher.
    teacher = load_teacher(plan["teacher"]) if left else None

    for name in left:
        # 3. Questions, positives, and the documents that negatives are chosen from.
        told = plan["datasets"][name]
        pairs, corpus = load_pairs(told)

        # 4. Mine: the five best documents below 95 % of the positive's score.
        prompt = plan["teacher"]["prompt"].format(instruction=instructions[name])
        miner = PositiveAwareMiner.from_dataset(
            pairs, teacher, query_column="query", positive_column="positive", corpus=corpus,
            teacher_options=prompts(prompt, told["layout"]), **plan["mining"],
        )  # fmt: skip
        mined = mine(pairs, miner)

        # 5. Keep the rows, and how they came about.
        summary = MiningSummary.from_dataset(mined, miner.settings.num_negatives)
        source = {"path": told.get("data_files", told["path"]), "name": told.get("config"), "split": "train"}
        documents = {"path": told["path"], "name": "corpus"} if told["layout"] == "beir" else None
        save(mined, OUT / name, provenance(miner, source=source, corpus_source=documents, summary=summary, mined=mined))
        Console().print(f"[bold]{name}[/bold]\n{summary}")


def load_teacher(told: dict[str, Any]) -> SentenceTransformer:
    """The teacher at its length, sure to read the end token that it pools."""
    # transformers 5 follows tokenizer.json, which adds no end token, so it has to be asked for, and the first with it.
    ends = {"add_bos_token": True, "add_eos_token": True}
    dtype = {"dtype": told["dtype"]}
    model = load_model(told["model"], revision=told.get("revision"), model_kwargs=dtype, processor_kwargs=ends)
    model.max_seq_length = told["max_length"]
    ids = model.tokenizer("a")["input_ids"]
    if (ids[0], ids[-1]) != (model.tokenizer.bos_token_id, model.tokenizer.eos_token_id):
        sys.exit(f"{told['model']}: the tokenizer gives {ids} for 'a', without its first or last token")
    return model


def prompts(prompt: str, layout: str) -> dict[str, str]:
    """Before queries; also before the documents of a symmetric task, as E5-Mistral is evaluated on STS."""
    symmetric = layout == "sts"
    return {"query_prompt": prompt, "document_prompt": prompt if symmetric else "", "dtype": "float16"}


def load_pairs(told: dict[str, Any]) -> tuple[Dataset, Corpus | None]:
    """Columns query and positive, and the candidates; None: the positives."""
    if told["layout"] == "beir":
        return load_beir(told["path"])
    files = {"data_files": told["data_files"]} if "data_files" in told else {}
    rows = load_dataset(told["path"], told.get("config"), split="train", **files)
    if told["layout"] == "sts":
        converted = sts_to_pairs(rows, min_score=4.0)  # NV-Embed, section 4.2
        return converted.dataset, Corpus.from_texts(converted.pool)
    if len(rows) > told.get("rows", len(rows)):
        rows = rows.select(np.sort(np.random.default_rng(0).choice(len(rows), told["rows"], replace=False)))
    columns = {told["query"]: "query", told["positive"]: "positive"}
    return Dataset.from_dict({new: rows[old] for old, new in columns.items()}), None


def load_beir(path: str) -> tuple[Dataset, Corpus]:
    """One row for each judged positive of the training split; title and text of a document are joined."""
    corpus = Corpus.from_dataset(load_dataset(path, "corpus", split="corpus"), "text", "_id", "title")
    queries = load_dataset(path, "queries", split="queries")
    text_of = dict(zip(queries["_id"], queries["text"], strict=True))
    judged = load_dataset(path, "default", split="train").filter(lambda row: row["score"] > 0)
    positives = corpus.texts(corpus.required_rows(judged["corpus-id"][:], "corpus-id")).to_pylist()
    return Dataset.from_dict({"query": [text_of[i] for i in judged["query-id"]], "positive": positives}), corpus


def save(mined: Dataset, folder: Path, record: Any) -> None:
    """The whole folder or none of it."""

    def write(temporary: Path) -> None:
        mined.save_to_disk(str(temporary))
        write_provenance(temporary / "provenance.json", record)

    replace_folder(folder, write)


if __name__ == "__main__":
    main()
