"""Studies that search, with Optuna and a place that trains nothing: its runs are journals such as trainers write."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import sqlalchemy

import reports
import tests.support.runs  # noqa: F401  Optuna's sqlite file does not wait for the disk either
from tests.support.stores import make_store
from tracking import names
from tracking import run as tracked
from tracking.journal.events import journals
from tracking.store import Store
from trainers.config import Config
from trainers.config import study as studies
from trainers.errors import TrainerError
from trainers.evaluate import missing
from trainers.launch.job import State
from trainers.launch.parent import StudyRun
from trainers.launch.progress.follow import Followed
from trainers.launch.sampler import Chooser, public_url
from trainers.launch.search import Place, Searching, Tally, alone, close_dead

Score = Callable[[Config, int], float]
optuna = pytest.importorskip("optuna")
HEAD = """
title = "Which learning rate?"
[settings]
num_layers = 20
image_shape = "1,8,8"
epochs = 6
[search]
"""
SPACE = """
[search.space]
learning_rate = { low = 0.001, high = 1.0, log = true }
"""


class Job:
    """A run that takes an epoch a look."""

    def __init__(self, place: Stub, config: Config, former: Path | None) -> None:
        self.place, self.config = place, config
        if former is None:
            tags = dict(config.tags)
            self.run = tracked.start(
                run_name=config.run_name,
                root=place.store.journals,
                live=place.live,
                system_metrics=False,
                parent=tags.get(names.STUDY_PARENT),
            )
            self.run.log_params(config.params())
            self.run.set_tags({**tags, names.FINGERPRINT: config.fingerprint()})
            self.epoch = 0
        else:
            self.run = tracked.resume(former, live=place.live, system_metrics=False)
            self.epoch = max(self.run._last_step.values(), default=0)
        self.now: State = "running"

    def state(self) -> State:
        return self.now

    def step(self) -> None:
        if self.now != "running":
            return
        self.epoch += 1
        score = self.place.score(self.config, self.epoch)
        self.run.log_metrics({names.VALIDATION_ACCURACY: score}, step=self.epoch)
        if self.epoch == self.config.epochs:
            ends = {names.BEST_VALIDATION_ACCURACY: score, names.TOTAL_TIME_S: 60.0 * self.epoch}
            if self.config.fold:
                ends[names.accuracy(names.FOLD)] = score
            self.run.log_metrics(ends, step=self.epoch)
            self.end("FINISHED", "finished")

    def cancel(self) -> None:
        self.end("KILLED", "killed")

    def end(self, status: str, state: State) -> None:
        if self.now == "running":
            if status:
                self.run.finish(status)
            else:  # as kill -9 leaves it
                self.run._journal.close()
            self.now = state

    def why(self) -> str:
        return "it failed"


class Stub:
    """A place whose runs score what ``score(config, epoch)`` says."""

    def __init__(
        self,
        store: Store,
        score: Callable[[Config, int], float],
        slots: int = 1,
        live: bool = False,
        die_after: int = 0,
    ) -> None:
        self.store, self.score, self.slots = store, score, slots
        self.live = store if live else None
        self.jobs: list[Job] = []
        self.attempts = 3
        self.looks, self.die_after = 0, die_after
        self.resumed = 0

    def submit(self, config: Config, former: Path | None) -> Job:
        self.resumed += former is not None
        self.jobs.append(Job(self, config, former))
        return self.jobs[-1]

    def under_way(self, key: str, former: Path | None) -> None:
        return None

    def close(self, directory: Path) -> None:
        close_dead(directory, self.store)

    def wait(self) -> None:
        self.looks += 1
        if self.looks == self.die_after:
            raise KeyboardInterrupt
        for job in self.jobs:
            job.step()


def peak(config: Config, epoch: int) -> float:
    """Best at a learning rate of 0.1; grows with the epochs."""
    import math

    distance = abs(math.log10(config.learning_rate) + 1)
    return round(max(0.05, 0.95 - 0.3 * distance) * (1 - 0.5**epoch), 6)


@pytest.fixture
def store(workdir: Path) -> Store:
    return make_store(workdir)


def planned(text: str, name: str = "s.toml", head: str = HEAD) -> studies.Study:
    Path(name).write_text(head + text)
    return studies.load(name)


def search(study: studies.Study, place: Place, store: Store, **limits: float) -> tuple[Tally, list[dict[str, object]]]:
    loop = Searching(study, place, store, **limits)  # type: ignore[arg-type]
    tally = loop.run()
    return tally, loop.trials()


def test_a_search_killed_again_and_again_ends_each_run_once(store: Store) -> None:
    """``kill -9`` before a commit of Optuna's storage, whichever: nothing is lost, nothing done twice."""
    space = "[search.space]\nlearning_rate = [0.01, 0.1, 1.0]\nnum_layers = [20, 32]\n"
    study = planned('sampler = "grid"\npruner = "median"\nlet_run = 0\n' + space)
    moments = random.Random(0)
    for kills in range(40):
        left = moments.randrange(1, 20 + 5 * kills)
        child = os.fork()
        if not child:
            commits = iter(range(left))

            def die(_: object, commits: Iterator[int] = commits) -> None:
                if next(commits, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)

            sqlalchemy.event.listen(sqlalchemy.Engine, "commit", die)
            try:
                search(study, Stub(store, peak, slots=2), store)
            finally:
                os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
    assert 5 <= kills < 39, "it was killed often, and came to its end all the same"
    trials = Chooser("s", study.search, store).summary()  # type: ignore[arg-type]
    assert len(trials) == 6 == len({repr(row["params"]) for row in trials})
    assert {row["state"] for row in trials} <= {"complete", "pruned"}
    runs = [one.look() for one in map(Followed, journals(store.journals))]
    trained = {one.tags[names.TRIAL]: one for one in runs if names.STUDY_RUN in one.tags}  # the others mark a run
    assert len(trained) == 6 == sum(names.STUDY_RUN in one.tags for one in runs), "one journal each, whoever wrote it"
    for row in trials:
        run, complete = trained[str(row["number"])], row["state"] == "complete"
        assert run.status == ("FINISHED" if complete else "KILLED")
        # One that was to be stopped when the search was killed may have come an epoch further.
        assert 0 <= len(run.values) - len(row["reported"]) <= (0 if complete else 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "grid"])
def test_each_sampler_asks_and_is_told(store: Store, sampler: str) -> None:
    space = SPACE if sampler != "grid" else "[search.space]\nlearning_rate = [0.01, 0.1, 1.0]\nnum_layers = [20, 32]\n"
    study = planned(f'sampler = "{sampler}"\n{"" if sampler == "grid" else "trials = 6"}\n' + space)
    place = Stub(store, peak, slots=2)
    tally, trials = search(study, place, store)
    assert tally.trained == 6 == len(place.jobs) and not tally.failed
    assert {row["state"] for row in trials} == {"complete"}
    best = max(trials, key=lambda row: row["values"][names.VALIDATION_ACCURACY])  # type: ignore[index]
    if sampler == "grid":
        assert len({repr(row["params"]) for row in trials}) == 6 and best["params"]["learning_rate"] == 0.1  # type: ignore[index]
    assert all(job.config.no_test for job in place.jobs), "validation chooses; the trials are not tested"


def test_conditions_decide_which_settings_are_chosen(store: Store) -> None:
    space = """
[search.space]
optimizer = ["sgd", "adam"]
beta_1 = { low = 0.8, high = 0.99, when = { optimizer = "adam" } }
mini_batch_size = { low = 8, high = 32, step = 8 }
"""
    _, trials = search(planned("trials = 8\n" + space), Stub(store, peak, slots=4), store)
    for row in trials:
        params = row["params"]
        assert ("beta_1" in params) == (params["optimizer"] == "adam")  # type: ignore[index, operator]
        assert params["mini_batch_size"] in (8, 16, 24, 32)  # type: ignore[index]


def test_a_search_that_was_ended_goes_on_with_its_trials(store: Store) -> None:
    study = planned('trials = 4\nsampler = "random"\n' + SPACE)
    place = Stub(store, peak, slots=2, die_after=9)
    with pytest.raises(KeyboardInterrupt):
        search(study, place, store)
    for job in place.jobs:
        job.end("KILLED", "killed")
    begun = {job.config.run_name for job in place.jobs}
    again = Stub(store, peak, slots=2)
    _, trials = search(study, again, store)
    assert len(trials) == 4 and [row["state"] for row in trials] == ["complete"] * 4
    assert again.resumed == 2, "both that were under way resume"
    assert len(begun | {job.config.run_name for job in again.jobs}) == 4
    nothing = Stub(store, peak)
    search(study, nothing, store)
    assert nothing.jobs == []
    more = planned('trials = 6\nsampler = "random"\n' + SPACE)
    last = Stub(store, peak)
    search(more, last, store)
    assert len(last.jobs) == 2, "with more trials in the file, only those are missing"


def test_hopeless_trials_are_stopped_and_a_few_let_run(store: Store) -> None:
    study = planned('trials = 16\npruner = "median"\nsampler = "random"\nlet_run = 0.3\n' + SPACE)
    place = Stub(store, peak)
    tally, trials = search(study, place, store)
    pruned = [row for row in trials if row["state"] == "pruned"]
    let_run = [row for row in trials if "hopeless_at" in row]
    assert tally.pruned == len(pruned) > 2 and let_run
    assert all(len(row["reported"]) < 6 for row in pruned)  # type: ignore[arg-type]
    assert all(row["state"] == "complete" for row in let_run)
    best = max(row["values"].get(names.VALIDATION_ACCURACY, 0) for row in trials)  # type: ignore[attr-defined]
    assert best == max(peak(job.config, 6) for job in place.jobs), "the best one was not stopped"


def test_wilcoxon_stops_between_folds(store: Store) -> None:
    study = planned('trials = 7\npruner = "wilcoxon"\nsampler = "random"\nfolds = 5\nlet_run = 0\n' + SPACE)
    place = Stub(store, lambda config, epoch: peak(config, epoch) + int(str(config.fold)[0]) / 1000)
    tally, trials = search(study, place, store)
    assert tally.pruned and len(place.jobs) < 7 * 5
    whole = [row for row in trials if row["state"] == "complete"]
    assert all(len(row["reported"]) == 5 for row in whole)  # type: ignore[arg-type]
    assert {job.config.fold for job in place.jobs} == {f"{n}/5" for n in range(1, 6)}


def test_two_objectives_a_constraint_and_what_ends_a_search(store: Store) -> None:
    text = 'objective = ["validation_accuracy", "cost_usd"]\nusd_per_hour = 1.0\nmax_cost_usd = 0.05\ntrials = 9\n'
    space = "[search.space]\nepochs = { low = 1, high = 6 }\nlearning_rate = { low = 0.01, high = 1.0, log = true }\n"
    study = planned(text + space)
    tally, trials = search(study, Stub(store, peak), store)
    cost = [row["values"]["cost_usd"] for row in trials]  # type: ignore[index]
    assert cost == [pytest.approx(row["params"]["epochs"] / 60) for row in trials]  # type: ignore[index]
    assert tally.spent_usd == pytest.approx(sum(cost))
    frozen = Chooser("s", study.search, store).trials()  # type: ignore[arg-type]
    assert all((one.constraints["max_cost_usd"] > 0) == (one.values[1] > 0.05) for one in frozen)
    few = Stub(store, peak)
    study = planned('trials = 90\nsampler = "random"\nusd_per_hour = 1.0\n' + SPACE, "t.toml")
    tally, _ = search(study, few, store, max_cost_usd=0.25)
    assert len(few.jobs) == 3 and tally.why_ended.startswith("$0.3")


def test_the_dashboard_opens_on_the_trials_as_they_are(store: Store) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    search(planned('trials = 2\nsampler = "random"\n' + SPACE), Stub(store, peak), store)
    app = dashboard.wsgi(public_url(store))

    def got(path: str) -> dict[str, Any]:
        environ: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        said: list[str] = []
        body = b"".join(app(environ, lambda status, headers, error=None: said.append(status)))
        assert said[0].startswith("200")
        return dict(json.loads(body))

    (summary,) = got("/api/studies")["study_summaries"]
    assert summary["study_name"].startswith("s ") and summary["directions"] == ["maximize"]
    assert [one["state"] for one in got(f"/api/studies/{summary['study_id']}")["trials"]] == ["Complete"] * 2


def test_several_processes_may_make_the_storage_at_once(store: Store) -> None:
    study = planned("trials = 2\n" + SPACE)
    at = time.monotonic() + 0.2
    children = []
    for number in range(4):
        children.append(os.fork())
        if not children[-1]:
            try:
                time.sleep(max(0.0, at - time.monotonic()))
                assert Chooser(f"s{number % 2}", study.search, store).ask() is not None  # type: ignore[arg-type]
                os._exit(0)
            finally:
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    numbers = [sorted(one.number for one in Chooser(f"s{n}", study.search, store).trials()) for n in (0, 1)]  # type: ignore[arg-type]
    assert numbers == [[0, 1], [0, 1]]


def test_two_processes_do_not_carry_out_one_search(store: Store) -> None:
    study = planned("trials = 2\n" + SPACE)
    with alone(study, store):
        with pytest.raises(TrainerError, match="another process carries out study s here"), alone(study, store):
            pass
        with alone(planned("trials = 2\n" + SPACE, "t.toml"), store):
            pass
    with alone(study, store):
        pass


def test_scores_that_are_no_numbers_stop_nothing(store: Store) -> None:
    """An epoch without a score is no value; a run without any is a failed trial, which another one replaces."""
    study = planned('trials = 4\npruner = "median"\nlet_run = 1\nsampler = "random"\n' + SPACE)
    nan = float("nan")
    place = Stub(store, lambda config, epoch: nan if epoch == 2 else peak(config, epoch))
    _, trials = search(study, place, store)
    assert {row["state"] for row in trials} == {"complete"} and all("2" not in row["reported"] for row in trials)  # type: ignore[operator]
    other = planned('trials = 2\nsampler = "random"\n' + SPACE, "t.toml")
    tally, trials = search(other, Stub(store, lambda config, epoch: nan), store)
    assert len(tally.failed) == 2 and [row["state"] for row in trials] == ["failed"] * 2
    tally, trials = search(other, Stub(store, peak), store)
    assert tally.trained == 2 and [row["state"] for row in trials] == ["failed", "failed", "complete", "complete"]


def test_a_run_whose_process_is_killed_goes_on_and_is_given_up_at_last(store: Store) -> None:
    class Deadly(Stub):
        def wait(self) -> None:
            super().wait()
            if self.jobs[-1].epoch in self.deadly and self.looks < 30:
                self.jobs[-1].end("", "killed")

        deadly = (2, 4)

    study = planned('trials = 1\nsampler = "random"\n' + SPACE)
    place = Deadly(store, peak)
    tally, trials = search(study, place, store)
    assert (tally.trained, place.resumed, len(trials[0]["reported"])) == (1, 2, 6)  # type: ignore[arg-type]
    (directory,) = journals(store.journals)
    assert Followed(directory).look().status == "FINISHED"
    place = Deadly(store, lambda config, epoch: nan_after(config, epoch), slots=1)
    place.deadly = (1, 2, 3, 4, 5, 6)
    other = planned('trials = 1\nsampler = "random"\n' + SPACE.replace("0.001", "0.01"), "t.toml")
    tally, trials = search(other, place, store)
    assert tally.failed and trials[0]["state"] == "failed" and place.resumed == 2
    assert {Followed(one).look().status for one in journals(store.journals)} == {"FINISHED", "KILLED"}


def nan_after(config: Config, epoch: int) -> float:
    return peak(config, 1) if epoch == 1 else float("nan")


def test_equal_choices_are_trained_once(store: Store) -> None:
    study = planned('trials = 8\nsampler = "random"\n[search.space]\nnum_layers = [20, 32]\n')
    place = Stub(store, peak, slots=3)
    tally, trials = search(study, place, store)
    assert len(place.jobs) == 2 and tally.trained == 8 == len(trials)


def test_a_failed_run_is_a_failed_trial(store: Store) -> None:
    class Broken(Stub):
        def wait(self) -> None:
            self.jobs[-1].end("FAILED", "failed")

    tally, trials = search(planned("trials = 2\n" + SPACE), Broken(store, peak), store)
    assert len(tally.failed) == 2 and [row["state"] for row in trials] == ["failed", "failed"]
    assert trials[0]["why"] == "it failed"


def test_in_mlflow_a_study_is_one_run_with_the_others_inside_and_its_report(store: Store) -> None:
    study = planned('trials = 14\npruner = "median"\nsampler = "random"\n' + SPACE)
    with StudyRun(study, store) as whole:
        loop = Searching(study, Stub(store, peak, live=True), store, parent=whole.journal_id)
        loop.run()
        whole.conclude(loop.trials())
    runs = list(store.runs())
    (parent,) = [run for run in runs if run.data.tags.get("report") == "study"]
    assert parent.data.tags["question"] == "Which learning rate?" and parent.info.status == "FINISHED"
    inside = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(inside) == len(runs) - 1 == 14
    stopped = [run for run in inside if run.info.status == "KILLED"]
    assert stopped and all("hopeless" or run.data.tags[names.STOPPED_EARLY] for run in stopped)
    assert all(run.data.tags[names.STOPPED_EARLY].startswith("by the search after step") for run in stopped)
    files = {item.path for item in store.client().list_artifacts(parent.info.run_id)}
    assert {"study.toml", "trials.json", "report.html", "report.md"} <= files
    text = reports.study("s", store).to_text()
    assert "Which learning rate?" in text and "learning_rate" in text and "stopped early" in text
    with StudyRun(study, store) as again:
        assert again.journal_id == whole.journal_id, "the study goes on in the same run"
    board = reports.leaderboard(store, metric=names.BEST_VALIDATION_ACCURACY)
    assert len(board) == 14 - len(stopped)
    best = max(inside, key=lambda run: run.data.metrics.get(names.BEST_VALIDATION_ACCURACY, 0.0))
    assert missing(store) == [best.info.run_id], "the test set is spent on the chosen one alone"
    assert len(missing(store, trials=True)) == 14 - len(stopped)
