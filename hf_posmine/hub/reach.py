"""The data a record from elsewhere may name: Hub repositories at a commit, and no file of this machine.

A record is a stranger's text. Its paths are used only as ids of Hub repositories at a 40-digit commit. Local files are read
where the caller names them (:class:`~hf_posmine.hub.inputs.Inputs`) or allows the paths of the record (``allow_local``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import splits_of
from hf_posmine.hub.cards import split_card
from hf_posmine.hub.ids import on_hub
from hf_posmine.hub.repository import read
from hf_posmine.hub.retry import of_the_hub
from hf_posmine.utils.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datasets import Dataset

    from hf_posmine.mining.record import Source

NOT_RELATIVE = re.compile(r"^[/\\~]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|://|::")


def within_reach(source: Source, *, allow_local: bool) -> bool:
    """Whether a recorded source may be read: on the Hub at a commit, or local data that is here and that the caller allows."""
    if on_hub(source.path, source.revision):
        return True
    local = allow_local and source.path is not None and source.revision is None
    return local and Path(str(source.path)).expanduser().exists()


def out_of_reach(source: Source, what: str, cure: str, *, allow_local: bool) -> InputError:
    """The error for a recorded source that is not within reach.

    Args:
        source: source that a record names.
        what: noun of the error message, such as "corpus".
        cure: how to pass the data, such as "Inputs(corpus=...), or --corpus".
        allow_local: whether local paths of the record may be read.
    """
    if source.path is None:
        return InputError(f"the record does not name its {what}; pass it as {cure}")
    if source.revision is not None:
        return InputError(
            f"the record names the {what} {source.path!r} at {source.revision!r:.60}, which is not a Hub id at a commit of 40 "
            f"hexadecimal digits; pass the data as {cure}"
        )
    if allow_local:
        return InputError(f"the {what} {source.path!r} was local data and is not here; pass it as {cure}")
    return InputError(
        f"the {what} {source.path!r} was local data; pass it as {cure} (or read the paths that the record names: "
        "allow_local=True)"
    )


def check_model(name: str, commit: str | None, *, allow_local: bool) -> None:
    """Refuse a recorded model that is neither on the Hub at a commit nor a local folder the caller allows.

    Raises:
        InputError: with the cure.
    """
    local = Path(name).expanduser().exists()
    if allow_local and local:
        return
    cure = "pass it as Inputs(teacher=...), or --teacher; a folder that the record names is read with allow_local=True"
    if commit is None:
        raise InputError(f"the record names the teacher {name!r} without a commit of the Hub; {cure}")
    if not on_hub(name, commit):
        raise InputError(
            f"the record names the teacher {name!r} at {commit!r:.60}, which is not a Hub id at a commit; {cure}"
        )
    if local:
        raise InputError(f"a local folder has the name of the teacher {name!r}; run in another folder, or {cure}")


def load_hub_dataset(
    path: str, commit: str, *, name: str | None = None, split: str | None = None, token: str | None = None
) -> Any:
    """A dataset of the Hub at a commit, whatever files of the same name are here.

    ``datasets`` takes a name such as ``json`` for a file format and a local folder before a repository, and a card may list
    absolute paths as its data files; none of these is followed.

    Raises:
        InputError: not a Hub id at a commit, or a card that names files outside its repository.
    """
    from datasets import load_dataset
    from huggingface_hub import HfApi

    if not on_hub(path, commit):
        raise InputError(f"{path!r} at {commit!r:.60} is not a Hub id at a commit of 40 hexadecimal digits")
    there = read(HfApi(token=token), path, "dataset", commit)
    if "/" not in there.repo_id or there.commit != commit:
        raise InputError(
            f"{path!r} at {commit} is {there.repo_id!r} at {there.commit} on the Hub; give its own id and commit"
        )
    _check_data_files(there.repo_id, split_card(there.readme)[0])
    try:
        loaded = load_dataset(f"hf://datasets/{there.repo_id}", name, split=split, revision=commit, token=token)
    except Exception as error:  # of datasets, Arrow or a parser: the files are a stranger's
        if of_the_hub(error):
            raise
        reason = redact(" ".join(str(error).split()))
        raise InputError(
            f"the dataset {there.repo_id} at {commit[:8]} cannot be read ({type(error).__name__}: {reason:.200})"
        ) from None
    for rows in splits_of(loaded):
        check_media(rows, there.repo_id)
    return loaded


def check_media(rows: Dataset, repo_id: str) -> None:
    """Refuse images, sounds and videos that are named by a path instead of stored: reading them would read a local file.

    Raises:
        InputError: the column, and one of its paths.
    """
    from datasets import Audio, Image, Video

    for column, feature in rows.features.items():
        if isinstance(feature, (Audio, Image, Video)):
            for chunk in rows.data.column(column).chunks:
                named = chunk.filter(pc.and_(chunk.is_valid(), pc.is_null(pc.struct_field(chunk, "bytes"))))
                if len(named):
                    raise InputError(
                        f"column {column!r} of {repo_id} names files instead of holding them, such as "
                        f"{named[0].as_py()['path']!r:.200}; these are not read"
                    )


def _check_data_files(repo_id: str, metadata: Mapping[str, Any]) -> None:
    for path in _texts(metadata.get("configs")):
        if NOT_RELATIVE.search(path):
            raise InputError(
                f"the card of {repo_id} names the data file {path!r:.200}, which is outside the repository"
            )


def _texts(value: object, depth: int = 8) -> Iterator[str]:
    """Texts in nested metadata; a card that nests deeper, as aliases in YAML may, is refused."""
    if depth == 0:
        raise InputError("the configurations in the card are nested too deep")
    if isinstance(value, str):
        yield value
    for held in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(held, depth - 1)
