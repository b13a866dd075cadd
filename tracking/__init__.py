"""Write runs down so that nothing is lost, and show them in MLflow.

    with tracking.start_run("resnet20", params={"learning_rate": 0.1}) as run:
        run.log_metrics({"validation_accuracy": 0.91}, step=1)
    frame = tracking.runs(filter="metrics.validation_accuracy > 0.9")

The names load at their first use. Writing needs the standard library alone; MLflow, pandas and MXNet are imported by
what uses them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.errors import JournalError, ModelError, RunNotFound, StoreError, StoreUnreachable, TrackingError

if TYPE_CHECKING:
    import pandas as pd

    from tracking import gluon as gluon
    from tracking.models.gluon import save_model as save_model
    from tracking.run import Run as Run
    from tracking.run import attach as attach_run
    from tracking.run import resume as resume_run
    from tracking.run import start as start_run
    from tracking.store import Store as Store
    from tracking.store import resolve as open_store

__version__ = "0.2.0"
__all__ = [
    "JournalError",
    "ModelError",
    "Run",
    "RunNotFound",
    "Store",
    "StoreError",
    "StoreUnreachable",
    "TrackingError",
    "attach_run",
    "gluon",
    "load_model",
    "open_store",
    "resume_run",
    "runs",
    "save_model",
    "start_run",
]

_HOMES = {
    "Run": "tracking.run",
    "Store": "tracking.store",
    "attach_run": "tracking.run:attach",
    "gluon": "tracking.gluon",
    "open_store": "tracking.store:resolve",
    "resume_run": "tracking.run:resume",
    "save_model": "tracking.models.gluon",
    "start_run": "tracking.run:start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, other = _HOMES[name].partition(":")
    module = import_module(home)
    return module if name == "gluon" else getattr(module, other or name)


def __dir__() -> list[str]:
    return sorted(__all__)


def runs(
    filter: str = "",
    columns: Iterable[str] | None = None,
    *,
    experiments: str | Iterable[str] | None = None,
    order_by: str = "",
    descending: bool = True,
    limit: int | None = None,
    store: Store | str | None = None,
) -> pd.DataFrame:
    """The runs of ``store`` (default: this directory's) as a typed pandas frame, one row a run.

    ``filter`` is in MLflow's language; ``columns`` names what to read beside the core, such as ``params.num_layers``
    (default: everything). The rest is as in ``tracking.frame.load``. Raises StoreError.
    """
    from tracking.frame import load
    from tracking.store import resolve

    return load(store or resolve(), experiments, filter, columns, order_by=order_by, descending=descending, limit=limit)


def load_model(
    model_uri: str | Path, *, runtime: str = "auto", num_threads: int = 0, store: Store | None = None
) -> Any:
    """The network of a saved model, called with raw pixels (N, C, H, W) and answering with logits.

    ``model_uri``: a folder, ``runs:/RUN/model`` (the beginning of the id is enough), ``models:/NAME@ALIAS``,
    ``models:/NAME/VERSION`` or ``models:/MODEL_ID`` of ``store`` (default: this directory's). ``runtime``: ``mxnet``
    gives a Gluon SymbolBlock, ``onnx`` a function from NumPy to NumPy, ``auto`` MXNet where it is installed. No code in
    the model is run. Raises ModelError when it cannot be loaded, RunNotFound, StoreError.
    """
    from tracking.models import gluon
    from tracking.store import logged_models, resolve

    if os.path.isdir(model_uri):  # Path's own raises where a name is too long for a disk
        return gluon.load_model(model_uri, runtime=runtime, num_threads=num_threads)
    with logged_models.folder_of(store or resolve(), str(model_uri)) as folder:
        return gluon.load_model(folder, runtime=runtime, num_threads=num_threads)
