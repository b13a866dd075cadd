"""One training that is tracked, from its first batch to its model. Failures in here are logged and never raised."""

from __future__ import annotations

import atexit
import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from tracking import names
from tracking import run as tracked
from tracking.errors import TrackingError
from tracking.gluon import network
from tracking.journal.checks import check_name
from tracking.journal.events import read
from tracking.models.serving import runtime

if TYPE_CHECKING:
    from tracking.run import Run

P = ParamSpec("P")

# An optimizer's attribute in MXNet, and its name in the vocabulary.
_OPTIMIZER = {
    "wd": "weight_decay",
    "momentum": "momentum",
    "beta1": "beta_1",
    "beta2": "beta_2",
    "epsilon": "eps",
    "gamma1": "gamma",
}
_log = logging.getLogger("tracking")


class Abandoned(TrackingError):
    """A training was abandoned before its end, for an unknown reason."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of ``autolog``, for one training."""

    log_models: bool = True
    exclusive: bool = False
    silent: bool = False
    class_names: Sequence[str] | None = None
    normalisation: tuple[Any, Any] | None = None


def _warn(options: Options, text: str) -> None:
    if not options.silent:
        _log.warning("tracking: %s", text)


def safely(method: Callable[P, None]) -> Callable[P, None]:
    """Say what goes wrong in a method instead of raising it."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # the training goes on, whatever it is
            _warn(args[0].options, f"{network.reason(error)}; the training continues")  # type: ignore[attr-defined]

    return call


class Training:
    """One training that is tracked; ``with`` begins and ends it. Made by ``track``.

    Logs to the run whose ``with`` block it is in (of ``tracking.run``, else of MLflow), and makes one where there is
    none. ``run`` is that run, None where it could not be begun.
    """

    def __init__(
        self,
        net: Any,
        trainer: Any,
        loss: Any,
        options: Options,
        *,
        epochs: int | None = None,
        batches: int | None = None,
        batch_size: int | None = None,
        batch_axis: int = 0,
    ) -> None:
        self.options = options
        self.run: Run | None = None
        self._net, self._trainer, self._loss = net, trainer, loss
        self._planned = {"epochs": epochs, names.BATCHES: batches, "mini_batch_size": batch_size}
        self._batch_axis = batch_axis
        self._owned = self._again = self._ended = self._described = False
        self._epoch = 0
        self._hook: Any = None
        self._sample: network.Sample | None = None

    def __enter__(self) -> Training:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    @safely
    def begin(self) -> None:
        """Open the run and write down what is known before the first batch."""
        self._since = time.monotonic()
        self._open()
        assert self.run is not None
        self._again = self._epoch > 0
        if self._owned:
            atexit.register(self._left_open)
        loss = self._loss if isinstance(self._loss, str) else _class(self._loss)
        self._params({names.NETWORK: type(self._net).__name__, names.LOSS: loss, **self._planned})
        self._hook = self._net.register_forward_pre_hook(self._look)
        if self._trainer is not None:
            self._params(_settings(self._trainer.optimizer))

    @safely
    def epoch(self, **metrics: Any) -> None:
        """Write the metrics of the epoch that ends now: numbers, MXNet's scalars or its metrics (``EvalMetric``)."""
        if self.run is None or self._ended:
            return
        self._epoch += 1
        now = time.monotonic()
        numbers = {names.EPOCH_TIME_S: now - self._since}
        self._since = now
        for name, value in metrics.items():
            try:
                numbers[check_name(name)] = _number(value)
            except Exception as error:  # one that is no number keeps no other out
                _warn(self.options, f"epoch {self._epoch}, {name!r}: {network.reason(error)}; it is left out")
        self._describe_batch()
        with suppress(Exception):  # a trainer that has none, or is of another kind, was reported at the beginning
            numbers.setdefault(names.EPOCH_LEARNING_RATE, float(self._trainer.learning_rate))
        self.run.log_metrics(numbers, step=self._epoch)

    def end(self, error: BaseException | None = None) -> None:
        """Log the model where the training came to its end, and end a run that was made here. Once."""
        if self._ended:
            return
        self._ended = True
        atexit.unregister(self._left_open)
        try:
            self._describe_batch()
            if error is None and self.options.log_models:
                self._log_model()
        except BaseException as stop:  # Ctrl-C while the model is written
            error = stop
            raise
        finally:
            self._finish(error)

    def _left_open(self) -> None:
        """At interpreter exit: how the training ended is unknown; take it from the exception that ended the program."""
        error = getattr(sys, "last_value", None)
        self.end(error or Abandoned("the program ended before the training did"))

    @safely
    def _finish(self, error: BaseException | None) -> None:
        if self._hook is not None:
            self._hook.detach()
        if self.run is not None and self._owned:
            self.run.__exit__(None if error is None else type(error), error, None)

    def _open(self) -> None:
        """Find the run to log to or make it; one that has seen a training goes on counting its epochs."""
        run = None if self.options.exclusive else tracked.active()
        if run is not None:
            self.run = run
            self._epoch = max(_steps(run), default=0)
            return
        theirs = None if self.options.exclusive else _mlflow_run()
        if theirs is not None:
            run_id, store = theirs
            self.run, self._owned = tracked.attach(run_id, live=store), True
            history = store.client().get_metric_history(run_id, names.EPOCH_TIME_S)
            self._epoch = max((point.step for point in history), default=0)
        else:
            self.run, self._owned = tracked.start(run_name=type(self._net).__name__), True

    def _params(self, values: Mapping[str, Any]) -> None:
        """Write parameters; those that the run has with another value already keep no other out."""
        assert self.run is not None
        try:
            self.run.log_params(values)
        except TrackingError as error:
            if len(values) == 1:
                return _warn(self.options, str(error))
            for name, value in values.items():
                self._params({name: value})

    def _look(self, block: Any, inputs: tuple[Any, ...]) -> None:
        """Before each forward pass: keep a few of the first batch that the network is trained on."""
        try:
            if self._sample is None and runtime.mxnet().autograd.is_recording():
                self._sample = network.sample(block, inputs, self._batch_axis)
        except Exception as error:  # the network was given what has no shape: there is nothing to describe
            self._sample = network.UNSEEN
            _warn(self.options, f"the batches cannot be described: {network.reason(error)}")

    @safely
    def _describe_batch(self) -> None:
        """After the first batch: what it looked like, and the weights' number, which some networks learn from it."""
        if self.run is None or self._sample is None or self._described:
            return
        self._described = True
        if self._hook is not None:
            self._hook.detach()
        weights = [one for one in self._net.collect_params().values() if one.grad_req != "null"]
        found: dict[str, Any] = {"precision_dtype": np.dtype(weights[0].dtype).name} if weights else {}
        if self._planned["mini_batch_size"] is None:
            found["mini_batch_size"] = self._sample.batch_size or None
        if self._sample.image_shape is not None:
            found["image_shape"] = ",".join(map(str, self._sample.image_shape))
        self._params(found)
        if all(one.shape and min(one.shape) > 0 for one in weights):
            self.run.log_metrics({names.NUM_PARAMETERS: sum(int(np.prod(one.shape)) for one in weights)}, step=0)

    @safely
    def _log_model(self) -> None:
        if self.run is None:
            return
        saved = network.save(
            self._net,
            self.run.dir / "files",
            self._sample or network.UNSEEN,
            loss=self._loss,
            class_names=self.options.class_names,
            normalisation=self.options.normalisation,
            epoch=self._epoch,
            again=self._again,
        )
        if saved.problem:
            _warn(self.options, saved.problem)
        self._params(saved.params)
        self.run.set_tags(saved.tags)
        self.run.log_metrics(saved.metrics, step=self._epoch)
        self.run.log_artifact(saved.folder)


def track(
    net: Any, trainer: Any, loss: Any, *, epochs: int | None = None, batch_size: int | None = None, **options: Any
) -> Training:
    """A training with a loop of its own: ``with track(...) as training``, and ``training.epoch(...)`` after each epoch.

    trainer: a ``gluon.Trainer``, or None. loss: the loss function or its name; by it a classifier is known. batch_size:
    where it is not that of the first batch the network is trained on. The rest is as in ``autolog``.
    """
    return Training(net, trainer, loss, Options(**options), epochs=epochs, batch_size=batch_size)


def _steps(run: Run) -> Iterator[int]:
    """The epochs that a run has logged."""
    for event, _ in read(run.dir):
        if event["event"] == "metric" and names.EPOCH_TIME_S in event["values"]:
            yield event["step"]


def _settings(optimizer: Any) -> dict[str, Any]:
    """An optimizer's parameters, by their names in the vocabulary."""
    scheduler = optimizer.lr_scheduler
    found = {key: getattr(optimizer, name) for name, key in _OPTIMIZER.items() if hasattr(optimizer, name)}
    return {
        "optimizer": type(optimizer).__name__.lower(),
        "learning_rate": optimizer.lr if scheduler is None else scheduler.base_lr,
        names.LR_SCHEDULER: None if scheduler is None else type(scheduler).__name__,
        **found,
    }


def _number(value: Any) -> float:
    if hasattr(value, "get_name_value"):
        if is_unused(value):
            raise TrackingError("the metric has seen nothing")
        pairs = value.get_name_value()
        if len(pairs) != 1:
            raise TrackingError(f"the metric has {len(pairs)} values; give each by its name")
        value = pairs[0][1]
    return float(value.asnumpy().item() if hasattr(value, "asnumpy") else value)


def is_unused(metric: Any) -> bool:
    return getattr(metric, "num_inst", None) == 0


def _class(loss: Any) -> str:
    return str(getattr(loss, "__name__", type(loss).__name__))


def _mlflow_run() -> tuple[str, Any] | None:
    """The id and the store of the run that the caller opened with MLflow itself; None where there is none."""
    mlflow = sys.modules.get("mlflow")
    ask = getattr(mlflow, "active_run", None)  # none yet where another thread is importing MLflow just now
    run = ask() if ask else None
    if mlflow is None or run is None:
        return None
    from tracking.store import Store, resolve

    here, uri = resolve(), mlflow.get_tracking_uri()
    return run.info.run_id, here if here.tracking_uri == uri else Store(uri, None, here.journals)
