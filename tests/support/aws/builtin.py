"""What AWS's built-in image classification prints and leaves behind, line by line as real jobs do."""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import Any


def stamp(now: float, level: str = "INFO") -> str:
    return f"[{time.strftime('%m/%d/%Y %H:%M:%S', time.gmtime(now))} {level} 139686210139968]"


def head(request: dict[str, Any], now: float) -> list[str]:
    """What the built-in prints before it trains."""
    values, at = request.get("HyperParameters", {}), stamp(now)
    defaults = {"use_pretrained_model": 0, "num_layers": 152, "epochs": 30, "learning_rate": 0.1, "momentum": 0}
    where = "/opt/amazon/lib/python3.7/site-packages/image_classification/default-input.json"
    return [
        "Docker entrypoint called with argument(s): train",
        f"{at} Reading default configuration from {where}: {defaults}",
        f"{at} Merging with provided configuration from /opt/ml/input/config/hyperparameters.json: {values}",
        f"{at} Final configuration: {defaults | values}",
        f"{at} Searching for .rec files in /opt/ml/input/data/train.",
        f"{at} Searching for .rec files in /opt/ml/input/data/validation.",
        f"{at} checkpoint_frequency not set, will store the best model",
        f"{at} ---- Parameters ----",
        *(f"{at} {name}: {value}" for name, value in sorted(values.items())),
        f"{at} kv_store: device",
        f"{at} --------------------",
    ]


def epoch(number: int, train: float, validation: float, is_best: bool, epoch_s: float, now: float) -> list[str]:
    """What the built-in prints during and after epoch ``number``, from 0; tabs as CloudWatch shows them."""
    at = stamp(now)
    lines = [
        f"{at} Epoch[{number}] Batch [20]#011Speed: 114.166 samples/sec#011accuracy={train / 2:.6f}",
        f"{at} Epoch[{number}] Train-accuracy={train:.6f}",
        f"{at} Epoch[{number}] Time cost={epoch_s * 0.8:.3f}",
        f"{at} Epoch[{number}] Validation-accuracy={validation:.6f}",
    ]
    if is_best:
        lines += [
            f"{at} Storing the best model with validation accuracy: {validation:.6f}",
            f'{at} Saved checkpoint to "/opt/ml/model/image-classification-{number + 1:04d}.params"',
        ]
    return lines


def archive(job: Any) -> bytes:
    """A model.tar.gz with the members that the built-in writes; the weights are a placeholder."""
    best = max(job.truth, key=lambda entry: entry[2])[0]
    members = {
        f"image-classification-{best:04d}.params": b"weights of " + job.name.encode(),
        "model-shapes.json": json.dumps([{"name": "data", "shape": [32, 3, 224, 224]}]).encode(),
        "image-classification-symbol.json": b"{}",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
