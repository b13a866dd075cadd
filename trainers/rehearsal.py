"""``--rehearse``: the job in small, here, before a machine is rented.

A few batches of the real data are packed as RecordIO into the container's own folder layout, and the container's entry
point runs on them for one epoch, in a process of its own: wrong settings, labels or pictures show now.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainers.config import Config
from trainers.errors import BadInput
from trainers.progress import duration

_TRAIN_BATCHES, _OTHER_PICTURES = 3, 64


def run(config: Config) -> int:
    """Rehearse; 0 when the job ran to its end, 1 when it failed. Raises BadInput for settings or data that can't do."""
    from trainers.sagemaker.options import is_s3

    if is_s3(config.dataset):
        raise BadInput(f"--rehearse reads data of this machine, not {config.dataset}; name a local copy by --dataset.")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as place:
        base = Path(place) / "opt-ml"
        counts = _lay_out(config, base)
        print(f"rehearsal on {', '.join(f'{count} {name}' for name, count in counts.items())} pictures", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "trainers.sagemaker.container", "train"],
            env={**os.environ, "SAGEMAKER_BASE_DIR": str(base)},
            stdin=subprocess.DEVNULL,
        )
        failure = base / "output" / "failure"
        if done.returncode != 0:
            reason = failure.read_text(encoding="utf-8") if failure.is_file() else f"exit code {done.returncode}"
            print(f"the rehearsal failed, as the job would have: {reason}", file=sys.stderr)
            return 1
    print(f"the rehearsal ran to its end in {duration(time.monotonic() - started)}; the job can be launched")
    return 0


def _lay_out(config: Config, base: Path) -> dict[str, int]:
    """Write hyperparameters and channels under ``base`` as SageMaker does; pictures a channel."""
    from trainers import experiment
    from trainers.sagemaker import request, upload

    dataset, resolved = experiment.load_data(config)
    (base / "input" / "config").mkdir(parents=True)
    counts = {}
    for name, split in dataset.splits.items():
        wanted = config.mini_batch_size * _TRAIN_BATCHES if name == "train" else _OTHER_PICTURES
        few = split.take(_some_of_each(split.labels, max(wanted, len(dataset.class_names))))
        folder = base / "input" / "data" / name
        folder.mkdir(parents=True)
        upload.pack(few, folder / f"{name}.rec", resolved)
        counts[name] = len(few)
    small = replace(
        config, epochs=1, lr_scheduler_step=None, num_classes=None, num_training_samples=None,
        image_shape=resolved.image_shape, num_layers=resolved.num_layers, resize=resolved.resize, allow_overlap=True,
    )  # fmt: skip
    text = json.dumps(request.hyperparameters(small))
    (base / "input" / "config" / "hyperparameters.json").write_text(text, encoding="utf-8")
    return counts


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
