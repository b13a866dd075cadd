"""A search that prunes against the full grid: the best validation accuracy and what was trained for it, seed by seed.

python tests/benchmarks/bench_search.py --dataset PHOTOS [--seeds 3] [--epochs 9] [--settings 'image_shape = "3,16,16"']
Each seed trains the grid (12 runs), then searches the same space with as many trials; both in a folder of their own.
An epoch is equally dear in all of these runs, so the epochs trained are what a job would be billed for; seconds and
CPU time are printed beside them, since others on the machine disturb both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
RATES, MOMENTA = (0.001, 0.004, 0.016, 0.064, 0.256, 1.0), (0.0, 0.9)
STUDY = """
title = "{name}"
[settings]
dataset = "{dataset}"
num_layers = 20
mini_batch_size = 64
epochs = {epochs}
seed = {seed}
keep_model = "none"
{settings}
[search]
sampler = "{sampler}"
pruner = "{pruner}"
seed = {seed}
trials = {trials}
[search.space]
learning_rate = {rates}
momentum = {momenta}
"""


def trained(folder: Path, text: str, name: str, parallel: int) -> tuple[float, int, float, float, dict[str, object]]:
    """Best validation accuracy; epochs, seconds and CPU seconds of all trials; what the report says of the search."""
    (folder / f"{name}.toml").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = _cpu_s()
    command = [sys.executable, "-m", "trainers.run", "--study", f"{name}.toml", "--parallel", str(parallel)]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    cpu_s = _cpu_s() - before
    answer = [sys.executable, "-m", "reports", "study", name, "--format", "json"]
    said = subprocess.run(answer, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout
    files = (folder / "mlruns" / "journals").glob("*/files/trials.json")
    trials = max((json.loads(path.read_text()) for path in files), key=len)
    best = max(row["values"]["validation_accuracy"] for row in trials if row["state"] == "complete")
    epochs = sum(len(row["reported"]) for row in trials)
    return best, epochs, sum(row["time_s"] for row in trials), cpu_s, json.loads(said)["search"]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--pruner", default="hyperband")
    parser.add_argument("--settings", default='image_shape = "3,16,16"')
    asked = parser.parse_args()
    whole = len(RATES) * len(MOMENTA)
    found = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        row: list[float] = []
        for name, sampler, pruner in (("grid", "grid", "none"), ("search", "tpe", asked.pruner)):
            searched = name == "search"
            text = STUDY.format(
                name=name, dataset=Path(asked.dataset).resolve(), epochs=asked.epochs, seed=seed,
                settings=asked.settings, sampler=sampler, pruner=pruner, trials=whole,
                rates=f"{{ low = {RATES[0]}, high = {RATES[-1]}, log = true }}" if searched else list(RATES),
                momenta=f"{{ low = {MOMENTA[0]}, high = {MOMENTA[-1]} }}" if searched else list(MOMENTA),
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                best, epochs, seconds, cpu_s, saved = trained(Path(folder), text, name, asked.parallel)
            row += [best, epochs, seconds, cpu_s]
            print(
                f"seed {seed} {name:6} best {best:.4f}, {epochs} epochs, {seconds:.0f} s, {cpu_s:.0f} CPU s, {saved}",
                flush=True,
            )
        found.append(row)
    table = np.array(found)
    (grid, *grid_cost), (search, *search_cost) = table[:, :4].T, table[:, 4:].T
    print(f"best: search minus grid {100 * (search - grid).mean():+.2f} points", end="")
    print(f", p = {stats.ttest_rel(search, grid).pvalue:.3f}" if len(found) > 1 else "")
    for what, one, other in zip(("epochs", "seconds", "CPU seconds"), grid_cost, search_cost, strict=True):
        print(f"{what}: search / grid {other.sum() / one.sum():.2f}")


if __name__ == "__main__":
    main()
