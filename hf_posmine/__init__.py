"""Positive-aware hard-negative mining (NV-Retriever) for Hugging Face datasets.

>>> import hf_posmine
>>> hf_posmine.PercPos(0.95)
PercPos(0.95)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_posmine.corpus import Corpus
    from hf_posmine.filters import MarginPos, MaxScore, MinScore, PercPos, RankWindow, SkipTop
    from hf_posmine.formats import NegativesCollator, to_training
    from hf_posmine.miner import PositiveAwareMiner
    from hf_posmine.models.bidirectional import bidirectional_encoder
    from hf_posmine.models.encoder import InstructSentenceTransformer
    from hf_posmine.models.nv_retriever import load_nv_retriever
    from hf_posmine.qrels import Qrels
    from hf_posmine.resumable import mine
    from hf_posmine.samplers import SampledTopK, Top, Top1Sampled, Uniform
    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.settings import MiningSettings
    from hf_posmine.summary import MiningSummary
    from hf_posmine.teachers.dense import DenseTeacher

__version__ = "0.1.0"

__all__ = [
    "Corpus",
    "DenseTeacher",
    "ExactIndex",
    "InstructSentenceTransformer",
    "MarginPos",
    "MaxScore",
    "MinScore",
    "MiningSettings",
    "MiningSummary",
    "NegativesCollator",
    "PercPos",
    "PositiveAwareMiner",
    "Qrels",
    "RankWindow",
    "SampledTopK",
    "SkipTop",
    "Top",
    "Top1Sampled",
    "Uniform",
    "bidirectional_encoder",
    "load_nv_retriever",
    "mine",
    "to_training",
]

_HOMES = {
    "Corpus": "corpus",
    "DenseTeacher": "teachers.dense",
    "ExactIndex": "search.exact",
    "InstructSentenceTransformer": "models.encoder",
    "MarginPos": "filters",
    "MaxScore": "filters",
    "MinScore": "filters",
    "MiningSettings": "settings",
    "MiningSummary": "summary",
    "NegativesCollator": "formats",
    "PercPos": "filters",
    "PositiveAwareMiner": "miner",
    "Qrels": "qrels",
    "RankWindow": "filters",
    "SampledTopK": "samplers",
    "SkipTop": "filters",
    "Top": "samplers",
    "Top1Sampled": "samplers",
    "Uniform": "samplers",
    "bidirectional_encoder": "models.bidirectional",
    "load_nv_retriever": "models.nv_retriever",
    "mine": "resumable",
    "to_training": "formats",
}


def __getattr__(name: str) -> Any:
    """Import on first use: torch and datasets cost seconds, which ``import hf_posmine`` should not (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_posmine' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"hf_posmine.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
