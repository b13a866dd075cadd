"""Inside the container: the runs there are, the one that came with the job to start from among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tracking.store import Store


@dataclass(frozen=True)
class ContainerStore(Store):
    """A store that also knows run ``source_id``, whose ``files/`` lie in ``source``."""

    source: Path = Path()
    source_id: str = ""

    def journal_dir(self, run_id: str) -> Path:
        """The run that came with the job, or one of its own. Raises RunNotFound."""
        if run_id == self.source_id and (self.source / "files").is_dir():
            return self.source
        return super().journal_dir(run_id)
