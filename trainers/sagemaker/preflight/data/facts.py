"""What the data checks share: a channel as the request names it, what was learnt of it, and one picture's faults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainers.config import Config
from trainers.data.check.rules import Finding
from trainers.data.readers.folder import PICTURE_SUFFIXES
from trainers.errors import BadData
from trainers.sagemaker.aws.objects import Object
from trainers.sagemaker.aws.uri import split_s3
from trainers.sagemaker.preflight.findings import finding

PICTURES = (".jpg", ".jpeg", ".png")
# A picture is read whole up to here; of a larger one the header alone.
WHOLE_PICTURE_BYTES = 2 * 2**20
HEADER_BYTES = 2**16
SAMPLED = 6  # pictures a channel


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A channel of the request, with its bucket and key prefix."""

    name: str
    uri: str
    content_type: str
    mode: str
    wrapper: str
    kind: str  # S3Prefix, ManifestFile, AugmentedManifestFile
    attributes: tuple[str, ...]
    distribution: str

    @property
    def bucket(self) -> str:
        """Of the URI."""
        return split_s3(self.uri)[0]

    @property
    def prefix(self) -> str:
        """The key prefix, or the manifest's key."""
        return split_s3(self.uri)[1]


@dataclass(kw_only=True)
class Facts:
    """What the check learnt of a channel. ``num_images`` is None where it is not known, ``error`` its uncertainty.

    ``labels`` are those that were seen; ``all_labels`` says that there are no others. ``classes`` maps a folder's name
    to the labels its pictures have. ``listed`` are the keys that the split's list names, None without a list.
    ``packed`` maps the hash of each picture in a record file to its place, where the file was read as a whole.
    """

    objects: list[Object] = field(default_factory=list)
    num_images: int | None = None
    error: float = 0.0
    labels: frozenset[int] = frozenset()
    all_labels: bool = False
    classes: dict[str, frozenset[int]] = field(default_factory=dict)
    listed: frozenset[str] | None = None
    packed: dict[str, str] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Everything that is downloaded."""
        return sum(o.size for o in self.objects)

    @property
    def contents(self) -> dict[str, str]:
        """What tells one content from another → its place. S3's checksums differ for equal objects sent in other parts,
        so that contents in common may be missed and are never made up."""
        if self.packed:
            return self.packed
        used = [o for o in self.objects if o.suffix in (*PICTURE_SUFFIXES, ".rec") and o.size and o.etag]
        return {f"{o.etag} {o.size}": o.key for o in used if self.listed is None or o.key in self.listed}


def channels(request: Mapping[str, Any]) -> list[Channel]:
    """The request's channels that read S3."""
    default_mode = request.get("AlgorithmSpecification", {}).get("TrainingInputMode", "File")
    out = []
    for item in request.get("InputDataConfig", []):
        source = item.get("DataSource", {}).get("S3DataSource")
        if source is None:
            continue
        out.append(
            Channel(
                name=item["ChannelName"],
                uri=source["S3Uri"],
                content_type=item.get("ContentType", ""),
                mode=item.get("InputMode", default_mode),
                wrapper=item.get("RecordWrapperType", "None"),
                kind=source.get("S3DataType", "S3Prefix"),
                attributes=tuple(source.get("AttributeNames", ())),
                distribution=source.get("S3DataDistributionType", "FullyReplicated"),
            )
        )
    return out


def label_fault(label: float, config: Config) -> str:
    """What is wrong with a label, or nothing."""
    if not math.isfinite(label) or label != int(label):
        return f"{label:g} is no whole number"
    if label < 0:
        return f"{label:g} is below 0"
    if config.num_classes is not None and label >= config.num_classes:
        return f"{label:g} with --num-classes {config.num_classes}"
    return ""


def label_findings(code: str, name: str, faults: Sequence[tuple[str, str]], looked_at: int) -> list[Finding]:
    """One finding of all bad labels; ``faults`` are (place, what is wrong)."""
    if not faults:
        return []
    place, what = faults[0]
    return [
        finding(code, f"{name}: {len(faults):,} of {looked_at:,} labels are out of place, the first at {place}: {what}")
    ]


def picture_fault(data: bytes, name: str, config: Config, *, is_whole: bool) -> tuple[str, str] | None:
    """Code and words of what is wrong with one encoded picture, or None. ``is_whole``: decode it too."""
    from trainers.data.formats.headers import probe
    from trainers.data.pictures.codec import decode

    header = probe(data)
    if header is None:
        return "picture-unreadable", "neither a JPEG nor a PNG" if len(data) < HEADER_BYTES else "no size in its head"
    if is_whole:
        try:
            decode(data, header.channels, name)
        except BadData as error:
            return "picture-unreadable", str(error).removeprefix(f"{name}: ").split(";")[0]
    if config.image_shape is None:
        return None
    channels_, height, width = config.shape
    if config.resize is None and (header.height < height or header.width < width):
        return "picture-small", f"{header.width}x{header.height} px, less than {width}x{height}"
    if header.channels != channels_:
        colour = {1: "grey", 3: "in colour"}
        return "picture-channels", f"{colour[header.channels]}, --image-shape {config.image_shape}"
    return None


def picture_findings(name: str, faults: Iterable[tuple[str, str, str]], looked_at: int) -> list[Finding]:
    """A finding for each code; ``faults`` are (code, picture, words) of ``looked_at`` pictures."""
    by_code: dict[str, list[tuple[str, str]]] = {}
    for code, picture, words in faults:
        by_code.setdefault(code, []).append((picture, words))
    return [
        finding(code, f"{name}: {len(items)} of {looked_at} pictures looked at, such as {items[0][0]}: {items[0][1]}")
        for code, items in by_code.items()
    ]


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of many names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
