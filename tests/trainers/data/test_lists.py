"""Lists and manifests: what they say, what they may reach, and what is refused with the line it stands in."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pictures import class_folders, listed_folder, picture, write_list
from trainers.data import open_dataset
from trainers.data.readers.lists import Row, parse
from trainers.data.readers.paths import Root
from trainers.errors import BadData


def test_list_with_root_is_the_folder_it_lists(tmp_path: Path) -> None:
    path = listed_folder(tmp_path / "root")
    data = open_dataset(path, image_root=tmp_path / "root")
    assert sum(len(split) for split in data.splits.values()) == 20
    assert data.train.digest == open_dataset(tmp_path / "root").train.digest
    assert data.train.keys[0].startswith("cat/")


def test_list_paths_start_from_its_own_folder_without_a_root(tmp_path: Path) -> None:
    path = listed_folder(tmp_path, list_path=tmp_path / "all.lst")
    assert open_dataset(path).facts.num_classes == 2
    moved = path.rename(tmp_path / "cat" / "all.lst")
    with pytest.raises(BadData, match="--image-root must be the folder"):
        open_dataset(moved)


def test_bom_windows_line_ends_blank_lines_and_float_labels_are_read(tmp_path: Path) -> None:
    path = listed_folder(tmp_path, list_path=tmp_path / "all.lst")
    lines = path.read_text().replace("\t0\t", "\t0.000000\t").replace("\n", "\r\n\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    data = open_dataset(path)
    assert sum(len(split) for split in data.splits.values()) == 20


def test_four_channels(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "validation")):
        listed_folder(tmp_path / name, 10 - 4 * number, 100 * number, tmp_path / f"{name}_lst" / f"{name}.lst")
    data = open_dataset(tmp_path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20, "validation": 12}
    write_list(tmp_path / "train_lst" / "second.lst", [])
    with pytest.raises(BadData, match=r"exactly one \.lst there, found second\.lst, train\.lst"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("20 1 cat/000.png", r"all\.lst:21: '20 1 cat/000\.png' is not index, label, path .*\(spaces\)"),
        ("20\t1", r":21: .*\(fields\)"),
        ("20\tcat\tcat/000.png", r":21: .*\(values\)"),
        ("x\t1\tcat/000.png", r":21: .*\(values\)"),
        ("nan\t1\tcat/000.png", r":21: .*\(values\)"),
        ("20\t1\t0\t1\tcat/000.png", r":21: 3 labels"),
        ("20\t0.5\tcat/000.png", r":21: label 0\.5"),
        ("20\t-1\tcat/000.png", r":21: label -1"),
        ("20\tinf\tcat/000.png", r":21: label inf"),
        ("20\t1e9\tcat/000.png", r"label 1e\+09"),
        ("20\t1\t/etc/passwd", r"path '/etc/passwd' is absolute; paths must stay under"),
        ("20\t1\tcat/../../secret.png", r"climbs with \.\."),
        ("20\t1\tcat\\..\\..\\secret.png", r"climbs with \.\."),
        ("20\t1\tC:\\secret.png", r"is absolute"),
        ("20\t1\tout/secret.png", r"link that leads out"),
        ("20\t1\tleak.png", r"link that leads out"),
        ("20\t1\tcat/nothere.png", r"nothere\.png: cannot be read"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, words: str) -> None:
    root = tmp_path / "root"
    path = listed_folder(root, list_path=root / "all.lst")
    picture(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    (root / "leak.png").symlink_to(tmp_path / "secret.png")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(BadData, match=words):
        open_dataset(path)


def test_lines_without_end_and_other_encodings_are_refused(tmp_path: Path) -> None:
    path = listed_folder(tmp_path, list_path=tmp_path / "all.lst")
    kept = path.read_bytes()
    path.write_bytes(kept + b"20\t1\t" + b"x" * 200_000)
    with pytest.raises(BadData, match=r":21: .*\(long\)"):
        open_dataset(path)
    path.write_bytes(kept + b"20\t1\tcaf\xe9.png\n")
    with pytest.raises(BadData, match=r":21: .*\(encoding\)"):
        open_dataset(path)
    path.write_bytes(b"\n\n")
    with pytest.raises(BadData, match="the list is empty"):
        open_dataset(path)


def test_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    listed_folder(tmp_path / "root")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "root" / "cat")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    root = Root(tmp_path / "link")
    assert root.escapes("again/000.png") is None
    assert root.escapes("cat/000.png") is None
    assert root.escapes("..cat/x..png") is None


def test_a_pipe_or_device_in_a_list_does_not_hang(tmp_path: Path) -> None:
    path = listed_folder(tmp_path, list_path=tmp_path / "all.lst")
    os.mkfifo(tmp_path / "pipe.png")
    path.write_text(path.read_text() + "20\t1\tpipe.png\n")
    with pytest.raises(BadData, match=r"pipe\.png: not a regular file"):
        open_dataset(path)


_WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\t\r\n"), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2**40), st.integers(0, 10**6), _WORDS.filter(lambda text: text.strip())), max_size=20
    )
)
def test_any_list_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, str]]
) -> None:
    path = tmp_path_factory.mktemp("lst") / "x.lst"
    path.write_bytes("".join(f"{index}\t{label}\t{name}\n" for index, label, name in rows).encode())
    found = list(parse(path)[1])
    assert [(row.index, int(row.labels[0]), row.path) for row in found if isinstance(row, Row)] == rows


@settings(max_examples=200, deadline=None)
@given(path=st.text(max_size=40))
def test_no_path_leaves_the_root(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "root"
    folder.mkdir(exist_ok=True)
    root = Root(folder)
    if root.escapes(path) is None:
        real = os.path.realpath(root.path(path))
        assert real == os.path.realpath(folder) or real.startswith(os.path.realpath(folder) + os.sep)


def manifest_rows(root: Path, split: bool = False) -> list[dict[str, object]]:
    class_folders(root)
    rows: list[dict[str, object]] = []
    for name in ("dog", "cat"):
        for index in range(10):
            row: dict[str, object] = {"path": f"{name}/{index:03}.png", "label": name}
            rows.append(row | {"split": ("train", "val", "test")[max(0, index - 7)]} if split else row)
    return rows


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("split", [False, True])
def test_manifest(tmp_path: Path, form: str, split: bool) -> None:
    frame = pd.DataFrame(manifest_rows(tmp_path / "root", split)).rename(columns={"label": "Label"})
    path = tmp_path / f"m.{form}"
    if form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if form == "csv" else "\t")
    data = open_dataset(path, image_root=tmp_path / "root")
    assert data.class_names == ("cat", "dog")
    sizes = {name: len(part) for name, part in data.splits.items()}
    assert sizes == ({"train": 16, "validation": 2, "test": 2} if split else {"train": 14, "validation": 2, "test": 4})
    if not split:
        assert data.train.digest == open_dataset(tmp_path / "root").train.digest


def test_manifest_labels_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    rows = manifest_rows(tmp_path)
    frame = pd.DataFrame(rows)
    frame["label"] = [10.0 if row["label"] == "dog" else 9.0 for row in rows]
    frame.to_parquet(tmp_path / "m.parquet")
    assert open_dataset(tmp_path / "m.parquet").class_names == ("9", "10")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column path and label"),
        ("file,class\na,b\n", r"no column path and label \(columns: 'file', 'class'\)"),
        ("path,label\n", "no row"),
        ("path,label\ncat/000.png\n", r"m\.csv:2: 1 fields, but the header has 2"),
        ("path,label\ncat/000.png,\n", "row 1 has no label"),
        ("path,label\n,cat\n", "row 1 has no path"),
        ("path,label,split\ncat/000.png,cat,maybe\n", "row 1 has split 'maybe'; legal are train, validation, test"),
        ("path,label,split\ncat/000.png,cat,test\n", "no row with split train"),
        ("path,label\n../secret.png,cat\n", r"climbs with \.\."),
        ('path,label\n"cat/000.png,cat\n', "not a CSV file"),
        ("path,label\n" + "x" * 200_000 + ",cat\n", "not a CSV file"),
    ],
)
def test_bad_manifests_are_refused(tmp_path: Path, text: str, words: str) -> None:
    class_folders(tmp_path)
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(BadData, match=words):
        open_dataset(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("header", "mark", "words"),
    [
        ("image_path,label", ",", "Where these are other names for them: sed "),
        ("id,breed", ",", "sed '1s/.*/path,label/'"),
        ("filename,species,split", ",", "sed '1s/.*/path,label,split/'"),
        ("path;label", ";", "separated by semicolons: tr ';'"),
        ("path|label", "|", "separated by bars: tr "),
        ("path\tlabel", "\t", "separated by tabs: tr "),
        ("", ",", "The first line is a row, not a header: sed '1i path,label'"),
    ],
)
def test_the_command_for_other_csv_files_works(tmp_path: Path, header: str, mark: str, words: str) -> None:
    rows = [(str(row["path"]), str(row["label"])) for row in manifest_rows(tmp_path)]
    splits = ["train"] * (len(rows) - 2) + ["test"] * 2
    lines = [
        mark.join((*row, split)) if "split" in header else mark.join(row)
        for row, split in zip(rows, splits, strict=True)
    ]
    (tmp_path / "m.csv").write_text("\n".join([header, *lines] if header else lines) + "\n")
    with pytest.raises(BadData, match="expected path, label") as refused:
        open_dataset(tmp_path / "m.csv")
    assert words in str(refused.value)
    command = re.search(r"(?:sed|tr) '.*$", str(refused.value))
    assert command is not None
    subprocess.run(command[0], shell=True, check=True)
    (made,) = [path for path in tmp_path.glob("m-*")]
    assert sum(len(split) for split in open_dataset(made).splits.values()) == 20


def test_what_is_said_of_manifests_of_others(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for text, words in (
        ("path,label\ncat/000,cat\n", r"cat/000\.png is there, the path written has no ending \.png"),
        ("path,label\ncat\\000.png,cat\n", r"cat/000\.png is there, .* Windows' separators"),
        ("path,label\ngs://bucket/cat/000.png,cat\n", r"cat/000\.png is there, .* an address \(gs://\)"),
        ("path,label,split\ncat/000.png,cat,dev\ncat/001.png,Cat,train\n", "call it validation. .*'Cat' and 'cat'"),
        ("TRAIN,gs://bucket/cat/000.png,cat\n", "sed '1i split,path,label'"),
    ):
        (tmp_path / "m.csv").write_text(text)
        with pytest.raises(BadData, match=words):
            open_dataset(tmp_path / "m.csv")


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(BadData, match=r"m\.parquet: not a readable Parquet file"):
        open_dataset(tmp_path / "m.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(BadData, match="no column path and label"):
        open_dataset(tmp_path / "m.parquet")


def test_archives_and_other_files_are_refused(tmp_path: Path) -> None:
    for name, words in (("a.tar", "unpack it first"), ("a.tar.gz", "unpack it first"), ("a.pdf", "not a form of")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(BadData, match=words):
            open_dataset(tmp_path / name)
