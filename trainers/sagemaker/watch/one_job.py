"""One job watched: status, log and the container's journal flow into the run's journal, each thing once, to the end.

``watch.json`` beside the journal says how far everything was read. It is written after the journal, so a watcher
that dies in between reads some things again; those are recognised by their times and left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tracking import names
from tracking.journal import Journal
from tracking.journal.files import whole_file
from tracking.journal.system import PREFIX
from trainers.errors import TrainerError
from trainers.launch.job import ENDED as ENDED_STATES
from trainers.launch.job import State
from trainers.launch.watching import notify
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.logs import Line, LogReader
from trainers.sagemaker.builtin import log
from trainers.sagemaker.cost import pricing
from trainers.sagemaker.errors import AwsError, NotAllowed, NotFound, QuotaReached, Rejected
from trainers.sagemaker.job import ledger, phases, queue, submit
from trainers.sagemaker.job.launcher import SageMakerJob
from trainers.sagemaker.watch import end as watch_end
from trainers.sagemaker.watch import reasons
from trainers.sagemaker.watch.end import STATE_FILE
from trainers.sagemaker.watch.events import EventLog
from trainers.sagemaker.watch.health import Health
from trainers.sagemaker.watch.outcome import Listener, Outcome, Silent
from trainers.sagemaker.watch.remote_journal import RemoteJournal

LOG_FILE = "log.txt"
# Lines arrive after the last status; a job's log is complete when none has come for so long.
SETTLE_S, LONGEST_SETTLE_S = 20.0, 600.0
_LATE_STREAM = 4.5  # times as long after the end, a stream that is not there yet is no longer waited for
_LATE_LINES = 15.0  # the same for epochs that a completed job must have had and that its log does not show yet
_LATE_BILL_S = 900.0  # after the end, a bill that is not there yet is no longer asked for
_KNOWN_SOON_S = 60.0  # a job just made may be unknown for a moment


class JobWatch:
    """One job between its submission and its last line. ``poll`` looks once; ``outcome`` is set when all is done."""

    def __init__(
        self,
        entry: ledger.Entry,
        aws: Aws,
        *,
        journal: Journal | None = None,
        listener: Listener | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        """``journal``: the open one of a job just launched; otherwise it is reopened by the first poll.

        ``settle_s`` without a new line after the end, and the log counts as complete.
        """
        self._settle_s = settle_s
        self.entry, self.aws = entry, aws
        self.listener: Listener = Silent() if listener is None else listener
        self.description: dict[str, Any] = {}
        self.outcome: Outcome | None = None
        self._journal = journal
        self._state: dict[str, Any] = {}
        self._taker: EventLog | None = None

    @property
    def state(self) -> State:
        """The job's state when last looked at."""
        if self.outcome is not None:
            return self.outcome.state
        return phases.state(self.description) if self.description else "waiting"

    @property
    def phase(self) -> str:
        """What the job does, in a word; "" before the first look."""
        found = phases.phases(self.description)
        return found[-1].name if found else ""

    @property
    def has_ended(self) -> bool:
        """Whether AWS is done with it; lines may still come."""
        return self.state in ENDED_STATES

    @property
    def progress(self) -> Mapping[str, Any]:
        """What the log last said: ``epoch``, ``validation_accuracy``, ``images_per_s`` as far as known."""
        return dict(self._state.get("progress", {}))

    def billed_s(self) -> float:
        """Seconds billed so far."""
        if self.outcome is not None:
            return self.outcome.billable_s or 0.0
        return phases.billed_s(self.description, self.aws.clock.now()) if self.description else 0.0

    def cost_usd(self) -> float | None:
        """Money spent so far, None without a price."""
        if self.outcome is not None:
            return self.outcome.cost_usd
        price = watch_end.price_of(self.entry, self.description)
        if price is None:
            return None
        count = phases.instances(self.description)[1] if self.description else self.entry.num_instances
        return pricing.cost_usd(self.billed_s(), count, price.usd)

    def poll(self) -> None:
        """Look once and record what is new.

        Raises Unreachable and NotAllowed (try again later), JournalError (disk full, or another process watches).
        """
        if self.outcome is not None:
            return
        self.open()
        if self._journal is None:  # all was done before
            return
        ended = phases.end(self.description) if self.description else None
        if ended is None:
            described = self._describe()
            if described is None:
                return
            self.description = described
            ended = phases.end(described)
            self._see_phases()
        news = self._read_log(drain=ended is not None) + self._read_journal()
        if ended is not None and self._goes_on_elsewhere(ended):
            return
        if ended is None:
            self._look_after()
        elif self._has_settled(news, ended.end_s):
            self._finish(ended)
        self._save()

    def close(self) -> None:
        """Let go of the journal; the job goes on, and another watch picks it up."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def abandon(self, reason: str, kind: str, advice: str = "") -> None:
        """End the run of a job that there is not and will not be: ``stopped`` is KILLED, other kinds are FAILED.

        One that was never launched cost nothing; what one cost that AWS has forgotten is not known.
        """
        self.open()
        if self.outcome is None:
            assert self._journal is not None
            now_ms = int(self.aws.clock.now() * 1000)
            state: State = "killed" if kind == "stopped" else "failed"
            cost = 0.0 if self.entry.submitted_ms is None else None
            outcome = Outcome(
                name=self.entry.name,
                state=state,
                reason=reason,
                kind=kind,
                advice=advice,
                billable_s=cost,
                cost_usd=cost,
            )
            self._journal.tags({names.FAILURE_KIND: kind, names.ADVICE: advice or None}, time_ms=now_ms)
            self._close(outcome, state.upper(), f"{reason} {advice}".strip(), now_ms)

    def launch(self, on_news: Callable[[str], None] = lambda text: None) -> ledger.Entry:
        """Send a job that was recorded, waiting for quota if need be, and release the journal; the entry as taken.

        Raises AwsError, NoCredentials, JournalError (another process holds it). Afterwards ``outcome`` is set where AWS
        refuses the job; otherwise it is left as it is, and sending it again launches it once.
        """
        try:
            self.open()
            if self.outcome is None:
                waits: list[str] = []

                def heard(text: str) -> None:
                    waits.append(text)
                    on_news(text)

                self.entry = self._send_when_possible(heard)
                if waits:
                    notify.tell(f"{self.entry.run_name or self.entry.name}: quota granted", "It is launched.")
            return self.entry
        except AwsError as error:
            self.refused(error)
            raise
        finally:
            self.close()

    def send(self) -> ledger.Entry:
        """Send the job once, if it was not; the entry as taken. Raises AwsError, QuotaReached where it has to wait."""
        self.entry = submit.send(self.aws, self.entry)
        return self.entry

    def stop(self, on_ended: Callable[[str], None] = lambda why: None) -> ledger.Entry:
        """Ask the job to end; as ``submit.stop``."""
        self.entry = submit.stop(self.aws, self.entry, on_ended=on_ended)
        return self.entry

    def look(self) -> None:
        """Ask for the job's state, and record nothing. Raises AwsError."""
        self.description = SageMakerJob(self.aws, self.entry).describe(patience_s=5.0)

    def refused(self, error: AwsError) -> bool:
        """End the run of a job that AWS will not have as it is; False where sending it later may help."""
        advice = ""
        if isinstance(error, QuotaReached) and error.is_hopeless:
            kind, advice = "quota", reasons.classify(f"ResourceLimitExceeded {error}").advice
        elif isinstance(error, NotAllowed) and not error.has_expired:
            kind = "permission"
        elif isinstance(error, (Rejected, NotFound)):
            kind = "settings"
        else:
            return False
        self.abandon(str(error), kind, advice)
        return True

    def open(self) -> None:
        """Take hold of the journal, so that no other process sends, stops or watches the job. Raises JournalError."""
        if self._taker is not None:
            return
        if self._journal is None and watch_end.stored_outcome(self.entry) is None:
            self._journal = Journal.reopen(self.entry.directory)
            # The process that held it before may have sent the job, or given it up.
            self.entry = ledger.load(self.entry.directory) or self.entry
        path = self.entry.directory / STATE_FILE
        try:
            self._state = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._state = {}
        except ValueError as error:
            raise TrainerError(f"{path} is damaged ({error}); delete it to read the job's log anew.") from error
        if "outcome" in self._state:
            self.outcome = Outcome(**self._state["outcome"])
            if not self.entry.ended:  # the watcher died between the two
                self.entry = self.entry.changed(ended=self.outcome.state)
            self.close()
            return
        self._log = self.entry.directory / "files" / LOG_FILE
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("ab") as stream:  # what was written after the state was kept is read again
            stream.truncate(self._state.setdefault("log_bytes", 0))
        self._reader = LogReader(self.aws, self.entry.training_job, self._state)
        self._remote = self._open_remote(self._state.setdefault("remote", {}))
        assert self._journal is not None
        self._taker = EventLog(self.entry, self._journal, self._state)
        self._health = Health(self.aws, self.entry, self._state, journal=self._journal, listener=self.listener)

    def _send_when_possible(self, on_news: Callable[[str], None]) -> ledger.Entry:
        return submit.send_when_possible(self.aws, self.entry, on_news=on_news)

    def _open_remote(self, state: dict[str, Any]) -> RemoteJournal | None:
        checkpoints = self.entry.request.get("CheckpointConfig", {}).get("S3Uri")
        is_own = self.entry.kind == ledger.OWN and checkpoints
        return RemoteJournal(self.aws, checkpoints, state) if is_own else None

    # looking

    def _describe(self) -> dict[str, Any] | None:
        try:
            answer = SageMakerJob(self.aws, self.entry).describe(patience_s=20.0)
        except NotFound:
            born_s = (self.entry.submitted_ms or 0) / 1000
            if self.aws.clock.now() - born_s < _KNOWN_SOON_S:
                return None
            self.abandon(
                "SageMaker no longer knows this job: it was deleted, or never made.", "stopped", "Launch it anew."
            )
            return None
        answer.pop("ResponseMetadata", None)
        if self.entry.queue is not None:
            self._see_attempt(answer)
        return answer

    def _see_attempt(self, answer: Mapping[str, Any]) -> None:
        """Of a queued job: read on with the training job of its newest attempt, and say what it waits for."""
        news = [answer["TrainingJobArn"], *(phase.message for phase in phases.phases(answer) if phase.name == "queued")]
        if self._state.get("attempt") != news:
            self._state |= {"attempt": news, "phases": 0}
        if answer["TrainingJobArn"] not in ("", self.entry.arn):
            self.entry = self.entry.changed(arn=answer["TrainingJobArn"])
            self._save()
            self._taker = None
            self.open()

    def _goes_on_elsewhere(self, end: phases.End) -> bool:
        """Whether AWS had no machine of the type, and the job, not sent yet, now wants the next type of its list."""
        had_none = "TrainingStartTime" not in self.description and (
            end.secondary in ("MaxWaitTimeExceeded", "MaxPendingTimeExceeded")
            or (end.status == "FAILED" and reasons.classify(end.reason).kind == "capacity")
        )
        if not had_none or not self.entry.fallback:
            return False
        assert self._journal is not None
        former = self.entry.instance_type
        self.entry = self.entry.on_next_type()
        kind = self.entry.instance_type
        self._journal.tags(
            {names.JOB_NAME: self.entry.name, names.INSTANCE_TYPE: kind}, time_ms=int(self.aws.clock.now() * 1000)
        )
        self.listener.say(self.entry, f"AWS has no {former} free; next: {kind}")
        self.description, self._state, self._taker = {}, {}, None
        self._save()
        return True

    def _see_phases(self) -> None:
        assert self._journal is not None
        kind = self.description.get("ResourceConfig", {}).get("SelectedInstanceType")
        if kind and self._state.get("selected") != kind:
            self._state["selected"] = kind
            self._journal.tags({names.INSTANCE_TYPE: kind}, time_ms=int(self.aws.clock.now() * 1000))
            self.listener.say(self.entry, f"on {kind}")
        found = phases.phases(self.description)
        seen = self._state.get("phases", 0)
        for phase in found[seen:]:
            self.listener.phase(self.entry, phase)
        if len(found) > seen and self._state.get("phase") != found[-1].name:
            self._journal.tags({names.JOB_PHASE: found[-1].name}, time_ms=int(found[-1].start_s * 1000))
            self._state["phase"] = found[-1].name
        self._state["phases"] = max(seen, len(found))

    def _read_log(self, *, drain: bool) -> int:
        """Write new lines to the log file and the metrics in them to the journal; how many there were."""
        attempts = phases.attempts(self.description)
        if self._state.get("no_logs") or not attempts:
            return 0
        count = 0
        try:
            expected = attempts * phases.instances(self.description)[1]
            for page in self._reader.read(expected=expected, drain=drain):
                self._take_lines(page)
                count += len(page)
            self._state["num_missing_streams"] = max(0, expected - self._reader.num_streams)
        except NotAllowed as error:
            if error.has_expired:
                raise
            self._state["no_logs"] = True
            self.listener.say(
                self.entry, f"The log cannot be read: {error} The job continues; metrics come at its end."
            )
        return count

    def _take_lines(self, page: Sequence[Line]) -> None:
        assert self._taker is not None
        text = "".join(line.text.rstrip("\n").replace("#011", "\t") + "\n" for line in page)
        with self._log.open("ab") as stream:
            stream.write(text.encode("utf-8", "replace"))
            self._state["log_bytes"] = stream.tell()
        if self.entry.kind == ledger.BUILTIN:
            is_alone = phases.instances(self.description)[1] == 1
            for line in page:
                machine = "" if is_alone else line.machine
                for text in line.text.splitlines():
                    for event in log.log_events(text):
                        self._taker.take_log_event(event, time_ms=line.time_ms, machine=machine)
                        if event["event"] in ("progress", "metric"):
                            self._health.signals.beat(line.time_ms / 1000)
        self.listener.lines(self.entry, page)

    def _read_journal(self) -> int:
        assert self._taker is not None
        if self._remote is None or "training" not in {phase.name for phase in phases.phases(self.description)}:
            return 0
        count = 0
        for event in self._remote.read():
            self._taker.take_event(event)
            if event["event"] == "metric":
                load = {name for name in event["values"] if name.startswith(PREFIX)}
                self._state["own_load"] = sorted(load.union(self._state.get("own_load", ())))
            count += 1
        return count

    def _look_after(self) -> None:
        """Read the machines' load, and stop the job where a rule finds what it is to be stopped for."""
        last = phases.phases(self.description)[-1:]
        if self._taker is None or not last or last[0].name != "training":
            return
        self._health.measure(self.description, self._taker)
        price = watch_end.price_of(self.entry, self.description)
        each = None if price is None else price.usd * phases.instances(self.description)[1]
        self._judge(last[0].start_s, each)

    def _judge(self, since_s: float, usd_per_hour: float | None) -> None:
        why = self._state["stopped_for"] = self._state.get("stopped_for") or self._health.judge(since_s, usd_per_hour)
        if why:
            self.stop()

    def _has_settled(self, news: int, end_s: float) -> bool:
        """Whether no more comes: of a job that ended long ago at once, else once nothing came for a while."""
        now = self.aws.clock.now()
        since_s = now - end_s
        if news or "last_news_s" not in self._state:
            self._state["last_news_s"] = now
        if since_s >= LONGEST_SETTLE_S:
            is_quiet = True  # all of it has just been read
        elif self._state.get("num_missing_streams") and since_s < self._settle_s * _LATE_STREAM:
            is_quiet = False  # a machine's log may appear after the job's end, all at once
        elif self._lacks_epochs() and since_s < self._settle_s * _LATE_LINES:
            is_quiet = False
        else:
            is_quiet = now - self._state["last_news_s"] >= self._settle_s
        if is_quiet and self._lacks_bill() and since_s < _LATE_BILL_S:
            self.description = self._describe() or self.description
            return not self._lacks_bill()
        return bool(is_quiet)

    def _lacks_epochs(self) -> bool:
        """Whether a job of the built-in that went to its end has not shown its last epoch in the log."""
        asked = str(self.entry.request.get("HyperParameters", {}).get("epochs", ""))
        completed = self.description.get("TrainingJobStatus") == "Completed" and asked.isdigit()
        if self.entry.kind != ledger.BUILTIN or not completed or self._state.get("no_logs"):
            return False
        may_stop_early = self.entry.request["HyperParameters"].get("early_stopping", "").lower() == "true"
        return not may_stop_early and int(self._state.get("last_step", 0)) < int(asked)

    def _lacks_bill(self) -> bool:
        return "BillableTimeInSeconds" not in self.description and "TrainingStartTime" in self.description

    # ending

    def _finish(self, end: phases.End) -> None:
        assert self._journal is not None and self._taker is not None
        if "WarmPoolStatus" in self.description:  # the bill of a kept machine grows
            self.description = self._describe() or self.description
        self._health.measure(self.description, self._taker)
        if self._remote is not None:
            self._remote.files(self.entry.directory / "files", with_log=not self._log.stat().st_size)
            self._taker.take_artifacts()
        if self.entry.kind == ledger.BUILTIN:
            final = log.final_metrics(self.description.get("FinalMetricDataList", []))
            self._taker.end_of_log(final, int(end.end_s * 1000))
        model_uri = watch_end.model_uri(self.aws, self.description)
        failure = reasons.failure_of(end, has_model=bool(model_uri))
        if end.secondary == "Stopped" and self._state.get("stopped_for"):
            end = replace(end, reason=self._state["stopped_for"])
        price = watch_end.price_of(self.entry, self.description)
        former = (
            queue.former_attempts(self.aws, self.entry, self.description["TrainingJobArn"])
            if self.entry.queue is not None
            else []
        )
        cost = None if price is None else watch_end.cost(self.entry, [*former, self.description])
        billable = self.description.get("BillableTimeInSeconds") if cost is None else cost.billable_s
        metrics, tags = watch_end.facts(self.entry, self.description, self._state, cost, price, model_uri)
        if failure is not None:
            tags |= {names.FAILURE_KIND: failure.kind, names.ADVICE: failure.advice}
        end_ms = int(end.end_s * 1000)
        self._taker.metrics(metrics, step=int(self._state.get("last_step", 0)), time_ms=end_ms)
        self._journal.tags(tags, time_ms=end_ms)
        if self._log.stat().st_size:
            self._journal.artifact(self._log, time_ms=end_ms)
        reason = end.reason if failure is None else f"{end.reason} {failure.advice}".strip()
        self._close(
            Outcome(
                name=self.entry.name,
                state=end.state,
                reason=end.reason,
                kind=failure.kind if failure else "",
                advice=failure.advice if failure else "",
                billable_s=None if billable is None else float(billable),
                cost_usd=None if cost is None else cost.usd,
                model_uri=model_uri,
                kept_usd_at_most=watch_end.kept_usd_at_most(self.description, price),
            ),
            end.status,
            reason,
            end_ms,
        )

    def _close(self, outcome: Outcome, status: str, reason: str, end_ms: int) -> None:
        assert self._journal is not None
        if not watch_end.has_status(self.entry.directory, status):
            self._journal.status(status, reason=reason, end_time_ms=end_ms, time_ms=end_ms)
        self._state["outcome"] = asdict(outcome)
        self._save()
        self.entry = self.entry.changed(ended=outcome.state)
        self.outcome = outcome
        self.close()

    def _save(self) -> None:
        with whole_file(self.entry.directory / STATE_FILE) as part:
            part.write_text(json.dumps(self._state), encoding="utf-8")
