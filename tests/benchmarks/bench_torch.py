"""Training end to end here against the bare step of eager PyTorch: the same net, batch, precision and threads.

ResNet-44 v1 for 28x28 in batches of 128 and ResNet-34 v1 for 224x224 in batches of 32, each in float32 and bfloat16,
SGD with momentum. Ours is ``trainers.training.fit`` with data, augmentation, counting and a run that is shown live.
PyTorch takes turns with us in processes of their own, plain and channels last, on one batch that already lies in its
memory, without data, augmentation or counting; the ratio is to the faster of the two in the same turn. Each epoch
counts, the first with what it prepares too; the ratio over all epochs is given beside the median. Its interpreter is
TORCH_PYTHON where that is set (a virtual environment with torch alone will do), else this one; TORCH_SITE names a
folder of ``pip install --target``. Without torch there is nothing to measure.

    TORCH_PYTHON=…/bin/python python tests/benchmarks/bench_torch.py [--only 44-float32,34-bfloat16] [--turns 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np  # noqa: E402

from trainers.networks import backend  # noqa: E402

# The peer, for whatever Python has torch: a number of steps comes in, their seconds go out.
PEER = """
import os, sys, time
if os.environ.get("TORCH_SITE"):
    sys.path.insert(0, os.environ["TORCH_SITE"])
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Identity() if channels == width else nn.Sequential(
            nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x):
        return torch.relu_(self.body(x) + self.shortcut(x))

num_layers, side, batch, num_threads, low, channels_last = (int(text) for text in sys.argv[1:])
torch.manual_seed(0)
torch.set_num_threads(num_threads)
if num_layers == 44:
    layers, channels = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)], 16
    stages = (16, 7), (32, 7), (64, 7)
else:
    layers, channels = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)], 64
    layers.append(nn.MaxPool2d(3, 2, 1))
    stages = (64, 3), (128, 4), (256, 6), (512, 3)
for stage, (width, count) in enumerate(stages):
    for place in range(count):
        layers.append(Block(channels, width, 2 if stage and not place else 1))
        channels = width
net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
pictures, labels = torch.randn(batch, 3, side, side), torch.randint(0, 10, (batch,))
if channels_last:
    net, pictures = net.to(memory_format=torch.channels_last), pictures.to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
print(torch.__version__, sum(p.numel() for p in net.parameters()), flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    for _ in range(int(line)):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(low)):
            loss = nn.functional.cross_entropy(net(pictures), labels)
        loss.backward()
        optimizer.step()
    print(time.perf_counter() - started, flush=True)
"""
# Layers, px, batch, pictures an epoch (None: all), validated; what the ratio should reach in each precision.
SETUPS = {
    "44": (44, 28, 128, None, {"float32": 1.15, "bfloat16": 1.2}),
    "34": (34, 224, 32, 96, {"float32": 1.1, "bfloat16": 1.0}),
}
KINDS = ("plain", "channels last")


class Torch:
    """PyTorch in its own process. Raises OSError when its interpreter has no torch."""

    def __init__(self, *numbers: int) -> None:
        """Layers, px, batch, threads, 1 for bfloat16, 1 for channels last."""
        python = os.environ.get("TORCH_PYTHON", sys.executable)
        environment = {**os.environ, "OMP_NUM_THREADS": str(numbers[3])}
        self._process = subprocess.Popen(
            [python, "-W", "ignore", "-c", textwrap.dedent(PEER), *(str(int(number)) for number in numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        answer = self._read().split()
        if len(answer) != 2:
            raise OSError(python)
        self.version, self.num_parameters = answer[0], int(answer[1])

    def seconds(self, steps: int) -> float:
        """Of so many steps."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [f"{name}-{dtype}" for name, setup in SETUPS.items() for dtype in setup[4]]
    parser.add_argument("--only", default=",".join(names))
    parser.add_argument("--turns", type=int, default=5, help="epochs measured")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # others' deprecations
    num_threads = backend.prepare()
    found = []
    for name in asked.only.split(","):
        try:
            found.append(f"{name:<13} {measure(*name.split('-'), num_threads, asked.turns)}")
        except OSError as error:
            print(f"{error} has no PyTorch: nothing to compare with. Name one that has it in TORCH_PYTHON.")
            return
    print("\n".join(found))


def measure(name: str, dtype: str, num_threads: int, turns: int) -> str:
    """The ratio in words."""
    from tracking import run as tracked
    from tracking import store as stores
    from trainers.config import Config
    from trainers.data import Batches, open_dataset
    from trainers.networks import resnet, weights
    from trainers.training import fit

    num_layers, side, batch, count, wanted = SETUPS[name]
    peers = [
        Torch(num_layers, side, batch, num_threads, dtype == "bfloat16", channels_last)
        for channels_last in (False, True)
    ]
    config = Config(
        num_layers=num_layers,
        num_classes=10,
        image_shape=f"3,{side},{side}",
        mini_batch_size=batch,
        epochs=turns,
        learning_rate=0.01,
        augmentation_type="crop",
        precision_dtype=dtype,
    )
    data = open_dataset("digits")
    train = fit.training_batches(data.train if count is None else data.train.take(np.arange(count)), config)
    validation = Batches(data.validation.take(np.arange(min(batch, len(data.validation)))), config.shape, batch)
    net = resnet.build_for(config)
    weights.initialise(net, "scratch", seed=0)
    assert all(peer.num_parameters == resnet.num_parameters(net) for peer in peers), "not the same network"
    print(
        f"{num_layers} layers, {side} px, batch {batch}, {dtype}, {num_threads} thread(s); PyTorch {peers[0].version}"
    )
    ratios, sums = [], np.zeros(1 + len(peers))
    with tempfile.TemporaryDirectory() as folder:
        store = stores.resolve(Path(folder))
        with tracked.start(run_name="bench", live=store) as run:
            records = fit.fit(net, train, validation, config, state_dir=run.dir / "state", on_batch=lambda _: None)
            for record in records:
                seconds = [peer.seconds(len(train)) for peer in peers]
                theirs = [train.num_images / second for second in seconds]
                # Logged after the others' turn, so that its way to the store falls into the next epoch of ours.
                run.log_metrics({k: v for k, v in record.values().items() if isinstance(v, float)}, step=record.epoch)
                ratios.append(record.images_per_s / max(theirs))
                sums += [train.num_images / record.images_per_s, *seconds]
                shown = ", ".join(f"{kind} {rate:.1f}" for kind, rate in zip(KINDS, theirs, strict=True))
                load = os.getloadavg()[0]
                print(f"  {record.images_per_s:6.1f} images/s, PyTorch {shown}: {ratios[-1]:.2f} (load {load:.1f})")
    for peer in peers:
        peer.close()
    return (
        f"end to end / the faster PyTorch: {min(sums[1:]) / sums[0]:.2f} over all epochs, median of {len(ratios)}"
        f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); wanted {wanted[dtype]}"
    )


if __name__ == "__main__":
    main()
