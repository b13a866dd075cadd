"""Which launcher carries out which run, where several launchers, on one machine or many, share a study.

The claims of a study are where its runs are: in the database that MLflow keeps them in, else in a folder beside the
store. A run's claims are numbered; the launcher that makes the next number has the run, and only one can. A claim
beats while its launcher lives. On one machine a launcher that died is known by its process; elsewhere a claim that has
not beaten for a minute, as seen by the clock of who looks, is over. No two clocks are compared.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tracking.errors import TrackingError
from tracking.journal.files import whole_file
from tracking.store import connection, schema

if TYPE_CHECKING:
    from tracking.store import Store

BEAT_S, STALE_S = 10.0, 60.0
Verdict = Literal["mine", "held", "done", "failed"]
Record = dict[str, Any]
_TABLE = "trainers_claims"


class Claims:
    """``with Claims(study, store) as claims:`` the claims that this launcher has made beat until it leaves."""

    def __init__(
        self,
        study: str,
        store: Store,
        *,
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
        on_lost: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
    ) -> None:
        """``on_lost`` is called where another launcher had to think that this one is gone.

        Where the database does not answer, the claims hold on this machine alone.
        """
        self._place, self._on_lost = _place(study, store), on_lost
        self._beat_s, self._stale_s = beat_s, stale_s
        self._me = {"host": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}
        self._mine: dict[str, tuple[int, Record]] = {}
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}
        self._before: Mapping[str, int] = {}
        self._guard, self._ending = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
        self._is_away = False
        self.taken_over: set[str] = set()  # left behind by launchers that died

    def __enter__(self) -> Claims:
        # What ended before this launcher began says nothing about what it is asked to do.
        self._before = {key: number for key, (number, record) in self._place.all().items() if record.get("end")}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        for key in list(self._mine):
            self.end(key, "free")

    def take(self, key: str) -> Verdict:
        """Claim a run: ``mine`` where it is to be carried out here, else how another launcher has it.

        While the claims cannot be reached every run counts as another's.
        """
        try:
            return self._take(key)
        except TrackingError as error:
            if not self._is_away:
                print(f"no further run begins until its claim can be made: {error}", file=sys.stderr)
            self._is_away = True
            return "held"

    def _take(self, key: str) -> Verdict:
        with self._guard:
            if key in self._mine:
                return "mine"
            number, record = self._place.newest(key)
            self._is_away = False
            end = record.get("end")
            if number and end is None and not self._is_over(key, number, record):
                return "held"
            if end in ("done", "failed") and number > self._before.get(key, 0):
                return "done" if end == "done" else "failed"
            mine = {**self._me, "beat": 0}
            if not self._place.make(key, number + 1, mine):
                return "held"  # another one was faster
            self._mine[key] = (number + 1, mine)
            if number and end is None:
                self.taken_over.add(key)
            return "mine"

    def end(self, key: str, how: Literal["done", "failed", "free"], run_id: str = "") -> None:
        """Give a claim back, with how its run ended; ``free``: it is to be carried out again."""
        with self._guard:
            if key in self._mine:
                number, record = self._mine.pop(key)
                with suppress(TrackingError, OSError):  # it is over a minute later at the latest
                    self._place.write(key, number, {**record, "end": how, "run_id": run_id})

    def result(self, key: str) -> tuple[str, str]:
        """The id of the run, and the machine, of a claim that another launcher ended."""
        record = self._place.newest(key)[1]
        return str(record.get("run_id", "")), str(record.get("host", "another machine")).partition(" ")[0]

    def _is_over(self, key: str, number: int, record: Record) -> bool:
        """Whether the launcher that made the claim is gone."""
        if record.get("host") == self._me["host"]:
            return _started(int(record["pid"])) != str(record["started"])
        now, beat = time.monotonic(), (number, int(record.get("beat", -1)))
        former, since = self._seen.get(key, (None, now))
        if former != beat:
            self._seen[key] = (beat, now)
            return False
        return now - since > self._stale_s

    def _beat(self) -> None:
        while not self._ending.wait(self._beat_s):
            with self._guard, suppress(TrackingError, OSError):  # the next one may reach it
                for key, (number, record) in list(self._mine.items()):
                    if self._place.newest(key)[0] == number:
                        record["beat"] += 1
                        self._place.write(key, number, record)
                        continue
                    del self._mine[key]
                    print(
                        "this machine did not answer for a while, and another launcher has taken over a run of it; this"
                        " one ends",
                        file=sys.stderr,
                    )
                    self._on_lost()


class _Place(Protocol):
    """Where claims are kept. ``newest`` has number 0 where there is none."""

    def newest(self, key: str) -> tuple[int, Record]:
        """The newest claim of a run."""

    def all(self) -> dict[str, tuple[int, Record]]:
        """The newest claim of every run."""

    def make(self, key: str, number: int, record: Record) -> bool:
        """Make a claim; False where there is one of this number."""

    def write(self, key: str, number: int, record: Record) -> None:
        """Write a claim anew."""


class _Folder:
    """A file for each claim: ``KEY/000001``. Only one process can make a file."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def newest(self, key: str) -> tuple[int, Record]:
        numbers = [int(path.name) for path in self._of(key).glob("[0-9]*")]
        if not numbers:
            return 0, {}
        path = self._of(key) / f"{max(numbers):06d}"
        try:
            record = json.loads(path.read_text(encoding="utf-8") or "{}")
        except (OSError, ValueError):  # made this moment
            record = {}
        return max(numbers), record if isinstance(record, dict) else {}

    def all(self) -> dict[str, tuple[int, Record]]:
        return {path.name: self.newest(path.name) for path in self._root.glob("*") if path.is_dir()}

    def make(self, key: str, number: int, record: Record) -> bool:
        folder = self._of(key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{number:06d}").open("x", encoding="utf-8") as stream:
                stream.write(json.dumps(record))
        except FileExistsError:
            return False
        except OSError as error:
            raise TrackingError(f"{folder} cannot be written ({error.strerror}): a study needs it") from error
        for path in folder.glob("[0-9]*"):
            if int(path.name) < number - 1:
                path.unlink(missing_ok=True)
        return True

    def write(self, key: str, number: int, record: Record) -> None:
        with whole_file(self._of(key) / f"{number:06d}", shared=True) as part:
            part.write_text(json.dumps(record), encoding="utf-8")

    def _of(self, key: str) -> Path:
        return self._root / key


class _Table:
    """A row for each claim, in the database of MLflow's runs. The primary key lets only one be made."""

    def __init__(self, study: str, uri: str) -> None:
        import sqlalchemy as sa

        self._study, self._uri = study, uri
        self._engine = schema.server_engine(uri)
        self._table = sa.Table(
            _TABLE,
            sa.MetaData(),
            sa.Column("study", sa.String(250), primary_key=True),
            sa.Column("run_key", sa.String(64), primary_key=True),
            sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("record", sa.Text, nullable=False),
        )
        with self._said():
            self._table.create(self._engine, checkfirst=True)

    def newest(self, key: str) -> tuple[int, Record]:
        return self._rows(self._table.c.run_key == key).get(key, (0, {}))

    def all(self) -> dict[str, tuple[int, Record]]:
        return self._rows()

    def make(self, key: str, number: int, record: Record) -> bool:
        import sqlalchemy as sa

        row = {"study": self._study, "run_key": key, "number": number, "record": json.dumps(record)}
        with self._said():
            try:
                with self._engine.begin() as session:
                    session.execute(self._table.insert().values(row))
            except sa.exc.IntegrityError:
                return False
        return True

    def write(self, key: str, number: int, record: Record) -> None:
        columns = self._table.c
        which = (columns.study == self._study) & (columns.run_key == key) & (columns.number == number)
        with self._said(), self._engine.begin() as session:
            session.execute(self._table.update().where(which).values(record=json.dumps(record)))

    def _rows(self, which: Any = None) -> dict[str, tuple[int, Record]]:
        columns = self._table.c
        asked = self._table.select().where(columns.study == self._study).order_by(columns.number)
        with self._said(), self._engine.connect() as session:
            rows = session.execute(asked if which is None else asked.where(which)).all()
        return {row.run_key: (row.number, json.loads(row.record)) for row in rows}

    @contextmanager
    def _said(self) -> Iterator[None]:
        import sqlalchemy as sa

        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            text = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise TrackingError(f"{connection.public(self._uri)}: the study's claims: {text}") from error


def _place(study: str, store: Store) -> _Place:
    if store.database is None and connection.kind(store.tracking_uri) in connection.DATABASES:
        try:
            return _Table(study, store.tracking_uri)
        except TrackingError as error:
            print(f"other machines do not see what this launcher does: {error}", file=sys.stderr)
    beside = store.journals.parent if store.database is None else store.database.parent
    return _Folder(beside / "claims" / (re.sub(r"[^\w.-]+", "-", study).strip(".-")[:100] or "study"))


def _machine() -> str:
    """This machine since it was started: containers that share a name do not share all of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = space = ""
    return f"{socket.gethostname()} {boot} {space}".strip()


def _started(pid: int) -> str:
    """When a process began, "" where there is none: numbers of processes come again."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
