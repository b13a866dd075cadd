"""One split under ``check``: its pictures as they look, with labels and places, whatever it was read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data.check.examine import Looks


@dataclass
class Part:
    """N pictures of ``path``. ``labels`` (N,) float64, NaN where there is none; ``place(i)`` says where picture i is,
    ``file_name(i)`` what it is called ("" in records)."""

    name: str
    path: Path
    kind: str
    looks: Looks
    labels: NDArray[np.float64]
    place: Callable[[int], str]
    file_name: Callable[[int], str]
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def whole(self) -> NDArray[np.bool_]:
        """(N,) which labels are whole numbers from 0."""
        good = np.isfinite(self.labels) & (self.labels >= 0) & (self.labels < 2**31)
        good[good] = self.labels[good] == np.floor(self.labels[good])
        return good

    def counts(self) -> dict[int, int]:
        """Pictures of each class, among whole labels."""
        labels, counts = np.unique(self.labels[self.whole].astype(np.int64), return_counts=True)
        return dict(zip(labels.tolist(), counts.tolist(), strict=True))

    def class_name(self, label: int) -> str:
        """``3 cat`` where the class has a name, else ``3``."""
        names = self.class_names or ()
        return f"{label} {names[label]}" if label < len(names) and names[label] != str(label) else str(label)
