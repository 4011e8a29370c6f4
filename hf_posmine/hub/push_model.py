"""``push_model``: a model with the record of its training and a card, in one commit."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.hub.card_values import About
from hf_posmine.hub.model_card import model_card
from hf_posmine.hub.repository import README, Changes, Destination, Pushed, Snapshot, check_login, publish, record_there
from hf_posmine.hub.training_record import TrainingRecord, describe_model, read_training_record, without_time
from hf_posmine.mining.provenance import FILE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


WEIGHTS = re.compile(
    r"(.*/)?(model.*\.safetensors(\.index\.json)?|pytorch_model.*\.bin|adapter_model\.(safetensors|bin)|adapter_config\.json)"
)
"""Files of an earlier push that would be loaded along with, or instead of, the files pushed now."""


def push_model(
    model: SentenceTransformer | str | Path,
    repo_id: str,
    record: TrainingRecord | None = None,
    *,
    about: About | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> Pushed:
    """Push a model with the record of how it was trained, and a card.

    Everything lands atomically, in one commit. Pushing the same again makes no commit. Text that somebody wrote into
    the card stays. The pushed model loads with plain ``SentenceTransformer(repo_id)``; adapters of an
    :class:`~hf_posmine.models.instruct.InstructSentenceTransformer` need that class.

    Args:
        model: a SentenceTransformer, or the folder of one, such as the ``output_dir`` of ``hf-posmine train``.
        repo_id: such as ``me/nq-retriever``.
        record: how it was trained; by default the ``provenance.json`` in the folder, else the description by the model itself.
        about: licence, language, heading: values that only the author knows.
        private: create the repository private.
        revision: branch; by default main.
        create_pr: propose a pull request instead.
        token: by default that of the logged-in user.

    Raises:
        InputError: no model there; nothing was sent.
        HubError: the Hub refused or could not be reached; the same push again resumes.
    """
    to = Destination(repo_id, "model", private, revision, create_pr, token)
    check_login(token)
    if isinstance(model, (str, Path)):
        record = record or read_training_record(Path(model))
        model = _load(Path(model))
    record = record or describe_model(model)
    with tempfile.TemporaryDirectory(prefix="posmine-push-") as folder:
        model.save(folder, create_model_card=False)
        files = {
            str(p.relative_to(folder)): p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name != README
        }
        adapters = "adapter_config.json" in {Path(path).name for path in files}

        def changes(there: Snapshot) -> Changes:
            kept = _unless_same(record, there, to)
            card = model_card(there.readme, there.repo_id, model, kept, about or About(), adapters)
            added: dict[str, bytes | Path] = {**files, FILE: kept.to_json().encode(), README: card}
            return Changes(added, frozenset(p for p in there.files if WEIGHTS.fullmatch(p) and p not in added))

        changes(Snapshot(repo_id, "main", "", frozenset(), None))  # an error here comes before anything is sent
        return publish(to, "Model", changes)


def _load(folder: Path) -> SentenceTransformer:
    from hf_posmine.models.instruct import InstructSentenceTransformer

    if not (folder / "modules.json").is_file():
        raise InputError(f"{folder} is not a saved sentence-transformers model (no modules.json)")
    return InstructSentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _unless_same(record: TrainingRecord, there: Snapshot, to: Destination) -> TrainingRecord:
    """The record in the repository if it differs in nothing but its time, so that the same push makes no commit."""
    old = record_there(there, to, FILE, TrainingRecord.from_json)
    return old if old is not None and without_time(old).to_json() == without_time(record).to_json() else record
