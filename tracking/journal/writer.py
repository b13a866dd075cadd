"""The write side of a run's journal (``tracking.journal.events`` says what that is), with the standard library alone.

An event is with the operating system when the call returns: a killed process loses nothing. On the disk itself, and so
safe from a power cut, are the beginning and the end of a run and artifacts when their calls return, every other event
half a second later: a thread waits for the disk, not the training.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from tracking.errors import JournalError, TrackingError
from tracking.journal.checks import (
    CONTEXTS,
    FILES,
    MAX_DATASET_NAME_LENGTH,
    MAX_DATASET_SOURCE_LENGTH,
    MAX_DIGEST_LENGTH,
    MAX_EXPERIMENT_LENGTH,
    STATUSES,
    Event,
    check_folder,
    check_id,
    check_name,
    check_step,
    check_time,
    encode_number,
)
from tracking.journal.events import VERSION, Position, encode, now_ms, read, segments
from tracking.journal.files import AppendFile, cannot_write, hold, make_private, place, sync_files, sync_folder


class Journal:
    """The one writer of a journal; safe to call from several threads and from a signal handler.

    Every method raises JournalError when the disk does not take the event; what was written before stays.
    ``time_ms`` defaults to now; give it when the event happened elsewhere or long ago.
    """

    def __init__(self, directory: Path, lock: int) -> None:
        """Take an open journal directory whose ``lock`` file is held: use ``create`` or ``reopen``."""
        self.dir = directory
        self.journal_id = directory.name
        self._lock = lock
        self._lines: AppendFile | None = None
        self._names: set[str] = set()
        self._guard = threading.RLock()
        _open.add(self)

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        experiment: str,
        run_name: str | None,
        attach_run_id: str | None = None,
        start_time_ms: int | None = None,
        parent: str | None = None,
        journal_id: str | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> Journal:
        """Begin a new journal under ``root``.

        ``attach_run_id`` names an existing MLflow run to write onto, ``parent`` the journal of the run this one belongs
        to. ``tags`` are set when the run is made. A given ``journal_id`` (letters, digits and -) must
        be new; importers give one so that importing twice makes one run.
        """
        journal_id = check_id(uuid.uuid4().hex if journal_id is None else journal_id)
        if not 1 <= len(experiment) <= MAX_EXPERIMENT_LENGTH:
            raise TrackingError(
                f"experiment {experiment[:80]!r}: give a name of 1 to {MAX_EXPERIMENT_LENGTH} characters"
            )
        time_ms = check_time(now_ms() if start_time_ms is None else start_time_ms)
        known_tags = {check_name(name): str(value) for name, value in (tags or {}).items()}
        directory = Path(root).absolute() / journal_id
        fresh = directory.parent / f".{journal_id}.{os.getpid()}.tmp"
        journal = None
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            make_private(fresh)
            (fresh / FILES).mkdir()
            journal = cls(fresh, hold(fresh))
            journal.journal_id = journal_id
            journal._lines = AppendFile(fresh, 1, 0)
            journal._write(
                {
                    "time_ms": time_ms,
                    "event": "start",
                    "version": VERSION,
                    "journal_id": journal_id,
                    "experiment": experiment,
                    "run_name": run_name,
                    "attach_run_id": attach_run_id,
                    "parent": parent,
                    "start_time_ms": time_ms,
                    "tags": known_tags,
                }
            )
            journal._sync()
            # Not visible before its lock is held and its first line is on the disk: it would look like one whose writer
            # died, or be none at all.
            fresh.rename(directory)
            journal.dir = directory
            journal._lines.move(directory)
            journal._sync()
        except BaseException as error:
            if journal is not None:
                journal._release()
            if journal is None or journal.dir == fresh:
                shutil.rmtree(fresh, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and directory.exists():
                raise JournalError(f"{directory} exists: a journal is begun once; reopen it to go on") from None
            raise cannot_write(directory, error) from error
        return journal

    @classmethod
    def reopen(cls, directory: Path) -> Journal:
        """Go on with a journal whose writer is gone; a torn last line is cut off. JournalError while it is written."""
        directory = Path(directory).absolute()
        numbers = segments(directory)
        if not numbers:
            raise JournalError(f"{directory} holds no journal")
        lock = hold(directory)
        journal = cls(directory, lock)
        try:
            end = Position()
            for _, position in read(directory):
                end = position
            if end == Position():  # its writer died before the first line
                raise JournalError(f"{directory} holds no journal")
            number = max(numbers)
            journal._lines = AppendFile(directory, number, end.offset if end.segment == number else 0)
        except BaseException:
            journal.close()
            raise
        return journal

    def params(self, values: Mapping[str, object], *, time_ms: int | None = None) -> None:
        """Write parameters, as text; None means unset and is left out."""
        text = {self._known(name): str(value) for name, value in values.items() if value is not None}
        if text:
            self._event(time_ms, "param", values=text)

    def metrics(self, values: Mapping[str, SupportsFloat], *, step: int, time_ms: int | None = None) -> None:
        """Write metrics of one step; NaN and infinities are kept."""
        numbers = {self._known(name): encode_number(name, value) for name, value in values.items()}
        if numbers:
            self._event(time_ms, "metric", step=check_step(step), values=numbers)

    def tags(self, values: Mapping[str, object], *, time_ms: int | None = None) -> None:
        """Write tags, as text; a later value replaces an earlier one, None is left out."""
        text = {self._known(name): str(value) for name, value in values.items() if value is not None}
        if text:
            self._event(time_ms, "tag", values=text)

    def dataset(
        self,
        *,
        context: str,
        name: str,
        digest: str,
        source: str,
        num_images: int,
        num_classes: int,
        profile: Mapping[str, Any] | None = None,
        time_ms: int | None = None,
    ) -> None:
        """Write which data a split was: ``digest`` identifies its content in at most 36 characters."""
        if context not in CONTEXTS:
            raise TrackingError(f"dataset context {context!r}: legal are {', '.join(CONTEXTS)}")
        source = str(source)
        for what, text, limit in (
            ("name", name, MAX_DATASET_NAME_LENGTH),
            ("source", source, MAX_DATASET_SOURCE_LENGTH),
        ):
            if len(text) > limit:
                raise TrackingError(f"dataset {what} {text[:80]!r}… has {len(text)} characters; give at most {limit}")
        if not 1 <= len(digest) <= MAX_DIGEST_LENGTH:
            raise TrackingError(f"dataset digest {digest!r}: MLflow keeps 1 to {MAX_DIGEST_LENGTH} characters")
        self._event(
            time_ms,
            "dataset",
            context=context,
            name=name,
            digest=digest,
            source=source,
            num_images=int(num_images),
            num_classes=int(num_classes),
            profile=dict(profile or {}),
        )

    def artifact(
        self, path: str | Path, artifact_path: str = "", *, move: bool = False, time_ms: int | None = None
    ) -> Path:
        """Keep a file or folder with the run; returns where it is now.

        What is outside ``files/``, or is a link to there, is copied (``move``: moved, where no link is among it), so
        that the original may change or go; it is replaced whole, never written in place, so a replayer may link to it
        (``placed``). What is already inside is taken as it is; what links in it lead out of ``files/`` to is not.
        ``artifact_path`` is the folder in the run's artifacts, "" the top.
        """
        source = Path(os.path.abspath(path))
        if not source.exists():
            raise TrackingError(f"artifact {source} does not exist")
        folder = check_folder(artifact_path)
        files = self.dir / FILES
        if source.is_dir() and files.is_relative_to(source) and files != source:
            raise TrackingError(f"artifact {source} holds the run's own folder; give a folder beside it")
        placed = not (source.is_relative_to(files) and source.resolve().is_relative_to(files.resolve()))
        kept = files / folder / source.name if placed else source
        try:
            if placed:
                place(source, kept, move)
            else:
                sync_files(kept)
                sync_folder(kept.parent)
        except OSError as error:
            raise cannot_write(kept, error) from error
        self._event(
            time_ms, "artifact", path=kept.relative_to(self.dir).as_posix(), artifact_path=folder, placed=placed
        )
        return kept

    def status(
        self, status: str, *, reason: str = "", end_time_ms: int | None = None, time_ms: int | None = None
    ) -> None:
        """Write the run's state; a final one is forced to the disk before the call returns."""
        if status not in STATUSES:
            raise TrackingError(f"status {status!r}: legal are {', '.join(STATUSES)}")
        time_ms = now_ms() if time_ms is None else time_ms
        ended = status != "RUNNING"
        end = check_time(time_ms if end_time_ms is None else end_time_ms) if ended else None
        with self._guard:
            self._event(time_ms, "status", status=status, reason=reason, end_time_ms=end)
            if ended:
                self._sync()

    def close(self) -> None:
        """Bring what was written to the disk itself and release the journal; closing twice is fine."""
        with self._guard:
            try:
                if self._lines is not None:
                    self._lines.drop_reserve()
                    if not self._lines.is_synced:  # the thread that flushes may come too late
                        self._lines.sync()
            except OSError as error:
                raise cannot_write(self.dir, error) from error
            finally:
                self._release()

    def _release(self) -> None:
        # Cleared first: a closed descriptor's number may be reused at once, even when closing failed.
        lines, self._lines = self._lines, None
        lock, self._lock = self._lock, -1
        try:
            if lines is not None:
                lines.close()
        finally:
            if lock >= 0:
                os.close(lock)

    def _sync(self) -> None:
        assert self._lines is not None
        try:
            self._lines.sync()
            sync_folder(self.dir.parent)
        except OSError as error:
            raise cannot_write(self.dir, error) from error

    def _known(self, name: str) -> str:
        if name not in self._names:
            self._names.add(check_name(name))
        return name

    def _event(self, time_ms: int | None, event: str, **rest: Any) -> None:
        self._write({"time_ms": now_ms() if time_ms is None else check_time(time_ms), "event": event, **rest})

    def _write(self, event: Event) -> None:
        try:
            line = (encode(event) + "\n").encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise TrackingError(f"this {event['event']} event cannot be written as JSON: {error}") from None
        with self._guard:
            if self._lines is None:
                raise JournalError(f"{self.dir}: the journal is closed; reopen it to go on")
            self._lines.append(line, last_words=event["event"] in ("tag", "status"))


_open: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child that kept the lock's descriptor would keep a dead run looking alive.
    for journal in list(_open):
        journal._guard = threading.RLock()
        journal._release()


os.register_at_fork(after_in_child=_forget_in_child)
