"""Where pictures come from: bundled and downloadable sets, folders, lists, records; splits, digests and batches.

The public names load on first use, so that ``trainers.data.catalog`` costs a command line nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.data.batches import Batches
    from trainers.data.dataset import DataFacts, Dataset, Overlap, Split, find_overlap
    from trainers.data.source import open_dataset

_HOME = {
    "Batches": "trainers.data.batches",
    "DataFacts": "trainers.data.dataset",
    "Dataset": "trainers.data.dataset",
    "Overlap": "trainers.data.dataset",
    "Split": "trainers.data.dataset",
    "find_overlap": "trainers.data.dataset",
    "open_dataset": "trainers.data.source",
}

__all__ = ["Batches", "DataFacts", "Dataset", "Overlap", "Split", "find_overlap", "open_dataset"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
