"""What the keys of a channel's objects give away: what SageMaker cannot download, whatever is in it."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.data.check.rules import Finding
from trainers.sagemaker.aws.objects import Object
from trainers.sagemaker.preflight.data.facts import Channel, some
from trainers.sagemaker.preflight.findings import finding


def check(channel: Channel, listed: Sequence[Object]) -> list[Finding]:
    """Archived objects, keys with ``//``, keys that are a file and a folder."""
    by_uri = check_uri(channel)
    findings = list(by_uri)
    archived = [o for o in listed if o.archive]
    if archived:
        kinds, names = sorted({o.archive for o in archived}), [o.key for o in archived]
        what = f"{len(archived):,} of {len(listed):,} objects are in {' and '.join(kinds)}: {some(names)}"
        findings.append(finding("object-archived", f"{channel.name}: {what}"))
    doubled = [o.key for o in listed if "//" in o.key] if not by_uri else []
    if doubled:
        findings.append(finding("key-double-slash", f"{channel.name}: {len(doubled):,} keys: {some(doubled)}"))
    folders: set[str] = set()
    for item in listed:
        folder = item.key.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    both = [o.key for o in listed if o.key in folders]
    if both:
        what = f"{some(both)} {'is an object' if len(both) == 1 else 'are objects'} and the beginning of others"
        findings.append(finding("key-file-and-folder", f"{channel.name}: {what}"))
    return findings


def check_uri(channel: Channel) -> list[Finding]:
    """A channel whose very prefix has ``//`` in it."""
    if "//" not in f"/{channel.prefix}":
        return []
    return [finding("key-double-slash", f"{channel.name}: {channel.uri}")]
