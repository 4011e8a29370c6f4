"""Faults in training data that anybody mined or made: positives among negatives, contradictions, copies, leaks, scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.audit.kinds import KINDS
    from hf_posmine.audit.result import AuditResult
    from hf_posmine.audit.run import audit_data
    from hf_posmine.audit.scan import AuditSettings
    from hf_posmine.audit.top_up import TopUp

__all__ = ["KINDS", "AuditResult", "AuditSettings", "TopUp", "audit_data"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "kinds": ("KINDS",),
        "result": ("AuditResult",),
        "run": ("audit_data",),
        "scan": ("AuditSettings",),
        "top_up": ("TopUp",),
    },
)
