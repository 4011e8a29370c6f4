"""NDCG@10 on the 15 retrieval sets of MTEB, beside the paper's (its Table 5). Needs the package mteb.

    python recipes/nv_retriever/5_evaluate.py                                        # all; days on one GPU
    python recipes/nv_retriever/5_evaluate.py out/nv_retriever/stage1 SciFact NFCorpus

Each set's values go to a file of their own, so an interrupted run goes on, and hf-posmine compare can test two models.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hf_posmine.evaluation import RetrievalResult, evaluate_retrieval, load_collection
from hf_posmine.models import InstructSentenceTransformer
from hf_posmine.training import instruction_for
from hf_posmine.utils import store_root

OUT = Path("out/nv_retriever/results")
PAPER = {
    "ArguAna": 68.28, "ClimateFEVER": 43.47, "CQADupstack": 49.36, "DBPedia": 50.82, "FEVER": 93.15, "FiQA2018": 61.18,
    "HotpotQA": 79.12, "MSMARCO": 44.89, "NFCorpus": 45.06, "NQ": 72.44, "QuoraRetrieval": 88.78, "SCIDOCS": 22.55,
    "SciFact": 81.31, "Touche2020": 26.60, "TRECCOVID": 86.44,
}  # fmt: skip
"""NV-Retriever-v1, paper, Table 5 (v2: Table 10): NDCG@10 in percent on 11 July 2024."""
FORUMS = (
    "Android", "English", "Gaming", "Gis", "Mathematica", "Physics", "Programmers", "Stats", "Tex", "Unix", "Webmasters",
    "Wordpress",
)  # fmt: skip
"""CQADupstack's value is the mean of these."""


def main() -> None:
    """All steps, in order."""
    folder = sys.argv[1] if len(sys.argv) > 1 else "out/nv_retriever/stage2"
    names = sys.argv[2:] or list(PAPER)

    # 1. The model; instructions come with the queries, passages have none (paper).
    model = InstructSentenceTransformer(folder, model_kwargs={"dtype": "bfloat16"})

    # 2. Each set, at the lengths of training.
    found = {name: [evaluate(model, folder, task) for task in tasks_of(name)] for name in names}

    # 3. Beside the paper's values.
    table = Table("set", "NDCG@10", "paper", title=folder, title_justify="left")
    means = {name: 100 * np.mean([result.means["ndcg@10"] for result in results]) for name, results in found.items()}
    for name, mean in means.items():
        table.add_row(name, f"{mean:.2f}", f"{PAPER[name]:.2f}")
    table.add_section()
    table.add_row("mean", f"{np.mean(list(means.values())):.2f}", f"{np.mean([PAPER[name] for name in names]):.2f}")
    Console().print(table)


def tasks_of(name: str) -> list[str]:
    """MTEB's names of a set's tasks."""
    return [f"CQADupstack{forum}Retrieval" for forum in FORUMS] if name == "CQADupstack" else [name]


def evaluate(model: InstructSentenceTransformer, folder: str, task: str) -> RetrievalResult:
    """One task, measured or read back."""
    file = OUT / f"{Path(folder).name}--{task}.json"
    if file.exists():
        return RetrievalResult.load(file)
    result = evaluate_retrieval(
        model, load_collection(f"mteb:{task}"), model_name=folder, store=store_root(),
        query_instruction=instruction_for(task),
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    result.save(file)
    return result


if __name__ == "__main__":
    main()
