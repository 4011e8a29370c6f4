"""Stages on rows with images: from mined rows to a model that plain sentence-transformers loads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hf_posmine import PositiveAwareMiner, mine, to_training
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.data.images import image_name
from hf_posmine.evaluation import evaluate_retrieval, load_collection
from hf_posmine.mining import SecondOpinion
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.training.blend import load_blend
from hf_posmine.training.rounds import round_recipe, run_rounds
from hf_posmine.training.stage import prepare, run_stage
from tests.support import tiny
from tests.support.pages import encoded, page, pages
from tests.support.stage_runs import recipe, saved_student, told

pytest.importorskip("accelerate")
TEXTS = [f"page {number} of the book" for number in range(12)]
STEPS, TEMPERATURE = 2, 0.05
ALONE = {
    "temperature": TEMPERATURE,
    "num_train_epochs": None,
    "max_steps": STEPS,
    "save_strategy": "no",
    "save_steps": None,
}


def files(images) -> list:
    """Photographs, which lose something whenever they are saved again."""
    return [{"bytes": encoded(image, "JPEG", quality=60), "path": None} for image in images]


def typed(**columns) -> Dataset:
    """Columns of texts, images, or lists of images."""
    kinds = {
        name: Value("string") if isinstance(values[0], str)
        else List(ImageFeature()) if isinstance(values[0], list) and isinstance(values[0][0], dict)
        else List(Value("string")) if isinstance(values[0], list)
        else ImageFeature()
        for name, values in columns.items()
    }  # fmt: skip
    return Dataset.from_dict(columns, features=Features(kinds))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny.clip(tmp_path_factory.mktemp("models") / "clip")


def queries_of(kind) -> list:
    return TEXTS if kind == "texts" else files(image.rotate(180) for image in pages(TEXTS))


def judged(folder, queries) -> str:
    """The pages and the queries as ViDoRe has them."""
    folder.mkdir()
    names = [[f"{letter}{n}" for n in range(len(TEXTS))] for letter in "qp"]
    typed(**{"corpus-id": names[1], "image": files(pages(TEXTS))}).to_parquet(str(folder / "corpus.parquet"))
    asked = {"query-id": names[0], "query" if isinstance(queries[0], str) else "image": queries}
    typed(**asked).to_parquet(str(folder / "queries.parquet"))
    rows = {"query-id": names[0], "corpus-id": names[1], "score": [1] * len(TEXTS)}
    Dataset.from_dict(rows).to_parquet(str(folder / "qrels.parquet"))
    return str(folder)


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_from_mined_rows_to_an_evaluated_model(fresh_home, tmp_path, clip, kind):
    pairs = typed(query=queries_of(kind), image=files(pages(TEXTS)))
    mined = mine(pairs, PositiveAwareMiner.from_dataset(pairs, str(clip), num_negatives=2, filters=()))
    assert "negatives" not in mined.column_names
    mined.to_parquet(str(tmp_path / "mined.parquet"))
    place = judged(tmp_path / "judged", pairs.with_format("arrow")[:]["query"].to_pylist())
    blend = [{"name": "pages", "path": str(tmp_path / "mined.parquet"), "task": "retrieval", "instruction": ""}]
    out = tmp_path / "out"
    run_stage(recipe(tmp_path, told(clip, place, out, datasets=blend, evals=[{"path": place}], **ALONE)))

    before, after = (SentenceTransformer(str(folder), device="cpu") for folder in (clip, out))
    old = dict(before.named_parameters())
    moved = [name for name, weights in after.named_parameters() if not torch.equal(weights, old[name])]
    assert any("vision" in name for name in moved) and any("text" in name for name in moved) == (kind == "texts")
    found = evaluate_retrieval(after, load_collection(place)).means["ndcg@10"]
    assert json.loads((out / "eval_results.json").read_text())["eval_judged_ndcg@10"] == pytest.approx(found, abs=1e-6)
    documents, queries = (after.encode(pairs[column][:], normalize_embeddings=True) for column in ("image", "query"))
    ranks = (-(queries @ documents.T)).argsort(axis=1).argsort(axis=1).diagonal()
    assert found == pytest.approx(np.mean(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)), abs=1e-6)
    card, record = (out / "README.md").read_text(), json.loads((out / "provenance.json").read_text())
    assert "min: 64x48 px" in card and "image:" not in card
    assert record["stages"][0]["datasets"][0]["columns"]["negatives"] == "negatives_ids"


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_the_loss_is_that_of_the_stock_trainer(fresh_home, tmp_path, clip, kind):
    """Where no document comes twice, so that nothing is masked, and one batch holds all rows, so that order is nothing."""
    others = files(page(f"another {n}") for n in range(24))
    rows = typed(
        query=queries_of(kind), image=files(pages(TEXTS)), negatives=[others[2 * n : 2 * n + 2] for n in range(12)]
    )
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    entry = {"name": "pages", "path": str(tmp_path / "rows.parquet"), "task": "retrieval", "instruction": ""}
    common = {"per_device_train_batch_size": 12, "learning_rate": 1e-3}
    trainer, _ = prepare(recipe(tmp_path, told(clip, tmp_path, tmp_path / "ours", datasets=[entry], **ALONE | common)))
    trainer.train()

    args = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "stock"), max_steps=STEPS, logging_steps=1, lr_scheduler_type="constant", report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True, seed=3, **common,
    )  # fmt: skip
    model = SentenceTransformer(str(clip), device="cpu")
    stock = SentenceTransformerTrainer(
        model=model, args=args, train_dataset=to_training(rows, "n-tuple", 2),
        loss=MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE),
    )  # fmt: skip
    stock.train()
    ours, theirs = ([line["loss"] for line in one.state.log_history if "loss" in line] for one in (trainer, stock))
    assert len(ours) == STEPS and ours == pytest.approx(theirs, abs=1e-4)
    assert ours[0] != pytest.approx(ours[1], abs=1e-4)


def test_a_recipe_mines_images_as_python_does(fresh_home, tmp_path, clip):
    pairs, extra = typed(query=TEXTS, image=files(pages(TEXTS))), files(page(f"another {n}") for n in range(8))
    pairs.to_parquet(str(tmp_path / "pairs.parquet"))
    typed(image=[*files(pages(TEXTS)), *extra]).to_parquet(str(tmp_path / "book.parquet"))
    options = {"filters": ["MarginPos(0.0001)"], "on_short": "drop"}
    how = {"teacher": str(clip), "corpus": str(tmp_path / "book.parquet"), **options}
    entry = {
        "name": "pages",
        "path": str(tmp_path / "pairs.parquet"),
        "task": "retrieval",
        "instruction": "",
        "mine": how,
    }
    blend = load_blend([entry], num_negatives=2, seed=0)
    miner = PositiveAwareMiner.from_dataset(
        pairs, str(clip), corpus=str(tmp_path / "book.parquet"), num_negatives=2, **options
    )
    mined = mine(pairs, miner)
    rows = blend.datasets["pages"]
    assert [[row["negative_1"], row["negative_2"]] for row in rows] == mined["negatives_ids"][:]
    assert rows["positive"][:] == [image_name(image) for image in mined["image"]]
    assert {name for column in ("positive", "negative_1", "negative_2") for name in rows[column]} == set(
        blend.images.texts(np.arange(len(blend.images))).to_pylist()
    )


@pytest.fixture(scope="module")
def other_clip(clip, tmp_path_factory):
    """A teacher with other weights than the student."""
    model, rng = SentenceTransformer(str(clip), device="cpu"), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.05 * torch.randn(weights.shape, generator=rng)
    folder = tmp_path_factory.mktemp("models") / "other"
    model.save(str(folder))
    return folder


def unit_vectors(model, pairs) -> list[np.ndarray]:
    """Of queries and pages, float64, by plain sentence-transformers."""
    made = [SentenceTransformer(str(model), device="cpu").encode(pairs[column][:]) for column in ("query", "image")]
    return [one.astype(np.float64) / np.linalg.norm(one, axis=1, keepdims=True) for one in made]


def below(own, share):
    """The ceiling of ``PercPos``, also for scores below zero."""
    return own - abs(own) * (1 - share)


def prepared(folder, model, kind, **changes):
    """The trainer of a stage on pairs of queries and pages, and the pairs."""
    pairs = typed(query=queries_of(kind), image=files(pages(TEXTS)))
    pairs.to_parquet(str(folder / "pairs.parquet"))
    entry = {"name": "pages", "path": str(folder / "pairs.parquet"), "task": "retrieval", "instruction": ""}
    one = {"datasets": [{**entry, "num_negatives": 0}], "num_negatives": None}
    said = told(model, folder, folder / "out", **one, **{"per_device_train_batch_size": 12, **ALONE, **changes})
    return prepare(recipe(folder, said))[0], pairs


def test_a_plan_of_images_counts_steps_and_weights_and_no_tokens(fresh_home, tmp_path, clip, capsys):
    trainer, _ = prepared(tmp_path, clip, "texts", per_device_train_batch_size=5, max_steps=None, num_train_epochs=2)
    weights = sum(one.numel() for one in trainer.model.parameters())
    capsys.readouterr()
    assert main(["train", "--config", str(tmp_path / "recipe.yaml"), "--dry-run", "--node", "8xA100"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        f", {weights / 1e6:,.1f} M weights, all trained batch 5 rows per optimizer step" in shown
        and " steps 6 loss" in shown
    )
    assert " tokens not estimated, as the student reads images; nor are the hours on 8 A100" in shown
    assert (
        f" memory {16 * weights / 2**30:.2f} GiB for weights, gradients and Adam, and the activations of a step"
        in shown
    )
    assert "operations" not in shown


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_a_guide_of_images_decides_what_the_loss_leaves_out(fresh_home, tmp_path, clip, other_clip, kind):
    ceiling = {"false_negatives": "PercPos(0.98)", "guide": str(other_clip)}
    trainer, pairs = prepared(tmp_path, clip, kind, **ceiling, max_steps=1)
    trainer.train()
    asked, found = unit_vectors(other_clip, pairs)
    by_guide = asked @ found.T
    out = by_guide >= below(by_guide.diagonal(), 0.98)[:, None]
    np.fill_diagonal(out, False)
    assert 12 < out.sum() < 100
    queries, documents = unit_vectors(clip, pairs)
    logits = np.where(out, -np.inf, queries @ documents.T / TEMPERATURE)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits.diagonal()
    (loss,) = (line["loss"] for line in trainer.state.log_history if "loss" in line)
    assert loss == pytest.approx(losses.mean(), abs=1e-4)


@pytest.mark.parametrize("kind", ["texts", "images"])
def test_near_rows_of_images_are_found_below_the_ceiling(fresh_home, tmp_path, clip, other_clip, kind):
    near = {"teacher": str(other_clip), "ceiling": "PercPos(0.99)", "k": 3}
    trainer, pairs = prepared(tmp_path, clip, kind, neighbours=near)
    sampler = trainer.get_train_dataloader().batch_sampler
    queries, documents = unit_vectors(other_clip, pairs)
    scores = queries @ documents.T
    names = [image_name(image) for image in pairs["image"]]
    corpus = sampler.near.guide.teacher.corpus
    total = 0
    for row in range(len(pairs)):
        limit = below(scores[row, row], 0.99)
        wanted = [n for n in np.argsort(-scores[row]) if n != row and scores[row, n] < limit][:3]
        found = corpus.texts(sampler.near.near[row][: len(wanted)]).to_pylist()
        assert found == [names[n] for n in wanted] and (sampler.near.near[row][len(wanted) :] == -1).all()
        total += len(found)
    assert total > 12
    trainer.train()
    assert len([line for line in trainer.state.log_history if "loss" in line]) == STEPS


def test_the_second_round_learns_from_the_pages_that_the_student_found(fresh_home, tmp_path, clip, other_clip):
    pairs, extra = typed(query=TEXTS, image=files(pages(TEXTS))), files(page(f"another {n}") for n in range(8))
    pairs.to_parquet(str(tmp_path / "pairs.parquet"))
    book = str(tmp_path / "book.parquet")
    typed(image=[*files(pages(TEXTS)), *extra]).to_parquet(book)
    entry = {"name": "pages", "path": str(tmp_path / "pairs.parquet"), "task": "retrieval", "instruction": ""}
    entry["mine"] = {"teacher": str(other_clip), "corpus": book, "filters": ["MarginPos(0.0001)"]}
    read = recipe(tmp_path, told(clip, tmp_path, tmp_path / "out", datasets=[entry], rounds=2, **ALONE))
    _, (first, second) = run_rounds(read)
    before, after = (
        load_blend(round_recipe(read, number, "").contrastive.datasets, num_negatives=2, seed=3) for number in (1, 2)
    )
    opinion = SecondOpinion(str(other_clip), "MarginPos(0.0001)")
    miner = PositiveAwareMiner.from_dataset(
        pairs, first.folder, corpus=book, second_opinion=opinion, filters=(), num_negatives=2, seed=3, on_short="drop"
    )
    mined = mine(pairs, miner)
    found, earlier = (
        {row["query"]: [row["negative_1"], row["negative_2"]] for row in blend.datasets["pages"]}
        for blend in (after, before)
    )
    assert found == dict(zip(mined["query"], mined["negatives_ids"], strict=True))
    new = sum(len(set(names) - set(earlier.get(query, ()))) for query, names in found.items())
    assert second.changed == {"pages": pytest.approx(new / (2 * len(mined)))} and new


def test_ids_of_texts_are_read_from_the_corpus(tmp_path):
    Dataset.from_dict({"id": ["a", "b", "c"], "text": ["one", "two", "three"]}).to_parquet(str(tmp_path / "c.parquet"))
    rows = {"query": ["q"], "positive_id": ["a"], "negatives_ids": [["c", "b"]]}
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "rows.parquet"))
    entry = {"name": "ids", "path": str(tmp_path / "rows.parquet"), "task": "retrieval", "instruction": ""}
    blend = load_blend([{**entry, "corpus": str(tmp_path / "c.parquet"), "num_negatives": 2}])
    (row,) = blend.datasets["ids"]
    assert [row[name] for name in ("query", "positive", "negative_1", "negative_2")] == ["q", "one", "three", "two"]
    Dataset.from_dict({**rows, "positive": ["one"]}).remove_columns("positive_id").to_parquet(
        str(tmp_path / "rows.parquet")
    )
    with pytest.raises(InputError, match="'negatives_ids' holds ids; give corpus: with the documents that they name"):
        load_blend([entry])


def test_what_images_cannot_have_is_refused(fresh_home, tmp_path, clip):
    rows = typed(
        query=queries_of("images"), positive=files(pages(TEXTS)), negatives_ids=[[image_name(pages(TEXTS)[3])]] * 12
    )
    place = str(tmp_path / "rows.parquet")
    rows.select([0, 1, 2, *range(4, 12)]).to_parquet(place)
    entry = {"name": "pages", "path": place, "task": "retrieval", "instruction": ""}
    with pytest.raises(InputError, match="'negatives_ids': the corpus has no document with id 'image:"):
        load_blend([entry])
    rows.select(range(3)).remove_columns("negatives_ids").to_parquet(place)
    with pytest.raises(InputError, match="column 'query' holds images, and the instruction 'Find' is for texts"):
        load_blend([{**entry, "instruction": "Find", "num_negatives": 0}])
    with pytest.raises(InputError, match="corpus='x' has no effect on rows without ids"):
        load_blend([{**entry, "corpus": "x", "num_negatives": 0}])
    one = {**entry, "num_negatives": 0}
    said = told(saved_student(tmp_path / "texts"), tmp_path, tmp_path / "out", datasets=[one], num_negatives=None)
    with pytest.raises(InputError, match="reads text and no images; take a model that reads both"):
        prepare(recipe(tmp_path, said))
    with pytest.raises(InputError, match="with images give rounds: instead"):
        mined = {**entry, "num_negatives": 1, "mine": {"teacher": "random", "filters": []}}
        prepare(recipe(tmp_path, said | {"model": str(clip), "datasets": [mined], "remine_steps": 1}))
    folder = str(tiny.vision_language(tmp_path / "vlm"))
    with pytest.raises(InputError, match="gives a vector for each token; choose how they are pooled"):
        prepare(recipe(tmp_path, said | {"model": folder}))


def test_a_student_reads_the_path_of_an_image_as_a_text(tmp_path, monkeypatch, clip):
    SentenceTransformer(str(clip), device="cpu").save(str(tmp_path / "saved"))
    model = InstructSentenceTransformer(str(tmp_path / "saved"), device="cpu")
    monkeypatch.chdir(tmp_path)
    without = model.encode(["secret.png"])
    page("red").save("secret.png")
    np.testing.assert_array_equal(model.encode(["secret.png"]), without)
