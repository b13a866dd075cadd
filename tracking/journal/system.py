"""What the machine does while a run goes on: CPU, memory, disk, network and GPU under MLflow's own names.

A thread samples every 10 s, once at the start and once at the end; psutil and pynvml are imported there.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from typing import TYPE_CHECKING, Any

from tracking.errors import TrackingError
from tracking.journal.background import in_background

if TYPE_CHECKING:
    from tracking.journal.writer import Journal

INTERVAL_S = 10.0
PREFIX = "system/"
_MB = 1e6


class Sampler:
    """Writes ``system/…`` metrics into a journal from ``start`` to ``stop``; steps count samples."""

    def __init__(self, journal: Journal, *, first_step: int = 0, interval_s: float = INTERVAL_S) -> None:
        self._journal = journal
        self._step = first_step
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._over: threading.Event | None = None

    def start(self) -> None:
        """Take the first sample soon, in the thread; returns at once."""
        self._over = in_background(self._go_on)

    def stop(self) -> None:
        """Take the last sample and return when it is written."""
        self._stop.set()
        if self._over is not None:
            self._over.wait(5.0)

    def _go_on(self) -> None:
        try:
            import psutil
        except ImportError:  # psutil has no wheel for some machines; a run is complete without these metrics
            return
        machine = Machine(psutil)
        # A full or closed journal does not end the run here: writing the run's own events raises.
        with contextlib.suppress(TrackingError):
            self._take(machine)
            while not self._stop.wait(self._interval_s):
                self._take(machine)
            self._take(machine)

    def _take(self, machine: Machine) -> None:
        self._journal.metrics(machine.sample(), step=self._step)
        self._step += 1


class Machine:
    """Reads the machine's load; ``sample`` gives ``system/…`` names and values, megabytes being 10^6 bytes."""

    def __init__(self, psutil: Any) -> None:
        self._psutil = psutil
        self._gpus = _gpus()
        self._network: Any = None
        with contextlib.suppress(Exception):
            psutil.cpu_percent()  # the first call has nothing to compare with
        with contextlib.suppress(Exception):
            self._network = psutil.net_io_counters()

    def sample(self) -> dict[str, float]:
        """One reading of everything that can be read here: in some containers a file of ``/proc`` or a disk cannot."""
        values: dict[str, float] = {}
        for read in (self._processor, self._memory, self._disk, self._traffic):
            with contextlib.suppress(Exception):  # psutil passes on what its files and the machine raise
                values |= read()
        for number, gpu in enumerate(self._gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in _gpu_sample(*gpu).items()}
        return {PREFIX + name: round(float(value), 1) for name, value in values.items()}

    def _processor(self) -> dict[str, float]:
        return {"cpu_utilization_percentage": self._psutil.cpu_percent()}

    def _memory(self) -> dict[str, float]:
        memory = self._psutil.virtual_memory()
        return {
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.used / memory.total * 100,
        }

    def _disk(self) -> dict[str, float]:
        disk = self._psutil.disk_usage(os.sep)
        return {
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / _MB,
            "disk_available_megabytes": disk.free / _MB,
        }

    def _traffic(self) -> dict[str, float]:
        network = self._psutil.net_io_counters()
        if network is None or self._network is None:
            return {}
        return {
            "network_receive_megabytes": (network.bytes_recv - self._network.bytes_recv) / _MB,
            "network_transmit_megabytes": (network.bytes_sent - self._network.bytes_sent) / _MB,
        }


def _gpus() -> list[tuple[Any, Any]]:
    """(pynvml, handle) of every NVIDIA GPU that answers."""
    try:
        pynvml = importlib.import_module("pynvml")
        pynvml.nvmlInit()
        return [(pynvml, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # not installed, no driver, no GPU: pynvml has an error class for each
        return []


def _gpu_sample(pynvml: Any, handle: Any) -> dict[str, float]:
    values: dict[str, float] = {}
    # Each reading may be missing on a given board.
    with contextlib.suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        values["memory_usage_percentage"] = memory.used / memory.total * 100
        values["memory_usage_megabytes"] = memory.used / _MB
    with contextlib.suppress(pynvml.NVMLError):
        values["utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    with contextlib.suppress(pynvml.NVMLError):
        power = pynvml.nvmlDeviceGetPowerUsage(handle)
        values["power_usage_watts"] = power / 1000
        values["power_usage_percentage"] = power / pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 100
    return values
