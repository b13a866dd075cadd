"""The int8 copy: asked for with a run, scored under names of its own, never taken for the fp32 network."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tracking import names
from tracking import store as stores
from tracking.models.facts import INT8, ONNX
from tracking.models.serving.files import DIGESTS, digest, read_facts
from trainers import evaluate, run
from trainers.config.checks import local_faults
from trainers.config.config import Config
from trainers.errors import BadInput
from trainers.training import scores

pytestmark = pytest.mark.mxnet
TINY = ["--num-layers=20", "--image-shape=1,8,8", "--epochs=1", "--learning-rate=0.02", "--dataset=digits"]


def test_a_run_with_an_int8_copy(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnxruntime", "ml_dtypes"):
        pytest.importorskip(package)
    onnx = pytest.importorskip("onnx")
    assert run.main([*TINY, "--int8"]) == 0
    (found,) = stores.resolve().runs()
    known = found.data.metrics
    assert 2.5 < known[names.ONNX_SIZE_BYTES] / known[names.INT8_SIZE_BYTES] < 4
    for split, least in (("validation", 6), ("test", 6)):
        plain = known[names.BEST_VALIDATION_ACCURACY if split == "validation" else names.TEST_ACCURACY]
        assert abs(known[names.accuracy(f"{split}-int8")] - plain) < least / 100
    (folder,) = Path("mlruns/journals").glob("*/files/model")
    assert read_facts(folder)[DIGESTS][INT8] == digest(folder / INT8)
    # No operator set that it does not use: an older onnxruntime refuses versions it does not know.
    assert [(given.domain, given.version) for given in onnx.load(folder / INT8).opset_import] == [("", 17)]

    capsys.readouterr()
    assert evaluate.main([found.info.run_id, "--runtime=onnx-int8"]) == 0
    assert f"test-int8 accuracy {known['test-int8_accuracy']:.4f}" in capsys.readouterr().out
    (after,) = stores.resolve().runs()
    assert after.data.metrics[names.TEST_ACCURACY] == known[names.TEST_ACCURACY]

    (folder / INT8).write_bytes((folder / ONNX).read_bytes())
    with pytest.raises(BadInput, match=r"model-int8\.onnx"):
        scores.scorer(folder, "onnx-int8")
    (folder / INT8).unlink()
    with pytest.raises(BadInput, match="no int8 copy; train it with --int8"):
        scores.scorer(folder, "onnx-int8")


def test_what_an_int8_copy_lacks_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ml_dtypes" else there(name))
    assert not local_faults(vars(Config()))
    faults = local_faults(vars(Config(int8=True, keep_model="none")))
    assert "--keep-model none keeps none" in faults[0] and "pip install ml_dtypes" in faults[1]
