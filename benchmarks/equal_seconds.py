"""What a student has learnt after the same CPU seconds: this package, and plain sentence-transformers.

    python -m benchmarks.equal_seconds --output docs/benchmarks/equal_seconds.json [--cells FOLDER] [--seconds 45] [--seeds 5]

The student and the teacher are the real all-MiniLM-L6-v2. ``hf_posmine``: a stage (``run_stage``'s own parts) whose data set is
mined by ``PercPos(0.95)``, with ``posmine_varlen`` and a ceiling in the batch by the student. ``plain``: ``mine_hard_negatives``
with ``relative_margin=0.05``, then ``SentenceTransformerTrainer`` with ``CachedMultipleNegativesRankingLoss`` and
``no_duplicates``. Both have the same pairs, documents, temperature, batch size, number of negatives and autocast to bfloat16.
CPU seconds of the process count from before mining to the last step; a run ends before the step that would not fit. The learning
rate rises over a tenth of the seconds left after mining and falls to 0 at their end. Not counted: imports, the teacher's
embeddings, which both are given, and the evaluation.

SQuAD: the windows of 24 words of recipes/ablation/in_batch.yaml, tested on 1,000 questions of other articles over the windows
that answer one of them. SciFact: four fifths of the training claims, tested on the test claims over 1,500 abstracts: those
judged, and random others. Texts are cut at 64 tokens. The learning rate of each contender is chosen on articles of its own, or
on the other training claims, with another seed. Every cell is a process and a file in ``--cells``, and one that is there is not
repeated; the output has what is done after each seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_POSMINE_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback

from benchmarks.folds import kept
from benchmarks.measure import ROOT, machine, markdown
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sentence_transformers import SentenceTransformerTrainer
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from hf_posmine.evaluation import Collection
    from hf_posmine.training import RecipeTrainer

DATA = ROOT.parent / "shared" / "data"
MEASURE, COLLECTIONS = "ndcg@10", ("squad", "scifact")
SHARE, NEGATIVES, TEMPERATURE = 0.95, 1, 0.05
BATCH, MINI_BATCH, MINI_TOKENS, WARM_UP, LENGTH = 16, 32, 4096, 0.1, 64
RATES, DEV_SEED = (1e-5, 3e-5, 1e-4), 100
PARTS = (("train", "visible"), ("dev", None), ("test", None))
POOL = 1500
TEACHER = {"max_length": LENGTH}


@dataclass(frozen=True, eq=False)
class Task:
    """What is learnt from and tested on.

    Attributes:
        name: of the data.
        pairs: columns query, positive.
        documents: columns id, text; negatives are chosen from them.
        dev: what learning rates are chosen on.
        test: what is reported.
    """

    name: str
    pairs: Dataset
    documents: Dataset
    dev: Collection
    test: Collection


def load(name: str, folder: Path) -> Task:
    """A task of the shared data; what is cut from them is kept in ``folder``."""
    from hf_posmine.evaluation import load_collection

    if name == "squad":
        windows = squad_windows(folder)
        train, dev, test = (load_collection(windows / part, qrels) for part, qrels in PARTS)
        return task_of(
            name, train, train.positives, smaller(dev, sorted(dev.qrels), 0), smaller(test, sorted(test.qrels), 0)
        )
    train, test = (load_collection(DATA / name, f"qrels_{part}") for part in ("train", "test"))
    order = np.random.default_rng(0).permutation(sorted(train.qrels)).tolist()
    held, kept = order[: len(order) // 5], set(order[len(order) // 5 :])
    pairs = [(query, document) for query, document in train.positives if query in kept]
    return task_of(name, train, pairs, smaller(train, held, POOL // 2), smaller(test, sorted(test.qrels), POOL))


def squad_windows(folder: Path) -> Path:
    """The windows of recipes/ablation/in_batch.yaml: parts train, dev and test, of different articles."""
    sys.path.insert(0, str(ROOT / "recipes" / "ablation"))
    from ablation.config import read_config
    from ablation.windows import write_windows

    settings = read_config(ROOT / "recipes" / "ablation" / "in_batch.yaml").windows
    write_windows(settings, [str(DATA / "squad_v1.1")], folder / "windows")
    return folder / "windows"


def task_of(name: str, train: Collection, pairs: Sequence[tuple[str, str]], dev: Collection, test: Collection) -> Task:
    """The texts of pairs of ids, and all documents of the collection."""
    documents = documents_of(train)
    text = dict(zip(documents["id"][:], documents["text"][:], strict=True))
    rows = {
        "query": [train.queries[query] for query, _ in pairs],
        "positive": [text[document] for _, document in pairs],
    }
    return Task(name, Dataset.from_dict(rows), documents, dev, test)


def documents_of(judged: Collection) -> Dataset:
    every = np.arange(len(judged.corpus))
    return Dataset.from_dict(
        {"id": judged.corpus.ids(every).to_pylist(), "text": judged.corpus.texts(every).to_pylist()}
    )


def smaller(judged: Collection, queries: Sequence[str], pool: int) -> Collection:
    """Some queries over their judged documents and random others, ``pool`` in all."""
    from hf_posmine.evaluation import Collection

    documents = documents_of(judged)
    rows = [(query, document, score) for query in queries for document, score in judged.qrels[query].items()]
    ids, needed = documents["id"][:], {document for _, document, _ in rows}
    order = np.random.default_rng(0).permutation(len(documents)).tolist()
    kept = sorted(sorted(order, key=lambda row: ids[row] not in needed)[: max(pool, len(needed))])
    return Collection.of(judged.name, documents.select(kept), {query: judged.queries[query] for query in queries}, rows)


class Stored:
    """The teacher that ``mine_hard_negatives`` asks: vectors by text, made before."""

    similarity_fn_name, device, prompts = "cosine", "cpu", {}

    def __init__(self, folder: Path) -> None:
        from sentence_transformers.util import SimilarityFunction

        self.rows = {text: row for row, text in enumerate(json.loads((folder / "texts.json").read_text()))}
        self.vectors = np.load(folder / "vectors.npy")
        self.similarity = SimilarityFunction.to_similarity_fn("cosine")
        self.similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn("cosine")

    def encode_query(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        return self.vectors[[self.rows[text] for text in texts]]

    encode_document = encode_query


def prepare_task(task: Task, folder: Path) -> None:
    """Write the files that both contenders read, and the teacher's vectors: into our store, and the same for the other."""
    from hf_posmine import Corpus, PositiveAwareMiner

    task.pairs.to_parquet(folder / "pairs.parquet")
    task.documents.to_parquet(folder / "documents.parquet")
    corpus = Corpus.of(str(folder / "documents.parquet"))
    columns = {"query_column": "query", "positive_column": "positive"}
    miner = PositiveAwareMiner.from_dataset(task.pairs, "embedded", corpus=corpus, teacher_options=TEACHER, **columns)
    miner.prepare()
    teacher = miner.teachers[0]
    queries, documents = task.pairs["query"][:], task.documents["text"][:]
    rows = corpus.required_rows(task.documents["id"][:], "id")
    vectors = dict(zip(documents, teacher.embeddings.of_documents[rows], strict=True))
    vectors |= dict(zip(queries, teacher.embed_queries(queries), strict=True))
    save_json(folder / "texts.json", list(vectors))
    np.save(folder / "vectors.npy", np.stack(list(vectors.values())))


def recipe(task: str, folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Our stage: GradCache, a ceiling in the batch, and what is asked of both."""
    mine = {
        "teacher": "embedded",
        "teacher_options": TEACHER,
        "filters": [f"PercPos({SHARE})"],
        "corpus": str(folder / "documents.parquet"),
    }
    data = {"name": task, "path": str(folder / "pairs.parquet"), "task": "retrieval", "instruction": "", "mine": mine}
    return common(asked) | {
        "model": "embedded", "attn_implementation": "posmine_varlen", "num_negatives": NEGATIVES, "temperature": TEMPERATURE,
        "false_negatives": f"PercPos({SHARE})", "mini_batch_num_tokens": MINI_TOKENS, "datasets": [data],
        "max_query_length": LENGTH, "max_document_length": LENGTH,
    }  # fmt: skip


def common(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of both trainers; the clock ends a run and sets its learning rate."""
    return {
        "output_dir": asked["output"], "per_device_train_batch_size": BATCH, "learning_rate": asked["rate"],
        "lr_scheduler_type": "constant", "max_steps": 1_000_000, "seed": asked["seed"], "bf16": True, "use_cpu": True,
        "save_strategy": "no", "logging_steps": 1, "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip


def ours(task: str, folder: Path, asked: Mapping[str, Any]) -> RecipeTrainer:
    from hf_posmine.training import recipe_from
    from hf_posmine.training.stage import prepare

    return prepare(recipe_from(recipe(task, folder, asked)))[0]


def plain(_: str, folder: Path, asked: Mapping[str, Any]) -> SentenceTransformerTrainer:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from sentence_transformers.util import mine_hard_negatives
    from transformers import set_seed

    from hf_posmine.encoding import model_source

    pairs, documents = (Dataset.from_parquet(str(folder / f"{name}.parquet")) for name in ("pairs", "documents"))
    mined = mine_hard_negatives(
        pairs, Stored(folder), corpus=documents["text"][:], num_negatives=NEGATIVES, relative_margin=1 - SHARE,
        output_format="n-tuple", verbose=False,
    )  # fmt: skip
    arguments = SentenceTransformerTrainingArguments(**common(asked), batch_sampler="no_duplicates")
    set_seed(asked["seed"])
    model = SentenceTransformer(model_source("embedded"), device="cpu")
    model.max_seq_length = LENGTH
    loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=MINI_BATCH)
    return SentenceTransformerTrainer(model=model, args=arguments, train_dataset=mined, loss=loss)


CONTENDERS = {"plain": plain, "hf_posmine": ours}


class Clock(TrainerCallback):
    """Ends a run before the step that would not fit into its CPU seconds; the learning rate follows from those used.

    Args:
        seconds: of the process, from now on.
        rate: the highest learning rate, reached after a tenth of the seconds that are left when training begins.
    """

    def __init__(self, seconds: float, rate: float) -> None:
        self.seconds, self.rate, self.begun = seconds, rate, time.process_time()
        self.mined, self.used, self.steps = 0.0, 0.0, 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.mined = time.process_time() - self.begun

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        share = (time.process_time() - self.begun - self.mined) / (self.seconds - self.mined)
        for group in optimizer.param_groups:
            group["lr"] = self.rate * min(share / WARM_UP, (1 - share) / (1 - WARM_UP))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.used, self.steps = time.process_time() - self.begun, self.steps + 1
        if self.used + (self.used - self.mined) / self.steps > self.seconds:
            control.should_training_stop = True


def trained(contender: str, task: str, folder: Path, asked: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A student after its seconds, and what it did with them."""
    clock = Clock(asked["seconds"], asked["rate"])
    trainer = CONTENDERS[contender](task, folder, asked)
    trainer.add_callback(clock)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    facts = {"rows": len(trainer.train_dataset), "steps": clock.steps, "losses": losses,
             "seconds": {"mining": round(clock.mined, 2), "all": round(clock.used, 2)}}  # fmt: skip
    return trainer.model, facts


def evaluated(model: Any, judged: Collection) -> dict[str, float]:
    """NDCG@10 of each query, by id; embeddings are computed in bfloat16, as in training."""
    import torch

    from hf_posmine.evaluation import evaluate_retrieval

    with torch.autocast("cpu", torch.bfloat16):
        result = evaluate_retrieval(model, judged, measures=(MEASURE,))
    return dict(zip(result.query_ids, result.scores[MEASURE].round(6).tolist(), strict=True))


@dataclass
class Cells:
    """Results, each a file; each new one is made by a process of its own.

    Args:
        folder: of the files.
        seconds: of a run.
    """

    folder: Path
    seconds: float

    def get(self, task: str, contender: str, seed: int, rate: float, *, dev: bool = False) -> dict[str, Any]:
        """The values of each query of dev or test, and what the run did."""
        path = self.folder / f"{task}-{contender}-{seed}-{rate:g}.json"
        if not path.is_file():
            asked = {"seed": seed, "rate": rate, "seconds": self.seconds, "dev": dev}
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                save_json(path, pool.apply(cell, (task, contender, self.folder, asked)))
        return json.loads(path.read_text())

    def untrained(self, task: str) -> dict[str, float]:
        """The values of each test query before training."""
        path = self.folder / f"{task}-untrained.json"
        if not path.is_file():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                save_json(path, pool.apply(before, (task, self.folder)))
        return json.loads(path.read_text())


def prepared(task: str, folder: Path) -> Path:
    """The folder of a task's files."""
    from hf_posmine.utils import build_once

    return build_once(folder / task, lambda new: prepare_task(load(task, folder), new))


def in_process(folder: Path) -> None:
    """One thread, and everything kept below ``folder``."""
    import torch
    from datasets import disable_progress_bars

    os.environ["HF_POSMINE_HOME"] = str(folder / "home")
    torch.set_num_threads(1)
    disable_progress_bars()


def cell(task: str, contender: str, folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """One run, in a process of its own."""
    import sentence_transformers.util  # noqa: F401 - imports are not counted

    import hf_posmine.training.stage  # noqa: F401

    in_process(folder)
    files = prepared(task, folder)
    shutil.rmtree(folder / "home" / "blends", ignore_errors=True)  # mined rows of the run before
    with tempfile.TemporaryDirectory(prefix="posmine-equal-") as output:
        model, facts = trained(contender, task, files, {**asked, "output": output})
    found = load(task, folder)
    return facts | {"scores": evaluated(model, found.dev if asked["dev"] else found.test), "machine": machine()}


def before(task: str, folder: Path) -> dict[str, float]:
    """The student before training, in a process of its own."""
    from hf_posmine.encoding import load_model

    in_process(folder)
    model = load_model("embedded", device="cpu")
    model.max_seq_length = LENGTH
    return evaluated(model, load(task, folder).test)


def measure(
    cells: Cells, names: Sequence[str], seeds: Sequence[int], rates: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """The tables as far as they are there, after each seed."""
    tried = {name: {c: {f"{r:g}": mean(cells.get(name, c, DEV_SEED, r, dev=True)) for r in rates} for c in CONTENDERS}
             for name in names}  # fmt: skip
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {c: [] for c in CONTENDERS} for name in names}
    for seed in seeds:
        for name in names:
            order = list(CONTENDERS) if seed % 2 else list(reversed(CONTENDERS))
            for contender in order:
                rate = float(max(tried[name][contender], key=tried[name][contender].__getitem__))
                found = cells.get(name, contender, seed, rate)
                runs[name][contender].append(found | {"rate": rate})
                print(f"{name}, seed {seed}, {contender}: {mean(found):.4f} after {found['steps']} steps", flush=True)
        if seed > seeds[0]:
            yield {name: table(tried[name], runs[name], cells.untrained(name)) for name in names} | {
                "differences": differences(runs, {name: cells.untrained(name) for name in names})
            }


def mean(found: Mapping[str, Any]) -> float:
    return float(np.mean(list(found["scores"].values())))


def table(
    tried: Mapping[str, Any], runs: Mapping[str, Sequence[Mapping[str, Any]]], untrained: Mapping[str, float]
) -> dict[str, Any]:
    """Means of each contender."""
    rows = {
        contender: {
            "rate": some[0]["rate"], "ndcg": float(np.mean([mean(r) for r in some])), "by_seed": [mean(r) for r in some],
            "pairs": some[0]["rows"], "steps": [r["steps"] for r in some],
            "mining": [r["seconds"]["mining"] for r in some], "seconds": [r["seconds"]["all"] for r in some],
        }
        for contender, some in runs.items()
    }  # fmt: skip
    return {
        "queries": len(untrained),
        "untrained": float(np.mean(list(untrained.values()))),
        "dev": tried,
        "rows": rows,
    }


def differences(
    runs: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], untrained: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Ours against plain, and each against no training, with intervals over seeds and queries; Holm's correction by question."""
    from hf_posmine.evaluation import compare_runs, corrected

    scores = {(name, c): np.array([[r["scores"][q] for q in untrained[name]] for r in some])
              for name, of in runs.items() for c, some in of.items()}  # fmt: skip
    for name, values in untrained.items():
        scores[name, "untrained"] = np.tile(list(values.values()), (2, 1))
    asked = [[("plain", "hf_posmine")], [("untrained", "plain"), ("untrained", "hf_posmine")]]
    found = []
    for pairs in asked:
        made = {(n, a, b): compare_runs(scores[n, a], scores[n, b]) for n in runs for a, b in pairs}
        found += [
            {"data": n, "baseline": a, "other": b, "difference": one.difference, "low": one.low, "high": one.high,
             "p_holm": one.adjusted_p, "differs": one.differs()}
            for (n, a, b), one in corrected(made).items()
        ]  # fmt: skip
    return found


def tables(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """Markdown: means, then differences."""
    rows = [
        (name, c, f"{r['rate']:g}", f"{np.median(r['mining']):.1f}", f"{np.median(r['seconds']):.1f}", f"{np.median(r['steps']):g}",
         f"{r['pairs']:,}", f"{r['ndcg']:.4f}")
        for name in names for c, r in result[name]["rows"].items()
    ]  # fmt: skip
    claims = [
        (d["data"], f"{d['other']} against {d['baseline']}", f"{d['difference']:+.4f}", f"{d['low']:+.4f} to {d['high']:+.4f}",
         f"{d['p_holm']:.3f}")
        for d in result["differences"]
    ]  # fmt: skip
    header = ("data", "", "learning rate", "s before training", "s in all", "steps", "pairs", MEASURE)
    return (
        f"{markdown(header, rows)}\n\n{markdown(('data', 'comparison', MEASURE, '95 % interval', 'p (Holm)'), claims)}"
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--cells", type=Path, default=Path("out/equal_seconds"), help="where each cell is kept")
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS, choices=COLLECTIONS)
    parser.add_argument("--seconds", type=float, default=45, help="CPU seconds of a run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    args = parser.parse_args(given)
    settings = {"seconds": args.seconds, "rates": list(args.rates), "batch": BATCH, "negatives": NEGATIVES, "length": LENGTH,
                "temperature": TEMPERATURE, "share": SHARE, "pool": POOL}  # fmt: skip
    args.cells.mkdir(parents=True, exist_ok=True)
    kept(args.output, settings, args.cells)
    for name in args.collections:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(prepare_first, (name, args.cells))
    for found in measure(Cells(args.cells, args.seconds), args.collections, range(1, args.seeds + 1), args.rates):
        save_json(args.output, {"settings": settings, "machine": machine(), "collections": found})
        print(f"\n{tables(found, args.collections)}\n", flush=True)


def prepare_first(task: str, folder: Path) -> None:
    """The files of a task, in a process of its own."""
    in_process(folder)
    prepared(task, folder)


if __name__ == "__main__":
    main()
