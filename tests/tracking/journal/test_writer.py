"""The journal: what is written is read again, whatever happens to the writer or the disk."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import ROOT
from tracking.errors import JournalError, TrackingError
from tracking.journal import Journal, files
from tracking.journal.events import Position, journals, read
from tracking.journal.files import is_held, writer


def begin(root: Path, **rest: Any) -> Journal:
    return Journal.create(root, experiment="exp", run_name="name", **rest)


def kinds(directory: Path) -> list[str]:
    return [event["event"] for event, _ in read(directory)]


def in_process(code: str, *arguments: object, **rest: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with this project on its path."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **rest,
    )


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    journal = begin(tmp_path, start_time_ms=5, tags={"mlflow.user": "ada"})
    journal.params({"num_layers": 44, "resize": None, "early_stopping": False}, time_ms=6)
    journal.metrics({"train_loss": 0.25, "top_k": np.float32(0.5), "n": 3}, step=2, time_ms=7)
    journal.tags({"study": "tiefen – 深"}, time_ms=8)
    journal.dataset(
        context="test", name="d", digest="x", source="s", num_images=9, num_classes=3, profile={"a": 1}, time_ms=9
    )
    journal.status("KILLED", reason="why", time_ms=10)
    journal.close()
    assert [event for event, _ in read(journal.dir)] == [
        {
            "time_ms": 5,
            "event": "start",
            "version": 1,
            "journal_id": journal.journal_id,
            "experiment": "exp",
            "run_name": "name",
            "attach_run_id": None,
            "parent": None,
            "start_time_ms": 5,
            "tags": {"mlflow.user": "ada"},
        },
        {"time_ms": 6, "event": "param", "values": {"num_layers": "44", "early_stopping": "False"}},
        {"time_ms": 7, "event": "metric", "step": 2, "values": {"train_loss": 0.25, "top_k": 0.5, "n": 3.0}},
        {"time_ms": 8, "event": "tag", "values": {"study": "tiefen – 深"}},
        {
            "time_ms": 9,
            "event": "dataset",
            "context": "test",
            "name": "d",
            "digest": "x",
            "source": "s",
            "num_images": 9,
            "num_classes": 3,
            "profile": {"a": 1},
        },
        {"time_ms": 10, "event": "status", "status": "KILLED", "reason": "why", "end_time_ms": 10},
    ]
    assert journals(tmp_path) == [journal.dir]


def test_numbers_json_has_no_word_for_are_kept(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.metrics({"a": math.nan, "b": math.inf, "c": np.float32("-inf")}, step=0)
    [_, (event, _)] = read(journal.dir)
    assert event["values"] == {"a": "nan", "b": "inf", "c": "-inf"}


@pytest.mark.parametrize("name", ["", "a" * 251, "a?b", "loss\n", "../x", "/x", "a//b", ".", "a/./b", "x=1"])
def test_a_name_that_mlflow_would_refuse_is_refused_at_once(tmp_path: Path, name: str) -> None:
    journal = begin(tmp_path)
    for write in (lambda: journal.metrics({name: 1}, step=0), lambda: journal.tags({name: 1})):
        with pytest.raises(TrackingError, match="cannot be a name"):
            write()
    assert kinds(journal.dir) == ["start"]


@pytest.mark.parametrize("value", ["0.5", None, "nan", [1, 2]])
def test_a_metric_that_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    journal = begin(tmp_path)
    with pytest.raises(TrackingError, match="metric loss"):
        journal.metrics({"loss": value}, step=1)


def test_what_no_store_could_hold_is_refused_at_once_with_the_legal_form(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    facts: dict[str, Any] = {"context": "test", "digest": "x", "num_images": 1, "num_classes": 2}
    for write, says in (
        (lambda: journal.metrics({"m": 1}, step=2**63), r"does not fit 64 bits; give one from -\(2\^63 - 1\) to"),
        (lambda: journal.metrics({"m": 1}, step=1.5), "step 1.5 is not a whole number; give an int"),  # type: ignore[arg-type]
        (lambda: journal.metrics({"m": 1}, step="3"), "step '3' is not a whole number"),  # type: ignore[arg-type]
        (lambda: journal.metrics({"m": 10**400}, step=1), "metric m: the number is too large; a metric is a 64-bit"),
        (lambda: journal.metrics({math.nan: 1}, step=1), "nan cannot be a name"),  # type: ignore[dict-item]
        (lambda: journal.tags({"a\udce9": 1}), "cannot be a name: use 1 to 250 letters"),
        (lambda: journal.tags({"a": 1}, time_ms=-1), "time -1: give milliseconds since 1970"),
        (lambda: journal.dataset(name="n" * 481, source="s", **facts), "481 characters; give at most 480"),
        (lambda: journal.dataset(name="n", source="s" * 10_001, **facts), "give at most 10000"),
        (lambda: journal.dataset(name="n", source="s", profile={"a": {1}}, **facts), "cannot be written as JSON"),
        (lambda: journal.dataset(name="n", source="s", profile={"a": math.nan}, **facts), "cannot be written as JSON"),
        (lambda: begin(tmp_path, start_time_ms=2**63), "time 9223372036854775808"),
        (lambda: Journal.create(tmp_path, experiment="e" * 257, run_name=None), "give a name of 1 to 256 characters"),
    ):
        with pytest.raises(TrackingError, match=says):
            write()
    journal.metrics({"m": 1}, step=np.int64(2**63 - 1))  # type: ignore[arg-type]
    assert kinds(journal.dir) == ["start", "metric"]
    assert journals(tmp_path) == [journal.dir]


def test_contexts_statuses_and_digests_are_checked(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    with pytest.raises(TrackingError, match="legal are train, validation, test"):
        journal.dataset(context="dev", name="d", digest="x", source="s", num_images=1, num_classes=2)
    with pytest.raises(TrackingError, match="1 to 36 characters"):
        journal.dataset(context="test", name="d", digest="x" * 37, source="s", num_images=1, num_classes=2)
    with pytest.raises(TrackingError, match="legal are RUNNING"):
        journal.status("DONE")


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    *_, (_, position) = read(journal.dir)
    assert list(read(journal.dir, position)) == []
    journal.tags({"a": 1})
    [(event, after)] = read(journal.dir, position)
    assert event["values"] == {"a": "1"}
    assert after > position


def test_segments_follow_one_another(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    text = "x" * (files.SEGMENT_BYTES // 3)
    for number in range(8):
        journal.tags({"n": number, "text": text})
    journal.close()
    found = list(read(journal.dir))
    assert [event["values"]["n"] for event, _ in found[1:]] == [str(n) for n in range(8)]
    sizes = [path.stat().st_size for path in sorted(journal.dir.glob("journal-*.jsonl"))]
    assert len(sizes) == 4
    assert max(sizes) <= files.SEGMENT_BYTES
    middle = found[4][1]
    assert middle.segment == 2
    assert [event["values"]["n"] for event, _ in read(journal.dir, middle)] == ["4", "5", "6", "7"]
    again = Journal.reopen(journal.dir)
    again.tags({"n": 8})
    assert found[-1][1].segment == 4
    assert [event["values"]["n"] for event, _ in read(journal.dir, found[-1][1])] == ["8"]


def test_a_missing_segment_is_said(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    text = "x" * (files.SEGMENT_BYTES // 2)
    for _ in range(4):
        journal.tags({"text": text})
    (journal.dir / "journal-000002.jsonl").unlink()
    with pytest.raises(JournalError, match="journal-000002.jsonl is missing"):
        list(read(journal.dir))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_cut_off_anywhere_it_is_a_shorter_journal(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "r", ignore_errors=True)
    journal = begin(tmp_path / "r")
    for values in data.draw(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats() | st.text()), max_size=6)):
        numbers = {k: v for k, v in values.items() if isinstance(v, float)}
        journal.metrics(numbers, step=1)
        journal.tags({k: v for k, v in values.items() if isinstance(v, str)})
    journal.close()
    whole = list(read(journal.dir))
    path = journal.dir / "journal-000001.jsonl"
    cut = data.draw(st.integers(0, path.stat().st_size))
    garbage = data.draw(st.sampled_from([b"", b"\0" * 30, b"\0" * 30 + b"\n", b'{"event"']))
    path.write_bytes(path.read_bytes()[:cut] + garbage)
    left = [(event, position) for event, position in whole if position.offset <= cut]
    assert list(read(journal.dir)) == left
    if not left:
        with pytest.raises(JournalError, match="holds no journal"):
            Journal.reopen(journal.dir)
        return
    again = Journal.reopen(journal.dir)
    again.tags({"after": "the cut"})
    again.close()
    assert [event for event, _ in read(journal.dir)][:-1] == [event for event, _ in left]


def test_damage_in_the_middle_is_said_with_its_place(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.tags({"a": 1})
    journal.tags({"b": 1})
    path = journal.dir / "journal-000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"garbage\n" + lines[2])
    [_, (damaged, _), (after, _)] = read(journal.dir)
    assert damaged["event"] == "damaged"
    assert damaged["why"] == f"{path.name}, byte {len(lines[0])}: not an event: b'garbage\\n'"
    assert after["values"] == {"b": "1"}


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    assert is_held(journal.dir)
    assert writer(journal.dir)["pid"] == os.getpid()
    with pytest.raises(JournalError, match=f"being written by process {os.getpid()} on"):
        Journal.reopen(journal.dir)
    journal.close()
    journal.close()
    assert not is_held(journal.dir)
    with pytest.raises(JournalError, match="is closed"):
        journal.tags({"a": 1})
    Journal.reopen(journal.dir).close()


def test_a_given_id_is_begun_once(tmp_path: Path) -> None:
    journal = begin(tmp_path, journal_id="abc")
    journal.tags({"a": 1})
    with pytest.raises(JournalError, match="exists"):
        begin(tmp_path, journal_id="abc")
    with pytest.raises(TrackingError, match="letters, digits"):
        begin(tmp_path, journal_id="../abc")
    assert kinds(journal.dir) == ["start", "tag"]
    assert [p.name for p in tmp_path.iterdir()] == ["abc"]


def test_a_journal_is_there_with_its_first_line_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged to one that never began would reach no store."""
    for place in ("append", "sync", "move"):
        with monkeypatch.context() as patch:
            patch.setattr(files.AppendFile, place, lambda *_, **__: sys.exit(143))  # where SIGTERM is an exit
            with pytest.raises(SystemExit):
                begin(tmp_path / place)
        found = [path for path in (tmp_path / place).iterdir() if not path.name.startswith(".")]
        assert [next(read(path), None) is not None for path in found] == ([True] if place == "move" else [])
        assert not list((tmp_path / place).glob(".*"))
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "journal-000001.jsonl").touch()  # as former versions left one
    with pytest.raises(JournalError, match="holds no journal"):
        Journal.reopen(tmp_path / "abc")


def test_what_is_no_journal_cannot_be_reopened(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no journal"):
        Journal.reopen(tmp_path)
    assert journals(tmp_path / "nowhere") == []
    assert list(read(tmp_path)) == []


def test_threads_and_signal_handlers_write_whole_lines(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    former = signal.signal(signal.SIGALRM, lambda *_: journal.tags({"alarm": "x" * 300}))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        threads = [
            threading.Thread(target=lambda: [journal.metrics({"m": i}, step=i) for i in range(500)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for i in range(2000):
            journal.metrics({"main": i}, step=i)
        for thread in threads:
            thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    found = kinds(journal.dir)
    assert found.count("metric") == 4 * 500 + 2000
    assert found.count("tag") > 0


def test_a_killed_writer_loses_nothing_and_lets_go(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from tracking.journal import Journal
        journal = Journal.create(sys.argv[1], experiment="exp", run_name=None)
        for step in range(100):
            journal.metrics({"m": step}, step=step)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert in_process(code, tmp_path).returncode == -signal.SIGKILL
    [directory] = journals(tmp_path)
    assert not is_held(directory)
    assert [event["step"] for event, _ in read(directory) if event["event"] == "metric"] == list(range(100))


def test_a_forked_child_neither_writes_nor_keeps_the_run_alive(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from tracking.errors import JournalError
        from tracking.journal import Journal
        journal = Journal.create(sys.argv[1], experiment="exp", run_name=None)
        ready, go_on = os.pipe(), os.pipe()
        if os.fork() == 0:
            try:
                journal.tags({"child": 1})
            except JournalError as error:
                os.write(ready[1], str(error).encode())
            os.read(go_on[0], 1)  # outlives the parent until this arrives
            os._exit(0)
        said = os.read(ready[0], 1000).decode()
        assert "is closed" in said, said
        journal.tags({"parent": 1})
        os.set_inheritable(go_on[1], True)
        from tracking.journal.files import is_held
        assert is_held(journal.dir)
        journal.close()  # as the death of this process would
        assert not is_held(journal.dir)
        os.write(go_on[1], b"x")
        os.wait()
    """
    done = in_process(code, tmp_path)
    assert done.returncode == 0, done.stderr
    [directory] = journals(tmp_path)
    assert [event["values"] for event, _ in read(directory) if event["event"] == "tag"] == [{"parent": "1"}]


def test_what_is_printed_where_there_is_no_standard_output_gets_into_no_journal(tmp_path: Path) -> None:
    code = """
        import os, subprocess, sys
        from tracking.journal import Journal
        for name in "ab":
            journal = Journal.create(sys.argv[1], experiment="exp", run_name=name)
            journal.metrics({"loss": 1}, step=1)
            for number in range(3):
                try:
                    os.write(number, b"warning: from a C library")
                except OSError:
                    pass
            subprocess.run("echo from a child; echo and an error >&2", shell=True, check=True)
            journal.metrics({"loss": 2}, step=2)
            journal.status("FINISHED")
    """
    argv = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    shell = f"exec {shlex.join(argv)} <&- >&- 2>&-"
    assert subprocess.run(shell, shell=True, cwd=ROOT, timeout=60).returncode == 0
    for directory in journals(tmp_path):
        assert [one["event"] for one, _ in read(directory)] == ["start", "metric", "metric", "status"]
        assert "pid" in writer(directory)
        content = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
        assert b"from a" not in content and b"error" not in content
    assert len(journals(tmp_path)) == 2


def test_a_limit_on_the_file_keeps_what_was_logged(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from tracking.errors import JournalError
        from tracking.journal import Journal
        journal = Journal.create(sys.argv[1], experiment="exp", run_name=None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        step = 0
        try:
            for step in range(10_000):
                journal.metrics({"m": step}, step=step)
        except JournalError as error:
            print(step)
            print(error)
    """
    done = in_process(code, tmp_path)
    assert done.returncode == 0, done.stderr
    step, message = done.stdout.splitlines()
    assert "File too large" in message and "what was logged until here is kept" in message
    [directory] = journals(tmp_path)
    found = [event["step"] for event, _ in read(directory) if event["event"] == "metric"]
    assert found == list(range(int(step)))
    assert int(step) > 1000


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Any:
    """A file system of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tiny file system needs more rights than this test has")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_and_the_last_words_still_land(tiny_disk: Path) -> None:
    journal = begin(tiny_disk)
    step = 0
    with pytest.raises(JournalError, match="No space left on device; what was logged until here is kept; make room"):
        for step in range(100_000):
            journal.metrics({"m": step}, step=step)
    journal.tags({"status_reason": "disk full"})
    journal.status("FAILED", reason="disk full")
    journal.close()
    events = [event for event, _ in read(journal.dir)]
    assert [event["step"] for event in events if event["event"] == "metric"] == list(range(step))
    assert [event["event"] for event in events[-2:]] == ["tag", "status"]


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("")
    with pytest.raises(JournalError, match=r"cannot write .*mlruns.*give a folder that can be written"):
        begin(tmp_path / "mlruns" / "journals")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match="Permission denied"):
        begin(tmp_path / "journals")


@pytest.mark.parametrize(("shared", "mode"), [(0o755, 0o700), (0o775, 0o755), (0o1777, 0o755), (0o700, 0o700)])
def test_the_owner_alone_reads_a_journal_unless_others_may_write_beside_it(
    tmp_path: Path, shared: int, mode: int
) -> None:
    root = tmp_path / "journals"
    root.mkdir()
    root.chmod(shared)
    former = os.umask(0o022)
    try:
        journal = begin(root)
        journal.metrics({"loss": 1.0}, step=0)
        journal.close()
    finally:
        os.umask(former)
    assert stat.S_IMODE(journal.dir.stat().st_mode) == mode
    files = [path for path in journal.dir.iterdir() if path.is_file()]
    assert len(files) >= 2 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode & 0o666 & 0o755}


def test_files_outside_are_copied_and_stay_as_they_were(tmp_path: Path) -> None:
    journal = begin(tmp_path / "r")
    (tmp_path / "a.txt").write_text("one")
    kept = journal.artifact(tmp_path / "a.txt", "texts/more")
    (tmp_path / "a.txt").write_text("two")
    assert kept == journal.dir / "files" / "texts" / "more" / "a.txt"
    assert kept.read_text() == "one"
    assert journal.artifact(tmp_path / "a.txt", "texts/more").read_text() == "two"
    assert (tmp_path / "a.txt").exists()
    journal.artifact(tmp_path / "a.txt", move=True)
    assert not (tmp_path / "a.txt").exists()
    found = [
        (event["path"], event["artifact_path"], event["placed"])
        for event, _ in read(journal.dir)
        if event["event"] == "artifact"
    ]
    assert found == [
        ("files/texts/more/a.txt", "texts/more", True),
        ("files/texts/more/a.txt", "texts/more", True),
        ("files/a.txt", "", True),
    ]


def test_folders_are_copied_whole_and_replaced_whole(tmp_path: Path) -> None:
    journal = begin(tmp_path / "r")
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "deep" / "weights").write_text("w")
    (tmp_path / "model" / "old").write_text("old")
    kept = journal.artifact(tmp_path / "model")
    assert sorted(p.relative_to(kept).as_posix() for p in kept.rglob("*")) == ["deep", "deep/weights", "old"]
    (tmp_path / "model" / "old").unlink()
    journal.artifact(tmp_path / "model")
    assert sorted(p.relative_to(kept).as_posix() for p in kept.rglob("*")) == ["deep", "deep/weights"]
    assert [p.name for p in kept.parent.iterdir()] == ["model"]


def test_what_lies_inside_is_taken_as_it_is(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    inside = journal.dir / "files" / "log.txt"
    inside.write_text("x")
    assert journal.artifact(inside) == inside
    [_, (event, _)] = read(journal.dir)
    assert (event["path"], event["placed"]) == ("files/log.txt", False)


def test_links_that_lead_out_are_copied(tmp_path: Path) -> None:
    """So that nothing of a journal leads out of it: a replayer uploads only what is in it."""
    journal = begin(tmp_path / "r")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").write_text("w")
    folder = journal.dir / "files" / "model"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").symlink_to(tmp_path / "out" / "weights")
    (tmp_path / "model" / "nothing").symlink_to(tmp_path / "gone")
    assert journal.artifact(tmp_path / "model", move=True) == folder
    (journal.dir / "files" / "linked").symlink_to(tmp_path / "out" / "weights")
    kept = journal.artifact(journal.dir / "files" / "linked")
    around = journal.artifact(journal.dir / "files" / ".." / ".." / ".." / "out" / "weights")
    assert around == journal.dir / "files" / "weights"
    assert [path.is_symlink() for path in (folder / "weights", kept, around)] == [False] * 3
    assert [path.name for path in folder.iterdir()] == ["weights"]
    with pytest.raises(TrackingError, match="holds the run's own folder"):
        journal.artifact(tmp_path)


def test_artifacts_that_are_not_there_or_lead_out_are_refused(tmp_path: Path) -> None:
    journal = begin(tmp_path / "r")
    with pytest.raises(TrackingError, match="does not exist"):
        journal.artifact(tmp_path / "nothing")
    (tmp_path / "a").write_text("")
    for folder in ("../x", "/x", "a/../../x"):
        with pytest.raises(TrackingError, match="leads out of the run"):
            journal.artifact(tmp_path / "a", folder)


def test_every_line_is_plain_json(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.tags({"odd": "line\nbreak \ud800 \u2028"})
    lines = (journal.dir / "journal-000001.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", "tag"]
    assert Position() < list(read(journal.dir))[0][1]
