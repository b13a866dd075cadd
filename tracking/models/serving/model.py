"""What MLflow runs of a saved model: pictures in, class names and probabilities out.

Ships inside every saved model together with the other ``pyfunc_`` files, so that a model is loaded and served where
this package is not installed: mlflow, onnxruntime, numpy and pillow are enough. Hence the relative imports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import DamagedModel, read_facts
from .pictures import BadPicture, Sizing, as_pixels, sized
from .runtime import load
from .tables import COLUMN, pictures

TOP_K = "top_k"
OUTPUTS = ("table", "class_name")
_BATCH = 64
# Set by MLflow's scoring server before it asks for an answer.
_SERVED = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"
# The application that uvicorn runs for `mlflow models serve`; it loads the model while it is imported.
_SERVER = "mlflow.pyfunc.scoring_server.app"
# How large a request to a served model may be: by default as much as nginx lets through to it in MLflow's own image.
BODY_VARIABLE, MAX_BODY_BYTES = "MODEL_MAX_BODY_BYTES", 100 * 2**20


class PictureModel:
    """A saved classifier. ``predict`` takes whatever a picture may be given as; see there."""

    def __init__(
        self, directory: str | Path, *, runtime: str = "auto", num_threads: int = 0, output: str = "table"
    ) -> None:
        """``runtime``: ``auto``, ``onnx`` or ``mxnet``; ``num_threads`` 0: onnxruntime decides.

        ``output``: ``table``, or ``class_name`` for the names alone: what ``mlflow.models.evaluate`` expects of a
        classifier. Raises ValueError for another, DamagedModel, ImportError where nothing can run the network.
        """
        if output not in OUTPUTS:
            raise ValueError(f"output {output!r}: legal are {', '.join(OUTPUTS)}")
        self.output = output
        self.facts = read_facts(directory)
        self.class_names = [str(name) for name in self.facts["class_names"]]
        self.sizing = Sizing(self.facts)
        self.network = load(directory, runtime, num_threads)
        self._try(directory)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A DataFrame, one row a picture: ``class_name``, ``probability``, ``probabilities`` (by class name).

        It has the index of the table or Series that was given. With the output ``class_name`` it is an array of names.

        ``model_input``: pixels (N, H, W, 3), (N, H, W, 1) or (N, H, W), whole numbers 0..255; or one picture or a
        list, array, Series, DataFrame column or ``{"image": …}`` of pictures, each bytes of an encoded picture, the
        same in base64, a path, or an array; or a DataFrame with a column a pixel. ``params``: ``top_k``, how many
        classes to name (0: all). Raises MLflow's error for bad requests, or BadPicture where MLflow is not installed.
        """
        import pandas

        try:
            probabilities = self.probabilities(model_input)
            top_k = _top_k(params, len(self.class_names))
        except BadPicture as error:
            raise _bad_request(str(error)) from error
        best = probabilities.argmax(axis=1)
        class_names = [self.class_names[index] for index in best]
        if self.output == "class_name":
            return np.array(class_names)
        return pandas.DataFrame(
            {
                "class_name": class_names,
                "probability": probabilities[np.arange(len(best)), best],
                "probabilities": [self._named(row, top_k) for row in probabilities],
            },
            index=model_input.index if hasattr(model_input, "iloc") else None,
        )

    def probabilities(self, model_input: Any) -> NDArray[np.float64]:
        """Class probabilities (N, K), in the order of ``class_names``; input as for ``predict``. Raises BadPicture."""
        answers = [self._probabilities(batch) for batch in self._batches(_unwrapped(model_input, self.sizing))]
        return np.concatenate(answers) if answers else np.empty((0, len(self.class_names)))

    def get_raw_model(self) -> PictureModel:
        """This model itself, past MLflow's check of the input: ``predict`` then takes plain lists as well."""
        return self

    def _try(self, directory: str | Path) -> None:
        """Ask once, so that what cannot answer is known before it serves; and a runtime's first time is its slowest."""
        nothing = np.zeros((1, self.sizing.channels, self.sizing.height, self.sizing.width), np.uint8)
        try:
            shape = self.network(nothing).shape
        except Exception as error:  # onnxruntime's and MXNet's own errors have no common root
            raise DamagedModel(
                f"{directory}: its network does not answer as model.json describes it ({error})"
            ) from error
        if shape != (1, len(self.class_names)):
            raise DamagedModel(
                f"{directory}: its network has {shape[-1]} classes, model.json names {len(self.class_names)}"
            )

    def _probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        answer = self.network(pixels).astype(np.float64)
        if self.facts.get("output", "logits") == "probabilities":
            return answer
        shifted = np.exp(answer - answer.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    def _batches(self, given: Any) -> Iterator[NDArray[np.uint8]]:
        """The network's input (B, C, H, W), batch by batch."""
        served = os.environ.get(_SERVED, "").lower() == "true"
        if served and not len(given):
            raise BadPicture("no picture")
        sizing = self.sizing
        for start in range(0, len(given), _BATCH):
            part = given[start : start + _BATCH]
            if isinstance(part, np.ndarray) and part.shape[1:] == (sizing.height, sizing.width, sizing.channels):
                yield np.ascontiguousarray(part.transpose(0, 3, 1, 2))  # nothing to bring to size
                continue
            pictures = []
            for number, item in enumerate(part, start + 1):
                try:
                    pictures.append(sized(item, sizing, served=served))
                except BadPicture as error:
                    raise BadPicture(f"picture {number} of {len(given)}: {error}") from error
            yield np.stack(pictures)

    def _named(self, row: NDArray[np.float64], top_k: int) -> dict[str, float]:
        if top_k == len(row):
            return dict(zip(self.class_names, row.tolist(), strict=True))
        return {self.class_names[index]: float(row[index]) for index in np.argsort(-row, kind="stable")[:top_k]}


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PictureModel:
    """MLflow's way in. ``model_config``: ``runtime``, ``num_threads`` and ``output``, as for ``PictureModel``."""
    config = dict(model_config or {})
    if _SERVER in sys.modules:
        _limit_bodies(int(os.environ.get(BODY_VARIABLE) or MAX_BODY_BYTES))
    return PictureModel(
        path,
        runtime=str(config.get("runtime", "auto")),
        num_threads=int(config.get("num_threads", 0)),
        output=str(config.get("output", "table")),
    )


def _limit_bodies(most: int) -> None:
    """Refuse larger requests before they are in memory. Neither MLflow nor uvicorn has a setting for it."""
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    whole = Request.stream
    refused = HTTPException(413, f"a request has at most {most:,} bytes here ({BODY_VARIABLE}); send fewer pictures")

    async def stream(self: Request) -> AsyncIterator[bytes]:
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise refused
        size = 0
        async for chunk in whole(self):
            size += len(chunk)
            if size > most:
                raise refused
            yield chunk

    Request.stream = stream  # type: ignore[method-assign, assignment]


def _unwrapped(given: Any, sizing: Sizing) -> Any:
    """What was given as (N, H, W, C) uint8 pixels or as a list of single pictures."""
    if hasattr(given, "columns") and hasattr(given, "iloc"):  # a DataFrame
        return pictures(given, sizing)
    if isinstance(given, Mapping):
        if COLUMN not in given and len(given) != 1:
            raise BadPicture(f"inputs {sorted(map(str, given))}; the pictures are expected as {COLUMN!r}")
        given = given[COLUMN] if COLUMN in given else next(iter(given.values()))
    if hasattr(given, "to_frame") and hasattr(given, "iloc"):  # a Series
        return pictures(given.to_frame(COLUMN), sizing)
    if isinstance(given, np.ndarray):
        return _from_array(given)
    if isinstance(given, (str, bytes, bytearray, memoryview, os.PathLike)):
        return [given]
    if isinstance(given, Sequence):
        return _from_list(given)
    raise BadPicture(f"{type(given).__name__} is nothing to classify; give a list, an array or a table of pictures")


def _from_array(array: NDArray[Any]) -> Any:
    if array.ndim == 0:
        return [array.item()]
    if array.ndim == 1:
        return array.tolist() if array.dtype.kind in "USO" else _refuse(array)
    pixels = as_pixels(array)
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3):
        return [pixels]  # one picture
    if pixels.ndim == 3:
        return pixels[:, :, :, None]
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        return pixels
    return _refuse(array)


def _from_list(given: Sequence[Any]) -> Any:
    first = given[0] if given else None
    while isinstance(first, list) and first:
        first = first[0]
    # Nested lists of numbers are an array that came as JSON.
    return _from_array(as_pixels(given)) if isinstance(first, (int, float)) else list(given)


def _refuse(array: NDArray[Any]) -> Any:
    raise BadPicture(f"an array of shape {array.shape} and type {array.dtype}; pixels are (N, H, W, 3) uint8")


def _top_k(params: Mapping[str, Any] | None, num_classes: int) -> int:
    wanted = int((params or {}).get(TOP_K) or 0)
    if wanted < 0:
        raise BadPicture(f"{TOP_K}={wanted}; give how many classes to name, 0 for all")
    return min(wanted, num_classes) if wanted else num_classes


def _bad_request(message: str) -> Exception:
    try:
        from mlflow.exceptions import MlflowException
    except ImportError:
        return BadPicture(message)
    error: Exception = MlflowException.invalid_parameter_value(message)  # the scoring server answers 400
    return error
