"""Private parts of other libraries, each used through one function here, with the releases it was read in.

Nothing below is promised by its library. ``tests/utils/test_upstream.py`` calls each one and fails when a release
renames it or stops calling a method that this package overrides. Methods are overridden with
:func:`overrides_private`, which refuses at import what would otherwise be ignored in silence.
"""

from __future__ import annotations

import mmap
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hf_posmine.core.errors import InputError, UpstreamError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    import torch
    from bm25s import BM25
    from datasets import Dataset, IterableDataset

Class = TypeVar("Class", bound=type)

COMMIT = re.compile(r"[0-9a-f]{40}")
CACHE_LEVELS = 4
"""``<user>___<name>/<configuration>/<version>/<commit>``: a Hub dataset below the cache folder of datasets."""


def overrides_private(*methods: str, package: str = "sentence-transformers") -> Callable[[Class], Class]:
    """A class decorator: these methods replace private ones that the parents call.

    A parent that renames such a method would never call ours, with other vectors or batches as the only sign.

    Args:
        methods: names that the class defines and one of its parents must define, too.
        package: the distribution that the parent comes from.

    Raises:
        UpstreamError: a method that no parent has.
    """

    def check(cls: Class) -> Class:
        inherited = {name for parent in cls.__mro__[1:] for name in vars(parent)}
        for name in methods:
            if name not in vars(cls) or name not in inherited:
                raise UpstreamError(
                    f"{package} {metadata.version(package)} has no {name!r} for {cls.__name__} to override; install a "
                    f"release that hf_posmine was tested with"
                )
        return cls

    return check


def check_peft() -> None:
    """Refuse a peft that this transformers does not load (``MIN_PEFT_VERSION``, transformers 4.40 to 5.24).

    A release of transformers may need a peft that is not published yet; without this check a run fails after the base
    model was loaded, with a message that does not name transformers.

    Raises:
        InputError: both versions, and the two ways out.
    """
    from packaging.version import Version
    from transformers.integrations import peft as integration

    needed, installed = getattr(integration, "MIN_PEFT_VERSION", "0"), metadata.version("peft")
    if Version(installed) < Version(needed):
        raise InputError(
            f"transformers {metadata.version('transformers')} needs peft {needed} or newer for LoRA, and peft {installed} is "
            f"installed; run: pip install 'peft>={needed}', or, where that is not published yet, install an older transformers"
        )


def dataset_fingerprint(dataset: Dataset) -> str:
    """The content hash that ``datasets`` keeps with a Dataset and its cache files (datasets 2.0 to 5.2)."""
    return str(dataset._fingerprint)


def with_features(stream: IterableDataset) -> Any:
    """An IterableDataset that knows its features, if need be from its first rows (datasets 2.10 to 5.2)."""
    return stream if stream.features is not None else stream._resolve_features()


def cast_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema, images and nested lists included (``datasets.table``, 2.0 to 5.2)."""
    from datasets.table import table_cast

    return table_cast(table, schema)


def dataset_infos(infos: Mapping[str, Any] | None = None) -> Any:
    """``DatasetInfosDict``: the section ``dataset_info`` of a dataset card (``datasets.info``, 2.10 to 5.2)."""
    from datasets.info import DatasetInfosDict

    return DatasetInfosDict(infos or {})


def metadata_configs(configs: Mapping[str, Any]) -> Any:
    """``MetadataConfigs``: the section ``configs`` of a dataset card (``datasets.utils.metadata``, 2.13 to 5.2)."""
    from datasets.utils.metadata import MetadataConfigs

    return MetadataConfigs(configs)


class HubRows(NamedTuple):
    """Which Hub dataset a file of the cache was made from."""

    path: str
    config: str | None
    revision: str


def hub_rows(file: str | Path) -> HubRows | None:
    """The Hub dataset of a cache file, read off its folder (datasets 2.14 to 5.2); None for any other file.

    ``load_dataset`` writes ``<user>___<name>/<configuration>/<version>/<commit>/<name>-<split>.arrow`` below its cache.
    """
    import datasets

    folder, cache = Path(file).resolve().parent, Path(datasets.config.HF_DATASETS_CACHE).resolve()
    parts = folder.relative_to(cache).parts if folder.is_relative_to(cache) else ()
    if len(parts) != CACHE_LEVELS or "___" not in parts[0] or not COMMIT.fullmatch(parts[3]):
        return None
    return HubRows(parts[0].replace("___", "/", 1), None if parts[1] == "default" else parts[1], parts[3])


def check_repo_id(repo_id: str) -> None:
    """Refuse a repository name that the Hub would (``huggingface_hub.utils._validators``, 0.10 to 2.4).

    Raises:
        InputError: it is not a name such as ``user/name``.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(
            f"repo_id={repo_id!r} is not the name of a repository on the Hub, such as 'user/name': {' '.join(str(error).split())}"
        ) from None


def encoded_column(batch: object, name: str) -> pa.ChunkedArray | None:
    """A column of a batch of ``datasets.map`` as it is stored (``LazyBatch``, datasets 2.10 to 5.2), or None.

    Reading it through the batch would open its images, and ``map`` would then save them again, JPEG with a loss.
    """
    from datasets.formatting.formatting import LazyDict

    return batch.pa_table[name] if isinstance(batch, LazyDict) and name in batch.keys_to_format else None


def is_lazy_row(batch: object) -> bool:
    """Whether ``datasets.map`` passed one row (``LazyRow``, datasets 2.10 to 5.2)."""
    from datasets.formatting.formatting import LazyRow

    return isinstance(batch, LazyRow)


def parser_options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of a parser by the name of their value (``argparse``, Python 3.10 to 3.14)."""
    return {action.dest: action for action in parser._actions if action.dest != "help"}


def bm25_weights(model: BM25, tokens: Sequence[Sequence[str]]) -> tuple[Mapping[str, np.ndarray], Mapping[str, int]]:
    """The weights of all postings as a compressed sparse matrix, and the vocabulary (bm25s 0.2 to 0.3)."""
    scores, vocabulary = model.build_index_from_tokens(tokens, show_progress=False)
    return scores, vocabulary


def int8_product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """``[a, k]`` times ``[k, b]`` in int8, summed in int32 (``torch._int_mm``, torch 2.6 to 2.13).

    Raises:
        RuntimeError: the build of torch refuses it.
        AttributeError: the build of torch lacks it.
    """
    import torch

    return torch._int_mm(left, right) if out is None else torch._int_mm(left, right, out=out)


def onednn_linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``[m, I]`` times ``[O, I]`` is ``[m, O]``, plus ``[O]``, by oneDNN (``mkldnn::_linear_pointwise``, tried with torch 2.13).

    Raises:
        RuntimeError: the build of torch refuses it.
        AttributeError: the build of torch lacks it.
    """
    import torch

    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product


def mapped_buffer(array: np.ndarray) -> mmap.mmap | None:
    """The file mapping that an array was made from with ``np.memmap`` (numpy 1.26 to 2.4), or None."""
    buffer = getattr(array, "_mmap", None)
    return buffer if isinstance(buffer, mmap.mmap) else None
