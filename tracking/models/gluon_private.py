"""The names of MLflow that are not public and that the flavor cannot do without; tested with 3.17.

Each is looked up when it is needed, and a version of MLflow without it gets a message instead of an AttributeError.
"""

from __future__ import annotations

import importlib
from typing import Any

from tracking.errors import ModelError

TESTED = ">=3.17,<3.18"


def save_example(mlflow_model: Any, example: Any, path: str) -> None:
    """Write an input example, in any form MLflow takes, and note it in ``mlflow_model``."""
    _find("mlflow.models.utils", "_save_example")(mlflow_model, example, path)


def _find(module: str, name: str) -> Any:
    import mlflow

    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"MLflow {mlflow.__version__} has no {module}.{name}; tested are {TESTED}. Save the model without an"
            " input example of your own, or install a tested version."
        ) from error
