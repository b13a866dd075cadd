"""A search that prunes against the full grid: the best validation accuracy and the seconds trained, seed by seed.

python tests/benchmarks/bench_search.py --dataset PHOTOS [--seeds 3] [--epochs 8] [--settings 'image_shape = "3,28,28"']
Each seed trains the grid (15 runs), then searches the same space with as many trials; both in a folder of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
RATES, DEPTHS = (0.001, 0.004, 0.016, 0.064, 0.256), (20, 32, 44)
STUDY = """
title = "{name}"
[settings]
dataset = "{dataset}"
epochs = {epochs}
seed = {seed}
{settings}
[search]
sampler = "{sampler}"
pruner = "{pruner}"
seed = {seed}
trials = {trials}
[search.space]
learning_rate = {rates}
num_layers = {depths}
"""


def trained(folder: Path, text: str, name: str) -> tuple[float, float, dict[str, object]]:
    """Best validation accuracy, seconds of all trials, and what the report says of the search."""
    (folder / f"{name}.toml").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "trainers.run", "--study", f"{name}.toml"], cwd=folder, env=environment, check=True
    )
    answer = [sys.executable, "-m", "reports", "study", name, "--format", "json"]
    told = subprocess.run(answer, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout
    files = (folder / "mlruns" / "journals").glob("*/files/trials.json")
    trials = max((json.loads(path.read_text()) for path in files), key=len)
    best = max(row["values"]["validation_accuracy"] for row in trials if row["state"] == "complete")
    return best, sum(row["time_s"] for row in trials), json.loads(told)["search"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--settings", default="")
    asked = parser.parse_args()
    whole = len(RATES) * len(DEPTHS)
    found = []
    for seed in range(asked.seeds):
        row: list[float] = []
        for name, sampler, pruner in (("grid", "grid", "none"), ("search", "tpe", "hyperband")):
            text = STUDY.format(
                name=name, dataset=asked.dataset, epochs=asked.epochs, seed=seed, settings=asked.settings,
                sampler=sampler, pruner=pruner, trials=whole, depths=list(DEPTHS),
                rates=list(RATES) if name == "grid" else "{ low = 0.001, high = 0.256, log = true }",
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                best, seconds, saved = trained(Path(folder), text, name)
            row += [best, seconds]
            print(f"seed {seed} {name:6} best {best:.4f}, {seconds:.0f} s trained, {saved}", flush=True)
        found.append(row)
    grid, grid_s, search, search_s = np.array(found).T
    print(f"best: search minus grid {100 * (search - grid).mean():+.2f} points", end="")
    print(f", p = {stats.ttest_rel(search, grid).pvalue:.3f}" if len(found) > 1 else "")
    print(f"seconds: search / grid {search_s.sum() / grid_s.sum():.2f}")


if __name__ == "__main__":
    main()
