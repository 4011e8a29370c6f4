"""Rows with several positives: their losses against plain loops with closed gradients, their draws, and their joining."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine.core.errors import ColumnError, InputError, SpecError
from hf_posmine.core.filters import PercPos
from hf_posmine.mining.training_formats import NegativesCollator, to_training
from hf_posmine.training.blend import load_blend, mixed
from hf_posmine.training.collator import RowCollator, has_negatives, positive_columns
from hf_posmine.training.contrast import Contrast, ContrastBatch, row_losses
from hf_posmine.training.convert import Converted, join_positives, retrieval_to_rows
from hf_posmine.training.distillation import Distillation
from hf_posmine.training.losses import CachedInfoNCELoss, InfoNCELoss
from hf_posmine.training.recipe import recipe_from
from hf_posmine.training.row_labels import RowIdentity, row_labels
from hf_posmine.training.stage import prepare, run_stage
from tests.support.stage_runs import recipe, saved_student, told

HOW = ("mean", "log_sum_exp")
ALL_DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def pairs_of(row, keys, in_batch, count, others, directions, ceiling, cos):
    """Every positive (a column) of a row with what it is contrasted with: pairs of places (kind, row, column)."""
    query, documents = keys[:, 0], keys[:, 1:]
    rows, n = documents.shape
    own = {*documents[row, :count].tolist(), *others[row].tolist()}
    limit = None if ceiling is None else ceiling(min(cos["d", row, k] for k in range(count)))
    copies = {(j, k) for j in range(rows) for k in range(count) if documents[j, k] in documents[j, :k]}
    negatives = [("q", row, "d", row, k) for k in range(count, n)]
    for j, k in itertools.product(range(rows), range(n)):
        if j == row or not in_batch[row] or (j, k) in copies or documents[j, k] in {query[row], *own}:
            continue
        if k < count and query[j] == query[row]:
            continue
        if limit is not None and not np.float32(cos["d", j, k]) < np.float32(limit):
            continue
        negatives.append(("q", row, "d", j, k))
    for k in range(count):
        if (row, k) in copies:
            continue
        more = []
        for j in range(rows):
            if "doc_to_query" in directions and (j == row or (in_batch[row] and query[j] not in {query[row], *own})):
                more.append(("p", k, "q", j, 0))
            if j == row or not in_batch[row]:
                continue
            if "query_to_query" in directions and query[j] not in {query[row], *own}:
                more.append(("q", row, "q", j, 0))
            if "doc_to_doc" in directions:
                more += [
                    ("p", k, "d", j, c)
                    for c in range(n)
                    if (j, c) not in copies and documents[j, c] not in {query[row], *own}
                ]
        yield k, negatives + more


def oracle(
    queries, documents, keys, in_batch, count, others, how, temperature, directions=("query_to_doc",), ceiling=None
):
    """Losses by loops over pairs, and the gradients of their mean by the derivative of each pair's similarity."""
    rows, _ = documents.shape[:2]
    q, d = unit(queries), unit(documents)
    losses, of_query, of_document = [], np.zeros_like(queries), np.zeros_like(documents)

    def move(place_a, place_b, slope):
        """Add slope times the gradient of the cosine of two places."""
        for (array, grad, at), (other, _, there) in ((place_a, place_b), (place_b, place_a)):
            a, b = array[at], other[there]
            grad[at] += slope * (unit(b) - (unit(a) @ unit(b)) * unit(a)) / np.linalg.norm(a)

    def place(kind, row, column, row_of_positive=None):
        if kind == "q":
            return queries, of_query, row
        return documents, of_document, ((row_of_positive if kind == "p" else row), column)

    for i in range(rows):
        cos = {("d", j, k): float(q[i] @ d[j, k]) for j in range(rows) for k in range(documents.shape[1])}
        excess = []  # per positive: (column, [(pair, exp((s_n - s_p) / t))])
        for k, pairs in pairs_of(i, keys, in_batch, count, others, directions, ceiling, cos):
            terms = []
            for kind, a, other, j, c in pairs:
                left = d[i, a] if kind == "p" else q[a]
                right = q[j] if other == "q" else d[j, c]
                ends = (place("p", None, a, i) if kind == "p" else place("q", a, None), place(other, j, c))
                terms.append((ends, math.exp((float(left @ right) - float(q[i] @ d[i, k])) / temperature)))
            excess.append((k, terms))
        sums = [sum(value for _, value in terms) for _, terms in excess]
        if how == "mean":
            losses.append(sum(math.log(1 + value) for value in sums) / len(sums))
            scales = [1 / (1 + value) / len(sums) for value in sums]
        else:
            losses.append(math.log(1 + sum(sums)))
            scales = [1 / (1 + sum(sums))] * len(sums)
        for (k, terms), scale in zip(excess, scales, strict=True):
            for (left, right), value in terms:
                move(left, right, scale * value / temperature / rows)
                move(place("q", i, None), place("d", i, k), -scale * value / temperature / rows)
    return losses, of_query, of_document


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 4), count=st.integers(2, 3), n=st.integers(0, 2),
    extra=st.integers(0, 1), keys=st.sampled_from([5, 1000]), mode=st.sampled_from(["on", "off", "mixed"]),
    how=st.sampled_from(HOW), everything=st.booleans(), ceiling=st.booleans(),
)  # fmt: skip
def test_losses_and_gradients_are_those_of_loops_over_pairs(
    seed, rows, count, n, extra, keys, mode, how, everything, ceiling
):
    rng = np.random.default_rng(seed)
    n = count + n + (mode != "on")
    queries, documents = rng.standard_normal((rows, 3)), rng.standard_normal((rows, n, 3))
    texts, others = rng.integers(0, keys, (rows, 1 + n)), rng.integers(0, keys, (rows, extra))
    in_batch = {"on": np.ones(rows, int), "off": np.zeros(rows, int), "mixed": rng.integers(0, 2, rows)}[mode]
    directions = ALL_DIRECTIONS if everything else ("query_to_doc",)
    filter_ = PercPos(0.9) if ceiling else None

    columns = [torch.tensor(c, requires_grad=True) for c in (queries, *documents.swapaxes(0, 1))]
    contrast = Contrast(0.5, false_negatives=filter_, several_positives=how, directions=directions)
    labels = row_labels(in_batch.tolist(), texts, positives=count, others=others if extra else None)
    losses, _ = row_losses(ContrastBatch.of(columns, labels, contrast), contrast)
    losses.mean().backward()

    wanted, of_query, of_document = oracle(
        queries, documents, texts, in_batch, count, others, how, 0.5, directions,
        (lambda lowest: float(np.float32(lowest)) - abs(float(np.float32(lowest))) * (1 - 0.9)) if ceiling else None,
    )  # fmt: skip
    np.testing.assert_allclose(losses.detach(), wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(columns[0].grad, of_query, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(torch.stack([c.grad for c in columns[1:]], 1), of_document, rtol=1e-7, atol=1e-10)


def losses_of(columns, labels, how, **options):
    contrast = Contrast(0.1, several_positives=how, **options)
    leaves = [c.clone().requires_grad_() for c in columns]
    losses, counts = row_losses(ContrastBatch.of(leaves, labels, contrast), contrast)
    losses.sum().backward()
    return losses.detach(), [leaf.grad for leaf in leaves], counts


@given(seed=st.integers(0, 2**32 - 1), how=st.sampled_from(HOW), n=st.integers(0, 3))
@settings(deadline=None, max_examples=20)
def test_one_positive_is_today_s_loss(seed, how, n):
    """To the bit with one column; up to rounding where a second one repeats it, and then without a gradient of its own."""
    rng = np.random.default_rng(seed)
    columns = [torch.tensor(rng.standard_normal((4, 6))) for _ in range(2 + n)]
    keys = rng.integers(0, 9, (4, 2 + n))
    plain, gradients, counts = losses_of(columns, row_labels([1] * 4, keys), "rows")
    same, same_gradients, _ = losses_of(columns, row_labels([1] * 4, keys), how)
    assert torch.equal(plain, same) and all(map(torch.equal, gradients, same_gradients))
    repeated = [columns[0], columns[1], columns[1], *columns[2:]]
    labels = row_labels([1] * 4, np.insert(keys, 2, keys[:, 1], axis=1), positives=2)
    again, again_gradients, again_counts = losses_of(repeated, labels, how)
    torch.testing.assert_close(again, plain, rtol=1e-10, atol=1e-12)
    assert not again_gradients[2].any() and torch.equal(counts, again_counts)
    for before, after in zip(gradients, [*again_gradients[:2], *again_gradients[3:]], strict=True):
        torch.testing.assert_close(after, before, rtol=1e-8, atol=1e-11)


@given(seed=st.integers(0, 2**32 - 1), how=st.sampled_from(HOW), order=st.permutations([0, 1, 2]))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_positives_changes_nothing(seed, how, order):
    rng = np.random.default_rng(seed)
    columns = [torch.tensor(rng.standard_normal((4, 6))) for _ in range(6)]
    keys = rng.integers(0, 14, (4, 6))
    moved = [0, *(1 + at for at in order), 4, 5]
    options = {"false_negatives": PercPos(0.95), "directions": ALL_DIRECTIONS}
    # equal keys stand for equal texts, which a model gives equal vectors: so they have them here
    for row, column in itertools.product(range(4), range(1, 4)):
        first = 1 + int(np.flatnonzero(keys[row, 1:4] == keys[row, column])[0])
        columns[column][row] = columns[first][row]
    before = losses_of(columns, row_labels([1, 1, 0, 1], keys, positives=3), how, **options)
    after = losses_of(
        [columns[at] for at in moved], row_labels([1, 1, 0, 1], keys[:, moved], positives=3), how, **options
    )
    torch.testing.assert_close(after[0], before[0], rtol=1e-10, atol=1e-12)
    assert torch.equal(before[2], after[2])


def test_all_pairs_together_are_at_least_the_mean_and_pull_at_the_lowest_positive():
    queries = torch.tensor([[1.0, 0.0]])
    high, low, negative = (torch.tensor([[math.cos(a), math.sin(a)]]) for a in (0.1, 0.9, 0.5))
    labels = row_labels([0], np.array([[1, 2, 3, 4]]), positives=2)
    mean, of_mean, _ = losses_of([queries, high, low, negative], labels, "mean")
    pairs, of_pairs, _ = losses_of([queries, high, low, negative], labels, "log_sum_exp")
    assert pairs > mean
    share = [float(g[1].norm() / (g[1].norm() + g[2].norm())) for g in (of_mean, of_pairs)]
    assert share[1] < share[0] < 0.5  # of the pull, what goes to the positive that is high already


@pytest.mark.parametrize("how", HOW)
def test_a_row_with_nothing_to_be_contrasted_with_has_loss_zero_and_no_gradient(how):
    columns = [torch.randn(3, 4) for _ in range(3)]
    labels = row_labels([1] * 3, np.array([[7, 8, 9]] * 3), positives=2)  # all rows have the same positives
    losses, gradients, _ = losses_of(columns, labels, how)
    assert not losses.any() and all(g.isfinite().all() and not g.any() for g in gradients)


@pytest.mark.parametrize("how", HOW)
def test_the_cached_loss_is_the_plain_one(how):
    torch.manual_seed(3)
    columns = [torch.randn(7, 8, dtype=torch.float64) for _ in range(5)]
    keys = np.random.default_rng(3).integers(0, 40, (7, 5))
    labels = row_labels([1, 0] * 3 + [1], keys, positives=3)
    options = {"false_negatives": "PercPos(0.9)", "several_positives": how, "directions": ALL_DIRECTIONS}
    plain = [c.clone().requires_grad_() for c in columns]
    value = InfoNCELoss(None, **options).compute_loss_from_embeddings(plain, labels)
    value.backward()
    parts = [[c[:4].clone().requires_grad_(), c[4:].clone().requires_grad_()] for c in columns]
    cached = CachedInfoNCELoss(torch.nn.Sequential(torch.nn.Identity()), mini_batch_size=3, **options)
    torch.testing.assert_close(cached.calculate_loss(parts, labels, with_backward=True), value.detach())
    for column, pieces in zip(plain, parts, strict=True):
        torch.testing.assert_close(column.grad, torch.cat([p.grad for p in pieces]), rtol=1e-9, atol=1e-12)


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(SpecError, match="several_positives='some'"):
        Contrast(several_positives="some")
    with pytest.raises(SpecError, match="distillation, which has the scores of one positive"):
        Contrast(several_positives="mean", distillation=Distillation())
    columns = [torch.randn(2, 4) for _ in range(4)]
    labels = row_labels([0, 0], np.arange(8).reshape(2, 4), positives=2)
    for how in ("rows", "random"):
        with pytest.raises(InputError, match=f"2 positive columns and several_positives='{how}'"):
            InfoNCELoss(None, several_positives=how).compute_loss_from_embeddings(columns, labels)
    with pytest.raises(InputError, match="no negative columns"):
        InfoNCELoss(None, several_positives="mean").compute_loss_from_embeddings(columns[:3], labels[:, :-1])


# ---------------------------------------------------------------- the collator


def collate(rows, **options):
    """The labels, and the texts of each column as the model got them."""
    seen = {}

    def preprocess(items, prompt=None, task=None):
        seen[len(seen)] = items
        return {"input_ids": torch.zeros(len(items), 1)}

    batch = RowCollator(preprocess, **options)(rows)
    names = [key.removesuffix("_input_ids") for key in batch if key.endswith("_input_ids")]
    return RowIdentity.from_labels(batch["label"], len(names) - 1, True), dict(zip(names, seen.values(), strict=True))


ROWS = [
    {"query": f"q{i}", "positive": f"a{i}", "positive_2": f"b{i}", "positive_3": f"a{i}", "negative_1": f"n{i}"}
    for i in range(64)
]


def test_positive_columns_are_known_by_name_and_place():
    assert positive_columns(["anchor", "answer", "positive_2", "negative", "positive_3"]) == ["answer", "positive_2"]
    assert positive_columns(["query"]) == [] and positive_columns([]) == []
    assert has_negatives(["query", "positive", "positive_2", "negative_1"])
    assert not has_negatives(["query", "positive", "positive_2", "query_instruction"])


def test_all_positives_of_a_row_reach_the_loss_and_repeated_ones_are_known():
    identity, seen = collate(ROWS[:2])
    assert list(seen) == ["query", "positive", "positive_2", "positive_3", "negative_1"]
    assert identity.positives == 3 and identity.others is None
    assert identity.copies.tolist() == [[False, False, True, False]] * 2


def test_one_positive_is_drawn_by_seed_epoch_and_text_alone():
    identity, seen = collate(ROWS, one_positive=True, seed=3)
    assert list(seen) == ["query", "positive", "negative_1"] and identity.positives == 1
    drawn = seen["positive"]
    assert all(text in (row["positive"], row["positive_2"]) for text, row in zip(drawn, ROWS, strict=True))
    assert 16 < sum(text[0] == "a" for text in drawn) < 48  # each distinct text is as likely
    # A document that is the positive left out is no negative of the row.
    whole, _ = collate([{**row, "positive_3": row["positive_2"]} for row in ROWS])
    assert torch.equal(identity.others[:, :2], whole.documents[:, :2])
    assert collate(ROWS[::-1], one_positive=True, seed=3)[1]["positive"] == drawn[::-1]
    assert collate(ROWS, one_positive=True, seed=3, epoch=1)[1]["positive"] != drawn
    assert collate(ROWS, one_positive=True, seed=4)[1]["positive"] != drawn
    one, _ = collate([{"query": "q", "positive": "p"}], one_positive=True)
    assert one.others is None


def test_the_instruction_of_a_drawn_positive_comes_with_it():
    row = {"query": "q", "positive": "a", "positive_instruction": "A", "positive_2": "b", "positive_2_instruction": "B"}
    seen = {collate([row], one_positive=True, epoch=epoch)[1]["positive"][0] for epoch in range(20)}
    assert seen == {("A", "a"), ("B", "b")}


def test_a_positive_that_is_no_text_is_refused_when_it_could_be_drawn():
    with pytest.raises(ColumnError, match="'positive_2' holds NoneType in row 0"):
        collate([{"query": "q", "positive": "p", "positive_2": None, "negative_1": "n"}], one_positive=True)


# ---------------------------------------------------------------- joining


def joined_by_loops(rows, most, n):
    """Rows of one query joined: sets of strings, one row at a time."""
    made, queries = [], []
    for row in rows:
        if row["query"].lower() not in queries:
            queries.append(row["query"].lower())
    for query in queries:
        own = [row for row in rows if row["query"].lower() == query]
        positives = list({row["positive"].lower(): None for row in own})
        negatives = []
        for at in range(1, n + 1):
            for row in own:
                text = row[f"negative_{at}"].lower()
                if text not in positives and text not in negatives:
                    negatives.append(text)
        parts = -(-len(positives) // most)
        for part in range(parts):
            size = [len(positives) // parts + (i < len(positives) % parts) for i in range(parts)]
            taken = positives[sum(size[:part]) : sum(size[: part + 1])]
            chosen = [negatives[(part * n + i) % len(negatives)] for i in range(n)] if len(negatives) >= n else None
            made.append((query, taken, chosen))
    return made


words = st.sampled_from(["a", "A", "b", "c", "d", "e"])


@given(st.lists(st.tuples(st.sampled_from(["q", "Q", "r", "s"]), words, words, words), min_size=1, max_size=12),
       st.integers(1, 3), st.integers(0, 2))  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_joined_rows_are_those_of_loops(given_rows, most, n):
    names = ["query", "positive", *(f"negative_{i + 1}" for i in range(n))]
    rows = [dict(zip(names, row, strict=False)) for row in given_rows]
    wanted = joined_by_loops(rows, most, n)
    kept = [entry for entry in wanted if entry[2] is not None]
    source = Converted(Dataset.from_list(rows), {"rows_in": len(rows), "rows_out": len(rows)})
    if not kept:
        with pytest.raises(InputError, match="no row is left"):
            join_positives(source, most)
        return
    made = join_positives(source, most)
    width = max(len(positives) for _, positives, _ in kept)
    names = ["query", "positive", *(f"positive_{i}" for i in range(2, width + 1)), *names[2:]]
    assert made.dataset.column_names == names
    for row, (query, positives, negatives) in zip(made.dataset, kept, strict=True):
        values = [text.lower() for text in row.values()]
        assert values == [query, *(positives[i % len(positives)] for i in range(width)), *negatives]
    assert made.counts["rows_out"] == len(kept) and made.counts["dropped_few_negatives"] == len(wanted) - len(kept)
    assert made.counts["rows_with_several_positives"] == sum(len(positives) > 1 for _, positives, _ in kept)


def test_what_cannot_be_joined_is_refused():
    scored = Dataset.from_dict({"query": ["q"], "positive": ["p"], "negative_1": ["n"], "scores": [[1.0, 0.5]]})
    with pytest.raises(InputError, match="scores are of one positive"):
        join_positives(Converted(scored), 2)
    with pytest.raises(InputError, match="stream"):
        join_positives(Converted(IterableDataset.from_generator(lambda: iter([{"query": "q", "positive": "p"}]))), 2)


# ---------------------------------------------------------------- judged positives


JUDGED = {
    "query": ["q", "r", "s"],
    "positive": ["p", ["s", "u"], "v"],
    "negatives": [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]],
    "judged_positives": [["x", "y"], [], None],
}


@pytest.fixture
def judged(tmp_path):
    rows = {**JUDGED, "positive": [["p"], ["s", "u"], ["v"]]}
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "judged.parquet"))
    return tmp_path / "judged.parquet"


def spec(path, **changes):
    return {"name": "mine", "path": str(path), "task": "retrieval", "instruction": "", **changes}


def test_judged_positives_become_rows_or_columns_and_can_be_left_out(judged):
    blend = load_blend([spec(judged)], num_negatives=2)
    assert Counter(blend.datasets["mine"]["query"]) == {"q": 3, "r": 2, "s": 1}
    assert "judged_positives: judged_positives" in str(blend.columns["mine"])
    rows = load_blend([spec(judged)], num_negatives=2, num_positives=2).datasets["mine"]
    assert [tuple(row.values()) for row in rows.remove_columns("in_batch_negatives")] == [
        ("q", "p", "x", "a", "c"), ("q", "y", "y", "b", "a"), ("r", "s", "u", "d", "f"), ("s", "v", "v", "g", "h"),
    ]  # fmt: skip
    left_out = load_blend([spec(judged, judged_positives=False)], num_negatives=2)
    assert Counter(left_out.datasets["mine"]["query"]) == {"q": 1, "r": 2, "s": 1}
    assert "judged_positives" not in str(left_out.columns["mine"])


def test_judged_positives_that_are_not_there_or_have_no_score_are_refused(judged, tmp_path):
    with pytest.raises(ColumnError, match=r"no column 'judged_positives'.*--action relabel"):
        Dataset.from_parquet(str(judged)).remove_columns("judged_positives").to_parquet(str(tmp_path / "plain.parquet"))
        load_blend([spec(tmp_path / "plain.parquet", judged_positives=True)])
    with pytest.raises(InputError, match="judged_positives has no effect on the task 'sts'"):
        load_blend([spec(judged, task="sts", judged_positives=True, mine={})])
    rows = Dataset.from_parquet(str(judged)).select([0])
    scored = rows.add_column("positive_score", [0.9]).add_column("negatives_scores", [[0.3, 0.2, 0.1]])
    with pytest.raises(
        ColumnError, match=r"row 0 has several positives, judged_positives among them.*judged_positives: false"
    ):
        retrieval_to_rows(scored, "query", "positive", None, "judged_positives", num_negatives=2,
                          scores=("positive_score", "negatives_scores"))  # fmt: skip


def test_the_formats_of_other_trainers_have_judged_positives(judged):
    mined = Dataset.from_parquet(str(judged))
    assert Counter(to_training(mined, "n-tuple", 2)["query"]) == {"q": 3, "r": 2, "s": 1}
    assert to_training(mined, "n-tuple", 2, positives="first")["positive"][:] == ["p", "s", "v"]
    assert to_training(mined.select([0]), "labeled-list", 1)[0] == {
        "query": "q", "documents": ["p", "x", "y", "a"], "labels": [1, 1, 1, 0],
    }  # fmt: skip
    with pytest.raises(InputError, match="several positives"):
        to_training(mined, "n-tuple", 2, lazy=True)
    every = NegativesCollator(lambda rows: rows, num_negatives=1, positives="all")
    assert [row["positive"] for row in every([mined[0], mined[2]])] == ["p", "x", "y", "v"]
    with pytest.raises(InputError, match="has 3 positives"):
        NegativesCollator(lambda rows: rows, num_negatives=1)([mined[0]])


def test_mixed_batches_fill_the_positives_of_a_set_that_has_one(judged, tmp_path):
    Dataset.from_dict({"query": ["t"], "positive": ["w"], "negatives": [["j", "k"]]}).to_parquet(
        str(tmp_path / "one.parquet")
    )
    sets = [spec(judged), spec(tmp_path / "one.parquet", name="one")]
    rows = mixed(load_blend(sets, num_negatives=2, num_positives=4))
    assert rows.column_names[:4] == ["query", "positive", "positive_2", "positive_3"]
    assert list(rows[len(rows) - 1].values())[:4] == ["t", "w", "w", "w"]


# ---------------------------------------------------------------- stages


LEAST = {"model": "m", "datasets": [spec("a.parquet")], "output_dir": "out"}


def test_the_keys_of_a_recipe():
    assert recipe_from(LEAST).positives_per_row == 1
    assert recipe_from({**LEAST, "several_positives": "mean"}).positives_per_row == 4
    assert recipe_from({**LEAST, "several_positives": "random", "num_positives": 2}).positives_per_row == 2
    with pytest.raises(InputError, match="num_positives=2 has no effect"):
        recipe_from({**LEAST, "num_positives": 2})
    with pytest.raises(InputError, match="several_positives='all'"):
        recipe_from({**LEAST, "several_positives": "all"})
    with pytest.raises(InputError, match="num_positives=0"):
        recipe_from({**LEAST, "several_positives": "mean", "num_positives": 0})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen queries with one labelled and one judged positive, and a student without dropout."""
    folder = tmp_path_factory.mktemp("several")
    saved_student(folder / "still", dropout=0.0)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 60, 4)) for _ in range(80)]
    columns = {"query": texts[:16], "positive": texts[16:32], "judged_positives": [[text] for text in texts[32:48]]}
    negatives = [[texts[48 + i], texts[64 + i]] for i in range(16)]
    Dataset.from_dict({**columns, "negatives": negatives}).to_parquet(str(folder / "pairs.parquet"))
    return folder


def stage(folder, output, how, **changes):
    made = told(folder / "still" / "st", folder / "pairs.parquet", output, several_positives=how, **changes)
    return {**made, "datasets": [spec(folder / "pairs.parquet", num_negatives=2)], "max_steps": 4}


@pytest.mark.parametrize("how", ["random", "log_sum_exp"])
def test_a_stage_learns_from_several_positives(folder, tmp_path, how):
    model = run_stage(recipe(tmp_path, stage(folder, tmp_path / "out", how)))
    trainer, blend = prepare(recipe(tmp_path, stage(folder, tmp_path / "new", how)))
    assert "positive_2" in blend.datasets["mine"].column_names and len(blend.datasets["mine"]) == 16
    before, after = (m.encode(["w1 w2 w3"]) for m in (trainer.model, model))
    assert not np.array_equal(before, after)


def test_a_random_positive_is_drawn_anew_in_each_epoch_and_again_by_a_resumed_run(folder, tmp_path):
    made = stage(folder, tmp_path / "out", "random", per_device_train_batch_size=4, gradient_accumulation_steps=1)
    trainer, _ = prepare(recipe(tmp_path, {**made, "max_steps": 8}))
    drawn = []
    plain = RowCollator._drawn
    trainer.data_collator._drawn = lambda *args: (drawn.append(found := plain(trainer.data_collator, *args)), found)[1]
    trainer.train()
    by_epoch = [{row["query"]: row["positive"] for rows, _ in drawn[e * 4 : e * 4 + 4] for row in rows} for e in (0, 1)]
    assert by_epoch[0].keys() == by_epoch[1].keys() and len(by_epoch[0]) == 16
    assert by_epoch[0] != by_epoch[1]
    again = RowCollator(lambda items: items, one_positive=True, seed=trainer.args.seed, epoch=1)
    rows = [dict(row) for row in trainer.train_dataset]
    features, _ = again._drawn(rows, "query", ["positive", "positive_2"])
    assert {row["query"]: row["positive"] for row in features} == by_epoch[1]


def test_workers_that_stay_are_refused_where_positives_are_drawn(folder, tmp_path):
    changes = {"dataloader_persistent_workers": True, "dataloader_num_workers": 1}
    with pytest.raises(InputError, match="dataloader_persistent_workers"):
        prepare(recipe(tmp_path, stage(folder, tmp_path / "out", "random", **changes)))


@pytest.mark.parametrize("how", ["random", "mean"])
def test_rows_that_are_mined_again_within_a_run_keep_their_positives(folder, tmp_path, how):
    rows = Dataset.from_parquet(str(folder / "pairs.parquet")).remove_columns("negatives")
    rows.to_parquet(str(tmp_path / "pairs.parquet"))
    made = stage(folder, tmp_path / "out", how, per_device_train_batch_size=4, remine_steps=2, round_ceiling="student")
    mine = {"teacher": str(folder / "still" / "st"), "filters": []}
    made["datasets"] = [spec(tmp_path / "pairs.parquet", num_negatives=2, mine=mine)]
    run_stage(recipe(tmp_path, made))
    own = {row["query"]: {row["positive"], *row["judged_positives"]} for row in rows}
    mined = Dataset.from_parquet(str(tmp_path / "out" / "remined" / "step-000002" / "mine.parquet"))
    assert len(mined) == len(own) == 16
    for row in mined:
        assert row["positive"] in own[row["query"]]
        assert not own[row["query"]] & {row["negative_1"], row["negative_2"]}
