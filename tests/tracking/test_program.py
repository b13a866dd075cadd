"""What every program does alike: one line for an error, an exit code by its class, ``--version``."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reports.errors import ReportError
from tests.support import ROOT
from tracking import __version__
from tracking.errors import JournalError, StoreError, StoreUnreachable
from tracking.errors.errors import UsageError, UserError
from tracking.errors.program import moment, program_parser, run_program
from trainers import errors
from trainers.sagemaker.errors import AwsError, NoCredentials, Rejected
from trainers.training.interruption import Interrupted

PROGRAMS = {
    "tracking": "tracking.__main__",
    "reports": "reports.__main__",
    "trainers": "trainers.__main__",
    "trainers.run": "trainers.run",
    "trainers.evaluate": "trainers.evaluate",
    "trainers.predict": "trainers.predict",
    "trainers.jobs": "trainers.jobs",
    "trainers.data": "trainers.data.__main__",
    "trainers.sagemaker.container": "trainers.sagemaker.container.__main__",
}
Captured = pytest.CaptureFixture[str]


def raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_has_its_version_and_one_line_for_bad_arguments(name: str, capsys: Captured) -> None:
    main = importlib.import_module(PROGRAMS[name]).main
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"{name} {__version__}\n"
    assert main(["--no-such-flag"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"{name}: ") and said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("x"), 2),
        (StoreUnreachable("x"), 1),
        (JournalError("x"), 2),
        (ReportError("x"), 2),
        (errors.TrainingDiverged("x"), 1),
        (errors.DiskFull("x"), 1),
        (errors.BadConfig(["x"]), 2),
        (errors.BadData("x"), 2),
        (AwsError("x"), 1),
        (Rejected("x"), 2),
        (NoCredentials("x"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_s_class_has_its_exit_code(error: UserError, code: int, capsys: Captured) -> None:
    assert run_program("trainers.run", lambda: raising(error)) == code
    assert capsys.readouterr() == ("", "trainers.run: x\n")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(signal.SIGTERM), 143, "ended by SIGTERM"),
    ],
)
def test_an_interruption_has_the_shell_s_code(error: BaseException, code: int, said: str, capsys: Captured) -> None:
    assert run_program("tracking", lambda: raising(error)) == code
    assert capsys.readouterr().err == f"tracking: {said}\n"


def test_other_exceptions_keep_their_traceback() -> None:
    with pytest.raises(LookupError):
        run_program("tracking", lambda: raising(LookupError("a fault of ours")))


def test_a_fault_of_the_program_shows_no_password() -> None:
    script = (
        "from tracking.errors.program import run_program\n"
        "def act(): raise RuntimeError('no answer from postgresql://me:longsecret@host/db')\n"
        "run_program('tracking', act)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr and "postgresql://me:***@host/db" in done.stderr
    assert "longsecret" not in done.stderr


@pytest.mark.parametrize(("keyword", "code"), [("", 1), (", broken_pipe=0", 0)])
def test_a_reader_that_leaves_early_makes_no_noise(keyword: str, code: int) -> None:
    script = (
        "import sys; from tracking.errors.program import run_program\n"
        "def act():\n    for _ in range(100000): print('a line')\n    return 0\n"
        f"sys.exit(run_program('tracking', act{keyword}))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_program_that_is_started_without_streams_does_its_work(tmp_path: Path, closed: str) -> None:
    script = (
        "import sys; from pathlib import Path; from tracking.errors.program import run_program\n"
        "from trainers.training.terminal import Tee\n"
        "def act():\n"
        "    with Tee(Path(sys.argv[1])):\n        print('a line'); print('an error', file=sys.stderr)\n"
        "    assert not sys.stdin.isatty()\n    return 3\n"
        "sys.exit(run_program('tracking', act))"
    )
    line = shlex.join([sys.executable, "-u", "-c", script, str(tmp_path / "log.txt")])
    done = subprocess.run(f"exec {line} {closed}", shell=True, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 3
    assert done.stdout == (b"a line\n" if ">&-" not in closed.replace("2>&-", "") else b"")
    assert done.stderr == (b"an error\n" if closed == ">&-" else b"")
    assert set((tmp_path / "log.txt").read_text().splitlines()) == {"a line", "an error"}


def test_a_subcommand_s_errors_are_one_line_too(capsys: Captured) -> None:
    parser = program_parser("tracking", __version__)
    parser.add_subparsers(required=True, metavar="COMMAND").add_parser("sync").add_argument("--limit", type=int)
    assert run_program("tracking", lambda: int(parser.parse_args(["sync", "--limit", "x"]).limit)) == 2
    assert capsys.readouterr().err == "tracking: argument --limit: invalid int value: 'x'. See --help.\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("tracking snyc", "Did you mean sync?"),
        ("reports leaderbord", "Did you mean leaderboard?"),
        ("trainers.data chek", "Did you mean check?"),
        ("trainers.jobs lsit", "Did you mean list?"),
        ("trainers evalute", "Did you mean evaluate?"),
        ("reports compare a b --formt md", "Did you mean --format?"),
        ("trainers.run --epocs 3", "Did you mean --epochs?"),
        ("tracking sync --qiet", "unknown: --qiet. See --help."),  # nothing near among the flags of sync
    ],
)
def test_a_misspelt_word_gets_the_nearest_legal_one(words: str, hint: str, capsys: Captured) -> None:
    name, *rest = words.split()
    assert importlib.import_module(PROGRAMS[name]).main(rest) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "command"),
    [("tracking", "sync"), ("reports", "leaderboard"), ("trainers", "evaluate"), ("trainers.jobs", "list")],
)
def test_called_without_words_a_program_lists_its_commands(name: str, command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as left:
        importlib.import_module(PROGRAMS[name]).main([])
    assert left.value.code == 2 and f"\n    {command} " in capsys.readouterr().out


def test_the_package_runs_its_programs(capsys: Captured) -> None:
    assert importlib.import_module("trainers.__main__").main(["run", "--list"]) == 0
    assert "data sets (--dataset" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "module", "completed"),
    [
        ("ict-run --num-la", "trainers.run", {"--num-layers"}),
        ("ict-run --on sage", "trainers.run", {"sagemaker", "sagemaker-builtin"}),
        ("ict-tracking pro", "tracking.__main__", {"promote"}),
        ("ict-reports leaderboard --fo", "reports.__main__", {"--format"}),
    ],
)
def test_shells_complete(line: str, module: str, completed: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1"}
    out = {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "completed")}
    call = f"import sys; sys.argv = sys.argv[1:]; from {module} import main; main()"
    subprocess.run(
        [sys.executable, "-c", call, line.split()[0]], env={**os.environ, **asked, **out}, cwd=ROOT, check=True
    )
    assert {one.strip() for one in (tmp_path / "completed").read_text().split("\v")} == completed
    assert "PYTHON_ARGCOMPLETE_OK" in Path(str(importlib.import_module(module).__file__)).read_text()[:1024]


def test_verbose_shows_what_libraries_log() -> None:
    call = (
        "import logging; from tracking.errors.program import program_parser as p;"
        " p('x', '1').parse_args(['-v']); logging.getLogger('botocore').info('found credentials')"
    )
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "botocore: found credentials" in done.stderr


@pytest.mark.parametrize(
    ("since", "seconds"),
    [
        ("30d", 1_000_000_000 - 30 * 86_400),
        ("12 h", 1_000_000_000 - 12 * 3600),
        ("1.5w", 1_000_000_000 - 907_200),
        ("99999999999d", 0),
        ("2001-09", 999_302_400),
        (" 2001-09-09 ", 999_993_600),
        ("2001-09-09T01:46:40Z", 1_000_000_000),
        ("2001-09-09T03:46:40+02:00", 1_000_000_000),
    ],
)
def test_since_is_a_date_or_a_time_ago(since: str, seconds: float) -> None:
    assert moment(since, 1_000_000_000.0) == seconds


@pytest.mark.parametrize("since", ["last week", "", "2026-13-01", "-3d", "1y"])
def test_a_since_that_is_neither_is_refused(since: str) -> None:
    with pytest.raises(UsageError, match="give a date such as 2026-11-01"):
        moment(since, 0.0)
