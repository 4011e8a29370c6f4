"""From a table of settings to the one that is mined with."""

from __future__ import annotations

from typing import Any

from hf_posmine.core.errors import InputError


def choose(table: Any, *, min_yield: float = 0.95, max_false_negatives: float | None = None) -> dict[str, Any]:
    """The hardest setting that keeps within two limits.

    Args:
        table: what :func:`~hf_posmine.evaluation.negatives.sweep.sweep` gave.
        min_yield: least share of the requested negatives that must be found.
        max_false_negatives: highest false-negative rate, for tables with judgements.

    Returns:
        The row of the table, without its overlaps.

    Raises:
        InputError: no setting is within the limits, with the nearest.
    """
    rows = [{name: value for name, value in row.items() if name != "overlap"} for row in table]
    if max_false_negatives is not None and any(row["false_negative_rate"] is None for row in rows):
        raise InputError("max_false_negatives needs a sweep with judgements=, which counts false negatives")
    within = [
        row
        for row in rows
        if row["yield"] >= min_yield
        and (max_false_negatives is None or row["false_negative_rate"] <= max_false_negatives)
    ]
    if not within:
        best = max(rows, key=lambda row: (row["yield"], -(row["false_negative_rate"] or 0)))
        raise InputError(
            f"no setting has a yield of {min_yield:g} or more"
            + ("" if max_false_negatives is None else f" and at most {max_false_negatives:g} false negatives")
            + f"; the highest yield is {best['yield']:.3f} with {best['filters']}, {best['sampler']}"
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

    filters = [] if row["filters"] == "naive" else row["filters"].split(" + ")
    return yaml.safe_dump(
        {"filters": filters, **{name: row[name] for name in ("sampler", "num_negatives", "seed")}}, sort_keys=False
    )
