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
from pathlib import Path
from random import Random
from unittest.mock import patch

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
    terminal.write_text(f"<!doctype html><meta charset=utf-8><body style='margin:0'>{in_terminal(filler.uri)}")
    return {
        "leaderboard.png": shot(page, board, 1280, 900),
        "leaderboard-dark.png": shot(page, board, 1280, 900, scheme="dark"),
        "leaderboard-phone.png": shot(page, board, 390, 844),
        "card.png": shot(page, card, 1000, 900),
        "terminal.png": shot(page, terminal, 1000, 700),
    }


def in_terminal(store: str) -> str:
    """What the leaderboard prints into a terminal of 120 columns, as SVG."""
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "reports", "leaderboard", "--store", store]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(_COLUMNS), "TERM": "xterm-256color"}
    program = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # the program has ended
        pass
    os.close(ours)
    assert program.wait() == 0, said.decode()
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(said.decode().replace("\r\n", "\n")))
    return console.export_svg(title="python -m reports leaderboard")


def shot(page: Browser, file: Path, width: int, height: int, scheme: str = "light") -> bytes:
    """The top of a page as PNG, in 128 colours."""
    phone = width < 600
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
    page.call("Emulation.setScrollbarsHidden", hidden=True)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(file)
    data = base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main()
