"""Test accuracy of a built-in job's model: from the archive to the same MLflow run, checked against the job's log."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import reports
from tests.support.pictures import picture
from tracking import names
from tracking import run as tracked
from tracking.store import resolve
from trainers import evaluate
from trainers.data import Batches, open_dataset
from trainers.data.source import read_source
from trainers.sagemaker.builtin import model

pytestmark = pytest.mark.mxnet
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float, float]:
    """An archive as the built-in writes it, and its accuracy on the validation, test and all digits by MXNet."""
    from trainers.networks import backend as door
    from trainers.networks import resnet, weights
    from trainers.training import scores

    mx = door.load()
    folder = tmp_path_factory.mktemp("archive")
    net = resnet.build(20, 10, SHAPE)
    weights.initialise(net, "scratch", seed=3)
    symbol = mx.sym.SoftmaxOutput(net(mx.sym.var("data")), name="softmax")
    symbol.save(str(folder / "image-classification-symbol.json"))
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {
        f"{'aux' if name in auxiliary else 'arg'}:{name}": parameter.data()
        for name, parameter in net.collect_params().items()
    }
    mx.nd.save(str(folder / "image-classification-0012.params"), arrays)
    (folder / "model-shapes.json").write_text(json.dumps([{"name": "data", "shape": [32, *SHAPE]}]))
    path = folder / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(folder.glob("[im][mo]*-*")):
            tar.add(file, file.name)
    digits = open_dataset("digits")
    assert digits.test is not None
    found = [
        scores.score(net, Batches(split, image_shape=SHAPE, batch_size=64)).accuracy
        for split in (digits.validation, digits.test, read_source("digits", None).splits["all"])
    ]
    return path, found[0], found[1], found[2]


def job(folder: Path, archive: Path, validation_accuracy: float, digest: str = "", **digests: str) -> str:
    """A finished job of the built-in as watching it leaves one; ``digests`` are those of more splits."""
    tags = {names.LAUNCHER: "sagemaker-builtin", names.MODEL_URI: str(archive)}
    known = {**({"validation": digest} if digest else {}), **digests}
    with tracked.start(run_name="a job", live=resolve(), system_metrics=False) as run:
        run.log_params({"num_layers": 20, "mini_batch_size": 32})
        run.set_tags({**tags, **{names.dataset_digest(split): found for split, found in known.items()}})
        run.log_metrics({names.BEST_EPOCH: 12, names.BEST_VALIDATION_ACCURACY: validation_accuracy}, step=12)
    assert run.mlflow_run_id is not None
    return run.mlflow_run_id


def test_the_score_goes_to_the_jobs_run_and_agrees_with_its_log(
    workdir: Path, archive: tuple[Path, float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    path, validation, test, _ = archive
    run_id = job(workdir, path, validation + 0.01, open_dataset("digits").validation.digest)
    before = resolve().find_run(run_id)
    assert evaluate.main([run_id, "--dataset", "digits"]) == 0
    assert "agrees with the job's log" in capsys.readouterr().out
    after = resolve().find_run(run_id)
    assert after.data.metrics[names.TEST_ACCURACY] == pytest.approx(test)
    assert after.data.metrics[names.num_images("test")] == 359
    assert (after.info.status, after.info.end_time) == (before.info.status, before.info.end_time)


def test_a_contradiction_is_said(
    workdir: Path, archive: tuple[Path, float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = job(workdir, archive[0], archive[1] + 0.5, open_dataset("digits").validation.digest)
    assert evaluate.main([run_id, "--dataset", "digits"]) == 0
    assert "CONTRADICTS" in capsys.readouterr().out
    assert "CONTRADICTS" in resolve().find_run(run_id).data.tags[names.EVALUATION_CHECK]


def test_other_validation_pictures_prove_nothing(
    workdir: Path, archive: tuple[Path, float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = job(workdir, archive[0], 0.9, "another digest")
    assert evaluate.main([run_id, "--dataset", "digits", "--fit", "squash"]) == 0
    assert "not at hand" in capsys.readouterr().out


def test_a_few_validation_pictures_say_nothing_of_the_log() -> None:
    """With six pictures the log may be off by most of them: neither agreement nor contradiction is claimed."""
    digest = {names.VALIDATION_DATASET_DIGEST: "a"}
    data = SimpleNamespace(metrics={names.VALIDATION_ACCURACY: 0.5}, tags=digest, params={"mini_batch_size": "4"})
    six: Any = type("Six", (), {"__len__": lambda self: 6, "digest": "a"})()
    unused: Any = None
    said = model.check(unused, unused, six, SimpleNamespace(data=data))
    assert said == "6 validation pictures are too few to check the model against its job's log."


def test_data_of_which_nothing_is_known_is_the_jobs_test_set_as_a_whole(
    workdir: Path, archive: tuple[Path, float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = job(workdir, archive[0], 0.9)
    assert evaluate.main([run_id, "--dataset", "digits"]) == 0
    said = capsys.readouterr().out
    assert "test accuracy" in said and "on 1,797 pictures" in said and "had no test set" in said
    assert "not known whether this run was trained on some of them" in said
    data = resolve().find_run(run_id).data
    assert data.metrics[names.TEST_ACCURACY] == pytest.approx(archive[3])
    assert data.tags[names.TEST_OVERLAP] == "unknown"
    card = reports.run_card(run_id, resolve()).to_text().replace("\u00a0", " ")
    assert "Whether it was trained on some of the test pictures is not known" in card
    assert not any("trained on" in f.text for f in reports.leaderboard(resolve()).board.findings)


def test_a_score_of_the_job_is_replaced_by_no_other_sizing_and_no_other_data(
    workdir: Path, archive: tuple[Path, float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    digits = open_dataset("digits")
    known = {split: part.digest for split, part in digits.splits.items()}
    run_id = job(workdir, archive[0], archive[1], **known)
    assert evaluate.main([run_id, "--dataset", "digits"]) == 0
    assert "none of them is a training picture" in capsys.readouterr().out
    before = resolve().find_run(run_id).data
    assert before.tags[names.TEST_OVERLAP] == "0"
    for path in ("a/0.png", "a/1.png", "b/2.png"):
        picture(workdir / "new" / path, int(path[2]), size=(9, 8), colour=False)
    for number in range(2, 10):
        picture(workdir / "new" / str(number) / "x.png", number, size=(9, 8), colour=False)
    assert evaluate.main([run_id, "--dataset", "digits", "--fit", "squash"]) == 0
    assert evaluate.main([run_id, "--dataset", "new"]) == 0
    assert evaluate.main([run_id, "--dataset", "new", "--fit", "squash"]) == 0
    after = resolve().find_run(run_id).data
    assert {k: after.metrics[k] for k in before.metrics} == before.metrics
    assert {k: after.tags[k] for k in before.tags} == before.tags
    images = [after.metrics[names.num_images(name)] for name in ("test-squash", "new", "new-squash")]
    assert images == [359, 11, 11]
    # The job learned from raw pixels, these are files: by content they never meet.
    assert after.tags[names.overlap("new")] == "unknown" and after.tags[names.overlap("test-squash")] == "0"


def test_an_archive_without_a_run_is_scored_and_written_nowhere(
    workdir: Path, archive: tuple[Path, float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--model", str(archive[0]), "--dataset", "digits"]) == 0
    assert f"{archive[3]:.4f} on 1,797 pictures" in capsys.readouterr().out
    assert not (workdir / "mlruns").exists()


def test_what_is_missing_is_said(workdir: Path, archive: tuple[Path, float, float, float], capsys) -> None:  # type: ignore[no-untyped-def]
    run_id = job(workdir, archive[0], 0.9)
    assert evaluate.main([run_id]) == 2
    assert "--dataset" in capsys.readouterr().err
    assert evaluate.main(["--model", "nowhere.tar.gz", "--dataset", "digits"]) == 2
    assert "nowhere.tar.gz" in capsys.readouterr().err
