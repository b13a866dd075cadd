"""Carrying out studies with real tiny runs: done is done, interrupted goes on, one failure stops nothing else."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.forked import Forked
from tests.support.inbox import Inbox
from tests.support.inbox import inbox_fixture as inbox_fixture
from tracking import names
from tracking import run as tracked
from tracking import store as stores
from tracking.journal.events import read
from trainers import run
from trainers.launch import job

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
STUDY = """
title = "tiny"
[settings]
num_layers = 20
image_shape = "1,8,8"
mini_batch_size = 128
epochs = 1
learning_rate = 0.05
[[runs]]
name = "transfer"
init = "run:source"
[[runs]]
name = "source"
pretext = "rotation"
[[runs]]
name = "scratch"
seed = [0, 1]
"""


def by_name(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in stores.resolve(folder).runs(None, f"tags.{names.STUDY_RUN} != ''"):
        found.setdefault(str(one.info.run_name), []).append(one.info.status)
    return found


def test_a_study_trains_sources_first_ranks_and_does_nothing_twice(stored: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    Path("tiny.toml").write_text(STUDY)
    assert run.main(["--study", "tiny.toml", "--leaderboard", "board.md"]) == 0
    first = capsys.readouterr().out
    assert first.index("source") < first.index("transfer")
    expected = {"source": 1, "transfer": 1, "scratch, seed 0": 1, "scratch, seed 1": 1}
    assert {name: len(statuses) for name, statuses in by_name(stored).items()} == expected
    board = Path("board.md").read_text()
    assert board.splitlines()[2] in first and "rotation pretext" in board
    assert "](board-figures/" in board and list(Path("board-figures").glob("*.svg"))
    assert run.main(["--study", "tiny.toml", "--leaderboard", "board.md"]) == 0
    assert "4 already done" in capsys.readouterr().out
    assert {name: len(statuses) for name, statuses in by_name(stored).items()} == expected
    assert Path("board.md").read_text() == board  # the same store gives the same bytes


def test_one_failed_run_stops_nothing_but_what_needs_it(stored: Path, capsys, inbox: Inbox) -> None:  # type: ignore[no-untyped-def]
    broken = STUDY.replace('pretext = "rotation"', 'pretext = "rotation"\noptimizer = "adam"\neps = 0\nbeta_2 = 0')
    Path("tiny.toml").write_text(broken.replace("seed = [0, 1]", "seed = 5").replace(
        'name = "source"', 'name = "source"\nlearning_rate = 1'))  # fmt: skip
    assert run.main(["--study", "tiny.toml", "--notify", inbox.url]) == 1
    assert inbox.titles == ["source: failed", "transfer: failed", "study tiny: ended"]
    assert "no longer a number" in inbox.messages[0]["message"] and "# Study tiny" in inbox.messages[2]["message"]
    captured = capsys.readouterr()
    assert by_name(stored) == {"source": ["FAILED"], "scratch": ["FINISHED"]}
    assert "transfer: its source 'source' was not trained" in captured.err


def test_several_at_a_time_in_processes_of_their_own(stored: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("tiny.toml").write_text(STUDY.replace("seed = [0, 1]", "seed = 7").replace('pretext = "rotation"\n', ""))
    assert run.main(["--study", "tiny.toml", "--parallel", "2"]) == 0
    assert by_name(stored) == {"source": ["FINISHED"], "transfer": ["FINISHED"], "scratch": ["FINISHED"]}
    assert "3 of 3 runs done" in capsys.readouterr().out
    threads = {
        one.data.params["num_threads"] for one in stores.resolve(stored).runs(None, f"tags.{names.STUDY_RUN} != ''")
    }
    assert len(threads) == 1


def test_an_interrupted_study_goes_on_with_the_same_command(stored: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    plain = STUDY.replace("epochs = 1", "epochs = 3").replace('pretext = "rotation"\n', "")
    Path("tiny.toml").write_text(plain[: plain.index('[[runs]]\nname = "scratch"')])
    argv = ["--study", "tiny.toml"]
    first = Forked("-m", "trainers.run", *argv)
    deadline = time.monotonic() + 120
    while not any(
        names.TRAIN_LOSS in event.get("values", {})
        for journal in (stored / "mlruns" / "journals").glob("[0-9a-f]*")
        for event, _ in read(journal)
    ):
        assert first.poll() is None and time.monotonic() < deadline, first.communicate(timeout=5)[0]
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 130 and "the same command resumes the study" in output
    assert by_name(stored) == {"source": ["KILLED"]}
    assert run.main(argv) == 0
    assert "resuming run" in capsys.readouterr().out
    assert by_name(stored) == {"source": ["FINISHED"], "transfer": ["FINISHED"]}


def test_a_run_that_mlflow_has_not_got_yet_is_done_all_the_same(stored: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    """Its process ended before all of it was sent, as on a busy machine: the launcher sends the rest."""

    class Ended:
        """A process that has written its journal, and no more."""

        id, log, now = "1", Path("log"), "running"

        def state(self) -> str:
            return self.now

        def wait(self, timeout_s: float | None = None) -> str:
            with tracked.start(run_name="s", root=stores.resolve(stored).journals, live=False) as one:
                one.set_tags(self.tags)
                one.log_metrics({names.BEST_VALIDATION_ACCURACY: 0.75}, step=1)
            self.now = "finished"
            return self.now

        def kill(self) -> None:
            pass

        def __init__(self, tags: dict[str, str]) -> None:
            self.tags = tags

    monkeypatch.setattr(job.LocalLauncher, "submit", lambda self, config, resume="": Ended(dict(config.tags)))
    Path("tiny.toml").write_text(STUDY.partition("[[runs]]")[0] + "[[runs]]\nseed = [0, 1]\n")
    assert run.main(["--study", "tiny.toml", "--parallel", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 runs done" in out and out.count("validation 0.7500") >= 2
    assert sorted(by_name(stored).values()) == [["FINISHED", "FINISHED"]]
