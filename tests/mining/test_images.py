"""Images as documents and as queries: negatives against an oracle in numpy, in Python and on the command line."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from datasets import Dataset, Features, Value, load_from_disk
from datasets import Image as ImageFeature

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.data.images import image_name
from hf_posmine.mining import SecondOpinion
from hf_posmine.mining.provenance import read_provenance
from hf_posmine.teachers import VectorTeacher
from tests.support import tiny
from tests.support.pages import encoded, page, pages

TEXTS = [f"page {number} of {name}" for number in range(9) for name in ("faust", "hamlet", "don quixote")]
NEGATIVES, SHARE = 3, 0.9


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(tiny.clip(tmp_path_factory.mktemp("models") / "clip"))


@pytest.fixture(scope="module")
def vectors_of(clip):
    """Unit vectors of texts or images, straight from transformers."""
    import torch
    from transformers import AutoProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(clip).eval(), AutoProcessor.from_pretrained(clip)

    def of(items):
        with torch.inference_mode():
            if isinstance(items[0], str):
                found = [model.get_text_features(**processor(text=[item], return_tensors="pt")) for item in items]
            else:
                found = [model.get_image_features(**processor(images=[item], return_tensors="pt")) for item in items]
        made = np.concatenate([one.pooler_output.numpy() for one in found]).astype(np.float64)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    return of


def pairs_of(images, queries) -> Dataset:
    of_images = not isinstance(queries[0], str)
    features = Features({"query": ImageFeature() if of_images else Value("string"), "image": ImageFeature()})
    return Dataset.from_dict({"query": queries, "image": images}, features=features)


def oracle(
    scores: np.ndarray, own: np.ndarray, share: float = SHARE, never: np.ndarray | None = None
) -> list[list[int]]:
    """The best documents strictly below a share of the positive's score, by sorting all of them."""
    found = []
    for row, positive in enumerate(own):
        allowed = scores[row] < np.float32(share) * scores[row, positive]
        allowed[[positive, *(() if never is None else [never[row]])]] = False
        order = [n for n in np.argsort(-scores[row], kind="stable") if allowed[n]]
        found.append(order[:NEGATIVES])
    return found


@pytest.mark.parametrize("queries", ["texts", "images"])
def test_a_clip_model_mines_what_numpy_finds(fresh_home, clip, vectors_of, queries):
    images = pages(TEXTS)
    asked = TEXTS if queries == "texts" else [image.rotate(180) for image in images]
    pairs = pairs_of(images, asked)
    corpus = Corpus.from_images(images, [f"p{n}" for n in range(len(images))])
    miner = PositiveAwareMiner.from_dataset(
        pairs, clip, corpus=corpus, num_negatives=NEGATIVES, filters=f"MarginPos({0.01})", keep=("scores", "ids")
    )
    mined = mine(pairs, miner)
    scores = vectors_of(asked) @ vectors_of(images).T
    own = np.arange(len(images))
    for row, ids in enumerate(mined["negatives_ids"]):
        allowed = scores[row] < scores[row, row] - 0.01
        order = [n for n in np.argsort(-scores[row], kind="stable") if allowed[n] and n != own[row]][:NEGATIVES]
        assert ids == [f"p{n}" for n in order]
        assert np.allclose(mined["negatives_scores"][row], scores[row][order], atol=1e-5)
    assert "negatives" not in mined.column_names
    assert mined.features["image"] == ImageFeature()


class Colours:
    """A model over Pillow images and texts: the mean colour, and that of the page the text is of."""

    def encode_document(self, items, **_):
        made = [np.asarray(pages([item])[0] if isinstance(item, str) else item, np.float64) for item in items]
        return np.stack([[*one.mean((0, 1)), *one[::7, ::5].ravel()[:60]] for one in made])

    encode_query = encode_document


@pytest.mark.parametrize("form", ["ids", "images"])
def test_any_encoder_over_images_and_a_picture_in_two_files(fresh_home, form):
    model, images = Colours(), pages(TEXTS)
    copies = [{"bytes": encoded(image, "TIFF"), "path": None} for image in images]
    pairs = pairs_of([*images, *copies], [*TEXTS, *(f"again {text}" for text in TEXTS)])
    how = {"num_negatives": NEGATIVES, "negatives_as": form, "filters": "PercPos(0.999)"}
    miner = PositiveAwareMiner.from_dataset(pairs, model, teacher_options={"fingerprint": "colours"}, **how)
    assert (len(miner.corpus), miner.corpus.num_images) == (len(TEXTS), len(TEXTS))
    mined = mine(pairs, miner)
    unit = model.encode_document(images)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    asked = model.encode_query(pairs["query"][:])
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    wanted = oracle((asked @ unit.T).astype(np.float32), np.tile(np.arange(len(TEXTS)), 2), 0.999)
    names = [image_name(image) for image in images]
    if form == "ids":
        assert mined["negatives_ids"][:] == [[names[n] for n in row] for row in wanted]
    else:
        assert mined.features["negatives"].feature == ImageFeature()
        assert [[image_name(image) for image in row] for row in mined["negatives"]] == [
            [names[n] for n in row] for row in wanted
        ]


def test_mixed_documents_and_given_vectors(fresh_home):
    """Texts, images, and images with texts in one corpus; rows are as those of texts with the same vectors."""
    images, rng = pages(TEXTS[:12]), np.random.default_rng(0)
    rows = [
        {"image": images[n] if n % 3 else None, "text": TEXTS[n] if n % 2 else None, "id": str(n)} for n in range(1, 12)
    ]
    kinds = Features({"image": ImageFeature(), "text": Value("string"), "id": Value("string")})
    corpus = Corpus.from_dataset(
        Dataset.from_list(rows, features=kinds).filter(lambda r: r["image"] or r["text"]), text="text", image="image"
    )
    documents = rng.standard_normal((len(corpus), 8)).astype(np.float32)
    queries, asked = (
        [f"query {n}" for n in range(len(corpus))],
        rng.standard_normal((len(corpus), 8)).astype(np.float32),
    )
    ids = corpus.ids(np.arange(len(corpus))).to_pylist()
    pairs = Dataset.from_dict({"query": queries, "positive_id": ids})
    found = {}
    for name, one in (("mixed", corpus), ("texts", Corpus.from_texts(ids, ids))):
        teacher = VectorTeacher(one, documents, queries, asked, similarity="dot")
        miner = PositiveAwareMiner.from_dataset(
            pairs, teacher, num_negatives=NEGATIVES, filters="MarginPos(0.1)", keep=("ids",)
        )
        found[name] = mine(pairs, miner)
    assert found["mixed"]["negatives_ids"][:] == found["texts"]["negatives_ids"][:]
    with pytest.raises(InputError, match=r"8 of 10 documents are images; use ids$"):
        PositiveAwareMiner.from_dataset(pairs, "random", corpus=corpus, negatives_as="images")


def test_narrow_cosines_need_a_share_near_one_or_a_margin(fresh_home):
    """CLIP scores a text with its image 0.2 to 0.35: 95 % of that is a margin of 0.01 to 0.02."""
    rng, n, d = np.random.default_rng(0), 40, 64
    common = np.zeros(d)
    common[0] = 1.0
    documents = 0.5 * common + rng.standard_normal((n, d)) / 12
    asked = 0.25 * common + rng.standard_normal((n, d)) / 12 + 0.18 * documents
    corpus, queries = (
        Corpus.from_images(pages(TEXTS[:20] + [f"more {i}" for i in range(20)])),
        [f"q{i}" for i in range(n)],
    )
    teacher = VectorTeacher(corpus, documents, queries, asked)
    unit = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    scores = ((asked / np.linalg.norm(asked, axis=1, keepdims=True)) @ unit.T).astype(np.float32)
    pairs = Dataset.from_dict({"query": queries, "positive_id": corpus.ids(np.arange(n)).to_pylist()})
    names = corpus.ids(np.arange(n)).to_pylist()
    for share in (0.95, 0.8):
        miner = PositiveAwareMiner.from_dataset(pairs, teacher, num_negatives=NEGATIVES, filters=f"PercPos({share})")
        wanted = oracle(scores, np.arange(n), share)
        assert mine(pairs, miner)["negatives_ids"][:] == [[names[m] for m in row] for row in wanted]


@pytest.mark.parametrize("make", [tiny.clip, tiny.vision_language])
def test_a_text_that_is_a_path_is_a_text(fresh_home, tmp_path, monkeypatch, make):
    """sentence-transformers takes a text for an image where it is the path or the address of one."""
    monkeypatch.chdir(tmp_path)
    texts = ["secret.png", "a red cat"]
    encoder = DenseTeacher(str(make(tmp_path / "model")), Corpus.from_texts(texts)).model.encoder
    without = encoder.encode(texts, "document")
    page("red").save(texts[0])
    np.testing.assert_array_equal(encoder.encode(texts, "document"), without)


def test_a_model_of_texts_refuses_images(fresh_home, tmp_path):
    corpus = Corpus.from_images(pages(TEXTS[:3]))
    with pytest.raises(InputError, match="no images; take a model that reads both"):
        DenseTeacher(str(tiny.static(tmp_path / "static")), corpus).prepare()


def test_streams_batches_and_a_decoded_map_agree(fresh_home, clip):
    images = pages(TEXTS[:12])
    pairs = pairs_of(images, TEXTS[:12])
    miner = PositiveAwareMiner.from_dataset(pairs, clip, num_negatives=2, filters="MarginPos(0.001)")
    want = mine(pairs, miner)["negatives_ids"][:]
    stream = pairs.to_iterable_dataset()
    assert [
        row["negatives_ids"]
        for row in stream.map(miner, batched=True, batch_size=5, features=miner.features(stream.features))
    ] == want
    assert pairs.map(miner, batched=True, batch_size=7)["negatives_ids"][:] == want
    assert [pairs.map(miner)[n]["negatives_ids"] for n in range(3)] == want[:3]


def test_the_command_line_mines_images_and_leaves_out_broken_ones(fresh_home, tmp_path, clip):
    images = pages(TEXTS)
    broken = {"bytes": b"none", "path": None}
    pairs = pairs_of([*images[:8], broken, *images[8:]], [*TEXTS[:8], "lost", *TEXTS[8:]])
    pairs.to_parquet(str(tmp_path / "pairs.parquet"))
    command = [
        "mine",
        str(tmp_path / "pairs.parquet"),
        "--teacher",
        clip,
        "--filters",
        "MarginPos(0.01)",
        "--num-negatives",
        "2",
    ]
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main([*command, "--output", str(tmp_path / "out")]) == 2
    assert "1 with an unreadable image (row 8)" in errors.getvalue()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main([*command, "--output", str(tmp_path / "out"), "--skip-bad-rows", "--negatives-as", "images"])
    assert "rows left out: 1 with an unreadable image" in output.getvalue()
    mined = load_from_disk(tmp_path / "out")
    assert mined.features["negatives"].feature == ImageFeature() and len(mined) == len(TEXTS)
    assert {image_name(image) for row in mined["negatives"] for image in row} <= set(map(image_name, images))
    record = read_provenance(tmp_path / "out" / "provenance.json")
    assert record.settings["negatives_as"] == "images" and record.summary["negatives"] == sum(
        map(len, mined["negatives"])
    )


@pytest.mark.parametrize("form", ["ids", "images"])
def test_a_map_leaves_the_bytes_of_photographs_as_they_are(fresh_home, form):
    """datasets saves an image again that was opened in a map, and JPEG loses something each time."""
    files = [{"bytes": encoded(image, "JPEG", quality=50), "path": None} for image in pages(TEXTS[:6])]
    pairs = pairs_of(files, TEXTS[:6])
    miner = PositiveAwareMiner.from_dataset(pairs, "random", num_negatives=2, negatives_as=form)
    mined = pairs.map(miner, batched=True, features=miner.features(pairs.features))
    stored = mined.with_format("arrow")[:]
    assert [value["bytes"] for value in stored["image"].to_pylist()] == [value["bytes"] for value in files]
    if form == "images":
        held = [value["bytes"] for row in stored["negatives"].to_pylist() for value in row]
        assert len(held) == 12 and set(held) <= {value["bytes"] for value in files}


def test_a_vision_language_model_reads_texts_images_and_both(fresh_home, tmp_path):
    """Against vectors that sentence-transformers makes of each document alone."""
    from sentence_transformers import SentenceTransformer

    folder = str(tiny.vision_language(tmp_path / "vlm"))
    images, model = pages(TEXTS[:9]), SentenceTransformer(folder, device="cpu")
    rows = [
        {"image": images[n] if n % 3 else None, "text": TEXTS[n] if n % 3 != 1 else None, "id": str(n)}
        for n in range(9)
    ]
    kinds = Features({"image": ImageFeature(), "text": Value("string"), "id": Value("string")})
    corpus = Corpus.from_dataset(Dataset.from_list(rows, features=kinds), text="text", image="image")
    made = []
    for row in rows:
        both = {name: row[name] for name in ("image", "text") if row[name] is not None}
        made.append(model.encode([both if len(both) > 1 else next(iter(both.values()))])[0])
    unit = np.stack(made) / np.linalg.norm(made, axis=1, keepdims=True)
    queries = [f"what is on page {n}" for n in range(9)]
    asked = np.stack([model.encode([query])[0] for query in queries])
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    teacher = DenseTeacher(folder, corpus, device="cpu")
    assert np.allclose(teacher.embeddings.of_documents[np.arange(9)], unit, atol=1e-5)
    assert np.allclose(teacher.embed_queries(queries), asked, atol=1e-5)
    pairs = Dataset.from_dict({"query": queries, "positive_id": [str(n) for n in range(9)]})
    miner = PositiveAwareMiner.from_dataset(pairs, teacher, num_negatives=NEGATIVES, filters="PercPos(0.99)")
    assert mine(pairs, miner)["negatives_ids"][:] == [
        [str(n) for n in row] for row in oracle((asked @ unit.T).astype(np.float32), np.arange(9), 0.99)
    ]


def test_a_second_opinion_reads_images(fresh_home, tmp_path, clip, vectors_of):
    """One vector each finds them, patches decide: both in numpy, over rows that hold ids alone."""
    from sentence_transformers import MultiVectorEncoder

    images, folder = pages(TEXTS), str(tiny.late_pages(tmp_path / "late"))
    model = MultiVectorEncoder(folder, device="cpu")
    tokens, asked = (
        [of([item])[0].numpy().astype(np.float64) for item in items]
        for of, items in ((model.encode_document, images), (model.encode_query, TEXTS))
    )
    second = np.array([[(q @ d.T).max(axis=1).sum() for d in tokens] for q in asked])
    first = vectors_of(TEXTS) @ vectors_of(images).T
    pairs = pairs_of(images, TEXTS)
    opinion = SecondOpinion(f"Late({folder!r})", filters="MarginPos(0.05)", depth=len(images) - 1)
    miner = PositiveAwareMiner.from_dataset(
        pairs, clip, num_negatives=NEGATIVES, filters=(), second_opinion=opinion, keep=("ids",)
    )
    rejected = 0
    for row, ids in enumerate(mine(pairs, miner)["negatives_ids"]):
        order = [n for n in np.argsort(-first[row], kind="stable") if n != row]
        good = [n for n in order if second[row, n] < second[row, row] - 0.05]
        assert ids == [image_name(images[n]) for n in good[:NEGATIVES]]
        rejected += good[:NEGATIVES] != order[:NEGATIVES]
    assert rejected > 5
