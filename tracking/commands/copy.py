"""Copy runs from one store to another: parameters, every point of metrics, tags, data sets, models, files, nesting.

SRC and DST are tracking URIs: sqlite:////folder/mlflow.db, postgresql+psycopg2://user@host/database, http://host:5000;
SRC may also be the folder of an old file store (./mlruns). SRC is only read. What DST has already is left as it is, so
a copy that was stopped is continued by the same command. In an SQLite or PostgreSQL store runs keep their ids; a server
gives them new ones, and every command finds them by the former id too (tag copied_from).
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tracking import names
from tracking.commands.sync import say
from tracking.errors import StoreError, StoreUnreachable, TrackingError
from tracking.errors.words import duration, plural, readable
from tracking.store import Store, artifacts, connection, moved, resolve, schema

NAME = "copy"
HELP = "copy runs from any store to another one"
RATE = 20.0
_SAY_EVERY_S = 5.0
_SHOWN = 400
_MAX_PROBLEMS = 50
_PARENT, _ORIGIN = "tags.mlflow.parentRunId", f"tags.{names.COPIED_FROM}"
_COUNTED = {
    "params": "parameter",
    "metrics": "metric point",
    "tags": "tag",
    "datasets": "data set",
    "logged_models": "model",
    "files": "file",
}


class Planned(NamedTuple):
    """A run to copy: its id, and the one it is known by in DST, its own or that of the run it is itself a copy of."""

    run_id: str
    origin: str
    experiment: str
    depth: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``copy``."""
    parser.add_argument("source", metavar="SRC", help="the store to read: a tracking URI, or an old ./mlruns folder")
    parser.add_argument("target", metavar="DST", help="the store to write to: a tracking URI; made where there is none")
    parser.add_argument("--experiment", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only these runs, in MLflow's filter language")
    parser.add_argument("--dry-run", action="store_true", help="count what would be copied; nothing is written")
    parser.add_argument(
        "--rate", type=float, default=RATE, metavar="N", help=f"requests a second to servers at most ({RATE:g})"
    )
    parser.add_argument(
        "--leave-artifacts",
        action="store_true",
        help="files stay where they are, on S3 for example, and the copies point there; DST is a database",
    )


def run(arguments: argparse.Namespace) -> int:
    """Copy, or count; 1 where something could not be copied."""
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from tracking.frame import files, frame

    if not arguments.rate > 0:
        raise TrackingError(f"--rate {arguments.rate:g}: give a number above 0")
    store, folder = resolve(uri=arguments.target), files.store_folder(arguments.source)
    source = str(folder) if folder is not None else resolve(uri=arguments.source).tracking_uri
    if source == store.tracking_uri:
        raise TrackingError(f"{store.public_uri} is SRC and DST; give two stores")
    is_new = _is_new(store, folder, arguments.dry_run)
    if folder is None and connection.kind(source) not in connection.DATABASES:
        _keep_pace(source, arguments.rate)
    if connection.kind(store.tracking_uri) not in connection.DATABASES:
        _keep_pace(store.tracking_uri, arguments.rate)
    runs = frame.load(source, arguments.experiment, arguments.filter, [_PARENT, _ORIGIN])
    is_less = "left out" in runs.attrs["note"]
    if is_less:
        say(runs.attrs["note"])
    target = None if is_new and arguments.dry_run else _target(store, arguments.leave_artifacts)
    copier = _Copier(source, runs.attrs["read_by"], store, target, arguments)
    planned, num_there = copier.plan(runs)
    print(f"{connection.public(source)}  ->  {store.public_uri}")
    for name, num in sorted(Counter(one.experiment for one in planned).items()):
        print(f"  {name}: {plural(num, 'run')}")
    copier.copy(planned)
    problems = copier.problems + (target.problems if target is not None else [])
    for problem in problems:
        say(problem)
    if not planned:
        print("nothing to copy")
    counted = ", ".join(plural(copier.count[key], noun) for key, noun in _COUNTED.items())
    size = f" of {readable(copier.count['bytes'])}" if copier.count["bytes"] else ""
    verb = "would copy" if arguments.dry_run else "copied"
    if planned:
        print(f"{verb} {plural(copier.count['runs'], 'run')}: {counted}{size}; in {duration(copier.seconds)}")
    if arguments.dry_run and connection.kind(source) in ("http", "https"):
        print("files on a server are not counted")
    if num_there:
        print(f"{plural(num_there, 'run')} there already, left alone")
    if problems:
        print(
            f"{plural(len(problems), 'problem')}, named above; the same command tries the runs again that are missing"
        )
    return 1 if problems or is_less else 0


def _is_new(store: Store, folder: Path | None, dry_run: bool) -> bool:
    """Whether DST is yet to be made. Raises StoreError where it cannot be written."""
    path = store.database
    if path is not None and not path.exists() and folder is not None and path.parent.resolve() == folder.resolve():
        return True  # the database that takes the place of the file store around it
    store.check(will_write=not dry_run)
    connection.check_reachable(store.tracking_uri)
    is_database = connection.kind(store.tracking_uri) in connection.DATABASES
    found = schema.look(store.tracking_uri) if is_database else None
    if found is not None and (fault := schema.fault(store.tracking_uri, found)):
        raise StoreError(fault)
    return found is not None and schema.state(found) == "absent"


def _keep_pace(uri: str, rate: float) -> None:
    from tracking.commands.targets.client import keep_pace

    connection.open_client(uri)
    keep_pace(rate)


def _target(store: Store, leave: bool) -> Any:
    """What writes to DST, which is made where there is none."""
    from tracking.commands.targets.client import Client
    from tracking.commands.targets.database import Database

    why = "MLflow's API cannot say where files are"
    store.make()
    store.client()
    if connection.kind(store.tracking_uri) in ("sqlite", "postgresql"):
        why = Database.fault(store)
        if not why:
            return Database(store)
        say(f"{store.public_uri}: {why}; so MLflow writes it: slower, and runs get new ids")
    if leave:
        raise TrackingError(f"--leave-artifacts cannot be had for {store.public_uri}: {why}")
    return Client(store)


class _Copier:
    """Brings planned runs over, some at a time, and counts; without a target, or for a dry run, it only counts."""

    def __init__(self, source: str, read_by: str, store: Store, target: Any, arguments: argparse.Namespace) -> None:
        self._source, self._read_by, self._store, self._target = source, read_by, store, target
        self._dry_run, self._leave = arguments.dry_run, arguments.leave_artifacts
        self._homes: dict[str, Any] = {}
        self.count = Counter[str]()
        self.problems: list[str] = []
        self.seconds = 0.0

    def plan(self, runs: Any) -> tuple[list[Planned], int]:
        """The runs to copy, parents first, an experiment after the other; and how many are there already."""
        known = self._target.known(sorted(set(runs["experiment"]))) if self._target is not None else {}
        rows = runs.to_dict("records")
        parents = {row["run_id"]: row.get(_PARENT) for row in rows}
        planned, begun, num_there = [], {}, 0
        for row in rows:
            depth, one = 0, row["run_id"]
            while (one := parents.get(one)) in parents and depth < len(parents):
                depth += 1
            origin = row.get(_ORIGIN) or row["run_id"]
            planned.append(Planned(row["run_id"], origin, row["experiment"], depth))
            there = known.get(origin) or known.get(row["run_id"])
            if there is not None:
                is_open = there.is_copy and there.status in ("RUNNING", "SCHEDULED")
                if is_open and (there.run_id == row["run_id"] or not self._target.keeps_ids):
                    begun[row["run_id"]] = there.run_id
                else:
                    num_there += 1
                    planned.pop()
        # A run that goes on in SRC is copied as it is now, and again only after it changed.
        same = {run_id for run_id, copy in begun.items() if self._is_same(run_id, copy)}
        planned = [one for one in planned if one.run_id not in same]
        return sorted(planned, key=lambda one: (one.depth, one.experiment)), num_there + len(same)

    def _is_same(self, run_id: str, copy: str) -> bool:
        status, num_points, values = _content(self._source, run_id, self._read_by)
        there = _content(self._store.tracking_uri, copy, self._target.read_by)
        return (status, num_points) == there[:2] and values <= there[2]

    def copy(self, planned: list[Planned]) -> None:
        """Bring them over, saying every few seconds how far it is."""
        start = said = time.monotonic()
        num_done, num_at_once = 0, 200 if self._target is None else self._target.num_at_once
        for _, alike in itertools.groupby(planned, key=lambda one: (one.depth, one.experiment)):
            while some := list(itertools.islice(alike, num_at_once)):
                self._copy_some(some)
                num_done += len(some)
                self.seconds = time.monotonic() - start
                if time.monotonic() - said > _SAY_EVERY_S and num_done < len(planned):
                    said = time.monotonic()
                    left = self.seconds / num_done * (len(planned) - num_done)
                    say(f"{num_done:,} of {plural(len(planned), 'run')}, about {duration(left)} left")

    def _copy_some(self, some: list[Planned]) -> None:
        from tracking.commands.targets.database import Unplaced
        from tracking.frame import rows

        origins = {one.run_id: one.origin for one in some}
        while origins:
            try:
                with rows.read(self._source, list(origins), self._read_by) as found:
                    if self._dry_run:
                        self.count.update(self._counted(found))
                    else:
                        home = self._home(some[0].experiment)
                        self.count.update(self._target.write(found, home, origins, self._fetched, self._leave))
                return
            except StoreError as error:  # a value that the database does not take, in one of them
                if isinstance(error, StoreUnreachable) or len(self.problems) >= _MAX_PROBLEMS:
                    raise
                for one in some if len(some) > 1 else ():
                    self._copy_some([one])
                if len(some) == 1:
                    self.problems.append(f"run {some[0].run_id} is not copied: {' '.join(str(error).split())[:_SHOWN]}")
                return
            except Unplaced as error:  # the others of them are not kept out
                self.problems.append(f"run {error.run_id} is not copied: {' '.join(str(error).split())[:_SHOWN]}")
                del origins[error.run_id]

    def _counted(self, found: Any) -> Counter[str]:
        got = found.tables
        count = Counter({name: len(some) for name, some in got.items()})
        count["metrics"] = sum(map(len, found.points))
        places = [row["artifact_uri"] for row in got["runs"]] + [m["artifact_location"] for m in got["logged_models"]]
        for folder in [] if self._leave else map(self._folder, places):
            for path in folder.rglob("*") if folder is not None else ():
                if path.is_file():
                    count.update(files=1, bytes=path.stat().st_size)
        return count

    def _home(self, experiment: str) -> Any:
        from tracking.commands.targets.database import Home

        if experiment not in self._homes:
            experiment_id = self._store.experiment_id(experiment)
            found = self._store.client().get_experiment(experiment_id)
            self._homes[experiment] = Home(experiment_id, found.artifact_location)
        return self._homes[experiment]

    def _folder(self, location: str | None) -> Path | None:
        """The folder of this machine that a location of SRC means, in a store that was moved too; else None."""
        move = moved.move_of(self._source, location)
        return artifacts.local_folder((move.of(location) if move and location else location) or "s3://none")

    @contextmanager
    def _fetched(self, location: str | None) -> Iterator[Path | None]:
        """A folder with the files of a run or model; None where it has none."""
        folder = self._folder(location)
        if folder is not None and folder.is_dir():
            yield folder
        elif folder is not None or not location:
            if folder is not None and not artifacts.is_reachable(folder, self._source):
                raise StoreError(
                    f"its files are in {folder}, a folder of the server's machine: copy there, or --leave-artifacts"
                )
            yield None
        else:
            with tempfile.TemporaryDirectory() as scratch:
                yield artifacts.fetch(self._source, location, "", Path(scratch) / "files")


def _content(uri: str, run_id: str, read_by: str) -> tuple[str, int, set[tuple[str, str, str]]]:
    """A run's status, how many points its metrics have, its parameters and tags."""
    from tracking.frame import rows

    with rows.read(uri, [run_id], read_by) as found:
        values = {(kind, row["key"], row["value"]) for kind in ("params", "tags") for row in found.tables[kind]}
        values = {one for one in values if one[1] not in (names.COPIED_FROM, "mlflow.parentRunId")}
        return found.tables["runs"][0]["status"], sum(map(len, found.points)), values
