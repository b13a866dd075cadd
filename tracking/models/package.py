"""Make a folder of graph, weights and facts a model that MLflow loads and serves, with an ONNX copy proved equal.

Needs neither MLflow nor MXNet and takes a fraction of a second, so a training run does it itself; replaying the run's
journal later only copies files.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import platform
import shutil
import struct
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.errors import ModelError
from tracking.models import facts as model_format
from tracking.models import serving
from tracking.models.facts import INT8, MLMODEL, ONNX, SYMBOL, WEIGHTS
from tracking.models.formats import onnx_export, onnx_int8, symbol
from tracking.models.formats import params as params_file
from tracking.models.serving import files

FLAVOR = "gluon"
_REQUIREMENTS = ("mlflow>=3.17,<4", "numpy>=1.23.5,<3", "pillow>=9")
_ONNX_REQUIREMENTS = ("onnxruntime>=1.16,<2",)
_MXNET_REQUIREMENTS = ("mxnet==1.9.1", "numpy>=1.23.5,<2", "setuptools; python_version >= '3.12'")
_EXAMPLE, _SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
_COLUMN = "image"

Pictures = NDArray[np.uint8]
Ask = Callable[[Pictures], NDArray[Any]]


def requirements(*, onnx: bool = True) -> list[str]:
    """What a saved model needs to be loaded, as pip reads it: with its ONNX copy, or through MXNet.

    Ranges, not the versions of the machine that trained: ONNX is a format meant to outlive them.
    """
    if onnx:
        return [*_REQUIREMENTS, *_ONNX_REQUIREMENTS]
    return [one for one in _REQUIREMENTS if not one.startswith("numpy")] + list(_MXNET_REQUIREMENTS)


def conda_env(pip_requirements: Sequence[str]) -> dict[str, Any]:
    """The same as a conda environment."""
    python = f"python={platform.python_version()}"
    return {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [python, "pip", {"pip": list(pip_requirements)}],
    }


def signature() -> dict[str, str]:
    """What comes out, and the parameters, as MLflow writes them down.

    Nothing is said of the input: MLflow would check it by a rule that fits one form of it only, while a model takes
    tables with any index, lists, arrays of pixels and CSV.
    """
    outputs = [
        {"type": "string", "name": "class_name", "required": True},
        {"type": "double", "name": "probability", "required": True},
        {"type": "map", "values": {"type": "double"}, "name": "probabilities", "required": True},
    ]
    params = [{"name": "top_k", "default": 0, "shape": None, "type": "long"}]
    return {"outputs": json.dumps(outputs), "params": json.dumps(params)}


def package(
    directory: str | Path,
    *,
    pictures: Pictures | None = None,
    ask: Ask | None = None,
    pip_requirements: Sequence[str] | None = None,
    onnx: bool = True,
    calibration: Pictures | None = None,
) -> dict[str, Any]:
    """Add to a folder of ``model-symbol.json``, ``model-0000.params`` and ``model.json`` what MLflow reads.

    pictures: (N, C, H, W) uint8 of the network's input size, real ones; the first is the input example, all are shown
    to both runtimes. ask: the network in MXNet, pixels to logits; without it nothing is compared. calibration: pictures
    to measure ranges on, for a copy in 8-bit integers. Returns the contents of MLmodel. An ONNX copy that cannot be
    made or proved is left out, like an int8 copy, and ``model.json`` says why; raises ModelError
    only where the folder holds no model.
    """
    directory = Path(directory)
    facts = model_format.read_facts(directory)
    (directory / ONNX).unlink(missing_ok=True)
    if onnx:
        try:
            facts["onnx"] = _export(directory, facts, pictures, ask)
        except (ModelError, ImportError, OSError) as error:
            (directory / ONNX).unlink(missing_ok=True)
            facts["onnx"] = {"problem": str(error)}
    else:
        facts["onnx"] = {"problem": "not asked for"}
    (directory / INT8).unlink(missing_ok=True)
    if calibration is not None:
        facts["int8"] = _to_integers(directory, calibration)
    there = [name for name in (SYMBOL, WEIGHTS, ONNX, INT8) if (directory / name).is_file()]
    facts[files.DIGESTS] = {name: files.digest(directory / name) for name in there}
    model_format.write_facts(directory, facts)
    needed = requirements(onnx=(directory / ONNX).is_file()) if pip_requirements is None else list(pip_requirements)
    module = _write_loader(directory / "code")
    write_environment(directory, needed)
    description = _description(directory, facts, module)
    if pictures is not None and len(pictures):
        description["saved_input_example_info"] = _write_example(directory, pictures[0])
    write_mlmodel(directory, description)
    return description


def write_mlmodel(directory: Path, description: dict[str, Any]) -> None:
    """Write MLmodel."""
    _dump(directory / MLMODEL, description)


def write_environment(directory: Path, needed: Sequence[str]) -> None:
    """Write what the model needs, in each of the forms that MLflow's environment managers read."""
    (directory / "requirements.txt").write_text("".join(f"{one}\n" for one in needed), encoding="utf-8")
    python = platform.python_version()
    _dump(
        directory / "python_env.yaml",
        {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]},
    )
    write_conda(directory, conda_env(needed))


def write_conda(directory: Path, environment: Mapping[str, Any]) -> None:
    """Write ``conda.yaml``."""
    _dump(directory / "conda.yaml", dict(environment))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """(C, H, W) uint8, C 1 or 3, as a PNG, with the standard library alone."""
    channels, height, width = pixels.shape
    rows = pixels.transpose(1, 2, 0).reshape(height, width * channels)
    body = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    )


def _export(directory: Path, facts: dict[str, Any], pictures: Pictures | None, ask: Ask | None) -> dict[str, Any]:
    """Write the ONNX copy; what is known of it. Raises ModelError, ImportError."""
    from tracking.models.serving.runtime import OnnxNetwork

    channels, height, width = facts["image_shape"]
    graph = symbol.parse((directory / SYMBOL).read_bytes(), str(directory / SYMBOL))
    notes = {"class_names": json.dumps(facts["class_names"], ensure_ascii=False), "input": facts["input"]}
    content = onnx_export.convert(graph, params_file.weights(directory / WEIGHTS), (channels, height, width), **notes)
    known: dict[str, Any] = {"opset": onnx_export.OPSET, "ir_version": onnx_export.IR_VERSION, "num_images": 0}
    with open(directory / ONNX, "wb") as file:
        file.writelines(content)
    try:
        network = OnnxNetwork(directory / ONNX)
    except ImportError:
        raise ModelError("onnxruntime is not installed, so the ONNX copy could not be tried.") from None
    except files.DamagedModel as error:
        raise ModelError(str(error)) from error
    if pictures is None or not len(pictures):
        known["pictures"] = "noise"  # says less than real ones, and more than nothing
        pictures = np.random.default_rng(0).integers(0, 256, (2, channels, height, width), np.uint8)
    if pictures.shape[1:] != (channels, height, width):
        raise ModelError(f"pictures of shape {pictures.shape[1:]} for a network of {(channels, height, width)}.")
    answer = network(pictures)
    if ask is not None:
        agreement = onnx_export.compare(np.asarray(ask(pictures)), answer)
        known |= {
            "num_images": agreement.num_images,
            "max_difference": agreement.max_difference,
            "max_logit_difference": agreement.max_logit_difference,
        }
    return known


def _to_integers(directory: Path, pictures: Pictures) -> dict[str, Any]:
    """Write the copy in integers; what is known of it."""
    if not (directory / ONNX).is_file():
        return {"problem": "it is made from the ONNX copy, and there is none."}
    try:
        onnx_int8.quantize(directory / ONNX, directory / INT8, pictures)
    except ModelError as error:
        return {"problem": str(error)}
    return {"num_images": len(pictures), "format": "QDQ, per channel"}


def _write_loader(folder: Path) -> str:
    """Copy the code that loads a model; the module to load it with.

    The package is named after its content, so that models of different ages can be loaded into one process.
    """
    sources = {path.name: path.read_bytes() for path in Path(serving.__file__).parent.glob("*.py")}
    digest = hashlib.sha256(b"".join(sources[name] for name in sorted(sources))).hexdigest()[:8]
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / f"picture_model_{digest}"
    package.mkdir(parents=True)
    for name, content in sources.items():
        (package / name).write_bytes(content)
    return f"{package.name}.model"


def _dump(path: Path, content: dict[str, Any]) -> None:
    import yaml

    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _write_example(directory: Path, pixels: NDArray[np.uint8]) -> dict[str, str]:
    table = {"columns": [_COLUMN], "data": [[base64.b64encode(encode_png(pixels)).decode()]]}
    (directory / _EXAMPLE).write_text(json.dumps(table), encoding="utf-8")
    (directory / _SERVING_EXAMPLE).write_text(json.dumps({"dataframe_split": table}), encoding="utf-8")
    return {
        "artifact_path": _EXAMPLE,
        "serving_input_path": _SERVING_EXAMPLE,
        "type": "dataframe",
        "pandas_orient": "split",
    }


def _description(directory: Path, facts: dict[str, Any], module: str) -> dict[str, Any]:
    has_onnx = (directory / ONNX).is_file()
    size = sum((directory / name).stat().st_size for name in (SYMBOL, WEIGHTS, *([ONNX] if has_onnx else [])))
    flavor = {"mxnet_version": "1.9.1", "symbol": SYMBOL, "params": WEIGHTS, "code": "code"}
    if has_onnx:
        flavor["onnx"] = ONNX
    return {
        "flavors": {
            FLAVOR: flavor,
            "python_function": {
                "loader_module": module,
                "code": "code",
                "config": {"runtime": "auto", "num_threads": 0, "output": "table"},
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
            },
        },
        "metadata": {key: facts[key] for key in sorted(facts)},
        "mlflow_version": _version("mlflow"),
        "model_size_bytes": size,
        "model_uuid": uuid.uuid4().hex,
        "signature": signature(),
        "utc_time_created": str(datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
