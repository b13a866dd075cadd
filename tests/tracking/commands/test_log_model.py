"""``python -m tracking log-model``: a built-in job's archive becomes its run's model, with the scores of its epoch."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest

from tests.support.models import by_class, crops, probabilities
from tests.tracking.models.test_files import archive, builtin_files
from tracking.__main__ import main
from tracking.journal import Journal
from tracking.models import facts, gluon
from tracking.models.package import encode_png
from tracking.models.serving import runtime
from tracking.store import Store
from tracking.store.replay import replay

pytestmark = pytest.mark.mxnet
NAMES = ["barn owl", "tawny owl", "eagle owl"]


def job(store: Store) -> str:
    """A finished job as its log tells of it, without a model; its MLflow id."""
    journal = Journal.create(store.journals, experiment="exp", run_name="job")
    journal.params({"image_shape": "3,8,8"})
    journal.tags({"validation_dataset_digest": "pictures"})
    journal.dataset(context="validation", name="owls", digest="d", source="s3://b/v", num_images=9, num_classes=3)
    for epoch, accuracy in ((4, 0.5), (12, 0.75), (13, 0.25)):
        journal.metrics({"validation_accuracy": accuracy}, step=epoch)
    journal.metrics({"best_epoch": 12}, step=12)
    journal.status("FINISHED")
    journal.close()
    run_id = replay(journal.dir, store).run_id
    return run_id


def test_the_archive_becomes_the_runs_model(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = job(store)
    path = archive(tmp_path / "model.tar.gz", builtin_files(tmp_path, epochs=(4, 12, 13)))
    (tmp_path / "classes.json").write_text(json.dumps({"class_names": NAMES}))
    pictures = crops(3, (3, 8, 8))
    files = []
    for number, pixels in enumerate(pictures):
        files.append(str(tmp_path / f"{number}.png"))
        Path(files[-1]).write_bytes(encode_png(pixels.transpose(2, 0, 1)))
    classes = str(tmp_path / "classes.json")
    before = store.find_run(run_id)
    assert main(["log-model", run_id, str(path), "--classes", classes, "--pictures", *files]) == 0
    said = capsys.readouterr().out
    assert "model of epoch 12" in said and "differs from MXNet by at most" in said
    after = store.find_run(run_id)
    assert (after.info.status, after.info.end_time) == (before.info.status, before.info.end_time)
    (output,) = after.outputs.model_outputs
    model = store.client().get_logged_model(output.model_id)
    scores = {(m.key, m.value, m.dataset_digest) for m in model.metrics}
    proof = after.data.metrics["onnx_max_difference"]
    assert proof <= 1e-4
    assert scores == {
        ("validation_accuracy", 0.75, "d"),
        ("best_epoch", 12.0, None),
        ("onnx_max_difference", proof, None),
    }
    folder = model.artifact_location.removeprefix("file://")
    in_mxnet = gluon.load_model(folder)(runtime.to_array(pictures.transpose(0, 3, 1, 2))).asnumpy()
    served = mlflow.pyfunc.load_model(folder, suppress_warnings=True).predict(pictures)
    assert np.abs(by_class(served, NAMES) - probabilities(in_mxnet)).max() <= 1e-5
    # From here on it is a model like any other.
    assert main(["promote", run_id, "--name", "owls"]) == 0
    assert "validation_accuracy 0.7500" in capsys.readouterr().out
    assert main(["log-model", run_id, str(path)]) == 2
    assert "has a model already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["missing.tar.gz"], "no such file"),
        (["classes.json"], "neither a model.tar.gz"),
        (["broken.tar.gz"], "is cut short"),
        (["model.tar.gz", "--classes", "classes.json"], "2 class names for a network of 3"),
        (["model.tar.gz", "--classes", "missing.json"], "missing.json names no classes"),
        (["model.tar.gz", "--epoch", "9"], "no weights of epoch 9; there are: 13"),
        (
            ["model.tar.gz", "--pictures", "classes.json"],
            "--pictures classes.json: not a readable JPEG, PNG, WebP, BMP or TIFF",
        ),
    ],
)
def test_bad_input_is_refused_and_leaves_the_run_as_it_was(
    given: list[str], words: str, store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("classes.json").write_text('["a", "b"]')
    Path("broken.tar.gz").write_bytes(b"\x1f\x8bnothing")
    archive(Path("model.tar.gz"), builtin_files(workdir))
    run_id = job(store)
    before = store.find_run(run_id).data
    assert main(["log-model", run_id, *given]) == 2
    assert words in capsys.readouterr().err
    after = store.find_run(run_id)
    assert after.data.tags == before.tags and after.data.metrics == before.metrics and not after.outputs.model_outputs
    assert not store.client().list_artifacts(run_id)


def test_the_size_of_the_pictures_is_the_runs_where_the_archive_tells_none(store: Store, workdir: Path) -> None:
    files = {name: content for name, content in builtin_files(workdir).items() if name != "model-shapes.json"}
    run_id = job(store)
    assert main(["log-model", run_id, str(archive(Path("model.tar.gz"), files))]) == 0
    (output,) = store.find_run(run_id).outputs.model_outputs
    assert store.client().get_logged_model(output.model_id).metrics
    folder = store.client().get_logged_model(output.model_id).artifact_location.removeprefix("file://")
    assert facts.read_facts(folder)["image_shape"] == [3, 8, 8]
