"""SGD, NAG, Adam and RMSProp as SageMaker's built-in image classification means them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trainers.networks import backend

if TYPE_CHECKING:
    from trainers.config import Config
    from trainers.networks.resnet import Classifier

mx = backend.load()

_TOGETHER = 50  # parameters updated by one operator; MXNet's 4 cost a small network a few ms a step


def trainer_for(net: Classifier, config: Config) -> Any:
    """A Gluon ``Trainer`` with the optimizer's own settings; weight decay where the built-in has it."""
    parameters = net.collect_params()
    for name, parameter in parameters.items():
        # As MXNet's symbolic optimizers do, which the built-in is made of; Gluon by itself decays everything.
        parameter.wd_mult = 1.0 if name.endswith(("_weight", "_gamma")) else 0.0
    return mx.gluon.Trainer(parameters, _optimizer(config), kvstore=None)  # the Learner sums gradients


def learning_rate(config: Config, epoch: int, done: float = 1.0) -> float:
    """In force in ``epoch`` (from 1), of which the share ``done`` is over.

    Rises linearly during the warm-up (Goyal 2017); after it the factor multiplies it once for each step passed, or it
    follows half a cosine to 0 (Loshchilov 2016, without restarts).
    """
    at, warmup = epoch - 1 + done, config.warmup_epochs or 0
    if at < warmup:
        return float(config.learning_rate * at / warmup)
    if config.lr_scheduler == "cosine":
        share = (at - warmup) / max(1, config.epochs - warmup)
        return float(config.learning_rate * (1 + math.cos(math.pi * share)) / 2)
    passed = sum(epoch > step for step in config.lr_steps)
    return float(config.learning_rate * config.lr_scheduler_factor**passed)


def _optimizer(config: Config) -> Any:
    rate = config.learning_rate
    if config.optimizer == "sgd":
        sgd = mx.optimizer.SGD(learning_rate=rate, momentum=config.momentum, wd=config.weight_decay)
        sgd.aggregate_num = _TOGETHER
        return sgd
    if config.optimizer == "nag":
        return NAG(learning_rate=rate, momentum=config.momentum, wd=config.weight_decay)
    if config.optimizer == "adam":
        return mx.optimizer.Adam(learning_rate=rate, beta1=config.beta_1, beta2=config.beta_2, epsilon=config.eps)
    assert config.optimizer == "rmsprop", config.optimizer
    return mx.optimizer.RMSProp(learning_rate=rate, gamma1=config.gamma, epsilon=config.eps, centered=False)


class NAG(mx.optimizer.NAG):  # type: ignore[misc, name-defined]
    """MXNet's NAG, with weight decay added to the gradient beforehand.

    MXNet 1.9's own kernel writes the new weight before it reads it once more for the momentum's decay, unless oneDNN
    happens to hold the weight in a layout of its own: which one it is depends on timing, and so would the last bits.
    """

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """One step of one parameter; ``state`` is its momentum, None where the momentum is 0."""
        self._update_count(index)
        grad = grad * self.rescale_grad + self._get_wd(index) * weight
        rate = self._get_lr(index)
        if state is None:
            mx.nd.sgd_update(weight, grad, out=weight, lr=rate, wd=0.0)
        else:
            mx.nd.nag_mom_update(weight, grad, state, out=weight, lr=rate, wd=0.0, momentum=self.momentum)

    def update_multi_precision(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """The weights are float32 here, whatever the network computes in."""
        self.update(index, weight, grad, state)
