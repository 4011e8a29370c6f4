"""``remine``: a pushed dataset mined again from its record alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.hub.inputs import Inputs
from hf_posmine.hub.pushed import read_pushed
from hf_posmine.hub.rebuild import Rebuilt, rebuild
from hf_posmine.hub.retry import with_retry
from hf_posmine.utils.progress import quiet_bars

if TYPE_CHECKING:
    from datasets import DatasetDict

    from hf_posmine.data.columns import AnyDataset


def remine(
    repo_id: str,
    *,
    config: str = "default",
    revision: str | None = None,
    inputs: Inputs | None = None,
    token: str | None = None,
) -> DatasetDict:
    """Mine a pushed dataset again, from its record alone; the same rows come out.

    The record is a stranger's text: it reaches Hub repositories at a commit, and no local file.

    Args:
        repo_id: repository that :func:`~hf_posmine.hub.push.push_dataset` pushed to.
        config: configuration of the rows.
        revision: branch, tag or commit; by default main.
        inputs: data or a teacher that were local when the rows were mined.
        token: by default that of the logged-in user.

    Returns:
        The splits of the repository.

    Raises:
        InputError: no record, or an input that has to be given.
        HubError: the Hub refused or could not be reached.
    """
    from datasets import DatasetDict

    there = read_pushed(repo_id, config, revision, token)
    pushed = there.load_rows(token)
    rebuilt = with_retry(
        lambda: rebuild(pushed, there.record, inputs or Inputs()), f"reading the inputs recorded by {repo_id}"
    )
    return DatasetDict({name: mine_again(rows, rebuilt) for name, rows in rebuilt.rows.items()})


def mine_again(rows: AnyDataset, rebuilt: Rebuilt) -> Any:
    """Mined rows; never from a cache, which would only repeat an earlier result."""
    with quiet_bars():
        features = rebuilt.miner.features(rows.features)
        plain = rows.with_format(None)
        return plain.map(
            rebuilt.miner, batched=True, features=features, keep_in_memory=True, load_from_cache_file=False
        )
