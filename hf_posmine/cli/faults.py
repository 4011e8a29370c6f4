"""Every error in one line, with an exit status; ``--debug`` shows the traceback instead."""

from __future__ import annotations

from hf_posmine.core.errors import PosmineError
from hf_posmine.utils.files import disk_full
from hf_posmine.utils.printable import one_line
from hf_posmine.utils.redact import redact

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
MOST_CHARACTERS = 2000
"""Of an error that is not ours."""
GO_ON = "interrupted; run the same command again to continue where it stopped"
NO_MEMORY = "out of memory; give --max-memory where the command has it, a smaller batch, or a machine with more"


def fault(error: BaseException) -> tuple[str, int]:
    """The line, and the exit status; no line where nobody reads it any more (a closed pipe)."""
    if isinstance(error, KeyboardInterrupt):
        return GO_ON, INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return "", FAILED
    text, status = _text(error)
    line = one_line(redact(text))
    return f"error: {line}", status


def _text(error: BaseException) -> tuple[str, int]:
    if isinstance(error, PosmineError):
        return str(error), WRONG_INPUT
    if disk_full(error):
        return f"no space left on the device ({error}); free some and run the same command again", WRONG_INPUT
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}", WRONG_INPUT
    if isinstance(error, MemoryError):
        return NO_MEMORY, FAILED
    if isinstance(error, RecursionError):
        return f"something is nested too deeply to be read{_hint()}", FAILED
    return f"{type(error).__name__}: {str(error)[:MOST_CHARACTERS] or 'no further words'}{_hint()}", FAILED


def _hint() -> str:
    return " (--debug shows where)"
