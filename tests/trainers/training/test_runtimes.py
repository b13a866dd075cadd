"""Evaluating with MXNet and with the ONNX copy: the same scores, and a clear word where one cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests.support import ROOT
from tests.support.models import CLASS_NAMES, crops, network, saved_model
from tracking import store as stores
from tracking.__main__ import main as tracking
from tracking.models.serving.files import read_facts
from trainers import evaluate, run
from trainers.errors import BadInput
from trainers.training import scores
from trainers.training import scores as runtimes

pytestmark = pytest.mark.mxnet
FAMILY = (20, "v1", (3, 28, 28))


class Pictures:
    """A split's batches, as scoring wants them: the last one short."""

    batch_size = 4

    def epoch(self, number: int):  # type: ignore[no-untyped-def]
        images, labels = crops(10, FAMILY[2]).transpose(0, 3, 1, 2), np.arange(10) % len(CLASS_NAMES)
        for start in range(0, 10, self.batch_size):
            yield images[start : start + self.batch_size], labels[start : start + self.batch_size]


def test_both_runtimes_give_the_same_scores() -> None:
    model = saved_model(*FAMILY)
    in_onnx, in_mxnet = (runtimes.scorer(model, runtime)(Pictures()) for runtime in ("onnx", "mxnet"))
    live = scores.score(network(*FAMILY), Pictures())
    assert in_onnx.num_images == in_mxnet.num_images == 10
    assert in_onnx.accuracy == in_mxnet.accuracy == live.accuracy
    assert in_onnx.loss == pytest.approx(live.loss, abs=1e-5)
    assert np.abs(in_onnx.probabilities - live.probabilities).max() <= 1e-5
    assert (in_mxnet.probabilities == live.probabilities).all()


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(saved_model(*FAMILY), tmp_path / "model")
    (tmp_path / "model" / "model.onnx").unlink()
    with pytest.raises(BadInput, match="--runtime onnx: .* has no ONNX copy"):
        runtimes.scorer(tmp_path / "model", "onnx")
    assert runtimes.scorer(tmp_path / "model")(Pictures()).num_images == 10  # MXNet, then
    with pytest.raises(BadInput):
        runtimes.scorer(tmp_path)


def test_scoring_with_the_onnx_copy_needs_no_mxnet() -> None:
    code = (
        "import sys; sys.modules['mxnet'] = None\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from trainers.training import scores as runtimes\n"
        "class One:\n"
        "    batch_size = 2\n"
        "    def epoch(self, number): yield np.zeros((2, 3, 28, 28), np.uint8), np.array([0, 1])\n"
        "print(runtimes.scorer(Path(sys.argv[1]))(One()).num_images)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved_model(*FAMILY))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "2", done.stderr


def test_a_run_is_evaluated_by_either_and_more_than_once(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--num-layers=20", "--image-shape=1,8,8", "--mini-batch-size=128", "--epochs=1", "--learning-rate=0.05"]
    assert run.main([*tiny, "--no-test"]) == 0
    assert tracking(["sync"]) == 0  # on a busy machine the run does not wait for all of it
    store = stores.resolve()
    (found,) = store.runs()
    said, tables = [], []
    for runtime in ("mxnet", "onnx", "auto"):
        capsys.readouterr()
        assert evaluate.main([found.info.run_id, "--runtime", runtime]) == 0
        caught = capsys.readouterr()
        said.append(caught.out)
        assert "Downloading" not in caught.err
        assert tracking(["sync"]) == 0
        path = store.client().download_artifacts(found.info.run_id, "predictions/test.parquet")
        tables.append(parquet.read_table(path).to_pandas())
    assert said[0] == said[1] == said[2] and "on 359 pictures" in said[0]
    for table in tables[1:]:
        assert (table["predicted"] == tables[0]["predicted"]).all()
        np.testing.assert_allclose(table["probability"], tables[0]["probability"], atol=1e-5)
    (output,) = store.find_run(found.info.run_id).outputs.model_outputs
    model = store.client().get_logged_model(output.model_id)
    facts = read_facts(model.artifact_location.removeprefix("file://"))
    # What the graph does with grey pixels: one mean, that of the three colours'.
    assert facts["normalisation"] == {"mean": [114.495], "std": [57.63], "where": "inside the graph"}
    linked = [m for m in model.metrics if m.key == "test_accuracy"]
    assert len(linked) == 3 and len({m.value for m in linked}) == 1
