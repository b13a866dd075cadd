"""Whole runs with real MXNet and a real MLflow store: what is logged, how runs end, how they go on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pyarrow import parquet

import reports
from tests.support.forked import Forked
from tests.support.stores import make_store
from tracking import names
from tracking import store as stores
from tracking.journal.events import read
from trainers import evaluate, run
from trainers.config import Config
from trainers.errors import BadConfig, BadInput
from trainers.networks import weights
from trainers.training import experiment, stages

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
TINY = ["--num-layers=20", "--image-shape=1,8,8", "--mini-batch-size=128", "--epochs=2", "--learning-rate=0.05"]


def command(*argv: str, cwd: Path) -> Forked:
    variables = {"OMP_NUM_THREADS": "1", "MXNET_OMP_MAX_THREADS": "1"}
    return Forked("-m", *argv, cwd=cwd, env={**os.environ, **variables})


def trained(folder: Path, *argv: str) -> str:
    """What a run in a folder with an empty store prints."""
    make_store(folder)
    process = command("trainers.run", *TINY, *argv, cwd=folder)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with one finished run, made as a user makes it; and the run's output."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, trained(folder, "--run-name=tiny", "--tag=who=test")


def only_run(folder: Path):  # type: ignore[no-untyped-def]
    (found,) = stores.resolve(folder).runs()
    return found


def test_a_run_logs_everything_it_promises(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    logged = only_run(folder)
    data = logged.data
    assert logged.info.status == "FINISHED" and logged.info.run_name == "tiny"
    assert data.params["num_layers"] == "20" and data.params["num_training_samples"] == "1259"
    assert data.params["num_threads"] == "1"
    for metric in (
        "train_accuracy train_loss validation_accuracy validation_loss epoch_learning_rate images_per_s epoch_time_s"
        " best_validation_accuracy best_epoch test_accuracy test_loss test_top5_accuracy test_balanced_accuracy"
        " test_macro_f1 test_majority_accuracy test_num_images total_time_s"
        " validation_num_images training_time_s num_parameters model_size_bytes"
    ).split():
        assert metric in data.metrics, metric
    assert data.metrics["test_num_images"] == 359
    assert data.tags[names.FINGERPRINT] and data.tags[names.INIT_LABEL] == "scratch" and data.tags["who"] == "test"
    assert any(metric.startswith("system/") for metric in data.metrics)
    contexts = {tag.value: one.dataset for one in logged.inputs.dataset_inputs for tag in one.tags}
    assert set(contexts) == {"train", "validation", "test"}
    assert contexts["test"].digest == data.tags[names.TEST_DATASET_DIGEST]


def test_the_metrics_of_each_epoch_are_there_once(finished: tuple[Path, str]) -> None:
    store = stores.resolve(finished[0])
    history = store.client().get_metric_history(only_run(finished[0]).info.run_id, "validation_accuracy")
    assert [point.step for point in history] == [1, 2]


def test_a_run_keeps_its_artifacts(finished: tuple[Path, str]) -> None:
    folder = Path(only_run(finished[0]).info.artifact_uri.removeprefix("file://"))
    for name in (
        "config.toml",
        "environment.json",
        "log.txt",
        "figures/confusion_matrix.svg",
        "figures/learning_curves.svg",
        "predictions/validation.parquet",
        "predictions/test.parquet",
    ):
        assert (folder / name).stat().st_size > 0, name
    table = parquet.read_table(folder / "predictions" / "test.parquet").to_pandas()
    accuracy = (table["label"] == table["predicted"]).mean()
    assert len(table) == 359 and accuracy == pytest.approx(only_run(finished[0]).data.metrics["test_accuracy"])
    assert "2/2" in (folder / "log.txt").read_text()


def test_a_run_logs_its_model_with_the_scores_of_its_epoch(finished: tuple[Path, str]) -> None:
    client, logged = stores.resolve(finished[0]).client(), only_run(finished[0])
    (output,) = logged.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, str(model.status)) == ("model", "READY") and output.step == logged.data.metrics["best_epoch"]
    files = {file.path for file in client.list_logged_model_artifacts(output.model_id)}
    assert files >= {"MLmodel", "model-symbol.json", "model-0000.params", "model.json", "model.onnx", "code"}
    scores = {metric.key: metric for metric in model.metrics}
    assert scores["test_accuracy"].value == logged.data.metrics["test_accuracy"]
    assert scores["test_accuracy"].dataset_digest == logged.data.tags[names.TEST_DATASET_DIGEST]
    assert scores["validation_accuracy"].value == logged.data.metrics["best_validation_accuracy"]
    assert not any(key.startswith("system/") for key in scores)
    assert logged.data.metrics["onnx_max_difference"] <= 1e-4


def test_it_ends_with_its_page_and_mlflow_describes_it(finished: tuple[Path, str]) -> None:
    folder, output = finished
    logged = only_run(folder)
    page = f"/#/experiments/{logged.info.experiment_id}/runs/{logged.info.run_id}?workflowType=machine_learning"
    assert output.endswith(f"page    http://127.0.0.1:5000{page} (after: python -m tracking ui)\n")
    assert "test accuracy** on 359 pictures" in logged.data.tags["mlflow.note.content"]
    assert logged.data.tags["mlflow.source.type"] == "LOCAL"


def test_on_a_server_its_page_is_the_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stores.Store("https://ada:secret@mlflow.example/ml/", None, tmp_path)
    with experiment.tracked.start(root=tmp_path, experiment="exp", live=None, system_metrics=False) as begun:
        known = {"run_id": "abc", "experiment_id": "3", "segment": 1, "offset": 0, "status": None}
        progress = {"version": 1, "stores": {store.public_uri: known}}
        (begun.dir / "replay.json").write_text(json.dumps(progress))
    experiment.print_page(begun, store)
    end = "#/experiments/3/runs/abc?workflowType=machine_learning"
    assert capsys.readouterr().out == f"page    https://mlflow.example/ml/{end}\n"


def test_the_resolved_config_can_be_fed_back(finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(only_run(finished[0]).info.artifact_uri.removeprefix("file://"))
    assert run.main(["--config", str(folder / "config.toml"), "--dry-run"]) == 0
    assert "num_training_samples = 1259" in capsys.readouterr().out


def test_the_state_is_gone_once_the_model_is_kept(finished: tuple[Path, str]) -> None:
    (journal,) = (finished[0] / "mlruns" / "journals").iterdir()
    assert not (journal / "state").exists()


def test_a_missing_test_score_is_filled_in_and_nothing_else_changes(stored: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert run.main([*TINY, "--epochs=1", "--no-test"]) == 0
    before = only_run(stored)
    assert "test_accuracy" not in before.data.metrics
    assert evaluate.main(["--missing"]) == 0
    after = only_run(stored)
    assert after.data.metrics["test_num_images"] == 359
    assert (after.info.status, after.info.start_time, after.info.end_time) == (
        before.info.status,
        before.info.start_time,
        before.info.end_time,
    )
    capsys.readouterr()
    assert evaluate.main(["--missing"]) == 0
    assert "no finished run lacks" in capsys.readouterr().out


def test_evaluating_what_is_not_there_is_bad_input(finished: tuple[Path, str], monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(finished[0])
    assert evaluate.main(["deadbeef"]) == 2
    assert "deadbeef" in capsys.readouterr().err
    assert evaluate.main([]) == 2


def weights_of(folder: Path) -> bytes:
    return (next((folder / "mlruns" / "journals").iterdir()) / "files" / "model" / "model-0000.params").read_bytes()


def wait_for_epoch(folder: Path, epoch: int, process: Forked) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for journal in (folder / "mlruns" / "journals").glob("*"):
            if len(journal.name) == 32 and any(
                event["event"] == "metric" and event["step"] >= epoch and names.TRAIN_LOSS in event["values"]
                for event, _ in read(journal)
            ):
                return
        time.sleep(0.05)
    raise AssertionError(f"no epoch {epoch}: {process.communicate(timeout=10)[0]}")


def test_an_interrupted_run_is_killed_and_resumes_to_the_same_weights(
    tmp_path: Path,
    uninterrupted: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_store(tmp_path)
    process = command("trainers.run", *TINY, "--epochs=4", cwd=tmp_path)
    wait_for_epoch(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "--resume" in output and "Traceback" not in output
    killed = only_run(tmp_path)
    assert killed.info.status == "KILLED"
    monkeypatch.chdir(tmp_path)
    assert run.main(["--resume", killed.info.run_id[:10]]) == 0
    ended = only_run(tmp_path)
    assert ended.info.status == "FINISHED" and ended.info.run_id == killed.info.run_id
    history = stores.resolve(tmp_path).client().get_metric_history(ended.info.run_id, "train_loss")
    assert [point.step for point in history] == [1, 2, 3, 4]
    assert len(stores.resolve(tmp_path).client().get_metric_history(ended.info.run_id, "num_parameters")) == 1
    assert weights_of(tmp_path) == uninterrupted
    said = re.search(r"^run     digits-20-scratch-4ep-s0, from epoch ([234]) of 4$", capsys.readouterr().out, re.M)
    assert said is not None
    # Both times are those of all attempts.
    epochs = stores.resolve(tmp_path).client().get_metric_history(ended.info.run_id, "epoch_time_s")
    assert ended.data.metrics["training_time_s"] == pytest.approx(sum(point.value for point in epochs))
    first_s = (killed.info.end_time - killed.info.start_time) / 1000
    later_s = sum(point.value for point in epochs if point.step >= int(said[1]))
    assert ended.data.metrics["total_time_s"] >= first_s + later_s - 0.01


def test_early_stopping_says_so_and_why(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = ["--early-stopping=true", "--early-stopping-min-epochs=2", "--early-stopping-patience=1"]
    assert run.main([*TINY, "--epochs=9", *stopping, "--early-stopping-tolerance=1"]) == 0
    ended = only_run(stored)
    why = ended.data.tags[names.STOPPED_EARLY]
    assert re.fullmatch(
        r"after epoch [2-8] of 9: validation accuracy has made no gain of 1 of the best or more in 1 epoch;"
        r" the best is 0\.\d{4}, of epoch \d",
        why,
    )
    assert f"\nstopped early {why}\n" in capsys.readouterr().out
    assert f"Stopped early {why}." in reports.run_card(ended.info.run_id).to_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("uninterrupted")
    trained(folder, "--epochs=4")
    return weights_of(folder)


class _Interrupting:
    """Ctrl-C arrives while this is let go of, as it may while an NDArray is: Python drops what is raised there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("module", "name", "number"), [(weights, "initialise", 1), (stages, "score", 2)])
def test_ctrl_c_is_not_lost_where_python_drops_it(  # type: ignore[no-untyped-def]
    stored: Path, monkeypatch, capsys, module: ModuleType, name: str, number: int
) -> None:
    whole, calls = getattr(module, name), []

    def interrupted(*arguments, **named):  # type: ignore[no-untyped-def]
        calls.append(name)
        if len(calls) == number:
            _Interrupting()
        return whole(*arguments, **named)

    monkeypatch.setattr(module, name, interrupted)
    assert run.main([*TINY, "--epochs=1"]) == 130
    assert "ended by SIGINT" in capsys.readouterr().out
    assert only_run(stored).info.status == "KILLED" and len(calls) == number


def test_a_finished_run_is_not_resumed(finished: tuple[Path, str], monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(finished[0])
    assert run.main(["--resume", only_run(finished[0]).info.run_id]) == 2
    assert "is finished" in capsys.readouterr().err
    assert run.main(["--resume", "0123456789"]) == 2


def test_a_diverging_run_fails_and_says_why(stored: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    argv = [*TINY, "--optimizer=adam", "--learning-rate=1", "--eps=0", "--beta-2=0"]
    assert run.main(argv) == 1
    captured = capsys.readouterr()
    assert "no longer a number" in captured.err + captured.out and "Traceback" not in captured.err
    failed = only_run(stored)
    assert failed.info.status == "FAILED" and failed.data.tags[names.ERROR_TYPE] == "TrainingDiverged"
    folder = Path(failed.info.artifact_uri.removeprefix("file://"))
    assert "TrainingDiverged" in (folder / "traceback.txt").read_text()
    assert (folder / "log.txt").exists() and (folder / "config.toml").exists()


def test_too_little_disk_is_found_before_training(stored: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    full = shutil.disk_usage(stored)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert run.main(TINY) == 1
    assert "MiB left" in capsys.readouterr().err
    assert only_run(stored).info.status == "FAILED"


def test_bad_data_leaves_no_run_behind(workdir: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (workdir / "pictures" / "cat").mkdir(parents=True)
    assert run.main(["--dataset", "pictures", "--num-layers=20"]) == 2
    assert "pictures" in capsys.readouterr().err
    assert not (workdir / "mlruns" / "mlflow.db").exists()


def test_a_store_that_cannot_be_written_is_said_before_training(workdir: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    Path("mlruns").write_text("a file where a folder should be")
    assert run.main(TINY) == 2
    assert "mlruns" in capsys.readouterr().err


def test_transfer_takes_the_sources_body_and_says_so(stored: Path) -> None:
    assert run.main([*TINY, "--pretext=rotation", "--epochs=1", "--run-name=source"]) == 0
    source = only_run(stored)
    assert source.data.tags[names.PRETEXT] == "rotation" and "test_accuracy" not in source.data.metrics
    outcome = experiment.run(
        Config(dataset="digits", init=f"run:{source.info.run_id}", epochs=1, mini_batch_size=128, learning_rate=0.01)
    )
    assert outcome.exit_code == 0
    transfer = stores.resolve().find_run(str(outcome.run_id))
    assert transfer.data.params["num_layers"] == "20" and transfer.data.params["image_shape"] == "1,8,8"
    assert transfer.data.tags[names.INIT_LABEL] == f"rotation pretext on digits (run {source.info.run_id[:8]})"
    with pytest.raises(BadConfig, match="has 20"):
        experiment.run(Config(dataset="digits", num_layers=32, init=f"run:{source.info.run_id}", image_shape="1,8,8"))
    with pytest.raises(BadInput, match="feedbeef"):
        experiment.run(Config(dataset="digits", init="run:feedbeef"))


def test_test_pictures_seen_in_training_are_an_error_unless_allowed(stored: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    import cv2

    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4), ("test", 4)):
        for label in ("cat", "dog"):
            folder = stored / "p" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 255, (16, 16, 3), np.uint8))
    shutil.copy(stored / "p/train/cat/0.png", stored / "p/test/cat/leak.png")
    argv = ["--dataset=p", "--num-layers=20", "--image-shape=3,16,16", "--mini-batch-size=8", "--epochs=1"]
    assert run.main(argv) == 2
    assert "leak.png" in capsys.readouterr().err
    assert run.main([*argv, "--allow-overlap"]) == 0
    assert only_run(stored).data.tags[names.TEST_OVERLAP] == "1"


def test_test_pictures_that_look_like_training_pictures_are_a_warning_and_an_error_if_strict(
    stored: Path,
    capsys,  # type: ignore[no-untyped-def]
) -> None:
    import cv2

    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4), ("test", 4)):
        for label in ("cat", "dog"):
            folder = stored / "p" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 255, (32, 32, 3), np.uint8))
    pixels = cv2.imread(str(stored / "p/train/cat/0.png"))
    cv2.imwrite(str(stored / "p/test/cat/leak.png"), pixels[:, ::-1])
    argv = ["--dataset=p", "--num-layers=20", "--image-shape=3,16,16", "--mini-batch-size=8", "--epochs=1"]
    assert run.main([*argv, "--strict"]) == 2
    assert "test/cat/leak.png looks like train/cat/0.png" in capsys.readouterr().err
    assert run.main(argv) == 0
    assert "leak.png" in capsys.readouterr().err
    tags = only_run(stored).data.tags
    assert (tags[names.TEST_OVERLAP], tags[names.TEST_NEAR_OVERLAP]) == ("0", "1")
    assert "1 test picture looks like a training picture" in reports.leaderboard_text()


def test_an_unreachable_server_loses_nothing(workdir: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert run.main([*TINY, "--epochs=1"]) == 0
    captured = capsys.readouterr()
    assert "python -m tracking sync" in captured.err + captured.out
    (journal,) = (workdir / "mlruns" / "journals").iterdir()
    assert any("test_accuracy" in event.get("values", {}) for event, _ in read(journal))
