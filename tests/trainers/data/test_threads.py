"""Jobs on threads: their order, how many wait, errors, an early end, and machines where no thread begins."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import pytest

from tracking.journal.background import in_background
from trainers.data.pictures import threads
from trainers.data.pictures.threads import in_order


def test_results_come_in_order_and_few_of_them_wait() -> None:
    asked: list[int] = []

    def jobs() -> object:
        for number in range(50):
            asked.append(number)
            yield number

    def square(number: int) -> int:
        threading.Event().wait(0.002 * (number % 3))
        return number**2

    found = []
    for result in in_order(square, jobs(), 3, 4):  # type: ignore[arg-type]
        found.append(result)
        assert len(asked) - len(found) <= 4
    assert found == [number**2 for number in range(50)]


def test_an_error_comes_in_its_turn_and_ends_the_rest() -> None:
    done: list[int] = []

    def act(number: int) -> int:
        if number == 2:
            raise ValueError("the third")
        done.append(number)
        return number

    results = in_order(act, range(1000), 2, 4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(done) < 20


def test_to_close_it_waits_for_what_runs() -> None:
    running, ended = threading.Event(), threading.Event()

    def act(number: int) -> int:
        if number == 1:
            running.set()
            threading.Event().wait(0.1)
            ended.set()
        return number

    results = in_order(act, range(10), 1, 3)
    assert next(results) == 0 and running.wait(30)
    results.close()
    assert ended.is_set()


def never(_: Callable[[], None]) -> threading.Event:
    return threading.Event()


def test_where_no_thread_begins_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "in_background", never)
    monkeypatch.setattr(threads, "_PATIENCE_S", 0.001)
    assert list(in_order(str, range(20), 4, 8)) == [str(number) for number in range(20)]


def test_a_caller_that_waits_long_makes_no_more_at_once_and_none_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_PATIENCE_S", 0.001)
    act = Counted()
    results = in_order(act, range(12), 2, 4)
    kept = [weakref.ref(next(results)) for _ in range(12)]
    assert act.most == 2
    for _ in range(500):  # the thread of the last one has it in hand for a moment more
        if not any(one() for one in kept):
            break
        threading.Event().wait(0.01)
    assert not any(one() for one in kept), "the threads hold on to what they have made"
    results.close()


class Held:
    """Something that can be watched going."""

    def __init__(self, number: int) -> None:
        self.number = number


class Counted:
    """A job that takes a while, and how many of it there are at once."""

    def __init__(self) -> None:
        self.most, self._now, self._lock = 0, 0, threading.Lock()

    def __call__(self, number: int) -> Held:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        threading.Event().wait(0.02)
        with self._lock:
            self._now -= 1
        return Held(number)


def test_where_some_threads_begin_the_caller_does_the_work_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Callable[[], None]] = []

    def one_only(work: Callable[[], None]) -> threading.Event:
        begun.append(work)
        return in_background(work) if len(begun) == 2 else threading.Event()

    monkeypatch.setattr(threads, "in_background", one_only)
    monkeypatch.setattr(threads, "_PATIENCE_S", 0.001)
    assert list(in_order(str, range(20), 4, 8)) == [str(number) for number in range(20)]


def test_threads_that_begin_late_make_no_more_at_once_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(work: Callable[[], None]) -> threading.Event:
        threading.Timer(0.05, work).start()
        return threading.Event()

    monkeypatch.setattr(threads, "in_background", late)
    monkeypatch.setattr(threads, "_PATIENCE_S", 0.001)
    act = Counted()
    assert [made.number for made in in_order(act, range(12), 2, 4)] == list(range(12))
    assert act.most == 2
