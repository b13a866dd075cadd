"""``classes.json``: the names of the classes, written once for all splits and found again beside the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.errors import BadData

FILE = "classes.json"
MAX_CLASSES = 100_000  # more is a label column that was misread


def write(folder: Path, class_names: Sequence[str]) -> None:
    """Write the class map; the position of a name is its label."""
    text = json.dumps({"format": 1, "class_names": list(class_names)}, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def find(*folders: Path) -> tuple[str, ...] | None:
    """The class names of the first of ``folders`` that has a class map, else None. BadData where it is broken."""
    for folder in folders:
        path = folder / FILE
        if not path.is_file():
            continue
        try:
            names = json.loads(path.read_text(encoding="utf-8"))["class_names"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadData(f"{path}: not a class map ({error}); expected {{'class_names': [...]}}") from error
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise BadData(f"{path}: class_names must be a list of names")
        if len(set(names)) < len(names):
            raise BadData(f"{path}: a class name stands there twice")
        return tuple(names)
    return None


def named(labels: NDArray[np.int64], known: tuple[str, ...] | None, source: str) -> tuple[str, ...]:
    """Class names for labels (N,): ``known``, else their numbers. BadData where a label is out of the map."""
    if len(labels) == 0:
        raise BadData(f"{source}: holds no picture")
    highest = int(labels.max())
    if int(labels.min()) < 0 or highest >= MAX_CLASSES:
        raise BadData(f"{source}: labels go from {labels.min()} to {highest}; legal are 0 to the number of classes - 1")
    if known is None:
        return tuple(str(label) for label in range(highest + 1))
    if highest >= len(known):
        raise BadData(f"{source}: label {highest}, but {FILE} names {len(known)} classes (0..{len(known) - 1})")
    return known


def integral(labels: NDArray[np.float32], source: str, name: str = "record") -> NDArray[np.int64]:
    """Labels as whole numbers; BadData names the first that is none."""
    whole = np.zeros(len(labels), np.int64)
    good = np.isfinite(labels) & (np.abs(labels) < 2**31)
    whole[good] = labels[good].astype(np.int64)
    wrong = np.flatnonzero(whole != labels)
    if len(wrong):
        first = int(wrong[0])
        raise BadData(
            f"{source}: {name} {first} has label {float(labels[first]):g}; legal are whole numbers from 0"
            f" ({len(wrong)} such); python -m trainers.data check {source} lists them"
        )
    return whole
