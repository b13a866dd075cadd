"""``--rehearse``: the job in small, here, before a machine is rented.

A few batches of the real data, from this machine or out of S3, are packed as RecordIO into the container's own folder
layout, and the container's entry point runs on them for one epoch, in a process of its own: wrong settings, labels or
pictures show now.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainers.config import Config
from trainers.errors import BadInput
from trainers.terminal import duration

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
    from trainers.sagemaker.job import first_weights, request

    folder.mkdir(parents=True)
    dataset, resolved = _open(config, options, folder)
    wanted = _wanted(resolved)
    batch_size = min(config.mini_batch_size, wanted["train"], len(dataset.train))
    (base / "input" / "config").mkdir(parents=True)
    counts = {}
    top_k = config.top_k if config.top_k is not None and config.top_k < len(dataset.class_names) else None
    for name, split in dataset.splits.items():
        known = np.flatnonzero(split.labels < wanted["train"])  # of hundreds of classes the first, one picture each
        few = split.take(known[_some_of_each(split.labels[known], wanted[name])])
        channel = base / "input" / "data" / name
        channel.mkdir(parents=True)
        upload.pack(few, channel / f"{name}.rec", resolved)
        counts[name] = len(few)
    first_weights.lay_out(config, base / "input" / "data")
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
    from trainers.sagemaker.options import CHANNELS, is_s3
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
        raise BadInput(f"--rehearse: --{here.replace('_', '-')} is here and --{there[0]} in S3; name all here.")
    _fetch(config, options, given, folder)
    # A few pictures are not all: their numbers are not those that the job will count.
    open_config = replace(
        config, dataset=str(folder), image_root=None, num_classes=None, num_training_samples=None, top_k=None,
        mini_batch_size=1,
    )  # fmt: skip
    dataset, resolved = experiment.load_data(open_config)
    return dataset, replace(resolved, mini_batch_size=config.mini_batch_size)


def _fetch(config: Config, options: JobOptions, uris: Mapping[str, str], folder: Path) -> None:
    from trainers.sagemaker import sample
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.aws.objects import Objects

    objects = Objects(Aws(region=options.region, profile=options.profile), sample.MOST_READS)
    sample.fetch(uris, folder, _wanted(config), config, objects)
    print(f"fetched {objects.num_bytes_read / 2**20:.1f} MiB out of S3", flush=True)


def _wanted(config: Config) -> dict[str, int]:
    """Pictures of each split: a few batches, fewer where the network is so large that they would take minutes."""
    from trainers.sagemaker.cost.estimate import macs

    # Forward, backward and update of a training picture, and a forward pass of two others beside it.
    affordable = max(4, int(_MACS / (4 * macs(config))))
    train = min(config.mini_batch_size * _TRAIN_BATCHES, affordable)
    others = min(_OTHER_PICTURES, max(4, affordable // 2))
    return {"train": train, "validation": others, "test": others}


def _some_of_each(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], wanted: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices of about ``wanted`` pictures, every class among them, in the order of the split."""
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), np.int64)
    starts = np.searchsorted(labels[order], labels[order])
    rank[order] = np.arange(len(labels)) - starts  # 0 for the first picture of its class, 1 for the second
    chosen = np.lexsort((np.arange(len(labels)), rank))[:wanted]
    return np.sort(chosen)
