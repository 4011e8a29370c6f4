"""Second-stage tasks for one model: nearest neighbours, clustering and sentence similarity, with intervals.

All take vectors (:func:`~hf_posmine.evaluation.encoding.encode_texts` makes them) and follow MTEB's protocols.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.statistics.resampling import bootstrap_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Floats
    from hf_posmine.evaluation.measures import Scores

INTERVAL = (0.025, 0.975)
KMEANS_BATCH, KMEANS_SEEDS = 512, 10


@dataclass(frozen=True, eq=False)
class TaskScore:
    """One model on one task.

    Attributes:
        measure: what was measured.
        value: the score.
        low: lower end of its 95 % bootstrap interval over test examples; it does not cover other training runs.
        high: upper end.
        items: the values whose mean is the score: per test example (accuracy, fit for
            :func:`~hf_posmine.evaluation.statistics.significance.compare`) or per k-means seed (V-measure). None for a correlation.
    """

    measure: str
    value: float
    low: float
    high: float
    items: Scores | None = None


def neighbour_accuracy(
    train_vectors: Floats,
    train_labels: Sequence[Any],
    test_vectors: Floats,
    test_labels: Sequence[Any],
    *,
    seed: int = 42,
) -> TaskScore:
    """Accuracy of the label of the nearest training example by cosine (1-NN): nothing is fitted."""
    from sklearn.neighbors import KNeighborsClassifier

    train, test = _labels(train_labels, train_vectors, "train"), _labels(test_labels, test_vectors, "test")
    nearest = KNeighborsClassifier(n_neighbors=1, metric="cosine", algorithm="brute").fit(train_vectors, train)
    return _accuracy("1-NN accuracy", (nearest.predict(test_vectors) == test).astype(np.float64), seed)


def clustering_v_measure(
    vectors: Floats, labels: Sequence[Any], *, seeds: int = KMEANS_SEEDS, resamples: int = 1000, seed: int = 42
) -> TaskScore:
    """V-measure of MiniBatchKMeans with as many clusters as labels, as MTEB's, averaged over seeds.

    The interval is the score plus and minus 1.96 bootstrap standard errors over documents, clusters held: a percentile
    interval would be off, since repeated documents move the V-measure of a resample up.

    Args:
        vectors: float32 ``[m, d]``.
        labels: ``[m]``.
        seeds: k-means runs.
        resamples: of the interval.
        seed: the first k-means seed, and that of the resamples.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    names, truth = np.unique(_labels(labels, vectors, "clustering"), return_inverse=True)
    found = [
        MiniBatchKMeans(len(names), batch_size=KMEANS_BATCH, n_init=1, random_state=seed + run).fit_predict(vectors)
        for run in range(seeds)
    ]
    values = np.array([v_measure_score(truth, clusters) for clusters in found])
    cells = np.stack([truth * len(names) + clusters for clusters in found])
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = rng.integers(0, len(truth), len(truth))
        tables = np.stack([np.bincount(line, minlength=len(names) ** 2) for line in cells[:, rows]])
        drawn.append(v_measures(tables.reshape(-1, len(names), len(names))).mean())
    half = float(stats.norm.ppf(INTERVAL[1]) * np.std(drawn, ddof=1))
    value = float(values.mean())
    return TaskScore("V-measure", value, value - half, value + half, values)


def v_measures(tables: np.ndarray) -> Scores:
    """V-measure of contingency tables ``[T, labels, clusters]`` of counts (Rosenberg and Hirschberg 2007)."""
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    labels, clusters = _entropy(shares.sum(axis=2)), _entropy(shares.sum(axis=1))
    mutual = labels + clusters - _entropy(shares.reshape(len(shares), -1))
    return np.divide(2 * mutual, labels + clusters, out=np.ones_like(mutual), where=labels + clusters > 0)


def sts_spearman(
    left: Floats, right: Floats, scores: Sequence[float], *, resamples: int = 1000, seed: int = 42
) -> TaskScore:
    """Spearman's correlation of cosines with people's similarity scores, with a percentile bootstrap over pairs.

    Args:
        left: vectors of the first sentences, float32 ``[m, d]``.
        right: vectors of the second sentences, float32 ``[m, d]``.
        scores: people's scores, ``[m]``.
        resamples: of the interval.
        seed: of the resamples.
    """
    truth = np.asarray(scores, np.float64)
    if left.shape != right.shape or len(truth) != len(left):
        raise InputError(f"{left.shape} and {right.shape} vectors and {len(truth)} scores; give one score per pair")
    if not np.isfinite(truth).all():
        raise InputError(f"score {int(np.flatnonzero(~np.isfinite(truth))[0])} is not finite; leave that pair out")
    first, second = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = np.divide((first * second).sum(axis=1), norms, out=np.zeros_like(norms), where=norms > 0)
    if np.ptp(cosines) == 0 or np.ptp(truth) == 0:
        raise InputError("all cosines or all scores are the same; a correlation needs some that differ")
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = rng.integers(0, len(truth), len(truth))
        drawn.append(np.corrcoef(stats.rankdata(cosines[rows]), stats.rankdata(truth[rows]))[0, 1])
    low, high = np.nanquantile(drawn, INTERVAL)
    return TaskScore("Spearman", float(stats.spearmanr(cosines, truth).statistic), float(low), float(high))


def _accuracy(measure: str, right: Scores, seed: int, resamples: int = 10_000) -> TaskScore:
    """From how often each test example was right, ``[t]``."""
    means = bootstrap_means(right, np.ones(len(right), np.int64), resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, INTERVAL)
    return TaskScore(measure, float(right.mean()), float(low), float(high), right)


def _labels(labels: Sequence[Any], vectors: Floats, what: str) -> np.ndarray:
    array = np.asarray(labels)
    if len(array) != len(vectors) or array.ndim != 1:
        raise InputError(f"{what}: {len(vectors)} vectors and labels of shape {array.shape}; give one label per vector")
    if len(np.unique(array)) < 2:  # noqa: PLR2004
        raise InputError(f"{what}: all {len(array)} labels are {array[:1].tolist()}; a task needs at least two")
    return array


def _entropy(shares: Scores) -> Scores:
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(axis=1)
