"""Students that learn within seconds on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def bag_of_words(length: int) -> SentenceTransformer:
    """The average of MiniLM's word embeddings; texts are cut after ``length`` tokens."""
    from torch import nn

    from hf_posmine.encoding import load_model

    model = load_model("embedded", device="cpu")
    backbone = model[0].model
    backbone.encoder.layer, backbone.config.num_hidden_layers = nn.ModuleList(), 0
    model.max_seq_length = length
    return model
