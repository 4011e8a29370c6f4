"""From passages alone to a measured retriever: what the gates drop, what six commands take, and whether the student minds.

Run ``python -m benchmarks.from_documents --output out/bench``; see README.md beside this file. A server on the loopback
interface stands for the language model: it "writes" the questions that people wrote for SQuAD's passages, and a bad one for
every second passage; as the judge it knows the truth. So this measures the path and its gates, and no model's writing. Three
sets train one student in two stages each: what the gates keep, all that was written, and the real questions alone. All are
measured on the real questions of the held-out passages.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from benchmarks.measure import ROOT, machine, markdown, now
from benchmarks.synthetic import save_json
from tests.support.questions import BAD, QuestionService, Script, scripted

SQUAD = ROOT.parent / "shared" / "data" / "squad_v1.1"
RECIPE = ROOT / "recipes" / "from_documents"
RETRIEVE = "Given a question, retrieve passages that answer it"
SETS = {"gates": "what the gates keep", "written": "all that was written", "real": "the real questions"}
PARTS = ["commands", *SETS, "page"]
QUIET = ("--quiet", "--offline")


def passages(count: int, per_passage: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Passages of whole articles by id, in the order of the file, and the first real questions of each."""
    import pyarrow.parquet as pq

    documents = pq.read_table(SQUAD / "dev_corpus.parquet").to_pylist()[:count]
    texts = {row["id"]: row["text"] for row in documents}
    questions: dict[str, list[str]] = {}
    for row in pq.read_table(SQUAD / "dev_pairs.parquet").to_pylist():
        if row["positive_id"] in texts:
            questions.setdefault(row["positive_id"], []).append(" ".join(row["query"].split()))
    return texts, {number: list(dict.fromkeys(asked))[:per_passage] for number, asked in questions.items()}


def lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def command(*words: str) -> float:
    """Seconds that a command of hf-posmine takes."""
    from hf_posmine.cli.main import main as hf_posmine

    start = now()[0]
    if hf_posmine([*words, *(["--quiet"] if words[0] == "train" else QUIET)]):
        raise SystemExit(f"hf-posmine {words[0]} failed")
    return round(now()[0] - start, 1)


def stages(
    folder: Path, mined: Path, pairs: Path, candidates: Path, asked: argparse.Namespace, seed: int
) -> list[list[str]]:
    """The commands of both stages."""
    small = ["--max_document_length", str(asked.length), "--num_negatives", str(asked.negatives), "--seed", str(seed)]
    small += ["--num_train_epochs", str(asked.epochs), "--evals", "[]"]
    small += ["--attn_implementation", "posmine_varlen", "--mini_batch_num_tokens", "4096"]
    one = ["--model", "embedded", "--num_layers", str(asked.layers), f"--datasets.0.path={mined}"]
    two = ["--model", str(folder / f"stage1-{seed}"), f"--datasets.0.path={pairs}"]
    two += [f"--datasets.0.mine.teacher={folder / f'stage1-{seed}'}", f"--datasets.0.mine.corpus={candidates}"]
    return [
        [
            "train",
            "--config",
            str(RECIPE / f"stage{n}.yaml"),
            *own,
            *small,
            "--output_dir",
            str(folder / f"stage{n}-{seed}"),
        ]
        for n, own in ((1, one), (2, two))
    ]


def first_run(folder: Path, service: QuestionService, asked: argparse.Namespace) -> dict[str, float]:
    """The six commands, timed one by one."""
    docs, split = str(folder / "docs.jsonl"), folder / "split"
    pairs, candidates = split / "train" / "pairs.jsonl", split / "train" / "corpus.jsonl"
    seconds = {
        "questions": command(
            "questions", docs, "--url", service.url, "--model", "script", "--per-kind", str(asked.per_passage), "--teacher",
            "embedded", "--output", str(folder / "asked"), "--dropped", str(folder / "dropped.jsonl"),
        ),
        "split": command(
            "split", str(folder / "asked"), "--corpus", docs, "--positive-id-column", "positive_id", "--output", str(split)
        ),
        "mine": mine(pairs, candidates, folder / "mined"),
    }  # fmt: skip
    for number, words in enumerate(stages(folder, folder / "mined", pairs, candidates, asked, asked.seeds[0]), 1):
        seconds[f"train, stage {number}"] = command(*words)
    model = str(folder / f"stage2-{asked.seeds[0]}")
    seconds["evaluate"] = command("evaluate", model, "--on", str(split), "--query-instruction", RETRIEVE)
    return seconds


def mine(pairs: Path, candidates: Path, output: Path) -> float:
    corpus = ["--corpus", str(candidates), "--corpus-id-column", "_id", "--positive-id-column", "positive_id"]
    return command("mine", str(pairs), *corpus, "--teacher", "embedded", "--on-short", "drop", "--output", str(output))


def sets(folder: Path, texts: dict[str, str], real: dict[str, list[str]]) -> dict[str, int]:
    """Write the three training sets, and the real questions of the held-out passages; their sizes."""

    def lines_of(file: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.open()]

    held = {line.split("\t")[1] for line in (folder / "split" / "qrels" / "test.tsv").read_text().splitlines()[1:]}
    kept = lines_of(folder / "split" / "train" / "pairs.jsonl")
    usable = {row["_id"] for row in lines_of(folder / "split" / "train" / "corpus.jsonl")}
    dropped = [row for row in lines_of(folder / "dropped.jsonl") if row["reason"] != "malformed"]
    made = {
        "gates": kept,
        "written": kept + [{"query": row["query"], "positive_id": row["positive_id"]} for row in dropped],
        "real": [{"query": query, "positive_id": number} for number, asked in real.items() for query in asked],
    }
    for name, rows in made.items():
        rows = [{**row, "positive": texts[row["positive_id"]]} for row in rows if row["positive_id"] in usable]
        made[name] = [{key: row[key] for key in ("query", "positive", "positive_id")} for row in rows]
        lines(folder / name / "pairs.jsonl", made[name])
    test = folder / "test"
    lines(test / "corpus.jsonl", [{"_id": number, "text": text} for number, text in texts.items()])
    judged = [
        (f"{number}-{at}", query, number) for number in sorted(held) for at, query in enumerate(real.get(number, []))
    ]
    lines(test / "queries.jsonl", [{"_id": name, "text": query} for name, query, _ in judged])
    (test / "qrels").mkdir(exist_ok=True)
    rows = ["query-id\tcorpus-id\tscore", *(f"{name}\t{number}\t1" for name, _, number in judged)]
    (test / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    return {
        **{name: len(rows) for name, rows in made.items()},
        "test questions": len(judged),
        "test passages": len(held),
    }


def gates(folder: Path, script: Script, texts: dict[str, str]) -> dict[str, Any]:
    """What became of good and of planted bad questions."""
    from datasets import load_from_disk

    rows = load_from_disk(str(folder / "asked"))
    kept = set(zip(rows["query"], rows["positive"], strict=True))
    lost = {
        (row["query"], texts[row["positive_id"]]): row["reason"]
        for row in map(json.loads, (folder / "dropped.jsonl").open())
    }
    planted = {
        why: dict(Counter(lost.get(pair, "kept") for pair, its in script.planted.items() if its == why)) for why in BAD
    }
    return {
        "good": len(script.good), "good kept": len(kept & script.good),
        "good lost": dict(Counter(lost[pair] for pair in script.good if pair in lost)),
        "planted": len(script.planted), "planted kept": len(kept & set(script.planted)), "by plant": planted,
        "attrition": json.loads((folder / "asked" / "questions.json").read_text())["attrition"],
    }  # fmt: skip


def measure(path: Path | None, folder: Path, asked: argparse.Namespace) -> list[float]:
    """NDCG@10 of every test question; without a path of the student before training."""
    from hf_posmine.evaluation import evaluate_retrieval, load_collection
    from hf_posmine.models import InstructSentenceTransformer
    from hf_posmine.training import load_student, read_recipe

    if path is None:
        start = read_recipe(RECIPE / "stage1.yaml", ["--model", "embedded", "--num_layers", str(asked.layers)])
        found = evaluate_retrieval(load_student(start.student), load_collection(folder / "test"))
    else:
        model = InstructSentenceTransformer(str(path))
        found = evaluate_retrieval(model, load_collection(folder / "test"), query_instruction=RETRIEVE)
    return np.asarray(found.scores["ndcg@10"]).tolist()


def train(name: str, folder: Path, asked: argparse.Namespace) -> list[list[float]]:
    """Scores of the student that a set trained, by seed."""
    own, candidates = folder / name, folder / "split" / "train" / "corpus.jsonl"
    mine(own / "pairs.jsonl", candidates, own / "mined")
    found = []
    for seed in asked.seeds:
        for words in stages(own, own / "mined", own / "pairs.jsonl", candidates, asked, seed):
            command(*words)
        found.append(measure(own / f"stage2-{seed}", folder, asked))
    return found


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--passages", type=int, default=300)
    parser.add_argument("--per-passage", type=int, default=2, help="real questions of a passage, at most")
    parser.add_argument("--layers", type=int, default=2, help="of MiniLM's six that the student keeps")
    parser.add_argument("--length", type=int, default=64, help="most tokens of a document")
    parser.add_argument("--negatives", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1, help="of each stage")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="one after the other, or all at once")
    asked = parser.parse_args(given)

    folder = asked.output / "from_documents"
    texts, real = passages(asked.passages, asked.per_passage)
    script = scripted({texts[number]: found for number, found in real.items()}, list(texts.values()), every=2)
    if "commands" in asked.parts:
        lines(folder / "docs.jsonl", [{"_id": number, "text": text} for number, text in texts.items()])
        seconds = first_run(folder, QuestionService(script), asked)
        save_json(folder / "commands.json", {"seconds": seconds, "sizes": sets(folder, texts, real)})
    for name in SETS:
        if name in asked.parts:
            save_json(folder / f"{name}.json", train(name, folder, asked))
    if "page" in asked.parts:
        write(folder, asked, gates(folder, script, texts))


def write(folder: Path, asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """The figures of all parts as JSON and Markdown."""
    from hf_posmine.evaluation import compare_runs

    scores = {"untrained": [measure(None, folder, asked)] * len(asked.seeds)}
    scores |= {name: json.loads(file.read_text()) for name in SETS if (file := folder / f"{name}.json").is_file()}
    compared = [
        pair for pair in (("untrained", "gates"), ("written", "gates"), ("gates", "real")) if {*pair} <= set(scores)
    ]
    record = {
        **json.loads((folder / "commands.json").read_text()), "machine": machine(),
        "asked": {name: value for name, value in vars(asked).items() if name not in ("output", "parts")},
        "gates": found, "scores": scores,
        "claims": [compare_runs(np.array(scores[a]), np.array(scores[b])).sentence(a, b) for a, b in compared],
    }  # fmt: skip
    save_json(asked.output / "from_documents.json", record)
    (asked.output / "from_documents.md").write_text(page(record))
    print(page(record))


def page(record: dict[str, Any]) -> str:
    about, asked, found, sizes = record["machine"], record["asked"], record["gates"], record["sizes"]
    given = {name: " ".join(map(str, v)) if isinstance(v, list) else v for name, v in asked.items()}
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())
    reasons = sorted({reason for plant in found["by plant"].values() for reason in plant} - {"kept"})
    plants = [
        [why, sum(plant.values()), plant.get("kept", 0), *(plant.get(r, 0) for r in reasons)]
        for why, plant in found["by plant"].items()
    ]
    good = ["(real questions)", found["good"], found["good kept"], *(found["good lost"].get(r, 0) for r in reasons)]
    means = {name: np.array(runs).mean(axis=1) for name, runs in record["scores"].items()}
    rows = [
        [SETS.get(name, name), sizes.get(name, ""), f"{runs.mean():.4f}", " ".join(f"{mean:.4f}" for mean in runs)]
        for name, runs in means.items()
    ]
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in record["seconds"].items())
    return f"""# From documents alone

SQuAD dev, the first {asked["passages"]} passages; {about["cpu"]}, {about["cores"]} cores shared with other work; commit
{about["git_commit"]}, source {about["source_digest"]}; {about["time"]}; `python -m benchmarks.from_documents {options}`.

A script stands for the language model: it writes questions that people wrote, and planted bad ones, and judges by the truth. So the
figures are of the path and its gates, and of no model's writing. MiniLM, the teacher, was itself trained on SQuAD.

## Gates

{markdown(["planted", "questions", "kept", *(reason.replace("_", " ") for reason in reasons)], [*plants, good])}

## The student

MiniLM cut to {asked["layers"]} of its six layers, both stages of `recipes/from_documents`, NDCG@10 on
{sizes["test questions"]} real questions of {sizes["test passages"]} held-out passages among all {asked["passages"]}.

{markdown(["trained on", "questions", "NDCG@10", "by seed"], rows)}

{chr(10).join(f"- {claim}" for claim in record["claims"])}

## Six commands

Seconds, with other programs beside it, so no more than an order of magnitude: {seconds};
{sum(record["seconds"].values()):.0f} in all.
"""


if __name__ == "__main__":
    main()
