"""Real signals to real processes at every moment: one sentence, the shell's exit code, nothing left running or open."""

from __future__ import annotations

import gc
import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.support import ROOT
from tests.support.forked import Forked
from tracking import store as stores
from tracking.journal.events import journals
from tracking.journal.files import is_held
from trainers import run
from trainers.training import experiment
from trainers.training.interruption import Interrupted, Interruption

SMALL = ["--num-layers=20", "--image-shape=1,8,8", "--epochs=2"]
TWO = "[settings]\nnum_layers = 20\nimage_shape = '1,8,8'\nepochs = 50\n[[runs]]\nname = 'a'\nseed = [0, 1]\n"
READING = """
import sys, time
from trainers import data, run
def slow(*_, **__):
    print("reading", flush=True)
    time.sleep(60)
data.open_dataset = slow
sys.exit(run.main(sys.argv[1:]))
"""


def started(*words: str, until: str) -> tuple[Forked, str]:
    """A process of Python, and what it said until a line with ``until`` came."""
    process = Forked(*words, env={**os.environ, "PYTHONPATH": str(ROOT)})
    said = ""
    for line in process.stdout:
        said += line
        if re.search(until, line):
            return process, said
    raise AssertionError(said)


def ended(process: Forked, signum: int) -> str:
    process.send_signal(signum)
    said, _ = process.communicate(timeout=60)
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("argv", "sentence", "signum", "code"),
    [
        ([*SMALL], "No run was made yet; the same command starts it again.", signal.SIGTERM, 143),
        (["--study", "two.toml"], "0 of 2 runs are done; the same command resumes the study.", signal.SIGINT, 130),
    ],
)
def test_while_data_are_read(stored: Path, argv: list[str], sentence: str, signum: int, code: int) -> None:
    Path("two.toml").write_text(TWO)
    process, _ = started("-c", READING, *argv, until="reading")
    said = ended(process, signum)
    assert process.returncode == code
    assert said == f"trainers.run: ended by {signal.Signals(signum).name}: {sentence}\n"
    began = list(stores.resolve(stored).runs())  # nothing but the run that stands for a study
    assert [run.info.run_name for run in began] == (["two"] if "--study" in argv else [])
    assert len(list(journals(stored / "mlruns" / "journals"))) == len(began)


@pytest.mark.mxnet
@pytest.mark.slow
def test_in_the_first_epoch_there_is_nothing_to_go_on_from(stored: Path) -> None:
    # So many batches that the epoch has not ended when the signal comes.
    process, _ = started("-m", "trainers.run", *SMALL, "--mini-batch-size=1", until="^train ")
    said = ended(process, signal.SIGTERM)
    assert process.returncode == 143
    assert "no epoch was whole yet, so there is nothing to go on from; the same command starts again." in said
    (logged,) = stores.resolve(stored).runs()
    (directory,) = journals(stored / "mlruns" / "journals")
    assert logged.info.status == "KILLED" and not is_held(directory)
    assert run.main(["--resume", logged.info.run_id]) == 2  # as it was said


@pytest.mark.mxnet
@pytest.mark.slow
def test_a_study_takes_its_processes_along(stored: Path) -> None:
    Path("two.toml").write_text(TWO)
    process, said = started("-m", "trainers.run", "--study=two.toml", "--parallel=2", until="^start .*seed 1")
    children = [psutil.Process(int(number)) for number in re.findall(r"\(process (\d+),", said)]
    said += ended(process, signal.SIGINT)
    assert process.returncode == 130, said
    assert "ending 2 runs" in said and "0 of 2 runs are done; the same command resumes the study." in said
    assert len(children) == 2 and not any(child.is_running() for child in children)
    assert {one.info.status for one in stores.resolve(stored).runs()} <= {"KILLED"}
    assert not any(is_held(directory) for directory in journals(stored / "mlruns" / "journals"))


class _Interrupting:
    """Ctrl-C arrives while this is let go of, as it may while an NDArray is: Python drops what is raised there."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_between_the_runs_of_a_study_it_is_not_lost(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []

    def trained(config, **_: object) -> experiment.Outcome:  # type: ignore[no-untyped-def]
        begun.append(config.run_name)
        gc.disable()
        _Interrupting()  # collected once the run has ended
        return experiment.Outcome(journal_id="j", run_id="r", status="FINISHED", exit_code=0, scores={})

    monkeypatch.setattr(experiment, "run", trained)
    Path("two.toml").write_text(TWO)
    try:
        assert run.main(["--study=two.toml"]) == 130
    finally:
        gc.enable()
    assert begun == ["a, seed 0"]
    assert "1 of 2 runs is done; the same command resumes the study." in capsys.readouterr().err


def test_what_must_not_be_left_half_is_not_interrupted() -> None:
    with Interruption() as asked:
        asked.hold(lambda: True)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        asked.hold(lambda: False)
        with pytest.raises(Interrupted, match="ended by SIGTERM"):
            asked.check()
