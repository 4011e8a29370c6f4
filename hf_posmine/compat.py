"""``mine_hard_negatives`` of sentence-transformers 6.2, mined by this package: change one import.

::

    from hf_posmine.compat import mine_hard_negatives
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from hf_posmine.mining.drop_in.arguments import Arguments
from hf_posmine.mining.drop_in.mine import mine

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import CrossEncoder, SentenceTransformer

__all__ = ["mine_hard_negatives"]


def mine_hard_negatives(  # noqa: PLR0913 - the signature of sentence-transformers
    dataset: Dataset,
    model: SentenceTransformer,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    cross_encoder: CrossEncoder | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"] = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,
    use_multi_process: list[str] | bool = False,
    verbose: bool = True,
    cache_folder: str | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
    *,
    keep_columns: bool = False,
    seed: int = 0,
    strict: bool = False,
) -> Dataset:
    """Add hard negatives to (anchor, positive) pairs; arguments and result as in sentence-transformers.

    The page "From mine_hard_negatives" of the documentation has a line for every argument and every difference. Three
    arguments are of this package: ``keep_columns`` keeps the other columns of the dataset, after those of the format;
    ``seed`` is the random seed of ``sampling_strategy="random"``; ``strict`` takes the semantics of
    :class:`~hf_posmine.mining.miner.PositiveAwareMiner`: negatives score strictly below the bounds, near copies of a
    positive and the query's own text are not negatives, and ``range_min`` counts ranks before the bounds.

    Returns:
        A dataset with the columns of ``output_format``.

    Raises:
        InputError: arguments that cannot be used; a ValueError with the message of sentence-transformers.
    """
    arguments: dict[str, Any] = dict(locals())
    return mine(Arguments(**arguments))
