"""The oracle: a line before each call and one after it, outside of the store, and how the store compares, by SQL."""

from __future__ import annotations

import functools
import json
import math
import os
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from tracking.journal import Journal


@dataclass(kw_only=True)
class Verdict:
    """What of a point's calls is wrong in the store; ``window_s``: how old the oldest lost event was at the end."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    window_s: float = 0.0
    slowest_ms: float = 0.0
    num_events: int = 0
    why: str = ""


class Oracle:
    """Appends to a file that no fault touches; each line is with the system when the call returns."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._number = 0

    def call(self, said: dict[str, Any], function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Announce a call, make it, and write down that it returned."""
        self._number += 1
        key = f"{os.getpid()}-{self._number}"
        line = json.dumps({"id": key, **said}, default=str) + "\n"
        after = json.dumps({"id": key, "after": True})[:-1]
        os.write(self._fd, line.encode())
        begin = time.monotonic()
        result = function(*arguments, **named)
        end = time.monotonic()
        os.write(self._fd, f'{after}, "at": {end:.6f}, "ms": {(end - begin) * 1e3:.3f}}}\n'.encode())
        return result


def watch(oracle: Oracle) -> None:
    """Have every call that writes an event announced, in this process from now on."""

    def watched(name: str, say: Callable[..., dict[str, Any]]) -> None:
        method = getattr(Journal, name)

        @functools.wraps(method)
        def call(self: Journal, *arguments: Any, **named: Any) -> Any:
            said = {"kind": name, "journal": self.journal_id, **say(*arguments, **named)}
            return oracle.call(said, method, self, *arguments, **named)

        setattr(Journal, name, call)

    def values(values: Any, *, step: int | None = None, **_: Any) -> dict[str, Any]:
        return {"step": step, "values": {k: v if isinstance(v, str) else _plain(v) for k, v in values.items()}}

    def artifact(path: Any, artifact_path: str = "", **_: Any) -> dict[str, Any]:
        size = os.path.getsize(path) if os.path.isfile(path) else None
        return {"path": f"{artifact_path}/{Path(path).name}".removeprefix("./").lstrip("/"), "size": size}

    for name in ("params", "metrics", "tags"):
        watched(name, values)
    watched("artifact", artifact)
    watched("status", lambda status, **_: {"status": status})
    watched("dataset", lambda **named: {"digest": named["digest"], "context": named["context"]})
    create = Journal.create.__func__  # type: ignore[attr-defined]

    def made(cls: type[Journal], root: Path, **named: Any) -> Journal:
        named["journal_id"] = named.get("journal_id") or uuid.uuid4().hex
        said = {"kind": "create", "journal": named["journal_id"], "run_id": named.get("attach_run_id")}
        made: Journal = oracle.call(said, create, cls, root, **named)
        return made

    Journal.create = classmethod(made)  # type: ignore[method-assign, assignment]


def _plain(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def calls(path: Path) -> list[dict[str, Any]]:
    """What was announced, in order; ``at`` is in those that returned."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        entry = json.loads(line)
        if entry.pop("after", False):
            found[entry["id"]] |= entry
        else:
            found[entry["id"]] = entry
    return list(found.values())


def compare(
    oracle: Path, database: Path, cut_at: float | None = None, window_s: float = 0.0, artifacts: Path = Path()
) -> Verdict:
    """What of the announced calls is lost, doubled or ended wrongly in an sqlite store.

    ``cut_at``: when power was cut; calls that returned less than ``window_s`` before it may be lost. ``artifacts``:
    where a server keeps those that it is sent.
    """
    verdict, said = Verdict(), calls(oracle)
    attached = {one["journal"]: one["run_id"] for one in said if one["kind"] == "create" and one["run_id"]}
    by_journal: dict[str, list[dict[str, Any]]] = {}
    for one in said:
        if "at" in one and cut_at is not None and one["at"] > cut_at - window_s and one["at"] <= cut_at:
            one["spare"] = True
        by_journal.setdefault(one["journal"], []).append(one)
        verdict.num_events += 1
        if one["kind"] == "metrics":
            verdict.slowest_ms = max(verdict.slowest_ms, one.get("ms", 0.0))
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        ids = connection.execute("SELECT value, run_uuid FROM tags WHERE key = 'journal_id'").fetchall()
        runs = {**dict(ids), **attached}
        for journal, count in Counter(journal for journal, _ in ids).items():
            if count > 1 or journal not in by_journal:
                verdict.doubled += 1
                verdict.why += f"run of {journal} is there {count} times; "
        for run_id in {runs[journal] for journal in by_journal if journal in runs}:
            mine = [one for journal, several in by_journal.items() if runs.get(journal) == run_id for one in several]
            for lost in _one_run(connection, run_id, mine, verdict, artifacts):
                _lose(verdict, lost, cut_at)
    for journal, several in by_journal.items():
        if journal not in runs:
            for one in several:
                if "at" in one and not (one.get("spare") and cut_at is not None):
                    _lose(verdict, one, cut_at)
    return verdict


def _lose(verdict: Verdict, one: dict[str, Any], cut_at: float | None) -> None:
    if cut_at is not None:
        verdict.window_s = max(verdict.window_s, cut_at - one["at"])
    if not one.get("spare"):
        verdict.lost += 1
        verdict.why += f"lost {one}; "


def _one_run(
    connection: sqlite3.Connection, run_id: str, said: list[dict[str, Any]], verdict: Verdict, artifacts: Path
) -> Iterator[dict[str, Any]]:
    """The calls that returned and are not in this run; what is doubled or wrong is noted."""
    done = [one for one in said if "at" in one]
    rows = connection.execute(
        "SELECT key, step, CASE WHEN is_nan THEN 'nan' ELSE value END FROM metrics WHERE run_uuid = ?",
        [run_id],
    ).fetchall()
    announced = {(k, one["step"]) for one in said if one["kind"] == "metrics" for k in one["values"]}
    for (key, step), count in Counter((key, step) for key, step, _ in rows).items():
        if count > 1 or (key, step) not in announced:
            verdict.doubled += max(1, count - 1)
            verdict.why += f"metric {key} of step {step} is there {count} times; "
    there = set(rows)
    for one in done:
        if one["kind"] == "metrics":
            expected = {(k, one["step"], "nan" if math.isnan(v) else v) for k, v in one["values"].items()}
            if not expected <= there:
                yield one
    params = dict(connection.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run_id]))
    tags = dict(connection.execute("SELECT key, value FROM tags WHERE run_uuid = ?", [run_id]))
    for one in done:
        if one["kind"] == "params" and not set(one["values"]) <= set(params):
            yield one
    last: dict[str, tuple[dict[str, Any] | None, set[str]]] = {}
    for one in said:
        for key, value in one["values"].items() if one["kind"] == "tags" else ():
            text = value if isinstance(value, str) else f"{value:g}"
            former = last.get(key, (None, set()))
            last[key] = (one, {text}) if "at" in one and not one.get("spare") else (former[0], former[1] | {text})
    for key, (must, legal) in last.items():
        # Why an earlier attempt ended is taken off when the run goes on.
        if must and tags.get(key, "").removesuffix(".0") not in legal and key not in ("status_reason", "error_type"):
            yield must
    [(status, where)] = connection.execute("SELECT status, artifact_uri FROM runs WHERE run_uuid = ?", [run_id])
    # What only adds to a run, as an evaluation does, ends by itself; the run's status stays.
    added = {one["journal"] for one in said if one["kind"] == "create" and one["run_id"]}
    ends = [one for one in said if one["kind"] == "status" and one["journal"] not in added]
    returned = max((n for n, one in enumerate(ends) if "at" in one and not one.get("spare")), default=-1)
    legal_ends = {one["status"] for one in ends[max(returned, 0) :]}
    ended = ""
    for one in ends:
        if ended and one["status"] != "RUNNING" and one["status"] != ended:
            legal_ends.clear()  # it had ended already, otherwise
        ended = (one["status"] if one["status"] != "RUNNING" else "") if "at" in one else ended
    if ends and (status not in legal_ends or status == "RUNNING"):
        verdict.wrong += 1
        verdict.why += f"{run_id} is {status}, not one of {legal_ends}; "
    digests = {
        digest
        for (digest,) in connection.execute(
            "SELECT d.digest FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id WHERE i.destination_id = ?",
            [run_id],
        )
    }
    yield from (one for one in done if one["kind"] == "dataset" and one["digest"] not in digests)
    models = Counter(
        name for (name,) in connection.execute("SELECT name FROM logged_models WHERE source_run_id = ?", [run_id])
    )
    if double := sum(models.values()) - len(models):
        verdict.doubled += double
        verdict.why += f"models {models}; "
    folder = Path(unquote(urlparse(where).path))
    if urlparse(where).scheme == "mlflow-artifacts":
        folder = artifacts / folder.relative_to("/")
    latest = {one["path"]: one for one in said if one["kind"] == "artifact"}  # a later one of that name replaces it
    for one in latest.values():
        file = folder / one["path"]
        whole = file.exists() and (one["size"] is None or file.stat().st_size == one["size"])
        if "at" in one and one["path"] not in models and not whole:
            yield one
