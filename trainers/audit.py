"""The public door of the audit: `from trainers.audit import audit` in a loop of your own."""

from trainers.calls.audit import Audit, AuditError, audit

__all__ = ["Audit", "AuditError", "audit"]
