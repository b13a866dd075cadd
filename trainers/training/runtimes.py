"""What computes a saved model's answers: MXNet, or onnxruntime on its ONNX copy, which is faster on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.models.facts import ONNX
from trainers.errors import BadInput

if TYPE_CHECKING:
    from trainers.training.scores import Pictures, Scores

RUNTIMES = ("auto", "mxnet", "onnx")


def scorer(model_dir: Path, runtime: str = "auto", num_threads: int = 0) -> Callable[[Pictures], Scores]:
    """A function that scores pictures with the saved network.

    ``auto`` takes the ONNX copy where there is one and onnxruntime is installed. Raises BadInput when the runtime
    asked for cannot be had.
    """
    from trainers.networks import saved
    from trainers.training import scores

    saved.read_meta(model_dir)
    if runtime == "onnx" or (runtime == "auto" and (model_dir / ONNX).is_file()):
        from tracking.models.serving.files import DamagedModel
        from tracking.models.serving.runtime import load

        try:
            network = load(model_dir, "onnx", num_threads)
            return lambda batches: scores.score_arrays(network, batches)
        except DamagedModel as error:
            raise BadInput(f"{error}") from error
        except ImportError as error:
            if runtime == "onnx":
                raise BadInput(f"--runtime onnx: {error}") from error
    net, _ = saved.load_model(model_dir)
    return lambda batches: scores.score(net, batches)
