"""ONNX files, written byte by byte: the few messages of the format that a picture classifier needs.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); protobuf's wire format
is a number and a length before each value. Written here, the file does not depend on which version of the onnx
package, or of protobuf, happens to be installed.

A message is a list of pieces, so that weights of hundreds of megabytes are never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _INT, _STRING, _FLOATS, _INTS = 1, 2, 3, 6, 7
_ELEMENTS = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "float64": 11}

Attribute = float | int | str | Sequence[int] | Sequence[float]
Pieces = list[bytes | memoryview]


def element(dtype: Any) -> int:
    """ONNX's number for a NumPy type; KeyError for one that it is not needed for."""
    return _ELEMENTS[np.dtype(dtype).name]


def num_bytes(pieces: Pieces) -> int:
    """Length of a message."""
    return sum(len(piece) for piece in pieces)


def model(
    graph: Pieces, *, opset: int, ir_version: int, producer: str, version: str, notes: Mapping[str, str]
) -> Pieces:
    """A ModelProto; ``notes`` are its free metadata."""
    head = _number(1, ir_version) + _text(2, producer) + _text(3, version)
    tail = _part(8, [_number(2, opset)])
    for key, value in notes.items():
        tail += _part(14, [_text(1, key), _text(2, value)])
    return [head, *_part(7, graph), *tail]


def graph(
    name: str,
    nodes: Iterable[Pieces],
    initializers: Iterable[Pieces],
    inputs: Iterable[Pieces],
    outputs: Iterable[Pieces],
) -> Pieces:
    """A GraphProto of encoded parts."""
    pieces: Pieces = [_text(2, name)]
    for field, parts in ((1, nodes), (5, initializers), (11, inputs), (12, outputs)):
        for part in parts:
            pieces += _part(field, part)
    return pieces


def node(op: str, name: str, inputs: Sequence[str], output: str, attributes: Mapping[str, Attribute]) -> Pieces:
    """A NodeProto with one output."""
    pieces: Pieces = [*(_text(1, one) for one in inputs), _text(2, output), _text(3, name), _text(4, op)]
    for key, value in attributes.items():
        pieces += _part(5, [_attribute(key, value)])
    return pieces


def tensor(name: str, array: NDArray[Any]) -> Pieces:
    """A TensorProto with the array's bytes."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    dims = b"".join(_number(1, side) for side in array.shape)
    content = little.reshape(-1).view(np.uint8).data
    return [dims + _number(2, element(array.dtype)) + _text(8, name), *_part(9, [content])]


def value(name: str, dtype: Any, shape: Sequence[int | str]) -> Pieces:
    """A ValueInfoProto: an input or output; a side that is free has a name instead of a number."""
    sides: Pieces = []
    for side in shape:
        sides += _part(1, [_text(2, side) if isinstance(side, str) else _number(1, side)])
    return [_text(1, name), *_part(2, _part(1, [_number(1, element(dtype)), *_part(2, sides)]))]


def _attribute(key: str, content: Attribute) -> bytes:
    if isinstance(content, str):
        return _text(1, key) + _text(4, content) + _number(20, _STRING)
    if isinstance(content, int):
        return _text(1, key) + _number(3, content) + _number(20, _INT)
    if isinstance(content, float):
        return _text(1, key) + b"\x15" + np.array(content, "<f4").tobytes() + _number(20, _FLOAT)
    if all(isinstance(one, int) for one in content):
        return _text(1, key) + b"".join(_number(8, int(one)) for one in content) + _number(20, _INTS)
    floats = b"".join(b"\x3d" + np.array(one, "<f4").tobytes() for one in content)
    return _text(1, key) + floats + _number(20, _FLOATS)


def _number(field: int, content: int) -> bytes:
    return _varint(field << 3) + _varint(content & 0xFFFFFFFFFFFFFFFF)


def _text(field: int, content: str) -> bytes:
    encoded = content.encode()
    return _varint(field << 3 | 2) + _varint(len(encoded)) + encoded


def _part(field: int, pieces: Pieces) -> Pieces:
    return [_varint(field << 3 | 2) + _varint(num_bytes(pieces)), *pieces]


def _varint(content: int) -> bytes:
    out = bytearray()
    while content > 0x7F:
        out.append(content & 0x7F | 0x80)
        content >>= 7
    out.append(content)
    return bytes(out)
