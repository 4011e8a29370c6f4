"""``remine``: the mining of a pushed dataset, repeated from its record alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.hub.cards import record_in, split_card
from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.rebuild import Rebuilt, rebuild
from hf_posmine.hub.repository import read, read_file
from hf_posmine.hub.retry import with_retry
from hf_posmine.mining.provenance import FILE
from hf_posmine.mining.record import MiningRecord
from hf_posmine.utils.progress import quiet_bars

if TYPE_CHECKING:
    from hf_posmine.hub.repository import Snapshot


def remine(
    repo_id: str,
    *,
    config: str = "default",
    revision: str | None = None,
    inputs: Inputs | None = None,
    token: str | None = None,
) -> Any:
    """Mine a pushed dataset again, from its record alone; the same rows come out.

    Args:
        repo_id: what :func:`~hf_posmine.hub.push.push_dataset` pushed.
        config: configuration of the rows.
        revision: branch, tag or commit; by default main.
        inputs: data or a teacher that were local when it was mined.
        token: by default that of whoever is logged in.

    Returns:
        A DatasetDict with the splits of the repository.

    Raises:
        InputError: no record, or an input that has to be given.
        HubError: the Hub refused or could not be reached.
    """
    from datasets import DatasetDict

    _, record, pushed = load_pushed(repo_id, config, revision, token)
    rebuilt = with_retry(lambda: rebuild(pushed, record, inputs or Inputs()), f"reading what {repo_id} was made of")
    return DatasetDict({name: mine_again(rows, rebuilt) for name, rows in rebuilt.rows.items()})


def read_record(
    repo_id: str, config: str = "default", revision: str | None = None, token: str | None = None
) -> MiningRecord:
    """The record of a pushed dataset: from its file, else from its card."""
    return _read(repo_id, config, revision, token)[1]


def _read(repo_id: str, config: str, revision: str | None, token: str | None) -> tuple[Snapshot, MiningRecord]:
    from huggingface_hub import HfApi

    api, path = HfApi(token=token), FILE if config == "default" else f"{config}/{FILE}"

    def look() -> tuple[Snapshot, str | None]:
        there = read(api, repo_id, "dataset", revision or "main")
        if path in there.files:
            return there, read_file(api, repo_id, "dataset", there.commit, path)
        return there, record_in(split_card(there.readme)[1], config)

    there, text = with_retry(look, f"reading {repo_id}")
    if text is None:
        raise InputError(f"{repo_id} has no {path}, and its card holds no record; it was not pushed by push_dataset")
    return there, MiningRecord.from_json(text, f"{repo_id}/{path}")


def load_pushed(
    repo_id: str, config: str, revision: str | None, token: str | None
) -> tuple[Snapshot, MiningRecord, dict[str, Any]]:
    """The repository at one commit, its record, and its rows."""
    from datasets import load_dataset

    there, record = _read(repo_id, config, revision, token)

    def load() -> Any:
        with quiet_bars():
            return load_dataset(repo_id, config, revision=there.commit, token=token)

    pushed = with_retry(load, f"reading the rows of {repo_id}")
    return there, record, dict(pushed)


def mine_again(rows: Any, rebuilt: Rebuilt) -> Any:
    """Mined rows; never from a cache, which would only repeat what it was told."""
    with quiet_bars():
        features = rebuilt.miner.features(rows.features)
        plain = rows.with_format(None)
        return plain.map(
            rebuilt.miner, batched=True, features=features, keep_in_memory=True, load_from_cache_file=False
        )
