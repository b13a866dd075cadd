"""The network of a training loop other than this project's, kept with its run.

A classifier of pictures becomes a model as ``tracking.models.gluon`` saves it: what turned pixels into the network's
input goes inside the graph, so that it takes pictures. Anything else is kept as MXNet's own files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracking import names
from tracking import run as tracked
from tracking.errors import ModelError, TrackingError
from tracking.journal.events import one_line
from tracking.models import facts as model_format
from tracking.models import gluon
from tracking.models.serving import runtime
from tracking.store import resolve

if TYPE_CHECKING:
    from tracking.run import Run

MODEL, NETWORK = "model", "network"
# How many pictures both runtimes are shown.
_SHOWN = 8
# Values up to here that are no whole numbers may be scaled pixels as well as raw ones.
_SURELY_RAW = 16.0
# How far augmentation may push a pixel out of 0..255 before the normalisation that was given cannot be right.
_SLACK = 128.0


@dataclass(frozen=True)
class Sample:
    """What the network was trained on, as it looked: the whole shape, the size of a batch over all devices, a few.

    ``values`` is (n, C, H, W), None where the input is no batch of pictures.
    """

    shape: tuple[int, ...]
    batch_size: int
    values: NDArray[Any] | None

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) px."""
        return None if self.values is None else (self.shape[1], self.shape[2], self.shape[3])


UNSEEN = Sample((), 0, None)


@dataclass(kw_only=True)
class Saved:
    """What was kept: the folder, and what to log beside it. ``problem`` says what is missing, "" being nothing."""

    folder: Path
    problem: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def log_model(
    model: Any,
    name: str = MODEL,
    *,
    run: Run | None = None,
    run_id: str | None = None,
    registered_model_name: str | None = None,
    await_registration_for: int = 300,
    step: int = 0,
    params: dict[str, Any] | None = None,
    tags: dict[str, Any] | None = None,
    model_type: str | None = None,
    model_id: str | None = None,
    **saving: Any,
) -> Any:
    """Save a classifier and log it to a run; ``saving`` goes to ``save_model``. Raises ModelError.

    ``run``: one of ``tracking.start_run``; its ``log_model`` is called, which returns the model's folder. The run whose
    block the caller is in is meant where neither it nor ``run_id`` is given. Otherwise the model is logged as MLflow's
    other flavors do it, to the run ``run_id`` of MLflow's or to MLflow's active one, and its ModelInfo is returned; in
    this directory's store, unless MLflow was given another (``mlflow.set_tracking_uri``). The other arguments are as in
    MLflow's flavors.
    """
    if run is None and run_id is None and model_id is None:
        run = tracked.active()
    if run is not None:
        given: dict[str, Any] = {
            "run_id": run_id,
            "registered_model_name": registered_model_name,
            "params": params,
            "tags": tags,
        }
        given |= {"model_type": model_type, "model_id": model_id, "step": step or None}
        if idle := [key for key, value in given.items() if value is not None]:
            raise ModelError(
                f"log_model(run=…) does not take {', '.join(idle)}: give epoch= for the step, run.log_params and"
                " run.set_tags, and register the model with `python -m tracking promote`"
            )
        return run.log_model(model, name, **saving)
    import mlflow
    from mlflow import MlflowClient
    from mlflow.models import Model

    if run_id is None and model_id is None and mlflow.active_run() is None:
        raise ModelError("log_model is outside of a run: give run=, or the run_id= of a run of MLflow's")
    with _here():
        if run_id is not None and model_id is None:
            # Made here, since MLflow would put it into the active experiment, where runs:/ does not look for it.
            client = MlflowClient()
            known = client.get_run(run_id)
            made = client.create_logged_model(
                known.info.experiment_id,
                name=name,
                source_run_id=run_id,
                tags=tags,
                params={key: str(value) for key, value in {**(params or {}), **known.data.params}.items()},
                model_type=model_type,
            )
            model_id = made.model_id
        return Model.log(
            artifact_path=None,
            name=name,
            flavor=gluon,
            flavor_name=gluon.FLAVOR_NAME,
            run_id=run_id,
            registered_model_name=registered_model_name,
            await_registration_for=await_registration_for,
            step=step,
            params=params,
            tags=tags,
            model_type=model_type,
            model_id=model_id,
            model=model,
            **saving,
        )


def load_model(
    model_uri: str | Path, dst_path: str | None = None, *, runtime: str = "auto", num_threads: int = 0
) -> Any:
    """The network of a saved model, called with raw pixels (N, C, H, W) and answering with logits.

    Where MXNet is installed (or with ``runtime="mxnet"``) a Gluon ``SymbolBlock``; else (``"onnx"``) the ONNX copy as a
    function from NumPy to NumPy. ``model_uri``: a folder or any URI that MLflow knows, of this directory's store unless
    MLflow was given another. No code in the model is run. Raises ModelError.
    """
    if Path(model_uri).is_dir():
        return gluon.load_model(model_uri, runtime=runtime, num_threads=num_threads)
    with _here():
        return gluon.load_model(model_uri, dst_path, runtime=runtime, num_threads=num_threads)


@contextmanager
def _here() -> Iterator[None]:
    """MLflow's tracking URI is this directory's store meanwhile, where it was given none."""
    import mlflow

    if mlflow.is_tracking_uri_set():
        yield
        return
    store = resolve()
    store.client()
    mlflow.set_tracking_uri(store.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)


def reason(error: BaseException) -> str:
    """An error in one line: its message alone where it is this package's."""
    return str(error) if isinstance(error, TrackingError) else one_line(error)


def sample(net: Any, inputs: tuple[Any, ...], batch_axis: int) -> Sample:
    """The first input of a forward pass; of pictures a few are copied."""
    first = inputs[0]
    shape = tuple(int(side) for side in first.shape)
    devices = max((len(one.list_ctx()) for one in net.collect_params().values()), default=1)
    pictures = len(inputs) == 1 and len(shape) == 4 and shape[1] in (1, 3)
    values = np.asarray(first[:_SHOWN].asnumpy()) if pictures else None
    return Sample(shape, shape[batch_axis] * devices, values)


def save(
    net: Any,
    files: Path,
    seen: Sample,
    *,
    loss: Any,
    class_names: Sequence[str] | None,
    normalisation: tuple[Any, Any] | None,
    epoch: int,
    again: bool,
) -> Saved:
    """Keep the network in a new folder of ``files``: ``model``, or ``network`` where it cannot be one.

    again: the run has seen a training before; the folder's name then ends in the epoch.
    """
    mark = f"-{epoch}" if again else ""
    folder = _free(files, MODEL + mark)
    try:
        return _save_model(net, folder, seen, loss, class_names, normalisation, epoch)
    except Exception as error:  # MXNet raises what it likes; the weights are kept whatever it is
        why = f"no model that takes pictures was made: {reason(error)}"
    folder = _free(files, NETWORK + mark)
    kept = _save_network(net, folder)
    return Saved(folder=folder, problem=f"{why}; {kept} is kept in {folder.name}/", tags={names.ONNX_PROBLEM: why})


def _save_model(
    net: Any,
    folder: Path,
    seen: Sample,
    loss: Any,
    class_names: Sequence[str] | None,
    normalisation: tuple[Any, Any] | None,
    epoch: int,
) -> Saved:
    name = loss if isinstance(loss, str) else f"{type(loss).__name__} {getattr(loss, '__name__', '')}".strip()
    if not any(word in name for word in ("SoftmaxCrossEntropy", "SoftmaxCE")):
        raise ModelError(f"its loss is {name}, not softmax cross-entropy, so its answers are no classes")
    if not seen.shape:
        raise ModelError("no batch that it was trained on was seen, so how it takes pictures is not known")
    if seen.values is None or seen.image_shape is None:
        raise ModelError(f"its input has shape {seen.shape}, not (N, C, H, W) with 1 or 3 channels")
    scale, offset = _entry(seen.values, normalisation)
    pictures = (seen.values.astype(np.float64) - offset[:, None, None]) / scale[:, None, None]
    if normalisation is not None and not (-_SLACK <= pictures.min() and pictures.max() <= 255 + _SLACK):
        raise ModelError(
            f"normalisation={normalisation!r} does not fit: the first batch would be pixels from"
            f" {pictures.min():.0f} to {pictures.max():.0f}"
        )
    symbol, arrays = _graph(net, scale, offset)
    (shape,) = symbol.infer_shape(data=(1, *seen.image_shape))[1]
    if len(shape) != 2:
        raise ModelError(f"it answers in shape {tuple(shape)}, not (N, classes)")
    if class_names is not None and len(class_names) != shape[1]:
        raise ModelError(f"there are {len(class_names)} class names for {shape[1]} classes")
    gluon.save_model(
        (symbol, arrays),
        folder,
        class_names=class_names or list(map(str, range(shape[1]))),
        image_shape=seen.image_shape,
        pictures=np.clip(np.rint(pictures), 0, 255).astype(np.uint8),
        epoch=epoch,
    )
    facts = model_format.read_facts(folder)
    saved = Saved(folder=folder, params={"num_classes": facts["num_classes"]})
    saved.metrics[names.MODEL_SIZE_BYTES] = (folder / model_format.WEIGHTS).stat().st_size
    problem = facts["onnx"].get("problem")
    if problem:
        saved.problem, saved.tags[names.ONNX_PROBLEM] = f"the model has no ONNX copy: {problem}", problem
    else:
        saved.metrics[names.ONNX_MAX_DIFFERENCE] = facts["onnx"]["max_difference"]
    return saved


def _entry(values: NDArray[Any], normalisation: tuple[Any, Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """How a pixel 0..255 became the network's input, for each channel: ``pixel * scale + offset``."""
    ones = np.ones(values.shape[1])
    if normalisation is not None:
        mean, std = (ones * np.asarray(part, np.float64) for part in normalisation)
        return 1 / (255 * std), -mean / std
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return ones / 255, ones * 0
    if low >= 0 and high <= 255 and (high > _SURELY_RAW or np.array_equal(values, np.rint(values))):
        return ones, ones * 0
    raise ModelError(
        f"it was trained on values from {low:.3g} to {high:.3g}; say how pixels became that with"
        " normalisation=(mean, std), as given to transforms.Normalize"
    )


def _graph(net: Any, scale: NDArray[Any], offset: NDArray[Any]) -> tuple[Any, dict[str, Any]]:
    """The network as a symbol from pixels to answers, and its arrays by name."""
    mx = runtime.mxnet()
    if not isinstance(net, mx.gluon.HybridBlock):
        raise ModelError(f"{type(net).__name__} is not a HybridBlock, so it has no graph")
    if mx.util.is_np_array():
        raise ModelError("it is written for npx.set_np(), and its operators have no translation here")
    symbol, arrays = mx.sym.var("data"), {}
    if (scale != 1).any() or offset.any():
        for name, values, join in (
            ("pixel_scale", scale, mx.sym.broadcast_mul),
            ("pixel_offset", offset, mx.sym.broadcast_add),
        ):
            arrays[name] = runtime.to_array(values.reshape(1, -1, 1, 1))
            symbol = join(symbol, mx.sym.var(name, shape=arrays[name].shape))
    weights = net.collect_params()
    symbol = net(symbol)
    if isinstance(symbol, (list, tuple)) or len(symbol.list_outputs()) != 1:
        raise ModelError("it has several outputs; a classifier has one")
    wanted = set(symbol.list_inputs())
    # Kept in float32 whatever the training's precision.
    mx.nd.waitall()  # a pass that is still under way may be turning weights over into another layout
    arrays |= {
        name: one.list_data()[0].as_in_context(mx.cpu()).astype("float32")
        for name, one in weights.items()
        if name in wanted
    }
    return symbol, arrays


def _save_network(net: Any, folder: Path) -> str:
    """MXNet's own files; which they are."""
    folder.mkdir(parents=True)
    net.save_parameters(str(folder / "network.params"))
    (folder / "network.txt").write_text(f"{net}\n", encoding="utf-8")
    return "what net.load_parameters() reads, network.params,"


def _free(files: Path, name: str) -> Path:
    """A folder's name that is not taken."""
    number, folder = 1, files / name
    while folder.exists():
        number += 1
        folder = files / f"{name}-{number}"
    return folder
