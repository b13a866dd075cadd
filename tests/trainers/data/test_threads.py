"""Jobs on threads: their order, how many wait, errors, an early end, and machines where no thread begins."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

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
