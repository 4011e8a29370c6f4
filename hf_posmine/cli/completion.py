"""Tab completion by argcomplete (extra ``completion``): ``eval "$(register-python-argcomplete hf-posmine)"``."""

from __future__ import annotations

import argparse
import os

from hf_posmine.cli.parser import VERBS, command_of

VARIABLE = "_ARGCOMPLETE"
"""Set by the shell when Tab is pressed."""


def complete() -> None:
    """Answer the shell and end, if Tab was pressed; without argcomplete nothing happens."""
    if VARIABLE not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(full_parser())


def full_parser() -> argparse.ArgumentParser:
    """All commands with their options; slower to make than the parser of one command."""
    parser = argparse.ArgumentParser(prog="hf-posmine")
    commands = parser.add_subparsers()
    for verb in VERBS:
        command = command_of(verb)
        command.add_arguments(commands.add_parser(verb, help=command.HELP))
    return parser
