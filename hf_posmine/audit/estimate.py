"""An estimate of the time that an audit takes: the first rows are checked, the others counted."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.audit.grouping import checked_rows
from hf_posmine.audit.scan import RowScan

if TYPE_CHECKING:
    from hf_posmine.data.training_data import TrainingData

TRIED = 3
"""Batches that are checked; the first also pays for what is made once."""


def estimate_audit(data: TrainingData) -> tuple[int, float]:
    """The number of rows, and the CPU seconds that all of them will take, without a teacher.

    Args:
        data: which is read whole, but not checked.
    """
    with tempfile.TemporaryDirectory(prefix="posmine-audit-") as folder:
        scan, started = RowScan(data, Path(folder)), time.process_time()
        for batch in itertools.islice(checked_rows(data), TRIED):
            scan.add(batch)
        per_row = (time.process_time() - started) / scan.rows
    rows = sum(map(len, data.raw_batches()))
    return rows, per_row * rows
