"""Make ``model_python<version>.tar.gz``: a small model as this Python saves it, and MXNet's answers to its example.

``PYTHONPATH=. python3.12 tests/golden/make_model.py`` in an environment with the extras train and onnx. A file that is
there stays as it is, however the flavor changes: test_tracking_gluon_golden.py proves that it still loads.
"""

from __future__ import annotations

import json
import platform
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from tracking.models import gluon
from tracking.models.serving import runtime

CLASS_NAMES = ["barn owl", "tawny owl", "nöck"]


def main() -> None:
    mx = runtime.mxnet()
    mx.random.seed(1)
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="owls_")
    with net.name_scope():
        net.add(nn.BatchNorm(scale=False), nn.Conv2D(6, 3, strides=2), nn.BatchNorm(), nn.LeakyReLU(0.1))
        net.add(nn.MaxPool2D(), nn.Dense(3))
    net.initialize(mx.init.Xavier())
    pictures = np.random.default_rng(1).integers(0, 256, (4, 3, 12, 16), np.uint8)
    with mx.autograd.train_mode():
        for _ in range(30):
            net(runtime.to_array(pictures)).wait_to_read()
    dense = net[-1]  # moderate answers, in which a small difference shows
    dense.weight.set_data(dense.weight.data() * 2 / float(abs(net(runtime.to_array(pictures))).max().asscalar()))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        gluon.save_model(net, folder, class_names=CLASS_NAMES, image_shape=(3, 12, 16), epoch=3, pictures=pictures)
        logits = net(runtime.to_array(pictures[:1])).asnumpy().astype(float)[0]
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        (folder / "expected.json").write_text(json.dumps(expected.tolist()) + "\n", encoding="utf-8")
        name = f"model_python{''.join(platform.python_version_tuple()[:2])}.tar.gz"
        with tarfile.open(Path(__file__).with_name(name), "w:gz") as tar:
            tar.add(folder, "model")


if __name__ == "__main__":
    main()
