"""Runs as one typed pandas frame.

Delete ``sql``, ``tables`` and ``filter`` and a correct, slower program is left that reads through MLflow's API.
"""

from tracking.frame.frame import histories, inputs, load, models

__all__ = ["histories", "inputs", "load", "models"]
