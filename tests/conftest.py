"""Fixtures for every test: an environment without surprises and the warnings of others, named one by one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before any import of MXNet: tests share two cores, and results depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
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
# The longest files: they begin first, so that no worker is left alone with one at the end.
_FIRST = (
    "test_trainers_sagemaker_container.py",
    "test_trainers_experiment.py",
    "test_trainers_study_runner.py",
    "test_trainers_sagemaker_watch.py",
    "test_trainers_sagemaker_launcher.py",
    "test_trainers_sagemaker_jobs.py",
    "test_trainers_cloud.py",
    "test_tracking_gluon.py",
    "test_tracking_http.py",
    "test_tracking_postgres.py",
    "test_tracking_replay.py",
    "test_trainers_data_mxnet.py",
    "test_tracking_gluon_onnx.py",
)


try:
    from hypothesis import settings
except ImportError:  # the reports' tests also run where only reports are installed
    pass
else:
    # No timed tests: on a busy machine a deadline fails what is right.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the longest files to the front."""
    rank = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(_FIRST)))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that would change what a test does on somebody's machine."""
    for name in _STEERING:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, so that the default store is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
