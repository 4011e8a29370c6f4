"""Negatives of an ablation: each way to mine once, all of a teacher's from one stored run.

Rows that stay short are left out of training; the statistics count them.
"""

from __future__ import annotations

import json
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ablation.grid import is_random
from ablation.training_set import TrainingSet, load_training_set, scores_of
from hf_posmine import MiningSummary, PositiveAwareMiner
from hf_posmine.teachers import StoredRun, make_teacher
from hf_posmine.utils import build_once, progress_bar, quiet_bars, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from ablation.config import Config
    from ablation.grid import Mining
    from hf_posmine.core import Teacher

DEPTH = 200
FULL = ".full.parquet"
COLUMNS = {"query_column": "query", "positive_column": "positive"}


class MinedSets:
    """The mined sets of an ablation, below ``<output>/mined``.

    Args:
        config: the ablation.
        output: its folder.
    """

    def __init__(self, config: Config, output: Path) -> None:
        self.config, self.output = config, output
        self._teachers: dict[tuple[str, str, int], Teacher] = {}

    @cached_property
    def sets(self) -> list[TrainingSet]:
        """What students learn from."""
        return [load_training_set(entry, self.output) for entry in self.config.train]

    def folder(self, mining: Mining) -> Path:
        """The folder of a mining's negatives, a parquet file for each set, with their statistics."""
        return self.output / "mined" / self.config.mining_digest(mining)

    def training_file(self, mining: Mining, name: str) -> Path:
        """The rows of one set to learn from: those with all their negatives, if there are any."""
        full = self.folder(mining) / f"{name}{FULL}"
        return full if full.is_file() else self.folder(mining) / f"{name}.parquet"

    @property
    def missing(self) -> list[Mining]:
        """What is not mined yet."""
        return [mining for mining in self.config.minings().values() if not self.folder(mining).is_dir()]

    def mine_all(self) -> None:
        """Mine whatever is missing; each folder is written atomically."""
        missing = self.missing
        with progress_bar(len(missing), "Mining", "setting") as bar:
            for mining in missing:
                with quiet_bars():
                    build_once(self.folder(mining), partial(self._mine, mining))
                bar.update(1)

    def statistics(self, mining: Mining) -> dict[str, Any]:
        """What came of a mining, by set: see :func:`describe`."""
        return json.loads((self.folder(mining) / "statistics.json").read_text("utf8"))

    def read(self, mining: Mining, name: str) -> Any:
        """The mined rows of one set."""
        from datasets import Dataset

        with quiet_bars():
            return Dataset.from_parquet(str(self.folder(mining) / f"{name}.parquet"))

    def _mine(self, mining: Mining, folder: Path) -> None:
        statistics = {}
        for training_set in self.sets:
            start = time.perf_counter()
            mined = self._rows(training_set, mining)
            mined.to_parquet(folder / f"{training_set.name}.parquet")
            full = _full(mined, mining)
            if 0 < len(full) < len(mined):
                full.to_parquet(folder / f"{training_set.name}{FULL}")
            statistics[training_set.name] = describe(mined, training_set, mining)
            statistics[training_set.name]["seconds"] = round(time.perf_counter() - start, 2)
            if all(is_random(self.config.teachers[name]) for name in mining.teachers):
                statistics[training_set.name]["hardness"] = None  # random scores have none
        write_file(folder / "statistics.json", lambda path: path.write_text(json.dumps(statistics, indent=1) + "\n"))

    def _rows(self, training_set: TrainingSet, mining: Mining) -> Any:
        if not mining.teachers:
            return training_set.pairs
        options: dict[str, Any] = {**COLUMNS, **self.config.mining}
        options.pop("depth", None)
        miner = PositiveAwareMiner(
            corpus=training_set.corpus,
            teachers=[self._teacher(name, training_set, mining.seed) for name in mining.teachers],
            known_positives=training_set.known,
            filters=mining.filter_list,
            sampler=mining.sampler,
            num_negatives=mining.num_negatives,
            seed=mining.seed,
            keep=("scores", "ranks", "positive_score", "stats"),
            **options,
        )
        return training_set.pairs.map(miner, batched=True, load_from_cache_file=False)

    def _teacher(self, name: str, training_set: TrainingSet, seed: int) -> Teacher:
        """A teacher's stored run over a set; chance needs none."""
        options = self.config.teacher(name, seed)
        key = (name, training_set.name, seed if is_random(options) else 0)
        if key not in self._teachers:
            model = options.pop("model")
            options = {option: _filled(value, training_set.task) for option, value in options.items()}
            queries = training_set.known.queries
            teacher = make_teacher(model, training_set.corpus, queries=queries, **options)
            if not str(model).startswith("random"):
                depth = self.config.mining.get("depth", DEPTH)
                teacher = StoredRun.build(teacher, training_set.pairs, depth, corpus=training_set.corpus, **COLUMNS)
            self._teachers[key] = teacher
        return self._teachers[key]


def _full(mined: Any, mining: Mining) -> Any:
    """The rows with all their negatives."""
    if not mining.teachers:
        return mined
    return mined.select(np.flatnonzero([len(row) == mining.num_negatives for row in mined["negatives"][:]]))


def _filled(value: Any, task: str) -> Any:
    """A prompt with the task of the set in it; any other option as it is."""
    return value.replace("{task}", task) if isinstance(value, str) else value


def describe(mined: Any, training_set: TrainingSet, mining: Mining) -> dict[str, Any]:
    """Rows, yield, short rows, what filters removed, hardness, and false negatives where there are judgements."""
    if not mining.teachers:
        return {"rows": len(mined), "negatives": 0}
    summary = MiningSummary.from_dataset(mined, mining.num_negatives)
    scores = scores_of(mined)
    found = np.isfinite(scores["negatives"])
    positives = np.broadcast_to(scores["positives"][:, None], found.shape)
    hardness = float(scores["negatives"][found].mean() / positives[found].mean()) if found.any() else None
    return {
        "rows": summary.rows,
        "negatives": summary.negatives,
        "short_rows": summary.short_rows,
        "filled": summary.filled,
        "removed": summary.removed,
        "hardness": hardness,
        "quantiles": summary.quantiles,
        "false_negative_rate": training_set.false_negatives(mined),
    }
