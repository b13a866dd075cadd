"""Reports stand on their own: without MXNet, AWS and the trainers, on whatever pandas and numpy are installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import reports
from tests.support import ROOT
from tests.support.runs import new_store, predictions, trained

_BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mxnet", "gluoncv", "boto3", "botocore", "trainers", "sklearn", "matplotlib", "cv2"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
import reports
board = reports.leaderboard(sys.argv[1])
ids = [r[0] for r in board["run_ids"]]
pages = [board.to_text(f) for f in ("md", "html", "csv", "json")]
pages += [reports.compare(ids, sys.argv[1]).to_text("html"), reports.run_card(ids[0], sys.argv[1]).to_text("html")]
print("\\n".join(pages))
"""


def test_every_report_is_made_without_mxnet_aws_and_the_trainers(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    for depth, score in ((34, 0.9), (44, 0.95)):
        predictions(filler, filler.run(**trained(depth, test=score)), score, seed=depth)
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", _BLOCK, filler.uri],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "on digits" in done.stdout and "Calibration" in done.stdout
    # What numpy 2 would show of a scalar, and pandas of a missing value.
    for leak in ("np.float64(", "np.int64(", "<NA>", "NaT", ">nan<", " nan ", "None"):
        assert leak not in done.stdout, leak


def test_the_public_names_are_those_listed() -> None:
    assert dir(reports) == sorted(reports.__all__)
    for name in reports.__all__:
        assert getattr(reports, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = reports.nothing


def test_the_environment_named_is_the_one_at_hand() -> None:
    """``make test-reports`` says which pandas it brings, so that it cannot quietly test the wrong one."""
    wanted = os.environ.get("REPORTS_PANDAS_MAJOR")
    if wanted is None:
        pytest.skip("only in the environment of `make test-reports`")
    assert (pd.__version__.split(".")[0], np.__version__.split(".")[0]) == (wanted, "2")
    for absent in ("mxnet", "gluoncv", "boto3"):
        assert importlib.util.find_spec(absent) is None
