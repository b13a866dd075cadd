"""A run of this process watched by a thread: its journal, its batches and its machine, by ``rules``."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Collection

from tracking import names
from tracking import run as tracked
from tracking.errors import TrackingError
from tracking.errors.redaction import hidden
from tracking.journal.background import in_background
from trainers.launch.watching import notify, rules
from trainers.training.experiment import Watcher
from trainers.training.interruption import Interruption

INTERVAL_S = 10.0


def watcher(stop_on: Collection[str] = ()) -> Watcher:
    """What ``experiment.run`` takes as ``watch``; ``stop_on`` are the rules that end the training."""
    return functools.partial(Watch, stop_on=stop_on)


class Watch:
    """``with Watch(run, asked):`` says each rule's finding once: on the screen, in the run's tags, in a message."""

    def __init__(self, run: tracked.Run, asked: Interruption, *, stop_on: Collection[str] = ()) -> None:
        self._run, self._asked, self._stop_on = run, asked, stop_on
        self._signals = rules.Signals(since_s=time.time())
        self._found: dict[str, str] = {}
        self._ending = threading.Event()

    def __enter__(self) -> Watch:
        self._over = in_background(self._go_on)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._over.wait(5.0)

    def _go_on(self) -> None:
        try:
            self._follow()
        except Exception as error:
            print(f"warning: the rules watch this run no longer: {hidden(str(error))}", flush=True)

    def _follow(self) -> None:
        while not self._ending.wait(INTERVAL_S):
            self._signals.follow(self._run.dir)
            if self._asked.polled_s > self._signals.sign_s:
                self._signals.beat(self._asked.polled_s)
            for finding in rules.judge(self._signals, time.time()):
                if finding.rule not in self._found:
                    self._say(finding)

    def _say(self, finding: rules.Finding) -> None:
        text = finding.text()
        self._found[finding.rule] = text
        print(f"warning: {text}", flush=True)
        notify.tell(f"run {(self._run.mlflow_run_id or self._run.journal_id)[:8]}: {finding.rule}", text, "warning")
        try:
            self._run.set_tags({names.FINDINGS: "\n".join(self._found.values())})
            if finding.rule in self._stop_on:
                self._asked.enough = f"by --stop-on {finding.rule}: {finding.what}."
                if finding.rule == "stuck":  # nothing in this process asks any more whether it is enough
                    self._run.finish("KILLED", f"stopped {self._asked.enough}")
                    notify.close()
                    os._exit(143)
        except TrackingError:
            return  # a full or closed journal: writing the run's own events raises
