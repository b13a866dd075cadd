"""Gluon for MLflow: tracking of other people's training code, and the flavor that saves and loads its networks.

    from tracking import gluon

The names load at their first use; MXNet when one of them is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking.lazy import lazy

if TYPE_CHECKING:
    from tracking.gluon.estimator import TrackingHandler as TrackingHandler
    from tracking.gluon.estimator import autolog as autolog
    from tracking.gluon.training import track as track
    from tracking.models.gluon import load_model as load_model
    from tracking.models.gluon import log_model as log_model
    from tracking.models.gluon import save_model as save_model

__all__ = ["TrackingHandler", "autolog", "load_model", "log_model", "save_model", "track"]

__getattr__, __dir__ = lazy(
    __name__,
    __all__,
    {
        "TrackingHandler": "tracking.gluon.estimator",
        "autolog": "tracking.gluon.estimator",
        "load_model": "tracking.models.gluon",
        "log_model": "tracking.models.gluon",
        "save_model": "tracking.models.gluon",
        "track": "tracking.gluon.training",
    },
)
