"""From raw datasets to (query, positive, negatives): one converter per kind of task.

Classification and clustering: :func:`labels_to_triples` (a cluster is a class whose documents are examples). STS:
:func:`sts_to_pairs`. NLI: :func:`nli_to_triples`. Lists of positives and negatives: :func:`reranking_to_rows` and
:func:`retrieval_to_rows`, which also take streams. Several positives of a query in one row: :func:`join_positives`.
"""

from hf_posmine.training.convert.classes import labels_to_triples
from hf_posmine.training.convert.entailment import nli_to_triples
from hf_posmine.training.convert.lists import reranking_to_rows, retrieval_to_rows
from hf_posmine.training.convert.positives import join_positives
from hf_posmine.training.convert.shared import Converted
from hf_posmine.training.convert.similarity import sts_to_pairs

__all__ = [
    "Converted",
    "join_positives",
    "labels_to_triples",
    "nli_to_triples",
    "reranking_to_rows",
    "retrieval_to_rows",
    "sts_to_pairs",
]
