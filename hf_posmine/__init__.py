"""Positive-aware hard-negative mining (NV-Retriever) for Hugging Face datasets.

>>> import hf_posmine
>>> hf_posmine.PercPos(0.95)
PercPos(0.95)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.core.ensembles import CrossSample, IntraSample
    from hf_posmine.core.filters import MarginPos, MaxFNRate, MaxScore, MinScore, PercPos, RankWindow, SkipTop
    from hf_posmine.core.samplers import SampledTopK, SimANS, Stratified, Top, Top1Sampled, Uniform
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.hub.push import push_dataset
    from hf_posmine.hub.push_model import push_model
    from hf_posmine.hub.remine import remine
    from hf_posmine.hub.verify import verify
    from hf_posmine.mining.execution.local import mine
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.summary import MiningSummary
    from hf_posmine.mining.training_formats import to_training
    from hf_posmine.teachers.dense import DenseTeacher

__version__ = "0.1.0"

__all__ = [
    "Corpus",
    "CrossSample",
    "DenseTeacher",
    "IntraSample",
    "MarginPos",
    "MaxFNRate",
    "MaxScore",
    "MinScore",
    "MiningSummary",
    "PercPos",
    "PositiveAwareMiner",
    "Qrels",
    "RankWindow",
    "SampledTopK",
    "SimANS",
    "SkipTop",
    "Stratified",
    "Top",
    "Top1Sampled",
    "Uniform",
    "mine",
    "push_dataset",
    "push_model",
    "remine",
    "to_training",
    "verify",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "core.ensembles": ("CrossSample", "IntraSample"),
        "core.filters": ("MarginPos", "MaxFNRate", "MaxScore", "MinScore", "PercPos", "RankWindow", "SkipTop"),
        "core.samplers": ("SampledTopK", "SimANS", "Stratified", "Top", "Top1Sampled", "Uniform"),
        "data.corpus": ("Corpus",),
        "data.qrels": ("Qrels",),
        "hub.push": ("push_dataset",),
        "hub.push_model": ("push_model",),
        "hub.remine": ("remine",),
        "hub.verify": ("verify",),
        "mining.execution.local": ("mine",),
        "mining.miner": ("PositiveAwareMiner",),
        "mining.summary": ("MiningSummary",),
        "mining.training_formats": ("to_training",),
        "teachers.dense": ("DenseTeacher",),
    },
)
