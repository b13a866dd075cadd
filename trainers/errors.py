"""The trainers package's errors.

TrainerError            the run failed (exit code 1)
├── TrainingDiverged    the loss is no longer a number
├── DiskFull            no room for what the run must keep
├── WorkerLost          one of several workers that train a run together is gone
└── BadInput            what the user gave cannot work (exit code 2)
    ├── BadConfig       settings out of range or at odds; lists every fault
    └── BadData         pictures or labels that cannot be read or used
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracking.errors.errors import UserError
from tracking.journal import files


class TrainerError(UserError):
    """Root of the package's errors; the message says what was given, what is legal and what to do."""

    exit_code = 1


class TrainingDiverged(TrainerError):
    """The loss is no longer a number."""


class DiskFull(TrainerError):
    """No room for what the run must keep."""


class WorkerLost(TrainerError):
    """One of several workers that train a run together is gone."""


class BadInput(TrainerError, ValueError):
    """What the user gave cannot work."""

    exit_code = 2


class BadConfig(BadInput):
    """Settings out of range or at odds with one another; ``faults`` holds every one of them."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = list(faults)
        head = "" if len(faults) == 1 else f"{len(faults)} faults in the settings:\n  - "
        super().__init__(head + "\n  - ".join(faults))


class BadData(BadInput):
    """Pictures or labels that cannot be read or used."""


_RESUME = "Free some space and resume with --resume RUN."


@contextmanager
def room_for(path: Path, advice: str = _RESUME) -> Iterator[None]:
    """A full disk met while ``path`` is written raises DiskFull with ``advice``."""
    try:
        yield
    except OSError as error:
        if files.is_disk_full(error):
            raise DiskFull(f"No room left to write {path}. {advice}") from error
        raise


@contextmanager
def whole_file(path: Path, advice: str = _RESUME) -> Iterator[Path]:
    """As ``tracking.journal.files.whole_file``, in ``room_for`` it."""
    with room_for(path, advice), files.whole_file(path) as part:
        yield part
