"""Cells of an ablation: each trains one student, measures it, and is kept as one JSON file; what is there is not done again."""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.grid import plain
from ablation.mined import MinedSets
from ablation.student import STUDENT_KEYS, changed_student
from ablation.training_set import place
from hf_posmine.core import InputError, PosmineError
from hf_posmine.utils import quiet_bars, remove_stale, write_file

if TYPE_CHECKING:
    from ablation.config import Config
    from ablation.grid import Cell
    from hf_posmine.evaluation import Collection, RetrievalResult

KIND = "hf_posmine ablation cell"


class Cells:
    """The cells of an ablation, below ``<output>/cells``.

    Args:
        config: the ablation.
        output: its folder.
    """

    def __init__(self, config: Config, output: Path) -> None:
        self.config, self.output = config, Path(output)
        self.mined = MinedSets(config, self.output)

    def path(self, digest: str) -> Path:
        """Where a cell's result is kept."""
        return self.output / "cells" / f"{digest}.json"

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """The results that are there, by digest."""
        there = {digest: self.path(digest) for digest in self.config.cells}
        return {digest: _read(path) for digest, path in there.items() if path.is_file()}

    @property
    def missing(self) -> list[str]:
        """Digests of the cells that are not there."""
        return [digest for digest in self.config.cells if not self.path(digest).is_file()]

    @cached_property
    def collections(self) -> dict[str, Collection]:
        """What students are measured on."""
        from hf_posmine.evaluation import load_collection

        return {
            entry["name"]: load_collection(place(entry["path"], self.output), entry.get("qrels"))
            for entry in self.config.evaluate
        }

    def run(self, digest: str) -> dict[str, Any]:
        """Train and measure a cell, and keep its result; what it cannot do (no negatives below a ceiling) is one, too."""
        cell, path = self.config.cells[digest], self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        record = {"kind": KIND, "digest": digest, **self._settings(cell)}
        folder = self.output / "work" / digest
        with path.with_suffix(".log").open("w") as log, contextlib.redirect_stdout(log), quiet_bars():
            try:
                record |= self._train(cell, folder)
            except PosmineError as error:
                record["failed"] = str(error)
        write_file(path, lambda file: file.write_text(json.dumps(record) + "\n"))
        path.with_suffix(".log").unlink()
        shutil.rmtree(folder, ignore_errors=True)
        return record

    def _settings(self, cell: Cell) -> dict[str, Any]:
        from hf_posmine.mining.provenance import now, versions

        return {
            "cell": plain(cell),
            "teachers": {name: self.config.teacher(name, cell.mining.seed) for name in cell.mining.teachers},
            "training": dict(self.config.training[cell.training]),
            "mining": self.mined.statistics(cell.mining),
            "machine": {
                "system": f"{platform.system()} {platform.machine()}",
                "processor": _processor(),
                "threads": _threads(),
            },
            "versions": versions(),
            "created": now(),
        }

    def _train(self, cell: Cell, folder: Path) -> dict[str, Any]:
        from hf_posmine.evaluation import evaluate_retrieval
        from hf_posmine.training import recipe_from, run_stage

        start, cpu = time.perf_counter(), time.process_time()
        model = run_stage(recipe_from(self.recipe(cell, folder)))
        trained = time.perf_counter()
        instructions = {entry["name"]: entry.get("instruction") for entry in self.config.evaluate}
        found = {
            name: evaluate_retrieval(model, collection, query_instruction=instructions[name])
            for name, collection in self.collections.items()
        }
        end = time.perf_counter()
        return {
            "collections": {name: _figures(result, self.config.measure) for name, result in found.items()},
            "seconds": {"training": round(trained - start, 2), "evaluation": round(end - trained, 2)},
            "cpu_seconds": round(time.process_time() - cpu, 2),
        }

    def recipe(self, cell: Cell, folder: Path) -> dict[str, Any]:
        """The training stage of a cell, as :func:`~hf_posmine.training.recipe.recipe_from` takes it."""
        stage = dict(self.config.training[cell.training])
        in_batch = stage.pop("in_batch_negatives", None)
        changes = {key: stage.pop(key) for key in STUDENT_KEYS if key in stage}
        if changes:
            stage["model"] = str(changed_student(str(stage["model"]), self.output / "students", **changes))
        datasets = []
        for learnt in self.config.train:
            path = self.mined.training_file(cell.mining, learnt["name"])
            entry = {
                "name": learnt["name"],
                "path": str(path),
                "task": "retrieval",
                "instruction": learnt.get("instruction", ""),
            }
            entry |= {} if in_batch is None else {"in_batch_negatives": in_batch}
            entry |= {} if cell.mining.teachers else {"num_negatives": 0}
            entry |= {"scores": "teacher"} if "distillation" in stage else {}
            datasets.append(entry)
        return {
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            **stage,
            "num_negatives": max(1, cell.mining.num_negatives),
            "datasets": datasets,
            "output_dir": str(folder),
            "seed": cell.seed,
        }


def _figures(result: RetrievalResult, measure: str) -> dict[str, Any]:
    if measure not in result.scores:
        raise InputError(f"measure {measure!r} was not evaluated; there are {', '.join(result.scores)}")
    return {
        "means": result.means,
        "query_ids": list(result.query_ids),
        "scores": [round(value, 6) for value in result.scores[measure].tolist()],
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} is not a result of a cell ({error}); delete it to do the cell again"
        ) from error
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise InputError(f"{str(path)!r} is not a result of a cell; delete it to do the cell again")
    return record


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
