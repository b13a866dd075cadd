"""MXNet's graph and weights → an ONNX file, and the proof that both give the same answers.

The exporter that comes with MXNet writes whatever opset the installed onnx package is at, and from opset 18 on cannot
write the global mean of our networks. This one needs NumPy alone: opset 17, the batch size free, no initializer among
the inputs (or runtimes would not fold them), the same bytes for the same network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.errors import ModelError
from tracking.models.formats import onnx_wire as wire
from tracking.models.formats import symbol
from tracking.models.formats.onnx_operators import TRANSLATIONS
from tracking.models.formats.symbol import VARIABLE, Graph, Node

OPSET, IR_VERSION = 17, 8  # what onnxruntime 1.12 (2022) and all later ones read
MAX_BYTES = 2**31 - 1
# What counts as the same answer: the largest difference of a probability, and of a logit as a share of the largest
# logit. Below the last share a difference is rounding, whatever an undecided network's softmax makes of it.
TOLERANCE, LOGIT_TOLERANCE, ROUNDING = 1e-4, 1e-4, 1e-5

Array = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """How far two runtimes' answers to the same pictures differ."""

    num_images: int
    max_difference: float  # of a probability
    max_logit_difference: float


def convert(graph: Graph, arrays: Mapping[str, Array], image_shape: tuple[int, int, int], **notes: str) -> wire.Pieces:
    """The ONNX file of a graph, in pieces: ``data`` (batch, C, H, W) float32 in, ``logits`` (batch, K) out.

    ``arrays`` are the weights by name; ``notes`` are kept in the file. Raises ModelError for an operator without a
    translation, missing weights, or more than the 2 GiB that the format holds.
    """
    writer = _Writer(arrays)
    results: list[str] = []
    graph = symbol.with_input(graph, arrays, "data")
    for node in graph.nodes:
        results.append(_translated(writer, node, results))
    writer.answer(results[graph.head])
    classes = symbol.num_classes(graph, arrays) or "classes"
    content = wire.model(
        wire.graph(
            "classifier",
            writer.nodes,
            (wire.tensor(name, array) for name, array in writer.used.items()),
            [wire.value("data", np.float32, ["batch", *image_shape])],
            [wire.value("logits", np.float32, ["batch", classes])],
        ),
        opset=OPSET,
        ir_version=IR_VERSION,
        producer="image-classification-tracking",
        version="1",
        notes=notes,
    )
    if (size := wire.num_bytes(content)) > MAX_BYTES:
        raise ModelError(f"The network takes {size:,} bytes as ONNX; the format ends at {MAX_BYTES:,}.")
    return content


def compare(logits: Array, other: Array) -> Agreement:
    """How far two sets of logits (N, K) of the same pictures differ.

    Raises ModelError where one is not finite, or where they differ by more than arithmetic explains.
    """
    if logits.shape != other.shape:
        raise ModelError(f"One runtime answers in shape {logits.shape}, the other in {other.shape}.")
    if not (np.isfinite(logits).all() and np.isfinite(other).all()):
        raise ModelError("The network's answers are no numbers: its weights have diverged.")
    found = Agreement(
        num_images=len(logits),
        max_difference=float(np.abs(_softmax(logits) - _softmax(other)).max()),
        max_logit_difference=float(np.abs(logits - other).max()),
    )
    relative = found.max_logit_difference / max(1.0, float(np.abs(logits).max()))
    if relative > LOGIT_TOLERANCE or (found.max_difference > TOLERANCE and relative > ROUNDING):
        raise ModelError(
            f"The two runtimes differ by {found.max_difference:.2g} in a probability and by"
            f" {found.max_logit_difference:.2g} in a logit on {found.num_images} pictures; up to {TOLERANCE:g} in a"
            " probability is arithmetic."
        )
    return found


def _softmax(logits: Array) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _translated(writer: _Writer, node: Node, results: list[str]) -> str:
    if node.op == VARIABLE:
        return node.name
    translate = TRANSLATIONS.get(node.op)
    if translate is None:
        raise ModelError(f"MXNet's operator {node.op} ({node.name!r}) has no ONNX translation here.")
    if any(output for _, output in node.inputs):
        raise ModelError(
            f"{node.op} {node.name!r} takes a second output of another node; that has no translation here."
        )
    inputs = [results[source] for source, _ in node.inputs]
    try:
        return translate(writer, node, inputs)
    except (IndexError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{node.op} {node.name!r} has {len(inputs)} inputs; that cannot be.") from error


class _Writer:
    """Nodes and arrays so far; every result's name is its own."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._names = {"data", "logits", *arrays}
        self.nodes: list[wire.Pieces] = []
        self.used: dict[str, Array] = {}
        self._axes: dict[str, int] = {}

    def add(self, op: str, name: str, inputs: list[str], **attributes: wire.Attribute) -> str:
        result = self._unique(name)
        self._append(op, name, inputs, result, attributes)
        return result

    def answer(self, name: str) -> None:
        self._append("Identity", "answer", [name], "logits", {})

    def _append(
        self, op: str, name: str, inputs: list[str], result: str, attributes: Mapping[str, wire.Attribute]
    ) -> None:
        self.used.update((one, self._arrays[one]) for one in inputs if one in self._arrays)
        self.nodes.append(wire.node(op, name, inputs, result, attributes))

    def constant(self, name: str, array: Array) -> str:
        name = self._unique(name)
        self.used[name] = array
        return name

    def array(self, name: str) -> Array:
        if name not in self._arrays:
            raise ModelError(f"The weights {name!r} are missing.")
        return self._arrays[name]

    def reshape(self, name: str, data: str, shape: list[int]) -> str:
        target = self.constant(f"{name}_shape", np.array(shape, np.int64))
        result = self.add("Reshape", name, [data, target])
        self._axes[result] = len(shape)
        return result

    def axes(self, name: str) -> int:
        if name not in self._axes:
            raise ModelError(f"The number of axes of {name!r} is not known, so they cannot be swapped here.")
        return self._axes[name]

    def _unique(self, name: str) -> str:
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}_{number}"
        self._names.add(unique)
        return unique
