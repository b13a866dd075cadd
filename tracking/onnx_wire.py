"""ONNX files, written byte by byte: the few messages of the format that a picture classifier needs.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); protobuf's wire format
is a number and a length before each value. Written here, the file does not depend on which version of the onnx
package, or of protobuf, happens to be installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _INT, _STRING, _FLOATS, _INTS = 1, 2, 3, 6, 7
_ELEMENTS = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "float64": 11}

Attribute = float | int | str | Sequence[int] | Sequence[float]


def element(dtype: Any) -> int:
    """ONNX's number for a NumPy type; KeyError for one that it is not needed for."""
    return _ELEMENTS[np.dtype(dtype).name]


def model(graph: bytes, *, opset: int, ir_version: int, producer: str, version: str, notes: Mapping[str, str]) -> bytes:
    """A ModelProto; ``notes`` are its free metadata."""
    return b"".join(
        [
            _number(1, ir_version),
            _text(2, producer),
            _text(3, version),
            _part(7, graph),
            _part(8, _number(2, opset)),
            *(_part(14, _text(1, key) + _text(2, value)) for key, value in notes.items()),
        ]
    )


def graph(
    name: str, nodes: Iterable[bytes], initializers: Iterable[bytes], inputs: Iterable[bytes], outputs: Iterable[bytes]
) -> bytes:
    """A GraphProto of encoded parts."""
    fields = ((1, nodes), (5, initializers), (11, inputs), (12, outputs))
    return _text(2, name) + b"".join(_part(field, part) for field, parts in fields for part in parts)


def node(op: str, name: str, inputs: Sequence[str], output: str, attributes: Mapping[str, Attribute]) -> bytes:
    """A NodeProto with one output."""
    parts = [*(_text(1, one) for one in inputs), _text(2, output), _text(3, name), _text(4, op)]
    return b"".join(parts + [_part(5, _attribute(key, value)) for key, value in attributes.items()])


def tensor(name: str, array: NDArray[Any]) -> bytes:
    """A TensorProto with the array's bytes."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    dims = b"".join(_number(1, side) for side in array.shape)
    return dims + _number(2, element(array.dtype)) + _text(8, name) + _part(9, little.tobytes())


def value(name: str, dtype: Any, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto: an input or output; a side that is free has a name instead of a number."""
    sides = b"".join(_part(1, _text(2, side) if isinstance(side, str) else _number(1, side)) for side in shape)
    return _text(1, name) + _part(2, _part(1, _number(1, element(dtype)) + _part(2, sides)))


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
    return _part(field, content.encode())


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(content: int) -> bytes:
    out = bytearray()
    while content > 0x7F:
        out.append(content & 0x7F | 0x80)
        content >>= 7
    out.append(content)
    return bytes(out)
