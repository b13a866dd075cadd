"""What programs of ``tests.support.forked`` find imported already."""

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import numpy
import pyarrow.parquet  # noqa: F401
import sklearn.datasets  # noqa: F401

numpy.bool = bool  # type: ignore[attr-defined]  # MXNet asks for it; NumPy dropped it in 1.24

import mxnet  # noqa: E402, F401
