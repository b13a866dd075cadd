"""What the int8 copy gains and costs: speed, size and accuracy against the fp32 ONNX copy, in one sitting.

``python tests/benchmarks/bench_int8.py [DATA LAYERS SHAPE EPOCHS]`` (default: digits 44 1,28,28 3). Targets: 1.9 times
faster, 3 to 4 times smaller, accuracy inside the fp32 copy's 95 % interval. Integers are fast where the processor has
VNNI (AVX512_VNNI or AVX_VNNI), which is said.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = 1
os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = str(THREADS)
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402

ROUNDS, BATCHES = 7, (1, 64)


def main(data: str = "digits", layers: str = "44", shape: str = "1,28,28", epochs: str = "3") -> None:
    import trainers
    from reports import stats
    from tracking.models.facts import INT8, ONNX
    from tracking.models.serving.runtime import OnnxNetwork
    from trainers.data import Batches, open_dataset
    from trainers.training import scores

    os.chdir(tempfile.mkdtemp(prefix="bench-int8-"))
    side = int(shape.split(",")[1])
    config = trainers.Config(
        dataset=data,
        num_layers=int(layers),
        image_shape=shape,
        resize=side,
        epochs=int(epochs),
        learning_rate=0.05,
        lr_scheduler="cosine",
        int8=True,
        num_threads=THREADS,
    )
    trainers.train(config)
    (folder,) = Path("mlruns/journals").glob("*/**/files/model")
    test = open_dataset(data).test
    assert test is not None
    batches = Batches(test, config.shape, 64, resize=side)
    networks = {name: OnnxNetwork(folder / name, THREADS) for name in (ONNX, INT8)}
    found = {name: scores.score_arrays(network, batches) for name, network in networks.items()}
    low, high = stats.wilson(found[ONNX].accuracy, len(test))
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    print(f"\nVNNI: {'yes' if 'vnni' in flags else 'no'}, {THREADS} thread(s)")
    print(f"accuracy  fp32 {found[ONNX].accuracy:.4f} ({low:.4f} to {high:.4f})  int8 {found[INT8].accuracy:.4f}")
    sizes = {name: (folder / name).stat().st_size for name in networks}
    print(f"bytes     fp32 {sizes[ONNX]:,}  int8 {sizes[INT8]:,}  {sizes[ONNX] / sizes[INT8]:.2f} x smaller")
    images = next(iter(batches.epoch(0)))[0].astype(np.float32)
    for size in BATCHES:
        rates = faster(networks, images[:size])
        gain = rates[INT8] / rates[ONNX]
        print(f"images/s  batch {size:3}: fp32 {rates[ONNX]:,.0f}  int8 {rates[INT8]:,.0f}  {gain:.2f} x faster")


def faster(networks: dict[str, Any], images: Any) -> dict[str, float]:
    """Images a second, the best of rounds taken in turn, so that a busy moment hits both."""
    best = dict.fromkeys(networks, 0.0)
    for _ in range(ROUNDS):
        for name, network in networks.items():
            network(images)
            count, begin = 0, time.perf_counter()
            while time.perf_counter() - begin < 0.4:
                network(images)
                count += len(images)
            best[name] = max(best[name], count / (time.perf_counter() - begin))
    return best


if __name__ == "__main__":
    main(*sys.argv[1:])
