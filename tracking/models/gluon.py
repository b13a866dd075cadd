"""MLflow flavor for MXNet's picture classifiers: ``save_model`` and ``load_model``, as MLflow has them.

A model is a Gluon HybridBlock, a pair of symbol and parameters, or what SageMaker's built-in algorithm leaves
(``model.tar.gz``). Nothing in a saved model is a pickle; beside MXNet's files is an ONNX copy, which is what runs
where MXNet is not installed, as well as in ``mlflow.pyfunc`` and in MLflow's servers.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.errors import ModelError
from tracking.models import facts as model_format
from tracking.models import package, sources
from tracking.models.facts import MLMODEL, ONNX, SYMBOL, WEIGHTS
from tracking.models.serving.model import PictureModel

FLAVOR_NAME = package.FLAVOR


def get_default_pip_requirements(onnx: bool = True) -> list[str]:
    """What a saved model needs to be loaded: with an ONNX copy (the rule), or without one."""
    return package.requirements(onnx=onnx)


def get_default_conda_env(onnx: bool = True) -> dict[str, Any]:
    """The same as a conda environment."""
    return package.conda_env(get_default_pip_requirements(onnx))


def save_model(
    model: Any,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    image_shape: Sequence[int] | None = None,
    resize: int | None = None,
    fit: str | None = None,
    native_size: Sequence[int] | None = None,
    interpolation: str | None = None,
    epoch: int | None = None,
    pictures: NDArray[np.uint8] | None = None,
    onnx: bool = True,
    facts: Mapping[str, Any] | None = None,
    mlflow_model: Any = None,
    signature: Any = None,
    input_example: Any = None,
    pip_requirements: Sequence[str] | str | None = None,
    extra_pip_requirements: Sequence[str] | None = None,
    conda_env: Mapping[str, Any] | None = None,
    code_paths: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Save a classifier as an MLflow model in the new folder ``path``.

    model: a HybridBlock with weights; ``(symbol, params)``, each an MXNet object or a path (params also a dict, or
    MXNet's pair of dicts); or a path to ``model.tar.gz``. It takes raw pixels (N, C, H, W) 0..255 and answers with
    logits (N, K); a softmax at the end of a symbol is cut off.
    class_names: in the order of the outputs (default 0, 1, …). image_shape: (C, H, W), where the model lacks it.
    resize, fit, native_size, interpolation: how a picture is brought to size, see ``model_format.facts``. epoch: which
    checkpoint of an archive. pictures: (N, C, H, W) uint8, real ones, on which the ONNX copy is compared with MXNet and
    whose first becomes the input example. onnx: False leaves the copy out. facts: more to note in ``model.json``.
    The rest is as in MLflow's flavors. Raises ModelError.
    """
    directory = Path(path)
    if directory.exists() and any(directory.iterdir()):
        raise ModelError(f"{directory} is there and not empty; give a new folder.")
    if conda_env is not None and pip_requirements is not None:
        raise ModelError("give conda_env or pip_requirements, not both.")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        known, ask = sources.write(model, directory, epoch)
        stated = known.pop("image_shape", None)
        shape = image_shape or stated or (pictures.shape[1:] if pictures is not None else None)
        if shape is None:
            raise ModelError("the model does not state the size of its pictures; give image_shape, (C, H, W).")
        count = known.pop("num_classes", None)
        names = class_names or known.pop("class_names", None) or range(count or 0)
        given = {"resize": resize, "fit": fit, "native_size": native_size, "interpolation": interpolation}
        known |= {key: value for key, value in given.items() if value is not None}
        if epoch is not None:
            known["epoch"] = epoch
        described = model_format.facts(
            **{
                **known,
                **(facts or {}),
                "image_shape": _triple(shape),
                "class_names": list(map(str, names)),
            },
        )
        if count is not None and len(described["class_names"]) != count:
            raise ModelError(f"{len(described['class_names'])} class names for a network of {count} classes.")
        model_format.write_facts(directory, described)
        needed = _requirements(pip_requirements, extra_pip_requirements)
        written = package.package(directory, pictures=pictures, ask=ask, pip_requirements=needed, onnx=onnx)
        if extra_pip_requirements and needed is None:
            needed = [*get_default_pip_requirements((directory / ONNX).is_file()), *extra_pip_requirements]
            package.write_environment(directory, needed)
        if conda_env is not None:
            package.write_conda(directory, conda_env)
        _copy_code(code_paths, directory / "code")
        _describe(directory, written, mlflow_model, signature, input_example, metadata)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def load_model(
    model_uri: str | Path, dst_path: str | None = None, *, runtime: str = "auto", num_threads: int = 0
) -> Any:
    """The network of a saved model, called with raw pixels (N, C, H, W) and answering with logits.

    Where MXNet is installed (or with ``runtime="mxnet"``) a Gluon ``SymbolBlock``; else (``"onnx"``) the ONNX copy as a
    function from NumPy to NumPy. ``model_uri``: a folder or any URI MLflow knows. No code in the model is
    run. Raises ModelError.
    """
    from tracking.models.formats import params as params_file
    from tracking.models.formats import symbol
    from tracking.models.serving import files
    from tracking.models.serving import runtime as gluon_symbol
    from tracking.models.serving import runtime as pyfunc_runtime

    if runtime not in pyfunc_runtime.RUNTIMES:
        raise ModelError(f"runtime {runtime!r}: legal are {', '.join(pyfunc_runtime.RUNTIMES)}.")
    directory = _local(model_uri, dst_path)
    model_format.read_facts(directory)
    try:
        if runtime != "onnx":
            try:
                gluon_symbol.mxnet()
                # MXNet trusts every length in a file, and may crash on a wrong one.
                symbol.parse((directory / SYMBOL).read_bytes(), str(directory / SYMBOL))
                params_file.read(directory / WEIGHTS)
                return gluon_symbol.load_block(directory)
            except ImportError:
                if runtime == "mxnet" or not (directory / ONNX).is_file():
                    raise
        return pyfunc_runtime.load(directory, "onnx", num_threads)
    except (ImportError, OSError, files.DamagedModel) as error:
        raise ModelError(f"{model_uri}: {error}") from error


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PictureModel:
    """MLflow's way in, for a model that names this module; those saved here name the copy that they carry."""
    from tracking.models.serving import model as pyfunc_model

    return pyfunc_model._load_pyfunc(path, model_config)


def _describe(
    directory: Path, written: dict[str, Any], mlflow_model: Any, signature: Any, example: Any, metadata: Any
) -> None:
    """Put into ``mlflow_model``, and so into MLmodel, what was written, and what the caller says otherwise."""
    if mlflow_model is None and signature is None and example is None and metadata is None:
        return
    from mlflow.models import Model, ModelSignature

    model = Model() if mlflow_model is None else mlflow_model
    for flavor, settings in written["flavors"].items():
        model.add_flavor(flavor, **settings)
    model.signature = ModelSignature.from_dict(written["signature"]) if signature is None else signature
    model.model_size_bytes = written["model_size_bytes"]
    model.metadata = {**written["metadata"], **(model.metadata or {}), **(metadata or {})}
    if "saved_input_example_info" in written:
        model.saved_input_example_info = written["saved_input_example_info"]
    if example is not None:
        save_example(model, example, str(directory))
    model.save(str(directory / MLMODEL))


def _requirements(given: Sequence[str] | str | None, extra: Sequence[str] | None) -> list[str] | None:
    if given is None:
        return None
    lines = Path(given).read_text(encoding="utf-8").splitlines() if isinstance(given, str) else list(given)
    return [line for line in lines if line.strip()] + list(extra or ())


def _copy_code(paths: Sequence[str] | None, folder: Path) -> None:
    for path in map(Path, paths or ()):
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, folder)


def _triple(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ModelError(f"image_shape {tuple(shape)}: expected (C, H, W).")
    return int(shape[0]), int(shape[1]), int(shape[2])


def _local(model_uri: str | Path, dst_path: str | None) -> Path:
    """The model's folder on this machine."""
    if Path(model_uri).is_dir():
        return Path(model_uri)
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(artifacts.download_artifacts(artifact_uri=str(model_uri), dst_path=dst_path))
    except (MlflowException, OSError) as error:
        raise ModelError(f"{model_uri} cannot be loaded: {error}") from error


TESTED = ">=3.17,<3.18"


def save_example(mlflow_model: Any, example: Any, path: str) -> None:
    """Write an input example, in any form MLflow takes, and note it in ``mlflow_model``."""
    mlflow_internal("mlflow.models.utils", "_save_example")(mlflow_model, example, path)


def mlflow_internal(module: str, name: str) -> Any:
    """A name that MLflow does not promise to keep. Raises ModelError where this version lacks it."""
    import mlflow

    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"MLflow {mlflow.__version__} has no {module}.{name}; tested are {TESTED}. Save the model without an"
            " input example of your own, or install a tested version."
        ) from error
