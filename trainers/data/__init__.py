"""Where pictures come from: bundled and downloadable sets, folders, lists, records; splits, digests and batches.

The names load at their first use, so that ``trainers.data.catalog`` costs a command line nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.data.batches import Batches as Batches
    from trainers.data.dataset import DataFacts as DataFacts
    from trainers.data.dataset import Dataset as Dataset
    from trainers.data.dataset import Overlap as Overlap
    from trainers.data.dataset import Split as Split
    from trainers.data.dataset import find_overlap as find_overlap
    from trainers.data.source import open_dataset as open_dataset

__all__ = ["Batches", "DataFacts", "Dataset", "Overlap", "Split", "find_overlap", "open_dataset"]

_HOMES = {
    "Batches": "trainers.data.batches",
    "DataFacts": "trainers.data.dataset",
    "Dataset": "trainers.data.dataset",
    "Overlap": "trainers.data.dataset",
    "Split": "trainers.data.dataset",
    "find_overlap": "trainers.data.dataset",
    "open_dataset": "trainers.data.source",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
