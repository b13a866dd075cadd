"""Claims: of several launchers one has a run, a dead one's is taken over once, in a folder and in PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.postgres import postgres
from tracking.store import Store
from trainers.launch.claims import Claims

# Launchers are forked, so that what they need is loaded once. ``log`` is to them what MLflow is: what is done.
_CHAOS = """
import os, random, signal, sys, time
from pathlib import Path
from tracking.store import Store, schema
from trainers.launch.claims import Claims
import psycopg2, sqlalchemy.dialects.postgresql.psycopg2
uri, folder, study, keys, lives = sys.argv[1:]
log, keys = Path(folder, "log"), [f"k{n:02d}" for n in range(int(keys))]
log.touch()

def note(word, key):
    with log.open("a") as stream:
        stream.write(f"{word} {key}\\n")

def ends():
    return {line[4:] for line in log.read_text().splitlines() if line.startswith("end ")}

def launch(seed):
    pid = os.fork()
    if pid:
        return pid
    random.seed(seed)
    with Claims(study, Store(uri, None, Path(folder, "journals"))) as claims:
        left = [key for key in keys if key not in ends()]
        while left:
            key = random.choice(left)
            verdict = claims.take(key)
            if verdict == "held":
                time.sleep(0.005)
                continue
            left.remove(key)
            if verdict == "mine" and not (key in claims.taken_over and key in ends()):
                note("begin", key)
                time.sleep(random.random() * 0.02)
                note("end", key)
            claims.end(key, "done", key)
    os._exit(0)

running, number = [launch(seed) for seed in range(3)], 3
random.seed(99)
codes = []
while running:
    time.sleep(0.003)
    for pid in list(running):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            running.remove(pid)
            codes.append(status)
    if running and number < int(lives) and random.random() < 0.3:
        victim = running.pop(random.randrange(len(running)))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        running.append(launch(number))
        number += 1
print(number, codes)
"""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as uri:
        yield uri


@pytest.fixture(params=["folder", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A study's store; each test has claims of its own in it."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    if request.param == "postgresql":
        uri = request.getfixturevalue("database")
    return Store(uri, None, tmp_path / "journals")


def elsewhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is claimed from now on comes from another machine."""
    monkeypatch.setattr("socket.gethostname", lambda: name)


def waits(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_one_launcher_has_a_run_and_its_end_is_known_to_the_others(
    store: Store, request: pytest.FixtureRequest
) -> None:
    study = request.node.name
    with Claims(study, store) as first, Claims(study, store) as second:
        assert first.take("a") == first.take("a") == "mine" and second.take("a") == "held"
        assert second.take("b") == "mine" and second.take("c") == "mine"
        first.end("a", "done", "run-1")
        second.end("b", "failed")
        second.end("c", "free")
        assert second.take("a") == "done" and second.result("a")[0] == "run-1"
        assert first.take("b") == "failed" and first.take("c") == "mine" and not first.taken_over
    with Claims(study, store) as later:  # asked for again, it is done again: MLflow says what is done
        assert [later.take(key) for key in "abc"] == ["mine"] * 3 and not later.taken_over
    with Claims(f"{study} 2", store) as other:
        assert other.take("a") == "mine"


def test_a_claim_of_another_machine_is_over_when_it_no_longer_beats(
    store: Store, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, lost = request.node.name, threading.Event()
    elsewhere(monkeypatch, "b")
    there = Claims(study, store, beat_s=0.02)
    asleep = Claims(study, store, beat_s=2.0, on_lost=lost.set)
    elsewhere(monkeypatch, "a")
    with there, asleep, Claims(study, store, beat_s=0.02, stale_s=0.4) as here:
        assert there.take("a") == "mine" and asleep.take("b") == "mine"
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            assert here.take("a") == "held"
            here.take("b")
            time.sleep(0.02)
        assert waits(lambda: here.take("b") == "mine") and here.taken_over == {"b"}
        assert lost.wait(10.0), "the machine that woke up does not go on"
        asleep.end("b", "done", "twice")
        assert here.take("b") == "mine" and here.result("b")[0] == ""


def test_many_launchers_killed_at_random_do_each_run_once(
    store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    words = [store.tracking_uri, str(tmp_path), request.node.name, "30", "20"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _CHAOS, *words], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    number = int(done.stdout.split()[0])
    assert number > 5 and done.stdout.split(maxsplit=1)[1].strip() == "[0, 0, 0]", done.stderr
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(line for line in lines if line.startswith("end ")) == [f"end k{n:02d}" for n in range(30)]
    assert sum(line.startswith("begin ") for line in lines) <= 30 + number - 3


def test_two_that_take_over_at_once_are_one(store: Store, request: pytest.FixtureRequest) -> None:
    study = request.node.name
    code = (
        "import os, sys; from pathlib import Path; from tracking.store import Store;"
        "from trainers.launch.claims import Claims; uri, folder, study = sys.argv[1:];"
        "claims = Claims(study, Store(uri, None, Path(folder))).__enter__();"
        "[claims.take(f'k{n}') for n in range(20)]; os._exit(9)"
    )
    words = [store.tracking_uri, str(store.journals), study]
    subprocess.run([sys.executable, "-c", code, *words], env={**os.environ, "PYTHONPATH": str(ROOT)})
    claims = [Claims(study, store) for _ in range(4)]
    won: list[tuple[int, str]] = []

    def take(number: int) -> None:
        won.extend((number, f"k{n}") for n in range(20) if claims[number].take(f"k{n}") == "mine")

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for _, key in won) == sorted(f"k{n}" for n in range(20))
    assert set().union(*(one.taken_over for one in claims)) == {f"k{n}" for n in range(20)}


def test_a_database_that_is_away_leaves_the_claims_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Store("postgresql+psycopg2://nobody:secret@127.0.0.1:1/x", None, tmp_path / "journals")
    with Claims("s", gone) as first, Claims("s", gone) as second:
        assert first.take("a") == "mine" and second.take("a") == "held"
    said = capsys.readouterr().err
    assert "other machines do not see" in said and "secret" not in said


def test_a_claim_that_is_just_being_made_is_held(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", None, tmp_path / "journals")
    folder = tmp_path / "claims" / "s" / "a"
    folder.mkdir(parents=True)
    (folder / "000001").touch()
    with Claims("s", store) as claims:
        assert claims.take("a") == "held"
        record = {"host": "elsewhere", "pid": 1, "started": "1", "beat": 3}
        (folder / "000001").write_text(json.dumps(record))
        assert claims.take("a") == "held"


_CHILD = """
import sys, time
from trainers.training.interruption import Interrupted, Interruption, end_with_launcher
try:
    with Interruption():
        end_with_launcher()
        print("began", flush=True)
        time.sleep(60)
except Interrupted as error:
    print(error.exit_code, flush=True)
"""
_PARENT = """
import os, subprocess, sys
from trainers.training.interruption import LAUNCHER
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, LAUNCHER: str(os.getpid())})
child.wait()
"""


def test_a_run_s_process_ends_with_the_launcher_that_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", _PARENT, _CHILD]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "began\n"
        parent.kill()
        assert parent.stdout.read() == "143\n"
    gone = {**environment, "TRAINERS_LAUNCHER": "1"}  # its launcher died before it could ask
    done = subprocess.run([sys.executable, "-c", _CHILD], env=gone, capture_output=True, text=True)
    assert done.stdout == "143\n"
