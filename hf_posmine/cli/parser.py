"""The parser of one command: options in either spelling, a configuration file, and errors of one line."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from hf_posmine import __version__
from hf_posmine.core.errors import InputError
from hf_posmine.core.suggest import did_you_mean, nearest
from hf_posmine.data.tables import kind_of
from hf_posmine.utils.config import of_kind, read_mapping, unknown_key
from hf_posmine.utils.upstream import parser_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERBS = (
    "init", "questions", "split", "mine", "encode", "sweep", "fn-rate", "calibrate", "judge", "train", "merge", "evaluate",
    "compare", "audit", "report", "push", "verify", "demo", "env",
)  # fmt: skip
SEVERAL_FILES = "; for several files give one pattern in quotes, such as 'part-*.jsonl', or their folder"
TAKES_RECIPE = "train"
"""Its --config is a recipe, whose keys are options, too."""
DESCRIPTION = "Hard negatives that are not false negatives, for any Hugging Face dataset (NV-Retriever)."


class Command(Protocol):
    """A module of this folder that is a command."""

    __doc__: str | None
    HELP: str
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command."""

    def run(self, args: argparse.Namespace) -> None:
        """Do the work."""


class OneLineParser(argparse.ArgumentParser):
    """Raises an error of one line, instead of printing the usage of all options."""

    def error(self, message: str) -> NoReturn:
        """Raise the error, with the nearest choice."""
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        hint = did_you_mean(found[1], re.findall(r"[\w.-]+", found[2])) if found else ""
        if "expected one argument" in message or "expected at least one argument" in message:
            hint = "; write --option=VALUE for a value that begins with --"
        raise InputError(f"{message}{hint} (see {self.prog} --help)")


def command_of(verb: str) -> Command:
    """The module of a command, which is imported when it is needed."""
    return importlib.import_module(f"hf_posmine.cli.{verb.replace('-', '_')}")  # type: ignore[return-value]


def name_of(command: Command) -> str:
    """The name of a command on the command line."""
    return str(command.__name__).rpartition(".")[2].replace("_", "-")  # type: ignore[attr-defined]


def find_verb(arguments: Sequence[str]) -> Command:
    """The command that the first argument names.

    Raises:
        InputError: no command, or an unknown one, with the nearest.
        SystemExit: after ``--help`` and ``--version``.
    """
    first = arguments[0].replace("_", "-") if arguments else ""
    if first in VERBS:
        return command_of(first)
    overview = OneLineParser(
        prog="hf-posmine", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="hf-posmine COMMAND ...", epilog=_overview() if first in ("-h", "--help") else None,
    )  # fmt: skip
    overview.add_argument("--version", action="version", version=f"hf-posmine {__version__}")
    overview.parse_known_args(arguments[:1])
    if not arguments or first.startswith("-"):
        raise InputError(f"no command; one of {', '.join(VERBS)} (see hf-posmine --help)")
    raise InputError(f"unknown command {arguments[0]!r}{did_you_mean(first, VERBS)} (see hf-posmine --help)")


def _overview() -> str:
    lines = [f"  {verb:<10} {command_of(verb).HELP}" for verb in VERBS]
    return "\n".join(["commands:", *lines, "", "hf-posmine COMMAND --help describes one of them."])


def make_parser(command: Command) -> OneLineParser:
    """The parser of a command."""
    parser = OneLineParser(
        prog=f"hf-posmine {name_of(command)}", description=command.__doc__, epilog=command.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=name_of(command) != TAKES_RECIPE,
    )  # fmt: skip
    command.add_arguments(parser)
    return parser


def parse(command: Command, arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command: those of ``--config``, and over them those of the command line.

    Raises:
        InputError: an unknown option, a value that does not fit, or a file that does not read.
    """
    parser = make_parser(command)
    options = parser_options(parser)
    words = [_with_hyphens(word, options) for word in arguments[1:]]
    configured = {} if name_of(command) == TAKES_RECIPE else _configured(words, options)
    args, more = parser.parse_known_args(words)
    if more and name_of(command) != TAKES_RECIPE:
        raise InputError(_unknown(more, options, parser.prog))
    given = vars(args)
    for name, value in configured.items():
        given.setdefault(name, value)
    args.more = more
    return args


def _with_hyphens(word: str, options: Mapping[str, argparse.Action]) -> str:
    """``--num_negatives`` as ``--num-negatives``, where there is such an option."""
    name, equals, value = word.partition("=")
    known = {option for action in options.values() for option in action.option_strings}
    hyphens = name.replace("_", "-")
    return f"{hyphens}{equals}{value}" if word.startswith("--") and hyphens in known else word


def _unknown(more: Sequence[str], options: Mapping[str, argparse.Action], prog: str) -> str:
    known = [option for action in options.values() for option in action.option_strings]
    word = next((word for word in more if word.startswith("-")), more[0])
    name = word.partition("=")[0]
    kind = "option" if name.startswith("-") else "argument"
    hint = (
        did_you_mean(name.replace("_", "-"), known)
        if kind == "option"
        else SEVERAL_FILES * (kind_of(Path(name)) is not None)
    )
    return f"unknown {kind} {name!r}{hint} (see {prog} --help)"


def _configured(words: Sequence[str], options: Mapping[str, argparse.Action]) -> dict[str, Any]:
    """The values of the file that ``--config`` names; options of the command line are not required any more."""
    finder = OneLineParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(words)[0].config
    if path is None:
        return {}
    configured = {}
    for key, value in read_mapping(path).items():
        if key not in options or key == "config":
            raise unknown_key(path, key, {name: None for name in options if name != "config"})
        action = options[key]
        if value is None:
            continue
        configured[key] = _value(f"{path}: {key}", action, value)
        action.required, action.default = False, argparse.SUPPRESS
        if not action.option_strings and action.nargs is None:
            action.nargs = "?"
    return configured


def _value(where: str, action: argparse.Action, value: Any) -> Any:
    """A value of a file as its option would have it from the command line."""
    if action.nargs == 0:
        return of_kind(where, value, {bool})
    kind = action.type if isinstance(action.type, type) else str
    if action.nargs in (None, "?"):
        return _member(where, action, value, kind)
    members = value if isinstance(value, list) else [value]
    if isinstance(action.metavar, tuple):
        return [[of_kind(where, word, {str}) for word in of_kind(where, way, {list})] for way in members]
    return [_member(where, action, member, kind) for member in members]


def _member(where: str, action: argparse.Action, value: Any, kind: type) -> Any:
    kept = of_kind(where, value, {kind, *({NoneType} if action.default is None else ())})
    if action.choices is not None and kept not in action.choices:
        choices = [str(choice) for choice in action.choices]
        near = nearest(str(kept), choices)
        raise InputError(f"{where}={value!r}; choose one of {choices}" + (f"; did you mean {near!r}?" if near else ""))
    return kind(kept)
