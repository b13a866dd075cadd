"""MXNet's graph as text (``-symbol.json``): read with every reference checked, cut to the logits, written back.

No MXNet: a graph from an unknown hand is looked at here before any library sees it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tracking.errors import ModelError

VARIABLE = "null"
_SOFTMAX = ("SoftmaxOutput", "Softmax", "SoftmaxActivation", "softmax")
_CASTS = ("Cast", "cast")
_MAX_NODES = 100_000
MAX_BYTES = 8 * 2**20  # ResNet-200's graph has 0.3 MB


@dataclass(frozen=True)
class Node:
    """One operator, or a variable (``op`` ``null``); ``inputs`` are (node's index, output's index)."""

    op: str
    name: str
    attrs: dict[str, str]
    inputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each comes after its inputs; ``head`` is the node that answers."""

    nodes: tuple[Node, ...]
    head: int
    attrs: dict[str, Any]

    @property
    def variables(self) -> list[str]:
        """Names of the variables: the picture and the weights."""
        return [node.name for node in self.nodes if node.op == VARIABLE]


def parse(text: str | bytes, name: str = "symbol.json") -> Graph:
    """Read a graph with one output. Raises ModelError that begins with ``name``."""
    if len(text) > MAX_BYTES:
        raise ModelError(f"{name} has {len(text):,} bytes; graphs of up to {MAX_BYTES:,} are read.")
    try:
        found = json.loads(text)
        nodes = tuple(_node(entry) for entry in found["nodes"])
        heads = [(int(head[0]), int(head[1])) for head in found["heads"]]
        attrs = found.get("attrs", {})
    except RecursionError as error:
        raise ModelError(f"{name} is not an MXNet graph: it is nested too deeply.") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ModelError(f"{name} is not an MXNet graph ({type(error).__name__}: {str(error)[:200]}).") from error
    if not isinstance(attrs, dict):
        raise ModelError(f"{name} is not an MXNet graph: its attrs are not a table.")
    if not 0 < len(nodes) <= _MAX_NODES:
        raise ModelError(f"{name} has {len(nodes)} nodes; from 1 to {_MAX_NODES:,} can be read.")
    for index, node in enumerate(nodes):
        if any(not 0 <= source < index or output < 0 for source, output in node.inputs):
            raise ModelError(f"{name}: node {index} ({node.name!r}) takes an input that is not before it.")
    if len(heads) != 1 or not 0 <= heads[0][0] < len(nodes) or heads[0][1] != 0:
        raise ModelError(f"{name} has {len(heads)} outputs; a classifier has one.")
    return Graph(nodes, heads[0][0], attrs)


def to_logits(graph: Graph) -> Graph:
    """The graph without a last softmax (and without its label), so that it answers with logits."""
    head = graph.nodes[graph.head]
    if head.op not in _SOFTMAX:
        return graph
    if not head.inputs or head.inputs[0][1] != 0:
        raise ModelError(f"the softmax {head.name!r} at the end of the graph has nothing to work on.")
    return _needed(Graph(graph.nodes, head.inputs[0][0], graph.attrs))


def with_input(graph: Graph, weights: Container[str], name: str) -> Graph:
    """The graph with its one variable that is no weight called ``name``. Raises ModelError where there is not one."""
    free = [variable for variable in graph.variables if variable not in weights]
    if len(free) != 1:
        raise ModelError(
            f"The graph takes {', '.join(free) or 'nothing'} beside its weights; one input, the picture, is expected."
        )
    if free == [name]:
        return graph
    nodes = (replace(n, name=name) if n.op == VARIABLE and n.name == free[0] else n for n in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def in_single_precision(graph: Graph) -> Graph:
    """The graph without its casts to float16, which a CPU cannot multiply; the weights keep their rounded values."""
    plain = {("dtype", "float16"): "float32", ("dtype", "2"): "float32", ("__dtype__", "2"): "0"}
    nodes = (
        replace(n, attrs={key: plain.get((key, value), value) for key, value in n.attrs.items()}) for n in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def num_classes(graph: Graph, weights: Mapping[str, Any]) -> int | None:
    """How many outputs the last layer has, None where it is not stated."""
    head = graph.nodes[graph.head]
    while head.op in _CASTS and head.inputs:
        head = graph.nodes[head.inputs[0][0]]
    if head.op != "FullyConnected" or len(head.inputs) < 2:
        return None
    weight = weights.get(graph.nodes[head.inputs[1][0]].name)
    return None if weight is None or weight.ndim != 2 else int(weight.shape[0])


def to_json(graph: Graph) -> str:
    """The graph as MXNet reads it."""
    nodes = [
        {"op": n.op, "name": n.name, "attrs": n.attrs, "inputs": [[source, output, 0] for source, output in n.inputs]}
        for n in graph.nodes
    ]
    variables = [index for index, node in enumerate(graph.nodes) if node.op == VARIABLE]
    heads = [[graph.head, 0, 0]]
    return json.dumps({"nodes": nodes, "arg_nodes": variables, "heads": heads, "attrs": graph.attrs}, indent=1)


def _needed(graph: Graph) -> Graph:
    """Only the nodes that the head depends on."""
    wanted = {graph.head}
    for index in range(graph.head, -1, -1):
        if index in wanted:
            wanted.update(source for source, _ in graph.nodes[index].inputs)
    order = sorted(wanted)
    place = {old: new for new, old in enumerate(order)}
    nodes = tuple(
        Node(n.op, n.name, n.attrs, tuple((place[source], output) for source, output in n.inputs))
        for n in (graph.nodes[old] for old in order)
    )
    return Graph(nodes, place[graph.head], graph.attrs)


def _node(entry: dict[str, Any]) -> Node:
    # The word for a node's settings changed twice: param until 0.9, attr until 1.0.
    attrs: dict[str, Any] = {}
    for word in ("param", "attr", "attrs"):
        attrs.update(entry.get(word) or {})
    return Node(
        op=str(entry["op"]),
        name=str(entry["name"]),
        attrs={str(key): str(value) for key, value in attrs.items()},
        inputs=tuple((int(source[0]), int(source[1])) for source in entry.get("inputs", [])),
    )
