"""OpenVINO in torch's place: the same vectors, keys of their own, the same negatives. Skipped where it is not installed."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from datasets import disable_progress_bars

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner
from hf_posmine.core.errors import InputError, MissingExtraError, SlowComputeWarning
from hf_posmine.data.sources import beir_pairs
from hf_posmine.encoding import backends
from hf_posmine.encoding.encode import Encoder, load_model
from hf_posmine.hub.rebuild import Inputs, rebuild
from hf_posmine.mining.provenance import provenance
from hf_posmine.mining.record import MiningRecord
from tests.conftest import SAMPLE

disable_progress_bars()
TEXTS = ["one", "two words", " ".join(["a text of some length"] * 40), "", "é 漢字"]


@pytest.fixture(scope="module")
def openvino():
    pytest.importorskip("optimum.intel", reason="the extra 'openvino' is not installed")
    return load_model("embedded", backend="openvino")


def test_what_cannot_be(corpus):
    with pytest.raises(InputError, match="backend='tensorflow'; choose one of torch, openvino"):
        load_model("embedded", backend="tensorflow")
    with pytest.raises(InputError, match="computes on the CPU, not on device='cuda'"):
        load_model("embedded", backend="openvino", device="cuda")
    with pytest.raises(InputError, match="load this one with that backend"):
        DenseTeacher(load_model("embedded"), corpus, backend="openvino")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"hf-posmine\[openvino\]"):
        load_model("embedded", backend="openvino")


@pytest.mark.parametrize(("share", "warned"), [(1.7, True), (1.1, False), (0.4, False)])
def test_a_type_that_is_slower_than_float32_here_is_named(monkeypatch, share, warned):
    monkeypatch.setattr(backends, "product_share", lambda compute: share)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", SlowComputeWarning)
        load_model("embedded", compute="bfloat16", device="cpu")
        load_model("embedded", device="cpu")
    lines = [str(one.message) for one in found if one.category is SlowComputeWarning]
    assert len(lines) == warned and all("in 1.7 times float32's time" in line for line in lines)


@pytest.fixture(scope="module")
def corpus():
    return Corpus.from_beir(SAMPLE)


def test_vectors_are_those_of_torch(openvino):
    ours = Encoder(openvino).encode(TEXTS, "document")
    theirs = Encoder(load_model("embedded", device="cpu")).encode(TEXTS, "document")
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not np.array_equal(ours, theirs)  # another engine, in fact


def test_a_vector_depends_on_its_text_alone(openvino):
    encoder = Encoder(openvino)
    together = encoder.encode(TEXTS, "document")
    alone = np.concatenate([encoder.encode([text], "document") for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_keys_follow_weights_backend_and_precision(openvino, tmp_path):
    digests = {
        "torch": Encoder(load_model("embedded", device="cpu")).model_digest,
        "openvino": Encoder(openvino).model_digest,
        "bfloat16": Encoder(load_model("embedded", backend="openvino", compute="bfloat16")).model_digest,
    }
    other = load_model("embedded", device="cpu")
    other[0].auto_model.embeddings.word_embeddings.weight.data[1000] += 1
    other.save(str(tmp_path / "other"))
    digests["other weights"] = Encoder(load_model(str(tmp_path / "other"), backend="openvino")).model_digest
    assert len(set(digests.values())) == 4
    assert Encoder(load_model("embedded", backend="openvino")).model_digest == digests["openvino"]  # exported again
    openvino.save_pretrained(str(tmp_path / "exported"))
    assert Encoder(load_model(str(tmp_path / "exported"), backend="openvino")).model_digest == digests["openvino"]


def test_a_model_that_leaves_the_precision_to_the_processor_is_refused(openvino, corpus):
    given = openvino[0].auto_model.ov_config.pop("INFERENCE_PRECISION_HINT")
    try:
        with pytest.raises(InputError, match="computes in what the processor has"):
            DenseTeacher(openvino, corpus)
    finally:
        openvino[0].auto_model.ov_config["INFERENCE_PRECISION_HINT"] = given


def test_it_mines_and_its_record_mines_again(openvino, corpus, tmp_path):
    pairs, mined, miners = beir_pairs(SAMPLE), {}, {}
    for backend in ("torch", "openvino"):
        miners[backend] = PositiveAwareMiner.from_dataset(
            pairs, "embedded", corpus=corpus, positive_id_column="positive_id", filters="PercPos(0.95)",
            teacher_options={"backend": backend, "store": tmp_path / backend},
        )  # fmt: skip
        mined[backend] = pairs.map(miners[backend], batched=True)
    same = [a == b for a, b in zip(mined["torch"]["negatives"], mined["openvino"]["negatives"], strict=True)]
    assert np.mean(same) > 0.99
    record = provenance(miners["openvino"], source={"path": str(SAMPLE)}, mined=mined["openvino"])
    again = rebuild({"train": mined["openvino"]}, MiningRecord.from_dict(record.to_dict()), Inputs(corpus=corpus))
    assert [str(change) for change in again.changes if change.decisive] == []
    assert again.miner.fingerprint == miners["openvino"].fingerprint
    assert again.miner.teachers[0].describe() == miners["openvino"].teachers[0].describe()


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("gpu", "does not name a device of torch; choose one such as 'cpu'"),
        ("cuda:99", "CUDA devices here; leave the device out"),
        ("mps", "does not find a GPU of Apple here"),
    ],
)
def test_a_device_that_is_absent_is_refused_before_a_model_is_loaded(monkeypatch, device, says):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(InputError, match=says):
        load_model("embedded", device=device)
