"""Calls of the Hub, repeated where that helps, with one clear error where it does not.

huggingface_hub repeats reads and uploads itself, but neither the creation of a repository nor a commit: those fail at
the first 503 or broken connection, and a commit whose parent has moved is refused with a 412. Everything that is wrapped
here may therefore be run again from its start: it reads the repository anew and does nothing twice.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from hf_posmine.core.errors import HubError
from hf_posmine.utils.redact import redact
from hf_posmine.utils.retry import backoff, retry

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CONFLICTS = (409, 412)
OUTAGES = (408, 425, 429, 500, 502, 503, 504)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 8.0
CONFLICT_TRIES, OUTAGE_TRIES = 30, 5
"""Of pushes at the same time one always lands, so conflicts end; an outage may not."""

LOG_IN = "log in with: hf auth login (or set HF_TOKEN)"


def with_retry(call: Callable[[], T], what: str) -> T:
    """The result of ``call``, run again after conflicts and outages.

    Args:
        call: the requests; running it again must be harmless.
        what: noun of the error message, such as ``"pushing to me/mined"``.

    Raises:
        HubError: it was refused, or failed to the end.
    """
    conflicts = outages = 0

    def pause(error: Exception) -> float:
        nonlocal conflicts, outages
        if not of_the_hub(error):
            raise error
        status = _status(error)
        conflicts += status in CONFLICTS
        outages += status in OUTAGES or (status is None and not _offline(error))
        hopeless = status is not None and status not in CONFLICTS + OUTAGES
        if hopeless or _offline(error) or conflicts >= CONFLICT_TRIES or outages >= OUTAGE_TRIES:
            raise HubError(redact(f"{what} failed: {_explain(error, status)}")) from None
        return backoff(conflicts + outages, FIRST_PAUSE, LONGEST_PAUSE)

    return retry(call, pause)


def of_the_hub(error: Exception) -> bool:
    """Whether the network or the Hub failed, and not the program."""
    from datasets.exceptions import DatasetNotFoundError  # also raised where the Hub gave a 503
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError):  # how the client wraps a failed upload
        return isinstance(error.__cause__, Exception) and of_the_hub(error.__cause__)
    known = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, DatasetNotFoundError, *_transport_errors())
    return isinstance(error, known)


def _transport_errors() -> tuple[type[Exception], ...]:
    """Broken connections and time limits: huggingface_hub 2 uses httpx2, huggingface_hub 1 uses httpx."""
    loaded = (sys.modules.get(name) for name in ("httpx2", "httpx"))
    return tuple(vars(module)["TransportError"] for module in loaded if module is not None)


def _offline(error: BaseException | None) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled) or (error is not None and _offline(error.__cause__))


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error; None without an answer."""
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__
    return None


def _explain(error: Exception, status: int | None) -> str:
    if _offline(error):
        return "the Hub is switched off (HF_HUB_OFFLINE or --offline)"
    meanings = {
        401: f"the Hub does not accept the token; {LOG_IN}",
        403: "the token may not do this; use one that may write to this repository",
        404: f"there is no such repository or revision, or the token may not see it; check the name, or {LOG_IN}",
        409: "others write to this repository without pause; try again later",
        412: "others write to this repository without pause; try again later",
        413: "the Hub finds it too large",
        429: "too many requests (429); try again later",
        507: "the storage is full (507); make room and push again",
    }
    reason = redact(" ".join(str(error).split()))[:300]  # before it is cut: half of a secret has no form
    if status is None:
        return f"the connection broke again and again ({type(error).__name__}: {reason}); push again when it is back"
    return meanings.get(status, f"the Hub answered {status} ({reason}); try again later")
