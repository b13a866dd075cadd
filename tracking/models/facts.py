"""A saved model's folder: the files in it and the facts about its network. Shared by all who write or read one.

model.json                 what goes in, what comes out, how a picture is brought to size: the facts
model-symbol.json          MXNet's graph: raw pixels (N, C, H, W) 0..255 to logits (N, K)
model-0000.params          MXNet's weights
model.onnx                 the same network for any ONNX runtime; absent where it could not be verified
model-int8.onnx            that in 8-bit integers; only where it was asked for
MLmodel, requirements.txt, python_env.yaml, conda.yaml, input_example.json, serving_input_example.json
                           what MLflow reads
code/                      loads and serves all this where this package is not installed
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tracking.errors import ModelError
from tracking.models.serving import files
from tracking.models.serving.files import FORMAT
from tracking.models.serving.files import META as META

SYMBOL, WEIGHTS, ONNX, MLMODEL = "model-symbol.json", "model-0000.params", "model.onnx", "MLmodel"
INT8 = "model-int8.onnx"
FITS = ("crop", "squash")
INTERPOLATIONS = ("linear", "area")


def facts(
    *,
    image_shape: tuple[int, int, int],
    class_names: list[str],
    resize: int | None = None,
    fit: str = "crop",
    native_size: tuple[int, int] | None = None,
    interpolation: str = "linear",
    output: str = "logits",
    **more: Any,
) -> dict[str, Any]:
    """The facts as ``model.json`` holds them.

    image_shape: (C, H, W) px of the network's input. resize: shortest side in px before the crop. fit: ``crop`` or
    ``squash`` (scaled to H x W whatever the aspect ratio). native_size: (H, W) of every training picture, None where
    they differed. output: ``logits`` or ``probabilities``. Raises ModelError with every fault.
    """
    channels = image_shape[0]
    found = {
        "format": FORMAT,
        "num_classes": len(class_names),
        "class_names": [str(name) for name in class_names],
        "image_shape": list(image_shape),
        "input": "raw RGB 0..255 NCHW" if channels == 3 else "raw grey 0..255 NCHW",
        "output": output,
        "resize": resize,
        "fit": fit,
        "native_size": None if native_size is None else list(native_size),
        "interpolation": interpolation,
        **more,
    }
    check(found)
    return found


def check(found: dict[str, Any]) -> None:
    """Raise ModelError with everything that is wrong with a model's facts."""
    faults = []
    shape, classes = found.get("image_shape"), found.get("class_names")
    if not _is_sizes(shape, 3) or list(shape or ())[0] not in (1, 3):
        faults.append(f"image_shape {shape!r}: expected [C, H, W], C 1 or 3, in px")
    if not isinstance(classes, list) or len(classes) < 2 or len(set(map(str, classes))) < len(classes):
        faults.append("class_names: expected a list of at least 2 different names")
    elif found.get("num_classes", len(classes)) != len(classes):
        faults.append(f"num_classes is {found['num_classes']}, class_names are {len(classes)}")
    if found.get("fit", "crop") not in FITS:
        faults.append(f"fit {found['fit']!r}: legal are {', '.join(FITS)}")
    if found.get("interpolation", "linear") not in INTERPOLATIONS:
        faults.append(f"interpolation {found['interpolation']!r}: legal are {', '.join(INTERPOLATIONS)}")
    if found.get("output", "logits") not in ("logits", "probabilities"):
        faults.append(f"output {found['output']!r}: legal are logits, probabilities")
    if found.get("resize") is not None and not _is_sizes([found["resize"]], 1):
        faults.append(f"resize {found['resize']!r}: expected px, 1 or more")
    if found.get("native_size") is not None and not _is_sizes(found["native_size"], 2):
        faults.append(f"native_size {found['native_size']!r}: expected [H, W] in px")
    if faults:
        raise ModelError(f"A model cannot be described so: {'; '.join(faults)}.")


def read_facts(directory: str | Path) -> dict[str, Any]:
    """The contents of a saved model's ``model.json``. Raises ModelError."""
    try:
        found = files.read_facts(directory)
    except files.DamagedModel as error:
        raise ModelError(f"{error}.") from error
    check(found)
    return found


def write_facts(directory: Path, found: dict[str, Any]) -> None:
    """Write ``model.json``."""
    (directory / META).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _is_sizes(value: Any, count: int) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == count
        and all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in value)
    )
