# PYTHON_ARGCOMPLETE_OK
"""``python -m trainers.data pack|check|relist|inspect``: bring pictures into the form a job accepts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tracking import __version__
from tracking.errors.program import program_parser, run_program
from tracking.names import SPLITS


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: done (check: clean), 1: failed (check: problems found), 2: bad input, 130: interrupted."""
    return run_program("trainers.data", lambda: _act(argv), broken_pipe=0)


def _act(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    return int(arguments.command(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = program_parser("trainers.data", __version__, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="pack|check|relist|inspect")

    pack = commands.add_parser(
        "pack", help="write a source as records or as a list with pictures, split and laid out for the upload"
    )
    pack.set_defaults(command=_pack)
    pack.add_argument(
        "source", metavar="SRC", help="a folder, list, manifest, .rec or named set, as --dataset takes it"
    )
    pack.add_argument("out", metavar="OUT", type=Path, help="the folder to write; it appears whole or not at all")
    pack.add_argument(
        "--format", choices=("rec", "lst"), default="rec", help="rec: one .rec a channel; lst: pictures + list"
    )
    pack.add_argument(
        "--split", type=_shares, metavar="NAME=SHARE,…", help="default: train=0.8,validation=0.1,test=0.1"
    )
    pack.add_argument("--seed", type=_natural, default=0, help="of the split and of the order (default 0)")
    pack.add_argument("--resize", type=_positive, metavar="PX", help="shortest side; pictures are encoded anew")
    pack.add_argument(
        "--quality", type=_quality, metavar="1..100", help="encode every picture anew as JPEG (default 95)"
    )
    pack.add_argument("--num-thread", type=_positive, default=0, metavar="N", help="default: one a processor")
    pack.add_argument("--skip-bad", action="store_true", help="list and leave out pictures that cannot be read")
    pack.add_argument(
        "--relabel", type=Path, metavar="FILE.csv", help="labels to correct: the edited file of reports mistakes"
    )
    pack.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")

    check = commands.add_parser("check", help="what the data is, and every problem that would stop a job")
    check.set_defaults(command=_check)
    check.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a data set, or several: its splits")
    check.add_argument("--num-classes", type=_positive, metavar="N")
    check.add_argument("--multi-label", action="store_true", help="each picture has a 0 or 1 for each class")
    check.add_argument("--image-shape", type=_shape, metavar="C,H,W", help="what the job is going to crop to")
    check.add_argument("--resize", type=_positive, metavar="PX", help="the job's resize, if it has one")
    check.add_argument(
        "--content-type",
        metavar="T",
        help="the content type that the job will be given, such as application/x-recordio",
    )
    check.add_argument("--mini-batch-size", type=_positive, metavar="B")
    check.add_argument(
        "--fast", action="store_true", help="headers alone: nothing is decoded, duplicates are not found"
    )
    check.add_argument(
        "--within", action="store_true", help="look for near-duplicates inside each split too, not only across"
    )
    check.add_argument("--num-thread", type=_positive, default=0, metavar="N", help="default: one a processor")

    relist = commands.add_parser(
        "relist", help="write a list anew as a job reads it: tabs, numbers, paths below the root, one line a picture"
    )
    relist.set_defaults(command=_relist)
    relist.add_argument("list", metavar="LIST", type=Path, help="a list in whatever form its writer gave it")
    relist.add_argument("out", metavar="OUT.lst", type=Path, help="the list to write; it must not be there yet")

    inspect = commands.add_parser("inspect", help="a contact sheet: a few pictures per class, and the class histogram")
    inspect.set_defaults(command=_inspect)
    inspect.add_argument("path", metavar="PATH", help="a data set, as --dataset takes it")
    inspect.add_argument("--out", type=Path, default=Path("sheet.png"), metavar="FILE.png", help="default: sheet.png")
    inspect.add_argument("--per-class", type=_positive, default=8, metavar="N", help="pictures a class (default 8)")
    inspect.add_argument("--seed", type=_natural, default=0, help="which pictures (default 0)")

    for command in (pack, check):
        command.add_argument(
            "--group",
            metavar="N|REGEX|COLUMN",
            help="what tells a picture's source (patient, film, seller), which must be in one split: the N-th folder"
            " above the file, a regular expression's group in its path, or a manifest's column",
        )
    for command in (pack, check, relist, inspect):
        command.add_argument("--image-root", type=Path, metavar="DIR", help="where the paths of a list start")
    for command in (pack, check, inspect):
        command.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _pack(arguments: argparse.Namespace) -> int:
    from trainers.data.pack.pack import Options, pack, packed_json, packed_text

    started = time.perf_counter()
    options = Options(
        form=arguments.format,
        shares=arguments.split,
        seed=arguments.seed,
        resize=arguments.resize,
        quality=arguments.quality,
        num_thread=arguments.num_thread,
        skip_bad=arguments.skip_bad,
        image_root=arguments.image_root,
        relabel=arguments.relabel,
        overwrite=arguments.overwrite,
        group=arguments.group,
    )
    _one_opencv_thread()
    packed = pack(arguments.source, arguments.out, options, _Progress("packed") if sys.stderr.isatty() else None)
    elapsed_s = time.perf_counter() - started
    _print(packed_json(packed, elapsed_s) if arguments.json else packed_text(packed, elapsed_s))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from trainers.data.check.check import Job, check
    from trainers.data.check.report import checked_json, checked_text

    job = Job(
        num_classes=arguments.num_classes,
        num_labels=(arguments.num_classes or 0) if arguments.multi_label else 1,
        image_shape=arguments.image_shape,
        resize=arguments.resize,
        content_type=arguments.content_type,
        mini_batch_size=arguments.mini_batch_size,
    )
    _one_opencv_thread()
    checked = check(
        arguments.paths,
        job,
        image_root=arguments.image_root,
        fast=arguments.fast,
        threads=arguments.num_thread,
        within=arguments.within,
        group=arguments.group,
    )
    _print(checked_json(checked) if arguments.json else checked_text(checked))
    return checked.exit_code


def _relist(arguments: argparse.Namespace) -> int:
    from trainers.data.pack.relist import relist

    print(relist(arguments.list, arguments.out, arguments.image_root).text())
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from trainers.data.sheet import draw_sheet

    drawn = draw_sheet(
        arguments.path,
        arguments.out,
        image_root=arguments.image_root,
        per_class=arguments.per_class,
        seed=arguments.seed,
    )
    _print(drawn.as_dict() if arguments.json else drawn.text())
    return 0


def _print(what: str | dict[str, Any]) -> None:
    print(what if isinstance(what, str) else json.dumps(what, indent=1, ensure_ascii=False))


def _one_opencv_thread() -> None:
    """Pictures are spread over threads here; OpenCV's own would only stand in the way."""
    from trainers.data.pictures.codec import opencv

    cv2 = opencv()
    if cv2 is not None:
        cv2.setNumThreads(1)


class _Progress:
    """One line on a terminal, rewritten at most five times a second."""

    def __init__(self, word: str) -> None:
        self._word, self._next_s = word, 0.0

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s or done == total:
            self._next_s = now_s + 0.2
            print(
                f"\r{self._word} {done:,} of {total:,}", end="\n" if done == total else "", file=sys.stderr, flush=True
            )


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.strip().partition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not equals or name not in SPLITS or name in shares or not 0 <= share <= 1:
            raise argparse.ArgumentTypeError(
                f"{part!r}: expected train=SHARE,validation=SHARE,test=SHARE with shares from 0 to 1, such as"
                " train=0.8,validation=0.1,test=0.1"
            )
        shares[name] = share
    if "train" in shares and abs(sum(shares.values()) - 1) > 1e-6:
        raise argparse.ArgumentTypeError(f"{text!r}: the shares add up to {sum(shares.values()):g}, not 1")
    return shares


def _number(text: str, low: int, high: int, words: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number {words}")
    return number


def _positive(text: str) -> int:
    return _number(text, 1, 2**31 - 1, "of at least 1")


def _natural(text: str) -> int:
    return _number(text, 0, 2**31 - 1, "of at least 0")


def _quality(text: str) -> int:
    return _number(text, 1, 100, "from 1 to 100")


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text!r}: expected C,H,W, such as 3,224,224")
    channels, height, width = (_positive(part.strip()) for part in parts)
    if channels not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r}: C must be 1 or 3")
    return channels, height, width


if __name__ == "__main__":
    sys.exit(main())
