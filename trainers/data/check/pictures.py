"""``check`` of the pictures and labels of all splits together: what a job would stumble over."""

from __future__ import annotations

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainers.data.check.examine import NO_PICTURE
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.check.near import matches_between
from trainers.data.dataset import alike
from trainers.data.formats.headers import FORMATS
from trainers.data.groups import Group
from trainers.data.pictures.codec import reads_heic, too_large
from trainers.data.pictures.sizing import Sizing
from trainers.data.readers.layouts import Form

_NAMED = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".heic": "heic", ".heif": "heic", ".png": "png",
    ".bmp": "bmp", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff", ".gif": "gif",
}  # fmt: skip
_JPEG, _PNG, _HEIC = FORMATS.index("jpeg"), FORMATS.index("png"), FORMATS.index("heic")


def check_looks(part: CheckedSplit, shape: tuple[int, int, int] | None, resize: int | None, findings: Findings) -> None:
    """Each picture by itself: readable, of a legal format, depth and size."""
    looks, path, place = part.looks, part.path, part.place
    heads = looks.heads
    height, width = heads["height"].astype(np.int64), heads["width"].astype(np.int64)
    formats = heads["format"]
    huge = too_large(heads["height"], heads["width"], looks.sizes)
    known = (height > 0) & (width > 0)
    foreign = (formats != _JPEG) & (formats != _PNG) & (formats > 0)
    unreadable = np.zeros(len(part), bool)
    unreadable[list(looks.faults)] = True

    def all_of(code: str, which: NDArray[np.bool_], words: str = "") -> None:
        findings.add_all(code, path, np.flatnonzero(which), lambda at: f"{place(at)}{words}")

    findings.add_all(
        "picture-unreadable",
        path,
        [at for at in np.flatnonzero(unreadable & ~huge & ~foreign) if looks.faults[at] != NO_PICTURE],
        lambda at: f"{place(at)}: {looks.faults[at]}",
    )
    moves = heads["animated"]
    closed = (formats == _HEIC) & (not reads_heic())
    all_of("picture-heic", closed)
    findings.add_all(
        "picture-format",
        path,
        np.flatnonzero(foreign & ~closed),
        lambda at: f"{place(at)}: {FORMATS[formats[at]]}{', animated' if moves[at] else ''}",
    )
    findings.add_all(
        "picture-huge", path, np.flatnonzero(huge), lambda at: f"{place(at)}: {width[at]} x {height[at]} px"
    )
    usable = known & ~unreadable & ~huge
    all_of("picture-cmyk", usable & (formats == _JPEG) & (heads["components"] == 4))
    all_of("picture-16-bit", usable & (heads["bits"] == 16))
    all_of("picture-animated", usable & moves & ~foreign)
    all_of("picture-alpha", usable & heads["alpha"])
    all_of("picture-rotated", usable & (heads["orientation"] != 1))
    _check_names(part, usable | closed, findings)
    _check_readable(part, unreadable, findings)
    if shape is not None:
        _check_shape(part, usable, shape, resize, findings)


def _check_readable(part: CheckedSplit, unreadable: NDArray[np.bool_], findings: Findings) -> None:
    """Classes of which not one picture can be read; nothing is said of a split of which none can."""
    whole = part.whole
    classes = np.unique(part.labels[whole])
    dead = [label for label in classes if unreadable[whole & (part.labels == label)].all()]
    if len(dead) < len(classes):
        for label in dead:
            members = np.flatnonzero(whole & (part.labels == label))
            words = f"class {part.class_name(int(label))}: none of {len(members):,}"
            first = int(members[0])
            findings.add(
                "class-unreadable", part.path, f"{words}, such as {part.place(first)}: {part.looks.faults[first]}"
            )


def _check_names(part: CheckedSplit, usable: NDArray[np.bool_], findings: Findings) -> None:
    formats = part.looks.heads["format"]
    for at in np.flatnonzero(usable):
        suffix = os.path.splitext(part.file_name(int(at)))[1].lower()
        if suffix in _NAMED and _NAMED[suffix] != FORMATS[formats[at]]:
            findings.add("picture-misnamed", part.path, f"{part.place(int(at))}: {FORMATS[formats[at]]}")


def _check_shape(
    part: CheckedSplit,
    usable: NDArray[np.bool_],
    shape: tuple[int, int, int],
    resize: int | None,
    findings: Findings,
) -> None:
    channels, height, width = shape
    heads = part.looks.heads
    components = np.where(heads["components"] < 3, 1, 3)
    sizes = np.stack([heads["height"], heads["width"]], axis=1).astype(np.int64)
    targets = np.zeros_like(sizes)
    targets[usable] = Sizing(
        channels=channels, height=height, width=width, resize=resize, fit="crop", own=True
    ).targets(sizes[usable])
    small = usable & ((targets[:, 0] < height) | (targets[:, 1] < width))
    findings.add_all(
        "picture-small",
        part.path,
        np.flatnonzero(small),
        lambda at: f"{part.place(at)}: {sizes[at, 1]} x {sizes[at, 0]} px",
    )
    wrong = np.flatnonzero(usable & (components != channels))
    findings.add_all(
        "picture-channels",
        part.path,
        wrong,
        lambda at: f"{part.place(at)}: {'grey' if components[at] == 1 else 'colour'}",
    )


def check_labels(part: CheckedSplit, num_classes: int | None, findings: Findings) -> None:
    """Each label by itself."""
    broken = np.flatnonzero(~part.whole & ~(part.labels < 0) & ~np.isnan(part.labels))
    findings.add_all("label-not-integral", part.path, broken, _label_words(part))
    high = np.inf if num_classes is None else num_classes
    outside = np.flatnonzero((part.labels < 0) | (part.whole & (part.labels >= high)))
    findings.add_all("label-out-of-range", part.path, outside, _label_words(part))


def check_classes(parts: Sequence[CheckedSplit], num_classes: int | None, findings: Findings) -> None:
    """The classes of all splits, whose labels are all known; the first part is the one that is trained on."""
    train = parts[0]
    counts = train.counts()
    if not counts:
        return
    for pair in alike(train.class_names or ()):
        findings.add("class-names-alike", train.path, pair)
    top = max(counts) + 1 if num_classes is None else num_classes
    gaps = [label for label in range(min(top, 100_000)) if label not in counts]
    findings.add_all("label-gap", train.path, gaps, lambda label: f"no picture of class {train.class_name(label)}")
    if len(counts) == 1:
        findings.add("one-class", train.path, f"class {train.class_name(next(iter(counts)))}")
    lonely = [label for label, count in counts.items() if count == 1]
    findings.add_all("class-single", train.path, lonely, lambda label: f"class {train.class_name(label)}")
    for part in parts[1:]:
        have = part.counts()
        if len(have) == 1 < len(counts):
            only = next(iter(have))
            words = (
                f"class {train.class_name(only)} alone ({have[only]:,} pictures), training has {len(counts)} classes"
            )
            findings.add("split-one-class", part.path, words)
            continue
        new = sorted(set(have) - set(counts))
        for label in new:
            findings.add("label-sets-differ", part.path, f"label {label}: {have[label]:,} pictures")
        missing = sorted(set(counts) - set(have)) if have else []
        findings.add_all("class-missing", part.path, missing, lambda label: f"class {train.class_name(label)}")
    _check_class_maps(parts, findings)


def _label_words(part: CheckedSplit) -> Callable[[int], str]:
    return lambda at: f"{part.place(at)}: label {part.labels[at]:g}"


def _check_class_maps(parts: Sequence[CheckedSplit], findings: Findings) -> None:
    """Compare the labels that lists give to the pictures of one class's folder, wherever that lies."""
    meant: dict[str, tuple[float, CheckedSplit]] = {}
    for part in parts:
        if part.form is not Form.LIST:
            continue
        here: dict[str, set[float]] = defaultdict(set)
        for at in range(len(part)):
            folder = os.path.basename(os.path.dirname(part.file_name(at)))
            here[folder].add(float(part.labels[at]))
        for folder, labels in here.items():
            label = next(iter(labels))
            if not folder or len(labels) > 1 or np.isnan(label):
                continue
            first = meant.setdefault(folder, (label, part))
            if first[0] != label:
                example = f"{folder}/: label {label:g} here, {first[0]:g} in {first[1].path}"
                findings.add("class-map-differs", part.path, example)


def check_duplicates(parts: Sequence[CheckedSplit], findings: Findings) -> dict[str, int]:
    """Equal pictures inside and across splits; returns the number of spare copies inside each part, by its name."""
    digests = [part.looks.digests for part in parts]
    if any(found is None for found in digests):
        return {}
    halves = np.concatenate([found for found in digests if found is not None]).view("<u8").reshape(-1, 2)
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    places = np.concatenate([np.arange(len(part)) for part in parts])
    order = np.lexsort((places, owners, halves[:, 1], halves[:, 0]))
    same = (halves[order][1:] == halves[order][:-1]).all(axis=1)
    inside = {part.name: 0 for part in parts}
    groups = []
    begins = np.flatnonzero(same & ~np.concatenate([[False], same[:-1]]))
    for begin in begins:
        end = begin + 1
        while end < len(same) and same[end]:
            end += 1
        groups.append(order[begin : end + 1])
    for group in sorted(groups, key=lambda group: (owners[group[0]], places[group[0]])):
        members = [(parts[owners[at]], int(places[at])) for at in group]
        if members[0][1] not in members[0][0].looks.faults:  # empty files are equal, but no pictures
            _report_group(members, findings, inside)
    return inside


def _report_group(members: list[tuple[CheckedSplit, int]], findings: Findings, inside: dict[str, int]) -> None:
    (first, at), *copies = members
    previous = first
    for part, index in copies:
        words = f"{part.place(index)} is {first.place(at)}" + ("" if part is first else f" of {first.path}")
        if part is previous:
            inside[part.name] += 1
            findings.add("duplicate-within", part.path, words)
        else:
            findings.add("duplicate-across", part.path, words)
        if part.labels[index] != first.labels[at]:
            labels = f": label {part.labels[index]:g} and {first.labels[at]:g}"
            findings.add("duplicate-labels", part.path, words + labels)
        previous = part


def check_near(parts: Sequence[CheckedSplit], findings: Findings, *, within: bool) -> None:
    """Pictures of one split that look like one of another, or, where asked, of their own; equal bytes are left out."""
    known = [part.looks.thumbnails for part in parts]
    splits = [thumbnails for thumbnails in known if thumbnails is not None]
    if len(splits) < len(parts):
        return
    pairs = list(itertools.combinations(range(len(parts)), 2))
    if within:
        pairs += [(at, at) for at in range(len(parts))]
    for (first, second), matches in zip(pairs, matches_between(splits, pairs), strict=True):
        one, other = parts[first], parts[second]
        assert one.looks.digests is not None and other.looks.digests is not None
        held = {digest.tobytes() for digest in one.looks.digests} if first != second else set()
        where = "" if first == second else f" of {one.path}"
        code = "near-duplicate-within" if first == second else "near-duplicate-across"
        for match in matches:
            digest = other.looks.digests[match.query].tobytes()
            if digest not in held and digest != one.looks.digests[match.index].tobytes():
                words = f"{other.place(match.query)} looks like {one.place(match.index)}{where}"
                findings.add(code, other.path, words)


def check_sources(parts: Sequence[CheckedSplit], grouping: Group, findings: Findings) -> None:
    """Sources with pictures in two splits."""
    seen: dict[str, CheckedSplit] = {}
    for part in parts:
        sources = part.sources
        if sources is None:
            below = part.path if part.form is Form.FOLDER else None
            names = [part.file_name(at) for at in range(len(part))]
            sources = grouping.of([os.path.relpath(name, below) if below else name for name in names], str(part.path))
        for source, number in Counter(sources).items():
            first = seen.setdefault(source, part)
            if first is not part:
                words = f"{source}: {number:,} pictures here, others in {first.path}"
                findings.add("source-across", part.path, words)
