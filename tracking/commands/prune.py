"""Free the space of old runs: journals that are wholly in MLflow, and failed runs with their files. Lists first.

Looked at are the runs that were written in this directory (mlruns/journals) and ended longer ago than --older-than. A
journal goes with its checkpoints when all of it is in MLflow, where the run stays. A run that failed or was killed goes
itself: MLflow marks it as deleted (`mlflow runs restore` brings back its values), its files are removed. What a
registered model, another run or a report needs stays, and so does the best run of an experiment. A removal that was
stopped is done to its end by the next call.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tracking import names
from tracking.commands.sync import name_strangers, say
from tracking.errors import TrackingError
from tracking.errors.words import plural, readable
from tracking.journal.checks import text_from
from tracking.journal.events import beginning, journals, read, strangers
from tracking.journal.files import hold, is_held
from tracking.journal.progress import is_done, progress
from tracking.store import Store, artifacts, connection, resolve, schema

NAME = "prune"
HELP = "free the space of old journals and failed runs"
KEEP = ("best", "promoted", "referenced")
_UNITS = {"d": 86_400, "w": 7 * 86_400, "h": 3_600}
_HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{8,32}(?![0-9a-f])")  # an id, or its beginning
_REPORTS = (".md", ".html", ".json", ".csv", ".txt", ".ipynb")
_OWN = f"tags.{names.JOURNAL_ID}"
_BEST = (names.TEST_ACCURACY, names.BEST_VALIDATION_ACCURACY)
_IN_USE, _NOT_OURS = "being written", "a link, or another user's"
_BEGUN = ".pruned-"  # a journal has this name, which nothing else looks at, from the beginning of its removal on


@dataclass(kw_only=True)
class Item:
    """What is removed of a run: its journal; where it failed also ``folders``, ``models`` and the run itself."""

    journal: Path
    run_id: str
    name: str
    status: str
    ended_ms: int
    is_failed: bool
    folders: list[Path] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[Path]:
        return [self.journal, *self.folders]

    @property
    def is_begun(self) -> bool:
        return self.journal.name.startswith(_BEGUN)

    @property
    def short(self) -> str:
        return self.journal.name.removeprefix(_BEGUN)[:8]

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.ended_ms / 1000, timezone.utc).strftime("%Y-%m-%d")
        what = "run    " if self.is_failed else "journal"
        size = readable(sum(one.st_size for one in _stats(self)))
        name = "the rest of a removal that was stopped" if self.is_begun else text_from(self.name)
        return f"{what}  {self.short}  {self.status:8}  {when}  {size:>8}  {name}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``prune``."""
    parser.add_argument("--older-than", required=True, metavar="TIME", help="such as 90d, 12w or 36h")
    parser.add_argument(
        "--keep",
        default=",".join(KEEP),
        metavar="RULES",
        help="which runs stay, of best (of their experiment and data set), promoted (registered models), referenced"
        " (named in a report below this directory or by another run); all three by default",
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be removed")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """List, ask, remove, and say what was freed; 1 where something could not be removed."""
    before_ms = time.time() * 1000 - _seconds(arguments.older_than) * 1000
    rules = _rules(arguments.keep)
    store = resolve()
    if connection.kind(store.tracking_uri) in connection.DATABASES:
        found = schema.look(store.tracking_uri)
        if fault := schema.fault(store.tracking_uri, found):
            raise TrackingError(fault)
        if schema.state(found) == "absent":
            raise TrackingError(schema.unreadable(store.tracking_uri, found))
    name_strangers(store)
    items, left = _candidates(store, before_ms)
    kept = _kept(store, items, rules) if items else {}
    for item in items:
        if item.journal.name in kept:
            left[kept[item.journal.name]] += 1
    items = [item for item in items if item.journal.name not in kept]
    for item in sorted(items, key=lambda one: one.ended_ms):
        print(item)
    for why, num in sorted(left.items()):
        print(f"stays: {plural(num, 'run')}, {why}")
    if not items:
        print("nothing to remove")
        return 0
    num_failed = sum(item.is_failed for item in items)
    size = readable(_freed([one for item in items for one in _stats(item)]))
    print(f"{plural(len(items), 'journal')}, and the runs themselves of {num_failed} that failed: {size} to be freed")
    if arguments.dry_run or not (arguments.yes or _said_yes()):
        return 0
    return _remove(items, store)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([dwh])", text)
    if match is None or not int(match[1]):
        raise TrackingError(f"--older-than {text!r}: give days, weeks or hours, such as 90d, 12w or 36h")
    return int(match[1]) * _UNITS[match[2]]


def _rules(text: str) -> set[str]:
    rules = {word.strip() for word in text.split(",")} - {""}
    if unknown := sorted(rules - set(KEEP)):
        raise TrackingError(f"--keep {unknown[0]!r}: legal are {', '.join(KEEP)}")
    return rules


def _said_yes() -> bool:
    if not sys.stdin.isatty():
        print("nothing was removed; --yes removes it")
        return False
    return input("Remove them? [y/N] ").strip().lower() in ("y", "yes")


def _candidates(store: Store, before_ms: float) -> tuple[list[Item], Counter[str]]:
    """The journals that may go as far as they themselves say; and how many stay, by the reason."""
    items, left = [], Counter[str]()
    linked = [path for path, _ in strangers(store.journals) if path.is_symlink() and path.is_dir()]
    for directory in [*journals(store.journals), *linked, *sorted(store.journals.glob(f"{_BEGUN}*"))]:
        try:
            item = _item(directory, store)
        except TrackingError as error:
            item = f"not readable: {error}"
        is_begun = directory.name.startswith(_BEGUN)
        if is_begun and isinstance(item, str) and item not in (_IN_USE, _NOT_OURS):
            # MLflow's part is done, and some of its files too.
            item = Item(journal=directory, run_id="", name="", status="", ended_ms=0, is_failed=False)
        if isinstance(item, str):
            left[item] += 1
        elif item.ended_ms >= before_ms and not is_begun:
            left["not old enough"] += 1
        else:
            items.append(item)
    return items, left


def _item(directory: Path, store: Store) -> Item | str:
    """What of a journal could go, or why it stays."""
    if directory.is_symlink() or directory.lstat().st_uid != os.getuid():
        return _NOT_OURS
    if is_held(directory):
        return _IN_USE
    start = beginning(directory)
    status, ended_ms = None, 0
    for event, _ in read(directory):
        if event["event"] == "status":
            status, ended_ms = event["status"], event.get("end_time_ms") or event["time_ms"]
        ended_ms = max(ended_ms, event["time_ms"])
    if status in (None, "RUNNING"):
        return "not ended (`python -m tracking repair` closes those that died)"
    run_id = progress(directory, store.public_uri).run_id
    if run_id is None or not is_done(directory, store.public_uri):
        return f"not wholly in {store.public_uri} (`python -m tracking sync`)"
    return Item(
        journal=directory,
        run_id=run_id,
        name=start.get("run_name") or "",
        status=status,
        ended_ms=int(ended_ms),
        is_failed=status != "FINISHED" and not start.get("attach_run_id"),  # it may only have added to another's run
    )


def _kept(store: Store, items: list[Item], rules: set[str]) -> dict[str, str]:
    """Journal -> why it stays, by what MLflow knows; fills in the folders of the failed runs that go."""
    from tracking.frame import frame

    runs = frame.load(store)
    rows: dict[str, Any] = {row["run_id"]: row for row in runs.to_dict("records")}
    promoted = _registered(store) if "promoted" in rules else set()
    best = _best(rows) if "best" in rules else set()
    named = _named_in_reports(Path.cwd(), store) if "referenced" in rules else {}
    sources = _named_by_runs(rows)
    kept = {}
    for item in items:
        row, ids = rows.get(item.run_id), (item.run_id[:8], item.journal.name[:8])
        report = next((named[one] for one in ids if one in named), None)
        if row is None and item.is_begun:
            item.is_failed = False  # it is gone from MLflow, and its files before it
            continue
        if row is None:
            kept[item.journal.name] = f"no longer in {store.public_uri}"
        elif item.is_begun:
            _fill(item, row, store)
        elif row.get(f"tags.{names.REPLAY_PROBLEMS}"):
            kept[item.journal.name] = "MLflow could not take all of it (tag replay_problems)"
        elif item.run_id in promoted:
            kept[item.journal.name] = "in the model registry"
        elif any(sources.get(one, set()) - {item.run_id} for one in ids):
            kept[item.journal.name] = "named by another run"
        elif report is not None:
            kept[item.journal.name] = f"named in {report}"
        elif item.run_id in best:
            kept[item.journal.name] = "the best of its experiment and data set"
        elif item.is_failed and row["status"] != item.status:
            kept[item.journal.name] = f"{row['status']} in MLflow"
        else:
            places = _fill(item, row, store)
            if all(places) and any(files_in([item.journal / "files"])) and not any(files_in(places)):
                kept[item.journal.name] = "its files are not with MLflow's"
    return kept


def _fill(item: Item, row: dict[str, Any], store: Store) -> list[Path | None]:
    """Where MLflow has its files, None being another machine; of a failed run those that go, and its models."""
    from tracking.frame import frame

    models = frame.models(store, item.run_id)
    places = [artifacts.local_folder(place) for place in (row["artifact_uri"], *(where for _, where in models))]
    if item.is_failed:
        item.folders = [one for one in places if one is not None and _is_ours(one, item.run_id, store)]
        item.models = [model_id for model_id, _ in models]
    return places


def _is_ours(folder: Path, run_id: str, store: Store) -> bool:
    """Whether a folder is that of one run or model below the store's artifacts, and reached without a link."""
    root = store.artifact_root
    if root is None or folder.is_symlink() or not folder.is_dir() or folder.name != "artifacts":
        return False
    inside = folder.resolve().is_relative_to(root.resolve()) and folder.resolve() == folder.absolute()
    return inside and (folder.parent.name == run_id or folder.parent.name.startswith("m-"))


def _registered(store: Store) -> set[str]:
    """The runs whose models are registered, under whichever alias or none."""
    client, found, token = store.client(), set(), None
    with connection.translated(store.tracking_uri):
        while True:
            page = client.search_model_versions(page_token=token)
            found |= {version.run_id for version in page}
            if not (token := page.token):
                return found


def _best(rows: dict[str, dict[str, Any]]) -> set[str]:
    best: dict[tuple[Any, ...], tuple[float, str]] = {}
    for run_id, row in rows.items():
        for metric in _BEST:
            score = row.get(f"metrics.{metric}")
            if score is not None and score == score:
                key = (row["experiment"], row.get("params.dataset"), metric)
                best[key] = max(best.get(key, (score, run_id)), (score, run_id))
    return {run_id for _, run_id in best.values()}


def _named_by_runs(rows: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Beginning of an id -> the runs that have it in a parameter or tag: a parent, the source of their weights …"""
    found: dict[str, set[str]] = {}
    for run_id, row in rows.items():
        for column, value in row.items():
            if isinstance(value, str) and column.startswith(("params.", "tags.")) and column != _OWN:
                for word in _HEX.findall(value.encode(errors="replace")):
                    found.setdefault(word[:8].decode(), set()).add(run_id)
    return found


def _named_in_reports(folder: Path, store: Store) -> dict[str, str]:
    """Beginning of an id -> the file below a folder that has it; hidden folders and the store's own are left out."""
    found: dict[str, str] = {}
    away = {path.resolve() for path in (store.journals.parent, store.artifact_root) if path is not None}
    for where, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [one for one in folders if one[:1] != "." and (Path(where) / one).resolve() not in away]
        for path in (Path(where) / one for one in files if one.lower().endswith(_REPORTS)):
            try:
                for word in _HEX.findall(path.read_bytes()) if path.is_file() else ():
                    found.setdefault(word[:8].decode(), os.path.relpath(path, folder))
            except OSError as error:
                _refuse(error, path)
    return found


def _refuse(error: OSError, path: Path | None = None) -> None:
    if not isinstance(error, FileNotFoundError):  # else it is gone meanwhile
        what = path or error.filename
        raise TrackingError(f"{what} cannot be read, so what it holds is not known: {error.strerror}") from error


def files_in(places: Sequence[Path | None]) -> Iterator[Path]:
    """Every file in some folders; no link is followed."""
    for place in filter(None, places):
        for where, _, files in os.walk(place, onerror=_refuse):
            yield from (Path(where) / one for one in files)


def _stats(item: Item) -> list[os.stat_result]:
    return [path.lstat() for path in files_in(item.places)]


def _freed(stats: list[os.stat_result]) -> int:
    """The bytes that are free without these files: one with another name elsewhere, as models have, stays."""
    gone = Counter((one.st_dev, one.st_ino) for one in stats)
    sizes = {(one.st_dev, one.st_ino): one.st_size for one in stats if gone[one.st_dev, one.st_ino] >= one.st_nlink}
    return sum(sizes.values())


def _remove(items: list[Item], store: Store) -> int:
    """Remove them one by one, each checked once more under its writer's lock.

    The journal gets another name first and goes last, so that the next call finds what was begun, and `sync` does not.
    """
    client = store.client() if any(item.is_failed for item in items) else None
    gone: list[os.stat_result] = []
    num_failed = 0
    for item in items:
        try:
            lock, stats = hold(item.journal), _stats(item)
            try:
                if not item.is_begun and not is_done(item.journal, store.public_uri):
                    raise TrackingError("it was written meanwhile")
                aside = item.journal.with_name(f"{_BEGUN}{item.journal.name.removeprefix(_BEGUN)}")
                item.journal.rename(aside)
                for place in item.folders:
                    shutil.rmtree(place)
                if client is not None and item.is_failed:
                    with connection.translated(store.tracking_uri):
                        for model_id in item.models:
                            client.delete_logged_model(model_id)
                        client.delete_run(item.run_id)
                shutil.rmtree(aside)
            finally:
                os.close(lock)
        except (TrackingError, OSError) as error:
            num_failed += 1
            say(f"{item.short} is left: {error}")
            continue
        gone += stats
    print(f"freed {readable(_freed(gone))}: {plural(len(items) - num_failed, 'journal')}")
    return 1 if num_failed else 0
