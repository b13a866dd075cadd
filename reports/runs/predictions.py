"""The per-picture predictions a run logged, read from its artifacts, and paired with another's by picture.

A picture is known by the digest of its content, so two runs pair even where their files have other names or order.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tracking.frame import models
from tracking.frame.query import HasUri
from tracking.store import connection
from tracking.store.artifacts import local_folder


@dataclass(frozen=True)
class Predictions:
    """One split's predictions, sorted by picture: arrays of shape ``(N,)``.

    ``digest`` and ``key`` text, ``label`` and ``predicted`` int64, ``probability`` float64 of the predicted class.
    """

    digest: NDArray[Any]
    key: NDArray[Any]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        return np.asarray(self.label == self.predicted)

    @property
    def pictures(self) -> NDArray[Any]:
        """A name of each picture that is unique even where one picture stands in the split twice."""
        counts = pd.Series(self.digest).groupby(self.digest, sort=False).cumcount().to_numpy()
        return np.array([f"{d}#{c}" for d, c in zip(self.digest, counts, strict=True)], dtype=object)

    def take(self, pictures: Sequence[Any]) -> Predictions:
        """These pictures only, in this order."""
        place = {picture: i for i, picture in enumerate(self.pictures)}
        rows = np.array([place[p] for p in pictures], dtype=np.int64)
        return Predictions(*(a[rows] for a in (self.digest, self.key, self.label, self.predicted, self.probability)))


def load(store: HasUri, run_id: str, artifact_uri: str | None, split: str = "test") -> Predictions | None:
    """A run's predictions of ``split``; None where it logged none."""
    with tempfile.TemporaryDirectory() as folder:
        path = artifact(store, artifact_uri, f"predictions/{split}.parquet", Path(folder))
        return None if path is None else read(path)


def read(path: Path) -> Predictions | None:
    """Predictions from a Parquet file; None where it lacks the columns."""
    table = pd.read_parquet(path)
    if not {"image_digest", "label", "predicted"} <= set(table.columns):
        return None
    key = table["key"] if "key" in table.columns else table["image_digest"]
    sure = table["probability"] if "probability" in table.columns else pd.Series(np.full(len(table), np.nan))
    digests, keys = (s.astype(str).to_numpy(dtype=object) for s in (table["image_digest"], key))
    order = np.lexsort((keys.astype(str), digests.astype(str)))
    return Predictions(
        digests[order],
        keys[order],
        table["label"].to_numpy(np.int64)[order],
        table["predicted"].to_numpy(np.int64)[order],
        sure.to_numpy(np.float64)[order],
    )


def common(several: Sequence[Predictions]) -> list[Predictions]:
    """All of them cut down to the pictures that every one has, in the same order."""
    shared = set(several[0].pictures)
    for other in several[1:]:
        shared &= set(other.pictures)
    pictures = sorted(shared)
    return [one.take(pictures) for one in several]


def artifact(store: HasUri, artifact_uri: str | None, name: str, folder: Path) -> Path | None:
    """The local path of a run's artifact, fetched into ``folder`` where it lies elsewhere; None if there is none."""
    root = local_folder(artifact_uri) if artifact_uri else None
    if root is not None:
        path = root / name
        return path if path.is_file() else None
    return _fetched(store, f"{artifact_uri.rstrip('/')}/{name}", folder) if artifact_uri else None


def _fetched(store: HasUri, uri: str, folder: Path) -> Path | None:
    """A file from where artifacts are kept, without asking the tracking store; None where it is not there."""
    from mlflow.artifacts import download_artifacts, list_artifacts

    tracking_uri = store.tracking_uri
    with connection.translated(tracking_uri):
        parent, _, name = uri.rpartition("/")
        there = list_artifacts(artifact_uri=parent, tracking_uri=tracking_uri)
        if name not in [item.path.rpartition("/")[2] for item in there]:
            return None
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=tracking_uri))


def class_names(store: HasUri, run_id: str, artifact_uri: str | None, num_classes: int) -> list[str]:
    """The names of the classes as the run's model says them, else their numbers."""
    with tempfile.TemporaryDirectory() as folder:
        path = artifact(store, artifact_uri, "model/model.json", Path(folder))
        path = path or model_file(store, run_id, "model.json", Path(folder))
        try:
            found = json.loads(path.read_text(encoding="utf-8")).get("class_names", []) if path is not None else []
        except (OSError, ValueError):
            found = []
    return [str(c) for c in found] if len(found) >= num_classes else [str(i) for i in range(num_classes)]


def model_file(store: HasUri, run_id: str, name: str, folder: Path) -> Path | None:
    """A file of the last model that the run logged as MLflow's own; None where there is none."""
    logged = models(store, run_id)
    if not logged:
        return None
    _, location = logged[-1]
    root = local_folder(location)
    if root is not None:
        return root / name if (root / name).is_file() else None
    from mlflow.exceptions import MlflowException

    try:
        return _fetched(store, f"{location.rstrip('/')}/{name}", folder)
    except MlflowException:
        return None
