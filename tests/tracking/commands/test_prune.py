"""``python -m tracking prune`` removes what it lists and nothing else: what is needed, not ours or in use stays."""

from __future__ import annotations

import errno
import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.stores import store_fixture as store_fixture
from tracking.__main__ import main
from tracking.frame import frame
from tracking.journal import Journal
from tracking.journal.files import hold
from tracking.store import Store
from tracking.store.replay import replay

Captured = pytest.CaptureFixture[str]
SIZE = 50_000


def write(store: Store, name: str, status: str | None, *, sync: bool = True, age_ms: int = 0, **more: Any) -> str:
    """A run of 1970, or of ``age_ms`` ago, with a file and a state; its journal's id."""
    at = int(time.time() * 1000) - age_ms if age_ms else 1_000
    source = store.journals.parent / name
    source.mkdir(parents=True)
    (source / "x.bin").write_bytes(b"x" * SIZE)
    if more.get("model"):
        (source / "MLmodel").write_text("flavors: {}\n")
    journal = Journal.create(store.journals, experiment="exp", run_name=name, start_time_ms=at, tags={})
    journal.params({"dataset": "digits", **more.get("params", {})}, time_ms=at)
    journal.metrics({"test_accuracy": more.get("test", 0.1)}, step=1, time_ms=at)
    journal.artifact(source, time_ms=at)
    shutil.rmtree(source)
    (journal.dir / "state").mkdir()
    (journal.dir / "state" / "state-0001.npz").write_bytes(b"s" * SIZE)
    if status is not None:
        journal.status(status, reason="made up", end_time_ms=at + 5, time_ms=at + 5)
    journal.close()
    if sync:
        replay(journal.dir, store)
    return journal.journal_id


def run_of(store: Store, name: str) -> Any:
    return store.find_run(name)


def prune(*options: str) -> int:
    return main(["prune", "--older-than", "90d", *options])


def tree(folder: Path) -> set[str]:
    return {f"{path} {path.lstat().st_size}" for path in folder.rglob("*") if not path.name.startswith("mlflow.db")}


def occupied(folder: Path) -> int:
    """The bytes of the files in a folder, MLflow's database not counted; of those with two names once."""
    stats = (path.lstat() for path in folder.rglob("*") if path.is_file() and "mlflow.db" not in path.name)
    return sum({one.st_ino: one.st_size for one in stats}.values())


def left(store: Store) -> set[str]:
    return {path.name for path in store.journals.iterdir()}


def test_it_lists_asks_removes_and_says_what_was_freed(
    store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, done = write(store, "best", "FINISHED", test=0.9), write(store, "done", "FINISHED")
    failed = write(store, "failed", "FAILED", model=True)
    gone, kept = run_of(store, "failed").info, run_of(store, "done").info
    before = tree(store.journals.parent)
    assert prune("--dry-run") == 0 and prune() == 0
    said = capsys.readouterr().out
    assert f"journal  {done[:8]}  FINISHED  1970-01-01" in said and f"run      {failed[:8]}  FAILED" in said
    assert "stays: 1 run, the best of its experiment and data set" in said
    assert "nothing was removed; --yes removes it" in said
    for answer in ("\n", "no\n"):
        monkeypatch.setattr("sys.stdin", stdin := io.StringIO(answer))
        stdin.isatty = lambda: True  # type: ignore[method-assign]
        assert prune() == 0
    assert tree(store.journals.parent) == before and left(store) == {best, done, failed}
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", stdin := io.StringIO("y\n"))
    stdin.isatty = lambda: True  # type: ignore[method-assign]
    room = occupied(store.journals.parent)
    assert prune() == 0
    said = capsys.readouterr().out
    assert "freed " in said and ": 2 journals" in said and left(store) == {best}
    number, unit = said.rpartition("freed ")[2].split()[:2]
    assert unit == "kB:" and float(number) * 1000 == pytest.approx(room - occupied(store.journals.parent), rel=0.01)
    assert set(frame.load(store)["run_name"]) == {"best", "done"}
    assert store.client().get_run(gone.run_id).info.lifecycle_stage == "deleted"
    assert store.artifact_root is not None
    assert {path.parts[-4] for path in store.artifact_root.rglob("x.bin")} >= {kept.run_id}
    assert not [path for path in store.artifact_root.rglob("*") if gone.run_id in str(path) and path.is_file()]
    assert prune("--yes") == 0 and "nothing to remove" in capsys.readouterr().out
    assert main(["sync"]) == 0 and set(frame.load(store)["run_name"]) == {"best", "done"}


def test_what_is_needed_stays(store: Store, workdir: Path, capsys: Captured) -> None:
    source, promoted = write(store, "source", "KILLED"), write(store, "promoted", "FAILED")
    write(store, "transfer", "FINISHED", params={"init": f"run:{source[:8]}"})
    parent = write(store, "study", "FINISHED")
    run = run_of(store, "transfer")
    store.client().set_tag(run.info.run_id, "study_parent", parent)
    store.client().create_registered_model("digits")
    store.client().create_model_version("digits", "s3://bucket/model", run_of(store, "promoted").info.run_id)
    reported = write(store, "reported", "FAILED")
    (workdir / "reports").mkdir()
    (workdir / "reports" / "board.html").write_text(f"<td>{run_of(store, 'reported').info.run_id[:8]}</td>")
    best, gone = write(store, "best", "FINISHED", test=0.9), write(store, "gone", "FAILED")
    assert prune("--yes") == 0
    said = capsys.readouterr().out
    for why in (
        "2 runs, named by another run",
        "in the model registry",
        "named in reports/board.html",
        "1 run, the best",
    ):
        assert why in said
    assert left(store) == {source, promoted, parent, reported, best}
    assert gone not in left(store)
    assert prune("--yes", "--keep", "promoted") == 0
    assert left(store) == {source, promoted, parent}
    for wrong, why in ((["--keep", "all"], "legal are best, promoted, referenced"), (["--older-than", "9y"], "90d")):
        assert prune(*wrong) == 2 and why in capsys.readouterr().err


def test_what_is_in_use_or_not_ours_or_nowhere_else_stays(store: Store, workdir: Path, capsys: Captured) -> None:
    going, unsynced = write(store, "going", None), write(store, "unsynced", "FAILED", sync=False)
    young, held = write(store, "young", "FAILED", age_ms=86_400_000), write(store, "held", "FAILED")
    elsewhere, incomplete = write(store, "elsewhere", "FAILED"), write(store, "incomplete", "FAILED")
    assert store.artifact_root is not None
    theirs = run_of(store, "elsewhere").info.run_id
    shutil.move(store.artifact_root / "exp" / theirs, workdir / "shared")
    store.client().set_tag(run_of(store, "incomplete").info.run_id, "replay_problems", "a metric")
    deleted, linked = write(store, "deleted", "FAILED"), write(store, "linked", "FAILED")
    store.client().delete_run(run_of(store, "deleted").info.run_id)
    (store.journals / linked).rename(workdir / "linked")
    (store.journals / linked).symlink_to(workdir / "linked")
    (store.journals / "dangling").symlink_to(workdir / "nowhere")
    (store.journals / "notes").mkdir()
    shared = write(store, "shared", "FAILED")
    folder = store.artifact_root / "exp" / run_of(store, "shared").info.run_id
    folder.rename(workdir / "theirs")
    folder.symlink_to(workdir / "theirs")  # on another disk, for example
    lock = hold(store.journals / held)
    try:
        assert prune("--yes", "--keep", "promoted,referenced") == 0
    finally:
        os.close(lock)
    said = capsys.readouterr().out
    for why in ("being written", "not ended", "not old enough", "not wholly in", "a link", "its files are not with"):
        assert f"stays: 1 run, {why}" in said
    assert "no longer in sqlite" in said and "MLflow could not take all of it" in said
    assert left(store) == {going, unsynced, young, held, elsewhere, incomplete, deleted, linked, "dangling", "notes"}
    assert len(list((workdir / "theirs").rglob("x.bin"))) == 1 and len(list((workdir / "shared").rglob("x.bin"))) == 1
    assert shared not in left(store) and (workdir / "linked" / "state").is_dir()


def test_a_removal_that_was_stopped_anywhere_is_done_by_the_next_call(
    store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the failed run's files, in its journal, in that of the other one."""
    remove, best = shutil.rmtree, write(store, "best", "FINISHED", test=0.9)
    for stop_at in range(3):
        ids = {write(store, f"{name} {stop_at}", name, model=True) for name in ("FINISHED", "FAILED")}
        gone, calls = run_of(store, f"FAILED {stop_at}").info.run_id, iter([False] * stop_at + [True])

        def stop(folder: Path, calls: Any = calls, **_: Any) -> None:
            if next(calls):
                next(path for path in sorted(Path(folder).rglob("*")) if path.is_file()).unlink()
                raise KeyboardInterrupt
            remove(folder)

        with monkeypatch.context() as patch:
            patch.setattr("tracking.commands.prune.shutil.rmtree", stop)
            assert prune("--yes") == 130
        assert main(["sync"]) == 0 and prune("--dry-run") == 0
        assert "the rest of a removal that was stopped" in capsys.readouterr().out
        assert prune("--yes") == 0 and left(store) == {best} and not ids & left(store)
        assert store.client().get_run(gone).info.lifecycle_stage == "deleted"
        assert store.artifact_root is not None and not list((store.artifact_root / "exp" / gone).rglob("x.bin"))
        assert prune("--yes") == 0 and "nothing to remove" in capsys.readouterr().out


@pytest.mark.parametrize("of_reports", [True, False])
def test_what_cannot_be_listed_is_not_taken_for_empty(
    store: Store, workdir: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, of_reports: bool
) -> None:
    """A folder may hold the report that names a run, or the files that are nowhere else."""
    directory = store.journals / write(store, "done", "FINISHED")
    write(store, "best", "FINISHED", test=0.9)
    shut = workdir / "reports" if of_reports else directory / "files"
    shut.mkdir(exist_ok=True)
    before, real = tree(store.journals.parent), os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(path) == shut:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        assert prune("--yes") != 0
    assert f"{shut} cannot be read, so what it holds is not known: Too many open files" in capsys.readouterr().err
    assert tree(store.journals.parent) == before
    assert prune("--yes") == 0 and directory.name not in left(store)


def test_without_a_store_nothing_is_made(workdir: Path, capsys: Captured) -> None:
    assert prune("--yes") == 2
    assert "no store at" in capsys.readouterr().err and list(workdir.iterdir()) == []
