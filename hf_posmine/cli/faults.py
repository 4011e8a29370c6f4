"""Every error in one line, with an exit status; ``--debug`` shows the traceback instead."""

from __future__ import annotations

import errno

from hf_posmine.core.errors import PosmineError
from hf_posmine.utils.files import cache_root, is_errno
from hf_posmine.utils.memory import address_space_limit, show_size
from hf_posmine.utils.printable import one_line
from hf_posmine.utils.redact import redact

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
MOST_CHARACTERS = 2000
"""Of an error that is not ours."""
GO_ON = "interrupted; run the same command again to continue where it stopped"
AGAIN = "and run the same command again"
CURES = {
    (errno.ENOSPC, errno.EDQUOT): f"no space left on the device ({{error}}); free some {AGAIN}",
    (errno.EMFILE, errno.ENFILE): f"too many open files ({{error}}); raise the limit of this shell (ulimit -n) {AGAIN}",
    (errno.EFBIG,): f"a file is larger than this shell allows ({{error}}); raise the limit (ulimit -f) {AGAIN}",
}
"""Errors of the system, by what brings the command to its end."""
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
    for codes, line in CURES.items():
        if is_errno(error, *codes):
            return line.format(error=error), WRONG_INPUT
    if str(cache_root()) in str(error) and is_errno(error, errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM):
        return _of_the_cache(error), WRONG_INPUT
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}", WRONG_INPUT
    if isinstance(error, MemoryError) or is_errno(error, errno.ENOMEM):
        return NO_MEMORY, FAILED
    if isinstance(error, RecursionError):
        return f"something is nested too deeply to be read{_hint()}", FAILED
    return f"{type(error).__name__}: {str(error)[:MOST_CHARACTERS] or 'no further words'}{_hint()}", FAILED


def _of_the_cache(error: BaseException) -> str:
    if is_errno(error, errno.ENOENT):
        return f"the cache changed while the command ran ({error}); run the same command again"
    return f"the cache cannot be written ({error}); set HF_POSMINE_HOME to a folder that can"


def _hint() -> str:
    """Where to look: a limit of memory may show as any error, such as that of a library that cannot be loaded."""
    limit = address_space_limit()
    if limit is None:
        return " (--debug shows where)"
    return (
        f" (this shell allows {show_size(limit)} of memory: if that is why, raise it by ulimit -v; --debug shows where)"
    )
