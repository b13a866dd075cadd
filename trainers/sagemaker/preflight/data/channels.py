"""The preflight of a job's data: each channel by its layout, then the channels against one another and the settings.

Enters: the request, the config, S3. Leaves: findings, and facts of each channel for the estimates. At most
``objects.MAX_READS`` objects are read, whatever their number; listings come on top.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trainers.config import Config
from trainers.data.check.findings import Findings
from trainers.data.check.pictures import check_classes
from trainers.data.check.rules import Finding
from trainers.errors import TrainerError
from trainers.sagemaker import errors
from trainers.sagemaker.aws.objects import Object, Objects, ReadsSpent
from trainers.sagemaker.job.request import CODE_CHANNEL, INIT_CHANNEL, RECORDIO
from trainers.sagemaker.preflight.data import lists as lint_lists
from trainers.sagemaker.preflight.data import pictures as lint_pictures
from trainers.sagemaker.preflight.data import records
from trainers.sagemaker.preflight.data.facts import Channel, Facts, channels, some
from trainers.sagemaker.preflight.findings import finding, of_channel

LISTS = {"train_lst": "train", "validation_lst": "validation"}
_PICTURE_TYPES = ("application/x-image", "image/png", "image/jpeg")
WHOLE = "data"  # our own trainer's channel of a whole data set, of any layout it reads
_SPLITS = ("train", "validation", "test")
_IGNORED = (CODE_CHANNEL, INIT_CHANNEL, "model")


def check(
    request: Mapping[str, Any],
    config: Config,
    objects: Objects,
    *,
    is_builtin: bool,
    pending: Collection[str] = (),
) -> tuple[list[Finding], dict[str, Facts]]:
    """Findings and facts of all channels. Trouble with one channel leaves it unchecked and the others checked.

    ``pending`` names channels that are uploaded when the job is launched: nothing is looked for in S3 yet.
    """
    given = {channel.name: channel for channel in channels(request)}
    findings = _demanded(given, config, is_builtin)
    findings += [finding("upload-pending", f"{name}: goes to {given[name].uri}") for name in pending if name in given]
    for name in pending:
        findings += _check_uri(given[name]) if name in given else []
    given = {name: channel for name, channel in given.items() if name not in pending}
    pictures = [channel for channel in given.values() if channel.name not in LISTS]
    lists = [channel for channel in given.values() if channel.name in LISTS]
    with ThreadPoolExecutor(max_workers=4) as pool:
        listings = dict(zip(given, pool.map(lambda c: _listed(c, objects), given.values()), strict=True))
        facts = {channel.name: listings[channel.name][1] for channel in pictures}
        findings += [finding for found_here, _ in listings.values() for finding in found_here]
        # Lists before pictures: they say which of the pictures the job reads.
        for channel in lists if is_builtin else ():
            if listings[channel.name][1].objects and channel.content_type not in _PICTURE_TYPES:
                findings.append(_content_type(channel, "a list", "application/x-image"))
        for found_here in pool.map(lambda c: _list(c, listings[c.name][1], given, facts, objects, config), lists):
            findings += found_here
        splits = [channel for channel in pictures if channel.name in _SPLITS]
        classes = sorted({name for c in splits for name in lint_pictures.folders(c, facts[c.name])})
        results = pool.map(lambda c: _channel(c, facts[c.name], classes, objects, config, is_builtin), pictures)
        for channel, (found_here, learnt) in zip(pictures, list(results), strict=True):
            findings += found_here
            facts[channel.name] = learnt
    findings += lint_lists.unlisted(given, facts)
    findings += _between(request, given, facts, stops_at_overlap=not is_builtin and not config.allow_overlap)
    # Without a validation channel our own trainer cuts one from the training pictures, and trains on fewer.
    is_cut = not is_builtin and not any(channel.name == "validation" for channel in channels(request))
    findings += _classes(facts, config.num_classes)
    findings += _against(config, facts, is_cut=is_cut)
    return findings, facts


def _demanded(given: Mapping[str, Channel], config: Config, is_builtin: bool) -> list[Finding]:
    """Channels the built-in wants, and how it wants them delivered."""
    if not is_builtin:
        return []
    findings = []
    names = ["train", "validation"]
    listed = any(given[name].content_type in _PICTURE_TYPES for name in names if name in given)
    if (listed and not any(c.attributes for c in given.values())) or any(name in given for name in LISTS):
        names += list(LISTS)
    missing = [name for name in names if name not in given]
    findings += [finding("channel-missing", f"there is no {name} channel", fix="Give it.") for name in missing]
    for channel in given.values():
        if channel.name in _IGNORED or channel.kind == "AugmentedManifestFile":
            continue
        if channel.mode == "Pipe" and channel.content_type != RECORDIO:
            findings.append(
                finding("pipe-mode", f"{channel.name}: {channel.content_type or 'no content type'} in a pipe")
            )
        if channel.distribution != "FullyReplicated":
            findings.append(
                finding("distribution", f"{channel.name}: S3DataDistributionType is {channel.distribution}")
            )
    if listed and config.resize is None:
        findings.append(finding("resize-missing", "pictures of their own sizes, and no --resize"))
    return findings


def _listed(channel: Channel, objects: Objects) -> tuple[list[Finding], Facts]:
    """What the keys under a channel's prefix give away, and the objects."""
    facts = Facts()
    if channel.kind == "AugmentedManifestFile":
        return [], facts
    try:
        facts.objects = objects.listing(channel.bucket, channel.prefix)
    except TrainerError as error:
        return [_not_read(channel, error)], facts
    if not facts.objects:
        return [finding("channel-empty", f"{channel.name}: there is nothing under {channel.uri}")], facts
    return _neighbours(channel, facts) + _check_keys(channel, facts.objects), facts


def _channel(
    channel: Channel, facts: Facts, classes: list[str], objects: Objects, config: Config, is_builtin: bool
) -> tuple[list[Finding], Facts]:
    """One channel of data, whatever its layout. ``classes``: the folders of all splits, for our own trainer."""
    try:
        if channel.kind == "AugmentedManifestFile":
            return lint_lists.check_manifest(channel, objects, config)
        if not facts.objects or channel.name in _IGNORED:
            return [], facts
        return _by_layout(channel, facts, classes, objects, config, is_builtin)
    except (TrainerError, ReadsSpent) as error:
        return [_not_read(channel, error)], facts


def _by_layout(
    channel: Channel, facts: Facts, classes: list[str], objects: Objects, config: Config, is_builtin: bool
) -> tuple[list[Finding], Facts]:
    holds_records = any(o.suffix == ".rec" for o in facts.objects)
    holds_pictures = bool(lint_pictures.read(channel, facts, is_builtin=is_builtin))
    if not is_builtin:
        if holds_records:
            return records.check_own(channel, facts.objects, objects, config, several=channel.name == WHOLE)
        if not holds_pictures:
            return [], facts  # an archive or a data set's own files: our trainer says what is wrong with them
        findings = lint_pictures.check_names(channel, facts, is_builtin=is_builtin)
        if channel.name != WHOLE and not any(o.suffix == ".lst" for o in facts.objects):
            findings += lint_pictures.check_folders(channel, facts, classes, config)
        return findings + lint_pictures.check_sample(channel, facts, objects, config, is_builtin=is_builtin), facts
    if channel.content_type == RECORDIO:
        if holds_pictures and not holds_records:
            kind = _content_type(
                channel, f"pictures, such as {some([o.key for o in facts.objects], 1)}", "application/x-image"
            )
            return [kind], facts
        return records.check(channel, facts.objects, objects, config)
    if channel.content_type in _PICTURE_TYPES:
        if holds_records and not holds_pictures:
            return [_content_type(channel, "a .rec file", RECORDIO)], facts
        findings = lint_pictures.check_names(channel, facts, is_builtin=is_builtin)
        return findings + lint_pictures.check_sample(channel, facts, objects, config, is_builtin=is_builtin), facts
    wanted = RECORDIO if holds_records else "application/x-image"
    seen = "a .rec file" if holds_records else "pictures" if holds_pictures else "neither records nor pictures"
    return [_content_type(channel, seen, wanted)], facts


def _content_type(channel: Channel, seen: str, wanted: str) -> Finding:
    given = channel.content_type or "unset"
    return finding("content-type", f"{channel.name}: ContentType is {given}, there is {seen}", fix=f"Say {wanted}.")


def _list(
    channel: Channel,
    listed: Facts,
    given: Mapping[str, Channel],
    facts: Mapping[str, Facts],
    objects: Objects,
    config: Config,
) -> list[Finding]:
    pictures = given.get(LISTS[channel.name])
    if pictures is None or not listed.objects:
        return []  # said already
    try:
        return lint_lists.check_list(channel, listed.objects, pictures, facts[pictures.name], objects, config)
    except (TrainerError, ReadsSpent) as error:
        return [_not_read(channel, error)]


def _not_read(channel: Channel, error: Exception) -> Finding:
    if isinstance(error, errors.NotAllowed):
        return finding("channel-unchecked", f"{channel.name}: {channel.uri} may not be read with these credentials")
    if isinstance(error, errors.AwsError) and error.code == "InvalidObjectState":  # a tier that listings do not tell
        return finding("object-archived", f"{channel.name}: {channel.uri}: {error}")
    if isinstance(error, errors.NotFound):
        return finding("bucket-missing", f"{channel.name}: {channel.uri}: {error}")
    return finding("data-unchecked", f"{channel.name}: {error}")


def _neighbours(channel: Channel, facts: Facts) -> list[Finding]:
    """Objects that only happen to begin like the channel's folder."""
    prefix = channel.prefix
    if not prefix or prefix.endswith("/"):
        return []
    beside = [o.key for o in facts.objects if o.key != prefix and not o.key.startswith(prefix + "/")]
    inside = len(facts.objects) - len(beside)
    if not beside or not inside:
        return []
    return [
        finding(
            "channel-prefix",
            f"{channel.name}: {channel.uri} also takes in {some(beside)}",
            fix=f"Say {channel.uri}/, with the slash.",
        )
    ]


def _check_keys(channel: Channel, listed: Sequence[Object]) -> list[Finding]:
    """Archived objects, keys with ``//``, keys that are a file and a folder."""
    by_uri = _check_uri(channel)
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


def _check_uri(channel: Channel) -> list[Finding]:
    """A channel whose very prefix has ``//`` in it."""
    if "//" not in f"/{channel.prefix}":
        return []
    return [finding("key-double-slash", f"{channel.name}: {channel.uri}")]


def _between(
    request: Mapping[str, Any], given: Mapping[str, Channel], facts: Mapping[str, Facts], *, stops_at_overlap: bool
) -> list[Finding]:
    """One prefix inside another, pictures in two splits, class numbers that differ."""
    findings = []
    splits = [given[name] for name in _SPLITS if name in given]
    for number, one in enumerate(splits):
        for other in splits[number + 1 :]:
            by_list = all(f"{name}_lst" in given for name in (one.name, other.name))
            if by_list and any(facts[name].listed is None for name in (one.name, other.name)):
                continue  # a list could not be read: that is a finding of its own, and nothing can be compared
            if not by_list and _overlap(one, other):
                findings.append(finding("channel-overlap", f"{one.name} {one.uri} and {other.name} {other.uri}"))
            else:
                stops = stops_at_overlap and (one.name, other.name) == ("train", "test")
                findings += _shared(one.name, other.name, facts, "test-overlap" if stops else "duplicate-across")
    output = request.get("OutputDataConfig", {}).get("S3OutputPath", "")
    for channel in given.values():
        if channel.kind == "S3Prefix" and output and _is_inside(output + "/", channel.uri):
            findings.append(finding("output-in-input", f"--output {output} is inside {channel.name}, {channel.uri}"))
    return findings


def _classes(facts: Mapping[str, Facts], num_classes: int | None) -> list[Finding]:
    """The check of classes over the splits whose labels are all known; nothing is said without those of training."""
    known = [facts[name].part for name in _SPLITS if name in facts and facts[name].all_labels]
    parts = [part for part in known if part is not None and len(part)]
    found = Findings()
    if parts and parts[0].name == "train":
        check_classes(parts, num_classes, found)
    return of_channel("", found)


def _shared(one: str, other: str, facts: Mapping[str, Facts], code: str) -> list[Finding]:
    """Equal contents in two splits, as far as they are known."""
    first, second = facts[one].contents, facts[other].contents
    twice = [content for content in second if content in first]
    if not twice:
        return []
    such = f"such as {first[twice[0]]} = {second[twice[0]]}"
    if (one, other) == ("train", "validation") and len(twice) == len(second):
        return [finding("validation-seen", f"all {len(second):,} contents of validation are in train, {such}")]
    return [finding(code, f"{len(twice):,} pictures are in {one} and in {other}, {such}")]


def _against(config: Config, facts: Mapping[str, Facts], *, is_cut: bool) -> list[Finding]:
    """What was counted against what the settings say."""
    findings = []
    train = facts.get("train")
    asked = config.num_training_samples if not is_cut else None
    if train is not None and train.num_images is not None and asked is not None and asked != train.num_images:
        if not train.error:
            findings.append(
                finding(
                    "samples",
                    f"--num-training-samples {asked:,}, the train channel has {train.num_images:,}",
                    fix=f"Give --num-training-samples {train.num_images}.",
                )
            )
        elif abs(asked - train.num_images) > train.error:
            findings.append(
                finding(
                    "samples-about",
                    f"--num-training-samples {asked:,}, the train channel has about {train.num_images:,}",
                )
            )
    return findings


def below_batch(config: Config, sizes: Mapping[str, float], *, is_builtin: bool) -> list[Finding]:
    """Splits that are smaller than a batch, of ``sizes``: split → most pictures it can have. Our own trainer refuses
    that of the training pictures alone."""
    names = ("train", "validation") if is_builtin else ("train",)
    batch = config.mini_batch_size
    small = {name: int(sizes[name]) for name in names if name in sizes and sizes[name] < batch}
    cut = ", or raise --validation-fraction where validation is cut from the training pictures"
    return [
        finding(
            "fewer-than-batch",
            f"{name} has {size:,}, --mini-batch-size {batch}",
            why="" if is_builtin else "our trainer needs a batch of training pictures",
            fix=f"Lower --mini-batch-size to {size} or less{cut if name == 'validation' else ''}." if size else "",
        )
        for name, size in small.items()
    ]


def _overlap(one: Channel, other: Channel) -> bool:
    if "AugmentedManifestFile" in (one.kind, other.kind):
        return one.uri == other.uri
    return _is_inside(one.uri, other.uri) or _is_inside(other.uri, one.uri)


def _is_inside(uri: str, folder: str) -> bool:
    """Whether every key under ``uri`` is also under ``folder``: plain beginnings, as S3 takes them."""
    return uri.startswith(folder)
