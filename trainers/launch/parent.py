"""The run that stands for a whole study in MLflow: question, file, report; the study's runs are inside it."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking import run as tracked
from tracking.errors import TrackingError
from trainers.config.study import Study
from trainers.launch.progress.follow import Journals
from trainers.launch.watching import notify

if TYPE_CHECKING:
    from tracking.store import Store

_WAIT_S = 5.0


class StudyRun:
    """``with StudyRun(study, store) as whole:`` the study's run is open; one from before is gone on with.

    ``journal_id`` goes into the study's runs. Where another process has the study open, this one writes nothing to it.
    """

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.journal_id: str | None = None
        self._run: tracked.Run | None = None

    def __enter__(self) -> StudyRun:
        study, store = self.study, self.store
        former = Journals(store.journals, study.name).find("")
        if former is not None:
            self.journal_id = former.name
            try:
                self._run = tracked.resume(former, live=store, system_metrics=False)
            except TrackingError:  # another process has it open
                return self
        else:
            configs = [one.config for one in study.runs] if study.search is None else study.search.configs({})
            self._run = tracked.start(
                study.name,
                experiment=configs[0].experiment if configs else None,
                root=store.journals,
                live=store,
                system_metrics=False,
            )
            self.journal_id = self._run.journal_id
        self._run.__enter__()
        self._run.set_tags({names.STUDY: study.name, names.REPORT: "study", names.QUESTION: study.title})
        if study.file is not None and study.file.is_file():
            self._run.log_text(study.file.read_text(encoding="utf-8"), "study.toml")
        until = time.monotonic() + _WAIT_S
        while self._run.mlflow_run_id is None and time.monotonic() < until:
            time.sleep(0.02)  # its runs are shown inside it where MLflow has it before them
        return self

    def __exit__(self, *error: Any) -> None:
        if self._run is not None:
            self._run.__exit__(*error)

    def conclude(self, trials: Sequence[dict[str, Any]] = ()) -> None:
        """Keep what a search tried, and the study's answer as it is now, with the run."""
        if self._run is None:
            return
        if trials:
            self._run.log_text(json.dumps(list(trials), indent=1), names.STUDY_TRIALS)
        import reports

        try:
            answer = reports.study(self.study.name, self.store, trials=trials or None)
            print(answer.to_text())
            notify.tell(f"study {self.study.name}: ended", answer.to_text(), "success")
            with tempfile.TemporaryDirectory(dir=self._run.dir, prefix=".report-") as folder:
                for name in ("report.html", "report.md"):
                    answer.save(Path(folder) / name)
                for path in sorted(Path(folder).iterdir()):
                    self._run.log_artifact(path, "report" if path.is_dir() else None)
        except (reports.ReportError, TrackingError) as error:
            print(f"no report of the study: {error}", file=sys.stderr)
            notify.tell(f"study {self.study.name}: ended", f"no report of it: {error}", "warning")
