"""Pictures, folders, lists and records for the tests of ``trainers.data``, small and different by number."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainers.data.formats import recordio
from trainers.data.formats.image_record import pack_image


def noise(value: int, size: tuple[int, int] = (12, 10), colour: bool = True) -> np.ndarray:
    """(height, width[, 3]) uint8, different for each ``value``."""
    shape = (*size, 3) if colour else size
    return np.random.default_rng(value).integers(0, 256, shape, dtype=np.uint8)


def encoded(value: int, suffix: str = ".png", size: tuple[int, int] = (12, 10), colour: bool = True) -> bytes:
    return cv2.imencode(suffix, noise(value, size, colour))[1].tobytes()


def picture(path: Path, value: int = 0, size: tuple[int, int] = (12, 10), colour: bool = True) -> Path:
    """A picture of noise at ``path``, in the format its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(value, path.suffix, size, colour))
    return path


def class_folders(
    root: Path,
    per_class: int = 10,
    classes: Sequence[str] = ("cat", "dog"),
    start: int = 0,
    suffix: str = ".png",
    size: tuple[int, int] = (12, 10),
) -> Path:
    """``root/<class>/000.png`` and so on; every picture is another one."""
    for number, name in enumerate(classes):
        for index in range(per_class):
            picture(root / name / f"{index:03}{suffix}", start + number * per_class + index, size)
    return root


def few_digits(patch: pytest.MonkeyPatch, count: int = 300) -> None:
    """The bundled digits become their first ``count``, of all classes, for trainings whose result does not matter."""
    from sklearn import datasets

    values, labels = datasets.load_digits(return_X_y=True)
    patch.setattr(datasets, "load_digits", lambda **_: (values[:count], labels[:count]))


def image_payloads(count: int = 20, num_classes: int = 2, start: int = 0) -> list[bytes]:
    return [pack_image(index % num_classes, index, encoded(start + index)) for index in range(count)]


def write_rec(path: Path, payloads: Sequence[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for payload in payloads:
            recordio.write(file, payload)
    return path


def with_flag(flag: int, labels: Sequence[float], image: bytes, number: int = 0) -> bytes:
    """A payload with a list of labels, as ``im2rec --pack-label`` writes it."""
    return struct.pack("<IfQQ", flag, 0.0, number, 0) + struct.pack(f"<{len(labels)}f", *labels) + image


def protobuf_payload() -> bytes:
    """A ``Record`` message of SageMaker: features["values"] and label["values"], each a tensor of floats."""

    def field(number: int, data: bytes) -> bytes:
        assert len(data) < 128
        return bytes([number << 3 | 2, len(data)]) + data

    def tensor(*values: float) -> bytes:
        return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))

    def entry(*values: float) -> bytes:
        return field(1, b"values") + field(2, tensor(*values))

    return field(1, entry(1, 2, 3, 4)) + field(2, entry(1))


def write_list(path: Path, rows: Sequence[tuple[int, float, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{index}\t{label}\t{name}\n" for index, label, name in rows))
    return path


def listed_folder(root: Path, per_class: int = 10, start: int = 0, list_path: Path | None = None) -> Path:
    """Class folders below ``root`` and a list of them beside it."""
    class_folders(root, per_class, start=start)
    rows = [
        (number, label, f"{name}/{index:03}.png")
        for number, (label, name, index) in enumerate(
            (label, name, index) for label, name in enumerate(("cat", "dog")) for index in range(per_class)
        )
    ]
    return write_list(list_path or root.parent / f"{root.name}.lst", rows)
