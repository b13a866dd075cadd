"""Journals that were damaged, are foreign or lie: each is named with its reason, and none keeps another out."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tracking import run as tracked
from tracking.__main__ import main
from tracking.errors import JournalError
from tracking.journal import Journal, events
from tracking.store import Store, artifacts
from tracking.store.replay import replay

Captured = pytest.CaptureFixture[str]

# A line, and a piece of the message about it. time_ms is 5 where none is given.
BAD_EVENTS: tuple[tuple[Any, str], ...] = (
    ({"event": "metric", "step": 2**63, "values": {"m": 1.0}}, "does not fit 64 bits"),
    ({"event": "metric", "step": -(2**70), "values": {"m": 1.0}}, "does not fit 64 bits"),
    ({"event": "metric", "step": 1.5, "values": {"m": 1.0}}, "metric event: step is '1.5'"),
    ({"event": "metric", "step": "1", "values": {"m": 1.0}}, "step is '1'"),
    ({"event": "metric", "step": True, "values": {"m": 1.0}}, "step is 'True'"),
    ({"event": "metric", "values": {"m": 1.0}}, "step is 'None'"),
    ({"event": "metric", "step": 1, "values": [1.0]}, "values is '[1.0]'"),
    ({"event": "metric", "step": 1, "values": {"m": "0.5"}}, "metric m: '0.5' is not a number"),
    ({"event": "metric", "step": 1, "values": {"m": None}}, "metric m: 'None' is not a number"),
    ({"event": "metric", "step": 1, "values": {"m": True}}, "metric m: 'True' is not a number"),
    ({"event": "metric", "step": 1, "values": {"m": 10**400}}, "is not a number that 64 bits hold"),
    ({"event": "metric", "step": 1, "values": {"a" * 251: 1.0}}, "use 1 to 250 letters"),
    ({"event": "metric", "step": 1, "values": {"../../m": 1.0}}, "as a path it would lead elsewhere"),
    ({"event": "metric", "step": 1, "values": {"": 1.0}}, "cannot be a name"),
    ({"event": "metric", "step": 1, "values": {"caf\udce9": 1.0}}, "cannot be a name"),
    ({"event": "metric", "step": 1, "values": {"m": 1.0}, "time_ms": -1}, "time -1: give milliseconds"),
    ({"event": "metric", "step": 1, "values": {"m": 1.0}, "time_ms": 2**63}, "time 9223372036854775808"),
    ({"event": "metric", "step": 1, "values": {"m": 1.0}, "time_ms": "now"}, "time 'now'"),
    ({"event": "metric", "step": 1, "values": {"m": 1.0}, "time_ms": None}, "time None"),
    ({"event": "param", "values": {"p": 3}}, "param p: '3' is not text"),
    ({"event": "param", "values": None}, "values is 'None'"),
    ({"event": "tag", "values": {"t": ["x"]}}, "is not text"),
    ({"event": "tag", "values": "t"}, "values is 't'"),
    ({"event": "dataset", "context": "test"}, "dataset event: name is 'None'"),
    (
        dict(event="dataset", context="dev", name="d", digest="x", source="s", num_images=1, num_classes=2),
        "legal are train, validation, test",
    ),
    (
        dict(event="dataset", context="test", name="d", digest="x" * 37, source="s", num_images=1, num_classes=2),
        "MlflowException",
    ),
    (
        dict(event="dataset", context="test", name="d", digest="x", source="s" * 70_000, num_images=1, num_classes=2),
        "MlflowException",
    ),
    (
        dict(event="dataset", context="test", name="n" * 501, digest="x", source="s", num_images=1, num_classes=2),
        "name has 501 characters; its beginning is kept",
    ),
    ({"event": "status", "status": "DONE"}, "legal are RUNNING, FINISHED"),
    ({"event": "status", "status": "FAILED", "end_time_ms": "late"}, "end_time_ms is 'late'"),
    ({"event": "status"}, "status is 'None'"),
    ({"event": "from the future"}, "is unknown to this version"),
    ({"event": "damaged"}, "only a reader makes one"),
    ({"event": 7}, "an event of the kind '7'"),
    ({"event": ["metric"]}, "an event of the kind"),
    (dict(event="start", version=1, journal_id="b", experiment="e", start_time_ms=1), "a second run, b, starts in"),
    (b"\x00" * 4096, "not an event: b'"),
    (b"\xff\xfe{}", "not an event"),
    (b"[1, 2]", "not an event"),
    (b"null", "not an event"),
    (b"", "not an event"),
    (b"[" * 100_000, "not an event"),
    (b'{"event": "tag", "time_ms": 1, "values": {"n": ' + b"9" * 5000 + b"}}", "not an event"),
)


def begun(store: Store, name: str, **rest: Any) -> Journal:
    journal = Journal.create(store.journals, experiment="exp", run_name=name, journal_id=name, **rest)
    journal.metrics({"before": 1}, step=1)
    return journal


def add(directory: Path, *lines: Any) -> None:
    """Append lines as another program might."""
    with (directory / "journal-000001.jsonl").open("ab") as stream:
        for line in lines:
            stream.write((line if isinstance(line, bytes) else json.dumps({"time_ms": 5, **line}).encode()) + b"\n")


AFTER = (
    {"event": "metric", "step": 2, "values": {"after": 1.0}},
    {"event": "status", "status": "FINISHED", "reason": "", "end_time_ms": 9},
)


def of(store: Store) -> dict[str, Any]:
    return {run.info.run_name: run for run in store.runs()}


def test_one_bad_event_keeps_nothing_else_out(store: Store, capsys: Captured) -> None:
    for number, (line, _) in enumerate(BAD_EVENTS):
        journal = begun(store, f"bad-{number:02}")
        journal.close()
        add(journal.dir, line, *AFTER)
    assert main(["sync"]) == 1
    said = capsys.readouterr()
    assert f"{len(BAD_EVENTS)} brought up to date" in said.out
    runs = of(store)
    for number, (_, reason) in enumerate(BAD_EVENTS):
        run = runs[f"bad-{number:02}"]
        assert (run.info.status, run.info.end_time) == ("FINISHED", 9), reason
        assert set(run.data.metrics) == {"before", "after"}, reason
        assert reason in run.data.tags["replay_problems"], reason
    assert main(["sync"]) == 0
    assert main(["repair"]) == 0


def test_a_thousand_bad_lines_are_said_in_short(store: Store) -> None:
    journal = begun(store, "bad")
    journal.close()
    add(journal.dir, *(f"garbage {number}".encode() for number in range(1000)), *AFTER)
    outcome = replay(journal.dir, store)
    assert (len(outcome.problems), outcome.problems[-1]) == (51, "and more than these 50")
    assert of(store)["bad"].info.status == "FINISHED"


def test_a_problem_that_is_gone_is_no_longer_said(store: Store) -> None:
    journal = begun(store, "bad")
    own = journal.dir / "files" / "log.txt"
    own.write_text("log")
    journal.artifact(own)
    journal.close()
    own.rename(own.with_name("away"))
    assert replay(journal.dir, store).problems == [f"artifact files/log.txt is gone from {journal.dir}"]
    assert "replay_problems" in of(store)["bad"].data.tags
    own.with_name("away").rename(own)
    (journal.dir / "replay.json").unlink()
    assert replay(journal.dir, store).problems == []
    assert "replay_problems" not in of(store)["bad"].data.tags


def _rewrite(**changes: Any) -> Callable[[Path], None]:
    """Change fields of the start."""

    def change(directory: Path) -> None:
        path = directory / "journal-000001.jsonl"
        first, rest = path.read_bytes().split(b"\n", 1)
        path.write_bytes(json.dumps({**json.loads(first), **changes}).encode() + b"\n" + rest)

    return change


def _content(content: bytes) -> Callable[[Path], None]:
    return lambda directory: (directory / "journal-000001.jsonl").write_bytes(content) and None


def _instead(make: Callable[[Path], Any], name: str = "journal-000001.jsonl") -> Callable[[Path], None]:
    """Put something else in a file's place."""

    def change(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        make(directory / name)

    return change


def _last_segment(directory: Path) -> None:
    (directory / "journal-000001.jsonl").rename(directory / "journal-000003.jsonl")


def _gap(directory: Path) -> None:
    shutil.copy(directory / "journal-000001.jsonl", directory / "journal-000003.jsonl")


def _first_line_gone(directory: Path) -> None:
    path = directory / "journal-000001.jsonl"
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])


# What is done to a whole journal, and a piece of what is said of it.
BAD_JOURNALS: tuple[tuple[Callable[[Path], Any], str], ...] = (
    (_content(b""), "holds no journal, or one whose first line is torn"),
    (_content(b"{"), "first line is torn"),
    (_content(b"\0" * 5000), "first line is torn"),
    (_content(os.urandom(5000).replace(b"\n", b"") + b"\nx\n"), "is not a journal: journal-000001.jsonl, byte 0: not"),
    (_content(b"SQLite format 3\0\n" * 50), "is not a journal"),
    (_content(b"time,loss\n1,2\n"), "is not a journal"),
    (_content(b"\xef\xbb\xbf{}\nx\n"), "is not a journal"),
    (_first_line_gone, "does not begin with the start of a run but with 'metric'"),
    (_rewrite(version=2), "newer version"),
    (_rewrite(version="1"), "version is '1'"),
    (_rewrite(journal_id=None), "journal_id is 'None'"),
    (_rewrite(journal_id="x' OR tags.a = 'b"), "use up to 64 letters, digits and -"),
    (_rewrite(parent="../../elsewhere"), "use up to 64 letters, digits and -"),
    (_rewrite(experiment=None), "experiment is 'None'"),
    (_rewrite(experiment=""), "its experiment's name has 0 characters"),
    (_rewrite(experiment="e" * 600), "its experiment's name has 600 characters"),
    (_rewrite(run_name=7), "run_name is '7'"),
    (_rewrite(start_time_ms="then"), "start_time_ms is 'then'"),
    (_rewrite(start_time_ms=2**70), "give milliseconds since 1970"),
    (_rewrite(tags=["a"]), "tags is"),
    (_rewrite(attach_run_id="no such run"), "no run 'no such run'"),
    (_rewrite(attach_run_id="../../x\0"), "no run '../../x"),
    (_instead(Path.mkdir), "is not a file"),
    (_instead(os.mkfifo), "is not a file"),
    (_instead(lambda path: path.symlink_to("/etc/hostname")), "Too many levels of symbolic links"),
    (_instead(lambda path: path.symlink_to(path)), "Too many levels of symbolic links"),
    (_instead(lambda path: None), "it holds no journal-000001.jsonl"),
    (_last_segment, "it holds no journal-000001.jsonl"),
    (_gap, "journal-000002.jsonl is missing"),
    (_instead(Path.mkdir, "replay.lock"), "cannot write"),
    (_instead(lambda path: path.symlink_to("/tmp/out"), "replay.lock"), "cannot write"),
    (_instead(Path.mkdir, "replay.json"), "cannot write"),
    (_instead(Path.mkdir, "replay.json.part"), "cannot write"),
    (_instead(lambda path: path.symlink_to(path), "lock"), "cannot be read"),
)
# What is done to what is only a shortcut: such a journal goes in as any other.
STATES: tuple[bytes, ...] = (
    b"",
    b"\0" * 100,
    b"[]",
    b'{"stores": []}',
    b'{"stores": {"URI": 1}}',
    b'{"stores": {"URI": {"run_id": 1, "experiment_id": "1", "segment": 1, "offset": 0, "status": null}}}',
    b'{"stores": {"URI": {"run_id": null, "experiment_id": "1", "segment": "1", "offset": 0, "status": null}}}',
    b'{"stores": {"URI": {"run_id": null, "experiment_id": "1", "segment": -1, "offset": -9, "status": null}}}',
    b'{"stores": {"URI": {"run_id": "f", "experiment_id": "1", "segment": 1, "offset": ' + b"9" * 25 + b"}}}",
    b"[" * 100_000,
)


def test_one_bad_journal_keeps_no_other_out(store: Store, capsys: Captured) -> None:
    for number, (spoil, _) in enumerate(BAD_JOURNALS):
        journal = begun(store, f"bad-{number:02}")
        journal.close()
        spoil(journal.dir)
    for number, state in enumerate(STATES):
        journal = begun(store, f"state-{number}")
        journal.status("FINISHED")
        journal.close()
        (journal.dir / "replay.json").write_bytes(state.replace(b"URI", store.public_uri.encode()))
    for name in ("a file.txt", "ünïcode", os.fsdecode(b"latin-\xe9")):
        (store.journals / name).write_text("foreign")
    (store.journals / "folder").mkdir()
    begun(store, "zz-good").status("FINISHED")
    for turn, arguments in enumerate((["sync"], ["sync", "--all"], ["repair"], ["sync"])):
        assert main(arguments) == 1
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        for number, (_, reason) in enumerate(BAD_JOURNALS):
            lines = [line for line in said.err.splitlines() if f"bad-{number:02}" in line]
            # What only stops the replay, or a look at a lock, is reported where it is needed.
            if turn and reason in ("cannot write", "cannot be read", "no run 'no such run'", "no run '../../x"):
                continue
            assert any(reason in line for line in lines), (arguments, number, reason, lines)
        for name in ("a file.txt", "folder"):
            assert f"{name} is left alone: it holds no journal-000001.jsonl" in said.err
    finished = {name for name, run in of(store).items() if run.info.status == "FINISHED"}
    assert finished >= {"zz-good", *(f"state-{number}" for number in range(len(STATES)))}


def _as_everybody() -> None:
    """Leave root without its right to read and write what the modes forbid, which root alone has."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_what_nobody_may_read_is_named_and_left_alone(store: Store, workdir: Path) -> None:
    for name in ("closed", "closed-file", "closed-lock", "good", "partly"):
        journal = begun(store, name)
        (journal.dir / "files" / "model" / "deep").mkdir(parents=True)
        for inner in ("open", "shut", "deep/inner"):
            (journal.dir / "files" / "model" / inner).write_text(inner)
        journal.artifact(journal.dir / "files" / "model")
        journal.status("FINISHED")
        journal.close()
    shut = [
        store.journals / "closed",
        store.journals / "closed-file" / "journal-000001.jsonl",
        store.journals / "closed-lock/lock",
    ]
    shut += [store.journals / "partly" / "files" / "model" / inner for inner in ("shut", "deep")]
    for path in shut:
        path.chmod(0)
    code = """
from tracking.__main__ import main
print("codes", main(["sync"]), main(["repair"]), main(["sync", "--all"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=_as_everybody,
        capture_output=True,
        text=True,
        timeout=120,
    )
    for path in shut:
        path.chmod(0o700)
    assert "codes 1 1 1" in done.stdout, done.stderr
    assert "closed is left alone: it cannot be read: Permission denied; change its owner or permissions" in done.stderr
    assert "closed-file: " in done.stderr and "journal-000001.jsonl cannot be read: Permission denied" in done.stderr
    assert "artifact files/model/shut cannot be read: Permission denied" in done.stderr
    assert "artifact files/model/deep cannot be read: Permission denied" in done.stderr
    runs = of(store)
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == dict.fromkeys(("good", "partly", "closed-lock"), "FINISHED")
    assert [path.name for path in _artifacts(runs["partly"]).rglob("*") if path.is_file()] == ["open"]


def _artifacts(run: Any) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


ESCAPES = (
    {"path": "/etc/hostname", "artifact_path": ""},
    {"path": "../../../secret", "artifact_path": ""},
    {"path": "files/../../../../secret", "artifact_path": ""},
    {"path": "files/out", "artifact_path": ""},
    {"path": "files/folder", "artifact_path": ""},
    {"path": "files/round", "artifact_path": ""},
    {"path": "files/pipe", "artifact_path": ""},
    {"path": "journal-000001.jsonl", "artifact_path": ""},
    {"path": "lock", "artifact_path": ""},
    {"path": "files/own", "artifact_path": "../../../../up"},
    {"path": "files/own", "artifact_path": "/tmp/abs"},
    {"path": "files/own", "artifact_path": "a/../../up"},
    {"path": "files/own", "artifact_path": "a\0b"},
    {"path": ["files/own"], "artifact_path": ""},
    {"path": "files/own", "artifact_path": None},
    {"artifact_path": ""},
)


def test_a_journal_is_not_trusted_with_paths(store: Store, workdir: Path) -> None:
    (workdir / "secret").write_text("secret")
    (workdir / "private").mkdir()
    (workdir / "private" / "key").write_text("secret")
    journal = begun(store, "bad")
    journal.close()
    files = journal.dir / "files"
    (files / "own").write_text("own")
    (files / "out").symlink_to(workdir / "secret")
    (files / "folder").symlink_to(workdir / "private")
    (files / "round").symlink_to(files / "round")
    os.mkfifo(files / "pipe")
    (files / "model").mkdir()
    for name, to in (("key", workdir / "private" / "key"), ("all", workdir / "private"), ("fine", files / "own")):
        (files / "model" / name).symlink_to(to)
    (files / "MLmodel-like").mkdir()
    (files / "MLmodel-like" / "MLmodel").symlink_to(workdir / "secret")
    add(journal.dir, *({"event": "artifact", "placed": True, **paths} for paths in ESCAPES))
    for path in ("files/model", "files/MLmodel-like", "files/own"):
        add(journal.dir, {"event": "artifact", "path": path, "artifact_path": "deep", "placed": True})
    add(journal.dir, *AFTER)
    before = {path for path in workdir.rglob("*")}
    outcome = replay(journal.dir, store)
    assert outcome.status == "FINISHED"
    assert len(outcome.problems) == len(ESCAPES) + 2 + 1
    folder = _artifacts(of(store)["bad"])
    taken = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    assert sorted(taken) == ["deep/model/fine", "deep/own"]
    assert [path.read_text() for path in taken.values()] == ["own"] * 2
    assert not any(path.is_symlink() for path in taken.values())
    new = {path for path in workdir.rglob("*")} - before
    assert all(path.is_relative_to(folder) or path.parent == journal.dir or path in folder.parents for path in new)


@pytest.mark.parametrize("name", ["lock", "reserve", "replay.json.part", "replay.lock", "journal-000002.jsonl"])
def test_links_among_a_journals_files_harm_no_file_of_the_users(store: Store, workdir: Path, name: str) -> None:
    (workdir / "precious").write_text("precious")
    journal = begun(store, "bad")
    journal.close()
    (journal.dir / name).unlink(missing_ok=True)
    (journal.dir / name).symlink_to(workdir / "precious")
    main(["repair"])
    main(["sync"])
    assert (workdir / "precious").read_text() == "precious"
    if name in ("lock", "journal-000002.jsonl"):
        with pytest.raises(JournalError):
            Journal.reopen(journal.dir)
    assert (workdir / "precious").read_text() == "precious"


def test_a_line_of_gigabytes_takes_no_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(events, "MAX_LINE_BYTES", 2**20)
    journal = begun(store, "bad")
    journal.close()
    path = journal.dir / "journal-000001.jsonl"
    with path.open("r+b") as stream:
        stream.truncate(50 * 2**20)  # zeros that the disk does not hold
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n")
    add(journal.dir, *AFTER)
    tracemalloc.start()
    found = [(event["event"], event.get("why", "")[-20:]) for event, _ in events.read(journal.dir)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [kind for kind, _ in found] == ["start", "metric", "damaged", "metric", "status"]
    assert peak < 4 * 2**20


def test_a_journal_that_is_a_link_is_left_alone(store: Store, workdir: Path, capsys: Captured) -> None:
    journal = Journal.create(workdir / "elsewhere", experiment="e", run_name="other")
    journal.close()
    store.journals.mkdir(exist_ok=True)
    (store.journals / "link").symlink_to(journal.dir)
    before = sorted(journal.dir.iterdir())
    assert main(["sync"]) == 1
    assert "link is left alone: it is a link" in capsys.readouterr().err
    assert sorted(journal.dir.iterdir()) == before


def test_an_experiment_of_any_name_has_a_folder_below_the_store_s(store: Store, workdir: Path) -> None:
    for name in ("../../up", "/tmp/absolute", "..", "ü" * 256, "a\x1b[31m\u202eb", "=1+1"):
        with tracked.start(experiment=name, system_metrics=False) as run:
            run.log_text("a", "a.txt")
        assert run.mlflow_run_id is not None
        folder = artifacts.local_folder(store.client().get_run(run.mlflow_run_id).info.artifact_uri)
        assert folder is not None and (folder / "a.txt").read_text() == "a"
        assert store.artifact_root in folder.resolve().parents


def test_a_file_that_is_exchanged_for_a_link_meanwhile_leads_nowhere(workdir: Path) -> None:
    """By somebody who may write to the journal's folder, while its artifacts are taken."""
    (workdir / "secret").write_text("secret")
    root = workdir / "journal" / "files"
    root.mkdir(parents=True)
    root.parent.chmod(0o777)
    own, over = root / "own", threading.Event()
    own.write_text("own")

    def exchange() -> None:
        while not over.is_set():
            for make in (lambda path: path.symlink_to(workdir / "secret"), lambda path: path.write_text("own")):
                make(root.parent / "next")
                os.replace(root.parent / "next", own)

    thread = threading.Thread(target=exchange)
    thread.start()
    taken = []
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), artifacts.readable(own, root) as (found, _):
                if found is not None:
                    time.sleep(0.0005)
                    taken.append(found.read_text())
    finally:
        over.set()
        thread.join()
    assert set(taken) == {"own"}
