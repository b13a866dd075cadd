"""A few pictures of data in S3, brought here for a rehearsal: ranged reads and single objects, some megabytes in all.

Enters: splits' URIs, and how many pictures of each. Leaves: a folder with one record file a split, classes numbered
anew from 0 in the order of their labels, since a few pictures do not have them all.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainers.config import Config
from trainers.data.formats import record_pieces
from trainers.errors import BadData
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.options import split_s3
from trainers.sagemaker.preflight.data.facts import PICTURES, label_fault, some

SPLITS = ("train", "validation", "test")
MOST_READS = 400
_MOST_BYTES = 16 * 2**20  # of pictures, a split
_PIECE_BYTES, _NUM_PIECES = 2**20, 6
_LIST_BYTES = 4 * 2**20
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Picture:
    """One encoded picture and its label: a number, or its folder's name."""

    label: float | str
    image: bytes


def fetch(uris: Mapping[str, str], folder: Path, counts: Mapping[str, int], config: Config, objects: Objects) -> Path:
    """``folder`` with about ``counts[split]`` pictures of each split, in ``<split>/<split>.rec``.

    ``uris``: channel name → S3 URI; ``data`` stands for a whole data set. Raises BadData for what the job could not
    read either, and AwsError.
    """
    sources = _splits(uris, objects) if "data" in uris else {name: uris[name] for name in SPLITS if name in uris}
    found = {
        name: _pictures(name, uri, uris.get(f"{name}_lst"), counts.get(name, 32), config, objects)
        for name, uri in sources.items()
    }
    labels = sorted({picture.label for picture in found.get("train", [])}, key=lambda label: (str(type(label)), label))
    numbers = {label: number for number, label in enumerate(labels)}
    for name, pictures in found.items():
        known = [picture for picture in pictures if picture.label in numbers]
        if known:
            _write(folder / name, known, numbers)
    return folder


def _splits(uris: Mapping[str, str], objects: Objects) -> dict[str, str]:
    """The splits that lie under a whole data set's prefix; all of it is the training split where there are none."""
    bucket, prefix = split_s3(uris["data"])
    keys = [item.key[len(prefix) :].lstrip("/") for item in objects.listing(bucket, prefix)]
    tops = {key.partition("/")[0] for key in keys if "/" in key}
    inside = [name for name in SPLITS if name in tops]
    if "train" not in inside:
        return {"train": uris["data"]}
    return {name: f"{uris['data'].rstrip('/')}/{name}/" for name in inside}


def _pictures(name: str, uri: str, list_uri: str | None, count: int, config: Config, objects: Objects) -> list[Picture]:
    bucket, prefix = split_s3(uri)
    listed = objects.listing(bucket, prefix)
    if not listed:
        raise BadData(f"{name}: nothing lies under {uri}")
    records = [item for item in listed if item.suffix == ".rec"]
    lists = [item for item in listed if item.suffix == ".lst"]
    if records:
        pictures = _of_records(name, bucket, records[0], objects)
        return _checked(name, _some_of_each(pictures, [str(p.label) for p in pictures], count), config)
    if list_uri is not None:
        list_bucket, list_prefix = split_s3(list_uri)
        lists = [item for item in objects.listing(list_bucket, list_prefix) if item.suffix == ".lst"]
        if not lists:
            raise BadData(f"{name}: there is no .lst under {list_uri}")
        named = _of_list(lists[0], list_bucket, prefix, listed, objects)
    elif lists:
        named = _of_list(lists[0], bucket, prefix, listed, objects)
    else:
        named = _of_folders(prefix, listed)
    if not named:
        raise BadData(
            f"{name}: under {uri} lie neither a .rec nor pictures in folders, but {some([o.key for o in listed])}; name"
            " a local copy by --dataset to rehearse"
        )
    chosen = _some_of_each(named, [str(label) for label, _ in named], count)
    small: list[tuple[float | str, Object]] = []
    total = 0
    for label, item in chosen:
        total += item.size
        if not small or total <= _MOST_BYTES:
            small.append((label, item))
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda entry: objects.read(bucket, entry[1].key), small))
    return _checked(name, [Picture(label, data) for (label, _), data in zip(small, contents, strict=True)], config)


def _checked(name: str, pictures: list[Picture], config: Config) -> list[Picture]:
    """Labels as the job will want them. Raises BadData."""
    for picture in pictures:
        fault = label_fault(picture.label, config) if isinstance(picture.label, float) else ""
        if fault:
            raise BadData(f"{name}: a label is out of place: {fault}")
    return pictures


def _of_records(name: str, bucket: str, file: Object, objects: Objects) -> list[Picture]:
    """Pictures of a record file's head, end and some places between."""
    starts = [0]
    if file.size > _PIECE_BYTES * _NUM_PIECES:
        stride = (file.size - _PIECE_BYTES) // (_NUM_PIECES - 1)
        starts = [number * stride // 4 * 4 for number in range(_NUM_PIECES)]
    length = file.size if len(starts) == 1 else _PIECE_BYTES
    found: list[record_pieces.Record] = []
    for start in starts:
        piece = objects.read(bucket, file.key, start, length) if file.size else b""
        at = start if start == 0 else record_pieces.first(piece, start)
        if at is not None:
            try:
                found += record_pieces.parse(piece[at - start :], at)[0]
            except record_pieces.NotRecords as error:
                raise BadData(f"{name}: {file.key}: {error}") from error
    pictures = [Picture(record.image.labels[0], record.image.image) for record in found if record.image is not None]
    if len(pictures) < len(found) or not pictures:
        raise BadData(f"{name}: {file.key} holds records without a JPEG or PNG; pack it with im2rec")
    return pictures


def _of_list(
    file: Object, bucket: str, prefix: str, listed: Iterable[Object], objects: Objects
) -> list[tuple[float | str, Object]]:
    """Label and object of each line whose picture is there."""
    text = objects.read(bucket, file.key, 0, min(file.size, _LIST_BYTES)).decode("utf-8", "replace")
    lines = text.splitlines()[: -1 if file.size > _LIST_BYTES else None]
    by_key = {item.key: item for item in listed}
    found: list[tuple[float | str, Object]] = []
    missing = []
    for line in lines:
        cells = line.split("\t")
        if not line.strip():
            continue
        try:
            label = float(cells[1])
        except (IndexError, ValueError):
            raise BadData(f"{file.key}: {line[:60]!r} is no line of index, label and path") from None
        item = by_key.get(f"{prefix.rstrip('/')}/{cells[-1].strip().removeprefix('./')}".lstrip("/"))
        if item is None:
            missing.append(cells[-1])
        else:
            found.append((label, item))
    if missing and not found:
        raise BadData(f"{file.key}: none of its pictures lies under {prefix}, such as {missing[0]}")
    return found


def _of_folders(prefix: str, listed: Iterable[Object]) -> list[tuple[float | str, Object]]:
    """Folder's name and object of each picture that lies in a folder."""
    inside = [(item.key[len(prefix) :].lstrip("/"), item) for item in listed if item.suffix in PICTURES and item.size]
    return [(key.partition("/")[0], item) for key, item in inside if "/" in key]


def _some_of_each(items: Sequence[_Item], labels: Sequence[str], count: int) -> list[_Item]:
    """``count`` of the items, the first of each label before the second of any."""
    seen: dict[str, int] = {}
    ranked = []
    for number, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        ranked.append((seen[label], number))
    return [items[number] for number in sorted(number for _, number in sorted(ranked)[:count])]


def _write(folder: Path, pictures: Iterable[Picture], numbers: Mapping[float | str, int]) -> None:
    from trainers.data.formats import recordio
    from trainers.data.formats.image_record import pack_image

    file = io.BytesIO()
    for number, picture in enumerate(pictures):
        recordio.write(file, pack_image(numbers[picture.label], number, picture.image))
    folder.mkdir(parents=True)
    (folder / f"{folder.name}.rec").write_bytes(file.getvalue())
