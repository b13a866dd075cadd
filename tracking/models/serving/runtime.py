"""A saved network, ready to answer: through onnxruntime, or through MXNet where there is no ONNX copy.

Ships inside every saved model. A network is called with pixels (N, C, H, W) uint8 or float32, raw 0..255, and answers
with (N, K) float32.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .files import DIGESTS, DamagedModel, check, read_facts

RUNTIMES = ("auto", "onnx", "mxnet")
ONNX = "model.onnx"


class Network(Protocol):
    """``runtime`` is ``onnx`` or ``mxnet``."""

    runtime: str

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.float32]: ...


class OnnxNetwork:
    """The ONNX copy in onnxruntime, on the CPU; may be called from several threads at once."""

    runtime = "onnx"

    def __init__(self, model: str | Path | bytes, num_threads: int = 0) -> None:
        """``num_threads`` 0: the physical cores. Raises ImportError without onnxruntime, DamagedModel."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        given = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own errors have no common root
            shown = "the ONNX copy" if isinstance(model, bytes) else model
            raise DamagedModel(f"{shown} is not taken by onnxruntime {onnxruntime.__version__}: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        (answer,) = self._session.run(None, {self._input: np.ascontiguousarray(pixels, np.float32)})
        return np.asarray(answer)


def load(directory: str | Path, runtime: str = "auto", num_threads: int = 0) -> Network:
    """The network of a saved model's folder.

    ``auto`` takes the ONNX copy where there is one and onnxruntime is installed, else MXNet. Raises ValueError for
    another runtime than RUNTIMES, DamagedModel, ImportError that says what is missing.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime {runtime!r}: legal are {', '.join(RUNTIMES)}")
    path = Path(directory) / ONNX
    if runtime == "onnx" and not path.is_file():
        raise ImportError(f"{directory} has no ONNX copy; model.json says why. Take the runtime mxnet.")
    missing: ImportError | None = None
    if runtime != "mxnet" and path.is_file():
        check(directory, ONNX)
        try:
            return OnnxNetwork(path, num_threads)
        except ImportError as error:
            if runtime == "onnx":
                raise ImportError(f"onnxruntime is needed: pip install onnxruntime ({error})") from error
            missing = error
    try:
        return SymbolNetwork(directory)
    except ImportError as error:
        also = "" if missing is None else f"; the ONNX copy needs onnxruntime, which is not there either ({missing})"
        if not path.is_file() and ONNX in (read_facts(directory).get(DIGESTS) or {}):
            also = f"; {path}, which would do without it, is missing: fetch the model again"
        raise ImportError(f"MXNet is needed: pip install mxnet==1.9.1 'numpy<2' ({error}){also}") from error


SYMBOL, WEIGHTS = "model-symbol.json", "model-0000.params"


def mxnet() -> Any:
    """The module, with the gaps of newer NumPy filled. Raises ImportError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of deprecations on a newer Python, which a user cannot act on
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
