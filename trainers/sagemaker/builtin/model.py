"""The model that AWS's built-in image classification leaves: out of its archive, the right epoch, into MXNet.

Enters: ``model.tar.gz``, or the folder it was unpacked to, which ``tracking.models.archive`` reads. Leaves: a network
that takes raw 0..255 RGB of shape ``(B, C, H, W)`` and gives logits ``(B, num_classes)``, with the same facts beside it
as ``trainers.networks.saved`` gives.

The network is a ``SymbolBlock`` over the graph up to its logits. MXNet's inference-bound ``Module`` is not used: it
folds batch norms into convolutions whose output a shortcut needs as well, and then gives wrong numbers silently.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.models import archive
from tracking.models.facts import SYMBOL, WEIGHTS
from trainers.errors import BadData, BadInput

if TYPE_CHECKING:
    from trainers.data import Split
    from trainers.data.dataset import SplitsRead
    from trainers.data.pictures.sizing import Fit
    from trainers.training.scores import Scores

_BATCH = 256
_SAYS_NOTHING = 0.2  # a tolerance of so much, a fifth of all pictures, checks nothing


def load(source: Path, epoch: int | None = None, best_epoch: int | None = None) -> tuple[Any, dict[str, Any]]:
    """The network as a hybridized ``SymbolBlock`` that gives logits, and facts as ``trainers.networks.saved`` has.

    ``source`` and the epochs are those of ``archive.take_out``. ``class_names`` is None: the built-in keeps numbers, no
    names. ``fit`` is ``crop``, as in its own validation; its endpoint squashes instead. Raises BadInput, ModelError.
    """
    from trainers.networks import backend

    mx = backend.load()
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        found = archive.take_out(source, scratch, epoch=epoch, best_epoch=best_epoch, half_precision=True)
        shape = found.image_shape
        if found.facts:
            raise BadInput(f"{source} is a model of this project's own trainer, no archive of the built-in.")
        if shape is None:
            raise BadInput(
                f"{source} has no model-shapes.json, so the size of its pictures is not known. Pack it anew with one,"
                ' such as [{"name": "data", "shape": [1, 3, 224, 224]}].'
            )
        try:
            with backend.quiet():
                # Loading brings the graphs of older versions up to date.
                logits = mx.sym.load(str(Path(scratch) / SYMBOL))
                net = mx.gluon.SymbolBlock(logits, mx.sym.var("data", dtype="float32"))
                net.collect_params().load(
                    str(Path(scratch) / WEIGHTS),
                    mx.cpu(),
                    allow_missing=False,
                    ignore_extra=True,
                    cast_dtype=True,
                    dtype_source="current",
                )
                logits.infer_shape(data=(1, *shape))
        except (mx.MXNetError, ValueError, AssertionError, KeyError, RuntimeError, IndexError) as error:
            # MXNet's message begins with a traceback.
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            raise BadInput(
                f"{source}: graph and weights do not go together ({reason}). Fetch the archive again."
            ) from error
    net.hybridize(static_alloc=True, static_shape=True)
    return net, {
        "format": "sagemaker-builtin",
        "num_classes": found.num_classes,
        "class_names": None,
        "image_shape": list(shape),
        "epoch": found.epoch,
        "resize": None,
        "fit": "crop",
        "input": "raw RGB 0..255 NCHW" if shape[0] == 3 else "raw grey 0..255 NCHW",
        "output": "logits",
    }


@dataclass(frozen=True)
class Model:
    """A loaded network of the built-in; ``resize`` is the job's hyperparameter (px, shortest side)."""

    net: Any
    facts: dict[str, Any]
    resize: int | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the weights, from 1."""
        return int(self.facts["epoch"])


def model_of_run(run: Any, place: str | None = None) -> Model:
    """The model of a tracked job: from ``place``, else from where its tag says. Raises BadInput, AwsError."""
    where = place or run.data.tags.get(names.MODEL_URI)
    if not where:
        raise BadInput(f"run {run.info.run_id} left no model that is known here; name its archive by --model.")
    best = run.data.metrics.get(names.BEST_EPOCH)
    resize = run.data.params.get("resize")
    region = run.data.tags.get(names.REGION)
    model = fetch_model(where, best_epoch=None if best is None else int(best), region=region)
    return Model(model.net, model.facts, None if resize is None else int(float(resize)))


def fetch_model(place: str, *, best_epoch: int | None = None, region: str | None = None) -> Model:
    """A model from ``s3://…/model.tar.gz``, a local archive, or a folder that one was unpacked into."""
    if place.startswith("s3://"):
        with tempfile.TemporaryDirectory(prefix="model-") as scratch:
            return Model(*load(fetch_archive(place, region, Path(scratch)), best_epoch=best_epoch))
    source = Path(place).expanduser()
    if not source.exists():
        raise BadInput(f"--model {place}: there is no such file or folder.")
    return Model(*load(source, best_epoch=best_epoch))


@contextmanager
def saved(source: Path, *, class_names: list[str] | None, epoch: int | None, run: Any = None) -> Iterator[Path]:
    """The archive of a job as a saved model's folder, which also answers where MXNet is not installed.

    ``run``: the tracked job, which knows its best epoch and ``resize``. Pictures come to size as in the job's
    validation; where nothing says how that was, as in the algorithm's endpoint, which scales them to the network's
    size. Raises ModelError.
    """
    from tracking.models import gluon

    known = {} if run is None else {**run.data.params, **run.data.metrics}
    sizes: dict[str, Any] = {}
    if "resize" in known:
        sizes["resize"] = int(float(known["resize"]))
    elif not archive.has_facts(source):
        sizes["fit"] = "squash"
    if epoch is None and names.BEST_EPOCH in known and len(archive.epochs(source)) > 1:
        epoch = int(known[names.BEST_EPOCH])
    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        folder = Path(scratch) / "model"
        gluon.save_model(source, folder, class_names=class_names, epoch=epoch, **sizes)
        yield folder


def score(model: Model, dataset: SplitsRead, split: Split, fit: Fit) -> Scores:
    """Every picture of ``split`` once. Raises BadData where the data has more classes than the network."""
    from trainers.data import Batches
    from trainers.training import scores

    num_classes = model.facts["num_classes"]
    if len(dataset.class_names) != num_classes:
        raise BadData(
            f"{dataset.name} has {len(dataset.class_names)} classes, the network knows {num_classes}: its scores would"
            " mean nothing. Name the data the job was trained on."
        )
    batches = Batches(
        split, image_shape=tuple(model.facts["image_shape"]), resize=model.resize, fit=fit, batch_size=_BATCH
    )
    return scores.score(model.net, batches)


def check(model: Model, dataset: SplitsRead, validation: Split | None, run: Any) -> str:
    """What a score of the validation split computed here, cropped as there, says of the one in the job's log.

    The job averages over whole batches, the last one padded, so the two may differ by about a batch in N.
    """
    logged = run.data.metrics.get(names.BEST_VALIDATION_ACCURACY, run.data.metrics.get(names.VALIDATION_ACCURACY))
    if logged is None:
        return "The job's log has no validation accuracy to hold this against."
    known = run.data.tags.get(names.VALIDATION_DATASET_DIGEST)
    if validation is None or known != validation.digest:
        return (
            "The job's validation pictures are not at hand, so the loading of its model is not checked against its log."
        )
    allowed = float(run.data.params.get("mini_batch_size", 32)) / len(validation)
    if allowed >= _SAYS_NOTHING:
        return f"{len(validation)} validation pictures are too few to check the model against its job's log."
    found = score(model, dataset, validation, "crop").accuracy
    verdict = "agrees with" if abs(found - logged) <= allowed else "CONTRADICTS"
    return f"Validation accuracy computed here, {found:.4f}, {verdict} the job's log, {logged:.4f} (± {allowed:.4f})."


def fetch_archive(uri: str, region: str | None, folder: Path) -> Path:
    """A copy of ``s3://…/model.tar.gz`` in ``folder``. Raises AwsError."""
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.aws.uri import split_s3

    bucket, key = split_s3(uri)
    path = folder / "model.tar.gz"
    answer = Aws(region=region, profile=None).s3("GetObject", Bucket=bucket, Key=key)
    with path.open("wb") as file:
        for chunk in answer["Body"].iter_chunks(1 << 20):
            file.write(chunk)
    return path
