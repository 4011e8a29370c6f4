"""Addresses among the arguments: inputs are copied here before a command reads them, outputs there when it has ended."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.early import INPUTS
from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError
from hf_posmine.utils.redact import redact
from hf_posmine.utils.remote import check_target, fetched, is_remote, sent

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

READ = (*INPUTS, "run", "qrels", "visible", "update", "on", "results", "baseline")
WRITTEN = ("output", "repair", "report", "curve", "plot")
LOCAL = ("store", "work_dir")


@contextlib.contextmanager
def local_places(args: argparse.Namespace) -> Iterator[None]:
    """Local paths in the place of addresses; what was written is copied where it belongs at the end.

    Raises:
        InputError: nothing at an address, a store at one, or an output that cannot be copied; it is kept then.
    """
    values = vars(args)
    for name in LOCAL:
        if is_remote(values.get(name)):
            raise InputError(
                f"--{name.replace('_', '-')} {redact(values[name])}: it is mapped into memory, so it is local"
            )
    targets = {name: values[name] for name in WRITTEN if is_remote(values.get(name))}
    for address in targets.values():
        check_target(address)
    for name in set(READ) & set(values):
        values[name] = _local(values[name])
    with contextlib.ExitStack() as folders:
        places = {}
        for name, address in targets.items():
            places[name] = Path(tempfile.mkdtemp(prefix="posmine-output-"))
            folders.callback(shutil.rmtree, places[name], ignore_errors=True)
            values[name] = str(places[name] / address.rstrip("/").rpartition("/")[2])
        ended: SystemExit | None = None
        try:
            yield
        except SystemExit as found:  # what a command found, such as by --fail-on, is written by then
            ended = found
        for name, address in targets.items():
            try:
                sent(places[name], address)
            except InputError as error:
                folders.pop_all()
                kept = ", ".join(str(place) for place in places.values())
                raise InputError(f"{error}; what was written is kept in {kept}") from error
            show(f"Copied to {redact(address)}")
        if ended is not None:
            raise ended


def _local(value: object) -> object:
    """A path, or a list of paths, with copies in the place of addresses."""
    if isinstance(value, list):
        return [_local(one) for one in value]
    return str(fetched(value)) if isinstance(value, str) and is_remote(value) else value
