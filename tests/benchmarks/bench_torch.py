"""Training end to end here against the bare step of eager PyTorch, float32, on the same net, batch and threads.

The net is ResNet-44 v1 for 28x28 in batches of 128, SGD with momentum. PyTorch takes turns with us in a process of its
own, on one batch that already lies in its memory, without data, augmentation or counting. Its interpreter is
TORCH_PYTHON where that is set (a virtual environment with torch alone will do), else this one; without torch there is
nothing to measure.

    TORCH_PYTHON=…/bin/python python tests/benchmarks/bench_torch.py [--epochs 6]
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

from trainers.networks import backend  # noqa: E402

# The peer, for whatever Python has torch: a number of steps comes in, their seconds go out.
PEER = """
import sys, time
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
        return torch.relu(self.body(x) + self.shortcut(x))

num_layers, batch, num_threads, channels_last = (int(text) for text in sys.argv[1:])
torch.manual_seed(0)
torch.set_num_threads(num_threads)
layers, channels = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)], 16
for stage, width in enumerate((16, 32, 64)):
    for place in range((num_layers - 2) // 6):
        layers.append(Block(channels, width, 2 if stage and not place else 1))
        channels = width
net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
pictures, labels = torch.randn(batch, 3, 28, 28), torch.randint(0, 10, (batch,))
if channels_last:
    net, pictures = net.to(memory_format=torch.channels_last), pictures.to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
print(torch.__version__, sum(p.numel() for p in net.parameters()), flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    for _ in range(int(line)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(pictures), labels).backward()
        optimizer.step()
    print(time.perf_counter() - started, flush=True)
"""


class Torch:
    """PyTorch in its own process. Raises OSError when its interpreter has no torch."""

    def __init__(self, num_layers: int, batch: int, num_threads: int, channels_last: bool) -> None:
        python = os.environ.get("TORCH_PYTHON", sys.executable)
        numbers = [str(int(value)) for value in (num_layers, batch, num_threads, channels_last)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
        self._process = subprocess.Popen(
            [python, "-W", "ignore", "-c", textwrap.dedent(PEER), *numbers],
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
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # others' deprecations

    num_threads = backend.prepare()
    try:
        peers = [Torch(44, 128, num_threads, channels_last) for channels_last in (False, True)]
    except OSError as error:
        print(f"{error} has no PyTorch: nothing to compare with. Name one that has it in TORCH_PYTHON.")
        return
    from trainers.config import Config
    from trainers.data import Batches, open_dataset
    from trainers.networks import resnet, weights
    from trainers.training import fit

    data = open_dataset("digits")
    config = Config(
        num_layers=44,
        num_classes=10,
        image_shape="3,28,28",
        mini_batch_size=128,
        epochs=asked.epochs + 1,
        learning_rate=0.01,
        augmentation_type="crop",
    )
    train = Batches(data.train, config.shape, 128, augmentation="crop", shuffle=True, last="discard")
    validation = Batches(data.validation, config.shape, 128)
    net = resnet.build(44, 10, config.shape)
    weights.initialise(net, "scratch", seed=0)
    assert all(peer.num_parameters == resnet.num_parameters(net) for peer in peers), "not the same network"

    print(f"44 layers, 28x28, batch 128, float32, {num_threads} thread(s); PyTorch {peers[0].version}")
    ours: list[float] = []
    theirs: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        records = fit.fit(net, train, validation, config, state_dir=Path(folder), on_batch=lambda _: None)
        next(records)  # compiles
        for peer in peers:
            peer.seconds(2)
        for turn, record in enumerate(records, start=1):
            ours.append(record.images_per_s)
            theirs.append([train.num_images / peer.seconds(len(train)) for peer in peers])
            print(
                f"  turn {turn}: end to end {ours[-1]:6.1f}, PyTorch {theirs[-1][0]:6.1f},"
                f" channels last {theirs[-1][1]:6.1f} images/s"
            )
    for peer in peers:
        peer.close()
    for place, kind in enumerate(("eager PyTorch", "eager PyTorch, channels last")):
        ratio = statistics.median(mine / peer[place] for mine, peer in zip(ours, theirs, strict=True))
        print(f"end to end / {kind}: {ratio:.2f} (median of {len(ours)})")


if __name__ == "__main__":
    main()
