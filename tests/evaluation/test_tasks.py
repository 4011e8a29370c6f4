"""Second-stage tasks against sklearn and scipy used in another way, and the loops of MTEB's protocol."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import homogeneity_completeness_v_measure, v_measure_score

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.encoding import encode_texts
from hf_posmine.evaluation.statistics.significance import compare
from hf_posmine.evaluation.tasks import (
    clustering_v_measure,
    neighbour_accuracy,
    sts_spearman,
    v_measures,
)
from tests.conftest import ToyModel, real_data


@pytest.fixture(scope="module")
def blobs():
    """Three overlapping classes in eight dimensions, under names."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1.2, (3, 8))
    labels = rng.integers(0, 3, 400)
    vectors = (centres[labels] + rng.normal(0, 1, (400, 8))).astype(np.float32)
    return vectors, [("tea", "ale", "rum")[label] for label in labels]


def test_the_interval_of_an_accuracy_is_binomial(blobs):
    vectors, labels = blobs
    found = neighbour_accuracy(vectors[:250], labels[:250], vectors[250:], labels[250:])
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / 150)
    assert (found.low, found.high) == (
        pytest.approx(found.value - half, abs=0.012),
        pytest.approx(found.value + half, abs=0.012),
    )


def test_the_nearest_neighbour_is_found_by_cosine(blobs):
    vectors, labels = blobs
    train = vectors[:50] * np.random.default_rng(1).uniform(0.1, 10, (50, 1)).astype(np.float32)  # lengths mean nothing
    right = []
    for vector, label in zip(vectors[50:], labels[50:], strict=True):
        cosines = [
            float(np.dot(vector, t) / np.linalg.norm(vector) / np.linalg.norm(t)) for t in train.astype(np.float64)
        ]
        right.append(labels[int(np.argmax(cosines))] == label)
    found = neighbour_accuracy(train, labels[:50], vectors[50:], labels[50:])
    assert found.items.tolist() == right


def test_two_models_are_compared_by_example(blobs):
    vectors, labels = blobs
    data = (vectors[:250], labels[:250], vectors[250:], labels[250:])
    noisy = np.random.default_rng(2).normal(0, 1, vectors.shape).astype(np.float32)
    poor = neighbour_accuracy(noisy[:250], labels[:250], noisy[250:], labels[250:])
    good = neighbour_accuracy(*data)
    assert compare(poor.items, good.items).differs()


def test_clustering_is_mtebs_k_means(blobs):
    vectors, labels = blobs
    expected = [
        v_measure_score(
            labels, MiniBatchKMeans(n_clusters=3, batch_size=512, n_init=1, random_state=s).fit(vectors).labels_
        )
        for s in (7, 8, 9)
    ]
    found = clustering_v_measure(vectors, labels, seeds=3, seed=7, resamples=200)
    assert found.items.tolist() == pytest.approx(expected, abs=1e-12) and found.value == pytest.approx(
        np.mean(expected)
    )
    assert found.low < found.value < found.high


def test_the_interval_of_clustering_is_that_of_new_documents():
    """Documents drawn anew from the same source, clusters found anew: the standard deviation is what the interval says."""
    rng = np.random.default_rng(3)
    centres = np.eye(3, 6) * 3

    def draw():
        labels = rng.integers(0, 3, 300)
        return centres[labels] + rng.normal(0, 1, (300, 6)), labels

    values = [clustering_v_measure(*draw(), seeds=2, resamples=2).value for _ in range(60)]
    halves = [
        (found.high - found.low) / 2
        for found in (clustering_v_measure(*draw(), seeds=2, resamples=200) for _ in range(6))
    ]
    assert np.mean(halves) == pytest.approx(1.96 * np.std(values), rel=0.5)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=30))
def test_v_measure_of_a_table(pairs):
    truth, clusters = zip(*pairs, strict=True)
    counted = Counter(pairs)
    table = np.array([[counted[label, cluster] for cluster in range(3)] for label in range(3)])
    assert v_measures(table[None])[0] == pytest.approx(homogeneity_completeness_v_measure(truth, clusters)[2], abs=1e-9)


def test_similarity_is_spearmans(blobs):
    """Ranks by hand (no ties), cosines by loops, the interval against Fisher's."""
    rng = np.random.default_rng(4)
    left = rng.normal(size=(300, 8)).astype(np.float32)
    right = (left + rng.normal(0, 1, (300, 8))).astype(np.float32)
    cosines = [float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(left, right, strict=True)]
    truth = np.array(cosines) + rng.normal(0, 0.3, 300)
    found = sts_spearman(left * 3, right, truth)
    d = np.argsort(np.argsort(cosines)) - np.argsort(np.argsort(truth))
    rho = 1 - 6 * (d**2).sum() / (300 * (300**2 - 1))
    assert found.value == pytest.approx(rho, abs=1e-9)
    half = 1.96 / np.sqrt(297) * np.sqrt(1.06)
    assert found.low == pytest.approx(np.tanh(np.arctanh(rho) - half), abs=0.03)
    assert found.high == pytest.approx(np.tanh(np.arctanh(rho) + half), abs=0.03)


def test_instructions_go_before_every_text():
    texts = ["a cat", "two dogs"]
    for role in ("query", "document"):
        found = encode_texts(ToyModel(), texts, instruction="Find the animal", role=role)
        np.testing.assert_array_equal(found, ToyModel().encode_document([f"Find the animal: {text}" for text in texts]))


def test_bad_tasks_are_named(blobs):
    vectors, labels = blobs
    with pytest.raises(InputError, match="train: 400 vectors and labels of shape"):
        neighbour_accuracy(vectors, labels[:-1], vectors, labels)
    with pytest.raises(InputError, match="a task needs at least two"):
        clustering_v_measure(vectors, ["tea"] * 400)
    with pytest.raises(InputError, match="one score per pair"):
        sts_spearman(vectors, vectors, [1.0])
    with pytest.raises(InputError, match="a correlation needs some that differ"):
        sts_spearman(vectors, vectors[::-1], [1.0] * 400)
    with pytest.raises(InputError, match="score 3 is not finite"):
        sts_spearman(vectors, vectors[::-1], [1.0, 2.0, 3.0, float("nan"), *range(396)])


@pytest.mark.real_data
def test_the_published_figure_of_a_real_set(embedded_model):
    """STS-B's English test set: 82.03 on the model's card in MTEB."""
    rows = pq.read_table(real_data("stsb") / "en_test.parquet").to_pydict()
    left, right = (encode_texts(embedded_model, rows[name]) for name in ("sentence1", "sentence2"))
    found = sts_spearman(left, right, rows["score"], resamples=50)
    assert found.value == pytest.approx(stats.spearmanr((left * right).sum(axis=1), rows["score"])[0], abs=1e-6)
    assert found.value == pytest.approx(0.8203, abs=0.0005)
