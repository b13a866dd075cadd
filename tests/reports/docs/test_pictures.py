"""The pictures in ``docs/`` are small, whole, and all of them shown."""

from __future__ import annotations

from PIL import Image

from tests.support import ROOT
from tests.support.screenshots import MOST_BYTES, PICTURES


def test_each_picture_is_small_whole_and_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
    pictures = sorted(PICTURES.iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < MOST_BYTES, picture.name
        with Image.open(picture) as opened:
            opened.load()
            assert opened.format == "PNG" and min(opened.size) >= 300
        assert f"pictures/{picture.name}" in shown, picture.name
