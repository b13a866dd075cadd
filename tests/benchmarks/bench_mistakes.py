"""Planted label errors: how many `reports mistakes` finds, against ranking by the label's probability alone.

python -m tests.benchmarks.bench_mistakes [--photos FOLDER] [--classes automobile,frog] [--folds 3] [--epochs 8]

FOLDER has train/<class>/ and test/<class>/, such as the CIFAR-10 subset; without it scikit-learn's digits are taken.
2 % of the training labels are flipped at a fixed seed; every training picture is then judged by a network that was not
trained on it. The target: precision of at least 0.7 at recall 0.7, with networks of at least 85 % accuracy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SHARE, RECALL = 0.02, 0.7


def photographs(root: Path, out: Path, classes: list[str]) -> tuple[str, dict[str, str]]:
    """A copy with flipped labels; the data set's path, and key -> true class of the flipped ones."""
    known = [(name, path) for name in classes for path in sorted((root / "train" / name).iterdir())]
    rng = np.random.default_rng(0)
    flipped = set(rng.choice(len(known), round(SHARE * len(known)), replace=False).tolist())
    wrong = {}
    for number, (name, path) in enumerate(known):
        label = str(rng.choice([other for other in classes if other != name])) if number in flipped else name
        place = out / "train" / label / f"{name}-{path.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        if number in flipped:
            wrong[place.name] = name
    for name in classes:
        shutil.copytree(root / "test" / name, out / "test" / name)
    return str(out), wrong


def digits(out: Path) -> tuple[str, dict[str, str]]:
    """scikit-learn's digits as picture files with flipped labels."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    source = out.with_name("source")
    for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        place = source / ("test" if number % 5 == 0 else "train") / str(label) / f"{number:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(place)
    return photographs(source, out, [str(n) for n in range(10)])


def precision_at(ranked: list[bool], total: int) -> float:
    """Share of planted errors among the first that hold ``RECALL`` of all ``total``; 0 where they never do."""
    needed = int(np.ceil(RECALL * total))
    places = np.flatnonzero(ranked)
    return needed / (int(places[needed - 1]) + 1) if len(places) >= needed else 0.0


def measured(run_ids: list[str], store: Any, wrong: dict[str, str]) -> dict[str, float]:
    """The figures of these runs' list of mistakes, and of the plain ranking over the same predictions."""
    import reports
    from tracking.store.predictions import load

    data = reports.mistakes(run_ids, store).data
    rows = data["mistakes"]
    listed = [Path(row["key"]).name in wrong for row in rows]
    plain: list[tuple[float, bool]] = []
    right = 0
    for run_id in run_ids:
        seen = load(store.tracking_uri, store.find_run(run_id).info.artifact_uri, "fold", every_class=True)
        assert seen is not None and seen.probabilities is not None
        own = seen.probabilities[np.arange(len(seen.label)), seen.label]
        bad = [Path(key).name in wrong for key in seen.key]
        right += int((seen.hits & ~np.array(bad)).sum())
        plain += zip(own.tolist(), bad, strict=True)
    total = len(wrong)
    return {
        "pictures": data["num_images"],
        "flipped": total,
        "accuracy on unflipped": right / (data["num_images"] - total),
        "listed": len(rows),
        "recall of the list": sum(listed) / total,
        "precision at recall 0.7": precision_at(listed, total),
        "plain ranking": precision_at([bad for _, bad in sorted(plain)], total),
        "suggested is the true class": float(
            np.mean([wrong[Path(r["key"]).name] == r["suggested"] for r, hit in zip(rows, listed, strict=True) if hit])
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="default: scikit-learn's digits")
    parser.add_argument("--classes", default="automobile,frog")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    from tracking import store as stores
    from trainers import run

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        out = Path(folder) / "flipped"
        data, wrong = photographs(asked.photos, out, asked.classes.split(",")) if asked.photos else digits(out)
        drop = max(1, asked.epochs * 2 // 3)
        settings = f"--dataset {data} --num-layers 20 --mini-batch-size 32 --learning-rate 0.05 --num-threads 1"
        more = f"--epochs {asked.epochs} --lr-scheduler-step {drop} --folds {asked.folds} --no-test"
        shape = ["--image-shape", "1,8,8"]
        run.main([*settings.split(), *more.split(), *(["--augmentation-type", "crop"] if asked.photos else shape)])
        store = stores.resolve()
        run_ids = [one.info.run_id for one in store.runs()]
        for name, value in measured(run_ids, store, wrong).items():
            print(f"{name:<28} {value:.3f}" if isinstance(value, float) else f"{name:<28} {value}")


if __name__ == "__main__":
    main()
