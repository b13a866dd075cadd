"""The command line: what it prints and writes, and how it says no."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reports.__main__ import main
from tests.support import ROOT
from tests.support.runs import Filler, new_store, predictions, trained


@pytest.fixture
def filler(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Filler:
    """A store that the current directory resolves to."""
    made = new_store(workdir)
    (workdir / "mlruns").mkdir()
    (workdir / "mlflow.db").rename(workdir / "mlruns" / "mlflow.db")
    return Filler(f"sqlite:///{workdir}/mlruns/mlflow.db", made.artifacts)


def python(script: str, cwd: Path, **environment: str) -> str:
    """What a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_answers_without_importing_anything_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from reports.__main__ import main\n"
        "try: main(['leaderboard', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'pandas', 'numpy', 'mlflow', 'scipy', 'jinja2', 'sqlalchemy'} & set(sys.modules)"
    )
    assert "--against" in python(script, tmp_path)


def test_the_store_of_the_directory_is_the_default(filler: Filler, capsys: pytest.CaptureFixture[str]) -> None:
    filler.run(**trained(44))
    assert main(["leaderboard"]) == 0
    assert "**44 layers, scratch, 30 epochs** is the only one with a test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "begins"), [("a.md", "# "), ("b.html", "<!doctype"), ("c.csv", "test_"), ("d.json", "{")]
)
def test_out_decides_the_format(filler: Filler, workdir: Path, name: str, begins: str) -> None:
    filler.run(**trained(44))
    assert main(["leaderboard", "--out", f"deep/er/{name}"]) == 0
    assert (workdir / "deep" / "er" / name).read_text(encoding="utf-8").startswith(begins)


def test_bad_input_is_one_line_and_two(filler: Filler, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = filler.run(**trained(44))
    other = filler.run(**trained(34))
    (workdir / "broken.json").write_text("{", encoding="utf-8")
    (workdir / "other.json").write_text("{}", encoding="utf-8")
    (workdir / "file").write_text("", encoding="utf-8")
    for words, said in (
        (["leaderboard", "--experiment", "nowhere"], "no experiment 'nowhere' in this store; there are: "),
        (["leaderboard", "--filter", "params.dataset = 'x'"], "no runs that match"),
        (["leaderboard", "--filter", "nonsense"], "filter 'nonsense'"),
        (["leaderboard", "--metric", "speed"], "no run has a metric 'speed'"),
        (["leaderboard", "--by", "colour"], "no run has a parameter, metric or tag 'colour'"),
        (["leaderboard", "--best", "speed"], "no run has a metric 'speed' to take the best of"),
        (["leaderboard", "--best", "test_accuracy", "--metric", "speed"], "no run has a metric 'speed'; there are: "),
        (["leaderboard", "--out", "x.pdf"], "no format is called 'pdf'; legal are md, html, csv, json"),
        (["leaderboard", "--out", "file/x.md"], "cannot write file/x.md: "),
        (["leaderboard", "--against", "none.json"], "--against none.json: No such file or directory; save one with"),
        (["leaderboard", "--against", "broken.json"], "this is not JSON"),
        (["leaderboard", "--against", "other.json"], "this is not a leaderboard of format 1"),
        (["leaderboard", "--store", "sqlite:///none.db"], "no store at none.db"),
        (["compare", run_id], "compare needs two runs or more, 1 given"),
        (["compare", run_id, run_id[:8]], "compare was given the same run twice"),
        (["compare", run_id, "ffffffff"], "no run 'ffffffff' in sqlite:///"),
        (["run", "no"], "no run 'no' in sqlite:"),
        (["run", "%%%%"], "no run '%%%%' in sqlite:"),
    ):
        assert main(words) == 2, words
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("reports: ") and said in err, (words, err)
        assert err.count("\n") == 1
    assert run_id != other


def test_an_ambiguous_beginning_names_the_runs(filler: Filler, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    ids = [filler.run(**trained(d)) for d in (34, 44)]
    with sqlite3.connect(filler.uri.removeprefix("sqlite:///")) as raw:
        for table in ("runs", "params", "tags", "metrics", "latest_metrics"):
            for i, run_id in enumerate(ids):
                raw.execute(f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?", (f"abcd{i:028d}", run_id))
    raw.close()
    assert main(["run", "abcd"]) == 2
    assert "'abcd' matches 2 runs: abcd0000" in capsys.readouterr().err
    assert main(["run", "abcd0000000000000000000000000001"]) == 0


def test_an_unreachable_server_is_said_at_once(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert main(["leaderboard", "--store", "http://127.0.0.1:9"]) == 1
    assert "nothing answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert time.monotonic() - began < 20


def test_a_reader_that_has_seen_enough_is_no_error(filler: Filler, workdir: Path) -> None:
    for depth in (20, 34, 44):
        filler.run(**trained(depth))
    with subprocess.Popen(
        [sys.executable, "-m", "reports", "leaderboard"],
        cwd=workdir,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_the_same_store_gives_the_same_bytes_whatever_the_hash_seed(filler: Filler, workdir: Path) -> None:
    for depth, score in ((34, 0.9), (44, 0.95)):
        run_id = filler.run(**trained(depth, test=score), inputs={"test": "d1", "train": "t"})
        predictions(filler, run_id, score, seed=depth)
    filler.run("bad", status="FAILED", tags={"status_reason": "x"})
    script = "import reports; b = reports.leaderboard(); print(*map(b.to_text, ('md', 'html', 'json', 'csv')))"
    pages = {python(script, workdir, PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert len(pages) == 1 and "cannot tell a better setting from luck" in pages.pop()


def test_changes_since_a_saved_board(filler: Filler, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for depth, score in ((20, 0.90), (34, 0.93)):
        filler.run(**trained(depth, test=score))
    missing = filler.run(**trained(56, test=None))
    assert main(["leaderboard", "--out", "main.json"]) == 0
    assert main(["leaderboard", "--against", "main.json"]) == 0
    assert (
        "Nothing changed: every configuration has the same score, rank and runs as before." in capsys.readouterr().out
    )
    filler.run(**trained(44, test=0.95))
    filler.run(**trained(20, seed=1, test=0.92))
    filler.client.log_metric(missing, "test_accuracy", 0.80)
    filler.client.log_metric(missing, "test_num_images", 360)
    assert main(["leaderboard", "--against", "main.json"]) == 0
    page = capsys.readouterr().out.replace("\u00a0", " ")
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        ["44 layers", "new", "–", "95.0 %", "–", "– → 1"],
        ["34 layers", "rank", "93.0 %", "93.0 %", "0.00", "1 → 2"],
        ["20 layers", "score", "90.0 %", "91.0 ± 1.4 % (n=2)", "+1.00", "2 → 3"],
        ["56 layers", "score", "–", "80.0 %", "–", "– → 4"],
    ]
    assert page.splitlines()[2].startswith("New leader. 44 layers scored best on digits: 95.0 %")
    assert len(page) < 2500
    assert main(["leaderboard", "--against", "main.json", "--format", "json"]) == 0
    parsed = json.loads(capsys.readouterr().out)
    assert [c["change"] for c in parsed["changes"]] == ["new", "rank", "score", "score"]
    assert main(["leaderboard", "--against", "main.json", "--by", "num_layers"]) == 2
    assert "its rows are whole configurations, here they are num_layers; give the same --by" in capsys.readouterr().err
    assert main(["leaderboard", "--by", "num_layers,init", "--out", "by.json"]) == 0
    filler.run(**trained(44, epochs=5, test=0.97))
    assert main(["leaderboard", "--by", "num_layers,init", "--against", "by.json"]) == 0
    assert "| 44 layers, scratch | score " in capsys.readouterr().out
    assert main(["leaderboard", "--against", "main.json", "--metric", "train_accuracy"]) == 2
    assert "it ranks by 'test_accuracy', this one by 'train_accuracy'" in capsys.readouterr().err


def test_log_keeps_the_page_in_mlflow_and_out_of_the_ranking(
    filler: Filler, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filler.run(**trained(44))
    assert main(["leaderboard", "--log"]) == 0
    before, said = capsys.readouterr()
    assert said.startswith("kept as run ") and "experiment 'reports'" in said
    experiment = filler.client.get_experiment_by_name("reports")
    [run] = filler.client.search_runs([experiment.experiment_id])
    kept = sorted(item.path for item in filler.client.list_artifacts(run.info.run_id))
    assert kept == ["leaderboard-figures", "leaderboard.html", "leaderboard.json", "leaderboard.md"]
    assert run.info.status == "FINISHED" and run.data.tags["report"] == "leaderboard"
    assert main(["leaderboard"]) == 0
    assert capsys.readouterr().out == before


def test_changes_have_no_csv_and_a_report_says_what_it_can_be(
    filler: Filler, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = filler.run(**trained(44))
    assert main(["leaderboard", "--out", "main.json"]) == 0
    assert main(["leaderboard", "--against", "main.json", "--format", "csv"]) == 2
    assert "format 'csv': legal are md, html, json" in capsys.readouterr().err
    assert main(["run", run_id, "--out", "card.csv"]) == 2
    assert "card.csv: no format is called 'csv'; legal are md, html, json" in capsys.readouterr().err


def in_a_terminal(words: list[str], cwd: Path, *, columns: int = 80, until: bytes = b"", **environment: str) -> str:
    """What the program writes to a terminal; interrupted as by Ctrl-C once it has written ``until``."""
    import fcntl
    import pty
    import signal
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    known = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "reports", *words],
        cwd=cwd,
        env={**known, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
            if until and until in said:
                process.send_signal(signal.SIGINT)
                until = b""
    except OSError:
        pass  # the terminal's end: the program has closed it
    os.close(ours)
    assert process.wait(60) == 0, said
    return said.decode()


def test_a_terminal_gets_a_drawn_page_of_its_width_and_a_pipe_markdown(filler: Filler, workdir: Path) -> None:
    for depth in (20, 34, 44):
        filler.run(**trained(depth, test=0.9 + depth / 1000, learning_rate=depth / 100))
    drawn = in_a_terminal(["leaderboard"], workdir, NO_COLOR="1")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in drawn.splitlines()]
    assert max(map(len, lines)) <= 80 and any(line.startswith("╭") for line in lines)
    head = next(line for line in lines if line.strip().startswith("# "))
    assert head.split()[:3] == ["#", "configuration", "test"]
    assert any("A wider window also shows" in line for line in lines)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", drawn) and "**" not in drawn
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", in_a_terminal(["leaderboard"], workdir))
    assert "\x1b" not in python("from reports.__main__ import main; main(['leaderboard'])", workdir)


def test_watch_draws_until_it_is_interrupted(filler: Filler, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filler.run(**trained(44))
    filler.run("going", status="RUNNING")
    said = in_a_terminal(["leaderboard", "--watch", "0.2"], workdir, until=b"1 running. Ctrl-C ends.")
    # On a screen of its own, which is left again; the last page stays.
    assert "\x1b[?1049h" in said and "44 layers" in said.rpartition("\x1b[?1049l")[2]
    assert "Traceback" not in said
    assert main(["leaderboard", "--watch"]) == 2
    assert "--watch draws in a terminal: give it without --out" in capsys.readouterr().err


def test_a_run_is_found_by_its_name_where_one_run_has_it(filler: Filler, capsys: pytest.CaptureFixture[str]) -> None:
    filler.run(**{**trained(34), "name": "it's mine"})
    other = filler.run(**{**trained(44), "name": 'my "own"'})
    assert main(["compare", "it's mine", 'my "own"']) == 0
    assert main(["run", 'my "own"']) == 0 and other[:8] in capsys.readouterr().out
    filler.run(**{**trained(44, seed=1), "name": 'my "own"'})
    assert main(["run", 'my "own"']) == 2 and "matches 2 runs" in capsys.readouterr().err
