"""``audit_data``: read, check, count, and fetch examples."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.audit.grouping import checked_rows
from hf_posmine.audit.kinds import KINDS, ROW
from hf_posmine.audit.languages import Languages
from hf_posmine.audit.leakage import judged_texts
from hf_posmine.audit.repair import check_target, repair_data
from hf_posmine.audit.result import AuditResult, FindingExample, KindFindings
from hf_posmine.audit.scan import AuditSettings, RowScan
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hf_posmine.audit.top_up import TopUp
    from hf_posmine.data.row_layouts import RowView
    from hf_posmine.data.training_data import TrainingData


def audit_data(
    data: TrainingData,
    settings: AuditSettings | None = None,
    *,
    repair: str | Path | None = None,
    top_up: TopUp | None = None,
) -> AuditResult:
    """Audit training data.

    Args:
        data: as :func:`~hf_posmine.data.open_training_data` opens it.
        settings: see there.
        repair: where a mended copy is written in the layout of the data, and beside it ``<repair>.repairs.jsonl`` with each
            change; None for none.

        top_up: where the mended copy gets new negatives from, for rows that have fewer than most, or than
            ``settings.num_negatives``; by default such rows stay short.

    Raises:
        InputError: ``repair`` exists or is of another kind than the data, or its rows cannot be topped up.
    """
    target = None if repair is None else Path(repair)
    if target is not None:
        check_target(data, target)
    with tempfile.TemporaryDirectory(prefix="posmine-audit-") as folder:
        result, scan = _audit_into(data, Path(folder), settings or AuditSettings())
        if target is None:
            return result
        topping = None
        if top_up is not None:
            from hf_posmine.audit.top_up import ToppingUp

            topping = ToppingUp(data, top_up, result.num_negatives or 1)
        return replace(result, repair=repair_data(data, scan.found, target, topping))


def _audit_into(data: TrainingData, folder: Path, settings: AuditSettings) -> tuple[AuditResult, RowScan]:
    """The result, and the scan whose findings are in ``folder``."""
    judged = None if settings.collection is None else judged_texts(settings.collection, settings.collection_split)
    scan = RowScan(data, folder, judged, Languages() if settings.languages else None)
    with progress_bar(None, f"Reading {data.name}", "row") as bar, _without_collector():
        for batch in checked_rows(data):
            scan.add(batch)
            bar.update(len(batch))
    taken = scan.finish(settings)
    if settings.teacher is not None:
        from hf_posmine.audit.teacher_checks import TeacherChecks

        checks = TeacherChecks(data, settings.teacher, settings.filters, settings.tolerance, settings.device)
        checks.find(scan.found)
    findings = _counted(data, scan, settings.examples)
    layout = f"{data.layout.name}: {data.layout.describe()}"
    assumptions = _assumptions(scan, taken, settings)
    result = AuditResult(
        data.name, layout, scan.rows, scan.negatives, assumptions, findings, num_negatives=taken.num_negatives,
        languages={} if scan.languages is None else scan.languages.counts,
    )  # fmt: skip
    return result, scan


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Rows and facts hold no cycles; to search them for some takes a fifth of the time of an audit."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _assumptions(scan: RowScan, taken: AuditSettings, settings: AuditSettings) -> tuple[str, ...]:
    lines = []
    if settings.num_negatives is None and taken.num_negatives:
        lines.append(f"a row should have {taken.num_negatives} negatives, as most have; --num-negatives sets it")
    if not scan.has_texts:
        lines.append("documents are ids without texts, so copies and scripts were not looked for; add --corpus")
    return tuple(lines)


def _counted(data: TrainingData, scan: RowScan, examples: int) -> dict[str, KindFindings]:
    places = {name: [(int(row), int(index)) for row, index in scan.found.of(name)[:examples]] for name in KINDS}
    views = _views(data, {row for found in places.values() for row, _ in found})
    return {
        name: KindFindings(
            name,
            scan.found.count_rows(name, scan.rows),
            len(scan.found.of(name)),
            tuple(_example(row, index, views) for row, index in found),
        )
        for name, found in places.items()
        if found
    }


def _views(data: TrainingData, wanted: set[int]) -> dict[int, RowView]:
    """Some rows, read again."""
    views: dict[int, RowView] = {}
    start, last = 0, max(wanted, default=-1)
    for batch in data.raw_batches():
        here = [number for number in wanted if start <= number < start + len(batch)]
        views |= zip(here, data.views([batch[number - start] for number in here]), strict=True)
        start += len(batch)
        if start > last:
            break
    return views


def _example(row: int, index: int, views: Mapping[int, RowView]) -> FindingExample:
    view = views[row]
    negative = None if index == ROW else view.negatives[index]
    return FindingExample(row, index, view.query, next(iter(view.positives), None), negative)
