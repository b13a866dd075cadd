"""Write runs down so that nothing is lost, and show them in MLflow.

The write side (``names``, ``journal``, ``run``) needs the standard library alone; MLflow, pandas and MXNet are imported
by the modules that use them, never here.
"""

from __future__ import annotations

__version__ = "0.1.0"
