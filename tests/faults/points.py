"""One point: a forked program, a fault at a random moment, recovery by the product's own commands, a verdict.

The parent has imported what the programs need and starts no thread, so a child costs milliseconds.
"""

from __future__ import annotations

import _thread
import faulthandler
import gc
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.moods import Mood
from tests.faults.oracle import Oracle, Verdict, watch
from tracking.store.live import Live

LIMIT_S = 180.0  # of a busy machine
WINDOW_S = 1.0
# A run beside a store in a mood has at most the seconds of its flush to wait, and no call waits for the store.
MOOD_LIMIT_S, WAITED_MS = 60.0, 1000.0
FAULTS = {
    "kill -9": "kill",
    "SIGTERM": "term",
    "STOP, then CONT": "stop",
    "os._exit": "exit",
    "out of memory": "memory",
    "disk full": "full",
    "power cut": "power",
    "clock steps": "clock",
    "no descriptor left": "files",
}


@dataclass(kw_only=True)
class Place:
    """Where the points of a program are: ``work`` is its current directory, the same for each of them."""

    base: Path
    seed: str = ""
    number: int = 0
    fault: str = ""
    cut_at: float | None = None

    @property
    def work(self) -> Path:
        return self.base / "work"

    @property
    def oracle(self) -> Path:
        return self.base / "oracle"

    @property
    def database(self) -> Path:
        return self.work / "mlruns" / "mlflow.db"

    def moments(self, what: str) -> random.Random:
        """Numbers that the seed decides, others for each purpose."""
        return random.Random(f"{self.seed}/{self.number}/{what}")


@dataclass(kw_only=True)
class Program:
    """What is stopped: ``prepare`` makes what each point begins with, ``recover`` is what a person would do then.

    ``share`` of all points, of which each takes ``cost`` times as long as one of logging. ``must_succeed``: what
    recovers has to end with exit code 0. ``needs`` gets what it wants, or says why it cannot. ``moods``: what its store
    does meanwhile, in place of what is done to the program itself; ``reset`` has the store well and empty.
    """

    act: Callable[[Place], object]
    recover: Callable[[Place], object]
    judge: Callable[[Place], Verdict]
    prepare: Callable[[Place], object] = lambda _: None
    faults: tuple[str, ...] = tuple(FAULTS)
    share: float = 1.0
    cost: float = 1.0
    size_mb: int = 3
    needs: Callable[[], str | None] = lambda: None
    must_succeed: bool = False
    moods: dict[str, Mood] = field(default_factory=dict)
    reset: Callable[[Place], object] = lambda _: None
    seconds: float = 0.0
    num_calls: int = 0

    def __post_init__(self) -> None:
        if self.moods:
            self.faults, self.must_succeed = tuple(self.moods), True


@dataclass(kw_only=True)
class Row:
    """The points of one program under one fault."""

    points: int = 0
    hung: int = 0
    seconds: float = 0.0
    sums: Verdict = field(default_factory=Verdict)
    left_out: str = ""


def _child(place: Place, what: Callable[[Place], object], before: Callable[[], None]) -> tuple[int, int]:
    """Start ``what`` in a child; its process id, and a descriptor that tells when it begins."""
    reading, writing = os.pipe()
    gc.collect()
    gc.freeze()  # or the child's first full collection copies every page of what is imported here, and all threads wait
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 99
    try:
        os.close(reading)
        os.chdir(place.work)
        output = os.open(place.base / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.dump_traceback_later(LIMIT_S * 0.9, file=output)  # where it is, if it hangs
        watch(Oracle(place.oracle))
        os.write(writing, b".")
        before()
        code = int(what(place) or 0)  # type: ignore[call-overload]
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.setprofile(None)
        os._exit(code)


def _wait(pid: int, limit_s: float = LIMIT_S) -> int | None:
    """The child's exit code; None where it does not end, and is killed."""
    fd = os.pidfd_open(pid)
    try:
        ended = select.select([fd], [], [], limit_s)[0]
        if not ended:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code if ended else None
    finally:
        os.close(fd)


def _whole(place: Place, what: Callable[[Place], object]) -> int | None:
    """Run something in a child, undisturbed; its exit code, None where it does not end."""
    pid, ready = _child(place, what, lambda: None)
    try:
        return _wait(pid)
    finally:
        os.close(ready)


class _Countdown:
    """Ends the process, or raises MemoryError, at the n-th call of a function, whichever thread makes it."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        self.left, self._act = number, act

    def install(self) -> None:
        follow = Live._follow

        def counted(live: Live) -> None:  # it is no thread of ``threading``
            sys.setprofile(self._count)
            follow(live)

        Live._follow = counted  # type: ignore[method-assign]
        threading.setprofile(self._count)
        sys.setprofile(self._count)

    def _count(self, frame: Any, event: str, _: Any) -> None:
        if event in ("call", "c_call"):
            self.left -= 1
            if self.left == 0:
                self._act()


def _raise_memory() -> None:
    raise MemoryError("made by the test")


def _step_clock(delay_s: float, step_s: float) -> None:
    """Have the wall clock jump once; ``time.monotonic`` goes on, as it does."""
    real, real_ns, begin = time.time, time.time_ns, time.monotonic()

    def offset() -> float:
        return step_s if time.monotonic() - begin > delay_s else 0.0

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)


def _use_up_descriptors(delay_s: float, seconds: float) -> None:
    """Have every ``open`` fail (EMFILE) for a time, as where a loader of data holds as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def work() -> None:
        time.sleep(delay_s)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        time.sleep(seconds)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    _thread.start_new_thread(work, ())


def calibrate(place: Place, program: Program) -> str | None:
    """Prepare, and see undisturbed how long the program takes and how many calls it makes; why not, where it cannot."""
    if why := program.needs():
        return why
    shutil.rmtree(place.base, ignore_errors=True)
    place.work.mkdir(parents=True)
    if _whole(place, program.prepare) != 0:
        raise RuntimeError(f"preparing failed: {(place.base / 'output').read_text()[-2000:]}")
    place.work.rename(place.base / "template")
    if place.oracle.exists():
        place.oracle.rename(place.base / "template-oracle")
    counted = place.base / "counted"

    def counting(inner: Place) -> object:
        countdown = _Countdown(0, lambda: None)
        countdown.install()
        code = program.act(inner)
        sys.setprofile(None)
        counted.write_text(str(-countdown.left))
        return code

    for what in (program.act,) if program.moods else (program.act, counting):
        _restore(place)
        program.reset(place)
        begin = time.monotonic()
        code = _whole(place, what)
        if what is program.act:
            program.seconds = time.monotonic() - begin
        verdict = program.judge(place) if _whole(place, program.recover) is not None else Verdict(lost=1)
        if code != 0 or verdict.lost or verdict.doubled or verdict.wrong:
            said = (place.base / "output").read_text()[-3000:]
            raise RuntimeError(f"undisturbed it ends with {code}: {verdict}\n{said}")
    program.num_calls = 0 if program.moods else int(counted.read_text())
    return None


def _restore(place: Place) -> None:
    """The folder as ``prepare`` left it; what is mounted there stays mounted."""
    if not os.path.ismount(place.work):
        shutil.rmtree(place.work, ignore_errors=True)
    shutil.copytree(place.base / "template", place.work, symlinks=True, dirs_exist_ok=True)
    for name in ("oracle", "output"):
        (place.base / name).unlink(missing_ok=True)
    if (place.base / "template-oracle").exists():
        shutil.copy(place.base / "template-oracle", place.oracle)


def _mount(place: Place, *how: str) -> bool:
    if not os.path.ismount(place.work):
        shutil.rmtree(place.work, ignore_errors=True)
        place.work.mkdir()
    return subprocess.run(["mount", *how, str(place.work)], capture_output=True).returncode == 0


def _unmount(place: Place) -> None:
    while os.path.ismount(place.work):
        if subprocess.run(["umount", str(place.work)], capture_output=True).returncode:
            time.sleep(0.05)


def _power_image(place: Place) -> bool:
    image = place.base / "disk"
    image.unlink(missing_ok=True)
    with image.open("wb") as stream:
        stream.truncate(48 * 2**20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], capture_output=True)
    return made.returncode == 0 and _mount(place, "-o", "loop", str(image))


def _cut_power(place: Place, pid: int) -> None:
    """What the device holds at this moment is all that is left."""
    os.kill(pid, signal.SIGSTOP)
    place.cut_at = time.monotonic()
    shutil.copyfile(place.base / "disk", place.base / "disk-cut")
    os.kill(pid, signal.SIGKILL)
    _wait(pid)
    _unmount(place)
    if not _mount(place, "-o", "loop", str(place.base / "disk-cut")):
        raise RuntimeError("the cut disk cannot be mounted")


def fill(folder: Path) -> None:
    """Leave no byte of a disk."""
    with (folder / "filler").open("wb", buffering=0) as stream:
        for size in (65536, 4096, 1):
            try:
                while stream.write(b"x" * size):
                    pass
            except OSError:
                continue


def run_point(place: Place, program: Program, fault: str, row: Row) -> Verdict | None:
    """Run one point and add it to the row; its verdict, None where the fault cannot be made here."""
    kind, chosen = "mood" if program.moods else FAULTS[fault], place.moments(fault)
    place.cut_at, place.fault, begin = None, fault, time.monotonic()
    mounted = True
    if kind == "full":
        mounted = _mount(place, "-t", "tmpfs", "-o", f"size={program.size_mb}m", "tmpfs")
    elif kind == "power":
        mounted = _power_image(place)
    if not mounted:
        row.left_out = "needs the right to mount"
        return None
    try:
        _restore(place)
        program.reset(place)
        if kind == "power":
            os.sync()
        delay, before = chosen.uniform(0, program.seconds), lambda: None
        under_limit = kind == "memory" and chosen.random() < 0.5
        if kind == "exit" or (kind == "memory" and not under_limit):
            act = _raise_memory if kind == "memory" else lambda: os._exit(7)
            before = _Countdown(chosen.randint(1, program.num_calls), act).install
        elif kind == "files":
            held = chosen.choice([0.01, 0.1, 1.0])
            before = lambda: _use_up_descriptors(delay, held)  # noqa: E731
        elif kind == "clock":
            step = chosen.choice([-time.time() + 60, -86400.0, -3600.0, -1.5, 1.5, 3600.0, 86400.0])
            before = lambda: _step_clock(delay, step)  # noqa: E731
        if kind == "mood":
            mood = program.moods[fault]
            if not mood.is_ready(place):
                row.left_out = "needs the right to mount"
                return None
            delay = chosen.uniform(-0.3 if mood.may_be_first else 0.05, 0.9) * program.seconds
            if delay < 0:
                mood.begin(place)
        pid, ready = _child(place, program.act, before)
        os.read(ready, 1)
        os.close(ready)
        code: int | None = 0
        if kind in ("kill", "term", "stop", "full", "power") or under_limit:
            fd = os.pidfd_open(pid)
            is_over = bool(select.select([fd], [], [], delay)[0])
            os.close(fd)
            if kind == "power":
                _cut_power(place, pid)
            elif kind == "full":
                fill(place.work)
            elif not is_over:
                _strike(kind, pid, chosen)
        if kind == "mood":
            code = _through(place, mood, pid, delay, chosen.choice([MOOD_LIMIT_S, chosen.uniform(0, program.seconds)]))
        elif kind != "power":
            code = _wait(pid)
        (place.work / "filler").unlink(missing_ok=True)
        hung, fell = code is None, kind == "mood" and code != 0
        if not hung:
            code = _whole(place, program.recover)
            hung = code is None
        row.hung += hung
        verdict = Verdict() if hung else program.judge(place)
        if fell or (kind == "mood" and verdict.slowest_ms > WAITED_MS):
            verdict.wrong += 1
            verdict.why += f"; the program failed by its store, or waited: {(place.base / 'output').read_text()[-800:]}"
        if code and program.must_succeed:
            verdict.wrong += 1
            verdict.why += f"; after the fault it ended with {code}: {(place.base / 'output').read_text()[-800:]}"
    finally:
        _unmount(place)
    row.points += 1
    row.seconds += time.monotonic() - begin
    for name in ("lost", "doubled", "wrong", "num_events"):
        setattr(row.sums, name, getattr(row.sums, name) + getattr(verdict, name))
    for name in ("window_s", "slowest_ms"):
        setattr(row.sums, name, max(getattr(row.sums, name), getattr(verdict, name)))
    return verdict


def _through(place: Place, mood: Mood, pid: int, delay: float, seconds: float) -> int | None:
    """Have the mood begin, unless it has, and end; the program's exit code, None where it waits for the store."""
    fd = os.pidfd_open(pid)
    try:
        if delay > 0:
            select.select([fd], [], [], delay)
            mood.begin(place)
        try:
            is_over = bool(select.select([fd], [], [], seconds)[0])
        finally:
            mood.end(place)
    finally:
        os.close(fd)
    return _wait(pid, MOOD_LIMIT_S if is_over or seconds < MOOD_LIMIT_S else 0)


def _strike(kind: str, pid: int, chosen: random.Random) -> None:
    if kind == "kill":
        os.kill(pid, signal.SIGKILL)
    elif kind == "term":
        os.kill(pid, signal.SIGTERM)
    elif kind == "stop":
        os.kill(pid, signal.SIGSTOP)
        time.sleep(chosen.uniform(0.02, 0.3))
        os.kill(pid, signal.SIGCONT)
    else:  # no page more than it has
        size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
