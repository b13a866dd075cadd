"""A learning rate for a network and its data, in under a minute: ``python -m trainers.run … --find-lr``.

The learning rate range test of Smith 2015 ("Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186,
3.3), with the rate rising exponentially from step to step: the loss falls, levels, and explodes. A tenth of the rate
with the lowest loss is the suggestion: rates near the lowest loss are already on the way to the explosion.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.data import Batches
from trainers.training import experiment, fit, scores
from trainers.training.stages import initial_network
from trainers.training.steps.recipe import Learner

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.config import Config

_LOWEST, _HIGHEST, _STEPS, _FEWEST = 1e-5, 1.0, 100, 20
_BUDGET_S = 35.0  # of the steps; reading the data and building the network come on top
_SMOOTH, _EXPLODED = 0.8, 3.0  # weight of the losses before; times the lowest


def suggest(config: Config, store: Store) -> float:
    """Run the test, print its curve and the suggestion; nothing is kept. Raises BadInput."""
    prepared = experiment.prepare(config, store)
    config, split = prepared.config, prepared.dataset.train
    train = fit.training_batches(split, config)
    net, _ = initial_network(config, prepared.source)
    learner = Learner(net, config, split.labels)
    learner.begin(1)
    print(f"net     {config.network_name}, {config.optimizer}, batches of {config.mini_batch_size}\n")
    print("  learning rate   loss")
    lowest, best = float("inf"), _LOWEST
    for number, (rate, loss) in enumerate(_losses(learner, train)):
        if number % 10 == 0:
            print(f"  {rate:13.2g}  {loss:5.3f}", flush=True)
        if loss < lowest:
            lowest, best = loss, rate
        if not loss < _EXPLODED * lowest:
            print(f"  {rate:13.2g}  {loss:5.3f}  explodes")
            break
    found = float(f"{best / 10:.1g}")
    print(f"\ntry     --learning-rate {found:g}: a tenth of the rate with the lowest loss, {best:.2g}")
    return found


def _losses(learner: Learner, train: Batches) -> Iterator[tuple[float, float]]:
    """Rates and the losses they met, smoothed, up to the highest rate or a loss that is no number."""
    batches = ((epoch, at, *batch) for epoch in itertools.count(1) for at, batch in enumerate(train.epoch(epoch)))
    learner.trainer.set_learning_rate(_LOWEST)
    steps, mean, weight = _STEPS, 0.0, 0.0
    started = time.monotonic()
    for number, (epoch, at, images, labels) in enumerate(batches):
        rate = _LOWEST * (_HIGHEST / _LOWEST) ** (number / (steps - 1))
        learner.trainer.set_learning_rate(rate)
        loss = _loss(learner.step(images, labels, epoch, at), labels)
        if not np.isfinite(loss):
            yield rate, float("inf")
            return
        mean, weight = _SMOOTH * mean + (1 - _SMOOTH) * loss, _SMOOTH * weight + 1 - _SMOOTH
        yield rate, mean / weight
        if number == 0:
            started = time.monotonic()  # the first step builds the graph
        elif number == 2:
            steps = max(_FEWEST, min(_STEPS, int(_BUDGET_S / max(1e-6, (time.monotonic() - started) / 2))))
        if number >= steps - 1:
            return


def _loss(logits: Any, labels: Any) -> float:
    whole = np.concatenate([part.asnumpy() for part in logits])
    return float(-scores.log_softmax(whole)[np.arange(len(labels)), labels].mean())
