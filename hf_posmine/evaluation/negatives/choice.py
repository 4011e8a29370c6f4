"""From a table of settings to the one that is mined with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

NO_BOUND = (
    "the hardest setting is always Naive Top-K, which takes the most false negatives: a choice needs a bound on them. Give "
    "judgements= and max_false_negatives=; or choose with hf-posmine calibrate where queries have several positives; or keep "
    "the paper's setting, PercPos(0.95), and let hf-posmine judge check the rows"
)


def choose(table: DataFrame, *, max_false_negatives: float | None, min_yield: float = 0.95) -> dict[str, Any]:
    """The hardest setting that keeps within two limits.

    Args:
        table: of :func:`~hf_posmine.evaluation.negatives.sweep.sweep` with ``judgements=``.
        max_false_negatives: highest false-negative rate.
        min_yield: least share of the requested negatives.

    Returns:
        The row of the table, without its overlaps.

    Raises:
        InputError: no judgements or no bound; or no setting is within the limits, with the nearest.
    """
    rows = [{name: value for name, value in row.items() if name != "overlap"} for row in table]
    if max_false_negatives is None or any(row["false_negative_rate"] is None for row in rows):
        raise InputError(NO_BOUND)
    if not 0 <= max_false_negatives <= 1:
        raise InputError(f"max_false_negatives={max_false_negatives:g} is not a share between 0 and 1, such as 0.05")
    within = [row for row in rows if row["yield"] >= min_yield and row["false_negative_rate"] <= max_false_negatives]
    if not within:
        best = min(rows, key=lambda row: (row["yield"] < min_yield, row["false_negative_rate"], -row["yield"]))
        raise InputError(
            f"no setting has a yield of {min_yield:g} or more and at most {max_false_negatives:g} false negatives; the nearest "
            f"is {best['filters']}, {best['sampler']} with {best['yield']:.3f} and {best['false_negative_rate']:.3f}"
        )
    return max(within, key=lambda row: row["hardness"])


def mine_config(row: dict[str, Any]) -> str:
    """The setting as YAML for ``hf-posmine mine --config``.

    >>> print(mine_config({"filters": "SkipTop(5) + PercPos(0.95)", "sampler": "Top()", "num_negatives": 4, "seed": 0}))
    filters:
    - SkipTop(5)
    - PercPos(0.95)
    sampler: Top()
    num_negatives: 4
    seed: 0
    <BLANKLINE>
    """
    import yaml

    filters = "none" if row["filters"] == "naive" else row["filters"].split(" + ")
    return yaml.safe_dump(
        {"filters": filters, **{name: row[name] for name in ("sampler", "num_negatives", "seed")}}, sort_keys=False
    )
