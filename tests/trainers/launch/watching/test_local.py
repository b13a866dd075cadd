"""A run of this process under watch: findings on the screen, in its tags, in messages; ``--stop-on``; the last line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.inbox import SECRET, Inbox
from tests.support.inbox import inbox_fixture as inbox_fixture
from tests.support.stores import stored_fixture as stored_fixture
from tracking import names
from tracking import run as tracked
from tracking import store as stores
from trainers import run
from trainers.launch.watching import local, notify
from trainers.training.interruption import Interruption

pytestmark = pytest.mark.mxnet
SMALL = ["--num-layers=20", "--image-shape=1,8,8", "--mini-batch-size=128"]
COLD = ["--epochs=25", "--learning-rate=1e-9", "--run-name=cold"]


def test_a_run_at_chance_is_stopped_keeps_what_it_has_and_people_hear_of_it(
    stored: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "INTERVAL_S", 0.02)
    assert run.main([*SMALL, *COLD, "--stop-on", "chance", "--notify", inbox.url]) == 0
    said = capsys.readouterr().out
    (one,) = stores.resolve(stored).runs(None, "tags.mlflow.runName = 'cold'")
    found, tags = one.info.run_id[:8], one.data.tags
    assert one.info.status == "FINISHED" and names.TEST_ACCURACY in one.data.metrics
    assert tags[names.STOPPED_EARLY].startswith("by --stop-on chance: after ")
    assert tags[names.FINDINGS].startswith("chance since ") and f"warning: {tags[names.FINDINGS]}" in said
    last = said.splitlines()[-1]
    assert (
        last.startswith("done    best validation 0.")
        and f" · run {found} · next: python -m reports run {found}" in last
    )
    assert [message["type"] for message in inbox.messages] == ["warning", "success"]
    assert inbox.titles[0].endswith(": chance") and inbox.titles[1] == f"run {found}: finished"
    assert inbox.messages[1]["message"] == last.removeprefix("done    ")
    kept = [path for path in stored.rglob("*") if path.is_file()]
    assert kept and not [path for path in kept if SECRET.encode() in path.read_bytes()]


def test_a_run_that_hangs_ends_with_its_process_where_asked(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "INTERVAL_S", 0.02)
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    with Interruption() as asked, tracked.start("hung", live=False) as hung:
        began = time.time()
        for epoch in (1, 2):
            hung.log_metrics({names.VALIDATION_ACCURACY: 0.1 * epoch}, step=epoch)
        with local.Watch(hung, asked, stop_on=("stuck",)):
            monkeypatch.setattr(time, "time", lambda: began + 1000)
            until = time.monotonic() + 10
            while not left and time.monotonic() < until:
                time.sleep(0.01)
        monkeypatch.undo()
    assert left and tracked.ended(hung.dir) == "KILLED"
    assert "warning: stuck since" in capsys.readouterr().out


def test_rules_that_fail_say_that_they_watch_no_longer(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "INTERVAL_S", 0.01)
    monkeypatch.setattr(local.rules, "judge", lambda *_: 1 / 0)
    with Interruption() as asked, tracked.start("watched", live=False) as run:
        watch = local.Watch(run, asked, stop_on=("stuck",))
        with watch:
            assert watch._over.wait(30)
    assert "warning: the rules watch this run no longer: division by zero" in capsys.readouterr().out
    assert tracked.ended(run.dir) == "FINISHED"


def test_faults_of_the_flags_come_with_the_others(capsys: pytest.CaptureFixture[str], workdir: Path) -> None:
    assert run.main(["--epochs=0", "--stop-on=overfiting"]) == 2
    said = capsys.readouterr().err
    assert "--epochs 0" in said and "Did you mean overfitting?" in said
    assert run.main(["--notify", f"slakc://{SECRET}/b"]) == 2
    said = capsys.readouterr().err
    assert "address 1 (slakc://…)" in said and SECRET not in said
    assert notify.VARIABLE == "TRAINERS_NOTIFY"
