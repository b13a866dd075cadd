"""pack --relabel: labels change where key and content agree, everything else is said, a bad file changes nothing."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from tests.support.pictures import class_folders
from trainers.data import open_dataset
from trainers.data.__main__ import main
from trainers.data.pack.pack import Options, Packed, pack
from trainers.errors import BadData

HEAD = ("key", "image_digest", "label", "suggested", "score")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "photos")


def row(photos: Path, key: str, label: str, suggested: str) -> tuple[str, ...]:
    digest = hashlib.blake2b((photos / key).read_bytes(), digest_size=16).hexdigest()
    return key, digest, label, suggested, "0.01"


def relabel(photos: Path, *rows: tuple[str, ...], delimiter: str = ",", encoding: str = "utf-8") -> Packed:
    """Pack the pictures with a relabel file of these rows."""
    path = photos.parent / "relabel.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([HEAD, *rows])
    return pack(str(photos), photos.parent / "out", Options(form="lst", shares={"train": 1.0}, relabel=path))


def dogs(photos: Path) -> set[bytes]:
    return {path.read_bytes() for path in (photos.parent / "out").rglob("dog/*.png")}


def test_labels_change_and_what_did_not_is_said(photos: Path) -> None:
    cat, dog = "cat/003.png", "dog/001.png"
    packed = relabel(
        photos,
        row(photos, cat, "cat", "dog"),
        row(photos, "cat/004.png", "cat", ""),  # emptied by hand: it stays
        row(photos, dog, "cat", "dog"),  # corrected before
        ("cat/005.png", "0" * 32, "cat", "dog", "0.1"),  # another picture under this name
        ("cat/999.png", "0" * 32, "cat", "dog", "0.1"),
    )
    assert packed.pictures == {"train": [9, 11]}
    assert (photos / cat).read_bytes() in dogs(photos) and (photos / "cat/004.png").read_bytes() not in dogs(photos)
    said = " | ".join(packed.notes)
    assert "relabel.csv: 1 labels changed" in said and "1 rows leave the label" in said
    assert "1 pictures have the suggested label already" in said
    assert "2 not found in" in said and "cat/005.png, cat/999.png" in said


def test_a_label_that_is_a_third_one_by_now_is_left_alone(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", classes=("cat", "dog", "owl"))
    packed = relabel(photos, row(photos, "owl/001.png", "cat", "dog"))
    assert packed.pictures == {"train": [10, 10, 10]}
    assert any("1 left alone" in note and "owl/001.png (owl, not cat)" in note for note in packed.notes)


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_file_saved_by_a_spreadsheet_is_read(photos: Path, delimiter: str, encoding: str) -> None:
    packed = relabel(photos, row(photos, "cat/003.png", "cat", "dog"), delimiter=delimiter, encoding=encoding)
    assert packed.pictures == {"train": [9, 11]}


def test_the_split_is_by_the_corrected_labels(photos: Path) -> None:
    path = photos.parent / "relabel.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEAD, *(row(photos, f"cat/00{n}.png", "cat", "dog") for n in range(5))])
    assert main(["pack", str(photos), str(photos.parent / "out"), "--relabel", str(path)]) == 0
    packed = open_dataset(photos.parent / "out")
    assert [[int((split.labels == label).sum()) for label in (0, 1)] for split in packed.splits.values()] == [
        *([3, 11], [1, 2], [1, 2])
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("cat/003.png", "ab", "cat", "dgo", "0")], r"line 2: suggested 'dgo' is no class \(cat, dog\)"),
        ([("cat/003.png", "ab", "kitten", "dog", "0")], "label 'kitten' is no class"),
        ([("cat/003.png", "ab", "cat", "dog", "0"), ("cat/003.png", "ab", "cat", "cat", "0")], "lines 2 and 3 give"),
        ([("", "ab", "cat", "dog", "0")], "line 2: no key"),
        ([("cat/003.png", "", "cat", "dog", "0")], "line 2: no image_digest"),
    ],
)
def test_a_bad_file_changes_nothing(photos: Path, rows: list[tuple[str, ...]], said: str) -> None:
    with pytest.raises(BadData, match=said):
        relabel(photos, *rows, row(photos, "cat/001.png", "cat", "dog"))
    assert not (photos.parent / "out").exists()


def test_what_is_no_relabel_file_gets_a_sentence(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = photos.parent / "other.csv"
    for data, said in ((b"a,b\n1,2\n", "no column key"), (b"", "no column key"), ("kä".encode("cp1252"), "not UTF-8")):
        path.write_bytes(data)
        assert main(["pack", str(photos), str(photos.parent / "out"), "--relabel", str(path)]) == 2
        assert said in capsys.readouterr().err
    assert main(["pack", str(photos), str(photos.parent / "out"), "--relabel", "nowhere.csv"]) == 2
