"""Gluon for MLflow: tracking of other people's training code, and the flavor that saves and loads its networks.

    from tracking import gluon

The names load at their first use; MXNet when one of them is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking.gluon.estimator import TrackingHandler as TrackingHandler
    from tracking.gluon.estimator import autolog as autolog
    from tracking.gluon.network import load_model as load_model
    from tracking.gluon.network import log_model as log_model
    from tracking.gluon.training import track as track
    from tracking.models.gluon import save_model as save_model

__all__ = ["TrackingHandler", "autolog", "load_model", "log_model", "save_model", "track"]

_HOMES = {
    "TrackingHandler": "tracking.gluon.estimator",
    "autolog": "tracking.gluon.estimator",
    "load_model": "tracking.gluon.network",
    "log_model": "tracking.gluon.network",
    "save_model": "tracking.models.gluon",
    "track": "tracking.gluon.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
