"""The networks: residual nets of 20 to 110 layers for small pictures and of 18 to 200 for large ones, and the zoo's.

GluonCV's own classes, so that the zoo's weights fit, inside a ``Classifier`` that takes raw pixels: pictures
``(N, C, H, W)`` float32 0..255, RGB or grey, go in; logits ``(N, num_classes)`` come out. Nothing but the size of a
picture is left to the user of an exported model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tracking import names
from trainers.errors import BadInput
from trainers.networks import backend

if TYPE_CHECKING:
    from trainers.config import Config

mx = backend.load()
_small_zoo, _large_zoo, _v1b_zoo = backend.zoo("cifarresnet"), backend.zoo("resnet"), backend.zoo("resnetv1b")

# ImageNet's statistics in 0..255, R, G, B: what the zoo's weights were trained with.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

_BASIC_WIDTHS = [64, 64, 128, 256, 512]
_BOTTLENECK_WIDTHS = [64, 256, 512, 1024, 2048]
_STAGES = {
    18: [2, 2, 2, 2],
    34: [3, 4, 6, 3],
    50: [3, 4, 6, 3],
    101: [3, 4, 23, 3],
    152: [3, 8, 36, 3],
    200: [3, 24, 36, 3],  # He 2016b; the zoo has no constructor for it
}


class Classifier(mx.gluon.HybridBlock):  # type: ignore[misc, name-defined]
    """A zoo network between fixed normalisation and a linear head.

    ``body`` is the zoo's block with its own parameter names, so ``body.load_parameters`` reads the zoo's files.
    """

    def __init__(
        self,
        num_layers: int | None,
        num_classes: int,
        shape: tuple[int, int, int],
        resnet_version: str,
        network: str | None = None,
    ) -> None:
        # A fixed prefix: parameters have the same names however many networks a process has made.
        super().__init__(prefix="classifier_")
        self.num_layers, self.resnet_version, self.network = num_layers, resnet_version, network
        self.num_classes, self.shape = num_classes, shape
        mean, std = normalisation(shape[0])
        with self.name_scope():
            self.mean = self._fixed("mean", mean)
            self.scale = self._fixed("scale", 1 / std)
            if network is not None:
                self.body = backend.zoo("model_zoo").get_model(network, classes=num_classes)
            else:
                assert num_layers is not None
                self.body = _body(num_layers, num_classes, resnet_version)

    def _fixed(self, name: str, values: np.ndarray[Any, Any]) -> Any:
        """A parameter that training leaves alone. (Gluon's own Constant writes an address into the saved graph.)"""
        array = to_array(values.reshape(1, -1, 1, 1))
        return self.params.get(name, shape=array.shape, init=mx.init.Constant(array), differentiable=False)

    @property
    def head(self) -> Any:
        """The last, linear layer: the one that transfer makes afresh."""
        return self.body.fc if hasattr(self.body, "fc") else self.body.output

    def without_head(self) -> Any:
        """A block of what comes before the head, with the same parameters; as inference computes it."""
        last = self(mx.sym.var("data"))
        head = set(self.head.collect_params())
        while head & set(last.list_arguments()):
            last = last.get_children()[0]
        with backend.quiet():
            block = mx.gluon.SymbolBlock(last, [mx.sym.var("data")], params=self.collect_params())
        block.hybridize(static_alloc=True, static_shape=True)
        return block

    def hybrid_forward(self, F: Any, x: Any, mean: Any, scale: Any) -> Any:
        x = F.broadcast_mul(F.broadcast_sub(x, mean, name="centred"), scale, name="normalised")
        if self.network is not None:
            return self.body(x)
        for layer in self._trunk():
            x = layer(x)
        # The zoo's global pooling layer answers with gradients in a layout for which oneDNN has slow reference kernels
        # alone: the small v1 networks lose a third of their speed. A mean over the same axes is never slower.
        return self.head(F.mean(x, axis=(2, 3), name="pool"))

    def _trunk(self) -> list[Any]:
        """The zoo's layers up to the global pool, in order."""
        body = self.body
        if self.resnet_version == "v1b":
            return [body.conv1, body.bn1, body.relu, body.maxpool, body.layer1, body.layer2, body.layer3, body.layer4]
        nn = mx.gluon.nn
        return [layer for layer in body.features if not isinstance(layer, (nn.GlobalAvgPool2D, nn.Flatten))]


def build(num_layers: int, num_classes: int, shape: tuple[int, int, int], resnet_version: str = "v1") -> Classifier:
    """A network without weights (``trainers.networks.weights.initialise`` gives it some); ``shape`` is ``(C, H, W)``.

    Raises BadInput for a depth or version that does not exist, or pictures too small for the depth.
    """
    faults = []
    if num_layers not in names.DEPTHS:
        faults.append(f"{num_layers} layers: there are networks of {', '.join(map(str, names.DEPTHS))} layers.")
    if resnet_version not in ("v1", "v1b", "v2"):
        faults.append(f"ResNet version {resnet_version!r}: there are v1, v1b and v2.")
    elif resnet_version == "v1b" and num_layers in names.SMALL_IMAGE_DEPTHS:
        faults.append(f"ResNet version v1b has no {num_layers}-layer network; take v1 or v2.")
    if num_classes < 2:
        faults.append(f"{num_classes} classes: a classifier needs at least 2.")
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < 8:
        faults.append(f"input shape {shape}: give (C, H, W) with 1 or 3 channels and sides of at least 8 px.")
    if faults:
        raise BadInput(" ".join(faults))
    net = Classifier(num_layers, num_classes, shape, resnet_version)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def build_for(config: Config) -> Classifier:
    """The network of a resolved config, without weights. Raises BadInput."""
    assert config.num_classes is not None
    if config.network is None:
        assert config.num_layers is not None
        return build(config.num_layers, config.num_classes, config.shape, config.resnet_version)
    net = Classifier(None, config.num_classes, config.shape, config.resnet_version, config.network)
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def normalisation(channels: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean and standard deviation of each channel, 0..255: ImageNet's, and for grey pictures their means."""
    mean, std = np.array(MEAN), np.array(STD)
    return (mean, std) if channels == 3 else (mean.mean(keepdims=True), std.mean(keepdims=True))


def num_parameters(net: Classifier) -> int:
    """Trainable weights of an initialised network."""
    return sum(int(np.prod(p.shape)) for p in net.collect_params().values() if p.grad_req != "null")


def to_array(values: np.ndarray[Any, Any], device: Any = None) -> Any:
    """NumPy to a float32 MXNet array on ``device``, or the current one (``with mx.gpu(0):``).

    On the processor it may share the memory, so pass an array that is not written to afterwards.
    """
    shared = mx.nd.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return shared.as_in_context(device or mx.current_context())


def _body(num_layers: int, num_classes: int, resnet_version: str) -> Any:
    """The zoo's block; its head has ``num_classes`` outputs."""
    if num_layers in names.SMALL_IMAGE_DEPTHS:
        return _small_zoo.get_cifar_resnet(int(resnet_version[1]), num_layers, classes=num_classes)
    stages, basic = _STAGES[num_layers], num_layers < 50
    if resnet_version == "v1b":
        block = _v1b_zoo.BasicBlockV1b if basic else _v1b_zoo.BottleneckV1b
        return _v1b_zoo.ResNetV1b(block, stages, classes=num_classes, name_prefix="resnetv1b_")
    version = int(resnet_version[1]) - 1
    block = _large_zoo.resnet_block_versions[version]["basic_block" if basic else "bottle_neck"]
    widths = _BASIC_WIDTHS if basic else _BOTTLENECK_WIDTHS
    return _large_zoo.resnet_net_versions[version](block, stages, widths, classes=num_classes)
