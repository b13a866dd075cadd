"""What the project of 2026-11-23 left behind (``golden/make_old_tree.py``) reads and replays as it did then."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from reports.__main__ import main as reports_main
from tests.support import GOLDEN
from tracking import __main__ as tracking_main
from tracking.frame import load as load_runs
from tracking.store import resolve
from trainers.config import study as studies
from trainers.sagemaker.job import ledger


@pytest.fixture(name="old", scope="module")
def old_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it was, under another path: its store rebuilt, ``@ROOT@`` replaced."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(GOLDEN / "tree_2026_11_23.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.is_file() and b"@ROOT@" in (content := path.read_bytes()):
            path.write_bytes(content.replace(b"@ROOT@", str(folder).encode()))
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as store:
        store.executescript((folder / "store.sql").read_text(encoding="utf-8"))
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old)


# How the claims are found has changed since: the ranks a row may have, intervals, p values.
CLAIMS = {"#", "95 % interval", "p"}


def tables(text: str) -> list[list[list[str]]]:
    """The numbers in the columns of a page's tables, but for those that state a claim."""
    columns: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", text.replace("\u00a0", " "), re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if "--:" not in line
        ]
        claimed = [c for c in zip(*rows, strict=True) if c[0] not in CLAIMS]
        columns += [[re.findall(r"\d+(?:\.\d+)?", cell) for cell in c] for c in claimed]
    return columns


@pytest.mark.parametrize("page", ["compare.md", "card.md"])
def test_pages_show_the_same_numbers(page: str, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {name: run_id for run_id, name in json.loads((old / "ids.json").read_text(encoding="utf-8")).items()}
    first, second = (run_id for name, run_id in runs.items() if not name.startswith("44"))
    arguments = {"compare.md": ["compare", first, second], "card.md": ["run", first]}
    assert reports_main(arguments[page]) == 0
    before = tables((old / page).read_text(encoding="utf-8"))
    assert before and tables(capsys.readouterr().out) == before


def test_the_leaderboard_shows_the_same_scores(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and layout are today's; each run's scores and time are what they were."""

    def rows(page: str) -> dict[str, set[str]]:
        lines = [line for line in page.replace("\u00a0", " ").splitlines() if line[:1] == "|"]
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
        return {
            row[-1]: {c for c in row if c.endswith((" %", " s")) and "–" not in c or c[0] in "+"}
            for row in cells
            if row[0]
        }

    assert reports_main(["leaderboard"]) == 0
    now, then = rows(capsys.readouterr().out), rows((old / "leaderboard.md").read_text(encoding="utf-8"))
    ranked = [run for run in then if run.startswith("`")]
    assert len(ranked) == 2 and all(then[run] and then[run] <= now[run] for run in ranked)


def test_the_leaderboard_exports_the_same_values(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reports_main(["leaderboard", "--format", "csv"]) == 0
    now = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    then = list(csv.DictReader(io.StringIO((old / "leaderboard.csv").read_text(encoding="utf-8"))))
    shared = ("rank", "run_ids", "layers", "init", "epochs", "test_accuracy", "validation", "time_s", "gap")
    assert [[row[key] for key in shared] for row in now] == [[row[key] for key in shared] for row in then]


def test_the_study_knows_what_is_done(old: Path) -> None:
    with closing(sqlite3.connect(old / "mlruns" / "mlflow.db")) as store:
        done = {key for (key,) in store.execute("SELECT value FROM tags WHERE key = 'study_run'")}
    assert {planned.key for planned in studies.load("old.toml").runs} == done


def test_the_ledger_lists_the_job(old: Path) -> None:
    (entry,) = ledger.entries(resolve().journals)
    assert (entry.name, entry.kind, entry.ended, entry.submitted_ms) == (
        "old-job",
        "sagemaker-builtin",
        "Completed",
        1_700_000_001_000,
    )
    assert entry.price == {"hourly_usd": 0.736} and entry.request["ResourceConfig"]["InstanceType"]


def test_journals_are_replayed_once(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def points() -> dict[str, int]:
        with closing(sqlite3.connect(old / "mlruns" / "mlflow.db")) as store:
            return dict(
                store.execute("SELECT name, (SELECT count(*) FROM metrics WHERE run_uuid = r.run_uuid) FROM runs r")
            )

    before = points()
    for _ in range(2):
        assert tracking_main.main(["sync", "--all"]) == 0
        assert points() == {**before, "never synced": 1, "a cloud job": 0}
    frame = load_runs(resolve())
    assert frame.set_index("run_name")["status"].to_dict() == {
        "20 layers, scratch, 3 epochs": "FINISHED",
        "32 layers, scratch, 3 epochs": "FINISHED",
        "44 layers, scratch, 3 epochs": "KILLED",
        "never synced": "FINISHED",
        "a cloud job": "FINISHED",
    }
