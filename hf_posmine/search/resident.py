"""From what size on the pages of mapped vectors are let go of, so that what is resident does not grow with the corpus.

A page that was let go of stays in the system's cache, where it costs no process anything, and comes back at a touch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_posmine.encoding.store import Vectors

RESIDENT = 64 << 20
"""Bytes of mapped vectors that may stay resident: below, touching them again costs more than they do."""
STRIDE = 2 << 20
"""Bytes of codes that a thread has passed before it lets go of them."""


def large(vectors: Vectors) -> bool:
    """Whether the pages of these vectors should be let go of as they are passed."""
    return len(vectors) * vectors.dim * vectors.shards[0].itemsize > RESIDENT
