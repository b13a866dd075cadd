"""AWS's built-in image classification: what it accepts, and what its log lines say.

Enters: a Config, or a line of a job's log. Leaves: every fault of the settings, or the journal event that the line is.
The archive it leaves is read by ``trainers.sagemaker.builtin.model``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracking import names
from trainers.config import Config
from trainers.config.checks import flag

SMALL_HEIGHT_PX = (
    28  # up to here the algorithm's ancestor builds the 3-stage net of 20..110 layers, above the large one
)
PRETRAINED_SIDE_PX = 224
# Its settings that this project adds: the built-in has no such thing, and a value other than the default is a mistake.
_UNKNOWN = ("pretext", "fold", "seed", "resnet_version", "devices", "workers", *(name.key for name in names.RECIPE))


@dataclass(frozen=True)
class Fault:
    """One thing the built-in will refuse or stumble over. ``code`` is stable; ``certain`` is false for a guess."""

    code: str
    what: str
    certain: bool = True


def faults(config: Config, *, num_gpus: int | None = None, num_instances: int = 1) -> list[Fault]:
    """Everything of the settings that the built-in cannot do, its cross-constraints included."""
    return [
        *_needed(config),
        *_foreign(config),
        *_network(config),
        *_schedule(config),
        *_machines(config, num_gpus, num_instances),
    ]


def agrees(accuracy: float, reported: float, *, mini_batch_size: int, num_images: int) -> bool:
    """Whether an accuracy computed on exactly ``num_images`` is the one in the log, as far as that can be known.

    The log's runs over whole batches, the last one filled up from the set's beginning, so that up to a batch of
    pictures counts twice.
    """
    return abs(accuracy - reported) <= mini_batch_size / num_images + 1e-6


def _needed(config: Config) -> list[Fault]:
    return [
        Fault(f"{key.replace('_', '-')}-missing", f"{flag(key)} must be given: the built-in does not count by itself.")
        for key in ("num_classes", "num_training_samples")
        if getattr(config, key) is None
    ]


def _foreign(config: Config) -> list[Fault]:
    """Settings that only our own trainer has."""
    found = []
    if config.initial not in ("scratch", "imagenet"):
        found.append(
            Fault(
                "init-foreign",
                f"--init {config.init}: the built-in starts from scratch or imagenet; take --on sagemaker.",
            )
        )
    if config.precision_dtype == "bfloat16":
        found.append(Fault("precision", "--precision-dtype bfloat16: the built-in has float32 and float16."))
    for key in _UNKNOWN:
        value, default = getattr(config, key), names.PARAMS[key].default
        if value != default:
            found.append(
                Fault("setting-foreign", f"{flag(key)} {value}: the built-in has no such setting; leave it out.")
            )
    return found


def _network(config: Config) -> list[Fault]:
    found = []
    depth, shape = config.num_layers, config.image_shape
    if depth is None or shape is None:
        return [
            Fault("network-open", "--num-layers and --image-shape must be known; the built-in's are 152 and 3,224,224.")
        ]
    channels, height, width = config.shape
    # The other way round, a deep network for tiny pictures, no Config can say.
    if depth in names.SMALL_IMAGE_DEPTHS and height > SMALL_HEIGHT_PX:
        found.append(
            Fault(
                "depth-image-size",
                f"--num-layers {depth} with --image-shape {shape}: above {SMALL_HEIGHT_PX} px the built-in has"
                f" {_list(names.LARGE_IMAGE_DEPTHS)} layers only. Take one of them, or {channels},28,28.",
            )
        )
    if config.use_pretrained_model and (height, width) != (PRETRAINED_SIDE_PX, PRETRAINED_SIDE_PX):
        found.append(
            Fault(
                "pretrained-image-size",
                f"--use-pretrained-model 1 with --image-shape {shape}: the built-in's ImageNet weights take pictures of"
                " 224x224 alone. Give --image-shape 3,224,224.",
            )
        )
    if config.use_pretrained_model and depth not in names.LARGE_IMAGE_DEPTHS:
        found.append(
            Fault(
                "pretrained-depth",
                f"--use-pretrained-model 1 with --num-layers {depth}: there are weights for"
                f" {_list(names.LARGE_IMAGE_DEPTHS)} layers.",
            )
        )
    if config.resize is not None and config.resize <= max(height, width):
        found.append(
            Fault(
                "resize-equal",
                f"--resize {config.resize} is not more than both sides of --image-shape {shape}, as AWS's page asks.",
                certain=False,
            )
        )
    return found


def _schedule(config: Config) -> list[Fault]:
    found = []
    samples, classes = config.num_training_samples, config.num_classes
    if samples is not None and config.mini_batch_size > samples:
        found.append(
            Fault(
                "batch-too-large",
                f"--mini-batch-size {config.mini_batch_size} is more than the {samples} training pictures.",
            )
        )
    if config.top_k is not None and classes is not None and config.top_k >= classes:
        found.append(Fault("top-k", f"--top-k {config.top_k} must be less than the {classes} classes."))
    if config.checkpoint_frequency is not None and config.checkpoint_frequency > config.epochs:
        found.append(
            Fault(
                "checkpoint-frequency",
                f"--checkpoint-frequency {config.checkpoint_frequency} is more than the {config.epochs} epochs: no"
                " model would be kept.",
            )
        )
    if config.use_weighted_loss and not config.multi_label:
        found.append(Fault("weighted-loss", "--use-weighted-loss 1 needs --multi-label 1."))
    return found


def _machines(config: Config, num_gpus: int | None, num_instances: int) -> list[Fault]:
    found = []
    if num_gpus is not None and config.mini_batch_size < num_gpus:
        found.append(
            Fault(
                "batch-below-gpus",
                f"--mini-batch-size {config.mini_batch_size} leaves some of the {num_gpus} GPUs without a picture.",
            )
        )
    if num_instances > 1 and config.kv_store is None:
        found.append(
            Fault(
                "kv-store-open",
                f"--instance-count {num_instances} without --kv-store: say dist_sync or dist_async.",
                certain=False,
            )
        )
    return found


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))
