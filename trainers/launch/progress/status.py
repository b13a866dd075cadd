"""``--status``: how a study's runs are now, from journals and storage alone; nothing is started and nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import TrackingError
from tracking.errors.words import money, plural
from tracking.journal.files import is_held, writer
from trainers.config.study import PlannedRun, Study
from trainers.errors import BadConfig
from trainers.launch.progress.follow import Followed, Journals
from trainers.launch.progress.table import Row, show
from trainers.launch.study import StudyPlan, grown

if TYPE_CHECKING:
    from tracking.store import Store

_ENDS = {"FINISHED": "finished", "FAILED": "failed"}
_OVER = ("finished", "failed", "pruned", "killed")


class Status:
    """What can be known of a study without touching it. ``job_of`` says how the job of a journal is, "" for none."""

    def __init__(self, study: Study, store: Store, job_of: Callable[[Path], str] = lambda directory: "") -> None:
        self.study, self.store, self._job_of = study, store, job_of
        self._journals = Journals(store.journals, study.name)
        self.reasons: dict[str, str] = {}

    def print(self) -> None:
        """The table of all runs, what it means, and why runs failed."""
        rows = self._trials() if self.study.search is not None else self._runs()
        print(f"study {self.study.name}: {self.study.title}")
        show(rows, self._title(rows))
        for name, reason in self.reasons.items():
            print(f"{name}: {reason}")
        print(self._what_now(rows))

    def _runs(self) -> list[Row]:
        study, plan = self.study, StudyPlan.of(self.study)
        known = {planned.key: self._journals.find(planned.key) for planned in study.runs}
        elsewhere = {}
        if study.repeat is not None or None in known.values():
            elsewhere = self._in_store()
            plan.done = {key: run.info.run_id for key, run in elsewhere.items() if run.info.status == "FINISHED"}
            try:
                self.study, _ = grown(study, plan, self.store)
            except TrackingError as error:
                print(f"note: {error}", file=sys.stderr)
        return [self._of_run(planned, elsewhere.get(planned.key)) for planned in self.study.runs]

    def _of_run(self, planned: PlannedRun, run: Any) -> Row:
        name, directory = str(planned.config.run_name), self._journals.find(planned.key)
        if directory is not None:
            return self._of_journal(name, directory, planned.config.epochs)
        if run is None:
            return Row(name=name, state="waiting")
        state = _ENDS.get(run.info.status, "running" if run.info.status == "RUNNING" else "interrupted")
        metrics = run.data.metrics
        return Row(
            name=name,
            state=state,
            score=metrics.get(names.BEST_VALIDATION_ACCURACY, metrics.get(names.VALIDATION_ACCURACY)),
            images_per_s=metrics.get(names.IMAGES_PER_S),
            cost_usd=metrics.get(names.COST_USD),
        )

    def _of_journal(self, name: str, directory: Path, epochs: int | None) -> Row:
        search = self.study.search
        try:
            followed, held = Followed(directory).look(), is_held(directory)
        except TrackingError as error:
            self.reasons[name] = str(error)
            return Row(name=name, state="unreadable")
        state = _ENDS.get(followed.status, "interrupted")
        if state == "interrupted":
            state = self._job_of(directory) or ("running" if held else state)
            state = "running" if held and state == "unwatched" else state
        if state == "failed":
            self.reasons[name] = followed.reason or "failed; its log in MLflow says why"
        return followed.row(name, state, epochs, None if search is None else search.usd_per_hour)

    def _trials(self) -> list[Row]:
        from trainers.launch import sampler

        assert self.study.search is not None
        return [self._of_trial(trial) for trial in sampler.recorded(self.study.name, self.study.search, self.store)]

    def _of_trial(self, trial: dict[str, Any]) -> Row:
        from trainers.launch.search import trial_name

        search, name = self.study.search, trial_name(trial["number"], trial["params"])
        assert search is not None
        begun = [found for key in trial.get("runs", ()) if (found := self._journals.find(key)) is not None]
        try:
            epochs = search.configs(trial["params"])[0].epochs
        except BadConfig:
            epochs = None
        row = self._of_journal(name, begun[-1], epochs) if begun else Row(name=name, state="interrupted")
        state = {"complete": "finished", "pruned": "pruned", "fail": "failed"}.get(trial["state"])
        if state is None:  # under way, by the storage; whether it is, the process that trains it says
            both_on = row.state != "running" and self._is_running()
            return replace(row, state="starting" if both_on else row.state)
        self.reasons.pop(name, None)
        if state == "failed":
            self.reasons[name] = str(trial.get("why", "failed"))
        score = trial["values"].get(names.VALIDATION_ACCURACY, row.score)
        return replace(row, state=state, score=score, left_s=None, cost_usd=trial.get("cost_usd", row.cost_usd))

    def _in_store(self) -> dict[str, Any]:
        """Key → the newest run in MLflow of each planned run, for those that were trained on other machines."""
        try:
            found = list(self.store.runs(None, f"tags.{names.STUDY} = '{self.study.name}'"))
        except TrackingError as error:
            print(f"note: what other machines did is not known: {error}", file=sys.stderr)
            return {}
        found.sort(key=lambda run: run.info.start_time or 0)
        return {run.data.tags.get(names.STUDY_RUN, ""): run for run in found}

    def _is_running(self) -> bool:
        own = self._journals.find("")
        return own is not None and is_held(own)

    def _title(self, rows: list[Row]) -> str:
        search = self.study.search
        total = plural(len(rows), "run") if search is None else plural(max(search.trials, len(rows)), "trial")
        said = [f"{sum(row.state in _OVER for row in rows)} of {total} ended"]
        scores = [row.score for row in rows if row.state == "finished" and row.score is not None]
        said += [f"best {max(scores):.4f}"] if scores else []
        costs = [row.cost_usd for row in rows if row.cost_usd is not None]
        return " · ".join([*said, *([f"{money(sum(costs))} so far"] if costs else [])])

    def _what_now(self, rows: list[Row]) -> str:
        """Whether something trains, and what goes on with what is left."""
        search, own = self.study.search, self._journals.find("")
        states = {row.state for row in rows}
        left = states - {"finished", "pruned"} or (search is not None and len(rows) < search.trials)
        if own is not None and is_held(own):
            process = writer(own)
            return f"the study is running: process {process.get('pid', '?')} on {process.get('host', '?')}"
        if "unwatched" in states:
            return "unwatched jobs go on at AWS; to follow them: python -m trainers.jobs watch"
        if "running" in states:
            goes_on = "takes them up" if search is not None else "goes on with the rest once they have ended"
            return (
                f"no process of this machine carries the study out, and runs are under way; the same command {goes_on}"
            )
        if not left:
            return "the study is done"
        others = self._journals.others([planned.key for planned in self.study.runs]) if search is None else 0
        more = f"; {plural(others, 'run')} of it had other settings" if others else ""
        begun = rows and states != {"waiting"}
        return f"nothing is running{more}; the same command without --status {'goes on' if begun else 'begins'}"
