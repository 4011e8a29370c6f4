"""A pushed dataset as it is in the repository: rows, record and card at one commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.hub.cards import record_in, split_card
from hf_posmine.hub.reach import load_hub_dataset
from hf_posmine.hub.record_check import card_changes
from hf_posmine.hub.repository import read, read_file
from hf_posmine.hub.retry import with_retry
from hf_posmine.mining.provenance import FILE
from hf_posmine.mining.record import MiningRecord
from hf_posmine.utils.progress import quiet_bars
from hf_posmine.utils.upstream import check_repo_id

if TYPE_CHECKING:
    from hf_posmine.hub.inputs import InputChange
    from hf_posmine.hub.repository import Snapshot


@dataclass(frozen=True)
class PushedRecord:
    """A record in a repository.

    Attributes:
        there: the repository at one commit.
        config: configuration of the rows.
        record: its ``provenance.json``.
        card_changes: values that the card shows otherwise.
    """

    there: Snapshot
    config: str
    record: MiningRecord
    card_changes: tuple[InputChange, ...]

    def load_rows(self, token: str | None = None) -> dict[str, Any]:
        """The rows in the repository by split."""

        def load() -> Any:
            with quiet_bars():
                return load_hub_dataset(self.there.repo_id, self.there.commit, name=self.config, token=token)

        return dict(with_retry(load, f"reading the rows of {self.there.repo_id}"))


def read_pushed(
    repo_id: str, config: str = "default", revision: str | None = None, token: str | None = None
) -> PushedRecord:
    """The record of a pushed dataset, from its file; a card alone is not evidence, as its text may quote any record.

    Raises:
        InputError: a name that no dataset can have, such as a folder's; no record, or a damaged one.
        HubError: the Hub refused or could not be reached.
    """
    from huggingface_hub import HfApi

    check_repo_id(repo_id)
    api, path = HfApi(token=token), FILE if config == "default" else f"{config}/{FILE}"

    def look() -> tuple[Snapshot, str | None]:
        there = read(api, repo_id, "dataset", revision or "main")
        return there, read_file(api, repo_id, "dataset", there.commit, path) if path in there.files else None

    there, text = with_retry(look, f"reading {repo_id}")
    if text is None:
        raise InputError(f"{repo_id} has no {path}; it was not pushed by push_dataset, or the file was deleted")
    record = MiningRecord.from_json(text, f"{repo_id}/{path}")
    return PushedRecord(
        there, config, record, tuple(card_changes(text, record_in(split_card(there.readme)[1], config)))
    )
