"""Addresses among the arguments: inputs are copied here before a command reads them, outputs there when it has ended."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.early import INPUTS
from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError
from hf_posmine.utils.redact import redact
from hf_posmine.utils.remote import fetched, is_remote, sent

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

READ = (*INPUTS, "run", "qrels")
WRITTEN = ("output", "repair", "report")
LOCAL = ("store", "work_dir")


@contextlib.contextmanager
def local_places(args: argparse.Namespace) -> Iterator[None]:
    """Local paths in the place of addresses; what was written is copied where it belongs at the end.

    Raises:
        InputError: nothing at an address, or a store at one.
    """
    values = vars(args)
    for name in LOCAL:
        if is_remote(values.get(name)):
            raise InputError(
                f"--{name.replace('_', '-')} {redact(values[name])}: it is mapped into memory, so it is local"
            )
    for name in READ:
        if is_remote(values.get(name)):
            values[name] = str(fetched(values[name]))
    targets = {name: values[name] for name in WRITTEN if is_remote(values.get(name))}
    with contextlib.ExitStack() as folders:
        places = {}
        for name, address in targets.items():
            places[name] = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="posmine-output-")))
            values[name] = str(places[name] / address.rstrip("/").rpartition("/")[2])
        yield
        for name, address in targets.items():
            sent(places[name], address)
            show(f"Copied to {redact(address)}")
