"""Tracking for other people's Gluon code: trainings in the shapes of public scripts, each small."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

import reports
from tests.support import ROOT
from tests.support.forked import Forked
from tracking import run as tracked
from tracking.gluon import TrackingHandler, autolog, network, track
from tracking.journal.events import journals, read
from tracking.models.serving import runtime
from tracking.run import Run
from tracking.store import Store

# The trainings here are as people write them, and MXNet meets newer libraries in them.
pytestmark = [pytest.mark.slow, pytest.mark.mxnet, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
mx = runtime.mxnet()
gluon, nn = mx.gluon, mx.gluon.nn
estimators = gluon.contrib.estimator
NAMES = ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    yield
    autolog(disable=True)


@pytest.fixture(name="run")
def run_fixture(workdir: Path) -> Iterator[Run]:
    """An open run that MLflow hears nothing of."""
    with tracked.start(live=False, system_metrics=False) as run:
        yield run


@functools.cache
def pixels(count: int = 24, channels: int = 3) -> Any:
    """(N, C, 8, 8) float32, whole numbers 0..255, and a class for each."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, channels, 8, 8)).astype(np.float32), np.arange(count) % 3


def loader(data: Any = None, labels: Any = None, batch_size: int = 8) -> Any:
    if data is None:
        data, labels = pixels()
        data = data / 255
    arrays = gluon.data.ArrayDataset(mx.nd.array(data), mx.nd.array(labels))
    return gluon.data.DataLoader(arrays, batch_size=batch_size)


def classifier(*, block: Any = None, ctx: Any = None) -> Any:
    mx.random.seed(1)
    net = (block or nn.HybridSequential)()
    net.add(nn.Conv2D(4, 3, activation="relu"), nn.BatchNorm(), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(3))
    net.initialize(mx.init.Xavier(), ctx=ctx)
    return net


def estimator(net: Any, loss: Any = None, *, kind: Any = None, optimizer: str = "sgd", **rest: Any) -> Any:
    trainer = gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.01})
    loss = gluon.loss.SoftmaxCrossEntropyLoss() if loss is None else loss
    return (kind or estimators.Estimator)(net, loss, trainer=trainer, context=rest.pop("context", mx.cpu()), **rest)


def logged(run: Run | Path) -> tuple[dict[str, str], dict[int, dict[str, float]], dict[str, str]]:
    """The parameters, the metrics by step and the tags of a journal."""
    params: dict[str, str] = {}
    metrics: dict[int, dict[str, float]] = {}
    tags: dict[str, str] = {}
    for event, _ in read(run if isinstance(run, Path) else run.dir):
        if event["event"] == "param":
            params |= event["values"]
        elif event["event"] == "metric":
            metrics.setdefault(event["step"], {}).update(event["values"])
        elif event["event"] == "tag":
            tags |= event["values"]
    return params, metrics, tags


def only_journal(store: Store) -> Path:
    (found,) = journals(store.journals)
    return found


def test_an_estimators_fit_becomes_a_run_in_mlflow(store: Store) -> None:
    autolog(class_names=NAMES)
    net = classifier()
    given = [estimators.LoggingHandler(log_interval=10**6)]
    fitted = estimator(net, optimizer="adam", train_metrics=[mx.metric.Accuracy(), mx.metric.Loss()])
    given[0].metrics = fitted.train_metrics
    fitted.fit(loader(), loader(batch_size=24), epochs=2, event_handlers=given)
    assert len(given) == 1
    (run,) = store.runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "HybridSequential")
    assert run.data.params == {
        "network": "HybridSequential",
        "loss": "SoftmaxCrossEntropyLoss",
        "optimizer": "adam",
        "learning_rate": "0.01",
        "weight_decay": "0.0",
        "beta_1": "0.9",
        "beta_2": "0.999",
        "eps": "1e-08",
        "epochs": "2",
        "mini_batch_size": "8",
        "image_shape": "3,8,8",
        "num_classes": "3",
        "precision_dtype": "float32",
    }
    assert run.data.metrics["num_parameters"] == 3 * 9 * 4 + 4 + 8 + 4 * 3 + 3
    history = store.client().get_metric_history(run.info.run_id, "train_loss")
    assert [point.step for point in history] == [1, 2]
    for key, metric in (("validation_accuracy", 0), ("validation_loss", 1)):
        assert run.data.metrics[key] == pytest.approx(fitted.val_metrics[metric].get()[1])
    (output,) = run.outputs.model_outputs
    assert output.step == 2
    folder = store.client().get_logged_model(output.model_id).artifact_location.removeprefix("file://")
    raw, _ = pixels()
    served = mlflow.pyfunc.load_model(folder, suppress_warnings=True).predict(
        raw.astype(np.uint8).transpose(0, 2, 3, 1)
    )
    expected = mx.nd.softmax(net(mx.nd.array(raw / 255))).asnumpy()
    answered = np.array([[row[name] for name in NAMES] for row in served["probabilities"]])
    np.testing.assert_allclose(answered, expected, atol=1e-5)
    assert (Path(folder) / "model.onnx").is_file()


class Doubled(estimators.BatchProcessor):
    """A way of its own to take a batch apart: the picture comes twice."""

    def fit_batch(self, estimator: Any, train_batch: Any, batch_axis: int = 0) -> Any:
        data, label = train_batch
        with mx.autograd.record():
            pred = estimator.net(mx.nd.concat(data, data, dim=0))
            loss = estimator.loss(pred, mx.nd.concat(label, label, dim=0))
        loss.backward()
        return [data], [mx.nd.concat(label, label, dim=0)], [pred], [loss]


def share_above(label: Any, pred: Any) -> float:
    """A user's own metric."""
    return float((pred > 0).mean())


class Other(estimators.Estimator):
    """A user's own Estimator, as in gluonnlp."""

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        return super().fit(*args, **kwargs)


def regression() -> Any:
    net = nn.HybridSequential()
    net.add(nn.Dense(8, activation="relu"), nn.Dense(1))
    net.initialize()
    return net


LINE = np.linspace(0, 1, 24, dtype=np.float32)[:, None]
# What public scripts do, small: the network and what becomes of it; what more is asked of Estimator and of fit.
SHAPES: dict[str, Any] = {
    # The tutorial of MXNet's fit API: one metric, nothing validated.
    "accuracy alone": (classifier, "model", {"train_metrics": mx.metric.Accuracy()}, {"epochs": 2}, {}),
    # One for SageMaker: a line is learned.
    "regression": (
        regression,
        "network",
        {"loss": gluon.loss.L2Loss(), "train_metrics": [mx.metric.RMSE(), mx.metric.Loss()]},
        {"epochs": 2, "val": True, "data": (LINE, LINE)},
        {"train_rmse", "train_loss", "validation_rmse", "validation_loss"},
    ),
    # MXNet's own tests: no HybridSequential, and batches are counted.
    "batches, not hybrid": (
        lambda: classifier(block=nn.Sequential),
        "network",
        {},
        {"batches": 4},
        {"train_accuracy", "train_loss"},
    ),
    "two devices": (
        lambda: classifier(ctx=[mx.cpu(0), mx.cpu(1)]),
        "model",
        {"context": [mx.cpu(0), mx.cpu(1)]},
        {"epochs": 1, "val": True},
        {"validation_accuracy"},
    ),
    "a batch processor": (classifier, "model", {"batch_processor": Doubled()}, {"epochs": 1}, {"train_loss"}),
    "another Estimator": (
        classifier,
        "model",
        {"kind": Other, "train_metrics": [mx.metric.TopKAccuracy(2), mx.metric.np(share_above, "share, %")]},
        {"epochs": 1},
        {"train_top2_accuracy", "train_share_"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_of_public_scripts(shape: str, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    build, kept, of_estimator, of_fit, keys = SHAPES[shape]
    autolog()
    of_fit = dict(of_fit)
    data = loader(*of_fit.pop("data", ()))
    validation = data if of_fit.pop("val", False) else None
    fitted = estimator(build(), **of_estimator)
    fitted.fit(data, validation, **of_fit)
    params, metrics, tags = logged(run)
    last = max(metrics)
    assert params["mini_batch_size"] == ("16" if shape == "a batch processor" else "8")
    assert {"epochs", "batches"} & params.keys() == {"epochs", "batches"} & of_fit.keys()
    assert set(keys) <= metrics[1].keys() and "epoch_time_s" in metrics[1]
    assert not any("validation" in key for key in metrics[last]) or validation is not None
    assert run.status == "RUNNING"
    assert (run.dir / "files" / kept).is_dir()
    if kept == "model":
        assert (run.dir / "files" / "model" / "model.onnx").is_file() and not caplog.records
        assert metrics[last]["onnx_max_difference"] < 1e-5
    else:
        (record,) = caplog.records
        assert "no model that takes pictures was made" in record.getMessage()
        assert tags["onnx_problem"] in record.getMessage()
        again = build()
        again.load_parameters(str(run.dir / "files" / "network" / "network.params"))


def test_what_was_not_validated_in_an_epoch_is_not_logged_for_it(run: Run) -> None:
    autolog(log_models=False)
    fitted = estimator(classifier())
    every_second = estimators.ValidationHandler(loader(), fitted.evaluate, epoch_period=2)
    fitted.fit(loader(), epochs=5, event_handlers=every_second)
    _, metrics, _ = logged(run)
    assert [step for step in metrics if "validation_loss" in metrics[step]] == [2, 4]
    assert not (run.dir / "files" / "model").exists()


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ZeroDivisionError("in a batch"), "FAILED", "ZeroDivisionError: in a batch"),
        (KeyboardInterrupt(), "KILLED", "interrupted from the keyboard"),
    ],
    ids=["failed", "killed"],
)
@pytest.mark.parametrize("way", ["autolog", "track"])
def test_how_a_training_ended_is_its_status(
    way: str, error: BaseException, status: str, reason: str, store: Store
) -> None:
    class Breaking(estimators.BatchEnd):  # type: ignore[misc, name-defined]
        def batch_end(self, *args: Any, **kwargs: Any) -> None:
            raise error

    net = classifier()
    if way == "autolog":
        autolog()
        with pytest.raises(type(error)):
            estimator(net).fit(loader(), epochs=1, event_handlers=[Breaking()])
    else:
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        with pytest.raises(type(error)), track(net, trainer, "SoftmaxCrossEntropyLoss"):
            raise error
    journal = only_journal(store)
    (end,) = (event for event, _ in read(journal) if event["event"] == "status")
    assert (end["status"], end["reason"]) == (status, reason)
    assert (journal / "files" / "traceback.txt").exists() == (status == "FAILED")
    assert not (journal / "files" / "model").exists()


def test_weights_that_no_batch_has_shaped_are_not_counted(run: Run) -> None:
    autolog()
    with pytest.raises(ValueError, match="Deferred initialization failed"):
        estimator(classifier()).fit(loader(LINE, LINE), epochs=1)
    params, metrics, _ = logged(run)
    assert params["precision_dtype"] == "float32" and "image_shape" not in params
    assert not any("num_parameters" in values for values in metrics.values())


def test_mxnets_own_failures_are_told_by_what_they_say(run: Run) -> None:
    from tracking.journal.events import verdict

    with pytest.raises(mx.base.MXNetError) as caught:
        mx.nd.dot(mx.nd.ones((2, 3)), mx.nd.ones((2, 3))).wait_to_read()
    assert verdict(caught.value)[1].startswith("MXNetError: ") and "Traceback" not in verdict(caught.value)[1]


def test_a_call_that_fit_refuses_makes_no_run(store: Store) -> None:
    autolog()
    with pytest.raises(ValueError, match="one and only one of: epochs or batches"):
        estimator(classifier()).fit(loader())
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        estimator(classifier()).fit()
    with pytest.raises(ValueError, match="must be an EventHandler"):
        estimator(classifier()).fit(loader(), epochs=1, event_handlers=[print])
    assert journals(store.journals) == []


_ALONE = """
from tracking.gluon import TrackingHandler
from tests.tracking.gluon.test_autolog import classifier, estimator, estimators, loader

class Breaking(estimators.EpochEnd):
    priority = 2000
    def epoch_end(self, *args, **kwargs):
        raise ZeroDivisionError("after an epoch")

estimator(classifier()).fit(loader(), epochs=2, event_handlers=[TrackingHandler(), Breaking()])
"""


def test_a_handler_alone_finds_what_ended_the_program(store: Store) -> None:
    command = [sys.executable, "-c", _ALONE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    journal = only_journal(store)
    (end,) = (event for event, _ in read(journal) if event["event"] == "status")
    assert (end["status"], end["reason"]) == ("FAILED", "ZeroDivisionError: after an epoch")
    assert "train_loss" in logged(journal)[1][1]
    (shown,) = store.runs()
    assert shown.info.status == "FAILED"


def test_a_handler_tracks_each_training_once(store: Store) -> None:
    autolog()
    handler = TrackingHandler(silent=True, log_models=False)
    fitted = estimator(classifier())
    for _ in range(2):
        fitted.fit(loader(), epochs=1, event_handlers=[handler])
    assert [tracked.ended(one) for one in journals(store.journals)] == ["FINISHED", "FINISHED"]


def test_a_second_training_in_a_run_goes_on_counting(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    autolog()
    net = classifier()
    for epochs in (2, 1):
        estimator(net).fit(loader(), epochs=epochs)
    params, metrics, _ = logged(run)
    assert [step for step in metrics if "train_loss" in metrics[step]] == [1, 2, 3]
    assert params["epochs"] == "2" and run.status == "RUNNING"
    (record,) = caplog.records
    assert "epochs: '2', now '1'" in record.getMessage()
    run.finish()
    with tracked.resume(run.dir, live=False, system_metrics=False) as resumed:
        estimator(net).fit(loader(), epochs=2)
    assert "train_loss" in logged(resumed)[1][4]
    steps = [json.loads((run.dir / "files" / one / "model.json").read_text())["epoch"] for one in ("model", "model-3")]
    assert steps == [2, 3]


def test_a_run_opened_with_mlflow_itself_is_logged_to(store: Store) -> None:
    autolog()
    mlflow.set_tracking_uri(store.tracking_uri)
    try:
        mlflow.set_experiment("theirs")
        with mlflow.start_run() as theirs:
            for _ in range(2):
                estimator(classifier()).fit(loader(), epochs=1)
            mlflow.log_metric("mine", 1)
    finally:
        mlflow.set_tracking_uri(None)
    run = store.find_run(theirs.info.run_id)
    assert run.info.status == "FINISHED"
    assert sorted(output.step for output in run.outputs.model_outputs) == [1, 2]
    assert [point.step for point in store.client().get_metric_history(run.info.run_id, "train_loss")] == [1, 2]
    assert {"mine", "train_loss"} <= run.data.metrics.keys() and run.data.params["optimizer"] == "sgd"


def test_exclusive_and_disable(store: Store, run: Run) -> None:
    autolog(exclusive=True, log_models=False)
    estimator(classifier()).fit(loader(), epochs=1)
    (own,) = (one for one in journals(run.dir.parent) if one != run.dir)
    assert tracked.ended(own) == "FINISHED" and "network" in logged(own)[0]
    autolog(disable=True)
    estimator(classifier()).fit(loader(), epochs=1)
    assert len(journals(run.dir.parent)) == 2 and logged(run)[0] == {}


def test_tracking_that_fails_stops_no_training(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    (workdir / "mlruns").write_text("no folder")
    autolog()
    fitted = estimator(classifier())
    fitted.fit(loader(), epochs=2)
    assert fitted.train_metrics[0].get()[1] >= 0 and "the training continues" in caplog.text
    (workdir / "mlruns").unlink()
    caplog.clear()

    class Closing(estimators.EpochEnd):  # type: ignore[misc, name-defined]
        epochs = 0

        def epoch_end(self, *args: Any, **kwargs: Any) -> None:
            self.epochs += 1
            run.finish()

    closing = Closing()
    with tracked.start(live=False, system_metrics=False) as run:
        estimator(classifier()).fit(loader(), epochs=2, event_handlers=[closing])
    assert closing.epochs == 2 and "has ended (FINISHED)" in caplog.text
    caplog.clear()
    autolog(silent=True)
    with tracked.start(live=False, system_metrics=False) as run:
        estimator(classifier()).fit(loader(), epochs=1, event_handlers=[closing])
        run.status = "FINISHED"
    assert not caplog.records


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RAW, LABELS = pixels()
PLAIN, SPREAD = np.reshape(MEAN, (3, 1, 1)), np.reshape(STD, (3, 1, 1))
INPUTS = {
    "raw": (RAW, None),
    "0 to 1": (RAW / 255, None),
    "mean and std": ((RAW / 255 - PLAIN) / SPREAD, (MEAN, STD)),
    "numbers": ((RAW / 255 - 0.5) / 0.25, (0.5, 0.25)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_saved_model_takes_pixels_whatever_the_network_was_given(kind: str, run: Run) -> None:
    values, normalisation = INPUTS[kind]
    autolog(normalisation=normalisation)
    net = classifier()
    estimator(net).fit(loader(values, LABELS), epochs=1)
    from tracking.models import gluon as flavor

    saved = flavor.load_model(run.dir / "files" / "model", runtime="onnx")
    expected = net(mx.nd.array(values)).asnumpy()
    np.testing.assert_allclose(saved(RAW), expected, rtol=1e-4, atol=1e-5)
    example = json.loads((run.dir / "files" / "model" / "model.json").read_text())["onnx"]
    assert example["num_images"] == 8


@pytest.mark.parametrize(
    ("values", "normalisation", "words"),
    [
        (INPUTS["numbers"][0], None, "values from -2 to 2; say how pixels became that"),
        (RAW / 99.5, None, "values from 0 to 2.56; say how"),
        (RAW, (0.5, 0.25), "does not fit: the first batch would be pixels from 128"),
        (INPUTS["mean and std"][0], (MEAN, (1, 2)), "ValueError"),
    ],
    ids=["unknown", "scaled", "wrong", "wrong length"],
)
def test_a_normalisation_that_cannot_be_right_makes_no_model(
    values: Any, normalisation: Any, words: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    autolog(normalisation=normalisation)
    estimator(classifier()).fit(loader(values, LABELS), epochs=1)
    assert words in caplog.text and (run.dir / "files" / "network" / "network.params").is_file()
    assert not (run.dir / "files" / "model").exists()


def test_an_operator_without_a_translation_costs_the_onnx_copy_alone(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    net = classifier()
    net._children.clear()
    net.add(nn.Conv2D(4, 3), nn.HybridLambda("arctan"), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(3))
    net.initialize()
    autolog()
    estimator(net).fit(loader(), epochs=1)
    assert "the model has no ONNX copy: MXNet's operator arctan" in caplog.text
    assert "arctan" in logged(run)[2]["onnx_problem"]
    from tracking.models import gluon as flavor

    data = pixels()[0]
    saved = flavor.load_model(run.dir / "files" / "model")
    np.testing.assert_allclose(saved(mx.nd.array(data)).asnumpy(), net(mx.nd.array(data / 255)).asnumpy(), atol=1e-5)


def test_names_for_other_classes_make_no_model(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    net = nn.HybridSequential()
    net.add(nn.Conv2D(3, 8), nn.Flatten())  # a head that is no Dense, as MobileNetV2 has
    net.initialize()
    autolog(class_names=["cat", "dog"])
    estimator(net).fit(loader(), epochs=1)
    assert "there are 2 class names for 3 classes" in caplog.text and (run.dir / "files" / "network").is_dir()


def test_half_precision_is_kept_in_float32(tmp_path: Path) -> None:
    net = classifier()
    data, _ = pixels()
    expected = net(mx.nd.array(data)).asnumpy()
    net.cast("float16")
    seen = network.Sample(data.shape, 8, data[:4])
    saved = network.save(
        net, tmp_path, seen, loss="SoftmaxCELoss", class_names=None, normalisation=None, epoch=1, again=False
    )
    from tracking.models import gluon as flavor

    assert saved.problem == ""
    np.testing.assert_allclose(flavor.load_model(saved.folder, runtime="onnx")(data), expected, rtol=0.01, atol=0.5)


def test_a_loop_of_its_own(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    net = classifier()
    scheduler = mx.lr_scheduler.FactorScheduler(step=3, factor=0.5, base_lr=0.2)
    trainer = gluon.Trainer(net.collect_params(), "nag", {"lr_scheduler": scheduler, "momentum": 0.9})
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    with track(net, trainer, loss_function, epochs=2) as training:
        assert training.run is run
        net(mx.nd.zeros((1, 3, 8, 8)))  # what many do before a training: no batch of it
        for _ in range(2):
            accuracy, unused = mx.metric.Accuracy(), mx.metric.Loss()
            for x, y in loader():
                with mx.autograd.record():
                    answers = net(x)
                    loss = loss_function(answers, y)
                loss.backward()
                trainer.step(len(x))
                accuracy.update(y, answers)
            training.epoch(
                train_accuracy=accuracy,
                train_loss=loss.mean(),
                validation_accuracy=mx.np.array(0.25),
                validation_loss=unused,
                note="good",
                **{"a\n": 1},
            )
    params, metrics, _ = logged(run)
    assert params["learning_rate"] == "0.2" and params["lr_scheduler"] == "FactorScheduler"
    assert (params["optimizer"], params["momentum"], params["mini_batch_size"]) == ("nag", "0.9", "8")
    assert metrics[2]["train_accuracy"] == accuracy.get()[1]
    assert metrics[2]["train_loss"] == pytest.approx(float(loss.mean().asscalar()))
    assert metrics[2]["epoch_learning_rate"] < 0.2 and metrics[2]["validation_accuracy"] == 0.25
    said = caplog.text
    assert "'validation_loss': the metric has seen nothing" in said and "'note': ValueError" in said
    assert "'a\\n' cannot be a name" in said and "validation_loss" not in metrics[1]
    assert not net._forward_pre_hooks and (run.dir / "files" / "model").is_dir()


def test_a_network_for_numpy_arrays_is_kept_as_it_is(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    mx.npx.set_np()
    try:
        net = nn.Dense(3)
        net.initialize()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
        with track(net, trainer, loss_function) as training:
            with mx.autograd.record():
                loss = loss_function(net(mx.np.ones((4, 1, 8, 8))), mx.np.zeros(4))
            loss.backward()
            trainer.step(4)
            training.epoch(train_loss=loss.mean())
    finally:
        mx.npx.reset_np()
    assert "written for npx.set_np()" in caplog.text and "train_loss" in logged(run)[1][1]
    assert (run.dir / "files" / "network" / "network.params").is_file()


class Wrapped:
    """A trainer around a trainer, as gluonnlp has one for half precision."""

    def __init__(self, trainer: Any) -> None:
        self.fp32_trainer = trainer


@pytest.mark.parametrize("wrap", [Wrapped, lambda trainer: None], ids=["another", "none"])
def test_a_trainer_of_another_kind_costs_its_own_parameters_alone(
    wrap: Any, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    net = classifier()
    trainer = wrap(gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}))
    with track(net, trainer, "SoftmaxCrossEntropyLoss", epochs=1) as training:
        with mx.autograd.record():
            net(mx.nd.array(RAW))
        training.epoch(train_accuracy=0.5)
    params, metrics, _ = logged(run)
    assert params.keys() >= {"network", "loss", "epochs", "image_shape"} and "optimizer" not in params
    assert metrics[1]["train_accuracy"] == 0.5 and (run.dir / "files" / "model").is_dir()
    assert [record.getMessage() for record in caplog.records] == (
        ["tracking: AttributeError: 'Wrapped' object has no attribute 'optimizer'; the training continues"]
        if trainer
        else []
    )


def test_a_training_inside_none_of_its_own_runs(run: Run) -> None:
    assert tracked.active() is run
    with tracked.start(live=False, system_metrics=False) as inner:
        assert tracked.active() is inner
        inner.finish()
        assert tracked.active() is run
    with tracked.start(live=False, system_metrics=False) as inner:
        assert tracked.active() is inner
    assert tracked.active() is run


def test_a_network_that_was_never_asked_is_kept_as_it_is(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    net = classifier()
    net(mx.nd.zeros((1, 3, 8, 8)))
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with track(net, trainer, "SoftmaxCrossEntropyLoss", batch_size=16) as training:
        training.epoch(train_accuracy=0.5)
    assert "no batch that it was trained on was seen" in caplog.text
    assert (run.dir / "files" / "network" / "network.params").is_file()
    assert logged(run)[0]["mini_batch_size"] == "16"


def test_the_code_of_the_page_runs_in_order(store: Store, workdir: Path) -> None:
    text = (ROOT / "docs" / "gluon.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    apart = "import sys\nsys.stderr = open('errors.txt', 'w', buffering=1)\n"
    page = Forked("-W", "ignore", "-c", apart + "\n".join(blocks))
    said, _ = page.communicate()
    assert page.returncode == 0 and "class_name" in said, said
    assert (workdir / "errors.txt").read_text() == ""
    loop, mobile, own = store.runs()
    assert [run.info.status for run in (loop, mobile, own)] == ["FINISHED"] * 3
    assert (loop.info.run_name, loop.data.tags["author"]) == ("own loop", "ada") and loop.info.run_id in said
    assert loop.data.metrics["test_num_images"] == 1605 and loop.data.metrics["onnx_max_difference"] < 1e-4
    assert loop.outputs.model_outputs[0].step == 3
    kept = {found.path for found in store.client().list_artifacts(loop.info.run_id)}
    assert kept >= {"figures", "network.txt"} and "another tool" not in reports.leaderboard_text(store)
    assert mobile.data.params["network"] == "MobileNetV2" and mobile.data.params["image_shape"] == "3,32,32"
    for run, epochs in ((mobile, 2), (own, 3)):
        assert run.data.metrics["onnx_max_difference"] < 1e-4 and "onnx_problem" not in run.data.tags
        for metric in ("train_accuracy", "train_loss", "validation_accuracy", "epoch_learning_rate"):
            steps = [point.step for point in store.client().get_metric_history(run.info.run_id, metric)]
            assert steps == list(range(1, epochs + 1))
    assert (own.data.params["epochs"], mobile.data.params["epochs"]) == ("3", "2")
    documented = set(re.findall(r"`([a-z_0-9]+)`", text))
    logged_keys = {*own.data.params, *own.data.metrics, *mobile.data.params, *mobile.data.metrics}
    assert {key for key in logged_keys if not key.startswith("system/")} <= documented
