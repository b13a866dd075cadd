"""The same four runs one after another and in parallel, each way in a store of its own: seconds, and their ratio.

python tests/benchmarks/bench_parallel.py [--parallel 4] [--epochs 12] [--rounds 2]
A ratio of 1 or less is what is wanted. 12 epochs are some 25 processor seconds. Beside busy neighbours the
two threads of the runs one after another wait for each other at every step, so take --epochs 1 there; processor seconds
are printed as well, since neighbours change them less.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
title = "four runs"
seeds = [0, 1, 2, 3]
[settings]
dataset = "digits"
num_layers = 20
mini_batch_size = 64
epochs = {epochs}
learning_rate = 0.05
"""


def train(parallel: int, epochs: int) -> tuple[float, float]:
    """Seconds and processor seconds of the whole command."""
    with tempfile.TemporaryDirectory(prefix="bench-parallel-") as name:
        folder = Path(name)
        (folder / "four.toml").write_text(STUDY.format(epochs=epochs))
        environment = {
            key: value for key, value in os.environ.items() if not key.endswith(("NUM_THREADS", "OMP_MAX_THREADS"))
        }
        argv = [sys.executable, "-m", "trainers.run", "--study", "four.toml", "--parallel", str(parallel)]
        before, started = _processor_s(), time.monotonic()
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        took_s, processor_s = time.monotonic() - started, _processor_s() - before
        assert done.returncode == 0 and "4 of 4 runs done" in done.stdout, done.stdout
        return took_s, processor_s


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    ratios = []
    for number in range(asked.rounds):
        alone, alone_cpu = train(1, asked.epochs)
        beside, beside_cpu = train(asked.parallel, asked.epochs)
        ratios.append(beside / alone)
        print(
            f"round {number + 1}: one after another {alone:.0f} s ({alone_cpu:.0f} s of processors),"
            f" --parallel {asked.parallel} {beside:.0f} s ({beside_cpu:.0f} s): ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
