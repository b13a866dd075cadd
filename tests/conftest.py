"""Fixtures for every test: an environment without surprises and the warnings of others, named one by one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before any import of MXNet: tests share two cores, and results depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

_STEERING = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "MXNET_HOME",
    "MXNET_GLUON_REPO",
)
# A suite started in the background inherits that Ctrl-C is ignored, and so would every process it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


try:
    from hypothesis import settings
except ImportError:  # the reports' tests also run where only reports are installed
    pass
else:
    # No timed tests: on a busy machine a deadline fails what is right.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the variables that would change what a test does on somebody's machine, and those that it leaves."""
    for name in _STEERING:
        monkeypatch.setenv(name, "")  # so that what the test itself sets is undone, too
        monkeypatch.delenv(name)
    yield
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None and mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(None)


@pytest.fixture(autouse=True)
def no_default_store() -> Iterator[None]:
    """Fail a test that opens MLflow's default store, ``mlflow.db`` in the current directory, in the checkout."""
    store = Path(__file__).parents[1] / "mlflow.db"
    was_there = store.exists()
    yield
    assert was_there or not store.exists(), "the test opened MLflow's default store: give it a tracking URI"


@pytest.fixture(autouse=True)
def tables_once() -> None:
    """Let MLflow's migrations run once in a process that has imported them; ``remember_tables`` says more."""
    if "mlflow.store.db.utils" in sys.modules:
        from tests.support.stores import remember_tables

        remember_tables()


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, so that the default store is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
