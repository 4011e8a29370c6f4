"""Faults of files that are read as streams, in the one line that loading them would give."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

T = TypeVar("T")
UNREADABLE = (pa.ArrowException, UnicodeError, EOFError, ValueError, OSError)
"""Errors of the readers of ``datasets`` in the middle of a file."""


def named_faults(rows: Iterable[T]) -> Generator[T, None, None]:
    """The same rows, or batches of them; a fault of a streamed file is an error with its name and line.

    Raises:
        InputError: a file that cannot be read to its end.
    """
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            return
        except InputError:
            raise
        except UNREADABLE as error:
            raise _named(error) from error
        yield row


def _named(error: Exception) -> Exception:
    """The error of the streamed file that has a fault, the one opened last if there are several, else the error itself."""
    from hf_posmine.data.tables import fault_in, streamed_files

    for path in dict.fromkeys(reversed(streamed_files)):
        what = fault_in(path) if path.is_file() else None
        if what is not None:
            streamed_files.remove(path)
            return InputError(f"{str(path)!r} {what}")
    return error
