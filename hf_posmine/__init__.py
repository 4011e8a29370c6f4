"""Positive-aware hard-negative mining (NV-Retriever) for Hugging Face datasets.

>>> import hf_posmine
>>> hf_posmine.PercPos(0.95)
PercPos(0.95)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_posmine.core.ensembles import CrossSample, IntraSample
    from hf_posmine.core.filters import MarginPos, MaxScore, MinScore, PercPos, RankWindow, SkipTop
    from hf_posmine.core.samplers import SampledTopK, SimANS, Top, Top1Sampled, Uniform
    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.evaluation.judge.actions import apply_judgements, judge_negatives
    from hf_posmine.evaluation.judge.chat import ChatServer, HubChat
    from hf_posmine.evaluation.judge.judge import Judge
    from hf_posmine.evaluation.negatives.agreement import teacher_agreement
    from hf_posmine.evaluation.negatives.calibrate import calibrate
    from hf_posmine.evaluation.negatives.hold_out import judgements_of_pairs
    from hf_posmine.evaluation.negatives.sweep import sweep
    from hf_posmine.hub.push import push_dataset
    from hf_posmine.hub.push_model import push_model
    from hf_posmine.hub.remine import remine
    from hf_posmine.hub.verify import verify
    from hf_posmine.mining.execution.local import mine
    from hf_posmine.mining.labels import to_margin_mse
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.presets import ragatouille
    from hf_posmine.mining.second_opinion import SecondOpinion
    from hf_posmine.mining.summary import MiningSummary
    from hf_posmine.mining.training_formats import NegativesCollator, to_training
    from hf_posmine.models.bidirectional import bidirectional_encoder
    from hf_posmine.models.instruct import InstructSentenceTransformer
    from hf_posmine.models.nv_retriever import load_nv_retriever
    from hf_posmine.search.exact import ExactIndex
    from hf_posmine.teachers.bm25 import BM25Teacher
    from hf_posmine.teachers.cross_encoder import CrossEncoderTeacher
    from hf_posmine.teachers.dense import DenseTeacher
    from hf_posmine.teachers.endpoint import Endpoint
    from hf_posmine.teachers.late_interaction import LateInteractionTeacher
    from hf_posmine.teachers.random import RandomTeacher
    from hf_posmine.teachers.remote import RemoteTeacher
    from hf_posmine.teachers.sparse import SparseTeacher
    from hf_posmine.teachers.stored_run import StoredRun
    from hf_posmine.teachers.trec_run import RunTeacher
    from hf_posmine.teachers.vectors import VectorTeacher

__version__ = "0.1.0"

__all__ = [
    "BM25Teacher",
    "ChatServer",
    "Corpus",
    "CrossEncoderTeacher",
    "CrossSample",
    "DenseTeacher",
    "Endpoint",
    "ExactIndex",
    "HubChat",
    "InstructSentenceTransformer",
    "IntraSample",
    "Judge",
    "LateInteractionTeacher",
    "MarginPos",
    "MaxScore",
    "MinScore",
    "MiningSettings",
    "MiningSummary",
    "NegativesCollator",
    "PercPos",
    "PositiveAwareMiner",
    "Qrels",
    "RandomTeacher",
    "RankWindow",
    "RemoteTeacher",
    "RunTeacher",
    "SampledTopK",
    "SecondOpinion",
    "SimANS",
    "SkipTop",
    "SparseTeacher",
    "StoredRun",
    "Top",
    "Top1Sampled",
    "Uniform",
    "VectorTeacher",
    "apply_judgements",
    "bidirectional_encoder",
    "calibrate",
    "judge_negatives",
    "judgements_of_pairs",
    "load_nv_retriever",
    "mine",
    "push_dataset",
    "push_model",
    "ragatouille",
    "remine",
    "sweep",
    "teacher_agreement",
    "to_margin_mse",
    "to_training",
    "verify",
]

_HOMES = {
    "BM25Teacher": "teachers.bm25",
    "ChatServer": "evaluation.judge.chat",
    "Corpus": "data.corpus",
    "CrossEncoderTeacher": "teachers.cross_encoder",
    "CrossSample": "core.ensembles",
    "DenseTeacher": "teachers.dense",
    "Endpoint": "teachers.endpoint",
    "ExactIndex": "search.exact",
    "HubChat": "evaluation.judge.chat",
    "InstructSentenceTransformer": "models.instruct",
    "IntraSample": "core.ensembles",
    "Judge": "evaluation.judge.judge",
    "LateInteractionTeacher": "teachers.late_interaction",
    "MarginPos": "core.filters",
    "MaxScore": "core.filters",
    "MinScore": "core.filters",
    "MiningSettings": "core.settings",
    "MiningSummary": "mining.summary",
    "NegativesCollator": "mining.training_formats",
    "PercPos": "core.filters",
    "PositiveAwareMiner": "mining.miner",
    "Qrels": "data.qrels",
    "RandomTeacher": "teachers.random",
    "RankWindow": "core.filters",
    "RemoteTeacher": "teachers.remote",
    "RunTeacher": "teachers.trec_run",
    "SampledTopK": "core.samplers",
    "SecondOpinion": "mining.second_opinion",
    "SimANS": "core.samplers",
    "SkipTop": "core.filters",
    "SparseTeacher": "teachers.sparse",
    "StoredRun": "teachers.stored_run",
    "Top": "core.samplers",
    "Top1Sampled": "core.samplers",
    "Uniform": "core.samplers",
    "VectorTeacher": "teachers.vectors",
    "apply_judgements": "evaluation.judge.actions",
    "bidirectional_encoder": "models.bidirectional",
    "calibrate": "evaluation.negatives.calibrate",
    "judge_negatives": "evaluation.judge.actions",
    "judgements_of_pairs": "evaluation.negatives.hold_out",
    "load_nv_retriever": "models.nv_retriever",
    "mine": "mining.execution.local",
    "push_dataset": "hub.push",
    "push_model": "hub.push_model",
    "ragatouille": "mining.presets",
    "remine": "hub.remine",
    "sweep": "evaluation.negatives.sweep",
    "teacher_agreement": "evaluation.negatives.agreement",
    "to_margin_mse": "mining.labels",
    "to_training": "mining.training_formats",
    "verify": "hub.verify",
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
