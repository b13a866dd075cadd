"""Augmented manifests of Ground Truth: read as training data, checked, and said what they are where they are not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.pictures import class_folders
from trainers.data import open_dataset
from trainers.data.check.check import Job, check
from trainers.data.pack.pack import Options, pack
from trainers.errors import BadData

NAMES = ("cat", "dog")


def lines(prefix: str = "s3://bucket/pics/") -> list[dict[str, Any]]:
    return [
        {
            "source-ref": f"{prefix}{name}/{index:03}.png",
            "animal": label,
            "animal-metadata": {"class-name": name, "confidence": 0.9, "type": "groundtruth/image-classification"},
        }
        for label, name in enumerate(NAMES)
        for index in range(10)
    ]


def manifest(folder: Path, rows: list[Any], name: str = "output.manifest") -> Path:
    (folder / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return folder / name


@pytest.mark.parametrize("prefix", ["s3://bucket/pics/", "s3://bucket/", "pics/", "/home/someone/deep/pics/"])
def test_the_pictures_are_found_below_the_root(tmp_path: Path, prefix: str) -> None:
    class_folders(tmp_path / "pics")
    data = open_dataset(manifest(tmp_path, lines(prefix)), image_root=tmp_path / "pics")
    assert data.class_names == NAMES and {name: len(split) for name, split in data.splits.items()} == {
        "train": 14,
        "validation": 2,
        "test": 4,
    }
    assert data.train.digest == open_dataset(tmp_path / "pics").train.digest
    checked = check([manifest(tmp_path, lines(prefix))], Job(num_classes=2), image_root=tmp_path / "pics")
    assert checked.findings == [] and checked.parts[0].counts() == {0: 10, 1: 10}


def test_pack_takes_it_and_other_names_are_known_by_their_content(tmp_path: Path) -> None:
    class_folders(tmp_path)
    path = manifest(tmp_path, lines(), "val_manifest.json")
    assert pack(str(path), tmp_path / "out", Options()).num_pictures == 20
    assert check([path], Job()).parts[0].kind == "augmented manifest"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda row: {"source-ref": row["source-ref"], "class": str(row["animal"])}, ("0", "1")),
        (lambda row: {"image-ref": row["source-ref"], "label": row["animal-metadata"]["class-name"]}, NAMES),
        (lambda row: {**row, "animal": float(row["animal"])}, NAMES),
        (lambda row: {**row, "audit": 1, "audit-metadata": {"type": "groundtruth/label-verification"}}, NAMES),
        (
            lambda row: {
                "source-ref": row["source-ref"],
                f"set_{row['animal-metadata']['class-name']}": 1,
                f"set_{row['animal-metadata']['class-name']}-metadata": row["animal-metadata"],
            },
            NAMES,
        ),
    ],
    ids=["documentation", "names", "floats", "two jobs", "Rekognition"],
)
def test_labels_in_the_forms_that_tools_write(tmp_path: Path, change: Any, names: tuple[str, ...]) -> None:
    class_folders(tmp_path)
    data = open_dataset(manifest(tmp_path, [change(row) for row in lines()]))
    assert data.class_names == names and len(data.train) == 14


def test_lines_without_a_label_are_left_out_and_found(tmp_path: Path) -> None:
    class_folders(tmp_path)
    failed = {"source-ref": "s3://bucket/pics/x.png", "animal-metadata": {"failure-reason": "annotation missing"}}
    path = manifest(tmp_path, [*lines(), failed])
    assert open_dataset(path).notes[0] == "1 line(s) left out: line 21 has no label (annotation missing)"
    (finding,) = check([path], Job()).findings
    assert finding.code == "manifest-no-label" and finding.examples == ("line 21 has no label (annotation missing)",)
    command = finding.fix.split(", or ")[0].replace("OUT", str(tmp_path / "good"))
    subprocess.run(command, shell=True, check=True)
    assert check([tmp_path / "good.manifest"], Job()).findings == []


def test_pictures_that_are_in_s3_alone(tmp_path: Path) -> None:
    path = manifest(tmp_path, lines())
    (finding,) = check([path], Job(num_classes=2)).findings
    assert finding.code == "manifest-elsewhere" and finding.level == "unchecked" and finding.count == 20
    assert "aws s3 sync s3://bucket/pics DIR, then give --image-root DIR" in finding.examples[0]
    with pytest.raises(BadData, match=r"20 of 20 pictures are not on this machine.*aws s3 sync s3://bucket/pics DIR"):
        open_dataset(path)
    codes = {found.code for found in check([path], Job(num_classes=1)).findings}
    assert codes == {"manifest-elsewhere", "label-out-of-range"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{'image-ref': s3://path/to/image, 'label': 3}", "JSON wants double quotes"),
        ('[{"prefix": "s3://bucket/"}, "a.jpg"]', "a list of keys below a prefix"),
        ("[1, 2]", "is a JSON array"),
        ({"source": "a text", "label": 0}, "has text, no picture"),
        ({"label": 0}, "no source-ref"),
        ({"source-ref": "s3://b/a.jpg", "class": [1, 0, 0]}, "has 3 labels under 'class'"),
        ({"source-ref": "s3://b/a.jpg", "class": "[1, 0]"}, "has 2 labels under 'class'"),
        ({"source-ref": "s3://b/a.jpg", "class": None}, "has no label"),
        (
            {
                "source-ref": "s3://b/a.jpg",
                "b": {"annotations": []},
                "b-metadata": {"type": "groundtruth/object-detection"},
            },
            "has groundtruth/object-detection under 'b', not one class",
        ),
        (
            {"source-ref": "s3://b/a.json", "v-ref": "s3://b/o.json", "v-ref-metadata": {"type": "groundtruth/video"}},
            "video",
        ),
    ],
)
def test_other_lines_are_said_to_be_what_they_are(tmp_path: Path, row: Any, words: str) -> None:
    path = manifest(tmp_path, [row])
    finding = check([path], Job()).findings[0]
    assert finding.code in ("manifest-line", "manifest-no-label") and words in finding.examples[0]
    with pytest.raises(BadData, match="no line has a picture and a label: line 1 "):
        open_dataset(path)


def test_two_attributes_that_may_be_the_label_are_not_guessed(tmp_path: Path) -> None:
    class_folders(tmp_path)
    rows = [{"source-ref": row["source-ref"], "colour": 1, "animal": row["animal"]} for row in lines()]
    with pytest.raises(BadData, match=r"2 attributes that may be the label \(animal, colour\)"):
        open_dataset(manifest(tmp_path, rows))
    twice = [*lines(), {**lines()[0], "animal-metadata": {**lines()[0]["animal-metadata"], "class-name": "cow"}}]
    with pytest.raises(BadData, match="label 0 is called 'cow' here and 'cat' before"):
        open_dataset(manifest(tmp_path, twice))


def test_no_path_leaves_the_root(tmp_path: Path) -> None:
    class_folders(tmp_path / "secret")
    (tmp_path / "root").mkdir()
    path = manifest(tmp_path / "root", lines("../secret/"))
    with pytest.raises(BadData, match="not on this machine"):
        open_dataset(path)
