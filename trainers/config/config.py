"""One run's settings: typed, checked with every fault in one message, completed by what the data decides.

Text goes in and out in ``trainers.config.text``; this module knows values. Names, ranges and defaults of the
hyperparameters come from ``tracking.names``; this module holds the constraints between them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from tracking import names
from trainers.config.checks import LARGE_LEAST_PX, SMALL_SIDES_PX, faults, flag, fold_of, quoted
from trainers.errors import BadConfig

# Settings that say where and under which name a run is kept; they decide nothing about its result.
BOOKKEEPING = (
    "experiment",
    "run_name",
    "tags",
    "image_root",
    "allow_overlap",
    "strict",
    "no_test",
    "keep_model",
    "int8",
)
# Devices and workers sum the same gradients; only the statistics of batch normalisation are each one's own.
_NOT_IN_FINGERPRINT = (*BOOKKEEPING, "seed", "num_threads", "devices", "workers")


def _default(key: str) -> Any:
    return names.PARAMS[key].default


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run's settings; ``None`` means that the data, the depth or the machine decides.

    Raises BadConfig with every fault when a value is out of range or two are at odds.
    """

    # SageMaker's built-in image classification
    num_classes: int | None = None
    num_training_samples: int | None = None
    augmentation_type: str | None = None
    beta_1: float = _default("beta_1")
    beta_2: float = _default("beta_2")
    checkpoint_frequency: int | None = None
    early_stopping: bool = _default("early_stopping")
    early_stopping_min_epochs: int = _default("early_stopping_min_epochs")
    early_stopping_patience: int = _default("early_stopping_patience")
    early_stopping_tolerance: float = _default("early_stopping_tolerance")
    epochs: int = _default("epochs")
    eps: float = _default("eps")
    gamma: float = _default("gamma")
    image_shape: str | None = None
    kv_store: str | None = None
    learning_rate: float = _default("learning_rate")
    lr_scheduler_factor: float = _default("lr_scheduler_factor")
    lr_scheduler_step: str | None = None
    mini_batch_size: int = _default("mini_batch_size")
    momentum: float = _default("momentum")
    multi_label: int = _default("multi_label")
    num_layers: int | None = None
    optimizer: str = _default("optimizer")
    precision_dtype: str = _default("precision_dtype")
    resize: int | None = None
    top_k: int | None = None
    use_pretrained_model: int | None = None
    use_weighted_loss: int = _default("use_weighted_loss")
    weight_decay: float = _default("weight_decay")
    # this project's
    dataset: str = "digits"
    init: str | None = None
    seed: int = _default("seed")
    resnet_version: str = _default("resnet_version")
    pretext: str | None = None
    split_seed: int = _default("split_seed")
    validation_fraction: float = _default("validation_fraction")
    test_fraction: float = _default("test_fraction")
    group: str | None = None
    fold: str | None = None
    num_threads: int | None = None
    devices: str | None = None
    workers: int | None = None
    # recipes; unset ones are no part of the settings that older runs are compared by
    network: str | None = None
    lr_scheduler: str | None = None
    warmup_epochs: int | None = None
    label_smoothing: float | None = None
    mixup: float | None = None
    freeze: str | None = None
    unfreeze_epoch: int | None = None
    class_weights: str | None = None
    decode: str | None = None
    # bookkeeping
    experiment: str | None = None
    run_name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    image_root: str | None = None
    allow_overlap: bool = False
    strict: bool = False
    no_test: bool = False
    keep_model: str | None = None
    int8: bool | None = None

    def __post_init__(self) -> None:
        found = faults(vars(self))
        if found:
            raise BadConfig(found)
        for key in ("lr_scheduler", "warmup_epochs", "label_smoothing", "mixup"):
            if getattr(self, key) in (0, "step"):  # the same as unset
                object.__setattr__(self, key, None)
        if self.workers == 1:
            object.__setattr__(self, "workers", None)
        if self.image_shape is not None:  # one spelling, so that equal settings have equal fingerprints
            object.__setattr__(self, "image_shape", ",".join(str(int(part)) for part in self.image_shape.split(",")))
        init = self.init
        if init is None:
            init = "imagenet" if self.use_pretrained_model else "scratch"
        object.__setattr__(self, "init", init)
        object.__setattr__(self, "use_pretrained_model", int(init == "imagenet"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of the network's input; known once the config is resolved."""
        assert self.image_shape is not None, "resolve the config first"
        channels, height, width = (int(part) for part in self.image_shape.split(","))
        return channels, height, width

    @property
    def network_name(self) -> str:
        """``44 layers (v1)``, or the zoo's name."""
        return self.network or f"{self.num_layers} layers ({self.resnet_version})"

    @property
    def lr_steps(self) -> tuple[int, ...]:
        """Epochs after which the learning rate is multiplied by ``lr_scheduler_factor``."""
        return tuple(int(part) for part in self.lr_scheduler_step.split(",")) if self.lr_scheduler_step else ()

    @property
    def held_out(self) -> tuple[int, int] | None:
        """``fold`` as ``(which, of how many)``, from 1."""
        return None if self.fold is None else fold_of(self.fold)

    @property
    def initial(self) -> str:
        """Where the initial weights come from: ``scratch``, ``imagenet``, ``run:<id>`` or a file's path."""
        assert self.init is not None
        return self.init

    def params(self) -> dict[str, names.Value]:
        """Every setting that decides the result, for the tracker; unset ones are left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in BOOKKEEPING}
        return {key: value for key, value in values.items() if value is not None}

    def fingerprint(self) -> str:
        """12 hex digits that are equal for two runs that differ in nothing but the seed.

        Settings without effect (``beta_1`` under sgd) and bookkeeping don't count.
        """
        values = {
            key: value
            for key, value in self.params().items()
            if key not in _NOT_IN_FINGERPRINT and _has_effect(self, key)
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def notes(self) -> list[str]:
        """What was set but will have no effect, a sentence each."""
        notes = []
        for f in fields(self):
            name = names.PARAMS.get(f.name)
            if name is None or name.used_with is None or f.default is MISSING:
                continue
            if getattr(self, f.name) != f.default and not _has_effect(self, f.name):
                other, values = name.used_with
                wanted = " or ".join(quoted(value) for value in values)
                notes.append(f"{flag(f.name)} has no effect: it needs {flag(other)} {wanted}.")
        late = [step for step in self.lr_steps if step >= self.epochs]
        if late:
            notes.append(f"--lr-scheduler-step {late[0]} is never reached: training ends after epoch {self.epochs}.")
        if (self.warmup_epochs or 0) >= self.epochs:
            notes.append(
                f"--warmup-epochs {self.warmup_epochs} is all of the training: the full rate is never reached."
            )
        if self.freeze and (self.unfreeze_epoch or self.epochs + 1) > self.epochs:
            notes.append(f"--freeze {self.freeze} lasts all of the training: only the last layer learns.")
        if self.kv_store and self.workers is None:
            notes.append("--kv-store has no effect on one machine.")
        return notes

    def resolve(
        self, *, num_classes: int, num_training_samples: int, channels: int, height: int | None, width: int | None
    ) -> Config:
        """Fill in what the data decides. ``height`` and ``width`` (px) are None where the pictures' sizes differ.

        Raises BadConfig where the user's number is not the data's.
        """
        wrong = []
        for key, found in (("num_classes", num_classes), ("num_training_samples", num_training_samples)):
            given = getattr(self, key)
            if given is not None and given != found:
                wrong.append(f"{flag(key)} {given}: the data has {found}. Leave the flag out; the data decides.")
        if self.mini_batch_size > num_training_samples:
            wrong.append(
                f"--mini-batch-size {self.mini_batch_size} is more than the {num_training_samples} training pictures;"
                " take a smaller one."
            )
        top_k = self.top_k
        if top_k is not None and top_k >= num_classes:
            wrong.append(f"--top-k {top_k} must be smaller than the number of classes, {num_classes}.")
        if wrong:
            raise BadConfig(wrong)
        filled = self.with_shape(channels=channels, height=height, width=width)
        return replace(filled, num_classes=num_classes, num_training_samples=num_training_samples)

    def with_shape(self, *, channels: int, height: int | None, width: int | None) -> Config:
        """Choose depth, input shape and resizing where they are open, from the pictures' native shape (px)."""
        small = height is not None and width is not None and max(height, width) <= SMALL_SIDES_PX[1]
        shape = self.image_shape
        depth: int | None
        if self.network is not None or self.num_layers is not None:
            depth = self.num_layers
        elif shape is not None:
            depth = 44 if max(self.shape[1:]) <= SMALL_SIDES_PX[1] else 34
        else:
            depth = 44 if small and self.initial != "imagenet" else 34
        if shape is None:
            side_px = _side(depth, height if small else None, width if small else None)
            if self.network is not None:
                channels = 3
            if not small and height is not None and width is not None and depth not in names.SMALL_IMAGE_DEPTHS:
                side_px = min(224, min(height, width))
            shape = f"{3 if self.initial == 'imagenet' else channels},{side_px},{side_px}"
        resize = self.resize
        if resize is None and height is None:
            # Pictures of many sizes: the usual 256 for 224, in proportion.
            resize = max(int(part) for part in shape.split(",")[1:]) * 8 // 7
        return replace(self, num_layers=depth, image_shape=shape, resize=resize)


def _side(depth: int | None, height: int | None, width: int | None) -> int:
    """Side (px) of the network's square input when the pictures are small or of many sizes."""
    if depth in names.SMALL_IMAGE_DEPTHS:
        return 28 if height is None or width is None else max(28, min(height, width))
    return 224 if height is None or width is None else max(LARGE_LEAST_PX, min(height, width))


def _has_effect(config: Config, key: str) -> bool:
    used_with = names.PARAMS[key].used_with
    return used_with is None or getattr(config, used_with[0]) in used_with[1]
