"""What a run was made with: packages, code version, machine, threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from tracking.errors.redaction import hidden
from tracking.journal.background import in_background

_PACKAGES = (
    "mxnet",
    "gluoncv",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
    "mlflow",
    "pandas",
    "pyarrow",
    "boto3",
)


def environment(num_threads: int) -> dict[str, Any]:
    """Everything that another person needs to repeat the run, as JSON-able values."""
    return {
        "python": platform.python_version(),
        "packages": packages(),
        "git": git(Path.cwd()),
        "machine": machine(),
        "num_threads": num_threads,
        "argv": [hidden(word) for word in sys.argv],
    }


def packages() -> dict[str, str]:
    """Name → version of the packages that results depend on; those not installed are left out."""
    found = {}
    for name in ("image-classification-tracking", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git(folder: Path) -> dict[str, Any]:
    """Commit and dirtiness of the checkout around ``folder``; empty outside of one."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"commit": commit, "branch": ask("rev-parse", "--abbrev-ref", "HEAD"), "dirty": bool(ask("status", "-s"))}


def machine() -> dict[str, Any]:
    """Processor, memory and system, without user or host names."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "num_processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


# Below this many cores' worth of others' work two threads on two cores still train faster than one (measured).
_NOTABLE_CORES = 0.5


class CpuTimes(Protocol):
    """What is asked of psutil."""

    def cpu_times(self) -> Iterable[float]:
        """Seconds since boot of all cores together, by what they were spent on."""


class Switch(Protocol):
    """``trainers.networks.backend.Throttle``."""

    def on(self) -> None: ...

    def off(self) -> None: ...


class OtherLoad:
    """Measures from its making to ``busy_cores``, at least about a second for a figure that means something."""

    def __init__(self, psutil: CpuTimes | None = None) -> None:
        if psutil is None:
            import psutil as library

            psutil = library
        assert psutil is not None
        self._psutil = psutil
        self._begin = self._now()

    def busy_cores(self) -> float:
        """How many cores were busy with other processes' work, on average; 0 where less than 0.5 s have passed."""
        wall, busy, own = (now - then for now, then in zip(self._now(), self._begin, strict=True))
        return max(0.0, (busy - own) / wall) if wall >= 0.5 else 0.0

    def crowds(self, num_threads: int) -> float:
        """How many cores were busy, where that leaves no room for so many threads that work together; else 0."""
        cores, busy = os.cpu_count() or 1, self.busy_cores()
        return 0.0 if num_threads == 1 or busy < _NOTABLE_CORES or busy + num_threads <= cores else busy

    def note(self, num_threads: int) -> str | None:
        """What to warn of before training with so many threads; None where there is room for them."""
        if not (busy := self.crowds(num_threads)):
            return None
        return (
            f"other processes keep {busy:.1f} of {os.cpu_count()} cores busy; {num_threads} threads can then be several"
            " times slower than one. Consider --num-threads 1, for all runs that are to be compared: results depend on"
            " it."
        )

    def _now(self) -> tuple[float, float, float]:
        times = self._psutil.cpu_times()
        # A guest's time is in user as well.
        idle = sum(getattr(times, name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
        own = os.times()
        mine = own.user + own.system + own.children_user + own.children_system
        return time.monotonic(), sum(times) - idle, mine


class Neighbours:
    """While it is entered: lets waiting threads sleep as long as others' work leaves no room for all of them."""

    def __init__(
        self, num_threads: int, throttle: Switch, *, psutil: CpuTimes | None = None, every_s: float = 2.0
    ) -> None:
        self._num_threads, self._throttle, self._psutil, self._every_s = num_threads, throttle, psutil, every_s
        self._over = threading.Event()
        self._watch: threading.Event | None = None

    def __enter__(self) -> None:
        if self._num_threads > 1:
            self._watch = in_background(self._look)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._watch is not None:
            self._watch.wait(5.0)  # a thread that memory ran out for never says that it is over
        self._throttle.off()

    def _look(self) -> None:
        others = OtherLoad(self._psutil)
        while not self._over.wait(self._every_s):
            (self._throttle.on if others.crowds(self._num_threads) else self._throttle.off)()
            others = OtherLoad(self._psutil)
