"""The model that AWS's built-in image classification leaves: out of its archive, the right epoch, into MXNet.

Enters: ``model.tar.gz``, or the folder it was unpacked to. Leaves: a network that takes raw 0..255 RGB of shape
``(B, C, H, W)`` and gives logits ``(B, num_classes)``, with the same facts beside it as ``trainers.networks.saved``
gives.

The network is a ``SymbolBlock`` over the graph's inner output. MXNet's inference-bound ``Module`` is not used: it folds
batch norms into convolutions whose output a shortcut needs as well, and then gives wrong numbers without a word.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tracking import names
from trainers.errors import BadData, BadInput, DiskFull
from trainers.files import is_disk_full

if TYPE_CHECKING:
    from trainers.data import Split
    from trainers.data.dataset import SplitsRead
    from trainers.data.pictures.sizing import Fit
    from trainers.training.scores import Scores

MAX_BYTES = 20 * 10**9
_PARAMS = re.compile(r"(?P<prefix>.+)-(?P<epoch>\d{4,})\.params")
_SHAPES = "model-shapes.json"
_LOSSES = ("SoftmaxOutput", "LogisticRegressionOutput", "softmax")


def extract(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack an archive into ``folder`` (made when missing); returns it.

    Only plain files with plain relative names are taken; anything else (links, devices, ``..``, absolute names, a name
    twice, more than ``max_bytes``) is no model of SageMaker's and raises BadInput before it is written; DiskFull.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:*") as tar:
            total = 0
            for member in tar:
                if member.isdir():
                    continue
                target = folder / _safe_name(member, archive)
                total += member.size
                if total > max_bytes:
                    raise BadInput(f"{archive} unpacks to more than {max_bytes:,} bytes; a model is never that large.")
                if member.size > shutil.disk_usage(folder).free:
                    raise DiskFull(
                        f"No room to unpack {archive} into {folder}: {member.name} has {member.size:,} bytes."
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None, member
                with source, target.open("xb") as out:
                    shutil.copyfileobj(source, out)
    except FileExistsError as error:
        raise BadInput(f"{archive}: {error.filename} is there already; unpack into an empty folder.") from error
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"{archive} is no whole tar archive ({error}). Fetch it again.") from error
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No room to unpack {archive} into {folder}.") from error
        raise BadInput(f"{archive} cannot be unpacked: {error}.") from error
    return folder


def is_builtin(folder: Path) -> bool:
    """Whether a folder holds what the built-in writes, rather than this project's own model."""
    return bool(list(folder.glob("*-symbol.json"))) and bool(epochs(folder)) and not (folder / "model.json").exists()


def epochs(folder: Path) -> dict[int, Path]:
    """Epoch (from 1, as the file's number counts) → file of weights, rising."""
    found = {}
    for path in folder.glob("*.params"):
        match = _PARAMS.fullmatch(path.name)
        if match is not None:
            found[int(match["epoch"])] = path
    return dict(sorted(found.items()))


def choose(folder: Path, epoch: int | None = None, best_epoch: int | None = None) -> tuple[int, Path]:
    """The weights to load: ``epoch`` when given, else the only ones, else those of ``best_epoch``.

    ``best_epoch`` is what the job's log says (the archive itself does not). Raises BadInput when that leaves it open:
    the highest number is the last epoch, not the best.
    """
    known = epochs(folder)
    listed = ", ".join(map(str, known))
    if not known:
        raise BadInput(f"{folder} holds no weights of the built-in (image-classification-NNNN.params).")
    wanted = epoch if epoch is not None else next(iter(known)) if len(known) == 1 else best_epoch
    if wanted is None:
        raise BadInput(f"{folder} holds the weights of epochs {listed}; say which, or give the run, whose log knows.")
    if wanted not in known:
        raise BadInput(f"{folder} holds no weights of epoch {wanted}; it has {listed}.")
    return wanted, known[wanted]


def load(folder: Path, epoch: int | None = None, best_epoch: int | None = None) -> tuple[Any, dict[str, Any]]:
    """The network as a hybridized ``SymbolBlock`` that gives logits, and facts like ``modelfiles.load_model``'s.

    ``class_names`` is None: the built-in keeps no names, only numbers. ``fit`` is ``crop``, as in its own validation;
    its endpoint squashes instead. Raises BadInput.
    """
    from trainers.networks import backend as door

    mx = door.load()
    wanted, weights = choose(folder, epoch, best_epoch)
    symbols = sorted(folder.glob("*-symbol.json"))
    if len(symbols) != 1:
        raise BadInput(f"{folder} holds {len(symbols)} graphs (*-symbol.json), one is needed.")
    shape = _image_shape(folder / _SHAPES)
    try:
        with door.quiet():
            # Loading brings the graphs of older versions up to date first.
            symbol = mx.sym.load_json(_in_single_precision(mx.sym.load(str(symbols[0])).tojson()))
            logits, is_multi_label = _logits(symbol)
            net = mx.gluon.SymbolBlock(logits, mx.sym.var("data", dtype="float32"))
            net.collect_params().load(
                str(weights), mx.cpu(), allow_missing=False, ignore_extra=True, cast_dtype=True, dtype_source="current"
            )
            output_shape = logits.infer_shape(data=(1, *shape))[1][0]
    except (mx.MXNetError, ValueError, AssertionError, KeyError, RuntimeError, IndexError) as error:
        reason = (
            (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        )  # MXNet's begins with a traceback
        raise BadInput(
            f"{folder}: graph and weights do not go together ({reason}). Fetch the archive again."
        ) from error
    net.hybridize(static_alloc=True, static_shape=True)
    return net, {
        "format": "sagemaker-builtin",
        "num_classes": int(output_shape[1]),
        "class_names": None,
        "image_shape": list(shape),
        "epoch": wanted,
        "multi_label": is_multi_label,
        "resize": None,
        "fit": "crop",
        "input": "raw RGB 0..255 NCHW" if shape[0] == 3 else "raw grey 0..255 NCHW",
        "output": "logits",
    }


def _safe_name(member: tarfile.TarInfo, archive: Path) -> str:
    name = PurePosixPath(member.name)
    if not member.isfile() or name.is_absolute() or ".." in name.parts or "\\" in member.name or not name.parts:
        raise BadInput(f"{archive} holds {member.name!r}, which no model of SageMaker's does; it is not unpacked.")
    return str(name)


def _image_shape(path: Path) -> tuple[int, int, int]:
    """``(C, H, W)`` of the entry ``data``; the batch size it was trained with is left out."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        shape = next(entry["shape"] for entry in entries if entry["name"] == "data")
        _, channels, height, width = (int(size) for size in shape)
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: without it the network's input size is unknown.") from None
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise BadInput(f"{path} does not say the shape of data ({type(error).__name__}). Fetch it again.") from error
    return channels, height, width


def _in_single_precision(graph: str) -> str:
    """The graph without its casts to float16, which a CPU cannot multiply; the weights keep their rounded values."""
    tree = json.loads(graph)
    for node in tree["nodes"]:
        for key, value in node.get("attrs", {}).items():
            if key in ("dtype", "__dtype__") and value in ("float16", "2"):
                node["attrs"][key] = "float32" if key == "dtype" else "0"
    return json.dumps(tree)


def _logits(symbol: Any) -> tuple[Any, bool]:
    """What goes into the graph's loss, and whether that is one for several labels a picture."""
    graph = json.loads(symbol.tojson())
    nodes = graph["nodes"]
    head = nodes[graph["heads"][0][0]]
    if head["op"] not in _LOSSES:
        return symbol, False
    source, output = head["inputs"][0][:2]
    name = nodes[source]["name"]
    internals = symbol.get_internals()
    several = [o for o in internals.list_outputs() if o in (name, f"{name}_output", f"{name}_output{output}")]
    return internals[several[0]], head["op"] == "LogisticRegressionOutput"


_BATCH = 256


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
        archive = _fetch(place, region)
    else:
        archive = Path(place).expanduser()
        if not archive.exists():
            raise BadInput(f"--model {place}: there is no such file or folder.")
    folder = archive
    if archive.is_file():
        folder = extract(archive, Path(tempfile.mkdtemp(prefix="model-")))
    net, facts = load(folder, best_epoch=best_epoch)
    if facts["multi_label"]:
        raise BadInput(f"{place} gives several labels a picture; its accuracy is not computed here.")
    return Model(net, facts)


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
    found = score(model, dataset, validation, "crop").accuracy
    allowed = float(run.data.params.get("mini_batch_size", 32)) / len(validation)
    verdict = "agrees with" if abs(found - logged) <= allowed else "CONTRADICTS"
    return f"Validation accuracy computed here, {found:.4f}, {verdict} the job's log, {logged:.4f} (± {allowed:.4f})."


def _fetch(uri: str, region: str | None) -> Path:
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.aws.uri import split_s3

    bucket, key = split_s3(uri)
    path = Path(tempfile.mkdtemp(prefix="model-")) / "model.tar.gz"
    answer = Aws(region=region, profile=None).s3("GetObject", Bucket=bucket, Key=key)
    with path.open("wb") as file:
        for chunk in answer["Body"].iter_chunks(1 << 20):
            file.write(chunk)
    return path
