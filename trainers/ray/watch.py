"""A job of a Ray cluster watched: state, log and journal flow into the run's journal, each thing once, to the end.

Ray does not start a job again whose node died, so this does: under the next name, from the state under ``--output``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracking import names
from tracking.journal import Journal
from trainers.launch.job import State
from trainers.ray.client import RayClient
from trainers.ray.job import KIND, STATES, with_variables
from trainers.ray.node import NAME
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.logs import Line
from trainers.sagemaker.aws.uri import is_s3
from trainers.sagemaker.errors import NameTaken
from trainers.sagemaker.job.ledger import Entry
from trainers.sagemaker.job.phases import Phase
from trainers.sagemaker.watch.one_job import SETTLE_S, JobWatch
from trainers.sagemaker.watch.outcome import Listener, Outcome
from trainers.sagemaker.watch.remote_journal import FolderJournal, RemoteJournal

MOST_LOSSES = 3  # in a row, without a new epoch in between
_KNOWN_SOON_S = 60.0
_LATE_JOURNAL_S = 90.0  # a shared folder may show the last lines later than Ray shows the end
_PHASE = {"PENDING": "waiting", "RUNNING": "training", "SUCCEEDED": "ended", "STOPPED": "ended", "FAILED": "ended"}
_STATUS: Mapping[State, str] = {"finished": "FINISHED", "killed": "KILLED", "failed": "FAILED"}
_NO_ROOM = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"  # a quarter of an hour without room; Ray then gives the job up
# The run itself failed; every other error is the cluster's.
_RUNS_OWN = ("JOB_ENTRYPOINT_COMMAND_ERROR", "JOB_ENTRYPOINT_COMMAND_START_ERROR")


class RayWatch(JobWatch):
    """One job of a cluster between its submission and its last line."""

    def __init__(
        self,
        entry: Entry,
        *,
        journal: Journal | None = None,
        listener: Listener | None = None,
        settle_s: float = SETTLE_S,
        client: RayClient | None = None,
    ) -> None:
        self.client = client or RayClient(entry.request["Address"])
        super().__init__(entry, Aws(clock=self.client.clock), journal=journal, listener=listener, settle_s=settle_s)

    @property
    def state(self) -> State:
        """The job's state when last looked at."""
        if self.outcome is not None:
            return self.outcome.state
        if self.description.get("driver_exit_code") in (130, 143):  # asked to end by someone on the node
            return "killed"
        return STATES.get(self.description.get("status", "PENDING"), "running")

    @property
    def phase(self) -> str:
        """What the job does, in a word; "" before the first look."""
        return _PHASE.get(self.description.get("status", ""), "")

    def billed_s(self) -> float:
        """Nothing is billed."""
        return 0.0

    def cost_usd(self) -> float | None:
        """What a cluster costs is not known here."""
        return None

    def send(self) -> Entry:
        """Submit the job once, if it was not; the entry as taken. Raises AwsError."""
        while self.entry.submitted_ms is None:
            job = self.entry.request["Job"]
            if not self.client.has_sources(job["runtime_env"]["working_dir"]):  # forgotten with the head's memory
                runtime_env = {**job["runtime_env"], "working_dir": self.client.send_sources()}
                job = {**job, "runtime_env": runtime_env}
                self.entry = self.entry.changed(request={**self.entry.request, "Job": job})
            variables = {**job["runtime_env"]["env_vars"], NAME: self.entry.name}
            try:
                self.client.submit({**with_variables(job, variables), "submission_id": self.entry.name})
            except NameTaken:
                info = self.client.info(self.entry.name) or {}
                if (info.get("metadata") or {}).get(names.JOURNAL_ID) != self.entry.journal_id:
                    self.entry = self.entry.renamed()
                    continue
            self.entry = self.entry.changed(submitted_ms=int(self.client.clock.now() * 1000))
        return self.entry

    def _send_when_possible(self, on_news: Callable[[str], None]) -> Entry:
        return self.send()

    def stop(self, on_ended: Callable[[str], None] = lambda why: None) -> Entry:
        """Ask the job to end; of one that has ended ``on_ended`` gets Ray's words."""
        info = self.client.info(self.entry.name)
        if info is None:
            if self.entry.submitted_ms is not None:
                on_ended("the cluster does not know it")
        elif info["status"] not in ("PENDING", "RUNNING"):
            on_ended(f"it is {info['status']}")
        elif self.client.stop(self.entry.name) and self.entry.submitted_ms is None:
            self.entry = self.entry.changed(submitted_ms=int(self.client.clock.now() * 1000))
        return self.entry

    def look(self) -> None:
        """Ask for the job's state, and record nothing."""
        self.description = self.client.info(self.entry.name) or {"status": "FAILED"}

    def poll(self) -> None:
        """Look once and record what is new. Raises as ``JobWatch.poll``."""
        if self.outcome is not None:
            return
        self.open()
        if self._journal is None:  # all was done before
            return
        now = self.client.clock.now()
        if not self.has_ended:
            info = self.client.info(self.entry.name)
            if info is None and now - (self.entry.submitted_ms or 0) / 1000 < _KNOWN_SOON_S:
                return
            lost = {"status": "FAILED", "error_type": "FORGOTTEN", "driver_node_id": "?"}
            self.description = info or {**lost, "message": "the cluster no longer knows the job: its head began anew"}
            self._see_phase()
        news = self._take_log() + self._read_journal()
        if self.phase == "training":
            self._judge((self.description.get("start_time") or 0) / 1000, None)
        if self.has_ended and not self._goes_on():
            since = self._state.setdefault("ended_seen_s", now)
            is_whole = self._remote is None or self._state.get("node_status") == _STATUS[self.state]
            if is_whole or (not news and (self.state != "finished" or now - since > _LATE_JOURNAL_S)):
                self._end()
        if self._taker is not None:
            self._save()

    def _open_remote(self, state: dict[str, Any]) -> RemoteJournal | None:
        output = self.entry.request["Output"]
        if not output:
            return None
        return RemoteJournal(self.aws, output, state) if is_s3(output) else FolderJournal(Path(output), state)

    def _see_phase(self) -> None:
        assert self._journal is not None
        message = str(self.description.get("message") or "").partition("\n")[0][:300]
        if self._state.get("phase") == [self.phase, message]:
            return
        now = self.client.clock.now()
        if (self._state.get("phase") or [""])[0] != self.phase:
            self._journal.tags({names.JOB_PHASE: self.phase}, time_ms=int(now * 1000))
        self._state["phase"] = [self.phase, message]
        self.listener.phase(self.entry, Phase(self.phase, now, None, message))

    def _take_log(self) -> int:
        """Write what the job printed since to the log file; how many lines."""
        text, seen = self.client.logs(self.entry.name), self._state.get("log_seen", 0)
        whole = text if self.has_ended else text[: text.rfind("\n") + 1]
        if len(whole) <= seen:
            return 0
        new = whole[seen:]
        with self._log.open("ab") as stream:
            stream.write((new if new.endswith("\n") else f"{new}\n").encode("utf-8", "replace"))
            self._state["log_bytes"] = stream.tell()
        self._state["log_seen"] = len(whole)
        now_ms = int(self.client.clock.now() * 1000)
        lines = [Line(now_ms, "", line) for line in new.splitlines()]
        self.listener.lines(self.entry, lines)
        return len(lines)

    def _read_journal(self) -> int:
        assert self._taker is not None
        count = 0
        for event in self._remote.read() if self._remote is not None else ():
            count += 1
            if event["event"] == "status":
                self._state |= {"node_status": event["status"], "node_reason": event.get("reason", "")}
            else:
                self._taker.take_event(event)
        return count

    def _goes_on(self) -> bool:
        """Whether the cluster lost the job, and it is to be submitted again under the next name."""
        info = self.description
        error, message = info.get("error_type"), str(info.get("message") or "")
        is_own = error in _RUNS_OWN or info.get("driver_exit_code") is not None
        if error is None and not is_own:  # older versions name no kind
            is_own = "exit code" in message or "application-level" in message
        if self.state != "failed" or is_own:
            return False
        self._state["lost"] = message.partition("\n")[0]
        if not self.entry.request["Output"] and info.get("driver_node_id"):
            return False
        epoch, former = self._state.get("progress", {}).get("epoch", 0), self._state.get("losses", [-1, 0])
        count = 1 if epoch > former[0] else former[1] + 1
        if error != _NO_ROOM:
            if count > MOST_LOSSES:
                return False
            self._state["losses"] = [epoch, count]
        assert self._journal is not None
        self._state |= {"log_seen": 0, "phase": None}
        self._state.pop("node_status", None)
        self._save()
        self.entry = replace(self.entry, submitted_ms=None).renamed()
        self._journal.tags({names.JOB_NAME: self.entry.name}, time_ms=int(self.client.clock.now() * 1000))
        self.listener.say(self.entry, f"submitted again: {self._state['lost'][:200]}")
        self.description = {}
        return True

    def _end(self) -> None:
        assert self._journal is not None and self._taker is not None
        if self._remote is not None:
            self._remote.files(self.entry.directory / "files", with_log=not self._log.stat().st_size)
            self._taker.take_artifacts()
        state, advice, kind = self.state, "", ""
        reason = (
            self._state.get("stopped_for")
            or self._state.get("node_reason")
            or str(self.description.get("message") or "").partition(", last")[0]
        )
        if state == "failed" and not self._state.get("node_reason") and self._log.stat().st_size:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = f"{reason.partition(chr(10))[0]}: {lines[-1].strip()[:400]}"
        if state == "finished" and self._remote is not None and self._state.get("node_status") != "FINISHED":
            output = self.entry.request["Output"]
            state, reason = "failed", f"the job ended well, and its journal is not in {output}."
            kind, advice = "output", "Give --output with a folder that the nodes and this machine share."
        elif state == "failed" and self._state.get("lost"):
            kind, reason = "node", self._state["lost"]
            advice = f"The cluster lost the job {MOST_LOSSES + 1} times without a new epoch: give more --memory."
            if not self.entry.request["Output"]:
                advice = "Its state was on the node that is gone; with --output it would have gone on."
        end_ms = int(self.description.get("end_time") or self.client.clock.now() * 1000)
        self._journal.tags(
            {names.JOB_PHASE: "ended", names.FAILURE_KIND: kind or None, names.ADVICE: advice or None}, time_ms=end_ms
        )
        if self._log.stat().st_size:
            self._journal.artifact(self._log, time_ms=end_ms)
        outcome = Outcome(name=self.entry.name, state=state, reason=reason, kind=kind, advice=advice)
        if state == "finished":
            outcome = Outcome(name=self.entry.name, state=state, reason="")
        self._close(outcome, _STATUS[state], f"{outcome.reason} {advice}".strip(), end_ms)


def watch_of(entry: Entry, aws: Aws, **how: Any) -> JobWatch:
    """The watch of a job, wherever it runs."""
    return RayWatch(entry, **how) if entry.kind == KIND else JobWatch(entry, aws, **how)
