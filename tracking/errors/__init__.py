"""Errors whose messages are for the user, and the redaction of secrets in every text that leaves."""

from tracking.errors.errors import JournalError, ModelError, RunNotFound, StoreError, StoreUnreachable, TrackingError

__all__ = ["JournalError", "ModelError", "RunNotFound", "StoreError", "StoreUnreachable", "TrackingError"]
