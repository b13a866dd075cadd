"""Augmented manifests, as SageMaker Ground Truth writes them: a JSON object a line, with a picture and its label."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data import dataset
from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.pictures import EncodedPictures, Files
from trainers.data.readers.paths import Root
from trainers.errors import BadData

SUFFIXES = (".manifest", ".jsonl", ".ndjson")
_MAX_LINE_BYTES = 1 << 20
_CLASSIFICATION = "groundtruth/image-classification"
_END, _META = "-ref", "-metadata"
_PROBED = 200  # lines by which it is decided how much of an address is the path below the root


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. ``label`` is a number or the name of a class; ``fault`` says why there is none, or what the line is;
    ``name`` is the class's name where the metadata have it."""

    line: int
    picture: str = ""
    label: str = ""
    name: str = ""
    fault: str = ""


def is_augmented(head: bytes) -> bool:
    """Whether a file that begins so is an augmented manifest."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"{") and b'-ref"' in head[:4096]


def parse(path: Path) -> list[Line]:
    """Every line that is not empty. BadData when it cannot be opened, or the labels are of several attributes."""
    rows = list(_objects(path))
    attributes: Counter[str] = Counter(key for _, found in rows if isinstance(found, dict) for key in _labels(found))
    shared = [key for key, count in attributes.items() if count > len(rows) / 2]
    if len(shared) > 1 and not all(isinstance(found, str) or _classified(found) for _, found in rows):
        raise BadData(
            f"{path}: {len(shared)} attributes that may be the label ({', '.join(sorted(shared)[:8])}); leave one"
            ' of them in the lines: the label of each has the metadata "type": "groundtruth/image-classification"'
        )
    return [_line(number, found) for number, found in rows]


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line number, object, or what is wrong with the line)."""
    try:
        with open(path, "rb") as file:
            number = 0
            while raw := file.readline(_MAX_LINE_BYTES):
                number += 1
                if text := raw.removeprefix(b"\xef\xbb\xbf").strip():
                    yield number, _object(text)
                if len(raw) == _MAX_LINE_BYTES and not raw.endswith(b"\n"):
                    return
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error


def _object(text: bytes) -> dict[str, Any] | str:
    try:
        found = json.loads(text)
        if b"\\ud" in text.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half a character, which no name can have, is refused
    except (ValueError, RecursionError) as error:
        quotes = "; JSON wants double quotes" if text.startswith(b"{'") else ""
        if text in (b"{", b"[") or text.endswith((b"{", b"[")):
            quotes = "; the object must be on one line"
        return f"is no JSON ({str(error)[:80]}){quotes}"
    if isinstance(found, list):
        keys = found and isinstance(found[0], dict) and "prefix" in found[0]
        return (
            "is a list of keys below a prefix (S3's ManifestFile), which has no labels" if keys else "is a JSON array"
        )
    return found if isinstance(found, dict) else f"is {text[:40]!r}, no JSON object"


def _labels(found: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key in found
        if not key.endswith((_END, _META)) and key not in ("source", "id", "split", "usage", "label-id")
    ]


def _classified(found: Mapping[str, Any]) -> list[str]:
    """The attributes that their metadata call the class of a picture."""
    kinds = {key: found.get(key + _META) for key in _labels(found)}
    return [key for key, meta in kinds.items() if isinstance(meta, dict) and meta.get("type") == _CLASSIFICATION]


def _line(number: int, found: dict[str, Any] | str) -> Line:
    if isinstance(found, str):
        return Line(line=number, fault=found)
    picture = found.get("source-ref") or next(
        (v for k, v in found.items() if k.endswith(_END) and isinstance(v, str)), ""
    )
    if not isinstance(picture, str) or not picture:
        kind = "text" if "source" in found else f"no source-ref (it has {', '.join(list(found)[:5]) or 'nothing'})"
        return Line(line=number, fault=f"has {kind}, no picture")
    keys = _classified(found)[:1] or _labels(found)
    metas = [value for key, value in found.items() if key.endswith(_META) and isinstance(value, dict)]
    if not keys:
        why = next((str(meta["failure-reason"]) for meta in metas if "failure-reason" in meta), "")
        kind = next((str(meta["type"]) for meta in metas if "type" in meta), "")
        said = f" ({why})" if why else f" ({kind} is not one class a picture)" if kind else ""
        return Line(line=number, picture=picture, fault=f"has no label{said}")
    value, meta = found[keys[0]], found.get(keys[0] + _META)
    meta = meta if isinstance(meta, dict) else {}
    if "failure-reason" in meta:
        return Line(line=number, picture=picture, fault=f"has no label ({meta['failure-reason']})")
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            pass
    if isinstance(value, dict):
        kind = meta.get("type", "annotations")
        return Line(line=number, picture=picture, fault=f"has {kind} under {keys[0]!r}, not one class")
    if isinstance(value, list):
        return Line(line=number, picture=picture, fault=f"has {len(value)} labels under {keys[0]!r}; one is legal here")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or isinstance(value, bool) else str(value).strip()
    if not text:
        return Line(line=number, picture=picture, fault=f"has no label ({keys[0]!r} is {value!r})")
    name = str(meta.get("class-name", "") or "")
    if name and len({key for key in _labels(found)}) >= 1 and keys[0].endswith(f"_{name}"):
        text, name = name, ""  # Rekognition has an attribute for each class
    return Line(line=number, picture=picture, label=text, name=name)


def read_file(path: Path, root: Path | None) -> SplitsRead:
    """The pictures with one class each; lines without a label are left out and noted. BadData names the line."""
    lines = parse(path)
    good = [line for line in lines if not line.fault]
    if not good:
        why = f": line {lines[0].line} {lines[0].fault}" if lines else ""
        raise BadData(f"{path}: no line has a picture and a label{why}; python -m trainers.data check {path} says more")
    names, labels = classes(path, good)
    keys = located([line.picture for line in good], root if root is not None else path.parent)
    gone = [line.picture for line, key in zip(good, keys, strict=True) if key is None]
    if gone:
        raise BadData(f"{path}: {_elsewhere(gone, len(good))}; {fetch_advice(gone, path)}")
    place = Root(root if root is not None else path.parent)
    files = Files([place.path(key) for key in keys if key is not None])
    split = Split(EncodedPictures(files), labels, [key for key in keys if key is not None])
    bad = [line for line in lines if line.fault]
    notes = () if not bad else (f"{len(bad)} line(s) left out: line {bad[0].line} {bad[0].fault}",)
    return SplitsRead(name=path.stem, class_names=names, splits={WHOLE: split}, source=str(path), notes=notes)


def classes(path: Path, lines: Sequence[Line]) -> tuple[tuple[str, ...], np.ndarray[Any, np.dtype[np.int64]]]:
    """Class names and labels (N,): numbers keep their meaning, names are numbered in their order."""
    texts = [line.label for line in lines]
    if not all(text.isdecimal() and len(text) < 10 and int(text) < dataset.MAX_CLASSES for text in texts):
        names = tuple(sorted(set(texts)))
        return names, np.array([names.index(text) for text in texts], np.int64)
    labels = np.array([int(text) for text in texts], np.int64)
    called: dict[int, str] = {}
    for label, line in zip(labels.tolist(), lines, strict=True):
        if line.name and called.setdefault(label, line.name) != line.name:
            raise BadData(
                f"{path}:{line.line}: label {label} is called {line.name!r} here and {called[label]!r} before"
            )
    known = dataset.find(path.parent)
    if known is None and called:
        known = tuple(called.get(label, str(label)) for label in range(int(labels.max()) + 1))
        known = known if len(set(known)) == len(known) else None
    return dataset.named(labels, known, str(path)), labels


def located(pictures: Sequence[str], root: Path) -> list[str | None]:
    """The path below ``root`` of each picture, None where there is none. Of every address the same number of folders
    is left out, beginning with the bucket: as few as possible."""
    place = Root(root)
    parts = [
        [part for part in text.partition("://")[2].split("/") if part] if "://" in text else text.split("/")
        for text in pictures
    ]
    probed = parts[:: max(1, len(parts) // _PROBED)]
    best, most = 0, -1
    for left_out in range(min(12, max((len(some) for some in parts), default=0))):
        count = sum(place.has("/".join(some[left_out:])) for some in probed if len(some) > left_out)
        if count > most:
            best, most = left_out, count
    return [key if place.has(key := "/".join(some[best:])) and key else None for some in parts]


def _elsewhere(gone: Sequence[str], count: int) -> str:
    return f"{len(gone):,} of {count:,} pictures are not on this machine, such as {gone[0]}"


def fetch_advice(gone: Sequence[str], path: Path) -> str:
    """The command that brings the pictures here, where they are in S3."""
    folders = {text.rpartition("/")[0] for text in gone if text.startswith("s3://")}
    first = min(folders, default="")
    for folder in folders:
        while first and not f"{folder}/".startswith(f"{first}/"):
            first = first.rpartition("/")[0]
    if first.count("/") < 2:
        return "give the folder that they start from: --image-root DIR"
    return f"aws s3 sync {shlex.quote(first)} DIR, then give --image-root DIR"
