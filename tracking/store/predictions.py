"""Per-picture predictions of a run as Parquet: writing, reading, pairing by picture, and McNemar's test on the pairs.

Columns: ``image_digest`` and ``key`` (text), ``label`` and ``predicted`` (int), ``probability`` (float32, of the
predicted class), and for up to 256 classes ``probabilities`` (a list of float16, one number a class: 20 bytes a
picture for ten classes). The file is the run's artifact ``predictions/<split>.parquet``.

Two rows are the same picture when content digest and label agree; of several such rows in one file the first by key
pairs with the first of the other file, and so on. File names and order of the two files may differ.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracking.store.artifacts import fetch

FOLDER = "predictions"
MOST_CLASSES = 256  # beyond it only the likeliest class's probability is kept: 10,000 pictures stay below 5 MiB


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One split's predictions, sorted by picture: arrays of shape ``(N,)``.

    ``digest`` and ``key`` text, ``label`` and ``predicted`` int64, ``probability`` float64 of the predicted class.
    ``probabilities`` float64 ``(N, K)`` of every class; None where they were not asked for or not kept.
    """

    digest: NDArray[Any]
    key: NDArray[Any]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None = None

    @property
    def hits(self) -> NDArray[np.bool_]:
        return np.asarray(self.label == self.predicted)

    @property
    def pictures(self) -> list[str]:
        """``digest#label#number`` of each picture, unique and the same in every run."""
        seen: Counter[str] = Counter()
        names = []
        for digest, label in zip(self.digest, self.label, strict=True):
            same = f"{digest}#{label}"
            names.append(f"{same}#{seen[same]}")
            seen[same] += 1
        return names

    def take(self, rows: NDArray[np.int64]) -> Predictions:
        """These rows only, in this order."""
        taken: dict[str, Any] = {name: None if column is None else column[rows] for name, column in vars(self).items()}
        return Predictions(**taken)


def write(
    path: Path,
    *,
    digests: Sequence[str],
    keys: Sequence[object],
    labels: ArrayLike,
    probabilities: NDArray[np.float32],
) -> None:
    """Write the predictions of a split of N pictures from its class probabilities (N, K)."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "image_digest": digests,
        "key": [str(key) for key in keys],
        "label": np.asarray(labels, np.int32),
        "predicted": probabilities.argmax(axis=1).astype(np.int32),
        "probability": probabilities.max(axis=1).astype(np.float32),
    }
    num_classes = probabilities.shape[1]
    if num_classes <= MOST_CLASSES:
        flat = pyarrow.array(probabilities.astype(np.float16).reshape(-1))
        columns["probabilities"] = pyarrow.FixedSizeListArray.from_arrays(flat, num_classes)
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def read(path: Path, *, every_class: bool = False) -> Predictions | None:
    """Predictions from a Parquet file; None where it lacks the columns. ``every_class``: with ``probabilities``."""
    from pyarrow import parquet

    kept = [name for name in parquet.read_schema(path).names if every_class or name != "probabilities"]
    stored = parquet.read_table(path, columns=kept)
    rows = _rows(stored.column("probabilities")) if "probabilities" in kept else None
    table = stored.drop_columns(["probabilities"] if "probabilities" in kept else []).to_pandas()
    if not {"image_digest", "label", "predicted"} <= set(table.columns):
        return None
    key = table["key"] if "key" in table.columns else table["image_digest"]
    sure = table["probability"].to_numpy(np.float64) if "probability" in table.columns else np.full(len(table), np.nan)
    found = Predictions(
        digest=table["image_digest"].astype(str).to_numpy(dtype=object),
        key=key.astype(str).to_numpy(dtype=object),
        label=table["label"].to_numpy(np.int64),
        predicted=table["predicted"].to_numpy(np.int64),
        probability=sure,
        probabilities=rows,
    )
    return found.take(np.lexsort((found.key.astype(str), found.label, found.digest.astype(str))))


def _rows(column: Any) -> NDArray[np.float64] | None:
    """A column of lists as ``(N, K)``; None where it is of something else, or the lists differ in length."""
    from pyarrow import compute, types

    if not (types.is_list(column.type) or types.is_fixed_size_list(column.type)) or column.null_count:
        return None
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1:
        return None
    flat = compute.list_flatten(column).to_numpy()
    return np.asarray(flat, np.float64).reshape(len(column), lengths[0])


def load(
    tracking_uri: str, artifact_uri: str | None, split: str = "test", *, every_class: bool = False
) -> Predictions | None:
    """A run's predictions of ``split``; None where it logged none. Raises StoreError."""
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(tracking_uri, artifact_uri, f"{FOLDER}/{split}.parquet", Path(folder))
        return None if path is None else read(path, every_class=every_class)


def common(several: Sequence[Predictions]) -> list[Predictions]:
    """All of them cut down to the pictures that every one has, in the same order."""
    rows = [{picture: row for row, picture in enumerate(one.pictures)} for one in several]
    pictures = sorted(set.intersection(*map(set, rows)))
    return [
        one.take(np.array([row[picture] for picture in pictures], np.int64))
        for one, row in zip(several, rows, strict=True)
    ]


@dataclass(frozen=True)
class McNemar:
    """Pictures only the first has right, only the second has right, and the exact two-sided p value."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Exact McNemar test on paired hits: ``first`` and ``second`` are ``(N,)`` booleans over the same pictures.

    Under the null hypothesis each picture on which the two differ is a fair coin: binomial, two-sided, exact.
    """
    from scipy import special

    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired hits of shape {a.shape} and {b.shape}: both must be (N,) over the same pictures")
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    n = only_first + only_second
    if n == 0:
        return McNemar(0, 0, 1.0)
    p = 2 * float(special.bdtr(min(only_first, only_second), n, 0.5))
    return McNemar(only_first, only_second, min(p, 1.0))
