"""The command ``hf-posmine``; installed as an extension of the hf CLI it is also ``hf posmine``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine import __version__
from hf_posmine.cli import (
    calibrate,
    compare,
    demo,
    encode,
    env,
    evaluate,
    fn_rate,
    judge,
    mine,
    push,
    report,
    sweep,
    train,
    verify,
)
from hf_posmine.core.errors import InputError, PosmineError
from hf_posmine.utils.files import disk_full
from hf_posmine.utils.progress import VARIABLE
from hf_posmine.utils.upstream import command_options

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

COMMANDS = {
    "mine": mine,
    "encode": encode,
    "sweep": sweep,
    "fn-rate": fn_rate,
    "calibrate": calibrate,
    "judge": judge,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "report": report,
    "push": push,
    "verify": verify,
    "demo": demo,
    "env": env,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    try:
        args, more = parser.parse_known_args(with_config(arguments, parser))
        if more and not getattr(COMMANDS[args.command], "TAKES_MORE", False):
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        args.more = more
        if getattr(args, "offline", False) or os.environ.get("HF_POSMINE_OFFLINE", "0") not in ("", "0"):
            os.environ["HF_POSMINE_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
        _set_progress(args)
        args.command_line = " ".join(["hf-posmine", *arguments])
        COMMANDS[args.command].run(args)
    except PosmineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not disk_full(error):
            raise
        print(
            f"error: no space left on the device ({error}); free some and run the same command again", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue where it stopped", file=sys.stderr)
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="hf-posmine",
        description="Hard negatives that are not false negatives, for any Hugging Face dataset (NV-Retriever).",
    )
    parser.add_argument("--version", action="version", version=f"hf-posmine {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser


def with_config(arguments: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """Put the options of ``--config file.yaml`` before those of the command line, which therefore win.

    Raises:
        InputError: a key that is no option of the command, with those that are.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    found, _ = finder.parse_known_args(arguments)
    if found.config is None or not arguments or arguments[0] not in COMMANDS or arguments[0] == "train":
        return arguments  # a recipe is no list of options
    options = command_options(parser, arguments[0])
    expanded = _config_arguments(Path(found.config), options)
    return [arguments[0], *expanded, "--config", found.config, *arguments[1:]]  # a list must not swallow what follows


def _config_arguments(path: Path, options: dict[str, argparse.Action]) -> list[str]:
    import yaml

    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold options as 'name: value' lines")
    arguments: list[str] = []
    positional: list[str] = []
    for name, value in values.items():
        key = str(name).replace("-", "_")
        if key not in options or key == "config":
            raise InputError(f"{path}: unknown option {name!r}; known: {', '.join(sorted(set(options) - {'config'}))}")
        action = options[key]
        if not action.option_strings:
            positional += _words(value)
        elif action.nargs == 0:
            arguments += [action.option_strings[-1]] if value else []
        elif value is not None:
            arguments += [action.option_strings[-1], *_words(value)]
    return [*positional, *arguments]


def _words(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _set_progress(args: argparse.Namespace) -> None:
    log = getattr(args, "log_progress", False)
    if log:
        os.environ[VARIABLE] = "json"
    if log or getattr(args, "quiet", False):
        import datasets
        from transformers.utils import logging

        datasets.disable_progress_bars()
        logging.disable_progress_bar()
