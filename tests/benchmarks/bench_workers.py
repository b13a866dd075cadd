"""One run on two devices and by two workers against one device: test accuracy seed by seed, speed, and a lost worker.

python tests/benchmarks/bench_workers.py --dataset PHOTOS [--seeds 3] [--epochs 4]
The network has batch normalisation, so only accuracies can be equal, within their noise. On a busy machine: with
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
WAYS = {"one device": [], "two devices": ["--devices=cpu:2"], "two workers": ["--workers=2"]}
SETTINGS = "--num-layers=20 --image-shape=3,28,28 --mini-batch-size=64 --learning-rate=0.05".split()


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "trainers.run", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def weights(folder: Path) -> bytes:
    (path,) = (folder / "mlruns" / "journals").glob("*/files/model/model-0000.params")
    return path.read_bytes()


def lost(dataset: str, epochs: int) -> None:
    """A run whose worker 1 is killed after the first epoch, and which goes on: the weights of one that was not."""
    common = [*SETTINGS, f"--dataset={dataset}", f"--epochs={epochs}", "--workers=2"]
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as broken:
        said, _ = started(Path(whole), *common).communicate()
        process = started(Path(broken), *common)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"    1/{epochs}"):
                break
        (other,) = (p for p in psutil.Process(process.pid).children() if "trainers.launch.worker" in p.cmdline())
        other.send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
        print(said[said.index("trainers.run:") :])
        assert process.returncode == 1 and "Worker 1 of 2 was lost" in said
        (run_id,) = re.findall(r"--resume (\w+)", said)
        said, _ = started(Path(broken), "--resume", run_id).communicate()
        assert "done" in said, said
        print(f"resumed: the weights are {'' if weights(Path(whole)) == weights(Path(broken)) else 'NOT '}the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(asked.seeds):
        for way, flags in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                common = [*SETTINGS, f"--dataset={asked.dataset}", f"--epochs={asked.epochs}", f"--seed={seed}"]
                said, _ = started(Path(folder), *common, *flags).communicate()
                journal = "".join(path.read_text() for path in Path(folder).glob("mlruns/journals/*/*.jsonl"))
            events = [json.loads(line) for line in journal.splitlines()]
            values = [event["values"] for event in events if event["event"] == "metric"]
            accuracy = [one["test_accuracy"] for one in values if "test_accuracy" in one]
            assert len(accuracy) == 1, said  # once
            speeds = [one["images_per_s"] for one in values if "images_per_s" in one]
            assert len(speeds) == asked.epochs, said
            found[way].append(accuracy[0])
            print(f"seed {seed}  {way:11}  test {accuracy[0]:.4f}  {np.median(speeds):5.0f} images/s", flush=True)
    for way in list(WAYS)[1:]:
        gap = np.array(found[way]) - np.array(found["one device"])
        reach = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else np.nan
        print(f"{way} less one device: {gap.mean():+.4f} ± {reach:.4f} (95 %, paired by seed)")
    lost(asked.dataset, asked.epochs)


if __name__ == "__main__":
    main()
