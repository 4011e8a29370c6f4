"""The folder of a run: its recipe, the checkpoint from which an interrupted run resumes, and whether it is finished."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.training.recipe import Recipe

NOTE = "recipe.json"
STATE = "trainer_state.json"
"""The trainer writes it last: into a checkpoint, and into the folder of a finished run."""

FREE = ("disable_tqdm", "log", "project", "report_to", "run_name", "save_", "trackio_")
"""How keys start that may change between two parts of a run, since no weight depends on them."""


@dataclass(frozen=True)
class RunFolder:
    """The ``output_dir`` of a stage.

    Attributes:
        path: the folder; it need not exist.
    """

    path: Path

    @property
    def finished(self) -> bool:
        """Whether a run has come to its end here."""
        return _is_json(self.path / STATE)

    @property
    def last_checkpoint(self) -> Path | None:
        """The latest checkpoint that was written to its end; a killed run may leave a torn one behind."""
        found = [path for path in self.path.glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
        for path in sorted(found, key=lambda path: -int(path.name.split("-")[-1])):
            if _is_json(path / STATE):
                return path
        return None

    def check(self, recipe: Recipe) -> None:
        """Refuse a folder with a run of another recipe.

        Raises:
            InputError: a run of another recipe, with the first difference; or a model whose recipe is not known.
        """
        if not self.finished and self.last_checkpoint is None and not (self.path / "modules.json").exists():
            return
        cure = "choose another output_dir, or remove that folder"
        if not (self.path / NOTE).exists():
            raise InputError(f"{self.path} holds a model or checkpoints that no recipe of ours left there; {cure}")
        changed = _first_change(json.loads((self.path / NOTE).read_text("utf8")), recipe.as_dict())
        if changed is not None:
            key, before, now = changed
            raise InputError(f"{self.path} holds a run whose {key} was {before!r}, now {now!r}; {cure}")

    def note(self, recipe: Recipe) -> None:
        """Write down whose folder it is."""
        write_file(self.path / NOTE, lambda file: file.write_text(json.dumps(recipe.as_dict(), indent=2), "utf8"))


def _first_change(before: object, now: object, at: str = "") -> tuple[str, Any, Any] | None:
    """The first leaf that differs: its dotted key and both values."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        before, now = (dict(enumerate(values)) for values in (before, now))
    if not isinstance(before, dict) or not isinstance(now, dict):
        return None if before == now else (at, before, now)
    keys = [key for key in {**before, **now} if at or not key.startswith(FREE)]
    changes = (_first_change(before.get(key), now.get(key), f"{at}.{key}" if at else key) for key in keys)
    return next((change for change in changes if change is not None), None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text("utf8"))
    except (OSError, ValueError):
        return False
    return True
