"""Checkpoints that do not fit the role: another kind of model, or a head without weights."""

from __future__ import annotations

import json

import pytest
import transformers

from hf_posmine import Corpus
from hf_posmine.core.errors import InputError
from hf_posmine.teachers import make_teacher
from tests.support import tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A saved model of each kind, and the bare checkpoints of transformers below them."""
    root = tmp_path_factory.mktemp("models")
    made = {name: str(getattr(tiny, name)(root / name)) for name in ("static", "sparse", "late", "cross")}
    return made | {f"bare {name}": str(root / f"{name}-backbone") for name in ("sparse", "late", "cross")}


@pytest.mark.parametrize(
    ("spelling", "model", "message"),
    [
        ("Cross", "static", "was saved as a SentenceTransformer; as a CrossEncoder .* Write Dense"),
        ("Dense", "cross", "was saved as a CrossEncoder; as a SentenceTransformer .* Write Cross"),
        ("Dense", "late", "was saved as a MultiVectorEncoder.* Write Late"),
        ("Dense", "sparse", "was saved as a SparseEncoder.* Write Sparse"),
        ("Sparse", "late", "was saved as a MultiVectorEncoder.* Write Late"),
        ("Late", "cross", "was saved as a CrossEncoder.* Write Cross"),
        ("Cross", "bare late", r"is a BertModel without the weights of \.\.\.ForSequenceClassification.* Write Dense"),
        ("Cross", "bare sparse", "is a BertForMaskedLM without the weights"),
        ("Sparse", "bare late", r"is a BertModel without the weights of \.\.\.ForMaskedLM"),
        ("Dense", "bare cross", "is a BertForSequenceClassification, a cross-encoder; .* Write Cross"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused_with_the_right_spelling(spelling, model, message, folders):
    with pytest.raises(InputError, match=message):
        make_teacher(f"{spelling}({folders[model]!r})", Corpus.from_texts(["red cat"]))


@pytest.mark.parametrize(
    ("spelling", "model"),
    [
        ("Dense", "static"),
        ("Sparse", "sparse"),
        ("Late", "late"),
        ("Cross", "cross"),
        ("Dense", "bare late"),
        ("Sparse", "bare sparse"),
    ],
)
def test_checkpoints_that_fit_are_loaded(spelling, model, folders, tmp_path):
    options = {} if spelling == "Cross" else {"store": tmp_path}
    made = make_teacher(f"{spelling}({folders[model]!r})", Corpus.from_texts(["red cat"]), **options)
    assert made.search(["red"], 1).doc_ids.tolist() == [[0]]


def test_a_cross_encoder_of_transformers_alone_fits(tmp_path):
    config = transformers.BertConfig(
        vocab_size=len(tiny.VOCABULARY), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=1
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(tiny.VOCABULARY))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    corpus = Corpus.from_texts(["red cat"])
    first, again = (make_teacher(f"Cross({str(tmp_path)!r})", corpus) for _ in range(2))
    assert first.fingerprint == again.fingerprint


def test_an_older_model_with_its_modules_is_taken_as_it_is(folders, tmp_path):
    import shutil
    from pathlib import Path

    older = shutil.copytree(folders["static"], tmp_path / "older")
    config = Path(older) / "config_sentence_transformers.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "model_type"}))
    assert (
        make_teacher(str(older), Corpus.from_texts(["red cat"]), store=tmp_path / "s").search(["red"], 1).doc_ids[0, 0]
        == 0
    )
