# PYTHON_ARGCOMPLETE_OK
"""Classify pictures with a trained model: ``python -m trainers.predict RUN|MODEL PATHS…``. Needs no MXNet.

The answers come in the order of the pictures; a picture that cannot be read is listed with its reason and keeps no
other one out. Nothing is written to the run.

Exit codes: 0 every picture was answered, 1 some were not, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tracking import __version__, names
from tracking.errors import RunNotFound
from tracking.errors.program import drawn, program_parser, run_program
from tracking.errors.words import csv_cell, plural
from trainers.errors import BadData, BadInput, whole_file

if TYPE_CHECKING:
    from tracking.models.serving.model import PictureModel
    from tracking.store import Store
    from trainers.data.readers.loose import LeftOut, Loose

_BATCH = 64
_AHEAD = 16
_S3_THREADS = 8  # they wait for the network more than they decode
_THUMBNAIL_PX = 128
_EPILOG = """
what answers (RUN|MODEL):
  3f2a91c4                     a run: its id, the beginning of it, or its name where only one run has it
  models:/digits@champion      a registered model; also models:/digits/2, models:/m-…, runs:/RUN/model
  exported/                    a folder with a saved model
  model.tar.gz                 what a SageMaker job leaves; --classes gives the names that the built-in's archive lacks

what is answered (PATHS):
  pictures (JPEG, PNG, BMP, WebP, TIFF), folders with all that is below them, lists (.lst), records (.rec), and
  s3://bucket/prefix. In folders, hidden files and files that are no pictures are left out. Pictures are decoded and
  brought to size as in training: a JPEG is turned upright as its EXIF says, transparency is dropped.

what comes out:
  a line a picture, or with --out a CSV file with a row a picture, in the order of the pictures:
    path, class, probability, class_2, probability_2, … (as many as --top), problem
  Where a picture cannot be read, problem says why and the other cells are empty.

These are answers, not a score. Where the right classes are known (a folder for each class, a list), measure with:
  python -m trainers.evaluate RUN --dataset PATH

examples:
  python -m trainers.predict 3f2a91c4 photos/
  python -m trainers.predict models:/digits@champion photos/ more/*.jpg --out answers.csv
  python -m trainers.predict 3f2a91c4 s3://bucket/photos/ --top 1 --gallery page.html
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The likeliest classes of one picture with their probabilities, best first; none where there is a ``problem``.

    ``thumbnail`` is an encoded picture, empty where none was asked for.
    """

    path: str
    classes: tuple[tuple[str, float], ...] = ()
    problem: str = ""
    thumbnail: bytes = b""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises for what the user did."""
    return run_program("trainers.predict", lambda: _main(_parser().parse_args(argv)))


def predict(
    model: PictureModel, pictures: Iterator[Loose], *, top: int, thumbnails: bool = False, threads: int = 2
) -> Iterator[Answer]:
    """Answers in the order of ``pictures``, a batch in memory at a time."""
    from trainers.data.pictures.threads import in_order

    batch: list[tuple[Answer, Any]] = []
    for seen in in_order(lambda one: _look(model, one, thumbnails), pictures, threads, _AHEAD):
        batch.append(seen)
        if len(batch) == _BATCH:
            yield from _answered(model, batch, top)
            batch = []
    yield from _answered(model, batch, top)


def _look(model: PictureModel, picture: Loose, thumbnail: bool) -> tuple[Answer, Any]:
    """One picture as the network takes it, (C, H, W) uint8; None where there is a problem."""
    from tracking.models.serving.pictures import BadPicture
    from trainers.data.pictures import codec
    from trainers.data.readers import loose
    from trainers.sagemaker.errors import AwsError

    try:
        data = picture.read()
        loose.demand_picture(data)
        pixels = codec.decode(data, model.sizing.channels, "")
        sized = model.sizing.apply(pixels)
        small = _thumbnail(pixels) if thumbnail else b""
    except (BadData, BadPicture, AwsError, MemoryError) as error:
        return Answer(path=picture.path, problem=str(error).removeprefix(": ") or type(error).__name__), None
    return Answer(path=picture.path, thumbnail=small), sized


def _answered(model: PictureModel, batch: list[tuple[Answer, Any]], top: int) -> Iterator[Answer]:
    import numpy as np

    sized = [pixels for _, pixels in batch if pixels is not None]
    rows = iter(model.probabilities(np.stack(sized).transpose(0, 2, 3, 1)) if sized else ())
    for answer, pixels in batch:
        if pixels is None:
            yield answer
            continue
        row = next(rows)
        best = [int(index) for index in np.argsort(-row, kind="stable")[:top]]
        classes = tuple((model.class_names[index], float(row[index])) for index in best)
        yield Answer(path=answer.path, classes=classes, thumbnail=answer.thumbnail)


def _thumbnail(pixels: Any) -> bytes:
    from trainers.data.pictures import codec, sizing

    height, width = pixels.shape[:2]
    share = min(1.0, _THUMBNAIL_PX / max(height, width))
    small = sizing.resized(pixels, max(1, round(height * share)), max(1, round(width * share)), area=True)
    return codec.encode(small, 80)[0]


@contextmanager
def open_model(
    name: str, store: Store, *, classes: Path | None = None, epoch: int | None = None
) -> Iterator[tuple[PictureModel, str]]:
    """The model that ``name`` means, see ``--help``, and the run it is of, "" where that is not known.

    ``classes`` and ``epoch`` are for archives. Raises BadInput, TrackingError.
    """
    from tracking.models import archive as archives
    from tracking.models.facts import META
    from tracking.models.serving.files import DamagedModel
    from tracking.models.serving.model import PictureModel
    from tracking.store import logged_models
    from trainers.sagemaker.builtin import model as builtin

    path, run, run_id = Path(name).expanduser(), None, ""
    with ExitStack() as opened:
        if name.startswith(("models:/", "runs:/")):
            folder = opened.enter_context(logged_models.folder_of(store, name))
        elif os.path.exists(path):
            folder = path
        else:
            scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="model-")))
            folder, run_id, run = _of_run(name, store, scratch)
        if not (folder / META).is_file():
            if not archives.is_archive(folder):
                raise BadInput(f"{name} is no model: expected a folder with {META}, or a model.tar.gz.")
            made = builtin.saved(folder, class_names=_class_names(classes), epoch=epoch, run=run)
            folder = opened.enter_context(made)
        elif classes is not None or epoch is not None:
            raise BadInput(
                "--classes and --epoch are for a model.tar.gz; this model has its class names and one epoch."
            )
        try:
            model = PictureModel(folder)
        except (DamagedModel, ImportError) as error:
            raise BadInput(f"{name}: {error}") from error
        yield model, run_id or _run_of(folder)


def _of_run(name: str, store: Store, scratch: Path) -> tuple[Path, str, Any]:
    """A run's model: in its journal, which needs no server, else where MLflow has it, else the job's archive.

    With the run's id, and the run itself where it was looked up.
    """
    from tracking.models.facts import META
    from tracking.store import logged_models
    from trainers.sagemaker.builtin import model as builtin

    try:
        kept = store.journal_dir(name) / "files" / "model"
    except RunNotFound:
        kept = None
    if kept is not None and (kept / META).is_file():
        return kept, name, None
    run = _find_run(name, store)
    folder = logged_models.fetch(store.client(), run, "model", scratch / "model")
    archive = run.data.tags.get(names.MODEL_URI)
    if folder is None and archive:
        region = run.data.tags.get(names.REGION)
        folder = builtin.fetch_archive(archive, region, scratch) if archive.startswith("s3://") else Path(archive)
    if folder is None:
        raise BadInput(
            f"run {run.info.run_id} has no model: it did not get that far, or was trained with --keep-model none."
        )
    return folder, run.info.run_id, run


def _find_run(name: str, store: Store) -> Any:
    try:
        return store.find_run(name)
    except RunNotFound as error:
        raise BadInput(
            f"{name!r} is no model: neither a file or folder, nor models:/… or runs:/…, nor the id or name of a run"
            f" ({error})"
        ) from error


def _class_names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [str(one) for one in (content["class_names"] if isinstance(content, dict) else content)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"--classes {path}: {error}; give a JSON list, or classes.json.") from error


def _run_of(folder: Path) -> str:
    """The run that MLflow's description of a model names."""
    from tracking.models.facts import MLMODEL

    try:
        lines = (folder / MLMODEL).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("run_id:")), "")


def _sources(arguments: argparse.Namespace, left_out: LeftOut) -> Iterator[Loose]:
    """Every picture of every path, in order."""
    from trainers.data.readers import loose
    from trainers.sagemaker.aws import objects
    from trainers.sagemaker.aws.uri import is_s3

    aws = None
    for path in arguments.paths:
        if not is_s3(path):
            root = None if arguments.image_root is None else Path(arguments.image_root)
            yield from loose.pictures(path, root, left_out)
            continue
        if aws is None:
            from trainers.sagemaker.aws.client import Aws

            aws = Aws(region=arguments.region, profile=arguments.profile)
        yield from objects.pictures(path, aws, left_out)


class _Table:
    """The CSV file, or without one a line a picture on standard output."""

    def __init__(self, file: TextIO | None, top: int) -> None:
        self._top = top
        self._rows = None if file is None else csv.writer(file, lineterminator="\n")
        if self._rows is not None:
            ends = ["", *(f"_{rank}" for rank in range(2, top + 1))]
            self._rows.writerow(
                ["path", *(f"{cell}{end}" for end in ends for cell in ("class", "probability")), "problem"]
            )

    def add(self, answer: Answer) -> None:
        if self._rows is not None:
            cells = [cell for name, share in answer.classes for cell in (name, f"{share:.6f}")]
            self._rows.writerow(map(csv_cell, [answer.path, *(cells or [""] * 2 * self._top), answer.problem]))
        elif answer.classes:
            said = ", ".join(f"{name} {100 * share:.1f} %" for name, share in answer.classes)
            print(_shown(f"{answer.path}  {said}"))
        if answer.problem:
            print(_shown(f"{answer.path}: not answered: {answer.problem}"), file=sys.stderr)


def _main(arguments: argparse.Namespace) -> int:
    from reports.runs.gallery import Gallery
    from tracking import store as stores
    from trainers.data.readers.loose import LeftOut
    from trainers.sagemaker.aws.uri import is_s3

    if arguments.top < 1:
        raise BadInput(f"--top {arguments.top} is out of range: 1 or more.")
    for option, path in (("--out", arguments.out), ("--gallery", arguments.gallery)):
        if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            raise BadInput(f"{option} {path} cannot be written; give a file in a folder that is there.")
    left_out, counts, gallery = LeftOut(), Counter[bool](), Gallery() if arguments.gallery else None
    asked = False
    with ExitStack() as opened:
        place = open_model(arguments.model, stores.resolve(), classes=arguments.classes, epoch=arguments.epoch)
        model, run_id = opened.enter_context(place)
        top = min(arguments.top, len(model.class_names))
        bar = opened.enter_context(_progress(arguments.out is not None))
        file = None
        if arguments.out is not None:
            file = opened.enter_context(_written(arguments.out))
        table = _Table(file, top)
        answers = predict(
            model,
            _sources(arguments, left_out),
            top=top,
            thumbnails=gallery is not None,
            threads=_S3_THREADS if any(map(is_s3, arguments.paths)) else 2,
        )
        try:
            for answer in answers:
                table.add(answer)
                counts[bool(answer.problem)] += 1
                if gallery is not None:
                    gallery.add(_shown(answer.path), answer.classes, _shown(answer.problem), answer.thumbnail)
                bar()
        except KeyboardInterrupt:
            asked = True  # what was answered until now is kept
        if not counts and not asked:
            raise BadInput(f"no picture in {', '.join(arguments.paths)}. {left_out}".strip())
    if gallery is not None:
        from reports.document.html import render

        with _written(arguments.gallery) as page:
            page.write(render(gallery.document(arguments.model)))
    _say_end(arguments, model, run_id, counts, left_out)
    if asked:
        raise KeyboardInterrupt(f"interrupted after the first {counts.total():,} pictures; their answers are kept")
    return 1 if counts[True] else 0


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A text file that appears whole; a name in it that is no UTF-8 stops nothing. Raises DiskFull."""
    with (
        whole_file(path, "Free some space, or write it to another disk.") as part,
        open(part, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


def _say_end(
    arguments: argparse.Namespace, model: PictureModel, run_id: str, counts: Counter[bool], left_out: LeftOut
) -> None:
    """What is not an answer, on standard error."""
    from trainers.data.readers.loose import is_labelled

    where = f": {arguments.out}" if arguments.out else ""
    failed = f", {counts[True]:,} not" if counts[True] else ""
    print(f"{plural(counts[False], 'picture')} answered{failed}{where}", file=sys.stderr)
    if left_out.count:
        print(_shown(f"note: {left_out}"), file=sys.stderr)
    for path in arguments.paths:
        if is_labelled(path, model.class_names):
            root = f" --image-root {arguments.image_root}" if arguments.image_root else ""
            print(
                f"note: {path} says which class each picture has; answers are no score. To measure the model on it:"
                f" python -m trainers.evaluate {run_id[:8] or 'RUN'} --dataset {shlex.quote(path)}{root}",
                file=sys.stderr,
            )


def _shown(text: str) -> str:
    """Text fit for a terminal, whatever a file's name holds."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


@contextmanager
def _progress(wanted: bool) -> Iterator[Callable[[], None]]:
    """On a terminal a line with the count of pictures done; what is to be called after each."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.completed:,.0f} pictures")
    console = Console(file=drawn(sys.stderr))
    with Progress(SpinnerColumn(), text, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda: bar.advance(task)


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        "trainers.predict",
        __version__,
        description="Classify pictures with a trained model. MXNet is not needed where the model has its ONNX copy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="RUN|MODEL", help="what answers, see below")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="what is answered, see below")
    parser.add_argument("--out", metavar="FILE.csv", type=Path, help="write the answers to this file")
    parser.add_argument("--top", metavar="N", type=int, default=3, help="how many classes a picture (default 3)")
    parser.add_argument(
        "--gallery",
        metavar="FILE.html",
        type=Path,
        help="also write a page with the pictures, least sure first (at most 400)",
    )
    parser.add_argument("--image-root", metavar="DIR", help="folder that the paths of a list start from")
    parser.add_argument("--classes", metavar="FILE", type=Path, help="JSON list of class names, for a model.tar.gz")
    parser.add_argument("--epoch", metavar="N", type=int, help="which of the epochs that a model.tar.gz holds")
    parser.add_argument("--region", help="region of s3:// paths (default: as AWS's own files and variables say)")
    parser.add_argument("--profile", help="profile in AWS's files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
