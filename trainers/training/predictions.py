"""Per-picture predictions of a split as Parquet, so that two models can be compared picture by picture.

Columns: ``image_digest`` and ``key`` (text), ``label`` and ``predicted`` (int), ``probability`` (float32, of the
predicted class).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from trainers.data import Split


def write(path: Path, split: Split, probabilities: npt.NDArray[np.float32]) -> None:
    """Write the predictions of a split from its class probabilities (N, K), in the split's order."""
    import pyarrow
    from pyarrow import parquet

    assert len(split) == len(probabilities)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(
        {
            "image_digest": split.image_digests,
            "key": [str(key) for key in split.keys],
            "label": np.asarray(split.labels, np.int32),
            "predicted": probabilities.argmax(axis=1).astype(np.int32),
            "probability": probabilities.max(axis=1).astype(np.float32),
        }
    )
    parquet.write_table(table, path, compression="zstd")
