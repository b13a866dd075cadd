"""An ONNX file → the same network in 8-bit integers: a quarter of the size, and faster on a processor that has VNNI.

onnxruntime's own static quantization: QuantizeLinear and DequantizeLinear around each layer, a scale for each channel
of the weights, the activations' ranges measured on real pictures. Needs onnxruntime, onnx and ml_dtypes.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.errors import ModelError

# Layers that onnxruntime computes in integers on a CPU. The normalisation of the pixels stays as it is.
_LAYERS = ["Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten"]
_BATCH = 32


def quantize(model: Path, to: Path, pictures: NDArray[np.uint8]) -> None:
    """Write ``model`` in integers to ``to``; ``pictures`` (N, C, H, W) are those the ranges are measured on.

    Raises ModelError where it cannot be done, and says what is missing.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ModelError(
            f"An int8 copy needs onnx and onnxruntime: pip install onnx onnxruntime ml_dtypes ({error})."
        ) from error

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            parts = range(0, len(pictures), _BATCH)
            self._batches: Iterator[NDArray[Any]] = (pictures[at : at + _BATCH].astype(np.float32) for at in parts)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"data": batch}

    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)  # it advises to do what was just done
        try:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)  # joins convolution and batch norm
            quantization.quantize_static(
                str(prepared),
                str(to),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_LAYERS,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            # It names the newest version of every operator set it knows; an older onnxruntime would refuse those.
            made = onnx.load(to)
            used = {node.domain for node in made.graph.node}
            for unused in [given for given in made.opset_import if given.domain not in used]:
                made.opset_import.remove(unused)
            onnx.save(made, to)
        except Exception as error:  # the library's errors have no common root
            to.unlink(missing_ok=True)
            raise ModelError(f"onnxruntime cannot turn the network into integers ({error}).") from error
        finally:
            root.setLevel(level)
