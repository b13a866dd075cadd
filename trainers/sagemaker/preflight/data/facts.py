"""What the data checks share: a channel as the request names it, and what was learnt of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainers.config import Config
from trainers.data.check.findings import CheckedSplit
from trainers.data.readers.folder import PICTURE_SUFFIXES
from trainers.sagemaker.aws.objects import Object
from trainers.sagemaker.aws.uri import split_s3

PICTURES = (".jpg", ".jpeg", ".png")


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

    def uri_of(self, key: str) -> str:
        """The address of an object of the same bucket."""
        return f"s3://{self.bucket}/{key}"


@dataclass(kw_only=True)
class Facts:
    """What the check learnt of a channel. ``num_images`` is None where it is not known, ``error`` its uncertainty.

    ``part`` are the pictures that were looked at, with their labels; ``all_labels`` says that there are no others.
    ``listed`` are the keys that the split's list names, None without a list.
    ``packed`` maps the hash of each picture in a record file to its place, where the file was read as a whole.
    """

    objects: list[Object] = field(default_factory=list)
    num_images: int | None = None
    error: float = 0.0
    part: CheckedSplit | None = None
    all_labels: bool = False
    listed: frozenset[str] | None = None
    packed: dict[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> frozenset[int]:
        """Those that were seen."""
        return frozenset() if self.part is None else frozenset(self.part.counts())

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


def num_labels(config: Config) -> int:
    """How many labels the job reads of each picture."""
    return config.num_classes if config.multi_label and config.num_classes is not None else 1


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of many names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
