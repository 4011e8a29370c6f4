"""Errors and warnings with the options of the command line in the place of the arguments of functions."""

from __future__ import annotations

import contextlib
import warnings
from argparse import BooleanOptionalAction
from typing import TYPE_CHECKING

from hf_posmine.cli.parser import TAKES_RECIPE, make_parser, name_of
from hf_posmine.core.errors import PosmineError
from hf_posmine.core.suggest import respelled
from hf_posmine.utils.printable import one_line
from hf_posmine.utils.upstream import parser_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.cli.parser import Command

OTHER_NAMES = {
    "text": "corpus_text_column", "id": "corpus_id_column", "title": "corpus_title_column", "image": "corpus_image_column",
    "rank_by": "second_rank_by", "band": "second_band",
}  # fmt: skip
"""Arguments whose option has another name."""
NOT_MEANT = ("language", "report", "private")
"""Options of a push, which bear the names of other arguments."""


@contextlib.contextmanager
def hints_of(command: Command) -> Iterator[None]:
    """Errors of ours, and warnings in one line, name the options of a command."""

    def show_warning(message: Warning | str, *_: object, **__: object) -> str:
        return f"warning: {one_line(with_options(str(message), command))}\n"

    before, warnings.formatwarning = warnings.formatwarning, show_warning
    try:
        yield
    except PosmineError as error:
        error.args = (with_options(str(error), command),)
        raise
    finally:
        warnings.formatwarning = before


def with_options(message: str, command: Command) -> str:
    """A message with ``--positive-column`` for ``positive_column=...``, where the command has the option.

    The arguments of a recipe are its keys, and stay.
    """
    if name_of(command) == TAKES_RECIPE:
        return message
    options = parser_options(make_parser(command))
    named = {name: name for name in options if name not in NOT_MEANT}
    named |= {name: option for name, option in OTHER_NAMES.items() if option in options}
    spelt: dict[str, str] = {}
    for name, option in named.items():
        action = options[option]
        if not action.option_strings:
            continue
        spelt[name] = action.option_strings[0]
        if action.nargs == 0:
            off = action.option_strings[-1] if isinstance(action, BooleanOptionalAction) else f"no {spelt[name]}"
            spelt |= {f"{name}=True": spelt[name], f"{name}=False": off}
    return respelled(message, spelt)
