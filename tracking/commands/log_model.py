"""Log the model of a job of SageMaker's built-in algorithm with its run: what others load, serve and promote.

ARCHIVE is the job's model.tar.gz, or a folder of the same files. It is saved with an ONNX copy beside MXNet's files, so
that it can be used where MXNet is not installed; the scores of its epoch are linked to it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
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
    parser.add_argument("run", metavar="RUN", help="run id, its beginning, or the run's name")
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
    """Log the model and print how far its ONNX copy differs from MXNet."""
    from tracking import run as tracked
    from tracking.models import archive as model_archive
    from tracking.models import facts as model_format
    from tracking.models import gluon

    if not arguments.archive.exists():
        raise ModelError(f"{arguments.archive}: there is no such file or folder.")
    if not model_archive.is_archive(arguments.archive):
        raise ModelError(f"{arguments.archive} is neither a model.tar.gz nor a folder with its files.")
    store = resolve()
    store.check()
    found = store.find_run(arguments.run)
    if found.outputs and found.outputs.model_outputs:
        raise ModelError(f"run {found.info.run_id[:8]} has a model already.")
    resize = found.data.params.get("resize")
    sizes: dict[str, Any] = {
        "image_shape": _image_shape(arguments.archive, found),
        "resize": None if resize is None else int(float(resize)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        gluon.save_model(
            arguments.archive,
            folder,
            class_names=_class_names(arguments.classes),
            epoch=_epoch(arguments, found),
            pictures=_pictures(arguments.pictures, sizes),
            **sizes,
        )
        facts = model_format.read_facts(folder)
        known = facts["onnx"]
        # Only now: what goes wrong before this is no failure of the run.
        with tracked.attach(found.info.run_id, live=store) as attached:
            if "problem" in known:
                attached.set_tags({names.ONNX_PROBLEM: known["problem"]})
            elif known["num_images"]:
                attached.log_metrics({names.ONNX_MAX_DIFFERENCE: known["max_difference"]}, step=facts["epoch"])
            attached.log_artifact(folder)
    print(f"run {found.info.run_id[:8]} has the model of epoch {facts['epoch']}")
    if "problem" in known:
        print(f"it has no ONNX copy: {known['problem']}")
    elif known["num_images"]:
        print(f"its ONNX copy differs from MXNet by at most {known['max_difference']:.2g} in a probability")
    else:
        print("its ONNX copy was not compared with MXNet, which is not installed here")
    return 0


def _epoch(arguments: argparse.Namespace, found: Any) -> int | None:
    """The checkpoint meant: as asked, or among several the one that the run's log calls the best."""
    from tracking.models import archive as model_archive

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


def _image_shape(archive: Path, found: Any) -> tuple[int, int, int]:
    """The shape of the archive, else that of the run's parameters."""
    from tracking.models import archive as model_archive

    shape = model_archive.image_shape(archive)
    if shape is not None:
        return shape
    try:
        channels, height, width = (int(side) for side in found.data.params["image_shape"].split(","))
    except (KeyError, ValueError):
        raise ModelError(
            f"neither {archive} (model-shapes.json) nor the run's parameter image_shape gives the size of its pictures."
        ) from None
    return channels, height, width


def _pictures(paths: list[Path], sizes: dict[str, Any]) -> NDArray[np.uint8] | None:
    """The pictures given, (N, C, H, W), brought to the size that the network takes."""
    import numpy as np

    from tracking.models.serving.pictures import BadPicture, Sizing, read

    sizing = Sizing(sizes)
    found = []
    for path in paths:
        try:
            found.append(sizing.apply(read(path, sizing.channels, served=False)))
        except BadPicture as error:
            raise TrackingError(f"--pictures {path}: {error}") from error
    return np.stack(found) if found else None
