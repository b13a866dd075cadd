"""What programs of ``tests.support.forked`` find imported already."""

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import numpy
import pyarrow.parquet  # noqa: F401
import sklearn.datasets  # noqa: F401

numpy.bool = bool  # type: ignore[attr-defined]  # MXNet asks for it; NumPy 1.24, the oldest of Python 3.12, has it not

import mxnet  # noqa: E402, F401
