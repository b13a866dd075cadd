"""scikit-learn's bundled digits: 1,797 grey pictures of 8 x 8 px, values 0..16 stretched to 0..255."""

from __future__ import annotations

import numpy as np

from trainers.data.catalog import SOURCES
from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.pictures import ArrayPictures
from trainers.errors import BadData


def read() -> SplitsRead:
    """The whole set as one split. BadData where scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BadData(
            "--dataset digits ships with scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    values, labels = load_digits(return_X_y=True)
    # 16 steps to 0..255 by whole numbers, so that the digest does not hang on a rounding rule.
    pixels = (values.astype(np.uint16) * 255 // 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    split = Split(ArrayPictures(pixels, "digits"), labels.astype(np.int64), [str(i) for i in range(len(labels))])
    return SplitsRead(
        name="digits",
        class_names=SOURCES["digits"].class_names,
        splits={WHOLE: split},
        source="sklearn.datasets.load_digits",
    )
