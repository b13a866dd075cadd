"""Tracking for an ``Estimator`` of Gluon's: ``autolog`` for every ``fit``, ``TrackingHandler`` for one.

What fails in here is logged by the logger ``tracking`` and never raised: tracking does not stop a training. MXNet is
imported when one of the two is called.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Sequence
from typing import Any

from tracking import names
from tracking.gluon.training import Abandoned, Options, Training, is_unused, safely
from tracking.models.serving import runtime

# After the handlers that validate and stop (-2000 to 0), before the one that prints (infinity).
_PRIORITY = 1000


def TrackingHandler(**options: Any) -> Any:
    """An event handler for ``Estimator.fit``; options as in ``autolog``.

    An Estimator passes no exception to its handlers: the status of a run that an exception ended is set when the
    program ends.
    """
    return _handler_class()(Options(**options))


def autolog(
    *,
    log_models: bool = True,
    disable: bool = False,
    exclusive: bool = False,
    silent: bool = False,
    class_names: Sequence[str] | None = None,
    normalisation: tuple[Any, Any] | None = None,
) -> None:
    """Track every ``Estimator.fit`` from now on; ``disable`` stops that.

    log_models: also keep the network, with an ONNX copy where it classifies pictures. exclusive: make a run of its own
    for each training, whatever run is open. silent: warn of nothing. class_names: in the order of the outputs.
    normalisation: (mean, std) of pixels 0..1, a number or one for each channel, as given to ``transforms.Normalize``;
    pixels 0..255 and 0..1 are recognised without.
    """
    global _settings
    if not disable:
        _patch()
    _settings = (
        None
        if disable
        else Options(
            log_models=log_models,
            exclusive=exclusive,
            silent=silent,
            class_names=class_names,
            normalisation=normalisation,
        )
    )


_settings: Options | None = None


@functools.cache
def _patch() -> None:
    """Wrap ``Estimator.fit``, once."""
    estimator = runtime.mxnet().gluon.contrib.estimator
    original = estimator.Estimator.fit
    signature = inspect.signature(original)

    @functools.wraps(original)
    def fit(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments.get("event_handlers") or []
            handlers = list(given) if isinstance(given, (list, tuple)) else [given]
        except TypeError:  # the original says what is wrong
            return original(*args, **kwargs)
        if _settings is None or any(isinstance(one, _handler_class()) for one in handlers):
            return original(*args, **kwargs)
        handler = _handler_class()(_settings)
        bound.arguments["event_handlers"] = [*handlers, handler]
        try:
            return original(*bound.args, **bound.kwargs)
        except BaseException as error:
            handler.leave(error)
            raise

    estimator.Estimator.fit = fit


@functools.cache
def _handler_class() -> Any:
    events = runtime.mxnet().gluon.contrib.estimator.event_handler

    # The Estimator takes every attribute with "metric" in its name for a metric of its own: there must be none.
    class Handler(events.TrainBegin, events.EpochEnd, events.TrainEnd):  # type: ignore[misc, name-defined]
        def __init__(self, options: Options) -> None:
            self.options, self.priority = options, _PRIORITY
            self.training: Training | None = None
            self._validated: dict[str, float] = {}

        @safely
        def train_begin(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
            self.leave(Abandoned("another training began before this one ended"))
            self.training = Training(
                estimator.net,
                estimator.trainer,
                estimator.loss,
                self.options,
                epochs=estimator.max_epoch,
                batches=estimator.max_batch,
                batch_axis=estimator.batch_axis,
            )
            self.training.begin()

        @safely
        def epoch_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
            if self.training is None:
                return
            # Numbers that are all the same as an epoch ago are that epoch's: nothing was validated since.
            validated = _scores("validation", estimator.val_metrics)
            new = {} if validated == self._validated else validated
            self._validated = validated
            self.training.epoch(**_scores("train", estimator.train_metrics), **new)

        def train_end(self, estimator: Any, *args: Any, **kwargs: Any) -> None:
            if self.training is not None:
                self.training.end()

        def leave(self, error: BaseException) -> None:
            """Nothing more will come of the training that was begun."""
            if self.training is not None:
                self.training.end(error)

    return Handler


def _scores(split: str, metrics: Sequence[Any]) -> dict[str, float]:
    """An Estimator's metrics, those that saw anything, by their names in the vocabulary where there is one."""
    found: dict[str, float] = {}
    loss = runtime.mxnet().metric.Loss
    for metric in metrics:
        for own_name, value in metric.get_name_value():
            if is_unused(metric):
                continue
            word = re.sub(r"^((training|validation) )+", "", own_name)
            key = _key(split, "loss" if isinstance(metric, loss) else word)
            if key in found:
                key = _key(split, word)
            found[key] = float(value)
    return found


def _key(split: str, word: str) -> str:
    if top := re.fullmatch(r"top_k_accuracy_(\d+)", word):
        return names.top_k_accuracy(split, int(top[1]))
    return f"{split}_{re.sub(r'[^A-Za-z0-9_.-]+', '_', word)}"
