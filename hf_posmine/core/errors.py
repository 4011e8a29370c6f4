"""Everything this package raises on purpose.

::

    PosmineError
    ├── InputError (ValueError)        a column, row, threshold or file the caller can mend
    │   ├── SpecError                  "PercPos(95)" and other spellings that do not parse
    │   ├── ColumnError                a column that is missing, ambiguous or of the wrong type
    │   └── ShortRowError              on_short="raise" met a row with too few negatives
    ├── StoreError (RuntimeError)      an embedding store that cannot be used
    │   ├── CorruptFileError           a stored file that is not as it was written
    │   │   └── CorruptShardError      a shard whose checksum does not match its content
    │   ├── ReadOnlyError              a cache that lacks something and cannot be written
    │   └── RefusedError               a service refused one request for what it holds
    ├── DiskFullError (OSError)        no space left; what is finished stays, nothing half-written is left
    ├── HubError (RuntimeError)        the Hub refused, or could not be reached
    ├── MissingExtraError (ImportError) an optional capability that is not installed
    └── UpstreamError (RuntimeError)    a release of a library without a private part that is used

Every message names the fault, the values that disagree, and the cure.
"""

from __future__ import annotations


class PosmineError(Exception):
    """Base of every error of this package."""


class InputError(PosmineError, ValueError):
    """Input that the caller can mend."""


class SpecError(InputError):
    """A spelling such as ``PercPos(0.95)`` that cannot be read, or a parameter out of its range."""


class ColumnError(InputError):
    """A dataset column that is missing, ambiguous or of the wrong type."""


class ShortRowError(InputError):
    """A row with fewer negatives than ``num_negatives``, under ``on_short="raise"``."""


class StoreError(PosmineError, RuntimeError):
    """An embedding store that cannot be used in this way."""


class CorruptFileError(StoreError):
    """A stored file whose bytes are not the ones that were written."""


class ReadOnlyError(StoreError):
    """A cache that lacks something and cannot be written."""


class RefusedError(StoreError):
    """A request that a service refuses for what it holds, such as a text that its filter stops; others may pass."""


class CorruptShardError(CorruptFileError):
    """A shard whose bytes are not the ones that were written."""


class DiskFullError(PosmineError, OSError):
    """No space left where a file was to be written."""


class HubError(PosmineError, RuntimeError):
    """The Hub refused a request, or could not be reached."""


class OutsideCorpusWarning(UserWarning):
    """Known positives that the corpus lacks as texts of their own."""


class NoSharedWordWarning(UserWarning):
    """Queries whose lexical scores are all 0."""


class LeftOutVectorsWarning(UserWarning):
    """Vectors of documents that the corpus lacks."""


class PromptedTextWarning(UserWarning):
    """Texts that begin with the prompt which the model puts before them."""


class CutTextWarning(UserWarning):
    """Documents that are longer than what the model reads."""


class SlowComputeWarning(UserWarning):
    """A 16-bit type that this processor multiplies more slowly than float32."""


class MissingExtraError(PosmineError, ImportError):
    """An optional capability whose packages are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}'; install it with: pip install 'hf-posmine[{extra}]'")


class UpstreamError(PosmineError, RuntimeError):
    """A release of another library that lacks a private part this package relies on."""
