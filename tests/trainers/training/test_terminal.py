"""What a person and the log see: the tee, the progress lines, the signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import ROOT
from tracking.errors.words import duration
from trainers.training.interruption import Interrupted, Interruption
from trainers.training.terminal import Progress


def row(epoch: int, **more: object) -> dict[str, object]:
    values = {
        "epoch": epoch,
        "train_accuracy": 0.5,
        "train_loss": 1.25,
        "validation_accuracy": 0.75,
        "validation_loss": 0.5,
        "epoch_learning_rate": 0.05,
        "images_per_s": 1234.4,
        "epoch_time_s": 65.0,
    }
    return {**values, **more}


def test_the_tee_catches_python_children_and_raw_descriptors(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\nfrom pathlib import Path\nfrom trainers.training.terminal import Tee\n"
        "with Tee(Path(sys.argv[1])) as tee:\n"
        "    print('from python')\n    os.write(1, b'from below\\n')\n"
        "    subprocess.run(['echo', 'from a child'])\n    print('an error', file=sys.stderr)\n"
        "    tee.terminal.write('for eyes only\\n'); tee.terminal.flush()\n"
        "print('after')\n"
    )
    log = tmp_path / "log.txt"
    done = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    text = log.read_text()
    assert {"from python", "from below", "from a child", "an error"} == set(text.splitlines())
    assert "for eyes only" in done.stdout and "after" in done.stdout and "from below" in done.stdout
    assert done.stderr == "an error\n"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("Tee(", "Tee(quiet=True, path="), str(log)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout == "after\n" and done.stderr == "an error\n"
    refused = "import _thread\ndef refuse(*_): raise RuntimeError\n_thread.start_new_thread = refuse\n"
    argv = [sys.executable, "-c", refused + code, str(tmp_path / "none.txt")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert "from below" in done.stdout and done.stderr == "an error\n" and done.returncode == 0


def test_lines_of_both_streams_stay_whole_in_the_log(tmp_path: Path) -> None:
    code = (
        "import os, sys, threading\nfrom pathlib import Path\nfrom trainers.training.terminal import Tee\n"
        "def say(number):\n"
        "    for _ in range(2000): os.write(number, b'half '); os.write(number, b'and half\\n')\n"
        "with Tee(Path(sys.argv[1]), quiet=True):\n"
        "    threads = [threading.Thread(target=say, args=(number,)) for number in (1, 2)]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()\n"
        "    os.write(1, b'no end')\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "log.txt")]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"")
    log = (tmp_path / "log.txt").read_bytes()  # the other stream's last lines may come after the end of this one
    assert log.count(b"no end") == 1 and log.replace(b"no end", b"") == b"half and half\n" * 4000


def test_what_a_child_says_after_the_run_goes_into_no_other_file(tmp_path: Path) -> None:
    code = (
        "import _thread, subprocess, sys, time\nfrom pathlib import Path\nfrom trainers.training import terminal\n"
        "terminal._END_S = 0.1\nfolder = Path(sys.argv[1])\n"
        "with terminal.Tee(folder / 'log.txt'):\n"
        "    child = subprocess.Popen(['sh', '-c', 'read go; echo late; echo late >&2'], stdin=subprocess.PIPE)\n"
        "    print('in time')\n"
        "others = [open(folder / str(number), 'wb', buffering=0) for number in range(20)]\n"
        "child.communicate(b'go')\nwhile _thread._count(): time.sleep(0.01)\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "in time\nlate\n", "late\n")
    assert (tmp_path / "log.txt").read_text() == "in time\n"
    assert not any((tmp_path / str(number)).stat().st_size for number in range(20))


def test_progress_prints_a_line_an_epoch_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2) as progress:
        progress.batch(SimpleNamespace(epoch=1, batch=1, num_batches=2, loss=1.0, accuracy=0.5, images_per_s=10.0))
        progress.epoch(row(1, is_best=True))
        progress.epoch(row(2))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].split()[0] == "epoch"
    assert lines[1].split() == ["1/2", "0.500", "1.250", "0.750*", "0.500", "0.05", "1,234", "1m05s"]


def test_the_bar_is_drawn_on_the_terminal_alone(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = io.StringIO()
    with Progress(1, terminal=terminal, bar=True) as progress:
        progress.batch(SimpleNamespace(epoch=1, batch=1, num_batches=2, loss=1.5, accuracy=0.5, images_per_s=10.0))
        progress.epoch(row(1))
    assert "loss 1.500" in terminal.getvalue()
    assert "loss 1.500" not in capsys.readouterr().out


def test_columns_never_run_together_and_fit_eighty(capsys: pytest.CaptureFixture[str]) -> None:
    wide = row(1, is_best=True) | {"epoch": 1000, "epoch_learning_rate": 1.25e-05, "images_per_s": 123456.0}
    with Progress(1000) as progress:
        progress.epoch(wide)
    head, line = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "1000/1000" and len(line.split()) == 8
    assert head.endswith("* best so far") and len(head) <= 80 and len(line) <= 80


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_is_one_line_and_is_erased(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    terminal = io.StringIO()
    with Progress(100, terminal=terminal, bar=True) as progress:
        progress.batch(SimpleNamespace(epoch=10, batch=1, num_batches=2, loss=12.5, accuracy=0.5, images_per_s=98765.0))
    drawn = terminal.getvalue()
    assert "\x1b[2K" in drawn  # erased, and
    assert "\n" not in drawn.partition("epoch")[2].partition("\x1b[2K")[0].strip()  # never more than one line


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0s"), (9.94, "9.9s"), (12.4, "12s"), (59.97, "1m00s"),
                                               (3599.9, "1h00m"), (7500, "2h05m")])  # fmt: skip
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_signal_ends_at_once_outside_of_deferred_code() -> None:
    with Interruption(), pytest.raises(Interrupted) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1)  # gives the interpreter the chance to run the handler
    assert caught.value.exit_code == 143


def test_a_signal_waits_in_deferred_code_and_a_second_does_not() -> None:
    with Interruption() as asked:
        with pytest.raises(Interrupted) as caught, asked.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.pending()
        assert caught.value.exit_code == 130
    with Interruption() as asked, pytest.raises(Interrupted), asked.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal must not wait")


def test_the_former_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
