"""inspect: the contact sheet shows each class in its row, and the counts that it prints are those of the data."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.pictures import class_folders, image_payloads, write_rec
from trainers.data.__main__ import main
from trainers.data.sheet import draw_sheet
from trainers.errors import BadData


def solid(path: Path, colour: tuple[int, int, int]) -> None:
    """A picture of one RGB colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 20, 3), colour[::-1], np.uint8))


def test_rows_are_classes_and_columns_pictures(tmp_path: Path) -> None:
    for index in range(6):
        solid(tmp_path / "in" / "blue" / f"{index}.png", (0, 0, 250 - index))
        solid(tmp_path / "in" / "red" / f"{index}.png", (250 - index, 0, 0))
    drawn = draw_sheet(str(tmp_path / "in"), tmp_path / "sheet.png", per_class=5)
    assert drawn.counts == {"all": [6, 6]}
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / "sheet.png")), cv2.COLOR_BGR2RGB).astype(int)
    red = (sheet[:, :, 0] > 240) & (sheet[:, :, 1:].max(axis=2) < 5)
    blue = (sheet[:, :, 2] > 240) & (sheet[:, :, :2].max(axis=2) < 5)
    # Five squares of 80 px each (20 px four times over), blue above red: the order of the labels.
    for mask in (red, blue):
        assert 5 * 78 * 78 <= mask.sum() <= 5 * 82 * 82
    assert np.flatnonzero(blue.any(axis=1)).max() < np.flatnonzero(red.any(axis=1)).min()


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    class_folders(tmp_path / "in", 30)
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw_sheet(str(tmp_path / "in"), tmp_path / f"{name}.png", seed=seed)
        files.append((tmp_path / f"{name}.png").read_bytes())
    assert files[0] == files[1] != files[2]


def test_splits_many_classes_and_empty_ones(tmp_path: Path) -> None:
    names = [f"class number {number}" for number in range(70)]
    write_rec(tmp_path / "train.rec", image_payloads(140, num_classes=69))
    write_rec(tmp_path / "test.rec", image_payloads(30, num_classes=30, start=500))
    (tmp_path / "classes.json").write_text(json.dumps({"class_names": names}))
    drawn = draw_sheet(str(tmp_path), tmp_path / "sheet.png", per_class=3)
    assert drawn.shown_classes == 60 and len(drawn.class_names) == 70
    assert drawn.counts["train"][69] == 0 and sum(drawn.counts["test"]) == 30
    assert "first 60 classes" in drawn.text()


def test_unreadable_pictures_show_as_a_cross_and_are_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "in", 3)
    (tmp_path / "in" / "cat" / "001.png").write_bytes(b"nothing")
    drawn = draw_sheet(str(tmp_path / "in"), tmp_path / "sheet.png")
    assert drawn.unreadable == (f"{tmp_path}/in/cat/001.png",)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert (sheet == (40, 40, 200)).all(axis=2).sum() > 200


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "sheet.png"
    assert main(["inspect", "digits", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"] == {"all": [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]}
    assert cv2.imread(str(out)).shape[0] > 500
    assert main(["inspect", "digits", "--out", str(tmp_path / "sheet.jpg")]) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadData, match="cannot be written"):
        draw_sheet("digits", tmp_path / "file" / "sheet.png")
