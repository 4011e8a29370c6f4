"""How good must a teacher be? False negatives against noise added to its scores, from an oracle to one that knows nothing.

    python -m benchmarks.teacher_noise [--seeds 5] [--collections cranfield vaswani] --output docs/benchmarks/teacher_noise.json

The teacher is the embedded all-MiniLM-L6-v2. An oracle gives all relevant documents of a query one score, above all others; its
ranking alone adds to each so much that these lead. Noise is Gaussian, in multiples of the standard deviation of a query's scores;
the scores of one that knows nothing are those of the query in another order. All positives but one are hidden.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.judged_scores import JudgedScores, asked, equal_ceiling, mined

EQUAL = "MaxScore, equally hard"
LEVELS = ("oracle", "an oracle's ranking", "half of its lead", 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, "useless")


def teacher_scores(clean: np.ndarray, relevant: np.ndarray, level: float | str, rng: np.random.Generator) -> np.ndarray:
    """The scores of a teacher of some quality, float32 ``[Q, D]``, on the scale of cosines."""
    spread = clean.std(axis=1, keepdims=True)
    best = clean.max(axis=1, keepdims=True)
    if level == "oracle":
        return np.where(relevant, best + np.float32(0.02), clean)
    if level in LEVELS[1:3]:
        lead = best - np.where(relevant, clean, np.inf).min(axis=1, keepdims=True) + 0.02
        return (clean + (1.0 if level == LEVELS[1] else 0.5) * lead * relevant).astype(np.float32)
    noise = (spread * rng.standard_normal(clean.shape)).astype(np.float32)
    if level == "useless":
        return rng.permuted(clean, axis=1)
    return clean + np.float32(level) * noise


def ndcg(scores: np.ndarray, relevant: np.ndarray, depth: int = 10) -> float:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    discount = 1 / np.log2(np.arange(depth) + 2)
    gains = np.take_along_axis(relevant, best, axis=1) @ discount[: best.shape[1]]
    ideal = np.array([discount[: min(depth, count)].sum() for count in relevant.sum(axis=1)])
    return float((gains / ideal).mean())


def measure(data: JudgedScores, level: float | str, seed: int) -> dict[str, dict[str, float]]:
    """Rate of hidden positives among the negatives of each method, and how hard the others are."""
    rng, rows = np.random.default_rng(seed), data.several
    clean, relevant = data.scores[rows], data.relevant[rows]
    visible = data.visible(rng, rows)
    scores = teacher_scores(clean, relevant, level, rng)
    every = np.arange(len(rows))
    own, left_out = scores[every, visible], data.unknown[rows].copy()
    left_out[every, visible] = True
    found: dict[str, dict[str, float]] = {"teacher": {"ndcg@10": ndcg(scores, relevant)}}
    for name, ceiling in ceilings_of(scores, own, left_out).items():
        found[name] = described(clean, relevant, mined(scores, left_out, ceiling))
    return found


def ceilings_of(scores: np.ndarray, own: np.ndarray, left_out: np.ndarray) -> dict[str, np.ndarray]:
    """Ceilings float32 ``[Q]`` by method; "equally hard" is the constant whose negatives have PercPos(0.95)'s mean score.

    Args:
        scores: of the teacher at hand, float32 ``[Q, D]``.
        own: those of the known positives, ``[Q]``.
        left_out: bool ``[Q, D]``, never candidates.
    """
    from hf_posmine import MarginPos, PercPos

    found = {
        "naive": np.full(len(own), np.inf, np.float32),
        "PercPos(0.95)": PercPos(0.95).ceiling(own),
        "MarginPos(0.05)": MarginPos(0.05).ceiling(own),
    }
    relative = mined(scores, left_out, found["PercPos(0.95)"])
    wanted = np.take_along_axis(scores, np.maximum(relative, 0), axis=1)[relative >= 0].mean()
    equal = equal_ceiling(scores, left_out, float(wanted))
    for label, constant in (("MaxScore(0.7)", 0.7), (EQUAL, equal)):
        found[label] = np.full(len(own), constant, np.float32)
    return found


def described(clean: np.ndarray, relevant: np.ndarray, negatives: np.ndarray) -> dict[str, float]:
    """Share of negatives int64 ``[Q, N]`` that are relevant, how hard the others are, and how many were found."""
    there, at = negatives >= 0, np.maximum(negatives, 0)
    false = np.take_along_axis(relevant, at, axis=1) & there
    true = there & ~false
    hardness = np.take_along_axis(clean, at, axis=1)
    return {
        "rate": float(false.sum() / max(1, there.sum())),
        "hardness": float(hardness[true].mean()) if true.any() else float("nan"),
        "yield": float(there.mean()),
    }


def main() -> None:
    args = asked()
    table = []
    for name in args.collections:
        data = JudgedScores.load(name)
        for level in LEVELS:
            runs = [measure(data, level, seed) for seed in range(args.seeds)]
            means = {m: {k: float(np.mean([run[m][k] for run in runs])) for k in runs[0][m]} for m in runs[0]}
            table.append({"collection": name, "queries": len(data.several), "noise": level, **means})
            print(json.dumps(table[-1]))
    Path(args.output).write_text(json.dumps({"seeds": args.seeds, "negatives": 4, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
