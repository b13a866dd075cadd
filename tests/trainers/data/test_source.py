"""open_dataset: named sets, folders, splits of their own or cut here, rotations, overlap, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.pictures import class_folders, picture
from trainers.data import Batches, find_overlap, open_dataset
from trainers.data.readers import layouts
from trainers.data.readers.layouts import Form
from trainers.errors import BadData


def test_digits_are_whole_and_split_by_class() -> None:
    data = open_dataset("digits")
    facts = data.facts
    assert (facts.num_classes, facts.channels, facts.height, facts.width) == (10, 1, 8, 8)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1259, "validation": 179, "test": 359}
    assert facts.num_training_samples == 1259
    for split in data.splits.values():
        shares = np.bincount(split.labels) / len(split)
        assert np.abs(shares - 0.1).max() < 0.01
    assert find_overlap(data) == []
    assert max(data.train.pictures.load(index, 1).max() for index in range(10)) == 255


def test_digits_have_one_digest_for_good() -> None:
    # Pinned: scores in old stores are compared by it.
    assert open_dataset("digits").test.digest == "f9b6babb83d7785d89d841d13fb1a959"


def test_another_split_seed_cuts_elsewhere_and_the_same_seed_at_the_same_place() -> None:
    first, again, other = (open_dataset("digits", split_seed=seed) for seed in (3, 3, 4))
    assert first.test.keys == again.test.keys
    assert first.test.keys != other.test.keys


def test_folder_classes_follow_their_names_and_notes_say_what_was_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path, classes=("dog", "cat"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_text("x")
    data = open_dataset(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 14, "validation": 2, "test": 4}
    assert sorted(key for split in data.splits.values() for key in split.keys)[0] == "cat/000.png"
    assert any("folder empty" in note for note in data.notes)
    assert any("notes.txt" in note for note in data.notes)
    assert data.facts.height == 12 and data.facts.width == 10 and data.facts.channels == 3


def test_folder_digest_ignores_names_and_order(tmp_path: Path) -> None:
    class_folders(tmp_path / "a")
    class_folders(tmp_path / "b")
    for name in ("cat", "dog"):
        for path in sorted((tmp_path / "b" / name).iterdir()):
            path.rename(path.with_name(f"{999 - int(path.stem)}.png"))
    a, b = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "b")
    assert a.train.keys != b.train.keys
    assert [split.digest for split in a.splits.values()] == [split.digest for split in b.splits.values()]


def test_own_splits_are_used_as_they_are_and_validation_is_cut_from_train(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 10)
    class_folders(tmp_path / "test", 3, start=100)
    data = open_dataset(tmp_path, test_fraction=0.5)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 18, "validation": 2, "test": 6}
    assert all(key.startswith("test/") for key in data.test.keys)


def test_splits_share_one_class_map_and_no_test_split_stays_none(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 4, ("ant", "bee", "cow"))
    class_folders(tmp_path / "val", 2, ("bee", "cow"), start=100)
    data = open_dataset(tmp_path)
    assert data.class_names == ("ant", "bee", "cow")
    assert data.validation.labels.tolist() == [1, 1, 2, 2]
    assert data.test is None
    assert "validation: no picture of class ant" in data.notes
    assert any("no test split" in note for note in data.notes)


def test_equal_pictures_stay_on_one_side_of_a_cut_made_here(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for index in range(30):
            picture(tmp_path / name / f"{index}.png", (0 if name == "cat" else 100) + index // 3)
    data = open_dataset(tmp_path)
    assert find_overlap(data) == []
    assert sum(len(split) for split in data.splits.values()) == 60


def test_overlap_names_both_places(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 10)
    picture(tmp_path / "test" / "dog" / "copy.png", 3)  # is train/cat/003.png
    picture(tmp_path / "test" / "cat" / "new.png", 500)
    overlaps = [found for found in find_overlap(open_dataset(tmp_path)) if found.split_b == "test"]
    assert len(overlaps) == 1
    assert overlaps[0].keys_b == ("test/dog/copy.png",)
    assert overlaps[0].keys_a == ("train/cat/003.png",)
    assert overlaps[0].split_a == "train"


def test_rotations_are_of_training_pictures_alone_and_stay_together() -> None:
    plain, data = open_dataset("digits"), open_dataset("digits", pretext="rotation")
    assert data.class_names == ("0°", "90°", "180°", "270°")
    assert data.test is None
    assert len(data.train) + len(data.validation) == 4 * len(plain.train)
    assert np.bincount(data.train.labels).tolist() == [len(data.train) // 4] * 4
    keys = {name: {key.rsplit(" ", 1)[0] for key in split.keys} for name, split in data.splits.items()}
    assert keys["train"].isdisjoint(keys["validation"])
    assert keys["train"] | keys["validation"] == set(plain.train.keys)
    upright, turned = (data.train.pictures.load(index, 1)[:, :, 0] for index in (0, 1))
    assert (np.rot90(upright) == turned).all()
    assert data.train.labels[:4].tolist() == [0, 1, 2, 3]


def test_rotations_swap_the_sides_of_oblong_pictures(tmp_path: Path) -> None:
    data = open_dataset(class_folders(tmp_path), pretext="rotation")
    assert data.train.pictures.sizes()[:2].tolist() == [[12, 10, 3], [10, 12, 3]]
    assert data.facts.height is None
    assert data.train.pictures.load(1, 3).shape == (10, 12, 3)


def test_digest_is_of_the_pictures_before_resizing() -> None:
    data = open_dataset("digits")
    before = data.test.digest
    small, large = (next(Batches(data.test, (3, size, size), 4).epoch(0))[0] for size in (8, 32))
    assert small.shape == (4, 3, 8, 8) and large.shape == (4, 3, 32, 32)
    assert data.test.digest == before


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("digit", ["'digit'", "Did you mean digits?", "cifar100"]),
        ("fashion_mnist", ["Did you mean fashion-mnist?"]),
        ("", ["Known: digits"]),
        ("x" * 10_000, ["Known: digits"]),
        ("mnist:/no/such/folder", ["'/no/such/folder' is not a folder"]),
        ("digits:/", ["takes no folder"]),
    ],
)
def test_unknown_names_list_the_legal_ones(spec: str, words: list[str]) -> None:
    with pytest.raises(BadData) as caught:
        open_dataset(spec)
    assert all(word in str(caught.value) for word in words)
    assert len(str(caught.value)) < 1000


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no sub-folder"):
        open_dataset(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(BadData, match="no picture in cat"):
        open_dataset(tmp_path)
    picture(tmp_path / "cat" / "1.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(BadData, match=r"pictures of one class only \(cat\)"):
        open_dataset(tmp_path)


def test_too_few_pictures_to_split_names_the_class(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for index in range(2):
        picture(tmp_path / "emu" / f"{index}.png", 900 + index)
    with pytest.raises(BadData, match="class 'emu' has 2 different"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, test_fraction=0)
    assert data.test is None
    assert np.bincount(data.train.labels).tolist() == [9, 9, 1]


def test_shares_must_leave_something_for_training(tmp_path: Path) -> None:
    class_folders(tmp_path)
    with pytest.raises(BadData, match="leave some for training"):
        open_dataset(tmp_path, validation_fraction=0.5, test_fraction=0.5)
    with pytest.raises(BadData, match="no validation pictures"):
        open_dataset(tmp_path, validation_fraction=0)


def test_class_without_training_picture_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "validation", 2, ("cat", "dog", "emu"), start=100)
    with pytest.raises(BadData, match="no training picture of class emu"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("cut", [0, 3, 60, 300, -30])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_corrupt_picture_is_named_with_its_path(tmp_path: Path, cut: int, suffix: str) -> None:
    class_folders(tmp_path)
    bad = picture(tmp_path / "dog" / f"bad{suffix}", 99)
    bad.write_bytes(bad.read_bytes()[:cut])
    with pytest.raises(BadData) as caught:
        data = open_dataset(tmp_path)
        for split in data.splits.values():
            Batches(split, (3, 8, 8), 2)
    assert str(bad) in str(caught.value)


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(BadData, match=r"dog/gone\.png: cannot be read"):
        open_dataset(tmp_path)


def test_linked_folders_do_not_loop(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    assert sum(len(split) for split in open_dataset(tmp_path).splits.values()) == 20


def test_picture_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path)
    bad = picture(tmp_path / "dog" / "bomb.png", 1)
    data = bytearray(bad.read_bytes())
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    bad.write_bytes(data)
    with pytest.raises(BadData, match=r"bomb\.png: 30000 x 30000 px is more than"):
        open_dataset(tmp_path)


def test_download_that_fails_says_how_to_supply_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/")
    for name, file in (("mnist", "t10k-labels-idx1-ubyte.gz"), ("cifar10", "data_batch_5.bin")):
        with pytest.raises(BadData) as caught:
            open_dataset(name)
        for word in ("Connection refused", file, str(tmp_path / "datasets" / name), f"{name}:DIR"):
            assert word in str(caught.value)


def test_every_form_has_a_reader_and_is_told_by_content(tmp_path: Path) -> None:
    assert set(layouts.READERS) == set(Form)
    for name, content, form in (
        ("a.REC", b"", Form.RECORDS),
        ("records", b"\x0a\x23\xd7\xce", Form.RECORDS),
        ("a.lst", b"", Form.LIST),
        ("a.tsv", b"", Form.MANIFEST),
        ("a.tar.gz", b"", Form.ARCHIVE),
        ("packed", b"PK\x03\x04", Form.ARCHIVE),
        ("a.txt", b"hello", Form.OTHER),
    ):
        (tmp_path / name).write_bytes(content)
        assert layouts.form_of(tmp_path / name) is form, name
    for entry, form in (
        ("lists/train_lst/a.lst", Form.LIST_CHANNELS),
        ("channels/training/a.rec", Form.RECORD_CHANNELS),
        ("files/train.rec", Form.RECORD_FOLDER),
        ("splits/train/cat/1.png", Form.SPLIT_FOLDERS),
        ("classes/cat/1.png", Form.FOLDER),
        ("idx/train-images-idx3-ubyte", Form.IDX),
    ):
        path = tmp_path / entry
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        assert layouts.form_of(tmp_path / Path(entry).parts[0]) is form, entry
    with pytest.raises(BadData, match="not a form of data set"):
        open_dataset(tmp_path / "records")


def test_the_door_is_light() -> None:
    code = (
        "import sys, trainers.data, trainers.data.catalog\n"
        "print([m for m in ('numpy', 'cv2', 'mxnet', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_training_picture_is_held_out_by_one_fold() -> None:
    whole = open_dataset("digits")
    folds = [open_dataset("digits", fold=(n, 3)) for n in (1, 2, 3)]
    held = [one.held_out for one in folds]
    assert sorted(key for split in held if split for key in split.keys) == sorted(whole.train.keys)
    for one in folds:
        assert one.held_out is not None and not set(one.train.image_digests) & set(one.held_out.image_digests)
        assert one.test is not None and whole.test is not None and one.test.digest == whole.test.digest
        assert len(one.train) + len(one.held_out) == len(whole.train)
        assert np.ptp(np.bincount(one.held_out.labels) * 3 - np.bincount(whole.train.labels)) <= 4
    other = open_dataset("digits", fold=(1, 3), split_seed=1).held_out
    assert held[0] is not None and other is not None and held[0].digest != other.digest


def test_copies_stay_in_one_fold_whatever_their_label(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", per_class=6)
    class_folders(tmp_path / "validation", per_class=2, start=50)
    (tmp_path / "train/dog/copy.png").write_bytes((tmp_path / "train/cat/000.png").read_bytes())
    held = [open_dataset(tmp_path, fold=(n, 3)).held_out for n in (1, 2, 3)]
    together = {"cat/000.png", "dog/copy.png"}
    keys = [{"/".join(Path(key).parts[-2:]) for key in split.keys} for split in held if split]
    assert [len(together & some) for some in keys].count(2) == 1
    assert sum(len(split) for split in held if split) == 13


def test_folds_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", per_class=1)
    class_folders(tmp_path / "validation", per_class=1, start=50)
    with pytest.raises(BadData, match="2 different training pictures are too few for 3 folds"):
        open_dataset(tmp_path, fold=(1, 3))
    with pytest.raises(BadData, match="outside fold 1 of 2; every class needs one"):
        open_dataset(tmp_path, fold=(1, 2))
