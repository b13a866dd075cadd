"""Clocks that tests own: one that only moves when somebody sleeps, one that runs fast."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class ManualClock:
    """Time stands still until somebody sleeps; then it jumps, and whoever listens catches up."""

    def __init__(self) -> None:
        # Yesterday: CloudWatch takes lines up to 14 days old, but none from the future.
        self._now = float(int(time.time())) - 86_400.0
        self._guard = threading.Lock()
        self.listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._guard:
            self._now += max(0.0, seconds)
        for listener in self.listeners:
            listener()


class ScaledClock:
    """Real time, ``speed`` times as fast."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._start = self._base = time.time()  # CloudWatch takes lines up to two hours from the future

    def now(self) -> float:
        return self._base + (time.time() - self._start) * self.speed

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds) / self.speed)
