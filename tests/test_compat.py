"""``mine_hard_negatives``: the signature, results and messages of sentence-transformers, and each difference.

Parity is tested on random vectors, which have no ties: which of two equal candidates the peer takes is left to topk.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from sentence_transformers import util

from hf_posmine.compat import mine_hard_negatives
from hf_posmine.core.errors import ColumnError, InputError
from tests.support import peer_suite, tiny
from tests.support.vector_models import HashedPairs, VectorModel, random_vectors, scored

MIGRATE = (Path(__file__).parent.parent / "docs" / "migrate.md").read_text()
OURS = ["keep_columns", "seed", "strict"]
FORMATS = ["triplet", "n-tuple", "labeled-pair", "labeled-list"]
QUERIES, DOCUMENTS = 7, 30


def a_dataset(seed: int, rows: int = 12) -> tuple[Dataset, list[str], VectorModel]:
    """Pairs with repeated queries, repeated positives and repeated rows, further documents, and their model."""
    draw = np.random.default_rng(seed)
    queries = [f"query {i}" for i in draw.integers(0, QUERIES, rows)]
    positives = [f"document {i}" for i in draw.integers(0, DOCUMENTS // 2, rows)]
    pairs = Dataset.from_dict({"question": queries + queries[:2], "answer": positives + positives[:2]})
    documents = [f"document {i}" for i in range(DOCUMENTS)]
    model = VectorModel(random_vectors([f"query {i}" for i in range(QUERIES)] + documents, seed))
    return pairs, documents, model


def plain(dataset) -> list[list[object]]:
    """The rows in order."""
    return [list(row.values()) for row in dataset]


def assert_same(mine, peer) -> None:
    """The same rows, with scores that may differ in their last bits."""
    assert mine.column_names == peer.column_names
    scores = {"score", "scores"} & set(mine.column_names)
    assert plain(mine.remove_columns(list(scores))) == plain(peer.remove_columns(list(scores)))
    for column in scores:
        for ours, theirs in zip(mine[column], peer[column], strict=True):
            assert ours == pytest.approx(theirs, abs=2e-6)


def test_the_signature_is_the_peers():
    ours, theirs = (
        list(inspect.signature(f).parameters.values()) for f in (mine_hard_negatives, util.mine_hard_negatives)
    )
    assert len(theirs) == 29
    assert [(p.name, p.default, p.kind) for p in ours[:29]] == [(p.name, p.default, p.kind) for p in theirs]
    assert [p.name for p in ours[29:]] == OURS
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[29:])


def test_the_migration_page_has_a_line_for_every_parameter():
    table = MIGRATE.partition("## Every parameter")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert documented == [*inspect.signature(util.mine_hard_negatives).parameters, *OURS]


def test_the_migration_page_lists_the_peers_tests_that_cannot_pass():
    assert dict(re.findall(r"^\| `(test_\w+)` \| (.+) \|$", MIGRATE, re.MULTILINE)) == peer_suite.DIFFERENCES
    assert len(peer_suite.DIFFERENCES) <= 10


BOUNDS = [
    {}, {"absolute_margin": 0.2}, {"absolute_margin": -0.1}, {"relative_margin": 0.3}, {"relative_margin": -0.2},
    {"max_score": 0}, {"min_score": 0, "max_score": 0.6}, {"absolute_margin": 0.05, "relative_margin": 0.1, "min_score": -0.5},
]  # fmt: skip


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("reranked", [False, True])
def test_parity_with_the_peer(output_format, bounds, reranked):
    pairs, documents, model = a_dataset(seed=len(str(bounds)))
    for scores, window in ((False, {"range_max": 9}), (True, {"range_min": 2, "range_max": 6})):
        options = {
            "corpus": documents, "output_format": output_format, "output_scores": scores, "verbose": False,
            "cross_encoder": HashedPairs() if reranked else None, **bounds, **window,
        }  # fmt: skip
        mine, peer = mine_hard_negatives(pairs, model, **options), util.mine_hard_negatives(pairs, model, **options)
        assert_same(mine, peer)
        assert not len(peer) or mine.features == peer.features


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 4),
    first=st.integers(0, 3),
    more=st.integers(0, 25),
    bounds=st.sampled_from(BOUNDS),
    output_format=st.sampled_from(FORMATS),
    separate=st.booleans(),
    included=st.booleans(),
    similarity=st.sampled_from(["cosine", "dot", "euclidean"]),
    batch=st.sampled_from([3, 16384]),
)
def test_parity_over_many_settings(seed, n, first, more, bounds, output_format, separate, included, similarity, batch):
    pairs, documents, model = a_dataset(seed)
    model.similarity_fn_name = similarity
    options = {
        "corpus": documents if separate else None, "num_negatives": n, "range_min": first, "range_max": first + n + more,
        "output_format": output_format, "include_positives": included, "faiss_batch_size": batch, "output_scores": True,
        "verbose": False, **bounds,
    }  # fmt: skip
    try:
        peer = util.mine_hard_negatives(pairs, model, **options)
    except ZeroDivisionError:  # its report, where a margin left nothing for min_score
        reject()
    assert_same(mine_hard_negatives(pairs, model, **options), peer)


def test_a_margin_that_leaves_nothing_for_min_score_gives_no_rows():
    """Fault of the peer: it divides by the candidates left."""
    scores = {"p": 0.25, "near": 0.5}
    pair = Dataset.from_dict({"anchor": ["q"], "positive": ["p"]})
    options = {
        "corpus": ["near"], "absolute_margin": 0.125, "min_score": 0.875, "num_negatives": 1, "range_max": 1,
        "include_positives": True, "verbose": False,
    }  # fmt: skip
    with pytest.raises(ZeroDivisionError):
        util.mine_hard_negatives(pair, VectorModel(scored(scores)), **options)
    assert len(mine_hard_negatives(pair, VectorModel(scored(scores)), **options)) == 0


@pytest.mark.parametrize("bounds", [{}, {"max_score": 0.2}, {"relative_margin": 0.3}], ids=str)
def test_random_negatives_come_from_the_peers_window(bounds):
    pairs, documents, model = a_dataset(seed=5)
    options = {"corpus": documents, "range_min": 1, "range_max": 16, "verbose": False, **bounds}
    window = util.mine_hard_negatives(pairs, model, num_negatives=15, **options)
    allowed = set(zip(window["question"], window["answer"], window["negative"], strict=True))
    peer = util.mine_hard_negatives(pairs, model, num_negatives=2, sampling_strategy="random", **options)
    mine = [
        mine_hard_negatives(pairs, model, num_negatives=2, sampling_strategy="random", seed=seed, **options)
        for seed in (1, 1, 2)
    ]
    drawn = [list(zip(m["question"], m["answer"], m["negative"], strict=True)) for m in mine]
    assert len(drawn[0]) == len(peer)
    assert set(drawn[0]) <= allowed
    assert drawn[0] == drawn[1] != drawn[2]


def test_random_negatives_do_not_depend_on_the_order_of_the_rows():
    pairs, documents, model = a_dataset(seed=6)
    options = {"corpus": documents, "sampling_strategy": "random", "max_score": 0.4, "verbose": False}
    forth = mine_hard_negatives(pairs, model, **options)
    back = mine_hard_negatives(pairs.select(range(len(pairs))[::-1]), model, **options)
    assert {tuple(r.values()) for r in forth} == {tuple(r.values()) for r in back}


@pytest.mark.parametrize("sampling_strategy", ["top", "random"])
def test_a_derived_range_max_leaves_no_row_short(sampling_strategy):
    """Difference: the 29 nearest documents are too near, so the peer finds nothing; here the search goes on."""
    scores = {"p": 0.5} | {f"near {i}": 0.625 for i in range(40)} | {"far": 0.25, "farther": -0.25}
    pair = Dataset.from_dict({"anchor": ["q"], "positive": ["p"]})
    options = {
        "corpus": list(scores), "absolute_margin": 0.125, "num_negatives": 2, "verbose": False,
        "sampling_strategy": sampling_strategy,
    }  # fmt: skip
    model = VectorModel(scored(scores))
    assert len(util.mine_hard_negatives(pair, model, **options)) == 0
    assert list(mine_hard_negatives(pair, model, **options)["negative"]) == ["far", "farther"]
    assert len(mine_hard_negatives(pair, model, range_max=30, **options)) == 0


@pytest.mark.parametrize(
    "bound", [{"absolute_margin": 0.125}, {"relative_margin": 0.25}, {"max_score": 0.375}], ids=str
)
def test_a_score_at_the_bound_stays_unless_strict(bound):
    scores = {"p": 0.5, "above": 0.5, "at": 0.375, "below": 0.25}
    pair = Dataset.from_dict({"anchor": ["q"], "positive": ["p"]})
    options = {"corpus": list(scores), "num_negatives": 1, "verbose": False, **bound}
    model = VectorModel(scored(scores))
    peer = util.mine_hard_negatives(pair, model, **options)["negative"][:]
    assert mine_hard_negatives(pair, model, **options)["negative"][:] == peer == ["at"]
    assert mine_hard_negatives(pair, model, strict=True, **options)["negative"][:] == ["below"]


def test_copies_of_query_and_positive_are_negatives_unless_strict():
    scores = {"P": 0.75, "p ": 0.75, "other": 0.5, "another": 0.25, "": 0.125}
    vectors = scored(scores | {"p": 0.75})
    model, pair = VectorModel(vectors), Dataset.from_dict({"anchor": ["q"], "positive": ["p"]})
    options = {"corpus": ["q", *scores], "verbose": False, "num_negatives": 6, "range_max": 7}
    peer = util.mine_hard_negatives(pair, model, **options)["negative"][:]
    assert set(mine_hard_negatives(pair, model, **options)["negative"][:]) == set(peer) == {"q", *scores}
    assert mine_hard_negatives(pair, model, strict=True, **options)["negative"][:] == ["other", "another"]


def test_range_min_counts_what_the_bounds_leave_unless_strict():
    scores = {"p": 0.5, "a": 0.875, "b": 0.75, "c": 0.375, "d": 0.25, "e": 0.125}
    model, pair = VectorModel(scored(scores)), Dataset.from_dict({"anchor": ["q"], "positive": ["p"]})
    options = {"corpus": list(scores), "range_min": 2, "max_score": 0.5, "num_negatives": 1, "verbose": False}
    assert util.mine_hard_negatives(pair, model, **options)["negative"][:] == ["e"]
    assert mine_hard_negatives(pair, model, **options)["negative"][:] == ["e"]
    assert mine_hard_negatives(pair, model, strict=True, **options)["negative"][:] == ["c"]


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("window", [{"range_max": 6, "max_score": 0.6}, {"range_min": 1, "range_max": 8}], ids=str)
def test_the_printed_report_is_the_peers(capsys, output_format, window):
    """All but the counts of what each bound rejected, which the peer counts within its window."""
    pairs, documents, model = a_dataset(seed=8)
    pairs = pairs.select(range(len(pairs) - 2))  # the peer takes repeated rows for missing ones
    options = {"corpus": documents, "output_format": output_format, **window}
    printed = []
    for function in (util.mine_hard_negatives, mine_hard_negatives):
        function(pairs, model, **options)
        lines = capsys.readouterr().out.splitlines()
        printed.append([line for line in lines if not line.startswith(("Skipped", "The weights"))])
    assert printed[0] == printed[1]
    assert len(printed[0]) > 10


def test_what_has_no_effect_is_printed(capsys):
    pairs, documents, model = a_dataset(seed=8)
    options = {"corpus": documents, "max_score": 0.5}
    with_faiss = mine_hard_negatives(pairs, model, use_faiss=True, **options)
    assert "use_faiss=True has no effect" in capsys.readouterr().out
    assert plain(with_faiss) == plain(mine_hard_negatives(pairs, model, verbose=False, **options))
    assert capsys.readouterr().out == ""


def test_a_derived_window_is_searched_deeper_only_without_a_cross_encoder(capsys):
    pairs, documents, model = a_dataset(seed=8)
    options = {"corpus": documents, "min_score": -1}
    mine_hard_negatives(pairs, model, **options)
    assert "Setting range_max to 7 based on the provided parameters. Queries" in capsys.readouterr().out
    mine_hard_negatives(pairs, model, cross_encoder=HashedPairs(), **options)
    assert "Setting range_max to 34 based on the provided parameters.\n" in capsys.readouterr().out


def test_repeated_rows_are_not_missing(capsys):
    """Difference: the peer counts rows, so that repeated ones seem to lack negatives."""
    pairs, documents, model = a_dataset(seed=8)
    mine_hard_negatives(pairs, model, corpus=documents, output_format="labeled-pair")
    assert "Could not find" not in capsys.readouterr().out
    util.mine_hard_negatives(pairs, model, corpus=documents, output_format="labeled-pair")
    assert "Could not find enough negatives for" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        {"faiss_batch_size": 0}, {"output_format": "pairs"}, {"num_negatives": 0}, {"range_min": -2, "range_max": 5},
        {"range_min": 6, "range_max": 6}, {"range_max": 2, "num_negatives": 5}, {"range_max": -3}, {"range_max": 0},
    ],
    ids=str,
)  # fmt: skip
def test_the_errors_are_the_peers(wrong):
    pairs, documents, model = a_dataset(seed=9)
    raised = []
    for function in (util.mine_hard_negatives, mine_hard_negatives):
        with pytest.raises(ValueError) as error:
            function(pairs, model, corpus=documents, verbose=False, **wrong)
        raised.append(str(error.value))
    assert raised[0] == raised[1]


@pytest.mark.parametrize("columns", [{"question": []}, {"question": ["query 1"]}], ids=["empty", "one column"])
def test_datasets_without_pairs_are_refused_as_by_the_peer(columns):
    model = a_dataset(seed=1)[2]
    for function in (util.mine_hard_negatives, mine_hard_negatives):
        with pytest.raises(ValueError, match=r"The dataset is empty|at least two columns"):
            function(Dataset.from_dict(columns), model)


def test_what_the_peer_takes_in_silence_is_refused():
    pairs, _, model = a_dataset(seed=10)
    with pytest.raises(InputError, match="sampling_strategy='best'; choose 'top' or 'random'"):
        mine_hard_negatives(pairs, model, sampling_strategy="best")
    with pytest.raises(InputError, match=r"takes a datasets.Dataset, got DatasetDict; pass one split"):
        mine_hard_negatives(DatasetDict({"train": pairs}), model)
    with pytest.raises(ColumnError, match=r"column 'answer', row 1: expected a text, got None"):
        mine_hard_negatives(Dataset.from_dict({"question": ["a", "b"], "answer": ["c", None]}), model)


def test_deprecated_arguments_and_unknown_columns_warn(caplog):
    pairs, documents, model = a_dataset(seed=11)
    options = {"corpus": documents, "verbose": False}
    old = mine_hard_negatives(pairs, model, as_triplets=False, margin=0.1, anchor_column_name="title", **options)
    new = mine_hard_negatives(pairs, model, output_format="n-tuple", absolute_margin=0.1, **options)
    assert plain(old) == plain(new)
    for part in (
        "`as_triplets` parameter is deprecated",
        "`margin` parameter is deprecated",
        "column 'question' is used",
    ):
        assert part in caplog.text


@pytest.mark.parametrize("output_format", FORMATS)
def test_keep_columns_keeps_every_column(output_format):
    pairs, documents, model = a_dataset(seed=12)
    numbers = list(range(len(pairs)))
    pairs = pairs.add_column("number", numbers).add_column("source", [f"row {i}" for i in numbers])
    options = {"corpus": documents, "output_format": output_format, "verbose": False}
    without = mine_hard_negatives(pairs, model, **options)
    kept = mine_hard_negatives(pairs, model, keep_columns=True, **options)
    assert kept.column_names == [*without.column_names, "number", "source"]
    assert plain(kept.select_columns(without.column_names)) == plain(without)
    for row in kept:
        assert pairs[row["number"]]["question"] == row["question"]
        assert row["source"] == f"row {row['number']}"
        if output_format in ("triplet", "n-tuple"):
            assert pairs[row["number"]]["answer"] == row["answer"]


def test_keep_columns_refuses_a_name_of_the_format():
    pairs, _, model = a_dataset(seed=12)
    pairs = pairs.add_column("label", [0] * len(pairs))
    with pytest.raises(ColumnError, match="'label' of its own"):
        mine_hard_negatives(pairs, model, output_format="labeled-pair", keep_columns=True)
    assert "label" in mine_hard_negatives(pairs, model, keep_columns=True, verbose=False).column_names


def test_the_cross_encoder_is_asked_only_with_a_bound():
    pairs, documents, model = a_dataset(seed=13)
    judge = HashedPairs()
    mine_hard_negatives(pairs, model, corpus=documents, cross_encoder=judge, output_scores=True, verbose=False)
    assert judge.asked == 0
    mine_hard_negatives(pairs, model, corpus=documents, cross_encoder=judge, min_score=-1, verbose=False)
    assert judge.asked > 0


@pytest.fixture
def static_model(tmp_path):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny.static(tmp_path / "static")), device="cpu")


TEXTS = {"query": ["red cat", "blue sky", "green tree"], "passage": ["a cat", "the sky", "a tree of stone"]}


def test_embeddings_are_kept_by_content(static_model, tmp_path, capsys):
    """Fault of the peer: two checkpoints of one base model share its cache."""
    options = {"cache_folder": str(tmp_path / "cache"), "output_scores": True, "num_negatives": 1}
    pairs = Dataset.from_dict(TEXTS)
    first = mine_hard_negatives(pairs, static_model, **options)
    assert "[Cache] Saved corpus embeddings to" in capsys.readouterr().out
    again = mine_hard_negatives(pairs, static_model, **options)
    assert "[Cache] Loaded query embeddings from" in capsys.readouterr().out
    static_model[0].embedding.weight.data = static_model[0].embedding.weight.data.flip(0)
    trained = mine_hard_negatives(pairs, static_model, **options)
    assert "[Cache] Saved corpus embeddings to" in capsys.readouterr().out
    assert plain(first) == plain(again) != plain(trained)
    names = {path.name.split("_embeddings_")[0] for path in (tmp_path / "cache").glob("*.json")}
    assert names == {"query", "corpus"}


def test_prompts_by_name_and_by_text_are_the_same(static_model):
    static_model.prompts = {"ask": "river ", "answer": "house "}
    pairs, options = Dataset.from_dict(TEXTS), {"output_scores": True, "num_negatives": 1, "verbose": False}
    named = {"query_prompt_name": "ask", "corpus_prompt_name": "answer"}
    given = {"query_prompt": "river ", "corpus_prompt": "house "}
    mine = [mine_hard_negatives(pairs, static_model, **o, **options) for o in (named, given, {})]
    assert plain(mine[0]) == plain(mine[1]) != plain(mine[2])
    assert_same(mine[0], util.mine_hard_negatives(pairs, static_model, **named, **options))
    with pytest.raises(ValueError, match="Prompt name 'nothing' not found in the configured prompts"):
        mine_hard_negatives(pairs, static_model, query_prompt_name="nothing", **options)


@pytest.mark.parametrize("similarity", ["dot", "euclidean", "manhattan"])
def test_similarities_compare_unit_vectors_as_in_the_peer(static_model, similarity):
    static_model.similarity_fn_name = similarity
    pairs, options = Dataset.from_dict(TEXTS), {"output_scores": True, "num_negatives": 1, "verbose": False}
    mine, peer = (f(pairs, static_model, **options) for f in (mine_hard_negatives, util.mine_hard_negatives))
    assert mine["negative"][:] == peer["negative"][:]
    np.testing.assert_allclose(mine["scores"][:], peer["scores"][:], rtol=1e-5)
