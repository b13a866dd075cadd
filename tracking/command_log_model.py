"""Log the model of a job of SageMaker's built-in algorithm with its run: what others load, serve and promote.

ARCHIVE is the job's model.tar.gz, or a folder of the same files. It is saved with an ONNX copy beside MXNet's files, so
that it can be used where MXNet is not installed; the scores of its epoch are linked to it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import ModelError, TrackingError
from tracking.store import resolve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "log-model"
HELP = "log a model.tar.gz of the built-in algorithm with its run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``log-model``."""
    parser.add_argument("run", metavar="RUN", help="MLflow run id, or its beginning")
    parser.add_argument("archive", metavar="ARCHIVE", type=Path, help="model.tar.gz, or a folder of its files")
    parser.add_argument(
        "--classes",
        metavar="FILE",
        type=Path,
        help="JSON list or classes.json of the names, in order (default: 0, 1, …)",
    )
    parser.add_argument("--epoch", type=int, help="which checkpoint (default: the run's best epoch, or the only one)")
    parser.add_argument(
        "--pictures", nargs="+", type=Path, default=[], metavar="FILE", help="real ones, to compare ONNX and MXNet on"
    )


def run(arguments: argparse.Namespace) -> int:
    """Log the model and say how far its ONNX copy lies from MXNet."""
    from tracking import gluon, model_archive, model_format
    from tracking import run as tracked

    if not arguments.archive.exists():
        raise ModelError(f"{arguments.archive}: there is no such file or folder.")
    if not model_archive.is_archive(arguments.archive):
        raise ModelError(f"{arguments.archive} is no model.tar.gz, nor a folder with its files.")
    store = resolve()
    store.check()
    found = store.find_run(arguments.run)
    if found.outputs and found.outputs.model_outputs:
        raise ModelError(f"run {found.info.run_id[:8]} has a model already.")
    resize = found.data.params.get("resize")
    with tracked.attach(found.info.run_id, live=store) as attached:
        folder = attached.dir / "files" / "model"
        gluon.save_model(
            arguments.archive,
            folder,
            class_names=_class_names(arguments.classes),
            resize=None if resize is None else int(float(resize)),
            epoch=_epoch(arguments, found),
            pictures=_pictures(arguments, found),
        )
        attached.artifact(folder)
    known = model_format.read_facts(folder)["onnx"]
    print(f"run {found.info.run_id[:8]} has the model of epoch {model_format.read_facts(folder)['epoch']}")
    if "problem" in known:
        print(f"it has no ONNX copy: {known['problem']}")
    elif known["num_images"]:
        print(f"its ONNX copy lies at most {known['max_difference']:.2g} from MXNet, in a probability")
    else:
        print("its ONNX copy was not compared with MXNet, which is not installed here")
    return 0


def _epoch(arguments: argparse.Namespace, found: Any) -> int | None:
    """The checkpoint meant: as asked, or among several the one that the run's log calls the best."""
    from tracking import model_archive

    best = found.data.metrics.get(names.BEST_EPOCH)
    if arguments.epoch is not None or best is None or len(model_archive.epochs(arguments.archive)) < 2:
        return arguments.epoch  # type: ignore[no-any-return]
    return int(best)


def _class_names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["class_names"] if isinstance(content, dict) else content
        return [str(name) for name in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(f"{path} names no classes ({type(error).__name__}: {error}); give a JSON list.") from error


def _pictures(arguments: argparse.Namespace, found: Any) -> NDArray[np.uint8] | None:
    """The pictures given, (N, C, H, W), brought to the size that the archive's network takes."""
    import tempfile

    import numpy as np

    from tracking import model_archive
    from tracking.pyfunc_pictures import BadPicture, Sizing, read

    if not arguments.pictures:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        shape = model_archive.take_out(arguments.archive, scratch, epoch=_epoch(arguments, found)).image_shape
    if shape is None:
        raise ModelError(f"{arguments.archive} doesn't tell the size of its pictures; leave --pictures out.")
    resize = found.data.params.get("resize")
    sizing = Sizing({"image_shape": shape, "resize": None if resize is None else int(float(resize))})
    try:
        return np.stack([sizing.apply(read(path, shape[0], served=False)) for path in arguments.pictures])
    except BadPicture as error:
        raise TrackingError(f"--pictures: {error}") from error
