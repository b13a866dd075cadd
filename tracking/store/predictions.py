"""Two models' logged answers to the same pictures, and whether they can be told apart by them."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracking.errors import ModelError

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Paired:
    """Pictures only the first has right, only the second has right, and McNemar's exact two-sided p value."""

    only_first: int
    only_second: int
    p_value: float


def paired(client: MlflowClient, first: str, second: str, path: str) -> Paired:
    """Compare two runs by their predictions, an artifact of each. Raises ModelError where one has none, or others."""
    a, b = _hits(client, first, path), _hits(client, second, path)
    if a.keys() != b.keys():
        raise ModelError(
            f"the predictions of run {first[:8]} and run {second[:8]} are of different pictures"
            f" ({len(a.keys() ^ b.keys())} of {len(a.keys() | b.keys())} are in one alone); they cannot be paired."
        )
    return mcnemar(
        sum(hit and not b[picture] for picture, hit in a.items()),
        sum(hit and not a[picture] for picture, hit in b.items()),
    )


def mcnemar(only_first: int, only_second: int) -> Paired:
    """The exact test: were the two equally good, each picture on which they differ would be a fair coin."""
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return Paired(only_first, only_second, min(1.0, 2 * tail / 2**n))


def _hits(client: MlflowClient, run_id: str, path: str) -> dict[tuple[str, int, int], bool]:
    """Whether each picture was recognised, by its digest, its label and, of equal ones, its number."""
    import pandas
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:
            table = pandas.read_parquet(client.download_artifacts(run_id, path, scratch))
        except (MlflowException, OSError) as error:
            raise ModelError(f"run {run_id[:8]} has no {path} to test with ({error}).") from error
    number = table.groupby(["image_digest", "label"]).cumcount()
    keys = zip(table["image_digest"], table["label"], number, strict=True)
    hits = (table["label"] == table["predicted"]).tolist()
    return {(str(d), int(label), int(n)): hit for (d, label, n), hit in zip(keys, hits, strict=True)}
