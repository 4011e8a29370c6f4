"""The embedder: decoders made bidirectional, instructions that attend but are not pooled (paper, section 3).

::

    items          (instruction, text) rows and the token boundary between the two
    varlen         attention over unpadded batches
    transformer    InstructionTransformer: rows -> token embeddings and the instruction mask
    pooling        InstructionPooling: the mean over the text alone
    encoder        InstructSentenceTransformer: the SentenceTransformer made of them
    portable       saved so that plain sentence-transformers loads the same vectors
    bidirectional  bidirectional_encoder: from a decoder to the embedder
    nv_retriever   load_nv_retriever: the published weights
    cost           ModelShape: operations and memory before a job starts
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.models.bidirectional import bidirectional_encoder
    from hf_posmine.models.cost import ModelShape
    from hf_posmine.models.instruct import InstructSentenceTransformer
    from hf_posmine.models.nv_retriever import load_nv_retriever

__all__ = ["InstructSentenceTransformer", "ModelShape", "bidirectional_encoder", "load_nv_retriever"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bidirectional": ("bidirectional_encoder",),
        "cost": ("ModelShape",),
        "instruct": ("InstructSentenceTransformer",),
        "nv_retriever": ("load_nv_retriever",),
    },
)
