"""``check``: what data is, and everything a job would stumble over in it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers.data.check.examine import look_at_files
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.check.lists import check_augmented, check_folder, check_list, folder_classes
from trainers.data.check.pictures import (
    check_classes,
    check_duplicates,
    check_labels,
    check_looks,
    check_near,
    check_sources,
)
from trainers.data.check.records import check_records
from trainers.data.check.rules import Finding
from trainers.data.dataset import Split
from trainers.data.groups import Group
from trainers.data.pictures.pictures import EncodedPictures
from trainers.data.readers import cifar, layouts, manifest
from trainers.data.readers.folder import SPLIT_FOLDERS, split_folders
from trainers.data.readers.layouts import Form, form_of, with_suffix
from trainers.errors import BadData

SPLITS = ("train", "validation", "test")
RECORDS, IMAGES = "application/x-recordio", ("application/x-image", "image/jpeg", "image/png")


@dataclass(frozen=True, kw_only=True)
class Job:
    """The settings of the job; None where it is not known yet. ``num_labels``: of each picture; 0: as many as most
    have."""

    num_classes: int | None = None
    num_labels: int = 1
    image_shape: tuple[int, int, int] | None = None
    resize: int | None = None
    content_type: str | None = None
    mini_batch_size: int | None = None


@dataclass
class Checked:
    """The splits as found, and what is wrong. ``spare`` counts copies inside each split, None where not looked for;
    ``others`` says of a path that is no data set what it is."""

    parts: list[CheckedSplit]
    findings: list[Finding]
    spare: dict[str, int] | None
    others: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 where a job would refuse the data or learn wrongly from it; advice alone leaves 0."""
        return int(any(finding.severity != "note" for finding in self.findings))


def check(
    paths: Sequence[Path],
    job: Job,
    *,
    image_root: Path | None = None,
    fast: bool = False,
    threads: int = 0,
    within: bool = False,
    group: str | None = None,
) -> Checked:
    """Check a data set, or several paths as splits of one, the one trained on first. ``within`` looks for
    near-duplicates inside each split too; ``group`` (see ``groups``) tells the source of a picture.

    BadData where a path cannot be read at all; whatever is wrong with what was read is a finding.
    """
    for path in paths:
        if not path.exists():
            raise BadData(f"{path}: not there; give the path of a .rec, a .lst, a folder or a manifest")
    source = shlex.quote(str(paths[0])) if len(paths) == 1 else None
    if source is not None and image_root is not None:
        source += f" --image-root {shlex.quote(str(image_root))}"
    findings = Findings(source)
    grouping = None if group is None else Group.parse(group)
    class_names = folder_classes(*(path for path in paths if path.is_dir() and form_of(path) is Form.FOLDER))
    threads = threads or len(os.sched_getaffinity(0))
    reader = _Reader(findings, image_root, job.num_labels, fast, threads, class_names, grouping)
    parts: list[CheckedSplit] = []
    others: dict[str, str] = {}
    for path in paths:
        found = reader.read(path)
        if isinstance(found, str):
            others[str(path)] = found
        else:
            parts += found
    parts.sort(key=lambda part: SPLITS.index(part.name) if part.name in SPLITS else len(SPLITS))
    for part in parts:
        if part.name in (other.name for other in parts if other is not part):
            part.name = str(part.path)
        if len(part) == 0 and part.form is not Form.RECORDS and not findings.has_any(part.path):
            findings.add("no-pictures", part.path)
        if len(part) and part.class_names is None:
            findings.add("class-names-missing", part.path)
        if len(part.looks) == len(part):  # else the pictures are elsewhere
            check_looks(part, job.image_shape, job.resize, findings)
        _check_job(part, job, findings)
    counted = [part for part in parts if len(part)]
    spare = None
    if counted:
        for part in counted:
            check_labels(part, job.num_classes, findings)
        check_classes(counted, job.num_classes, findings)
        spare = None if fast else check_duplicates(counted, findings)
        check_near(counted, findings, within=within)
        if grouping is not None:
            check_sources(counted, grouping, findings)
    if job.image_shape and job.resize and job.resize < max(job.image_shape[1:]):
        shape = ",".join(str(side) for side in job.image_shape)
        findings.add("resize-small", paths[0], f"resize {job.resize}, image_shape {shape}")
    return Checked(parts, findings.listed(), spare, others)


def _check_job(part: CheckedSplit, job: Job, findings: Findings) -> None:
    """Compare the job's settings with what the part is."""
    readable = len(part) - len(part.looks.faults)
    if job.mini_batch_size is not None and 0 < len(part) and readable < job.mini_batch_size:
        words = f"{readable:,} readable pictures, mini_batch_size {job.mini_batch_size:,}"
        findings.add("fewer-than-batch", part.path, words)
    if job.content_type is None:
        return
    content_type = job.content_type.split(";")[0].strip()
    if part.form is Form.RECORDS:
        if len(part) and content_type != RECORDS:
            findings.add("content-type", part.path, f"{content_type}; these are records of images: {RECORDS}")
    elif content_type not in IMAGES:
        findings.add("content-type", part.path, f"{content_type}; these are pictures: {IMAGES[0]}")
    elif job.resize is None:
        findings.add("resize-missing", part.path)


def split_name(path: Path) -> str:
    """train, validation or test where the name is or ends in such a word (``cifar_val.rec``), else the name."""
    stem = path.stem if path.is_file() else path.name
    last = re.split(r"[_.-]", stem.lower())[-1]
    return next((split for split, words in SPLIT_FOLDERS.items() if last in words), stem)


class _Reader:
    """Turns a path into parts, by its content; a path that is no data set into the words for what it is."""

    def __init__(
        self,
        findings: Findings,
        image_root: Path | None,
        num_labels: int,
        fast: bool,
        threads: int,
        class_names: tuple[str, ...],
        grouping: Group | None,
    ) -> None:
        self._findings, self._image_root, self._class_names = findings, image_root, class_names
        self._num_labels, self._fast, self._threads = num_labels, fast, threads
        self._column = None if grouping is None else grouping.column

    def read(self, path: Path) -> list[CheckedSplit] | str:
        checkers: dict[Form, Callable[[Path], list[CheckedSplit] | str]] = {
            Form.RECORDS: lambda path: [self._records(path, split_name(path))],
            Form.LIST: lambda path: [self._list(path, self._image_root or path.parent, split_name(path))],
            Form.MANIFEST: self._manifest,
            Form.AUGMENTED: lambda path: [
                check_augmented(path, self._image_root, split_name(path), self._findings, self._fast, self._threads)
            ],
            Form.ARCHIVE: lambda path: self._foreign("archive", path, Form.ARCHIVE.value),
            Form.OTHER: lambda path: self._foreign(
                "unknown-form", path, Form.OTHER.value, f"begins with {layouts.first_bytes(path)!r}"
            ),
            Form.IDX: lambda path: self._foreign("not-for-the-job", path, Form.IDX.value),
            Form.CIFAR: lambda path: self._foreign("not-for-the-job", path, f"{cifar.name_of(path)} binary files"),
            Form.LIST_CHANNELS: self._list_channels,
            Form.RECORD_CHANNELS: self._record_channels,
            Form.RECORD_FOLDER: self._record_folder,
            Form.SPLIT_FOLDERS: self._split_folders,
            Form.FOLDER: lambda path: [self._folder(path, split_name(path), self._class_names)],
        }
        return checkers[form_of(path)](path)

    def _foreign(self, code: str, path: Path, words: str, example: str = "") -> str:
        self._findings.add(code, path, example)
        return words

    def _list_channels(self, path: Path) -> list[CheckedSplit]:
        channels = layouts.list_channels(path)
        self._neighbours(path, [f"{name}{end}" for name in channels for end in ("", "_lst")])
        if "validation" not in channels:
            self._findings.add("channel-missing", path)
        return [self._list(listed, root, name) for name, (listed, root) in channels.items()]

    def _record_channels(self, path: Path) -> list[CheckedSplit]:
        channels = layouts.record_channels(path)
        self._neighbours(path, [folder.name for folder in channels.values()])
        if "validation" not in channels:
            self._findings.add("channel-missing", path)
        return [self._channel(folder, with_suffix(folder, ".rec"), name) for name, folder in channels.items()]

    def _split_folders(self, path: Path) -> list[CheckedSplit]:
        splits = split_folders(path)
        names = folder_classes(*splits.values())
        return [self._folder(folder, split, names) for split, folder in splits.items()]

    def _record_folder(self, path: Path) -> list[CheckedSplit]:
        """A folder with ``.rec`` files in it: splits, where they are called so, else one channel."""
        files = with_suffix(path, ".rec")
        names = [split_name(file) for file in files]
        if len(set(names) & set(SPLITS)) == len(files) > 1:
            return [self._records(file, name) for file, name in zip(files, names, strict=True)]
        return [self._channel(path, files, split_name(path))]

    def _channel(self, folder: Path, files: list[Path], name: str) -> CheckedSplit:
        """One channel of records: exactly one ``.rec``, nothing beside it."""
        if len(files) > 1:
            self._findings.add("channel-several-rec", folder, ", ".join(file.name for file in files))
        strays = sorted(entry.name for entry in folder.iterdir() if entry not in files)
        for stray in strays:
            self._findings.add("channel-stray-file", folder, stray)
        return self._records(files[0], name)

    def _neighbours(self, path: Path, channels: list[str]) -> None:
        """Entries beside a channel whose names begin with the channel's own."""
        for channel in channels:
            for entry in sorted(os.listdir(path)):
                if entry != channel and entry.startswith(channel):
                    code = "channel-neighbour" if entry in channels else "channel-prefix"
                    self._findings.add(code, path / channel, entry)

    def _manifest(self, path: Path) -> list[CheckedSplit]:
        found = manifest.read_file(path, self._image_root, self._column)
        return [self._of_split(path, found.class_names, name, split) for name, split in found.splits.items()]

    def _of_split(self, path: Path, names: tuple[str, ...], name: str, split: Split) -> CheckedSplit:
        assert isinstance(split.pictures, EncodedPictures)
        looks = look_at_files(split.pictures, deep=not self._fast, hashes=not self._fast, threads=self._threads)
        labels, keys = split.labels.astype(np.float64), split.keys
        return CheckedSplit(
            name=name,
            path=path,
            form=Form.MANIFEST,
            looks=looks,
            labels=labels,
            place=keys.__getitem__,
            file_name=keys.__getitem__,
            class_names=names,
            sources=split.sources,
        )

    def _records(self, path: Path, name: str) -> CheckedSplit:
        return check_records(
            path, name, self._findings, num_labels=self._num_labels, fast=self._fast, threads=self._threads
        )

    def _list(self, path: Path, root: Path, name: str) -> CheckedSplit:
        return check_list(
            path, root, name, self._findings, num_labels=self._num_labels, fast=self._fast, threads=self._threads
        )

    def _folder(self, path: Path, name: str, names: tuple[str, ...]) -> CheckedSplit:
        return check_folder(path, name, names, self._findings, fast=self._fast, threads=self._threads)
