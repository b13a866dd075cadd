"""Run jobs on a few threads and take the results in order, never holding more than a few."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TypeVar

from tracking.journal.background import in_background

Job = TypeVar("Job")
Result = TypeVar("Result")
_PATIENCE_S = 1.0


def in_order(
    function: Callable[[Job], Result], jobs: Iterable[Job], threads: int, ahead: int
) -> Generator[Result, None, None]:
    """``function`` of each job, in the order of ``jobs``, ``threads`` at once, at most ``ahead`` results waiting.

    The first error is raised in its turn; closing the generator waits for what runs and drops the rest. The caller
    does the work of a thread that has not begun: where memory runs out it never may, and ``ThreadPoolExecutor`` would
    wait for it forever.
    """
    waiting: deque[Future[Result]] = deque()
    todo: queue.SimpleQueue[tuple[Future[Result], Job] | None] = queue.SimpleQueue()
    at_work: list[int] = []
    turn = threading.Semaphore(threads)  # a thread may begin late, while the caller does its work

    def do(future: Future[Result], job: Job) -> None:
        with turn:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(job))
                except BaseException as error:
                    future.set_exception(error)

    def follow() -> None:
        at_work.append(threading.get_ident())
        while (task := todo.get()) is not None:
            do(*task)
            del task  # or a thread would keep its last result while it waits for the next job

    def first() -> Result:
        while not waiting[0].done():
            if not wait([waiting[0]], _PATIENCE_S).done and len(at_work) < begun:
                with suppress(queue.Empty):
                    if (task := todo.get_nowait()) is not None:
                        do(*task)
        return waiting.popleft().result()

    begun = 0
    try:
        for job in jobs:
            waiting.append(Future())
            todo.put((waiting[-1], job))
            if begun < threads:
                begun += 1
                in_background(follow)
            if len(waiting) >= ahead:
                yield first()
        while waiting:
            yield first()
    finally:
        for _ in range(begun):
            todo.put(None)
        wait([future for future in waiting if not future.cancel()])
