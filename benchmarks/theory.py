"""Figures of docs/theory.md: the scale of scores between and within queries, the bound of the loss, and its gradients.

    python -m benchmarks.theory [--seeds 5] [--collections adi cranfield vaswani scifact] --output docs/benchmarks/theory.json

The teacher is the embedded all-MiniLM-L6-v2; the student is the teacher itself, or the mean of its word embeddings. No training.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.judged_scores import JudgedScores, asked, equal_ceiling, mined, unit

TEMPERATURE = 0.05


def score_scale(data: JudgedScores) -> dict[str, float]:
    """Variance of positive scores between and within queries (one-way, unbiased), and of the best candidates between queries."""
    groups = [data.scores[row][data.relevant[row]].astype(np.float64) for row in data.several]
    counts = np.array([len(group) for group in groups])
    total, k = counts.sum(), len(groups)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (total - k)
    grand = np.concatenate(groups).mean()
    between_square = sum(len(group) * (group.mean() - grand) ** 2 for group in groups) / (k - 1)
    size = (total - (counts**2).sum() / total) / (k - 1)
    between = max(0.0, (between_square - within) / size)
    others = np.where(data.relevant | data.unknown, -np.inf, data.scores)[data.several]
    tenth = np.sort(others, axis=1)[:, -10].astype(np.float64)
    means = np.array([group.mean() for group in groups])
    return {
        "queries": k,
        "positives": int(total),
        "mean_positive": float(grand),
        "variance_between": float(between),
        "variance_within": float(within),
        "share_between": float(between / (between + within)),
        "variance_tenth_negative": float(tenth.var(ddof=1)),
        "correlation_with_tenth_negative": float(np.corrcoef(means, tenth)[0, 1]),
    }


def word_vectors(data: JudgedScores) -> tuple[np.ndarray, np.ndarray]:
    """Queries and documents as means of MiniLM's word embeddings: a student that has learnt nothing yet."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from hf_posmine.encoding import load_model

    mini = load_model("embedded")
    words = mini[0].auto_model.embeddings.word_embeddings.weight.detach().numpy()
    module = StaticEmbedding(mini.tokenizer.backend_tokenizer, embedding_weights=words)
    student = SentenceTransformer(modules=[module], device="cpu")
    queries, documents = texts_of(data.name)
    return unit(student.encode(queries)), unit(student.encode(documents))


def texts_of(name: str) -> tuple[list[str], list[str]]:
    from benchmarks.judged_scores import DATA
    from hf_posmine.evaluation import load_judged

    corpus, judgements, _ = load_judged(DATA / name, "qrels", None, 0)
    return [judgements.queries[query] for query in sorted(judgements.relevant)], corpus.texts(
        np.arange(len(corpus))
    ).to_pylist()


def methods(scores: np.ndarray, own: np.ndarray, left_out: np.ndarray) -> dict[str, np.ndarray]:
    """Ceilings of each method; the constant ones are as hard as PercPos(0.95) in the mean score of their negatives."""
    from hf_posmine import PercPos

    relative = PercPos(0.95).ceiling(own)
    found = mined(scores, left_out, relative)
    wanted = np.take_along_axis(scores, np.maximum(found, 0), axis=1)[found >= 0].mean()
    constant = equal_ceiling(scores, left_out, float(wanted))
    every = np.full(len(own), 1, np.float32)
    return {"naive": every * np.inf, "MaxScore, equally hard": every * np.float32(constant), "PercPos(0.95)": relative}


def losses(
    queries: np.ndarray, documents: np.ndarray, visible: np.ndarray, negatives: np.ndarray, false: np.ndarray
) -> dict[str, float]:
    """InfoNCE of each query, its gradient by the (unit) query vector, and what of it comes from false negatives."""
    there = negatives >= 0
    positives, others = documents[visible], documents[np.maximum(negatives, 0)]
    own, scores = (queries * positives).sum(axis=1), np.einsum("qd,qnd->qn", queries, others)
    logits = np.where(there, (scores - own[:, None]) / TEMPERATURE, -np.inf)
    loss = np.log1p(np.exp(logits).sum(axis=1))
    shares = np.exp(logits - loss[:, None])  # softmax of the negatives
    gradients = np.einsum("qn,qnd->qd", shares, others - positives[:, None]) / TEMPERATURE
    wrong = np.einsum("qn,qnd->qd", shares * false, others - positives[:, None]) / TEMPERATURE
    squares = (gradients**2).sum(axis=1)
    return {
        "loss_mean": float(loss.mean()),
        "loss_99": float(np.quantile(loss, 0.99)),
        "loss_max": float(loss.max()),
        "gradient_square": float(squares.mean()),
        "gradient_variance": float(squares.mean() - (gradients.mean(axis=0) ** 2).sum()),
        "share_of_false_negatives": float((wrong**2).sum(axis=1).mean() / squares.mean()),
        "weight_of_false_negatives": float((shares * false).sum() / shares.sum()),
    }


def by_positive(own: np.ndarray, false: np.ndarray, there: np.ndarray) -> list[float]:
    """The false-negative rate in thirds of the queries by the score of their positive, the lowest first."""
    order = np.argsort(own)
    return [float(false[part].sum() / max(1, there[part].sum())) for part in np.array_split(order, 3)]


def one_draw(data: JudgedScores, words: tuple[np.ndarray, np.ndarray], seed: int) -> dict[str, dict]:
    rng, rows = np.random.default_rng(seed), data.several
    visible, every = data.visible(rng, rows), np.arange(len(rows))
    scores, left_out = data.scores[rows], data.unknown[rows].copy()
    left_out[every, visible] = True
    own, found = scores[every, visible], {}
    hidden = data.relevant[rows].copy()
    hidden[every, visible] = False
    for name, ceilings in methods(scores, own, left_out).items():
        negatives = mined(scores, left_out, ceilings)
        there = negatives >= 0
        false = np.take_along_axis(hidden, np.maximum(negatives, 0), axis=1) & there
        found[name] = {
            "rate": float(false.sum() / there.sum()),
            "rate_by_third": by_positive(own, false, there),
            "hidden_below_ceiling": float((hidden & (scores < ceilings[:, None])).sum() / hidden.sum()),
            "teacher": losses(data.queries[rows], data.documents, visible, negatives, false),
            "words": losses(words[0][rows], words[1], visible, negatives, false),
        }
    return found


def mean_of(values: list) -> object:
    """Numbers averaged over runs, wherever they are nested."""
    first = values[0]
    if isinstance(first, dict):
        return {key: mean_of([value[key] for value in values]) for key in first}
    return (
        [float(np.mean(parts)) for parts in zip(*values, strict=True)]
        if isinstance(first, list)
        else float(np.mean(values))
    )


def main() -> None:
    args = asked()
    table = []
    for name in args.collections:
        data = JudgedScores.load(name)
        words = word_vectors(data)
        draws = mean_of([one_draw(data, words, seed) for seed in range(args.seeds)])
        table.append({"collection": name, "scale": score_scale(data), "methods": draws})
        print(json.dumps(table[-1]))
    facts = {"seeds": args.seeds, "negatives": 4, "temperature": TEMPERATURE}
    Path(args.output).write_text(json.dumps({**facts, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
