"""From documents alone to a measured retriever: questions, split, negatives, both stages, evaluation, one report.

    python recipes/from_documents/run.py docs.jsonl --url http://localhost:8000/v1 --model Qwen/Qwen3-8B

These are the six commands of README.md, one after the other. What is not given here stands in the YAML files beside this
script. Killed anywhere and started again, it continues: answers are kept, texts are encoded once, training resumes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from hf_posmine.cli.main import main as hf_posmine
from hf_posmine.evaluation import RetrievalResult, compare

HERE = Path(__file__).parent
RETRIEVE = "Given a question, retrieve passages that answer it"


def main() -> None:
    """All steps, in order."""
    args, more = arguments()
    out = Path(args.output)
    split, results = out / "split", out / "results"
    pairs, candidates = split / "train" / "pairs.jsonl", split / "train" / "corpus.jsonl"

    # 1. Questions about every document; those that fail a gate are in dropped.jsonl, with the reason.
    places = ["--output", str(out / "asked"), "--dropped", str(out / "dropped.jsonl")]
    step("questions", args.documents, "--config", str(HERE / "questions.yaml"), *places, *more)
    decides = json.dumps([digest(out), args.by, args.teacher, args.student, of_corpus(more)])
    note = out / "decides.json"
    if not note.is_file() or note.read_text() != decides:  # models of other data would be taken for finished
        for name in ("stage1", "stage2", "results"):
            shutil.rmtree(out / name, ignore_errors=True)
        note.write_text(decides)

    # 2. Train, dev and test by document.
    by = ["--by", args.by] if args.by else []
    corpus = ["--corpus", args.documents, "--positive-id-column", "positive_id", *of_corpus(more)]
    step("split", str(out / "asked"), *corpus, *by, "--output", str(split))

    # 3. Hard negatives from the documents that are not held out.
    places = [str(pairs), "--corpus", str(candidates), "--output", str(out / "mined")]
    step("mine", *places, "--config", str(HERE / "mine.yaml"), "--teacher", args.teacher)

    # 4. Stage 1 on mined negatives.
    dev = [f"--evals.0.path={split}"]
    places = ["--model", args.student, f"--datasets.0.path={out / 'mined'}", "--output_dir", str(out / "stage1")]
    step("train", "--config", str(HERE / "stage1.yaml"), *places, *dev)

    # 5. Stage 2 on what the model of stage 1 finds hard.
    mine = [f"--datasets.0.mine.teacher={out / 'stage1'}", f"--datasets.0.mine.corpus={candidates}"]
    places = ["--model", str(out / "stage1"), f"--datasets.0.path={pairs}", "--output_dir", str(out / "stage2")]
    step("train", "--config", str(HERE / "stage2.yaml"), *places, *mine, *dev)

    # 6. Measure on the held-out documents: the student as it was, and after each stage.
    step("evaluate", args.student, "--on", str(split), "--output", str(results))
    for name in ("stage1", "stage2"):
        step("evaluate", str(out / name), "--on", str(split), "--query-instruction", RETRIEVE, "--output", str(results))

    # 7. Every count on one page.
    (out / "report.md").write_text(report(out, args.student))
    print(f"\n{(out / 'report.md').read_text()}\nThe report is in {out / 'report.md'}, the model in {out / 'stage2'}")


def step(*words: str) -> None:
    """Run a command of hf-posmine; end with it if it fails."""
    print(f"\n$ hf-posmine {' '.join(words)}", flush=True)
    if status := hf_posmine(words):
        sys.exit(status)


def digest(out: Path) -> str | None:
    """What tells one set of questions from another."""
    file = out / "asked" / "questions.json"
    return json.loads(file.read_text())["digest"] if file.is_file() else None


def of_corpus(more: list[str]) -> list[str]:
    """The options of hf-posmine questions that say how the documents are read, which the split must read the same way."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("split", "text-column", "id-column", "title-column"):
        parser.add_argument(f"--corpus-{name}")
    found = vars(parser.parse_known_args(more)[0])
    return [f"--{name.replace('_', '-')}={value}" for name, value in found.items() if value is not None]


def report(out: Path, student: str) -> str:
    """Documents to figures, as Markdown."""
    asked = json.loads((out / "asked" / "questions.json").read_text())
    counts = asked["attrition"]
    mined = json.loads((out / "mined" / "provenance.json").read_text())["summary"]
    lines = ["# From documents to a retriever", "", f"Written by {asked['writer']}, judged by {asked['judge']}.", ""]
    lines += ["| step | count |", "|---|---:|"]
    for name in ("documents", "asked", "cut", "requests", "empty", "unreadable", "nothing"):
        lines.append(f"| {name} | {counts[name]:,} |")
    for name, held in (("written", counts["written"]), ("dropped", counts["dropped"]), ("kept", counts["kept"])):
        lines += [f"| {name}: {which} | {count:,} |" for which, count in held.items()]
    lines.append(f"| documents with a question | {counts['documents_kept']:,} |")
    for name, held in json.loads((out / "split" / "split.json").read_text())["splits"].items():
        lines.append(f"| {name}: questions, documents | {held['pairs']:,}, {held['documents']:,} |")
    lines.append(f"| mined rows, of these with too few negatives | {mined['rows']:,}, {mined['short_rows']:,} |")
    results = map(RetrievalResult.load, sorted((out / "results").glob("*.json")))
    found = {r.model.removeprefix(f"{out}/"): r for r in results}
    lines += ["", "| model | NDCG@10 | recall@100 |", "|---|---:|---:|"]
    lines += [f"| {name} | {r.means['ndcg@10']:.4f} | {r.means['recall@100']:.4f} |" for name, r in found.items()]
    untrained = found.pop(student).scores["ndcg@10"]
    for name, result in found.items():
        lines += ["", compare(untrained, result.scores["ndcg@10"]).sentence(student, name)]
    return "\n".join(lines) + "\n"


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line; what is unknown here is an option of hf-posmine questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", help="a file, folder or Hub id with a column of texts")
    parser.add_argument("--by", help="column of the documents: parts of one source stay in one split")
    parser.add_argument("--teacher", default="sentence-transformers/all-MiniLM-L6-v2", help="default: %(default)s")
    parser.add_argument("--student", default="sentence-transformers/all-MiniLM-L6-v2", help="default: %(default)s")
    parser.add_argument("--output", default="out/from_documents", help="folder for everything (default: %(default)s)")
    return parser.parse_known_args()


if __name__ == "__main__":
    main()
