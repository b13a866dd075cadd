"""Where pictures come from: bundled and downloadable sets, folders, lists, records; splits, digests and batches.

The names load at their first use, so that ``trainers.data.catalog`` costs a command line nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking.lazy import lazy

if TYPE_CHECKING:
    from trainers.data.batches import Batches as Batches
    from trainers.data.dataset import DataFacts as DataFacts
    from trainers.data.dataset import Dataset as Dataset
    from trainers.data.dataset import Overlap as Overlap
    from trainers.data.dataset import Split as Split
    from trainers.data.dataset import find_overlap as find_overlap
    from trainers.data.source import open_dataset as open_dataset

__all__ = ["Batches", "DataFacts", "Dataset", "Overlap", "Split", "find_overlap", "open_dataset"]

__getattr__, __dir__ = lazy(
    __name__,
    __all__,
    {
        "Batches": "trainers.data.batches",
        "DataFacts": "trainers.data.dataset",
        "Dataset": "trainers.data.dataset",
        "Overlap": "trainers.data.dataset",
        "Split": "trainers.data.dataset",
        "find_overlap": "trainers.data.dataset",
        "open_dataset": "trainers.data.source",
    },
)
