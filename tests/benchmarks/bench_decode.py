"""Training end to end from large JPEGs that do not fit into memory, against pictures of 224 px that do: images/s.

ResNet-34 at 224 px in batches of 32 on two threads, one folder of noise photographs in each size. ``whole`` decodes
every pixel in every epoch, ``scaled`` is ``--decode scaled``; the three take turns, epoch by epoch. A ratio of 1 to
``in memory`` means that decoding costs nothing.

    python tests/benchmarks/bench_decode.py [--side 1600] [--epochs 3] [--pictures 96]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np  # noqa: E402

from trainers.networks import backend  # noqa: E402

BATCH, RESIZE, SHAPE = 32, 256, "3,224,224"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1600, help="px of the JPEGs' longer side")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=96)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # others' deprecations
    num_threads = backend.prepare()
    with tempfile.TemporaryDirectory() as name:
        large, small = Path(name, "large"), Path(name, "small")
        write(large, asked.side, asked.pictures)
        write(small, RESIZE * 4 // 3, asked.pictures)
        trainings = {
            "in memory": training(small, asked.epochs, scaled=False, memory_bytes=1 << 30),
            "whole": training(large, asked.epochs, scaled=False, memory_bytes=1),
            "scaled": training(large, asked.epochs, scaled=True, memory_bytes=1),
        }
        rates = {kind: [] for kind in trainings}
        for _ in range(asked.epochs):
            for kind, records in trainings.items():
                rates[kind].append(next(records).images_per_s)
    best = statistics.median(rates["in memory"])
    print(f"JPEGs of {asked.side} px, {asked.pictures} pictures, {num_threads} thread(s)")
    for kind, found in rates.items():
        print(f"{kind:<10} {statistics.median(found):6.2f} images/s  {statistics.median(found) / best:.2f}")


def write(folder: Path, side: int, count: int) -> None:
    """So many JPEGs of side x 3/4 side, smooth with some noise, in two classes and two splits."""
    import cv2

    random = np.random.default_rng(0)
    for number in range(count + 8):
        coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (side, side * 3 // 4), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        picture = np.clip(picture + random.integers(-8, 9, picture.shape), 0, 255).astype(np.uint8)
        path = folder / ("train" if number < count else "validation") / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])


def training(folder: Path, epochs: int, *, scaled: bool, memory_bytes: int):  # type: ignore[no-untyped-def]
    """The records of a training, an epoch each."""
    from trainers.config import Config
    from trainers.data import Batches, open_dataset
    from trainers.networks import resnet, weights
    from trainers.training import fit

    config = Config(
        num_layers=34, num_classes=2, image_shape=SHAPE, resize=RESIZE, mini_batch_size=BATCH, epochs=epochs,
        learning_rate=0.01, augmentation_type="crop",
    )  # fmt: skip
    data = open_dataset(str(folder))
    train = Batches(
        data.train, config.shape, BATCH, resize=RESIZE, augmentation="crop", last="discard", scaled=scaled,
        memory_bytes=memory_bytes,
    )  # fmt: skip
    validation = Batches(data.validation, config.shape, 8, resize=RESIZE)
    net = resnet.build_for(config)
    weights.initialise(net, "scratch", seed=0)
    return fit.fit(net, train, validation, config, state_dir=Path(tempfile.mkdtemp(dir=folder.parent)))


if __name__ == "__main__":
    main()
