"""The command ``hf-posmine``; installed as an extension of the hf CLI it is also ``hf posmine``."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from hf_posmine.cli.completion import complete
from hf_posmine.cli.early import check_names
from hf_posmine.cli.faults import fault
from hf_posmine.cli.hints import hints_of
from hf_posmine.cli.parser import find_verb, parse
from hf_posmine.cli.places import local_places
from hf_posmine.cli.process import left_as_found, without_bars
from hf_posmine.cli.show import show
from hf_posmine.utils.progress import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the process is left as it was found.

    Returns:
        The exit status: 0; 1 where something failed or differs; 2 where the input is wrong; 130 after Ctrl-C.
    """
    complete()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with left_as_found():
            _run(arguments)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments:
            raise
        line, status = fault(error)
        if line:
            show(line, error=True)
        return status
    return 0


def _run(arguments: list[str]) -> None:
    command = find_verb(arguments)
    args = parse(command, arguments)
    if args.offline or os.environ.get("HF_POSMINE_OFFLINE", "0") not in ("", "0"):
        os.environ["HF_POSMINE_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    if args.log_progress:
        os.environ[VARIABLE] = "json"
    args.command_line = shlex.join(["hf-posmine", *arguments])
    with without_bars(args.log_progress or args.quiet), hints_of(command), local_places(args):
        check_names(args)
        command.run(args)
