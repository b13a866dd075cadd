"""What is written first: an append-only file of events, with the standard library alone."""

from tracking.journal.writer import Journal

__all__ = ["Journal"]
