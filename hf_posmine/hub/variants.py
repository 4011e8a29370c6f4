"""One mined dataset in the layouts that trainers read, each a configuration of the pushed repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.columns import has_numbered_rows, image_columns
from hf_posmine.mining.columns import OUTPUT_COLUMNS, list_column, written_columns
from hf_posmine.mining.training_formats import to_training
from hf_posmine.utils.progress import quiet_bars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.mining.record import Columns
    from hf_posmine.mining.training_formats import Short

Variant: TypeAlias = Literal["n-tuple", "scored", "flag-embedding"]
VARIANTS: tuple[str, ...] = get_args(Variant)


@dataclass(frozen=True)
class Config:
    """One configuration: its splits by name, how its files are written (json lines are files only), and short rows left out."""

    name: str
    splits: Mapping[str, Any]
    suffix: Literal["parquet", "jsonl"] = "parquet"
    left_out: int = 0


@dataclass(frozen=True)
class RowsAsTexts:
    """The columns that every layout needs.

    Attributes:
        query: column of the queries.
        positive: column of the positives, texts or lists of texts.
        num_negatives: negatives of an n-tuple.
        on_short: what becomes of rows with fewer.
    """

    query: str
    positive: str
    num_negatives: int
    on_short: Short

    @classmethod
    def of(cls, mined: AnyDataset, columns: Columns, num_negatives: int, on_short: Short) -> RowsAsTexts:
        """From the columns that the miner read; where it read ids, the texts are looked for by name."""
        from hf_posmine.data.layouts import pick_columns

        split = next(iter(mined.values()))
        known = [name for name in split.column_names if name not in OUTPUT_COLUMNS]
        if columns.positive is not None:
            return cls(columns.query, columns.positive, num_negatives, on_short)
        query, positive, _ = pick_columns(split.select_columns(known), columns.query, None, None)
        if positive is None:
            raise ColumnError(f"no column with the texts of positives among {known}; variants need them")
        return cls(query, positive, num_negatives, on_short)

    def spread(self, split: Dataset, *, scores: bool) -> Any:
        """The rows of a split as n-tuples."""
        with quiet_bars():
            return to_training(
                split, "n-tuple", self.num_negatives, query_column=self.query, positive_column=self.positive,
                on_short=self.on_short, scores=scores,
            )  # fmt: skip

    def short(self, mined: Mapping[str, Dataset]) -> int:
        """Rows that n-tuples leave out."""
        least = {"drop": self.num_negatives, "repeat": 1, "raise": 0}[self.on_short]
        return sum(len(negatives) < least for split in mined.values() for negatives in split["negatives"])


def _check_documents(mined: Mapping[str, Any], variants: Sequence[Variant]) -> None:
    """Refuse rows whose documents no variant can hold: negatives by id, or images where files of texts are asked for."""
    for split in mined.values():
        if list_column(written_columns(split)) == "negatives_ids":
            raise InputError(
                "variants hold the negatives, and these rows name them by id; mine with negatives_as='images' (or 'texts'), or "
                "leave variants out"
            )
        texts_alone = [variant for variant in variants if variant != "n-tuple"]
        if texts_alone and image_columns(split.features):
            raise InputError(f"variant {texts_alone[0]!r} holds texts, and these rows have images; use n-tuple")


def make_configs(
    mined: Mapping[str, Any],
    name: str,
    variants: Sequence[Variant],
    columns: Columns,
    num_negatives: int,
    on_short: Short = "drop",
) -> list[Config]:
    """The rows as they are, and each variant.

    - ``n-tuple``: query, positive, ``negative_1`` to ``negative_n``; a row for each positive.
    - ``scored``: three configurations, ``documents`` (document_id, text), ``queries`` (query_id, text) and ``scores``
      (query_id, document_ids, scores; the positive first), as PyLate and LightOn's sets have them, with n negatives in each
      row, because a batch of PyLate takes as many documents of each query. Rows with several positives are refused.
    - ``flag-embedding``: files of json lines, query, pos, neg and their scores, as FlagEmbedding reads them; they are no
      configuration, because ``load_dataset`` reads all configurations of a repository in one format.

    Args:
        mined: splits by name.
        name: of the configuration of the rows; other than ``default`` it is put before the names of the variants.
        variants: which.
        columns: columns that the miner read.
        num_negatives: negatives of an n-tuple.
        on_short: what becomes of rows with fewer in ``n-tuple`` and ``scored``, as :func:`~hf_posmine.to_training` has it.

    Raises:
        InputError: an unknown variant, or a split of which a variant leaves nothing.
        ColumnError: the scores or texts it needs are not there.
    """
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown:
        raise InputError(f"variant {unknown[0]!r}; choose from {list(VARIANTS)}")
    configs = [Config(name, mined)]
    if variants:
        if not all(has_numbered_rows(split) for split in mined.values()):
            raise InputError(
                "variants are made from a Dataset; load the shards with load_dataset(folder) and push that"
            )
        _check_documents(mined, variants)
        texts = RowsAsTexts.of(mined, columns, num_negatives, on_short)
        prefix = "" if name == "default" else f"{name}-"
        makers = {"n-tuple": _n_tuples, "scored": _scored, "flag-embedding": _flag_embedding}
        configs += [c for variant in dict.fromkeys(variants) for c in makers[variant](mined, texts, prefix)]
    for config in configs:
        for split, rows in config.splits.items():
            if not len(rows):
                raise InputError(
                    f"configuration {config.name!r} has no rows in split {split!r}, which would make the repository unloadable; "
                    "drop the split or the variant"
                )
    return configs


def _n_tuples(mined: Mapping[str, Any], texts: RowsAsTexts, prefix: str) -> list[Config]:
    made = {name: texts.spread(split, scores=False) for name, split in mined.items()}
    return [Config(f"{prefix}n-tuple", made, left_out=texts.short(mined))]


class _Numbers(dict):
    """Text -> its number, in order of first appearance."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]


def _scored(mined: Mapping[str, Any], texts: RowsAsTexts, prefix: str) -> list[Config]:
    from datasets import Dataset, Features, List, Value

    features = Features(
        {"query_id": Value("int64"), "document_ids": List(Value("int64")), "scores": List(Value("float32"))}
    )
    queries, documents, scores = _Numbers(), _Numbers(), {}
    for name, split in mined.items():
        tuples = texts.spread(split, scores=True)
        rows = zip(*(tuples[column] for column in tuples.column_names[1:-1]), strict=True)
        columns = {
            "query_id": [queries[query] for query in tuples[texts.query]],
            "document_ids": [[documents[text] for text in row] for row in rows],
            "scores": tuples["scores"][:],
        }
        scores[name] = Dataset.from_dict(columns, features=features)

    def texts_of(numbers: dict[str, int], column: str) -> dict[str, Any]:
        types = Features({column: Value("int64"), "text": Value("string")})
        return {"train": Dataset.from_dict({column: list(numbers.values()), "text": list(numbers)}, features=types)}

    return [
        Config(f"{prefix}documents", texts_of(documents, "document_id")),
        Config(f"{prefix}queries", texts_of(queries, "query_id")),
        Config(f"{prefix}scores", scores, left_out=texts.short(mined)),
    ]


def _flag_embedding(mined: Mapping[str, Any], texts: RowsAsTexts, prefix: str) -> list[Config]:
    from datasets import Features, List, Value

    wanted = {"positive_score", "negatives_scores"}
    scored = all(
        wanted <= set(written_columns(split)) and split.features[texts.positive] == Value("string")
        for split in mined.values()
    )  # one score is recorded for a row, so several positives come without
    features = {"query": Value("string"), "pos": List(Value("string")), "neg": List(Value("string"))}
    features |= {"pos_scores": List(Value("float32")), "neg_scores": List(Value("float32"))} if scored else {}

    def lines(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        filled = [row for row, negatives in enumerate(batch["negatives"]) if negatives]
        query, positives, negatives = (
            [batch[name][row] for row in filled] for name in (texts.query, texts.positive, "negatives")
        )
        made = {"query": query, "pos": [[p] if isinstance(p, str) else p for p in positives], "neg": negatives}
        if scored:
            made["pos_scores"] = [[batch["positive_score"][row]] for row in filled]
            made["neg_scores"] = [batch["negatives_scores"][row] for row in filled]
        return made

    with quiet_bars():
        made = {
            name: split.with_format(None).map(
                lines, batched=True, remove_columns=split.column_names, features=Features(features)
            )
            for name, split in mined.items()
        }
    return [Config(f"{prefix}flag-embedding", made, "jsonl")]
