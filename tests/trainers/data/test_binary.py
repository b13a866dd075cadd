"""IDX and CIFAR binary files: read whole, refused when cut off, padded or at odds."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from trainers.data import open_dataset
from trainers.data.readers.idx import read_file
from trainers.errors import BadData

RNG = np.random.default_rng(7)


def idx_bytes(array: np.ndarray) -> bytes:
    magic = 0x800 + array.ndim
    return magic.to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_idx(folder: Path, count: int = 40, packed: bool = False, test: bool = True, classes: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, number in (("train", count), ("t10k", count // 2)) if test else (("train", count),):
        pictures = RNG.integers(0, 256, (number, 6, 5), dtype=np.uint8)
        labels = (np.arange(number) % classes).astype(np.uint8)
        for kind, array in (("images-idx3-ubyte", pictures), ("labels-idx1-ubyte", labels)):
            data = idx_bytes(array)
            path = folder / f"{stem}-{kind}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_idx_folder_has_its_own_test_split(tmp_path: Path, packed: bool) -> None:
    data = open_dataset(write_idx(tmp_path, packed=packed))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 36, "validation": 4, "test": 20}
    assert (data.facts.channels, data.facts.height, data.facts.width) == (1, 6, 5)
    assert data.class_names == ("0", "1", "2", "3")
    assert data.test.labels.tolist()[:5] == [0, 1, 2, 3, 0]
    assert data.test.keys[3].endswith("ubyte.gz[3]" if packed else "ubyte[3]")


def test_named_idx_folder_has_the_names_of_the_classes(tmp_path: Path) -> None:
    for index, name in enumerate(("train", "t10k")):
        (tmp_path / f"{name}-images.idx3-ubyte").write_bytes(idx_bytes(np.full((40, 28, 28), index, np.uint8)))
        (tmp_path / f"{name}-labels.idx1-ubyte").write_bytes(idx_bytes((np.arange(40) % 10).astype(np.uint8)))
    with pytest.raises(BadData, match="class 'T-shirt/top' has 1 different"):  # all pictures alike
        open_dataset(f"fashion-mnist:{tmp_path}")
    pictures = RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx_bytes(pictures))
    data = open_dataset(f"fashion-mnist:{tmp_path}")
    assert data.name == "fashion-mnist" and data.class_names[9] == "Ankle boot"
    assert (data.test.pictures.load(5, 1) == 1).all()
    with pytest.raises(BadData, match="no IDX files there"):
        open_dataset(f"mnist:{tmp_path.parent}")


def test_idx_without_test_split(tmp_path: Path) -> None:
    assert open_dataset(write_idx(tmp_path, test=False)).test is None


@pytest.mark.parametrize("cut", [0, 3, 4, 10, 15, 16, 17, 500])
def test_truncated_idx_is_refused(tmp_path: Path, cut: int) -> None:
    path = write_idx(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadData, match="train-images-idx3-ubyte"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("cut", [5, 30, 400, -4])
def test_truncated_gzip_is_refused(tmp_path: Path, cut: int) -> None:
    path = write_idx(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadData, match="train-images-idx3-ubyte.gz"):
        open_dataset(tmp_path)


def test_idx_with_bytes_to_spare_is_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path) / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BadData, match="bytes to spare"):
        open_dataset(tmp_path)


def test_header_that_promises_terabytes_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes((0x803).to_bytes(4, "big") + b"\xff" * 12 + b"1234")
    with pytest.raises(BadData, match=r"its header promises 4294967295 x 4294967295 x 4294967295"):
        read_file(path)


def test_more_pictures_than_labels_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(39, np.uint8)))
    with pytest.raises(BadData, match="holds 40 pictures but .* 39 labels"):
        open_dataset(tmp_path)


def test_swapped_idx_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    kept = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(kept)
    with pytest.raises(BadData, match="swapped"):
        open_dataset(tmp_path)
    labels.unlink()
    with pytest.raises(BadData, match="train split has no file of labels"):
        open_dataset(tmp_path)


def test_wrong_magic_is_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(b"\x00\x00\x0d\x03" + path.read_bytes()[4:])
    with pytest.raises(BadData, match="magic 0x00000d03"):
        open_dataset(tmp_path)


def cifar_rows(count: int, marks: int, classes: int) -> np.ndarray:
    rows = RNG.integers(0, 256, (count, marks + 3072), dtype=np.uint8)
    rows[:, 0] = 0
    rows[:, marks - 1] = np.arange(count) % classes
    return rows


def test_cifar10_files_are_read_in_order(tmp_path: Path) -> None:
    batches = [cifar_rows(40, 1, 10) for _ in range(2)]
    for number, rows in enumerate(batches, start=1):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(rows.tobytes())
    (tmp_path / "test_batch.bin").write_bytes(cifar_rows(20, 1, 10).tobytes())
    data = open_dataset(tmp_path)
    assert data.name == "cifar10" and data.class_names[3] == "cat"
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 70, "validation": 10, "test": 20}
    place = data.train.keys.index("data_batch_2.bin[7]") if "data_batch_2.bin[7]" in data.train.keys else None
    split = data.train if place is not None else data.validation
    place = split.keys.index("data_batch_2.bin[7]")
    expected = batches[1][7, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
    assert (split.pictures.load(place, 3) == expected).all()
    assert split.labels[place] == 7


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    home = tmp_path / "cifar-100-binary"
    home.mkdir()
    (home / "train.bin").write_bytes(cifar_rows(300, 2, 100).tobytes())
    (home / "test.bin").write_bytes(cifar_rows(100, 2, 100).tobytes())
    data = open_dataset(f"cifar100:{tmp_path}")
    assert data.facts.num_classes == 100 and len(data.class_names) == len(set(data.class_names)) == 100
    assert data.test.labels.tolist() == list(range(100))


def test_broken_cifar_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(cifar_rows(40, 1, 10).tobytes()[:-1])
    with pytest.raises(BadData, match="no whole number of pictures"):
        open_dataset(tmp_path)
    path.write_bytes(cifar_rows(40, 1, 11).tobytes())
    with pytest.raises(BadData, match="label 10, but cifar10 has 10 classes"):
        open_dataset(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(BadData, match="0 bytes"):
        open_dataset(tmp_path)
    with pytest.raises(BadData, match="no binary files there"):
        open_dataset(f"cifar100:{tmp_path}")


def test_files_that_mxnet_downloaded_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    write_idx(tmp_path / "datasets" / "mnist", packed=True, classes=10)
    assert open_dataset("mnist").source == str(tmp_path / "datasets" / "mnist")
    home = tmp_path / "datasets" / "cifar10"
    home.mkdir()
    (home / "data_batch_1.bin").write_bytes(cifar_rows(40, 1, 10).tobytes())
    assert open_dataset("cifar10").facts.num_training_samples == 30
