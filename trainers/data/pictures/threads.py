"""Run jobs on a few threads and take the results in order, never holding more than a few."""

from __future__ import annotations

import queue
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
    """``function`` of each job, in the order of ``jobs``, with at most ``ahead`` results waiting.

    The first error is raised in its turn; closing the generator waits for what runs and drops the rest. What no thread
    takes up is done by the caller: a thread may end before it begins where memory runs out, and
    ``ThreadPoolExecutor`` would wait for it forever.
    """
    waiting: deque[Future[Result]] = deque()
    todo: queue.SimpleQueue[tuple[Future[Result], Job] | None] = queue.SimpleQueue()

    def do(future: Future[Result], job: Job) -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(job))
            except BaseException as error:
                future.set_exception(error)

    def follow() -> None:
        while (task := todo.get()) is not None:
            do(*task)

    def first() -> Result:
        while not waiting[0].done():
            if not wait([waiting[0]], _PATIENCE_S).done:
                with suppress(queue.Empty):
                    if (task := todo.get_nowait()) is not None:
                        do(*task)
        return waiting.popleft().result()

    begun = 0
    try:
        for job in jobs:
            future: Future[Result] = Future()
            waiting.append(future)
            todo.put((future, job))
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
