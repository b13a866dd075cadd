"""Make the pictures in ``docs/pictures``: ``python -m tests.support.screenshots``, with Chromium installed.

They show the pages of a made-up store, the same each time, so that a picture changes when a page does.
"""

from __future__ import annotations

import base64
import io
import os
import pty
import subprocess
import sys
import tempfile
import uuid
from contextlib import redirect_stdout
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from PIL import Image
from rich.console import Console
from rich.text import Text

import reports
from tests.support import ROOT
from tests.support.browser import Browser, browser
from tests.support.runs import demo, new_store

PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 100_000
_COLUMNS = 120


def main() -> None:
    """Write every picture; those no longer made are removed."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        made = make(Path(folder), page)
    for old in set(PICTURES.glob("*.png")) - {PICTURES / name for name in made}:
        old.unlink()
    for name, picture in made.items():
        assert len(picture) < MOST_BYTES, f"{name} has {len(picture):,} bytes"
        (PICTURES / name).write_bytes(picture)
        print(f"{name}: {len(picture):,} bytes")


def make(folder: Path, page: Browser) -> dict[str, bytes]:
    """The pictures by their files' names."""
    filler = new_store(folder)
    random = Random(0)
    with patch("uuid.uuid4", lambda: uuid.UUID(int=random.getrandbits(128), version=4)):  # ids of runs are shown
        runs = demo(filler)
    board, card, terminal = folder / "board.html", folder / "card.html", folder / "terminal.html"
    reports.leaderboard(filler.uri).save(board)
    reports.run_card(runs["transfer"][0], filler.uri).save(card)
    terminal.write_text(in_terminal("reports", "leaderboard", "--store", filler.uri))
    return {
        "leaderboard.png": shot(page, board, 1280, 900),
        "leaderboard-dark.png": shot(page, board, 1280, 900, scheme="dark"),
        "leaderboard-phone.png": shot(page, board, 390, 844),
        "card.png": shot(page, card, 1000, 900),
        "terminal.png": shot(page, terminal, 1000, 700),
        **_of_a_reader(folder / "reader", page),
        **_of_a_job(folder, page),
    }


def _of_a_reader(folder: Path, page: Browser) -> dict[str, bytes]:
    """What the lines of the docs show, typed in a folder of their own: own pictures, a training, its answers."""
    from sklearn.datasets import load_digits

    (folder / "photos").mkdir(parents=True)
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:600], digits.target, strict=False)):
        picture = folder / "photos" / str(label) / f"{number:04}.png"
        picture.parent.mkdir(exist_ok=True)
        scaled = Image.fromarray((image * (255 / 16)).astype("uint8")).convert("RGB")
        scaled.resize((64, 64), Image.Resampling.BICUBIC).save(picture)
    made, run = {}, ["--num-layers", "20", "--epochs", "2", "--learning-rate", "0.02", "--run-name", "digits-20"]
    shown = folder / "shown.html"
    shown.write_text(in_terminal("trainers.run", "--dataset", "digits", *run, folder=folder))
    made["train.png"] = shot(page, shown, 1000, 300)
    in_terminal("trainers.data", "inspect", "photos/", "--out", "sheet.png", folder=folder)
    made["sheet.png"] = small(Image.open(folder / "sheet.png"), 900, 420)
    in_terminal("trainers.predict", "digits-20", "photos/", "--out=a.csv", "--gallery=gallery.html", folder=folder)
    made["gallery.png"] = shot(page, folder / "gallery.html", 1000, 520)
    return made


def _of_a_job(folder: Path, page: Browser) -> dict[str, bytes]:
    """A job of the built-in algorithm in an account that is made up: phases, the end of its log, the list."""
    from tests.support.aws.fake import Plan, ScaledClock
    from tests.support.aws.launches import ROLE, account
    from trainers import jobs, run

    places = [f"--{name}=s3://bucket-one/data/{name}/" for name in ("train", "validation")]
    settings = ["--num-layers=18", "--image-shape=3,224,224", "--num-classes=2", "--num-training-samples=640"]
    job = ["--on=sagemaker-builtin", f"--role={ROLE}", "--output=s3://bucket-one/jobs", "--region=us-east-1", *places]
    plan = Plan(starting_s=20, downloading_s=10, image_s=10, epoch_s=20, uploading_s=5, log_lag_s=1)
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        (folder / "job").mkdir()
        patch.chdir(folder / "job")
        with account(folder / "aws", patch, ScaledClock(60.0), default=plan):
            run.main([*job, *settings, "--epochs=2", "--poll=0.1", "--yes", "--force"])
            print()
            jobs.main(["list"])
    lines = out.getvalue().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("  Docker"))
    (folder / "job.html").write_text(
        _page([*lines[: first + 1], "  …", *lines[-20:]], "trainers.run --on sagemaker-builtin …")
    )
    return {"jobs.png": shot(page, folder / "job.html", 1200, 640)}


def in_terminal(*words: str, folder: Path = ROOT) -> str:
    """What a program prints into a terminal of 120 columns, as a page."""
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(_COLUMNS), "TERM": "xterm-256color"}
    program = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # the program has ended
        pass
    os.close(ours)
    assert program.wait() == 0, said.decode()
    lines = [line.rpartition("\r")[2] for line in said.decode().replace("\r\n", "\n").split("\n")]
    # A terminal shows the bar of a training in one line and erases it at the end.
    lines = [line for line in lines if not Text.from_ansi(line).plain.startswith("epoch ")]
    return _page(lines, " ".join(words))


def _page(lines: list[str], title: str) -> str:
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(lines)), no_wrap=True, crop=True)
    svg = console.export_svg(title=f"python -m {title}")
    return f"<!doctype html><meta charset=utf-8><body style='margin:0'>{svg}"


def shot(page: Browser, file: Path, width: int, height: int, scheme: str = "light") -> bytes:
    """The top of a page as PNG, in 128 colours."""
    phone = width < 600
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(file)
    return small(Image.open(io.BytesIO(base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"]))))


def small(picture: Image.Image, width: int = 1280, height: int = 900) -> bytes:
    """The top of a picture as PNG, in 128 colours."""
    out = io.BytesIO()
    top = picture.crop((0, 0, min(picture.width, width), min(picture.height, height)))
    top.convert("RGB").quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main()
