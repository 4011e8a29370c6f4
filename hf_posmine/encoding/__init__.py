"""From texts to vectors on disk: batches, models, and the store of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.encoding.encode import load_model, model_source

__all__ = ["load_model", "model_source"]

__getattr__, __dir__ = lazy_names(__name__, {"encode": ("load_model", "model_source")})
