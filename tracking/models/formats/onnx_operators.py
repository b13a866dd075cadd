"""What each MXNet operator is in ONNX (opset 17), as inference computes it.

A translation is a function of the graph being written and the node: it adds ONNX nodes and returns the name of their
result. What an operator does not say in its settings are MXNet 1.9's defaults.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracking.errors import ModelError
from tracking.models.formats.onnx_wire import Attribute, element
from tracking.models.formats.symbol import Node


class Writer(Protocol):
    """The ONNX graph being written."""

    def add(self, op: str, name: str, inputs: list[str], **attributes: Attribute) -> str:
        """Add a node; the name of its result."""
        ...

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an array; its name."""
        ...

    def array(self, name: str) -> NDArray[Any]:
        """One of the model's arrays. Raises ModelError when it is missing."""
        ...

    def reshape(self, name: str, data: str, shape: list[int]) -> str:
        """Add a Reshape; the name of its result, whose number of axes is known from then on."""
        ...

    def axes(self, name: str) -> int:
        """How many axes a result has. Raises ModelError where that is not known."""
        ...


Translate = Callable[[Writer, Node, list[str]], str]


class Settings:
    """A node's settings, read as what they are; ModelError for one that cannot be."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def text(self, key: str, default: str) -> str:
        return self._node.attrs.get(key, default)

    def flag(self, key: str, default: bool) -> bool:
        value = self.text(key, str(default))
        if value not in ("True", "False", "1", "0", "true", "false"):
            raise self._fault(key, value)
        return value in ("True", "1", "true")

    def whole(self, key: str, default: int) -> int:
        return int(self.number(key, default))

    def number(self, key: str, default: float) -> float:
        value = self.text(key, repr(default))
        try:
            return float(value)
        except ValueError:
            raise self._fault(key, value) from None

    def sizes(self, key: str, default: tuple[int, ...]) -> list[int]:
        value = self.text(key, repr(default))
        try:
            found = ast.literal_eval(value)
            return [int(found)] if isinstance(found, int) else [int(one) for one in found]
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise self._fault(key, value) from None

    def demand(self, key: str, *legal: str) -> None:
        """Refuse what has no translation here."""
        value = self.text(key, legal[0])
        if value not in legal:
            raise self._fault(key, value)

    def _fault(self, key: str, value: str) -> ModelError:
        return ModelError(f"{self._node.op} {self._node.name!r} with {key}={value!r} has no ONNX translation here.")


def _convolution(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("layout", "None", "NCHW")
    kernel = settings.sizes("kernel", ())
    if len(kernel) != 2:
        raise ModelError(f"Convolution {node.name!r} has kernel {kernel}; two-dimensional ones can be translated.")
    pad = settings.sizes("pad", (0, 0)) or [0, 0]
    return out.add(
        "Conv",
        node.name,
        inputs[:2] if settings.flag("no_bias", False) else inputs[:3],
        kernel_shape=kernel,
        strides=settings.sizes("stride", (1, 1)) or [1, 1],
        dilations=settings.sizes("dilate", (1, 1)) or [1, 1],
        pads=pad + pad,
        group=settings.whole("num_group", 1),
    )


def _batch_norm(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("axis", "1")
    data, gamma, beta, mean, variance = inputs
    if settings.flag("fix_gamma", True):
        gamma = out.constant(f"{node.name}_fixed_gamma", np.ones_like(out.array(gamma)))
    return out.add(
        "BatchNormalization", node.name, [data, gamma, beta, mean, variance], epsilon=settings.number("eps", 1e-3)
    )


def _activation(out: Writer, node: Node, inputs: list[str]) -> str:
    table = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    settings = Settings(node)
    settings.demand("act_type", *table)
    return out.add(table[settings.text("act_type", "relu")], node.name, inputs)


def _leaky_relu(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("act_type", "leaky", "elu")
    op = {"leaky": "LeakyRelu", "elu": "Elu"}[settings.text("act_type", "leaky")]
    return out.add(op, node.name, inputs[:1], alpha=settings.number("slope", 0.25))


def _pooling(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("pool_type", "max", "avg")
    settings.demand("layout", "None", "NCHW")
    average = settings.text("pool_type", "max") == "avg"
    if settings.flag("global_pool", False):
        return out.add("GlobalAveragePool" if average else "GlobalMaxPool", node.name, inputs)
    settings.demand("pooling_convention", "valid", "full")
    pad = settings.sizes("pad", (0, 0)) or [0, 0]
    attributes: dict[str, Attribute] = {
        "kernel_shape": settings.sizes("kernel", ()),
        "strides": settings.sizes("stride", (1, 1)) or [1, 1],
        "pads": pad + pad,
        "ceil_mode": int(settings.text("pooling_convention", "valid") == "full"),
    }
    if average:
        counted = settings.text("count_include_pad", "None")
        attributes["count_include_pad"] = int(counted in ("None", "True", "1"))
    return out.add("AveragePool" if average else "MaxPool", node.name, inputs, **attributes)


def _fully_connected(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    data, weight = inputs[:2]
    bias = [] if settings.flag("no_bias", False) else [inputs[2]]
    if settings.flag("flatten", True):
        flat = out.add("Flatten", f"{node.name}_flat", [data], axis=1)
        return out.add("Gemm", node.name, [flat, weight, *bias], transB=1)
    turned = out.constant(f"{node.name}_turned", np.ascontiguousarray(out.array(weight).T))
    product = out.add("MatMul", f"{node.name}_product" if bias else node.name, [data, turned])
    return out.add("Add", node.name, [product, *bias]) if bias else product


def _mean(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("exclude", "False", "0")
    axes, keep = settings.sizes("axis", ()), settings.flag("keepdims", False)
    if sorted(axes) in ([2, 3], [-2, -1]):  # a runtime has a faster way for this one
        pooled = out.add("GlobalAveragePool", node.name if keep else f"{node.name}_pooled", inputs)
        return pooled if keep else out.add("Flatten", node.name, [pooled], axis=1)
    if not axes:
        raise ModelError(f"mean {node.name!r} over everything has no ONNX translation here.")
    return out.add("ReduceMean", node.name, inputs, axes=axes, keepdims=int(keep))


def _concat(out: Writer, node: Node, inputs: list[str]) -> str:
    return out.add("Concat", node.name, inputs, axis=Settings(node).whole("dim", 1))


def _reshape(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("reverse", "False", "0")
    shape = settings.sizes("shape", ())
    if not shape or min(shape) < -1:
        raise ModelError(f"Reshape {node.name!r} to {shape} has no ONNX translation here.")
    return out.reshape(node.name, inputs[0], shape)


def _swap_axes(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    order = list(range(out.axes(inputs[0])))
    one, other = settings.whole("dim1", 0), settings.whole("dim2", 0)
    order[one], order[other] = order[other], order[one]
    return out.add("Transpose", node.name, inputs, perm=order)


def _expand_dims(out: Writer, node: Node, inputs: list[str]) -> str:
    axes = out.constant(f"{node.name}_axes", np.array(Settings(node).sizes("axis", ()), np.int64))
    return out.add("Unsqueeze", node.name, [inputs[0], axes])


def _sum(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("exclude", "False", "0")
    if not settings.sizes("axis", ()):
        raise ModelError(f"sum {node.name!r} over everything has no ONNX translation here.")
    axes = out.constant(f"{node.name}_axes", np.array(settings.sizes("axis", ()), np.int64))
    return out.add("ReduceSum", node.name, [inputs[0], axes], keepdims=int(settings.flag("keepdims", False)))


def _adaptive_pooling(out: Writer, node: Node, inputs: list[str]) -> str:
    Settings(node).demand("output_size", "1", "()", "(1, 1)", "(1,)", "[1, 1]")
    return out.add("GlobalAveragePool", node.name, inputs)


def _clip(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    low = out.constant(f"{node.name}_low", np.array(settings.number("a_min", 0), np.float32))
    high = out.constant(f"{node.name}_high", np.array(settings.number("a_max", 0), np.float32))
    return out.add("Clip", node.name, [inputs[0], low, high])


def _cast(out: Writer, node: Node, inputs: list[str]) -> str:
    settings = Settings(node)
    settings.demand("dtype", "float32", "float16", "float64")
    return out.add("Cast", node.name, inputs, to=element(settings.text("dtype", "float32")))


def _transpose(out: Writer, node: Node, inputs: list[str]) -> str:
    return out.add("Transpose", node.name, inputs, perm=Settings(node).sizes("axes", ()))


def _same(out: Writer, node: Node, inputs: list[str]) -> str:
    """What does nothing at inference."""
    return inputs[0]


def _plain(op: str, **attributes: Attribute) -> Translate:
    return lambda out, node, inputs: out.add(op, node.name, inputs, **attributes)


def _softmax(op: str) -> Translate:
    def translate(out: Writer, node: Node, inputs: list[str]) -> str:
        return out.add(op, node.name, inputs[:1], axis=Settings(node).whole("axis", -1))

    return translate


def _scalar(op: str, *, swapped: bool = False) -> Translate:
    def translate(out: Writer, node: Node, inputs: list[str]) -> str:
        number = out.constant(f"{node.name}_scalar", np.array(Settings(node).number("scalar", 0), np.float32))
        return out.add(op, node.name, [number, inputs[0]] if swapped else [inputs[0], number])

    return translate


TRANSLATIONS: dict[str, Translate] = {
    "Convolution": _convolution,
    "BatchNorm": _batch_norm,
    "Activation": _activation,
    "LeakyReLU": _leaky_relu,
    "relu": _plain("Relu"),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "Pooling": _pooling,
    "FullyConnected": _fully_connected,
    "Flatten": _plain("Flatten", axis=1),
    "flatten": _plain("Flatten", axis=1),
    "mean": _mean,
    "Concat": _concat,
    "concat": _concat,
    "Reshape": _reshape,
    "reshape": _reshape,
    "SwapAxis": _swap_axes,
    "swapaxes": _swap_axes,
    "expand_dims": _expand_dims,
    "sum": _sum,
    "sum_axis": _sum,
    "_contrib_AdaptiveAvgPooling2D": _adaptive_pooling,
    "clip": _clip,
    "Cast": _cast,
    "cast": _cast,
    "transpose": _transpose,
    "softmax": _softmax("Softmax"),
    "SoftmaxActivation": _softmax("Softmax"),
    "SoftmaxOutput": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"),
    **dict.fromkeys(("elemwise_add", "_plus", "_Plus", "_add", "broadcast_add", "broadcast_plus"), _plain("Add")),
    **dict.fromkeys(("elemwise_sub", "_minus", "_Minus", "_sub", "broadcast_sub", "broadcast_minus"), _plain("Sub")),
    **dict.fromkeys(("elemwise_mul", "_mul", "_Mul", "broadcast_mul"), _plain("Mul")),
    **dict.fromkeys(("elemwise_div", "_div", "_Div", "broadcast_div"), _plain("Div")),
    **dict.fromkeys(("_plus_scalar", "_PlusScalar"), _scalar("Add")),
    **dict.fromkeys(("_minus_scalar", "_MinusScalar"), _scalar("Sub")),
    **dict.fromkeys(("_rminus_scalar", "_RMinusScalar"), _scalar("Sub", swapped=True)),
    **dict.fromkeys(("_mul_scalar", "_MulScalar"), _scalar("Mul")),
    **dict.fromkeys(("_div_scalar", "_DivScalar"), _scalar("Div")),
    **dict.fromkeys(("_rdiv_scalar", "_RDivScalar"), _scalar("Div", swapped=True)),
    **dict.fromkeys(("Dropout", "identity", "_copy", "BlockGrad", "stop_gradient"), _same),
}
