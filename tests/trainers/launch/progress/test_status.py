"""``--status`` of studies that were never started, go on, were killed, failed, are done: read, and nothing written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.stores import make_store
from tests.trainers.launch.test_search import HEAD, SPACE, Stub, peak, planned
from tracking import names
from tracking import run as tracked
from tracking.store import Store
from trainers import run as program
from trainers.config import study as studies
from trainers.config.study import PlannedRun
from trainers.launch.parent import StudyRun
from trainers.launch.progress.status import Status
from trainers.launch.progress.table import LiveTable
from trainers.launch.search import Searching

STUDY = """
title = "How deep?"
seeds = [0, 1, 2, 3]
[settings]
num_layers = 20
image_shape = "1,8,8"
epochs = 10
"""


@pytest.fixture
def store(workdir: Path) -> Store:
    return make_store(workdir)


def study_of(text: str = STUDY) -> studies.Study:
    Path("deep.toml").write_text(text)
    return studies.load("deep.toml")


def begun(store: Store, planned: PlannedRun, epochs: int, study: str = "deep") -> tracked.Run:
    """A run of the study as trainers write it, so many epochs on."""
    run = tracked.start(run_name=planned.config.run_name, root=store.journals, live=False, system_metrics=False)
    run.log_params(planned.config.params())
    run.set_tags({names.STUDY: study, names.STUDY_RUN: planned.key})
    for epoch in range(1, epochs + 1):
        values = {names.VALIDATION_ACCURACY: 0.5 + epoch / 100, names.IMAGES_PER_S: 1234.0, names.EPOCH_TIME_S: 60.0}
        run.log_metrics(values, step=epoch)
    return run


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Name → the row's other cells; other lines by their first word."""
    assert program.main(["--study", "deep.toml", "--status"]) == 0
    out = capsys.readouterr().out
    rows = [line.split("  ") for line in out.splitlines()]
    return {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows} | {"": [out]}


def bytes_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_study_that_was_never_started(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_of()
    rows = said(capsys)
    assert rows["20 layers, scratch, 10 epochs, seed 0"] == ["waiting"] and "0 of 4 runs ended" in rows[""][0]
    assert "nothing is running; the same command without --status begins" in rows[""][0]
    assert [path.name for path in workdir.iterdir()] == ["deep.toml"], "a reader makes no store"


def test_runs_that_ended_were_killed_failed_and_go_on(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of()
    first, second, third, fourth = study.runs
    with StudyRun(study, store):
        done = begun(store, first, 10)
        done.log_metrics({names.BEST_VALIDATION_ACCURACY: 0.6}, step=10)
        done.finish()
        killed = begun(store, second, 3)
        killed._journal.close()  # as kill -9 does
        failed = begun(store, third, 1)
        failed.finish("FAILED", "BadData: \x1b[31mno such picture")
        going = begun(store, fourth, 4)
        before = bytes_of(store.journals)
        rows = said(capsys)
        assert bytes_of(store.journals) == before
        name = "20 layers, scratch, 10 epochs, seed"
        assert rows[f"{name} 0"] == ["finished", "10/10", "0.6000", "1,234"]
        assert rows[f"{name} 1"][:3] == ["interrupted", "3/10", "0.5300"]
        assert rows[f"{name} 2"][:2] == ["failed", "1/10"]
        state, epoch, score, _, left = rows[f"{name} 3"]
        assert (state, epoch, score) == ("running", "4/10", "0.5400") and left in ("6m00s", "5m59s", "5m58s")
        assert "BadData: no such picture" in rows[""][0] and "the study is running: process" in rows[""][0]
        assert "2 of 4 runs ended · best 0.6000" in rows[""][0]
    going.finish("KILLED")
    assert said(capsys)[f"{name} 3"][0] == "interrupted"
    for left in (second, third, fourth):
        again = begun(store, left, 10)
        again.finish()
    rows = said(capsys)
    assert rows[f"{name} 1"][0] == rows[f"{name} 2"][0] == "finished", "the newest run counts"
    assert "the study is done" in rows[""][0]
    assert program.main(["--study", "deep.toml", "--epochs", "9", "--status"]) == 0
    assert "4 runs of it had other settings" in capsys.readouterr().out


def test_what_another_machine_trained_is_in_the_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of()
    elsewhere = tracked.start(run_name="there", root=store.journals, live=store, system_metrics=False)
    elsewhere.set_tags({names.STUDY: "deep", names.STUDY_RUN: study.runs[0].key})
    elsewhere.log_metrics({names.BEST_VALIDATION_ACCURACY: 0.75}, step=1)
    elsewhere.finish()
    (store.journals / elsewhere.journal_id).rename(store.journals.parent / "elsewhere")
    assert said(capsys)["20 layers, scratch, 10 epochs, seed 0"] == ["finished", "0.7500"]


def test_a_damaged_journal_hides_no_other(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of()
    begun(store, study.runs[0], 2).finish()
    begun(store, study.runs[1], 2).finish()
    (store.journals / "00" / "journal-000001.jsonl").mkdir(parents=True)
    assert [said(capsys)[f"20 layers, scratch, 10 epochs, seed {n}"][0] for n in (0, 1)] == ["finished", "finished"]


def test_a_search_its_trials_and_the_pruned_ones(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    Path("deep.toml").write_text(HEAD + 'trials = 12\npruner = "median"\nsampler = "random"\nlet_run = 0\n' + SPACE)
    assert "0 of 12 trials ended" in said(capsys)[""][0]
    study = planned('trials = 12\npruner = "median"\nsampler = "random"\nlet_run = 0\n' + SPACE, "deep.toml")
    place = Stub(store, peak, slots=2, die_after=15)
    with pytest.raises(KeyboardInterrupt):
        Searching(study, place, store, view=LiveTable()).run()
    before = bytes_of(store.journals.parent)
    rows = said(capsys)
    assert bytes_of(store.journals.parent) == before
    states = [cells[0] for name, cells in rows.items() if name.startswith("trial ")]
    assert "running" in states and "pruned" in states and "finished" in states, rows
    assert "the same command takes them up" in rows[""][0]
    for job in place.jobs:
        job.run._journal.close()
    rows = said(capsys)
    states = [cells[0] for name, cells in rows.items() if name.startswith("trial ")]
    assert "interrupted" in states and "running" not in states
    assert "nothing is running; the same command without --status goes on" in rows[""][0]


def test_a_job_that_is_not_watched(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of()
    begun(store, study.runs[0], 3)._journal.close()
    Status(study, store, lambda directory: "unwatched").print()
    out = capsys.readouterr().out
    assert "unwatched" in out and "trainers.jobs watch" in out


@pytest.mark.parametrize("argv", [["--status"], ["--study", "deep.toml", "--status", "--plan"]])
def test_status_stands_alone(workdir: Path, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    study_of()
    assert program.main(argv) == 2
    assert "--status" in capsys.readouterr().err
