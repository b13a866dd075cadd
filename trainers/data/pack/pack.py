"""``pack``: any source to what an upload wants: one class map, stratified splits, records or a list with pictures."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tracking.errors.words import readable
from tracking.models.serving.pictures import shortest_side
from trainers.data import dataset
from trainers.data.check.examine import look_at_files
from trainers.data.dataset import WHOLE, Split, SplitsRead, stratified
from trainers.data.pack.relabel import relabelled
from trainers.data.pack.writers import ListWriter, RecordWriter, Writer, clear_abandoned, staged
from trainers.data.pictures import codec
from trainers.data.pictures.codec import Pixels, encode
from trainers.data.pictures.pictures import ArrayPictures, EncodedPictures, Indices
from trainers.data.pictures.sizing import resized
from trainers.data.pictures.threads import in_order
from trainers.data.source import read_source
from trainers.errors import BadData

Form = Literal["rec", "lst"]
DEFAULT_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
DEFAULT_QUALITY = 95
REPORT = "pack.json"
_JOB_BYTES = 1 << 19
_WRITERS: dict[str, Callable[..., Writer]] = {"rec": RecordWriter, "lst": ListWriter}


@dataclass(frozen=True, kw_only=True)
class Options:
    """``shares`` of the splits, where the source has none. ``resize``: shortest side in px. ``quality``: JPEG, 1..100.

    ``relabel``: the edited file of ``python -m reports mistakes``.

    Pictures pass through byte by byte unless ``resize`` or ``quality`` is given, or they are neither JPEG nor PNG.
    """

    form: Form = "rec"
    shares: Mapping[str, float] | None = None
    seed: int = 0
    resize: int | None = None
    quality: int | None = None
    num_thread: int = 0
    skip_bad: bool = False
    image_root: Path | None = None
    relabel: Path | None = None
    overwrite: bool = False
    group: str | None = None


@dataclass(kw_only=True)
class Packed:
    """What was written, pictures and bytes of each split; and what was not: ``skipped``, picture -> reason."""

    source: str
    out: str
    form: str
    class_names: tuple[str, ...]
    pictures: dict[str, list[int]] = field(default_factory=dict)
    num_bytes: dict[str, int] = field(default_factory=dict)
    reencoded: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def num_pictures(self) -> int:
        return sum(sum(counts) for counts in self.pictures.values())


def pack(spec: str, out: Path, options: Options, on_progress: Callable[[int, int], None] | None = None) -> Packed:
    """Write ``out`` whole, or raise BadData or DiskFull and leave nothing. ``pictures`` of the result are per class."""
    clear_abandoned(out)
    found = read_source(spec, options.image_root, salvage=options.skip_bad, group=options.group)
    notes = found.notes
    if options.relabel is not None:
        found, changes = relabelled(found, options.relabel)
        notes = (*notes, *changes)
    packed = Packed(source=found.source, out=str(out), form=options.form, class_names=found.class_names, notes=notes)
    splits = _plan(found, options, packed.skipped)
    total, done = sum(len(split) for split in splits.values()), 0
    with staged(out, overwrite=options.overwrite) as stage:
        dataset.write(stage, found.class_names)
        for place, (name, split) in enumerate(splits.items()):
            order = np.random.default_rng([options.seed, place]).permutation(len(split))
            counts = [0] * len(found.class_names)
            with closing(_WRITERS[options.form](stage, name, found.class_names)) as writer:
                number = 0
                for index, ready in _prepared(split, order, options):
                    done += 1
                    if on_progress is not None:
                        on_progress(done, total)
                    if ready.fault is not None:
                        packed.skipped[split.pictures.name(index)] = ready.fault
                        continue
                    label = int(split.labels[index])
                    writer.add(number, label, split.keys[index], ready.data, ready.suffix)
                    counts[label] += 1
                    number += 1
                    packed.reencoded += ready.reencoded
            packed.pictures[name], packed.num_bytes[name] = counts, writer.num_bytes
        _demand_pictures(packed)
        report = {"format": 1, **asdict(packed), "out": out.name, "seed": options.seed}
        (stage / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return packed


def _plan(found: SplitsRead, options: Options, skipped: dict[str, str]) -> dict[str, Split]:
    """The splits to write: those of the source, or cut here."""
    splits = dict(found.splits)
    if WHOLE in splits:
        shares = dict(options.shares) if options.shares is not None else dict(DEFAULT_SHARES)
        splits = _cut(splits[WHOLE], shares, found, options, skipped)
    elif "validation" not in splits:
        given = {name: share for name, share in (options.shares or {}).items() if name != "train"}
        if given.keys() - {"validation"}:
            raise BadData(f"{found.source} has a test split of its own; --split may only give validation=SHARE")
        share = given.get("validation", DEFAULT_SHARES["validation"])
        splits |= _cut(splits["train"], {"validation": share}, found, options, skipped)
    elif options.shares is not None:
        raise BadData(f"{found.source} has splits of its own ({', '.join(splits)}); leave --split out")
    return {name: splits[name] for name in ("train", "validation", "test") if name in splits and len(splits[name])}


def _cut(
    whole: Split, shares: Mapping[str, float], found: SplitsRead, options: Options, skipped: dict[str, str]
) -> dict[str, Split]:
    wanted = {name: shares[name] for name in ("test", "validation") if shares.get(name, 0) > 0}
    if not wanted:
        return {"train": whole}
    if not isinstance(whole.pictures, EncodedPictures):
        digests = whole.image_digests
    else:
        looks = look_at_files(whole.pictures, deep=False, threads=threads(options))
        bad = {index: why for index in looks.faults if (why := _why_unusable(whole, index)) is not None}
        if bad and not options.skip_bad:
            raise BadData(_stopped(whole.pictures.name(min(bad)), bad[min(bad)], len(bad)))
        skipped.update({whole.pictures.name(index): reason for index, reason in bad.items()})
        kept = np.setdiff1d(np.arange(len(whole)), list(bad))
        every = looks.hex_digests()
        digests, whole = [every[index] for index in kept], whole.take(kept)
    parts = stratified(whole.labels, digests, wanted, options.seed, found.class_names, whole.sources)
    return {name: whole.take(indices) for name, indices in parts.items()}


def _why_unusable(split: Split, index: int) -> str | None:
    """A header that the quick look could not read may still be one that Pillow can."""
    pictures = split.pictures
    assert isinstance(pictures, EncodedPictures)
    name = pictures.name(index)
    try:
        codec.header(pictures.read(index), name)
    except BadData as error:
        return str(error).removeprefix(f"{name}: ").removesuffix("; repair or remove it")
    return None


@dataclass(frozen=True)
class _Ready:
    data: bytes = b""
    suffix: str = ""
    reencoded: bool = False
    fault: str | None = None


def _prepared(split: Split, order: Indices, options: Options) -> Iterator[tuple[int, _Ready]]:
    """(index, bytes to write) in the given order, made on threads. BadData at the first bad picture, or its fault."""
    if len(order) == 0:
        return
    first = split.pictures
    size = len(first.read(int(order[0]))) if isinstance(first, EncodedPictures) and not options.skip_bad else 1 << 14
    step = max(1, min(64, _JOB_BYTES // max(size, 1)))
    jobs = [order[at : at + step] for at in range(0, len(order), step)]
    number = threads(options)
    work = functools.partial(_prepare_some, split, options)
    with closing(in_order(work, jobs, number, 3 * number)) as results:
        for some in results:
            for index, ready in some:
                if ready.fault is not None and not options.skip_bad:
                    raise BadData(_stopped(split.pictures.name(index), ready.fault, 1))
                yield index, ready


def _prepare_some(split: Split, options: Options, indices: Indices) -> list[tuple[int, _Ready]]:
    return [(int(index), _prepare(split, options, int(index))) for index in indices]


def _prepare(split: Split, options: Options, index: int) -> _Ready:
    pictures = split.pictures
    try:
        if not isinstance(pictures, EncodedPictures):
            assert isinstance(pictures, ArrayPictures)
            pixels = pictures.load(index, pictures.array.shape[3])
            data, suffix = _encoded(pixels, options, lossless=options.quality is None)
            return _Ready(data, suffix)
        data = pictures.read(index)
        head = codec.header(data, "")
        suffix = {"jpeg": ".jpg", "png": ".png"}.get(head.format, "")
        if suffix and options.resize is None and options.quality is None:
            if codec.decoded(np.frombuffer(data, np.uint8)) is None:
                codec.decode(data, head.channels, "")
            return _Ready(data, suffix)
        pixels = codec.decode(data, head.channels, "")
        data, suffix = _encoded(pixels, options, lossless=options.resize is None and options.quality is None)
        return _Ready(data, suffix, reencoded=True)
    except BadData as error:
        reason = str(error).removeprefix(f"{pictures.name(index)}: ").removeprefix(": ")
        return _Ready(fault=reason.removesuffix("; repair or remove it"))


def _encoded(pixels: Pixels, options: Options, *, lossless: bool) -> tuple[bytes, str]:
    if options.resize is not None:
        pixels = resized(pixels, *shortest_side(pixels.shape[0], pixels.shape[1], options.resize))
    return encode(pixels, None if lossless else options.quality or DEFAULT_QUALITY)


def threads(options: Options) -> int:
    """How many threads to use: as given, else one for each processor this process may use."""
    return options.num_thread if options.num_thread > 0 else len(os.sched_getaffinity(0))


def _stopped(name: str, reason: str, count: int) -> str:
    more = f" ({count} such)" if count > 1 else ""
    return f"{name}: {reason}{more}. Nothing was written; repair it, or leave such pictures out with --skip-bad"


def _demand_pictures(packed: Packed) -> None:
    for split, counts in packed.pictures.items():
        if sum(counts) == 0:
            raise BadData(f"{packed.source}: no readable picture for the {split} split")


_SHOWN = 10  # skipped pictures


def packed_text(packed: Packed, elapsed_s: float) -> str:
    """A few lines: what is where, how much was skipped and why, and what to do next."""
    lines = [
        f"{packed.out}: {packed.num_pictures:,} pictures of {len(packed.class_names)} classes in {elapsed_s:.1f} s"
    ]
    for split, counts in packed.pictures.items():
        few, many = min(counts), max(counts)
        each = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        where = f"{split}/{split}.rec" if packed.form == "rec" else f"{split}/ and {split}_lst/{split}.lst"
        size = readable(packed.num_bytes[split])
        lines.append(f"  {split:<10} {sum(counts):>9,} pictures, {each} a class, {size:>9}  {where}")
    lines.append("  classes.json names the classes; pack.json says how this was made")
    if packed.reencoded:
        lines.append(f"  {packed.reencoded:,} pictures were encoded anew")
    if packed.skipped:
        lines.append(f"  {len(packed.skipped):,} pictures were left out:")
        lines += [f"    {name}: {reason}" for name, reason in list(packed.skipped.items())[:_SHOWN]]
        if len(packed.skipped) > _SHOWN:
            lines.append(f"    … and {len(packed.skipped) - _SHOWN:,} more, all in pack.json")
    lines += [f"  note: {note}" for note in packed.notes]
    return "\n".join(lines)


def packed_json(packed: Packed, elapsed_s: float) -> dict[str, Any]:
    """The same, whole."""
    return {
        "format": 1,
        "out": packed.out,
        "source": packed.source,
        "form": packed.form,
        "class_names": list(packed.class_names),
        "splits": {
            split: {"pictures": sum(counts), "per_class": counts, "bytes": packed.num_bytes[split]}
            for split, counts in packed.pictures.items()
        },
        "reencoded": packed.reencoded,
        "skipped": [{"picture": name, "reason": reason} for name, reason in packed.skipped.items()],
        "notes": list(packed.notes),
        "elapsed_s": round(elapsed_s, 3),
    }
