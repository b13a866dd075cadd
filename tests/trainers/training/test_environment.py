"""How busy others are: their share of the time that was not idle and not our own."""

from __future__ import annotations

import os
import time
from collections import namedtuple
from collections.abc import Callable

import pytest

from trainers.training.environment import Neighbours, OtherLoad

Times = namedtuple("Times", ("user", "system", "idle", "iowait"))
Own = namedtuple("Own", ("user", "system", "children_user", "children_system", "elapsed"))


class Machine:
    """Two cores whose clocks the test sets."""

    def __init__(self) -> None:
        self.times = Times(100.0, 10.0, 500.0, 5.0)

    def cpu_times(self) -> Times:
        return self.times


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The first answers of all three clocks; ``later`` moves them on."""
    clock, own = [1000.0], [Own(3.0, 1.0, 0.0, 0.0, 0.0)]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(os, "times", lambda: own[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    made = Machine()

    def later(wall: float, busy: float, mine: float) -> None:
        clock[0] += wall
        own[0] = own[0]._replace(user=own[0].user + mine)
        made.times = Times(100.0 + busy, 10.0, 500.0 + 2 * wall - busy - 1.0, 6.0)

    made.later = later  # type: ignore[attr-defined]
    return made


def test_others_work_is_what_is_neither_idle_nor_ours(machine: Machine) -> None:
    others = OtherLoad(machine)
    machine.later(4.0, 7.0, 1.0)  # type: ignore[attr-defined]
    assert others.busy_cores() == pytest.approx(1.5)
    note = others.note(2)
    assert note is not None and "1.5 of 2 cores" in note and "--num-threads 1" in note
    assert others.note(1) is None


def test_a_machine_with_room_is_not_spoken_of(machine: Machine) -> None:
    others = OtherLoad(machine)
    machine.later(4.0, 3.0, 2.8)  # type: ignore[attr-defined]
    assert others.busy_cores() == pytest.approx(0.05) and others.note(2) is None


def test_a_glimpse_is_no_measurement(machine: Machine) -> None:
    others = OtherLoad(machine)
    machine.later(0.1, 0.2, 0.0)  # type: ignore[attr-defined]
    assert others.busy_cores() == 0.0


def test_this_machines_clocks_can_be_read() -> None:
    assert OtherLoad().busy_cores() == 0.0


class Lamp:
    """Keeps what it was switched to."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on(self) -> None:
        self.said.append("on")

    def off(self) -> None:
        self.said.append("off")


class Busy:
    """Two cores, both at others' work until ``calm`` is set: of ten seconds at each look, or none."""

    def __init__(self) -> None:
        self.calm, self.user, self.looks = False, 100.0, 0

    def cpu_times(self) -> Times:
        self.looks += 1
        self.user += 0.0 if self.calm else 10.0
        return Times(self.user, 0.0, 500.0, 5.0)


@pytest.mark.parametrize("num_threads", [2, 1])
def test_threads_that_work_together_sleep_beside_neighbours(num_threads: int) -> None:
    lamp, busy = Lamp(), Busy()
    with Neighbours(num_threads, lamp, psutil=busy, every_s=0.6):
        if num_threads == 1:
            assert busy.looks == 0
        else:
            wait_for(lambda: lamp.said == ["on"])
            busy.calm = True
            wait_for(lambda: lamp.said == ["on", "off"])
    assert lamp.said[-1] == "off"


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
