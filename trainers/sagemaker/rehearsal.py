"""``--rehearse``: the job in small, here, before a machine is rented.

A few batches of the real data, from this machine or out of S3, are packed as RecordIO into the container's own folder
layout, and the container's entry point runs on them for one epoch, in a process of its own: wrong settings, labels or
pictures show now.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tracking.errors.words import duration, readable
from tracking.names import SPLITS
from trainers.config import Config
from trainers.config.checks import flag
from trainers.data.formats import record_pieces
from trainers.errors import BadData, BadInput
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.aws.uri import is_s3, split_s3
from trainers.sagemaker.preflight.data.facts import PICTURES, some

if TYPE_CHECKING:
    from trainers.data import Dataset
    from trainers.sagemaker.options import JobOptions

_TRAIN_BATCHES, _OTHER_PICTURES = 3, 64
# What a processor does in half a minute, in multiply-adds: larger networks rehearse on fewer pictures.
_MACS = 0.6e12


def run(config: Config, options: JobOptions) -> int:
    """Rehearse; 0 when the job ran to its end, 1 when it failed. Raises BadInput for settings or data that can't do."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as place:
        base = Path(place) / "opt-ml"
        counts, small = _lay_out(config, options, base, Path(place) / "data")
        batch = "" if small.mini_batch_size == config.mini_batch_size else f", in batches of {small.mini_batch_size}"
        print(
            f"rehearsal on {', '.join(f'{count} {name}' for name, count in counts.items())} pictures{batch}", flush=True
        )
        done = subprocess.run(
            [sys.executable, "-m", "trainers.sagemaker.container", "train"],
            env={**os.environ, "SAGEMAKER_BASE_DIR": str(base)},
            stdin=subprocess.DEVNULL,
        )
        failure = base / "output" / "failure"
        if done.returncode != 0:
            reason = failure.read_text(encoding="utf-8") if failure.is_file() else f"exit code {done.returncode}"
            reason = reason.replace(f"{base}/work/", "")  # a folder that is gone by then
            print(f"the rehearsal failed, as the job would have: {reason}", file=sys.stderr)
            return 1
    print(f"the rehearsal ran to its end in {duration(time.monotonic() - started)}; the job can be launched")
    return 0


def _lay_out(config: Config, options: JobOptions, base: Path, folder: Path) -> tuple[dict[str, int], Config]:
    """Write hyperparameters and channels under ``base`` as SageMaker does; pictures a channel, and the small config."""
    from trainers.sagemaker.aws import upload
    from trainers.sagemaker.job import channels as first_weights
    from trainers.sagemaker.job import request

    folder.mkdir(parents=True)
    dataset, resolved = _open(config, options, folder)
    wanted = num_pictures(resolved)
    batch_size = min(config.mini_batch_size, wanted["train"], len(dataset.train))
    (base / "input" / "config").mkdir(parents=True)
    counts = {}
    top_k = config.top_k if config.top_k is not None and config.top_k < len(dataset.class_names) else None
    for name, split in dataset.splits.items():
        known = np.flatnonzero(split.labels < wanted["train"])  # of hundreds of classes the first, one picture each
        few = split.take(known[some_of_each(split.labels[known], wanted[name])])
        channel = base / "input" / "data" / name
        channel.mkdir(parents=True)
        upload.pack(few, channel / f"{name}.rec", resolved)
        counts[name] = len(few)
    first_weights.lay_out_init(config, base / "input" / "data")
    small = replace(
        config, epochs=1, lr_scheduler_step=None, num_classes=None, num_training_samples=None, top_k=top_k,
        image_shape=resolved.image_shape, num_layers=resolved.num_layers, resize=resolved.resize, allow_overlap=True,
        mini_batch_size=batch_size,
    )  # fmt: skip
    text = json.dumps(request.hyperparameters(small))
    (base / "input" / "config" / "hyperparameters.json").write_text(text, encoding="utf-8")
    return counts, small


def _open(config: Config, options: JobOptions, folder: Path) -> tuple[Dataset, Config]:
    """The data that the job would read, a few pictures of them where they are in S3."""
    from trainers.sagemaker.job import channels
    from trainers.sagemaker.options import CHANNELS
    from trainers.training import experiment

    given = {name: str(getattr(options, name)) for name in CHANNELS if getattr(options, name) is not None}
    if not given and is_s3(config.dataset):
        given = {"data": config.dataset}
    there = [name for name, path in given.items() if is_s3(path)]
    if not there:
        local = {name: Path(path).expanduser() for name, path in given.items()}
        for path in local.values():
            if not path.exists():
                raise BadInput(f"{path}: there is no such file or folder; give an S3 prefix or a path of this machine.")
        return channels.open_here(config, local, folder)
    if len(there) < len(given):
        here = next(name for name in given if name not in there)
        raise BadInput(f"--rehearse: {flag(here)} is here and {flag(there[0])} in S3; name all here.")
    _fetch(config, options, given, folder)
    # A few pictures are not all: their numbers are not those that the job will count.
    open_config = replace(
        config, dataset=str(folder), image_root=None, num_classes=None, num_training_samples=None, top_k=None,
        mini_batch_size=1,
    )  # fmt: skip
    dataset, resolved = experiment.load_data(open_config)
    return dataset, replace(resolved, mini_batch_size=config.mini_batch_size)


def _fetch(config: Config, options: JobOptions, uris: Mapping[str, str], folder: Path) -> None:
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.aws.objects import Objects

    objects = Objects(Aws(region=options.region, profile=options.profile), MOST_READS)
    fetch(uris, folder, num_pictures(config), config, objects)
    print(f"fetched {readable(objects.num_bytes_read)} out of S3", flush=True)


def num_pictures(config: Config) -> dict[str, int]:
    """Pictures of each split: a few batches, fewer where the network is so large that they would take minutes."""
    from trainers.sagemaker.cost.estimate import macs

    # Forward, backward and update of a training picture, and a forward pass of two others beside it.
    affordable = max(4, int(_MACS / (4 * macs(config))))
    train = min(config.mini_batch_size * _TRAIN_BATCHES, affordable)
    others = min(_OTHER_PICTURES, max(4, affordable // 2))
    return {"train": train, "validation": others, "test": others}


def some_of_each(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], wanted: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices of about ``wanted`` pictures, every class among them, in the order of the split."""
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), np.int64)
    starts = np.searchsorted(labels[order], labels[order])
    rank[order] = np.arange(len(labels)) - starts  # 0 for the first picture of its class, 1 for the second
    chosen = np.lexsort((np.arange(len(labels)), rank))[:wanted]
    return np.sort(chosen)


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

    ``uris``: channel name → S3 URI; ``data`` means a whole data set. Raises BadData for what the job could not
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
    """The splits under a whole data set's prefix; all of it is the training split where there are none."""
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
        raise BadData(f"{name}: there is nothing under {uri}")
    records = [item for item in listed if item.suffix == ".rec"]
    lists = [item for item in listed if item.suffix == ".lst"]
    if records:
        pictures = _of_records(name, bucket, records[0], objects)
        return _checked(name, _some_objects_of_each(pictures, [str(p.label) for p in pictures], count), config)
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
            f"{name}: under {uri} are neither a .rec nor pictures in folders, but {some([o.key for o in listed])}; name"
            " a local copy by --dataset to rehearse"
        )
    chosen = _some_objects_of_each(named, [str(label) for label, _ in named], count)
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
    high = config.num_classes if config.num_classes is not None else math.inf
    for label in (picture.label for picture in pictures):
        if isinstance(label, float) and not (label.is_integer() and 0 <= label < high):
            raise BadData(f"{name}: label {label:g}; legal are whole numbers from 0, below num_classes")
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
        raise BadData(f"{file.key}: none of its pictures is under {prefix}, such as {missing[0]}")
    return found


def _of_folders(prefix: str, listed: Iterable[Object]) -> list[tuple[float | str, Object]]:
    """Folder's name and object of each picture in a folder."""
    inside = [(item.key[len(prefix) :].lstrip("/"), item) for item in listed if item.suffix in PICTURES and item.size]
    return [(key.partition("/")[0], item) for key, item in inside if "/" in key]


def _some_objects_of_each(items: Sequence[_Item], labels: Sequence[str], count: int) -> list[_Item]:
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
