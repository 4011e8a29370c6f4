"""Documents, known positives and the columns of a user's dataset: everything that comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.data.bundled import SAMPLE
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.layouts import pick_columns
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.data.sources import beir_pairs, is_beir, load_files, load_source
    from hf_posmine.data.texts import normalize, text_keys, text_numbers
    from hf_posmine.data.training_data import TrainingData
    from hf_posmine.data.training_sources import open_training_data

__all__ = [
    "SAMPLE",
    "Corpus",
    "Qrels",
    "TrainingData",
    "beir_pairs",
    "is_beir",
    "load_files",
    "load_source",
    "normalize",
    "open_training_data",
    "pick_columns",
    "text_keys",
    "text_numbers",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bundled": ("SAMPLE",),
        "layouts": ("pick_columns",),
        "corpus": ("Corpus",),
        "qrels": ("Qrels",),
        "sources": ("beir_pairs", "is_beir", "load_files", "load_source"),
        "texts": ("normalize", "text_keys", "text_numbers"),
        "training_data": ("TrainingData",),
        "training_sources": ("open_training_data",),
    },
)
