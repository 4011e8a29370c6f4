"""A saved bidirectional model that would be run causally is refused, whoever loads it."""

from __future__ import annotations

import json

import pytest
from transformers import MistralModel

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.encode import load_model
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.training.recipe import Student
from hf_posmine.training.student import load_student
from tests.models.conftest import random_encoder

LOADERS = {
    "of an embedder": lambda path: InstructSentenceTransformer(str(path), device="cpu"),
    "of a teacher": lambda path: load_model(str(path), device="cpu"),
    "of a student": lambda path: load_student(Student(str(path))),
}


def as_an_older_transformers_runs_it(monkeypatch):
    """One that reads ``is_causal`` and does not obey: it was so before 5.2."""
    forward = MistralModel.forward

    def causal(self, *args, **kwargs):
        said, self.config.is_causal = self.config.is_causal, True
        try:
            return forward(self, *args, **kwargs)
        finally:
            self.config.is_causal = said

    monkeypatch.setattr(MistralModel, "forward", causal)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("fault", ["transformers does not obey", "the configuration lost it", "adapters"])
def test_a_saved_model_that_became_causal_is_refused(tmp_path, monkeypatch, loader, fault):
    if fault == "adapters" and loader == "of a teacher":
        pytest.skip("plain sentence-transformers does not load adapters of ours at all")
    base = tmp_path / "base"
    model = random_encoder()
    model[0].model.save_pretrained(base)
    model[0].processor.save_pretrained(base)
    if fault == "adapters":
        from hf_posmine.models.bidirectional import bidirectional_encoder

        model = bidirectional_encoder(base, lora={"r": 2}, device="cpu")
    model.save(str(tmp_path / "saved"))
    LOADERS[loader](tmp_path / "saved")
    if fault == "the configuration lost it":
        file = tmp_path / "saved" / "config.json"
        config = json.loads(file.read_text())
        del config["is_causal"]
        file.write_text(json.dumps(config))
    else:
        as_an_older_transformers_runs_it(monkeypatch)
    with pytest.raises(
        InputError, match=r"saved as a bidirectional model, but transformers .* runs its MistralModel causally"
    ):
        LOADERS[loader](tmp_path / "saved")
