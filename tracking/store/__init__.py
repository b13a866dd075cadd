"""Where runs are shown: MLflow, reached through one connection, filled by replaying journals."""

from tracking.store.store import Store, resolve

__all__ = ["Store", "resolve"]
