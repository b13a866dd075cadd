"""What is wrong with a run's settings: every fault a sentence that says what was given and what is legal."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tracking import names
from tracking.errors.words import nearest

KEPT_MODELS = ("best", "all", "none")
SMALL_SIDES_PX = (8, 64)  # what the 3-stage networks of 20..110 layers are made for
LARGE_LEAST_PX = 32  # the 5 halvings of the 18..200-layer networks leave one pixel
PRETRAINED_DEPTHS = (18, 34, 50, 101, 152)  # the GluonCV zoo has ImageNet weights for these


def flag(key: str) -> str:
    """The command line's spelling of a setting: ``mini_batch_size`` is ``--mini-batch-size``."""
    return "--tag" if key == "tags" else "--" + key.replace("_", "-")


def faults(values: Mapping[str, Any]) -> list[str]:
    """Every fault of a config's values (``vars(config)``) and between them; empty when there is none."""
    return [*_value_faults(values), *_cross_faults(SimpleNamespace(**values))]


def fold_of(text: str) -> tuple[int, int] | None:
    """``2/5`` as ``(2, 5)``; None for what is no fold."""
    which, _, count = text.partition("/")
    if not (which.isdecimal() and count.isdecimal() and 1 <= int(which) <= int(count) and 2 <= int(count)):
        return None
    return int(which), int(count)


def devices_of(text: str) -> tuple[str, tuple[int, ...]] | None:
    """``cpu:2`` as ``("cpu", (0, 1))``, ``0,1`` as ``("gpu", (0, 1))``, ``gpu``, all of them, as ``("gpu", ())``."""
    if text in ("cpu", "gpu"):
        return (text, (0,) if text == "cpu" else ())
    kind, _, count = text.partition(":")
    if kind == "cpu" and count.isdecimal() and int(count) > 0:
        return "cpu", tuple(range(int(count)))
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        return None
    return "gpu", tuple(map(int, parts))


def depth_faults(num_layers: int, height: int, width: int) -> list[str]:
    """Why this depth can't take pictures of this size (px); empty when it can."""
    least, most = SMALL_SIDES_PX
    if num_layers in names.SMALL_IMAGE_DEPTHS:
        if min(height, width) < least or max(height, width) > most:
            return [
                f"--num-layers {num_layers} is for pictures of {least} to {most} px, not {height}x{width}. Take one of "
                f"{_list(names.LARGE_IMAGE_DEPTHS)}, or another --image-shape."
            ]
    elif min(height, width) < LARGE_LEAST_PX:
        return [
            f"--num-layers {num_layers} needs pictures of at least {LARGE_LEAST_PX} px, not {height}x{width}. Take one "
            f"of {_list(names.SMALL_IMAGE_DEPTHS)}, or a larger --image-shape."
        ]
    return []


def local_faults(values: Mapping[str, Any]) -> list[str]:
    """What the built-in algorithm can do and the local trainer cannot."""
    faults = []
    if values["multi_label"]:
        faults.append("--multi-label 1: the local trainer gives each picture one label; take --on sagemaker-builtin.")
    if values["int8"] and values["keep_model"] == "none":
        faults.append("--int8 copies the model, and --keep-model none keeps none. Leave one of them out.")
    missing = [name for name in ("onnxruntime", "onnx", "ml_dtypes") if importlib.util.find_spec(name) is None]
    if values["int8"] and missing:
        faults.append(f"--int8 needs {', '.join(missing)}: pip install {' '.join(missing)}.")
    if values["precision_dtype"] == "float16":
        faults.append("--precision-dtype float16 needs a GPU; on a CPU take bfloat16 or float32.")
    return faults


def _value_faults(values: Mapping[str, Any]) -> list[str]:
    faults = []
    for key, value in values.items():
        name = names.PARAMS.get(key)
        if name is None or value is None:
            continue
        given = f"{flag(key)} {quoted(value)}"
        right_type = isinstance(value, (int, float) if name.type is float else name.type)
        if not right_type or (isinstance(value, bool) and name.type is not bool):
            faults.append(f"{given} is not {_kind(name)}.")
        elif name.choices and value not in name.choices:
            hint = nearest(str(value), [str(choice) for choice in name.choices])
            faults.append(f"{given} is not one of {_list(name.choices)}.{hint}")
        elif name.type in (int, float) and not _within(float(value), name):
            faults.append(f"{given} is out of range: {_range(name)}.")
    return faults


def _cross_faults(config: SimpleNamespace) -> list[str]:
    faults: list[str] = []
    if config.image_shape is not None:
        parts = str(config.image_shape).split(",")
        if len(parts) != 3 or not all(part.strip().isdigit() for part in parts) or int(parts[0]) not in (1, 3):
            faults.append(
                f"--image-shape {config.image_shape!r} is not channels,height,width with 1 or 3 channels, such as"
                " 3,224,224."
            )
        else:
            height, width = int(parts[1]), int(parts[2])
            if config.network is not None and (int(parts[0]) != 3 or min(height, width) < LARGE_LEAST_PX):
                faults.append(
                    f"--network {config.network} takes 3 channels and sides of at least {LARGE_LEAST_PX} px, not"
                    f" --image-shape {config.image_shape}."
                )
            if config.num_layers in names.DEPTHS:
                faults += depth_faults(config.num_layers, height, width)
            if isinstance(config.resize, int) and config.resize < max(height, width):
                faults.append(f"--resize {config.resize} must be at least the crop of --image-shape, {height}x{width}.")
    faults += _schedule_faults(config.lr_scheduler_step)
    if config.fold is not None and fold_of(config.fold) is None:
        faults.append(f"--fold {config.fold!r} is not WHICH/OF, such as 2/5; --folds 5 trains all five.")
    if config.fold is not None and config.pretext is not None:
        faults.append("--fold holds labelled pictures out; --pretext learns without labels. Give one of them.")
    if config.devices is not None and devices_of(str(config.devices)) is None:
        faults.append(
            f"--devices {config.devices!r} is none of cpu, cpu:N (the processor as N devices), gpu (every GPU) and"
            " numbers of GPUs, such as 0,1."
        )
    if config.workers is not None and config.kv_store == "dist_async":
        faults.append("--kv-store dist_async is of the built-in algorithm; --workers sums with dist_sync.")
    faults += _init_faults(config)
    faults += _recipe_faults(config)
    if config.resnet_version == "v1b" and config.num_layers in names.SMALL_IMAGE_DEPTHS:
        faults.append(f"--resnet-version v1b has no {config.num_layers}-layer network; take v1 or v2.")
    shares = (config.validation_fraction, config.test_fraction)
    if all(isinstance(share, (int, float)) for share in shares) and sum(shares) >= 0.95:
        faults.append(
            f"--validation-fraction {shares[0]} and --test-fraction {shares[1]} leave too little to train on."
        )
    if config.keep_model is not None and config.keep_model not in KEPT_MODELS:
        hint = nearest(str(config.keep_model), list(KEPT_MODELS))
        faults.append(f"--keep-model {config.keep_model} is not one of {_list(KEPT_MODELS)}.{hint}")
    faults += [f"--tag {key!r}: a tag is a non-empty name=value." for key in config.tags if not key.strip()]
    for key in ("experiment", "run_name", "dataset", "group"):
        value = getattr(config, key)
        if value is not None and not str(value).strip():
            faults.append(f"{flag(key)} is empty.")
    return faults


def _schedule_faults(steps: str | None) -> list[str]:
    if steps is None:
        return []
    parts = [part.strip() for part in str(steps).split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        return [f"--lr-scheduler-step {steps!r} is not a list of epochs, such as 10,20."]
    epochs = [int(part) for part in parts]
    if epochs != sorted(set(epochs)):
        return [f"--lr-scheduler-step {steps} must rise from one epoch to the next, such as 10,20."]
    return []


def _recipe_faults(config: SimpleNamespace) -> list[str]:
    faults = []
    if config.network is not None:
        for key in ("num_layers", "resnet_version"):
            if getattr(config, key) != names.PARAMS[key].default:
                faults.append(f"{flag(key)} is of the ResNets; leave it out, or --network {config.network}.")
    if config.lr_scheduler == "cosine" and config.lr_scheduler_step is not None:
        faults.append("--lr-scheduler-step is for --lr-scheduler step; cosine has no steps. Give one of them.")
    if config.freeze is not None and config.init in (None, "scratch") and not config.use_pretrained_model:
        faults.append(
            f"--freeze {config.freeze} would leave random weights as they are; it needs --init imagenet,"
            " run:<id> or a file."
        )
    if config.unfreeze_epoch is not None and config.freeze is None:
        faults.append("--unfreeze-epoch needs --freeze body.")
    if config.decode is not None and config.resize is None:
        faults.append("--decode scaled: it goes by --resize, the shortest side before the crop; give that too.")
    if config.class_weights is not None and config.pretext is not None:
        faults.append("--class-weights: the classes of --pretext are equally common; leave it out.")
    return faults


def _init_faults(config: SimpleNamespace) -> list[str]:
    init, faults = config.init, []
    wants = init or ("imagenet" if config.use_pretrained_model else "scratch")
    if init is not None and config.use_pretrained_model is not None:
        if bool(config.use_pretrained_model) != (init == "imagenet"):
            faults.append(f"--use-pretrained-model {config.use_pretrained_model} contradicts --init {init}; give one.")
    if wants == "imagenet" and config.num_layers in names.DEPTHS and config.num_layers not in PRETRAINED_DEPTHS:
        faults.append(
            f"--init imagenet: there are no ImageNet weights for {config.num_layers} layers, only for"
            f" {_list(PRETRAINED_DEPTHS)}."
        )
    if wants == "imagenet" and config.image_shape is not None and str(config.image_shape).startswith("1,"):
        faults.append(f"--init imagenet needs 3 channels, not --image-shape {config.image_shape}.")
    if wants.startswith("run:"):
        if not wants[4:].strip():
            faults.append("--init run: names no run; give run:<id>, the id that the MLflow UI shows.")
    elif wants not in ("scratch", "imagenet"):
        path = Path(wants).expanduser()
        if path.suffix not in (".params", ".pth"):
            hint = nearest(wants, ["scratch", "imagenet"])
            faults.append(f"--init {wants!r} is none of scratch, imagenet, run:<id>, FILE.params, FILE.pth.{hint}")
        elif not path.is_file():
            faults.append(f"--init {wants}: there is no such file.")
    return faults


def _within(value: float, name: names.Name) -> bool:
    return (name.low is None or value >= name.low) and (name.high is None or value <= name.high)  # NaN is never within


def _range(name: names.Name) -> str:
    if name.low is not None and name.high is not None:
        return f"{name.low:g} to {name.high:g}"
    return f"{name.low:g} or more" if name.low is not None else f"{name.high:g} or less"


def _kind(name: names.Name) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[name.type]


def quoted(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(values: tuple[Any, ...]) -> str:
    return ", ".join(quoted(value) for value in values)
