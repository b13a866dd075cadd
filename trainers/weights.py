"""Where a network's first weights come from, and what may truthfully be said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainers import mx as door
from trainers.errors import BadInput
from trainers.nets import Classifier, to_array

mx = door.load()


def initialise(net: Classifier, init: str, seed: int, model_dir: Path | None = None) -> dict[str, Any]:
    """Give ``net`` its first weights; what they are, in words fit for a tag.

    Raises BadInput.
    """
    if init != "scratch":
        raise BadInput(f"--init {init}: not yet")
    _fresh(net, seed)
    return {"kind": "scratch", "label": "scratch"}


def _fresh(net: Classifier, seed: int) -> None:
    """Random weights (He 2015, as the built-in's ancestor draws them), the same for the same seed."""
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2), force_reinit=True)
    net(to_array(np.zeros((1, *net.shape), np.float32)))  # shapes are known, and all weights drawn, after a first pass
