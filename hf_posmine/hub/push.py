"""``push_dataset``: mined rows with their record, card and figure, in one commit."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.columns import as_splits, has_numbered_rows
from hf_posmine.hub.card_values import About
from hf_posmine.hub.cards import part_in, split_card
from hf_posmine.hub.dataset_card import DatasetFacts, dataset_card
from hf_posmine.hub.figures import score_histogram
from hf_posmine.hub.metadata import data_folder, merge_configs, replaced_files, splits_there
from hf_posmine.hub.repository import README, Changes, Destination, Pushed, Snapshot, check_login, publish, record_there
from hf_posmine.hub.variants import Variant, make_configs
from hf_posmine.mining.columns import list_column
from hf_posmine.mining.execution.shards import MinedShards
from hf_posmine.mining.provenance import FILE, describe_rows, read_provenance
from hf_posmine.mining.record import MiningRecord
from hf_posmine.utils.progress import quiet_bars
from hf_posmine.utils.redact import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.data.columns import AnyDataset
    from hf_posmine.hub.variants import Config
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.training_formats import Short

    MadeBy: TypeAlias = "PositiveAwareMiner | MiningRecord | str | Path | None"

SHARD_BYTES = 500_000_000
REPORT = "report.html"
CONFIG_NAME = re.compile(r"[\w.-]+")


def push_dataset(  # noqa: PLR0913 - by keyword, as push_to_hub of datasets has them
    mined: AnyDataset,
    repo_id: str,
    made_by: PositiveAwareMiner | MiningRecord | str | Path | None = None,
    *,
    variants: Sequence[Variant] = (),
    config_name: str = "default",
    about: About | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
    report: bool = False,
    on_short: Short = "drop",
) -> Pushed:
    """Push a mined dataset with the record of how it was made, a card, and a histogram of the scores.

    Everything lands atomically, in one commit. Pushing the same again makes no commit. Text that somebody wrote into
    the card stays; only the part between the marks of this configuration is replaced.

    Args:
        mined: Dataset or DatasetDict with ``negatives``, or the shards that
            :func:`~hf_posmine.mining.execution.shards.read_shards` finds in a folder, which are
            uploaded as they are; its splits replace those of the same name.
        repo_id: such as ``me/nq-mined``.
        made_by: the miner; or the record, or its file, that :func:`~hf_posmine.mining.provenance.provenance` or
            ``hf-posmine mine`` made. By default the ``provenance.json`` beside a dataset loaded with ``load_from_disk``.
        variants: further layouts, see :func:`~hf_posmine.hub.variants.make_configs`.
        config_name: configuration of the rows; several in one repository each have their own record.
        about: licence, language, heading: values that only the author knows.
        private: create the repository private.
        revision: branch; by default main.
        create_pr: propose a pull request instead.
        token: by default that of the logged-in user.
        report: also push ``report.html``, a page about the rows (:func:`~hf_posmine.report.make_report`), and link it from
            the card; without, the one of an earlier push is deleted, since it may be of other rows.
        on_short: what becomes of rows with too few negatives in the variants ``n-tuple`` and ``scored``: ``drop`` (the card
            has their number), ``repeat`` their negatives, or ``raise``.

    Raises:
        InputError: nothing to push, no record, or splits in the repository that another recipe made; nothing was sent.
        HubError: the Hub refused or could not be reached; the same push again resumes.
    """
    to = Destination(repo_id, "dataset", private, revision, create_pr, token)
    splits = _checked(mined, config_name)
    record = _record(mined, splits, made_by)
    configs = make_configs(splits, config_name, variants, record.columns, record.settings["num_negatives"], on_short)
    check_login(token)
    with tempfile.TemporaryDirectory(prefix="posmine-push-") as folder:
        push = _Push(
            record, configs, score_histogram(splits.values()), about or About(), write_configs(configs, Path(folder)),
            _report_page(splits, record, repo_id) if report else None,
        )  # fmt: skip
        push.changes(
            Snapshot(repo_id, "main", "", frozenset(), None), to
        )  # an error here comes before anything is sent
        return publish(to, f"Mined negatives: {config_name}", lambda there: push.changes(there, to))


@dataclass(frozen=True)
class _Push:
    """Files and values ready to push; :meth:`changes` gives the commit for the present state of the repository."""

    record: MiningRecord
    configs: Sequence[Config]
    figure: bytes | None
    about: About
    files: Mapping[str, Path]
    page: bytes | None = None

    def changes(self, there: Snapshot, to: Destination) -> Changes:
        """Files to add and to delete.

        Raises:
            InputError: the repository holds other splits of this configuration that were made otherwise.
        """
        name = self.configs[0].name
        path = FILE if name == "default" else f"{name}/{FILE}"
        old = record_there(there, to, path, lambda text: MiningRecord.from_json(text, path))
        metadata, _ = split_card(there.readme)
        record = _merged(self.record, old, name, metadata)
        figure = ("figures/scores.png" if name == "default" else f"figures/{name}-scores.png") if self.figure else None
        page = REPORT if name == "default" else f"{name}/{REPORT}"
        facts = DatasetFacts(there.repo_id, name, self.configs, figure, path, page if self.page else None)
        card = dataset_card(there.readme, merge_configs(metadata, self.configs, self.files), record, facts, self.about)
        added: dict[str, bytes | Path] = {**self.files, path: record.to_json().encode(), README: card}
        if figure and self.figure:
            added[figure] = self.figure
        if self.page:
            added[page] = self.page
        gone = replaced_files(metadata, self.configs, there.files)
        if f"]({page})" in part_in(there.readme, name):  # ours, and of the rows as they were
            gone.add(page)
        return Changes(added, frozenset(gone - set(added)))


def write_configs(configs: Sequence[Config], folder: Path) -> dict[str, Path]:
    """Write the files of every split below a folder; local file by path in the repository."""
    files: dict[str, Path] = {}
    with quiet_bars():
        for config in configs:
            for split, rows in config.splits.items():
                if isinstance(rows, MinedShards):  # they are the files already
                    files |= {f"{data_folder(config.name)}/{file.name}": file for file in rows.files}
                    continue
                plain = rows.with_format(None)
                shards = max(1, math.ceil(plain.data.nbytes / SHARD_BYTES)) if config.suffix == "parquet" else 1
                for number in range(shards):
                    path = f"{data_folder(config.name)}/{split}-{number:05d}-of-{shards:05d}.{config.suffix}"
                    local = folder / path
                    local.parent.mkdir(parents=True, exist_ok=True)
                    shard = plain.shard(shards, number, contiguous=True)
                    if config.suffix == "parquet":
                        shard.to_parquet(str(local))
                    else:
                        shard.to_json(str(local), force_ascii=False)
                    files[path] = local
    return files


def _checked(mined: AnyDataset, config_name: str) -> dict[str, Any]:
    if not CONFIG_NAME.fullmatch(config_name) or config_name == "data":
        raise InputError(f"config_name={config_name!r}; use letters, digits, '.', '_' and '-', and not 'data'")
    splits = as_splits(mined)
    for name, split in splits.items():
        if not has_numbered_rows(split) and not isinstance(split, MinedShards):
            raise InputError(
                f"split {name!r} is a {type(split).__name__}; push a Dataset or DatasetDict, or mine a stream into a folder, "
                "mine(stream, miner, output=...), and push the result of read_shards(folder)"
            )
        if not len(split):
            raise InputError(
                f"split {name!r} has no rows, which would make the repository unloadable; drop it before pushing"
            )
        if list_column(split.column_names) is None:
            raise ColumnError(
                f"split {name!r} has no column 'negatives' among {split.column_names}; push the mined rows themselves, other "
                "layouts come with variants="
            )
    if not splits:
        raise InputError("the dataset has no splits; there is nothing to push")
    return splits


def _record(mined: AnyDataset, splits: Mapping[str, Any], made_by: MadeBy) -> MiningRecord:
    """The record of these rows, with their digests and summary."""
    from hf_posmine.mining.summary import MiningSummary

    record = _find_record(mined, splits, made_by)
    rows = describe_rows(splits)
    if record.rows and record.rows != rows:
        raise InputError(
            f"the record is of other rows: it has {_counts(record.rows)}, the dataset {_counts(rows)} with other content; push "
            "the rows as they were mined, or pass the miner that made them as made_by="
        )
    summary = record.summary
    if summary is None:
        made = MiningSummary.from_dataset(mined, record.settings["num_negatives"])
        summary = dataclasses.replace(made, bad_rows=record.num_bad_rows).to_dict()
    whole = dataclasses.replace(record, rows=rows, summary=summary)
    return MiningRecord.from_dict(redacted(whole.to_dict()))  # as everyone else will read it


def _find_record(mined: AnyDataset, splits: Mapping[str, Any], made_by: MadeBy) -> MiningRecord:
    if isinstance(made_by, MiningRecord):
        return made_by
    if isinstance(made_by, (str, Path)):
        return read_provenance(made_by)
    if made_by is not None:
        from hf_posmine.hub.loaded_from import loaded_from
        from hf_posmine.mining.provenance import provenance
        from hf_posmine.mining.summary import MiningSummary

        summary = MiningSummary.from_dataset(mined, made_by.settings.num_negatives)
        return provenance(made_by, source=loaded_from(splits), summary=summary, mined=mined)
    for file in {Path(held["filename"]).parent for split in splits.values() for held in split.cache_files}:
        for folder in (file, file.parent):  # a DatasetDict, or shards, are stored one level deeper
            if (folder / FILE).is_file():
                return read_provenance(folder / FILE)
    raise InputError(
        "no record of how these rows were mined; pass the miner, push_dataset(mined, repo_id, miner), or the provenance.json "
        "that hf-posmine mine wrote"
    )


def _report_page(splits: Mapping[str, Any], record: MiningRecord, repo_id: str) -> bytes:
    from hf_posmine.report import MinedRows, make_report

    return make_report(MinedRows.of(splits, record, name=repo_id)).html.encode()


def _counts(rows: Mapping[str, Any]) -> str:
    return ", ".join(f"{held.rows:,} in {name!r}" for name, held in rows.items())


def _merged(new: MiningRecord, old: MiningRecord | None, config: str, metadata: Mapping[str, Any]) -> MiningRecord:
    """The record of all splits that the configuration will have."""
    kept = splits_there(metadata, config) - set(new.rows)
    if kept and (old is None or old.miner_fingerprint != new.miner_fingerprint or not kept <= set(old.rows)):
        raise InputError(
            f"configuration {config!r} has the split {min(kept)!r}, which another recipe made; push all splits together as a "
            "DatasetDict, or under another config_name"
        )
    if old is None:
        return new
    merged = dataclasses.replace(new, rows={**{split: old.rows[split] for split in sorted(kept)}, **new.rows})
    return old if _same_but_for_the_time(old, merged) else merged


def _same_but_for_the_time(old: MiningRecord, new: MiningRecord) -> bool:
    one, two = (json.dumps(dataclasses.replace(r, created="").to_dict(), sort_keys=True) for r in (old, new))
    return one == two
