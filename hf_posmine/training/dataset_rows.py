"""One data set of a blend: loaded, converted to training rows, sampled and mined by its spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.aliases import names_an_id
from hf_posmine.data.columns import image_columns
from hf_posmine.data.sources import beir_pairs, is_beir, load_source
from hf_posmine.mining.columns import list_column
from hf_posmine.mining.provenance import recorded_at
from hf_posmine.mining.rows_digest import rows_digest
from hf_posmine.mining.training_formats import SCORE_COLUMNS
from hf_posmine.training.convert import (
    Converted,
    join_positives,
    labels_to_triples,
    nli_to_triples,
    reranking_to_rows,
    retrieval_to_rows,
    sts_to_pairs,
)
from hf_posmine.training.convert.images import image_rows
from hf_posmine.training.dataset_spec import IN_BATCH
from hf_posmine.training.role_columns import RoleColumns
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.progress import quiet_bars

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.training.dataset_spec import DatasetSpec


class NothingMinedError(InputError):
    """No row of a data set has enough documents below its ceiling."""


MIN_STS_SCORE = 4.0
"""Of 5: NV-Embed, arXiv 2405.17428, section 4.2."""


def rows_of(
    spec: DatasetSpec, num_negatives: int | None, seed: int, num_positives: int = 1
) -> tuple[Converted, RoleColumns]:
    """The training rows of a data set, and the columns that they came from.

    Args:
        spec: the data set.
        num_negatives: where the spec has none; None takes as many as the provenance beside the rows has, else 1.
        seed: where the spec has none.
        num_positives: at most so many positives of a query in one row; 1 for a row for each.

    Raises:
        InputError: nothing readable there, or data that do not fit the spec.
    """
    recorded = None if spec.mine is not None else recorded_at(Path(spec.path))
    given = next((n for n in (spec.num_negatives, num_negatives) if n is not None), None)
    mined = 1 if recorded is None else int(recorded.settings["num_negatives"])
    n, seed = mined if given is None else given, seed if spec.seed is None else spec.seed
    dataset = load_rows(spec)
    columns = RoleColumns.of(spec, dataset, recorded, wanted=n)
    if spec.mine is not None:
        pairs = _pairs(spec, dataset, columns)
        with_negatives = _mined(spec, pairs, _sample(pairs, spec.max_samples, seed), n, seed)
        return _joined(spec, with_negatives, num_positives), columns
    rows = _pairs(spec, dataset, columns) if n == 0 else _with_negatives(spec, dataset, columns, n, seed)
    return _sample(_joined(spec, rows, num_positives), spec.max_samples, seed), columns


def _joined(spec: DatasetSpec, rows: Converted, num_positives: int) -> Converted:
    """Rows of the same query joined, where queries and documents are different things."""
    return join_positives(rows, num_positives) if num_positives > 1 and spec.task in IN_BATCH else rows


def load_rows(spec: DatasetSpec) -> Any:
    """The raw rows of a data set.

    A BEIR folder gives ``query`` and ``positive``; anything else is read by :func:`~hf_posmine.data.sources.load_source`.

    Raises:
        InputError: nothing readable there.
    """
    import datasets

    path = Path(spec.path)
    if spec.revision is not None and path.exists():
        raise InputError(
            f"revision={spec.revision!r} has no effect on {spec.path!r}, which is not a Hub id; leave it out"
        )
    try:
        if is_beir(path):
            return _beir_rows(path, spec.split)
        if spec.revision is not None:
            return datasets.load_dataset(spec.path, spec.config, split=spec.split, revision=spec.revision)
        return load_source(spec.path, spec.split, spec.config)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{spec.path!r}, split {spec.split!r}, cannot be read: {error}") from error


def _beir_rows(folder: Path, split: str) -> Any:
    from hf_posmine.data.corpus import Corpus

    pairs, corpus = beir_pairs(folder, split), Corpus.from_beir(folder)
    rows = corpus.required_rows(pairs["positive_id"][:], "corpus-id")
    return pairs.add_column("positive", corpus.texts(rows).to_pylist())


def _with_negatives(spec: DatasetSpec, dataset: Dataset, roles: RoleColumns, n: int, seed: int) -> Converted:
    columns: list[Any] = list(roles.by_role.values())
    if spec.task == "retrieval":
        named = _documents(spec, dataset, roles)
        return retrieval_to_rows(dataset, *columns, num_negatives=n, scores=_score_columns(spec), corpus=named)
    if spec.task == "reranking":
        return reranking_to_rows(dataset, *columns, num_negatives=n)
    texts = spec.label_texts
    if spec.task == "nli":
        return nli_to_triples(dataset, *columns, num_negatives=n, label_texts=texts, seed=seed)
    positives = "example" if spec.task == "clustering" else spec.positives or "auto"
    return labels_to_triples(dataset, *columns, num_negatives=n, positives=positives, label_texts=texts, seed=seed)


def _pairs(spec: DatasetSpec, dataset: Dataset, roles: RoleColumns) -> Converted:
    """Queries and positives without negatives."""
    columns: list[Any] = list(roles.by_role.values())
    if spec.task == "sts":
        min_score = MIN_STS_SCORE if spec.min_score is None else spec.min_score
        return sts_to_pairs(dataset, *columns, min_score=min_score)
    return retrieval_to_rows(dataset, *columns, num_negatives=0, corpus=_documents(spec, dataset, roles))


def _documents(spec: DatasetSpec, dataset: Dataset, roles: RoleColumns) -> Corpus | None:
    """What the columns of ids name; None without such columns.

    Raises:
        ColumnError: texts by id without a corpus, or a corpus without ids.
    """
    from hf_posmine.data.corpus import Corpus

    by_id = [column for role, column in roles.by_role.items() if role != "query" and column and names_an_id(column)]
    source, positive = spec.corpus or (spec.mine or {}).get("corpus"), str(roles.by_role["positive"])
    if spec.corpus and not by_id:
        raise ColumnError(f"corpus={spec.corpus!r} has no effect on rows without ids; their columns are {roles}")
    if not by_id or source:
        return Corpus.of(source) if by_id else None
    if positive in image_columns(dataset.features):  # whose names are the ids
        return Corpus.from_dataset(dataset, positive, id="")
    raise ColumnError(f"column {by_id[0]!r} holds ids; give corpus: with the documents that they name")


def _mined(spec: DatasetSpec, everything: Converted, pairs: Converted, n: int, seed: int) -> Converted:
    """The pairs with mined negatives; positives of pairs that were not sampled are still no negatives."""
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.second_opinion import SecondOpinion

    mine = spec.mine or {}
    miner = PositiveAwareMiner.from_dataset(
        image_rows(everything.dataset, everything.images),
        mine.get("teacher"),
        query_column="query",
        positive_column="positive",
        corpus=_corpus(spec, everything),
        teacher_options=mine.get("teacher_options"),
        second_opinion=SecondOpinion(**mine["second_opinion"]) if mine.get("second_opinion") else None,
        **{"seed": seed} | spec.mining_options | {"num_negatives": n},
    )
    mined = _mined_once(image_rows(pairs.dataset, pairs.images), miner)
    if not len(mined):
        raise NothingMinedError(
            f"no row found {n} negatives below its ceiling among {miner.corpus.num_candidates:,} documents; give a corpus, ask "
            "for fewer, or use on_short: random"
        )
    found = list_column(mined.column_names)
    rows = retrieval_to_rows(mined, negatives=found, num_negatives=n, scores=_score_columns(spec), corpus=miner.corpus)
    short = {"dropped_short": len(pairs.dataset) - len(rows.dataset)}
    return replace(rows, counts=pairs.counts | short | {"rows_out": len(rows.dataset)})


def _score_columns(spec: DatasetSpec) -> tuple[str, str] | None:
    return None if spec.scores is None else SCORE_COLUMNS[spec.scores]


def _mined_once(pairs: Dataset, miner: PositiveAwareMiner) -> Any:
    """The pairs with their negatives, mined by one of several processes; the others wait for it, however long it takes.

    They wait for a lock of a file: a barrier of torch.distributed ends a run after 30 minutes.
    """
    import datasets
    import pyarrow.parquet as pq

    def build(folder: Path) -> None:
        pairs.map(miner, batched=True, features=miner.features(pairs.features)).to_parquet(str(folder / "rows.parquet"))

    key = json_digest([rows_digest(pairs), miner.fingerprint])
    folder = build_once(cache_root() / "blends" / key, build)
    return datasets.Dataset(pq.read_table(folder / "rows.parquet"))  # from_parquet refuses a file without rows


def _corpus(spec: DatasetSpec, everything: Converted) -> Corpus | None:
    """What negatives are chosen from; None: the positives of the set."""
    from hf_posmine.data.corpus import Corpus

    documents = everything.pool or (spec.mine or {}).get("corpus")
    return None if documents is None else Corpus.of(documents)


def _sample(rows: Converted, most: int | None, seed: int) -> Converted:
    """At most so many rows, in order."""
    total = len(rows.dataset)
    if most is None or total <= most:
        return rows
    at = np.sort(np.random.default_rng([seed, 1]).choice(total, most, replace=False))
    with quiet_bars():
        dataset = rows.dataset.select(at).flatten_indices(keep_in_memory=True)
    return replace(
        rows, dataset=dataset, counts=rows.counts | {"dropped_by_max_samples": total - most, "rows_out": most}
    )
