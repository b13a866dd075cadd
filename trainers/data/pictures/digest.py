"""Content hashes of pictures and of splits. 32 hex digits, so they fit MLflow's 36 characters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_SIZE = 16


def of_bytes(data: bytes) -> str:
    """Hash of a picture as it is stored: the encoded file or record payload."""
    return hashlib.blake2b(data, digest_size=_SIZE).hexdigest()


def of_pixels(pixels: NDArray[np.uint8]) -> str:
    """Hash of raw pixels (H, W, C) with their shape, for pictures that were never encoded."""
    height, width, channels = pixels.shape
    hasher = hashlib.blake2b(f"uint8 {height}x{width}x{channels}:".encode(), digest_size=_SIZE)
    hasher.update(np.ascontiguousarray(pixels).data)
    return hasher.hexdigest()


def of_text(*parts: str) -> str:
    """Hash of a few words, for pictures derived from others."""
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=_SIZE).hexdigest()


def of_split(image_digests: Sequence[str], labels: Iterable[int]) -> str:
    """Hash of the sorted (picture, label) pairs: order and container do not matter, a relabelled picture does."""
    hasher = hashlib.blake2b(digest_size=_SIZE)
    for digest, label in sorted(zip(image_digests, (int(label) for label in labels), strict=True)):
        hasher.update(f"{digest} {label}\n".encode())
    return hasher.hexdigest()
