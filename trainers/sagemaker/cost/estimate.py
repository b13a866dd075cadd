"""How long a job will take, what it will cost by each moment, how much disk it needs, and how far off that may be.

Calibrated on public logs of the built-in: 18 layers, 224 px, 15,420 pictures on one V100 (150 pictures a second, held
up by decoding), and 152 layers, 32 px, 1,000 pictures on a V100 and a K80. Without more it may be off by a factor of 3;
``learnt`` corrects it by what finished jobs of the same kind were billed (``tests/benchmarks/bench_estimate.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tracking import names
from trainers.config import Config
from trainers.config.checks import devices_of
from trainers.sagemaker.cost import instances

SPREAD = 3.0  # how far an estimate may be off, either way, where no job of the kind has been seen
_DOWNLOAD_BYTES_PER_S = 100e6
_IMAGE_S = 140.0  # pulling the container's image, billed: 69 to 293 s in 13 public jobs of the built-in
_BOOT_S = 60.0  # from the image's start to the first epoch
_UPLOAD_S = 25.0  # packing and sending the model, billed
_LAYER_S = 1e-3  # each layer of a batch takes that on a V100, however small the pictures
# From job to job (standard deviation of the logarithm): what is billed beside the container's run, and that run. From
# the same 13 jobs, which count as four jobs of the account.
_REST_NOISE, _RUN_NOISE, _PRIOR_JOBS = 0.3, 0.08, 4
_DECODED_224_PER_S = 150.0  # pictures a second that the built-in decodes and augments at 224 px
_LARGEST_RATE_PER_S = 5000.0
_EVALUATION_SPEED = 3.0  # a forward pass against forward, backward and update
_PACKED_PER_S = 400.0  # pictures a second when the container turns a list into records
# Multiply-adds of a forward pass, in 10^9: at 224 px for the large networks, at 32 px for the small.
_LARGE_GMACS = {18: 1.8, 34: 3.7, 50: 4.1, 101: 7.8, 152: 11.5, 200: 15.0}
_SMALL_GMACS = {20: 0.041, 32: 0.069, 44: 0.097, 56: 0.126, 110: 0.253}
_LARGE_MILLIONS = {18: 11.7, 34: 21.8, 50: 25.6, 101: 44.6, 152: 60.2, 200: 64.7}
_SMALL_MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.73}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Billed seconds by phase; ``total_s`` is all of them, ``images_per_s`` what the training part rests on.

    Nine of ten bills are expected between ``total_s / spread`` and ``total_s * spread``; ``num_jobs`` finished jobs say
    so, and with none it is a guess.
    """

    download_s: float
    start_s: float
    training_s: float
    upload_s: float
    images_per_s: float
    spread: float = SPREAD
    num_jobs: int = 0

    @property
    def run_s(self) -> float:
        """What AWS calls the phase Training: from the container's start to its end."""
        return self.start_s - _IMAGE_S + self.training_s

    @property
    def total_s(self) -> float:
        """Everything that is billed."""
        return self.download_s + self.start_s + self.training_s + self.upload_s

    def billed_by(self) -> dict[str, float]:
        """Seconds billed when a job fails at each moment that a finding names."""
        started = self.download_s + self.start_s
        return {
            "create": 0.0,
            "download": self.download_s,
            "start": started,
            "training": started + self.training_s / 2,
            "end": self.total_s,
            "result": self.total_s,
        }


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a finished job was billed: ``run_s`` of it in the phase Training; ``guess`` is what was expected of it."""

    guess: Estimate
    run_s: float
    billed_s: float


def learnt(guess: Estimate, bills: Sequence[Bill]) -> Estimate:
    """The estimate as finished jobs of the same kind correct it: the pace of the epochs, and everything beside the run.

    Few jobs say little of how much bills differ, so what public logs show of that counts as well.
    """
    if not bills:
        return guess
    num_jobs = len(bills)
    fixed = [bill.guess.start_s - _IMAGE_S for bill in bills]
    epochs = [
        max(bill.run_s - s, 0.1 * bill.run_s) / bill.guess.training_s for s, bill in zip(fixed, bills, strict=True)
    ]
    pace = _mean(epochs)
    runs = [bill.run_s / (s + pace * bill.guess.training_s) for s, bill in zip(fixed, bills, strict=True)]
    rests = [max(1.0, bill.billed_s - bill.run_s) / (bill.guess.total_s - bill.guess.run_s) for bill in bills]
    rest = _mean(rests)
    better = replace(
        guess,
        download_s=rest * guess.download_s,
        start_s=guess.start_s + (rest - 1) * _IMAGE_S,
        training_s=pace * guess.training_s,
        upload_s=rest * guess.upload_s,
        images_per_s=guess.images_per_s / pace,
        num_jobs=num_jobs,
    )
    share = (guess.start_s - _IMAGE_S + better.training_s) / better.total_s
    deviation = math.hypot(share * _deviation(runs, _RUN_NOISE), (1 - share) * _deviation(rests, _REST_NOISE))
    quantile = 1.645 + 1.8 / (_PRIOR_JOBS + num_jobs - 1)  # of Student's distribution, two-sided 90 %
    return replace(better, spread=min(SPREAD, math.exp(quantile * deviation)))


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _deviation(ratios: Sequence[float], noise: float) -> float:
    """The deviation of the next job's logarithm from the mean of those seen."""
    middle = _mean(ratios)
    squares = _PRIOR_JOBS * noise**2 + sum(math.log(ratio / middle) ** 2 for ratio in ratios)
    return math.sqrt(squares / (_PRIOR_JOBS + len(ratios) - 1) * (1 + 1 / len(ratios)))


def estimate(
    config: Config,
    instance_type: str,
    *,
    num_instances: int = 1,
    num_train: int,
    num_validation: int = 0,
    num_bytes: int = 0,
    is_listed: bool = False,
    is_builtin: bool = True,
) -> Estimate:
    """The job's billed seconds. ``is_listed``: pictures and a list, which the built-in first packs, on billed time.

    Our own trainer (not ``is_builtin``) takes the GPUs that ``--devices`` names of each machine.
    """
    rate = images_per_s(config, instance_type, num_gpus=None if is_builtin else used_gpus(config, instance_type))
    rate *= num_instances
    pictures = num_train + num_validation / _EVALUATION_SPEED
    packing_s = (num_train + num_validation) / _PACKED_PER_S if is_listed else 0.0
    return Estimate(
        download_s=num_bytes / _DOWNLOAD_BYTES_PER_S,
        start_s=_IMAGE_S + _BOOT_S + packing_s,
        training_s=config.epochs * pictures / rate,
        upload_s=_UPLOAD_S,
        images_per_s=rate,
    )


def used_gpus(config: Config, instance_type: str) -> int:
    """How many GPUs of a machine our own trainer computes on; 1 also where it is no GPU."""
    machine = instances.find(instance_type)
    kind, numbers = devices_of(config.devices or "0") or ("", ())
    return 1 if machine is None or kind == "cpu" else len(numbers) or machine.num_gpus


def images_per_s(config: Config, instance_type: str, *, num_gpus: int | None = None) -> float:
    """Training pictures a second of one machine: the slower of its GPUs (``num_gpus`` of them) and of reading."""
    _, height, width = config.shape if config.image_shape else (3, 224, 224)
    share = height * width / (224 * 224)
    reading = min(_LARGEST_RATE_PER_S, _DECODED_224_PER_S / share)
    machine = instances.find(instance_type)
    if machine is None:
        tflops, count = 0.15, 1  # some CPU
    else:
        tflops, count = machine.gpu.tflops, machine.num_gpus if num_gpus is None else num_gpus
        reading *= max(1.0, machine.num_cpus / 8)
    faster = 1.5 if config.precision_dtype == "float16" else 1.0
    computing = (
        count * faster * tflops * 1e12 / (6 * macs(config))
    )  # 2 operations a multiply-add; the backward pass costs two
    depth, batch = config.num_layers if config.num_layers is not None else 152, config.mini_batch_size
    launching = batch / (depth * _LAYER_S * (9.0 / tflops) ** 0.7)  # 1 ms on a V100, 3.5 on a K80
    return float(min(computing, reading, launching))


def macs(config: Config) -> float:
    """Multiply-adds of a forward pass on one picture; the built-in's defaults replace what is not set."""
    _, height, width = config.shape if config.image_shape else (3, 224, 224)
    depth = config.num_layers if config.num_layers is not None else 152
    if depth in _SMALL_GMACS:
        return _SMALL_GMACS[depth] * 1e9 * height * width / (32 * 32)
    return _LARGE_GMACS[depth] * 1e9 * height * width / (224 * 224)


def model_bytes(config: Config) -> int:
    """Size of one saved set of weights."""
    depth = config.num_layers if config.num_layers is not None else 152
    millions = _SMALL_MILLIONS[depth] if depth in names.SMALL_IMAGE_DEPTHS else _LARGE_MILLIONS[depth]
    return int(millions * 1e6 * (2 if config.precision_dtype == "float16" else 4))


def disk_bytes(config: Config, num_bytes: int, *, is_listed: bool = False) -> int:
    """Room the job needs: data (packed beside, for a list), every checkpoint kept, and their archive."""
    kept = 1 if config.checkpoint_frequency is None else config.epochs // config.checkpoint_frequency
    weights = model_bytes(config)
    # The best epoch's weights are written beside the former ones before those go; momentum is kept beside the weights.
    checkpoints = weights * (kept + 2)
    return num_bytes * (2 if is_listed else 1) + checkpoints + weights * kept
