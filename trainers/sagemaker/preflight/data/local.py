"""The preflight of data that still lie on this machine: the check of data, as ``python -m trainers.data check``.

Enters: paths and config. Leaves: findings, less those that packing and sending the data settle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors.words import plural
from trainers.config import Config
from trainers.data.check.rules import Finding
from trainers.errors import BadData, BadInput
from trainers.sagemaker.aws.uri import is_s3
from trainers.sagemaker.options import CHANNELS, JobOptions
from trainers.sagemaker.preflight.data.facts import num_labels
from trainers.sagemaker.preflight.findings import finding

if TYPE_CHECKING:
    from trainers.data.check.findings import CheckedSplit

# What is packed anew before it is sent may have a form that the built-in itself does not read, and each channel gets a
# prefix of its own.
_FIXED_BY_SENDING = ("not-for-the-job", "unknown-form", "channel-neighbour")
_FIXED_BY_PACKING = ("list-duplicate-index",)


def named(paths: Sequence[Path], options: JobOptions) -> list[tuple[str, Path]]:
    """The paths with the channels that the options give them for; "data" where they are data sets of several splits."""
    given = [(name, getattr(options, name)) for name in CHANNELS]
    names = [name for name, path in given if path is not None and not is_s3(path)]
    return list(zip(names if len(names) == len(paths) else ["data"] * len(paths), paths, strict=True))


def check(
    given: Sequence[tuple[str, Path]], config: Config, *, is_builtin: bool
) -> tuple[list[Finding], dict[str, int]]:
    """Findings about what is under the paths, and how many readable pictures each split has.

    ``given`` are channels and paths, the one trained on first. The built-in is not sent the test split.
    """
    from trainers.data.check import check as data

    job = data.Job(
        num_classes=config.num_classes,
        num_labels=num_labels(config),
        image_shape=config.shape if config.image_shape is not None else None,
        resize=config.resize,
    )
    root = None if config.image_root is None else Path(config.image_root).expanduser()
    sent = [(name, path) for name, path in given if not (is_builtin and name == "test")]
    with tempfile.TemporaryDirectory(prefix="lists-") as folder:
        # A list's paths start in the folder of its own channel.
        shown = _beside(sent, Path(folder)) if any(name.endswith("_lst") for name, _ in sent) else {}
        try:
            checked = data.check([Path(folder)] if shown else [path for _, path in sent], job, image_root=root)
        except BadData as error:
            return [finding("data-unchecked", _real(str(error), shown))], {}
    parts = {part.name: part for part in checked.parts}
    parts |= {name: part for name, path in sent for part in checked.parts if part.path == path and name != "data"}
    unused = _folders_of_test(checked.parts) if is_builtin else []
    fixed = _FIXED_BY_SENDING if shown else (*_FIXED_BY_SENDING, *_FIXED_BY_PACKING)
    findings = []
    if not shown:
        whole = [path.resolve() for _, path in sent]
        same = [path for number, (_, path) in enumerate(sent) if whole[number] in whole[:number]]
        findings += [finding("channel-overlap", f"{path} is given for two channels") for path in same]
    for item in checked.findings:
        file = Path(item.file)
        if item.code in fixed or any(one == file or one in file.parents for one in unused):
            continue
        what, fix = _real(item.what, shown), _real(item.fix, shown)
        findings.append(replace(item, what=what, fix=fix, why=item.why.rstrip(".")))
    if "validation" in parts and _is_all_copied(parts["validation"], checked.findings):
        what = f"all {len(parts['validation']):,} pictures of {parts['validation'].path} are in train"
        findings.append(finding("validation-seen", _real(what, shown)))
    if not is_builtin and not config.allow_overlap:
        findings += _test_seen(parts, sent, config)
    return findings, {name: len(part) - len(part.looks.faults) for name, part in parts.items()}


def _test_seen(parts: Mapping[str, CheckedSplit], sent: Sequence[tuple[str, Path]], config: Config) -> list[Finding]:
    """Test pictures among the training pictures, at which our trainer stops in the container."""
    if "train" in parts and "test" in parts:
        places = [
            {
                digest: part.place(at)
                for at, digest in enumerate(part.looks.hex_digests())
                if at not in part.looks.faults
            }
            for part in (parts["train"], parts["test"])
        ]
        pairs = [(places[1][digest], places[0][digest]) for digest in places[1] if digest in places[0]]
    elif len(parts) == len(sent) == 1:  # cut into splits in the container, as here
        from trainers import data
        from trainers.training import experiment

        try:
            overlaps = data.find_overlap(experiment.load_data(config)[0])
        except BadInput:
            return []  # what is wrong is said already, or by the launcher
        pairs = [(o.keys_b[0], o.keys_a[0]) for o in overlaps if (o.split_a, o.split_b) == ("train", "test")]
    else:
        return []
    if not pairs:
        return []
    such = f"such as {pairs[0][0]} = {pairs[0][1]}"
    return [finding("test-overlap", f"{plural(len(pairs), 'test picture')} are in train too, {such}")]


def _beside(given: Sequence[tuple[str, Path]], folder: Path) -> dict[str, str]:
    """Links to the paths, side by side as the built-in's channels are; a link's name → the path behind it."""
    shown = {}
    for name, path in given:
        link = folder / name
        if name.endswith("_lst") and path.is_file():
            link.mkdir()
            link /= path.name
        link.symlink_to(path.absolute())
        shown[str(link)] = str(path)
    return shown


def _real(text: str, shown: Mapping[str, str]) -> str:
    for link in sorted(shown, key=len, reverse=True):
        text = text.replace(link, shown[link])
    return text


def _folders_of_test(parts: Sequence[CheckedSplit]) -> list[Path]:
    """Where the test split is, if that is a place of its own."""
    from trainers.data.readers.folder import SPLIT_FOLDERS

    places = [Path(part.path) for part in parts if part.name == "test"]
    places = [path for path in places if [part.path for part in parts].count(path) == 1]
    named = SPLIT_FOLDERS["test"]
    return [path.parent if path.is_file() and path.parent.name in named else path for path in places]


def _is_all_copied(part: CheckedSplit, findings: Sequence[Finding]) -> bool:
    """Whether each of a split's pictures is one of an earlier split: the first of several copies is said to be across
    splits, the others are said to be within."""
    codes = ("duplicate-across", "duplicate-within")
    copies = sum(item.count for item in findings if item.code in codes and item.file == str(part.path))
    return 0 < len(part) == copies
