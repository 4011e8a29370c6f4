"""Teachers: retrieval models and lexical indexes behind one Protocol, :class:`hf_posmine.core.types.Teacher`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.teachers.best_passage import BestPassageTeacher
    from hf_posmine.teachers.bm25 import BM25Teacher
    from hf_posmine.teachers.cross_encoder import CrossEncoderTeacher
    from hf_posmine.teachers.dense import DenseTeacher
    from hf_posmine.teachers.endpoint import EmbeddingService
    from hf_posmine.teachers.exhaustive import select_below
    from hf_posmine.teachers.factory import make_teacher, make_teachers, open_teacher
    from hf_posmine.teachers.late_interaction import LateInteractionTeacher
    from hf_posmine.teachers.multi_vectors import MultiVectorTeacher
    from hf_posmine.teachers.random import RandomTeacher
    from hf_posmine.teachers.remote import RemoteTeacher
    from hf_posmine.teachers.sparse import SparseTeacher
    from hf_posmine.teachers.spellings import (
        BM25,
        Cross,
        Dense,
        Endpoint,
        Late,
        MaxP,
        Random,
        RunFile,
        Sparse,
        TeacherContext,
        VectorFiles,
        as_teacher_spec,
    )
    from hf_posmine.teachers.stored_run import StoredRun
    from hf_posmine.teachers.trec_run import RunTeacher
    from hf_posmine.teachers.vectors import VectorTeacher

__all__ = [
    "BM25",
    "BM25Teacher",
    "BestPassageTeacher",
    "Cross",
    "CrossEncoderTeacher",
    "Dense",
    "DenseTeacher",
    "EmbeddingService",
    "Endpoint",
    "Late",
    "LateInteractionTeacher",
    "MaxP",
    "MultiVectorTeacher",
    "Random",
    "RandomTeacher",
    "RemoteTeacher",
    "RunFile",
    "RunTeacher",
    "Sparse",
    "SparseTeacher",
    "StoredRun",
    "TeacherContext",
    "VectorFiles",
    "VectorTeacher",
    "as_teacher_spec",
    "make_teacher",
    "make_teachers",
    "open_teacher",
    "select_below",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "best_passage": ("BestPassageTeacher",),
        "bm25": ("BM25Teacher",),
        "cross_encoder": ("CrossEncoderTeacher",),
        "dense": ("DenseTeacher",),
        "endpoint": ("EmbeddingService",),
        "exhaustive": ("select_below",),
        "factory": ("make_teacher", "make_teachers", "open_teacher"),
        "late_interaction": ("LateInteractionTeacher",),
        "multi_vectors": ("MultiVectorTeacher",),
        "random": ("RandomTeacher",),
        "remote": ("RemoteTeacher",),
        "sparse": ("SparseTeacher",),
        "spellings": (
            "BM25",
            "Cross",
            "Dense",
            "Endpoint",
            "Late",
            "MaxP",
            "Random",
            "RunFile",
            "Sparse",
            "VectorFiles",
            "TeacherContext",
            "as_teacher_spec",
        ),
        "stored_run": ("StoredRun",),
        "trec_run": ("RunTeacher",),
        "vectors": ("VectorTeacher",),
    },
)
