"""The preflight of a job's data: each channel by its layout, then the channels against one another and the settings.

Enters: the request, the config, S3. Leaves: findings, and facts of each channel for the estimates. At most
``objects.MAX_READS`` objects are read, whatever their number; listings come on top.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trainers.config import Config
from trainers.errors import TrainerError
from trainers.sagemaker import errors, lint_lists, lint_pictures, lint_records
from trainers.sagemaker.findings import Finding, found
from trainers.sagemaker.lint import PICTURES, Channel, Facts, channels, some
from trainers.sagemaker.objects import Objects, ReadsSpent
from trainers.sagemaker.request import CODE_CHANNEL, INIT_CHANNEL, RECORDIO

LISTS = {"train_lst": "train", "validation_lst": "validation"}
_PICTURE_TYPES = ("application/x-image", "image/png", "image/jpeg")
WHOLE = "data"  # our own trainer's channel of a whole data set, of any layout it reads
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
    findings += [found("upload-pending", f"{name}: goes to {given[name].uri}") for name in pending if name in given]
    given = {name: channel for name, channel in given.items() if name not in pending}
    facts: dict[str, Facts] = {}
    # Pictures first: their lists are checked against what lies there.
    order = sorted(given.values(), key=lambda channel: channel.name in LISTS)
    with ThreadPoolExecutor(max_workers=4) as pool:
        pictures = [channel for channel in order if channel.name not in LISTS]
        results = list(pool.map(lambda channel: _channel(channel, given, objects, config, is_builtin), pictures))
        for channel, (found_here, learnt) in zip(pictures, results, strict=True):
            findings += found_here
            facts[channel.name] = learnt
        lists = [channel for channel in order if channel.name in LISTS]
        for found_here in pool.map(lambda channel: _list(channel, given, facts, objects, config), lists):
            findings += found_here
    findings += _between(request, given, facts, stops_at_overlap=not is_builtin and not config.allow_overlap)
    findings += _against(config, given, facts, is_builtin)
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
    findings += [found("channel-missing", f"there is no {name} channel") for name in names if name not in given]
    for channel in given.values():
        if channel.name in _IGNORED or channel.kind == "AugmentedManifestFile":
            continue
        if channel.mode == "Pipe" and channel.content_type != RECORDIO:
            findings.append(
                found("pipe-mode", f"{channel.name}: {channel.content_type or 'no content type'} in a pipe")
            )
        if channel.distribution != "FullyReplicated":
            findings.append(found("distribution", f"{channel.name}: S3DataDistributionType is {channel.distribution}"))
    if listed and config.resize is None:
        findings.append(found("resize-unset", "pictures of their own sizes, and no --resize"))
    return findings


def _channel(
    channel: Channel, given: Mapping[str, Channel], objects: Objects, config: Config, is_builtin: bool
) -> tuple[list[Finding], Facts]:
    """One channel of data, whatever its layout."""
    facts = Facts()
    try:
        if channel.kind == "AugmentedManifestFile":
            return lint_lists.check_manifest(channel, objects, config)
        facts.objects = objects.listing(channel.bucket, channel.prefix)
        if not facts.objects:
            return [found("channel-empty", f"{channel.name}: nothing lies under {channel.uri}")], facts
        findings = _neighbours(channel, facts)
        if channel.name in _IGNORED:
            return findings, facts
        more, facts = _by_layout(channel, facts, given, objects, config, is_builtin)
        return findings + more, facts
    except (TrainerError, ReadsSpent) as error:
        return [_not_read(channel, error)], facts


def _by_layout(
    channel: Channel, facts: Facts, given: Mapping[str, Channel], objects: Objects, config: Config, is_builtin: bool
) -> tuple[list[Finding], Facts]:
    holds_records = any(o.suffix == ".rec" for o in facts.objects)
    holds_pictures = any(o.suffix in PICTURES for o in facts.objects)
    if not is_builtin:
        if holds_records:
            return lint_records.check(channel, facts.objects, objects, config)
        if not holds_pictures:
            return [], facts  # an archive or a data set's own files: our trainer says what is wrong with them
        findings = lint_pictures.check_names(channel, facts)
        if channel.name != WHOLE and not any(o.suffix == ".lst" for o in facts.objects):
            findings += lint_pictures.check_folders(channel, facts, config)
        return findings + lint_pictures.check_sample(channel, facts, objects, config), facts
    if channel.content_type == RECORDIO:
        if holds_pictures and not holds_records:
            kind = _content_type(
                channel, f"pictures, such as {some([o.key for o in facts.objects], 1)}", "application/x-image"
            )
            return [kind], facts
        return lint_records.check(channel, facts.objects, objects, config)
    if channel.content_type in _PICTURE_TYPES:
        if holds_records and not holds_pictures:
            return [_content_type(channel, "a .rec file", RECORDIO)], facts
        findings = lint_pictures.check_names(channel, facts)
        return findings + lint_pictures.check_sample(channel, facts, objects, config), facts
    wanted = RECORDIO if holds_records else "application/x-image"
    seen = "a .rec file" if holds_records else "pictures" if holds_pictures else "neither records nor pictures"
    return [_content_type(channel, seen, wanted)], facts


def _content_type(channel: Channel, seen: str, wanted: str) -> Finding:
    given = channel.content_type or "unset"
    return found("content-type", f"{channel.name}: ContentType is {given}, there lie {seen}", mend=f"Say {wanted}.")


def _list(
    channel: Channel, given: Mapping[str, Channel], facts: Mapping[str, Facts], objects: Objects, config: Config
) -> list[Finding]:
    pictures = given.get(LISTS[channel.name])
    if pictures is None:
        return []  # said already: the channel is missing
    try:
        listed = objects.listing(channel.bucket, channel.prefix)
        if not listed:
            return [found("channel-empty", f"{channel.name}: nothing lies under {channel.uri}")]
        findings = []
        if channel.content_type not in _PICTURE_TYPES:
            findings.append(_content_type(channel, "a list", "application/x-image"))
        return findings + lint_lists.check_list(channel, listed, pictures, facts[pictures.name], objects, config)
    except (TrainerError, ReadsSpent) as error:
        return [_not_read(channel, error)]


def _not_read(channel: Channel, error: Exception) -> Finding:
    if isinstance(error, errors.NotAllowed):
        return found("channel-unchecked", f"{channel.name}: {channel.uri} may not be read with these credentials")
    if isinstance(error, errors.NotFound):
        return found("bucket-missing", f"{channel.name}: {channel.uri}: {error}")
    return found("data-unchecked", f"{channel.name}: {error}")


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
        found(
            "prefix-neighbours",
            f"{channel.name}: {channel.uri} also takes in {some(beside)}",
            mend=f"Say {channel.uri}/, with the slash.",
        )
    ]


def _between(
    request: Mapping[str, Any], given: Mapping[str, Channel], facts: Mapping[str, Facts], *, stops_at_overlap: bool
) -> list[Finding]:
    """One prefix inside another, pictures in two splits, class numbers that differ."""
    findings = []
    splits = [given[name] for name in ("train", "validation", "test") if name in given]
    for number, one in enumerate(splits):
        for other in splits[number + 1 :]:
            if _is_inside(one.uri, other.uri) or _is_inside(other.uri, one.uri):
                findings.append(found("channel-overlap", f"{one.name} {one.uri} and {other.name} {other.uri}"))
            else:
                stops = stops_at_overlap and (one.name, other.name) == ("train", "test")
                findings += _shared(one.name, other.name, facts, "test-overlap" if stops else "split-overlap")
    output = request.get("OutputDataConfig", {}).get("S3OutputPath", "")
    for channel in given.values():
        if channel.kind == "S3Prefix" and output and _is_inside(output + "/", channel.uri):
            findings.append(found("output-in-input", f"--output {output} lies inside {channel.name}, {channel.uri}"))
    train, validation = (facts.get(name, Facts()).classes for name in ("train", "validation"))
    differing = [name for name in sorted(train.keys() & validation.keys()) if train[name] != validation[name]]
    if differing:
        name = differing[0]
        findings.append(
            found(
                "classes-differ",
                f"{name} is {_numbers(train[name])} in train and {_numbers(validation[name])} in validation"
                + (f"; {len(differing) - 1} more" if len(differing) > 1 else ""),
            )
        )
    return findings


def _shared(one: str, other: str, facts: Mapping[str, Facts], code: str) -> list[Finding]:
    """Equal bytes under two splits, as far as S3's checksums tell (not for objects sent in parts)."""
    sums = {
        (o.etag, o.size): o.key for o in facts[one].objects if o.size and o.suffix in PICTURES and "-" not in o.etag
    }
    twice = [(sums[o.etag, o.size], o.key) for o in facts[other].objects if (o.etag, o.size) in sums]
    if not twice:
        return []
    return [
        found(
            code,
            f"{len(twice):,} pictures are in {one} and in {other}, such as {twice[0][0]} = {twice[0][1]}",
        )
    ]


def _against(
    config: Config, given: Mapping[str, Channel], facts: Mapping[str, Facts], is_builtin: bool
) -> list[Finding]:
    """What was counted against what the settings say."""
    findings = []
    train = facts.get("train")
    asked = config.num_training_samples
    if train is not None and train.num_images is not None and asked is not None and asked != train.num_images:
        if not train.error:
            findings.append(
                found(
                    "samples",
                    f"--num-training-samples {asked:,}, the train channel has {train.num_images:,}",
                    mend=f"Give --num-training-samples {train.num_images}.",
                )
            )
        elif abs(asked - train.num_images) > train.error:
            findings.append(
                found(
                    "samples-about",
                    f"--num-training-samples {asked:,}, the train channel has about {train.num_images:,}",
                )
            )
    for name in ("train", "validation"):
        learnt = facts.get(name)
        if not is_builtin or learnt is None or learnt.num_images is None:
            continue
        if learnt.num_images + learnt.error < config.mini_batch_size:
            findings.append(
                found(
                    "set-below-batch", f"{name} has {learnt.num_images:,}, --mini-batch-size {config.mini_batch_size}"
                )
            )
    if train is not None and train.all_labels and train.labels and config.num_classes is not None:
        unused = sorted(set(range(config.num_classes)) - train.labels)
        if unused:
            findings.append(
                found(
                    "classes-unused",
                    f"no training picture has label {_numbers(unused)}, --num-classes {config.num_classes}",
                )
            )
    return findings


def _is_inside(uri: str, folder: str) -> bool:
    """Whether every key under ``uri`` is also under ``folder``: plain beginnings, as S3 takes them."""
    return uri.startswith(folder)


def _numbers(labels: Sequence[int] | frozenset[int]) -> str:
    return some([str(label) for label in sorted(labels)], 5)
