"""``open_dataset``: from what the user gave to splits ready for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainers.data import catalog
from trainers.data.dataset import WHOLE, Dataset, Split, SplitsRead, copies, folds, stratified
from trainers.data.groups import Group, joined
from trainers.data.pictures.pictures import RotatedPictures
from trainers.data.readers import cifar, digits, idx, layouts, manifest
from trainers.data.readers.layouts import Form
from trainers.errors import BadData

ROTATIONS = ("0°", "90°", "180°", "270°")


def open_dataset(
    spec: str | Path,
    *,
    image_root: str | Path | None = None,
    split_seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    pretext: str | None = None,
    group: str | None = None,
    fold: tuple[int, int] | None = None,
) -> Dataset:
    """Open a named set or a path (see ``catalog``).

    Splits that the source has are used as they are; a missing validation split is cut from the training pictures, and a
    source without any split is cut into three. ``pretext="rotation"`` makes the training pictures alone into a
    four-class set of rotations. ``group`` (see ``groups``) keeps the pictures of a source in one split, and in one
    fold. ``fold`` (2, 5) holds the second fifth of the training pictures out. Raises BadData for whatever cannot be
    read or used.
    """
    if pretext not in (None, "rotation"):
        raise BadData(f"pretext {pretext!r} is unknown; legal: rotation")
    found = read_source(str(spec), Path(image_root) if image_root is not None else None, group=group)
    dataset = cut(found, split_seed, validation_fraction, test_fraction, fold)
    return _rotations(dataset, split_seed, validation_fraction) if pretext else dataset


def read_source(spec: str, image_root: Path | None, *, salvage: bool = False, group: str | None = None) -> SplitsRead:
    """A named set or a path, with the splits it has, before any cutting; ``salvage`` as in ``records``. With ``group``
    each picture's source is known."""
    if group is not None:
        return _with_sources(spec, image_root, salvage, Group.parse(group))
    name, path = catalog.split_spec(spec)
    if name == "digits":
        if path is not None:
            raise BadData(f"--dataset {spec}: digits ships with scikit-learn and takes no folder; give: digits")
        return digits.read()
    if name is not None and name.startswith("cifar"):
        return cifar.read_named(name, path)
    if name is not None:
        return idx.read_named(name, path)
    assert path is not None
    return layouts.read_path(path, image_root, salvage=salvage)


def _with_sources(spec: str, image_root: Path | None, salvage: bool, group: Group) -> SplitsRead:
    name, path = catalog.split_spec(spec)
    if group.column is not None and name is None and path is not None and layouts.form_of(path) is Form.MANIFEST:
        return manifest.read_file(path, image_root, group.column)
    found = read_source(spec, image_root, salvage=salvage)
    for split in found.splits.values():
        split.sources = group.of(split.keys, found.source)
    return found


def cut(
    found: SplitsRead,
    seed: int,
    validation_fraction: float,
    test_fraction: float,
    fold: tuple[int, int] | None = None,
) -> Dataset:
    """Splits out of what was read: its own, and what is missing cut by ``seed``. Raises BadData."""
    splits = dict(found.splits)
    for name, split in splits.items():
        if len(split) == 0:
            raise BadData(f"{found.source}: the {name} split holds no picture")
    if WHOLE in splits:
        whole = splits.pop(WHOLE)
        shares = {"test": test_fraction, "validation": validation_fraction}
        splits = _stratified(whole, shares, seed, found.class_names)
    elif "validation" not in splits:
        splits |= _stratified(splits["train"], {"validation": validation_fraction}, seed, found.class_names)
    if "validation" not in splits:
        raise BadData(
            f"{found.source}: no validation pictures (validation_fraction is {validation_fraction:g}); validation"
            " chooses the checkpoint: give a share above 0 or a validation split"
        )
    notes = found.notes
    if any(split.sources is not None for split in splits.values()):
        for name in splits.keys() - {"train"}:
            counts = np.bincount(splits[name].labels, minlength=len(found.class_names))
            lacks = [found.class_names[label] for label in np.flatnonzero(counts == 0)]
            notes = (*notes, *(f"{name}: no picture of class {lacking}" for lacking in lacks))
    if WHOLE not in found.splits and "test" not in splits:
        notes = (*notes, "the source has splits but no test split, so there is no test score")
    train, held_out = splits["train"], None
    if fold is not None:
        of_sources = None if train.sources is None else joined(train.image_digests, train.sources)
        part = folds(train.labels, of_sources or copies(train.image_digests), fold[1], seed)
        train, held_out = (train.take(np.flatnonzero(kept)) for kept in (part != fold[0] - 1, part == fold[0] - 1))
    counts = np.bincount(train.labels, minlength=len(found.class_names))
    bare = [found.class_names[label] for label in np.flatnonzero(counts == 0)]
    if bare:
        held = f" outside fold {fold[0]} of {fold[1]}" if fold else ""
        raise BadData(
            f"{found.source}: no training picture of class {', '.join(bare[:5])}{held}; every class needs one"
        )
    return Dataset(
        name=found.name,
        class_names=found.class_names,
        train=train,
        validation=splits["validation"],
        test=splits.get("test"),
        source=found.source,
        notes=notes,
        held_out=held_out,
    )


def _stratified(whole: Split, shares: dict[str, float], seed: int, class_names: tuple[str, ...]) -> dict[str, Split]:
    parts = stratified(whole.labels, whole.image_digests, shares, seed, class_names, whole.sources)
    return {name: whole.take(indices) for name, indices in parts.items()}


def _rotations(dataset: Dataset, seed: int, validation_fraction: float) -> Dataset:
    parts = _stratified(dataset.train, {"validation": validation_fraction}, seed, dataset.class_names)
    if "validation" not in parts:
        raise BadData("pretext rotation needs validation pictures: give a validation_fraction above 0")
    return Dataset(
        name=f"{dataset.name} (rotations)",
        class_names=ROTATIONS,
        train=_rotated(parts["train"]),
        validation=_rotated(parts["validation"]),
        test=None,
        source=dataset.source,
        notes=dataset.notes,
    )


def _rotated(split: Split) -> Split:
    keys = [f"{key} {rotation}" for key in split.keys for rotation in ROTATIONS]
    labels = np.tile(np.arange(4, dtype=np.int64), len(split))
    return Split(RotatedPictures(split.pictures), labels, keys)
