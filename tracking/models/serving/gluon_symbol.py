"""MXNet's side of a saved model: the graph and weights as a network to ask. MXNet is imported when one is made.

Ships inside every saved model, for the case that it has no ONNX copy.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import DamagedModel, check

SYMBOL, WEIGHTS = "model-symbol.json", "model-0000.params"


def mxnet() -> Any:
    """The module, with the gaps of newer NumPy filled. Raises ImportError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it greets a newer Python with deprecations that nobody can act on
        if not hasattr(np, "bool"):
            np.bool = bool  # type: ignore[attr-defined]
        try:
            import mxnet
        except (OSError, AttributeError) as error:  # a system library is missing, NumPy is too new
            raise ImportError(f"MXNet cannot be loaded: {error}") from error
    return mxnet


def load_block(directory: str | Path) -> Any:
    """The saved network as a hybridized ``SymbolBlock``. Raises ImportError without MXNet, DamagedModel."""
    mx = mxnet()
    check(directory, SYMBOL, WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            files = str(Path(directory) / SYMBOL), str(Path(directory) / WEIGHTS)
            block = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
        except Exception as error:  # whatever MXNet stumbles over
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise DamagedModel(f"{directory}: MXNet does not take graph and weights ({reason})") from error
    block.hybridize(static_alloc=True)
    return block


def to_array(pixels: NDArray[Any]) -> Any:
    """A copy as an MXNet array of float32. (MXNet's own way asks SciPy for a name that it deprecates.)"""
    return mxnet().nd.from_numpy(np.array(pixels, np.float32, order="C"))


class SymbolNetwork:
    """The saved graph in MXNet: pixels (N, C, H, W), raw 0..255, to (N, K) float32; one caller at a time."""

    runtime = "mxnet"

    def __init__(self, directory: str | Path) -> None:
        self.block = load_block(directory)
        self._turn = threading.Lock()

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        with self._turn:
            answer = self.block(to_array(pixels))
            return np.asarray(answer.asnumpy(), np.float32)
