"""Presets: the settings of other miners as filters and samplers."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import RankWindow
from hf_posmine.core.samplers import Uniform

Size: TypeAlias = Literal["small", "base", "large"]

RAGATOUILLE_MODELS: dict[str, tuple[str, str, str]] = {
    "en": ("BAAI/bge-small-en-v1.5", "BAAI/bge-base-en-v1.5", "BAAI/bge-large-en-v1.5"),
    "zh": ("thenlper/gte-small-zh", "thenlper/gte-base-zh", "thenlper/gte-large-zh"),
    "fr": (
        "OrdalieTech/Solon-embeddings-base-0.1",
        "OrdalieTech/Solon-embeddings-base-0.1",
        "OrdalieTech/Solon-embeddings-large-0.1",
    ),
    "other": ("intfloat/multilingual-e5-small", "intfloat/multilingual-e5-base", "intfloat/multilingual-e5-large"),
}
"""Teacher by language and size, as in RAGatouille's ``negative_miners/simpleminer.py``."""
FIRST_RANK, LAST_RANK, SHARE_OF_CORPUS = 10, 110, 10


def ragatouille(language: str, num_documents: int, *, size: Size = "small", num_negatives: int = 10) -> dict[str, Any]:
    """RAGatouille's way: a teacher by language, ranks 10 to 110, a random draw among them.

    The last rank is at most a tenth of the corpus, as in its code; where that leaves fewer than ``num_negatives`` ranks, the
    corpus is tiny and the negatives are random documents. Two things differ from what its code does (see ``docs``): the
    first rank is really applied, and e5 models get the prefixes they were trained with.

    Args:
        language: ISO 639-1 code; any without a row of its own takes the multilingual models.
        num_documents: of the corpus.
        size: of the teacher.
        num_negatives: per row; RAGatouille draws 10.

    Returns:
        Keyword arguments for :meth:`~hf_posmine.mining.miner.PositiveAwareMiner.from_dataset`.

    >>> recipe = ragatouille("de", 5000)
    >>> recipe["teacher"], recipe["filters"], recipe["sampler"]
    ('intfloat/multilingual-e5-small', [RankWindow(10, 110)], Uniform(k=100))
    >>> ragatouille("en", 150)["teacher"]
    'random'
    """
    if size not in get_args(Size):
        raise InputError(f"size={size!r}; choose one of {list(get_args(Size))}")
    last = min(LAST_RANK, num_documents // SHARE_OF_CORPUS)
    if last - FIRST_RANK < num_negatives:
        return {"teacher": "random", "filters": (), "num_negatives": num_negatives}
    model = RAGATOUILLE_MODELS.get(language, RAGATOUILLE_MODELS["other"])[get_args(Size).index(size)]
    prompts = {"query_prompt": "query: ", "document_prompt": "passage: "} if "e5" in model else {}
    return {
        "teacher": model,
        "teacher_options": prompts,
        "filters": [RankWindow(FIRST_RANK, last)],
        "sampler": Uniform(last - FIRST_RANK),
        "num_negatives": num_negatives,
    }
