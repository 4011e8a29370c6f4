"""A cross-encoder's second opinion, ours against the peer's, with the same model and the same candidates, in one run.

    python -m benchmarks.reranking --output out/bench

SQuAD questions with the first 50 passages by MiniLM each; the cross-encoder is two layers of MiniLM, trained here for a
minute so that its scores mean something. One thread; CPU seconds of the scoring alone. ``mine_hard_negatives`` scores each
question's candidates in a call of its own; we score all in one stream, and, where the teacher ranks, only those that are
asked for.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.measure import Watch, machine
from benchmarks.synthetic import save_json

DATA = Path(__file__).parents[2] / "shared" / "data" / "squad_v1.1"
DEPTH, NEGATIVES, SHARE, BAND = 50, 4, 0.95, 0.2


class Known:
    """A model that looks embeddings up; it serves the peer and our DenseTeacher alike."""

    similarity_fn_name = "cosine"
    device = "cpu"

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        from sentence_transformers.util import SimilarityFunction

        self.vectors, self.prompts = vectors, {}
        self.model_card_data = SimpleNamespace(base_model=None, model_id="known")
        self.similarity = SimilarityFunction.to_similarity_fn("cosine")
        self.similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn("cosine")

    def encode_query(self, texts: list[str], **_: Any) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])

    encode_document = encode_query

    def get_embedding_dimension(self) -> int:
        return len(next(iter(self.vectors.values())))


def squad(questions: int, passages: int) -> tuple[list[str], list[str], list[str]]:
    """Questions, the passage that answers each, and all passages."""
    import pyarrow.parquet as pq

    documents = pq.read_table(DATA / "train_corpus.parquet").slice(0, passages).to_pydict()
    texts = dict(zip(documents["id"], documents["text"], strict=True))
    pairs = pq.read_table(DATA / "train_pairs.parquet").to_pydict()
    first = {positive: question for question, positive in zip(pairs["query"], pairs["positive_id"], strict=True)}
    answered = [positive for positive in texts if positive in first]
    chosen = [answered[i] for i in np.random.default_rng(0).permutation(len(answered))[:questions]]
    return [first[positive] for positive in chosen], [texts[positive] for positive in chosen], list(texts.values())


def embeddings(texts: list[str]) -> dict[str, np.ndarray]:
    from hf_posmine.encoding import load_model
    from hf_posmine.encoding.encode import Encoder

    vectors = Encoder(load_model("embedded", device="cpu"), unit=True).encode(texts, "document")
    return dict(zip(texts, vectors, strict=True))


def cross_encoder(questions: list[str], positives: list[str], steps: int) -> Any:
    """Two layers of MiniLM under one label, trained to tell a question's passage from the next question's."""
    import torch
    from sentence_transformers import CrossEncoder

    from hf_posmine.encoding import model_source

    torch.manual_seed(0)
    model = CrossEncoder(model_source("embedded"), num_labels=1, device="cpu", max_length=256)
    encoder = model[0].auto_model.bert.encoder
    encoder.layer = encoder.layer[:2]
    optimizer, rng = torch.optim.AdamW(model.parameters(), 5e-4), np.random.default_rng(0)
    model.train()
    for _ in range(steps):
        at = rng.integers(0, len(questions), 16)
        pairs = [(questions[i], positives[i]) for i in at] + [(questions[i], positives[i - 1]) for i in at]
        scores = model(model.preprocess(pairs))["scores"].squeeze(-1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.tensor([1.0] * 16 + [0.0] * 16))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def peer(watch: Watch, task: Any, model: Any) -> dict[tuple[str, str], float]:
    """The peer's mining; returns the score of every pair it asked about."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    questions, positives, documents, known = task
    asked, predict = {}, type(model).predict

    def timed(pairs: list[tuple[str, str]], **options: Any) -> Any:
        with watch("peer, a call per question"):
            scores = predict(model, pairs, show_progress_bar=False, **options)
        asked.update(zip(map(tuple, pairs), scores.tolist(), strict=True))
        return scores

    model.predict = timed
    mine_hard_negatives(
        Dataset.from_dict({"query": questions, "positive": positives}), known, corpus=documents, cross_encoder=model,
        range_max=DEPTH, num_negatives=NEGATIVES, relative_margin=1 - SHARE, verbose=False,
        output_format="n-tuple",
    )  # fmt: skip
    del model.predict
    return asked


def ours(watch: Watch, name: str, task: Any, model: Any, **options: Any) -> tuple[dict[tuple[str, str], float], Any]:
    """Our mining; returns the score of every pair that was asked about, and the mined rows."""
    from datasets import Dataset

    from hf_posmine import Corpus, PositiveAwareMiner
    from hf_posmine.mining import SecondOpinion
    from hf_posmine.teachers import CrossEncoderTeacher

    questions, positives, documents, known = task
    pairs = Dataset.from_dict({"query": questions, "positive": positives})
    corpus, asked = Corpus.from_texts(documents), {}
    cross = CrossEncoderTeacher(model, corpus)
    score = cross.score_texts

    def timed(queries: list[str], texts: list[str]) -> np.ndarray:
        with watch(name):
            scores = score(queries, texts)
        asked.update(zip(zip(queries, texts, strict=True), scores.tolist(), strict=True))
        return scores

    cross.score_texts = timed  # type: ignore[method-assign]
    miner = PositiveAwareMiner.from_dataset(
        pairs, known, corpus=corpus, filters=(), num_negatives=NEGATIVES, keep=("scores", "stats"),
        teacher_options={"store": tempfile.mkdtemp(), "fingerprint": "known"},
        second_opinion=SecondOpinion(cross, f"PercPos({SHARE})", depth=DEPTH, **options),
    )  # fmt: skip
    return asked, pairs.map(miner, batched=True, load_from_cache_file=False)


def main() -> None:
    import torch
    from datasets import disable_progress_bars

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--passages", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=120, help="of training the cross-encoder")
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    questions, positives, documents = squad(arguments.questions, arguments.passages)
    known = Known(embeddings([*documents, *questions]))
    task, model, watch = (
        (questions, positives, documents, known),
        cross_encoder(questions, positives, arguments.steps),
        Watch(),
    )
    variants = {
        "ours, all candidates": {"rank_by": "second"},
        "ours, those that matter": {},
        f"ours, those within {BAND} of the positive": {"band": BAND},
    }
    record: dict[str, Any] = {"machine": machine(), "questions": len(questions), "candidates": DEPTH, "pairs": {}}
    theirs = peer(watch, task, model)
    record["pairs"]["peer, a call per question"] = len(theirs)
    rows = {}
    for name, options in variants.items():
        asked, rows[name] = ours(watch, name, task, model, **options)
        common = [abs(asked[pair] - theirs[pair]) for pair in asked if pair in theirs]
        record["pairs"][name] = len(asked)
        record.setdefault("largest difference of scores", {})[name] = max(common)
    names = list(variants)
    record["rows that the band changed"] = sum(
        a != b for a, b in zip(rows[names[1]]["negatives"], rows[names[2]]["negatives"], strict=True)
    )
    record["cpu seconds"] = {name: round(span["cpu"], 2) for name, span in watch.spans.items()}
    base = record["cpu seconds"]["peer, a call per question"]
    record["times as fast"] = {name: round(base / cpu, 2) for name, cpu in record["cpu seconds"].items()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_json(arguments.output / "reranking.json", record)
    print(f"{'':42}{'pairs':>8}{'CPU s':>9}{'times as fast':>15}")
    for name, cpu in record["cpu seconds"].items():
        print(f"{name:42}{record['pairs'][name]:8,}{cpu:9.1f}{record['times as fast'][name]:15.2f}")


if __name__ == "__main__":
    main()
