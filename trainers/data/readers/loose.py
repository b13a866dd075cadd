"""Pictures without a data set: files, folders, lists and records, one after another, each with what may be wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainers.data import catalog
from trainers.data.formats.image_record import is_protobuf_record, unpack_image
from trainers.data.formats.kinds import FOREIGN, HEAD_BYTES, READ, kind_of
from trainers.data.formats.recordio import Frames, RecordFile
from trainers.data.pictures.pictures import Files
from trainers.data.readers import lists
from trainers.data.readers.folder import class_folders, walk
from trainers.data.readers.paths import Root
from trainers.errors import BadData

# How pictures that are not read are named, where only the name can be seen.
OTHER_SUFFIXES = (".gif", ".avif", ".jp2", ".svg", ".psd")
_SHOWN = 3


@dataclass(frozen=True)
class Loose:
    """One picture: what it is called, and its bytes when they are asked for; ``read`` raises BadData."""

    path: str
    read: Callable[[], bytes]


@dataclass
class LeftOut:
    """Files of folders that are no pictures: how many, and the first few."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(path)

    def __str__(self) -> str:
        """``5 other files were left out: a.txt, b.txt, c.txt, …``; empty where there are none."""
        if not self.count:
            return ""
        more = ", …" if self.count > len(self.first) else ""
        what = "1 other file was" if self.count == 1 else f"{self.count:,} other files were"
        return f"{what} left out: {', '.join(self.first)}{more}"


def refused(path: str, why: str) -> Loose:
    """An entry without a picture: its ``read`` raises, with the reason."""

    def read() -> bytes:
        raise BadData(why)

    return Loose(path, read)


def pictures(path: str, root: Path | None, left_out: LeftOut) -> Iterator[Loose]:
    """The pictures of a file, folder (all that is below it), list or file of records; ``root``: of a list's paths.

    Nothing is raised: what cannot be read is a picture whose ``read`` raises.
    """
    place = Path(path).expanduser()
    try:
        kind, suffix = _kind_of(place), place.suffix.lower()
    except (OSError, ValueError) as error:  # a name too long, a null byte
        yield refused(path, f"cannot be read ({error})")
        return
    if kind == "folder":
        yield from _of_folder(place, left_out)
    elif kind == "" and path in catalog.SOURCES:
        yield refused(path, f"is the name of a data set: python -m trainers.evaluate RUN --dataset {path}")
    elif kind == "":
        yield refused(path, "there is no such file or folder")
    elif suffix == ".lst":
        yield from _of_list(place, root)
    elif suffix == ".rec":
        yield from _of_records(place)
    else:
        yield _file(str(place))


def is_labelled(path: str, class_names: Sequence[str]) -> bool:
    """Whether a path says which class each picture is: a list, records, or a folder with a sub-folder for each."""
    place = Path(path).expanduser()
    if not place.is_dir():
        return place.suffix.lower() in (".lst", ".rec") and place.is_file()
    try:
        folders = set(class_folders(place))
    except BadData:
        return False
    return len(folders & set(class_names)) >= 2


def demand_picture(data: bytes) -> None:
    """Raise BadData for bytes that are none of the formats that are read, with what they are instead."""
    kind = kind_of(data)
    if kind in READ:
        return
    if kind in FOREIGN:
        raise BadData(f"{kind}, which is not read here; save it as JPEG or PNG")
    raise BadData(f"{kind or 'no known format'}, not a picture; {', '.join(READ)} are read")


def _kind_of(place: Path) -> str:
    return "folder" if place.is_dir() else "file" if place.exists() else ""


def _file(path: str) -> Loose:
    def read() -> bytes:
        try:
            return Files([path]).read(0)
        except BadData as error:
            raise BadData(str(error).removeprefix(f"{path}: ")) from error

    return Loose(path, read)


def _of_folder(folder: Path, left_out: LeftOut) -> Iterator[Loose]:
    closed: list[OSError] = []
    for path, is_picture in walk(folder, closed.append):
        if is_picture or _is_picture(path):
            yield _file(path)
        else:
            left_out.add(path)
    for error in closed:
        yield refused(str(error.filename), f"cannot be listed ({error.strerror})")


def _is_picture(path: str) -> bool:
    """Whether a file of another name is a picture by its first bytes."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD_BYTES)) in (*READ, *FOREIGN)
    except OSError:
        return False


def _of_list(path: Path, root: Path | None) -> Iterator[Loose]:
    folder = path.parent if root is None else root
    inside = Root(folder)
    try:
        rows = lists.parse(path)[1]
    except BadData as error:
        yield refused(str(path), str(error).removeprefix(f"{path}: "))
        return
    for row in rows:
        if isinstance(row, lists.BadLine):
            said = "is not index, label, path separated by tabs"
            yield refused(f"{path}:{row.line}", f"{row.text!r} {said} ({row.kind})")
        elif (why := inside.escapes(row.path)) is not None:
            yield refused(f"{path}:{row.line}", f"path {row.path!r} {why}; paths must stay under {folder}")
        else:
            yield _file(inside.path(row.path))


def _of_records(path: Path) -> Iterator[Loose]:
    try:
        file = RecordFile(path)
        frames = file.scan()
    except BadData as error:
        yield refused(str(path), str(error).removeprefix(f"{path}: "))
        return
    for index in range(len(frames)):
        yield Loose(f"{path}[{index}]", lambda index=index: _payload(file, frames, index))  # type: ignore[misc]
    if frames.fault is not None:
        fault = frames.fault
        yield refused(f"{path}[{len(frames)}…]", f"damaged from byte {fault.offset:,} on: {fault.detail}")


def _payload(file: RecordFile, frames: Frames, index: int) -> bytes:
    payload = file.payload(frames, index)
    record = unpack_image(payload)
    if record is None or is_protobuf_record(payload):
        raise BadData("a record without a picture (no image record as im2rec writes it)")
    return record.image
