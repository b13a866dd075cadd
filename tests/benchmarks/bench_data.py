"""The data room against its peers: batches, pack against im2rec, check, and training from a .rec against memory.

Run by ``make bench``, or: python tests/benchmarks/bench_data.py [--pictures DIR] [--only SECTION,…] [--repeat N]
DIR is a folder with a sub-folder per class; without it, 12,000 patches of scikit-learn's two photographs are made.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))

import cv2
import numpy as np

from trainers.data import Batches, open_dataset
from trainers.data.check.check import Job, check
from trainers.data.check.examine import look_at_records
from trainers.data.dataset import Split
from trainers.data.formats.recordio import RecordFile
from trainers.data.pack.pack import Options, pack
from trainers.data.pictures.augment import KINDS
from trainers.data.pictures.pictures import ArrayPictures, EncodedPictures, Files

CLASSES, PER_CLASS = 10, 1200
STEPS = 5  # of training, between two looks at the clock
ROOT = Path(__file__).resolve().parents[2]


def best(repeat: int, job: Callable[[], object]) -> float:
    """Shortest wall time of ``repeat`` runs, in s."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        job()
        times.append(time.perf_counter() - started)
    return min(times)


def run(arguments: list[str]) -> tuple[float, str]:
    """Wall time in s, start-up included, and output of a process that must succeed."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
    return time.perf_counter() - started, done.stdout


def run_pack(arguments: list[str]) -> tuple[float, float]:
    """Wall time in s and peak memory in MB of ``pack``. The process tells its own peak: the kernel's figure for a child
    begins with the parent's."""
    elapsed_s, output = run([sys.executable, "-c", _PACK, "pack", *arguments])
    return elapsed_s, int(output.split("VmHWM:")[1].split()[0]) / 1000


_PACK = (
    "import sys; from trainers.data.__main__ import main\n"
    "assert main(sys.argv[1:]) == 0; print(open('/proc/self/status').read())"
)


def make_pictures(root: Path) -> Path:
    """12,000 JPEGs of 32 x 32 px, patches of real photographs."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for index in range(PER_CLASS):
            photograph = photographs[label % 2]
            y, x = (int(rng.integers(0, side - 64)) for side in photograph.shape[:2])
            patch = cv2.resize(photograph[y : y + 64, x : x + 64, ::-1], (32, 32), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / f"{index:04}.jpg"), patch, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return root


def make_photographs(root: Path, count: int = 300) -> Path:
    """JPEGs of about 400 x 500 px, for resize jobs."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng = np.random.default_rng(1)
    for index in range(count):
        folder = root / f"class{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        y, x = (int(rng.integers(0, 25)) for _ in range(2))
        part = photographs[index % 2][y : y + 400, x : x + 500 + index % 90, ::-1]
        cv2.imwrite(str(folder / f"{index:04}.jpg"), part)
    return root


def bench_batches(work: Path, pictures: Path, repeat: int) -> None:
    print("batches, 28x28x3, batch 128, one thread (aim: 20,000 pictures/s and more for crop)")
    pixels = np.random.default_rng(0).integers(0, 256, (12_000, 28, 28, 3), dtype=np.uint8)
    split = Split(ArrayPictures(pixels, "random"), np.zeros(12_000, np.int64), [""] * 12_000)
    for augmentation in (None, *KINDS):
        batches = Batches(split, (3, 28, 28), 128, shuffle=True, augmentation=augmentation)
        elapsed_s = best(repeat, lambda batches=batches: consume(batches.epoch(1)))
        print(f"  {augmentation or 'none':<22} {12_000 / elapsed_s:>10,.0f} pictures/s")


def bench_pack(work: Path, pictures: Path, repeat: int) -> None:
    import mxnet

    tool = [sys.executable, str(Path(mxnet.__file__).parent / "tools" / "im2rec.py")]

    def versus(title: str, source: Path, options: list[str], threads: int, aim: float) -> None:
        prefix = work / "theirs" / source.name
        prefix.parent.mkdir(exist_ok=True)
        run([*tool, "--list", "--recursive", str(prefix), str(source)])
        kept = prefix.with_suffix(".lst").read_bytes()

        def theirs() -> list[str]:
            prefix.with_suffix(".lst").write_bytes(kept)
            return [*tool, *(options or ["--pass-through"]), "--num-thread", str(threads), str(prefix), str(source)]

        def mine() -> list[str]:
            out = work / "ours"
            shutil.rmtree(out, ignore_errors=True)
            return [str(source), str(out), "--split", "train=1", *options, "--num-thread", str(threads)]

        # In turns, so that a busy machine slows both.
        rounds = [(run(theirs()), run_pack(mine())) for _ in range(repeat)]
        their_s = min(elapsed_s for (elapsed_s, _), _ in rounds)
        our_s, our_mb = min(found for _, found in rounds)
        count = sum(1 for _ in source.rglob("*.jpg"))
        print(f"  {title}, {count:,} pictures, {threads} thread(s), start-up included, im2rec given its list:")
        print(
            f"    im2rec {count / their_s:>8,.0f} pictures/s   pack {count / our_s:>8,.0f} pictures/s, {our_mb:.0f} MB"
        )
        print(f"    pack is {their_s / our_s:.2f} times as fast (aim: {aim})")

    print("pack against the wheel's im2rec")
    versus("pass-through", pictures, [], 1, 3)
    versus("pass-through", pictures, [], 2, 3)
    photographs = make_photographs(work / "photographs")
    versus("resize to 224", photographs, ["--resize", "224"], 2, 1)


def bench_decode(work: Path, pictures: Path, repeat: int) -> None:
    """Photographs as a camera writes them, decoded anew in every epoch, whole and at a fraction of their size."""
    from sklearn.datasets import load_sample_images

    print("decoding for 224 px (--resize 256), crop, batch 32, two threads, not in memory")
    photographs = load_sample_images().images
    for width, height, count in ((500, 375, 128), (1600, 1200, 64), (4000, 3000, 32)):
        folder = work / f"photographs{width}" / "class0"
        folder.mkdir(parents=True)
        for index in range(count):
            large = cv2.resize(photographs[index % 2][:, :, ::-1], (width, height), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f"{index:04}.jpg"), large, [cv2.IMWRITE_JPEG_QUALITY, 90])
        split = Split(
            EncodedPictures(Files(sorted(folder.iterdir()))), np.zeros(count, np.int64), [str(i) for i in range(count)]
        )
        options = {"resize": 256, "augmentation": "crop", "memory_bytes": 0}
        ways = [Batches(split, (3, 224, 224), 32, scaled=scaled, **options) for scaled in (False, True)]
        spent_s = [[best(1, lambda way=way: consume(way.epoch(1))) for way in ways] for _ in range(repeat)]
        whole_s, scaled_s = np.min(spent_s, axis=0)
        ratio = np.median([whole / scaled for whole, scaled in spent_s])
        print(
            f"  {width} x {height}: whole {count / whole_s:>7,.1f} pictures/s, scaled {count / scaled_s:>7,.1f};"
            f" {ratio:.2f} times as fast (median of {repeat} in turns)"
        )


def bench_memory(work: Path, pictures: Path, repeat: int) -> None:
    print("pack, memory (aim: under 300 MB for 100,000 pictures)")
    sources = sorted(pictures.rglob("*.jpg"))
    for count in (10_000, 100_000):
        root = work / f"many{count}"
        for index in range(count):
            source = sources[index % len(sources)]
            folder = root / source.parent.name
            if index < CLASSES * PER_CLASS:
                folder.mkdir(parents=True, exist_ok=True)
            os.link(source, folder / f"{index}.jpg")
        elapsed_s, mb = run_pack([str(root), str(work / "packed"), "--overwrite"])
        print(f"  {count:>7,} pictures, split in three: {mb:.0f} MB, {count / elapsed_s:,.0f} pictures/s")
        shutil.rmtree(root)


def bench_check(work: Path, pictures: Path, repeat: int) -> None:
    pack(str(pictures), work / "checked", Options(shares={"train": 1.0}, overwrite=True))
    path = work / "checked" / "train" / "train.rec"
    (count,) = (len(part) for part in check([path], Job()).parts)
    deep_s = best(repeat, lambda: check([path], Job()))
    print(f"check, {count:,} records of 32x32 JPEG")
    print(f"  every picture decoded and hashed  {count / deep_s:>10,.0f} pictures/s (aim: 10,000)")
    many = work / "many.rec"
    with open(many, "wb") as file:
        for _ in range(20):
            file.write(path.read_bytes())
    fast_s = best(repeat, lambda: headers_alone(many))
    whole_s = best(repeat, lambda: check([many], Job(), fast=True))
    print(f"  headers alone, {20 * count:,} records      {20 * count / fast_s:>10,.0f} records/s (aim: 500,000)")
    print(f"  --fast with all its findings      {20 * count / whole_s:>10,.0f} records/s")


def headers_alone(path: Path) -> None:
    file = RecordFile(path)
    look_at_records(file, file.scan(), deep=False, hashes=False)


def bench_training(work: Path, pictures: Path, repeat: int) -> None:
    import mxnet as mx
    from gluoncv.model_zoo.cifarresnet import get_cifar_resnet

    pack(str(pictures), work / "training", Options(shares={"train": 1.0}, overwrite=True))
    data = open_dataset(work / "training" / "train" / "train.rec", validation_fraction=0.01, test_fraction=0)
    net = get_cifar_resnet(1, 44, classes=CLASSES)
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        x, y = mx.nd.array(images, dtype="float32"), mx.nd.array(labels)
        with mx.autograd.record():
            value = loss(net(x), y)
        value.backward()
        trainer.step(len(labels))

    def train(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        """Seconds for a few steps, the making of their batches included."""
        mx.nd.waitall()
        started = time.perf_counter()
        for (images, labels), _ in zip(batches, range(STEPS), strict=False):
            step(images, labels)
        mx.nd.waitall()
        return time.perf_counter() - started

    options = {"augmentation": "crop", "shuffle": True, "last": "discard"}
    memory = Batches(data.train, (3, 28, 28), 128, **options)
    streamed = Batches(data.train, (3, 28, 28), 128, memory_bytes=0, **options)
    one = next(memory.epoch(0))
    train([one] * STEPS)
    spent_s = np.array(
        # In turns, so that a busy machine slows all alike.
        [
            [train([one] * STEPS), train(memory.epoch(round_)), train(streamed.epoch(round_))]
            for round_ in range(2 * repeat)
        ]
    )
    speeds = STEPS * 128 / spent_s
    print(
        f"training, 44 layers, 28x28, batch 128, crop, {os.environ['OMP_NUM_THREADS']} thread(s), {STEPS} steps a time"
    )
    for name, column in zip(("no data path", "in memory", ".rec, streamed"), speeds.T, strict=True):
        print(f"  {name:<15} best {column.max():>6.1f} pictures/s, median {np.median(column):.1f}")
    nothing, kept, anew = speeds.max(axis=0)
    print(f"  .rec against memory {anew / kept:.3f} (aim: 0.95); memory against no data path {kept / nothing:.3f}")


def consume(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


SECTIONS = {
    "batches": bench_batches,
    "check": bench_check,
    "decode": bench_decode,
    "pack": bench_pack,
    "memory": bench_memory,
    "training": bench_training,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pictures = arguments.pictures or make_pictures(work / "pictures")
        for section in arguments.only.split(","):
            SECTIONS[section](work, pictures, arguments.repeat)


if __name__ == "__main__":
    main()
