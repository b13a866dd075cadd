"""The machine's load: MLflow's names, a first and a last sample, and no run that suffers from it."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tracking import run as tracked
from tracking.journal import Journal
from tracking.journal.events import read
from tracking.journal.system import Machine, Sampler
from tracking.store import Store
from tracking.store.replay import replay

NAMES = {
    "system/cpu_utilization_percentage",
    "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
    "system/disk_usage_percentage",
    "system/disk_usage_megabytes",
    "system/disk_available_megabytes",
    "system/network_receive_megabytes",
    "system/network_transmit_megabytes",
}
GPU_NAMES = {
    f"system/gpu_0_{name}"
    for name in (
        "memory_usage_percentage",
        "memory_usage_megabytes",
        "utilization_percentage",
        "power_usage_watts",
        "power_usage_percentage",
    )
}


def samples(directory: Path) -> list[dict[str, Any]]:
    return [event for event, _ in read(directory) if event["event"] == "metric"]


def test_the_names_and_their_values_are_those_of_mlflow() -> None:
    import psutil
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    ours = Machine(psutil).sample()
    theirs: dict[str, float] = {}
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        theirs |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
    assert set(ours) - GPU_NAMES == set(theirs) == NAMES
    for name in ("system/system_memory_usage_megabytes", "system/disk_usage_megabytes"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.2)
    assert 0 <= ours["system/cpu_utilization_percentage"] <= 100


def test_a_gpu_is_read_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class NVMLError(Exception):
        pass

    def no_limit(handle: str) -> int:
        raise NVMLError("not supported on this board")

    fake = types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: f"gpu {number}",
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=2e9, total=8e9),
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=70),
        nvmlDeviceGetPowerUsage=lambda handle: 150_000,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 300_000 if handle == "gpu 0" else no_limit(handle),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    values = {k: v for k, v in Machine(psutil).sample().items() if "gpu" in k}
    assert {k: v for k, v in values.items() if k in GPU_NAMES} == {
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_memory_usage_megabytes": 2000.0,
        "system/gpu_0_utilization_percentage": 70.0,
        "system/gpu_0_power_usage_watts": 150.0,
        "system/gpu_0_power_usage_percentage": 50.0,
    }
    assert values["system/gpu_1_power_usage_watts"] == 150.0
    assert "system/gpu_1_power_usage_percentage" not in values


@pytest.mark.parametrize("broken", [None, types.SimpleNamespace(nvmlInit=lambda: 1 / 0)])
def test_without_a_gpu_or_its_driver_there_is_the_rest(monkeypatch: pytest.MonkeyPatch, broken: Any) -> None:
    import psutil

    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert set(Machine(psutil).sample()) == NAMES


@pytest.mark.parametrize(
    ("reading", "error", "missing"),
    [  # as psutil raised them in containers, on Android and on odd kernels
        ("cpu_percent", PermissionError(13, "Permission denied", "/proc/stat"), "cpu"),
        ("virtual_memory", RuntimeError("no usable information in /proc/meminfo"), "system_memory"),
        ("disk_usage", OSError(107, "Transport endpoint is not connected"), "disk"),
        ("net_io_counters", FileNotFoundError(2, "No such file or directory", "/proc/net/dev"), "network"),
    ],
)
def test_a_reading_that_fails_keeps_none_of_the_others_out(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, reading: str, error: Exception, missing: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"psutil.{reading}", fail)
    with tracked.start(live=False) as run:
        run.log_metrics({"loss": 1}, step=1)
    found = [set(event["values"]) for event in samples(run.dir) if "loss" not in event["values"]]
    assert found == [{name for name in NAMES if f"system/{missing}_" not in name}] * 2


def test_a_short_run_has_a_first_and_a_last_sample(workdir: Path) -> None:
    with tracked.start(live=False) as run:
        run.log_metrics({"loss": 1}, step=1)
    found = [event for event in samples(run.dir) if "loss" not in event["values"]]
    assert [event["step"] for event in found] == [0, 1]
    assert set(found[0]["values"]) >= NAMES
    with tracked.resume(run.dir, live=False):
        pass
    assert [e["step"] for e in samples(run.dir) if "loss" not in e["values"]] == [0, 1, 2, 3]


def test_samples_are_taken_at_the_interval_and_end_with_the_journal(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, experiment="exp", run_name=None)
    sampler = Sampler(journal, interval_s=0.005)
    sampler.start()
    while len(samples(journal.dir)) < 5:
        pass
    sampler.stop()
    steps = [event["step"] for event in samples(journal.dir)]
    assert steps == list(range(len(steps)))
    going_on = Sampler(journal, interval_s=0.005)
    journal.close()
    going_on.start()
    going_on.stop()
    assert len(samples(journal.dir)) == len(steps)


def test_a_run_goes_on_where_no_thread_can_be_started(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("_thread.start_new_thread", refuse)
        with tracked.start(flush_s=60) as run:
            run.log_metrics({"loss": 1}, step=1)
    assert "no thread can be started" in capsys.readouterr().err
    assert replay(run.dir, store).status == "FINISHED"


def test_a_run_goes_on_where_psutil_is_missing(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with tracked.start(live=False) as run:
        run.log_metrics({"loss": 1}, step=1)
    assert run.status == "FINISHED"
    assert [event["values"] for event in samples(run.dir)] == [{"loss": 1.0}]
