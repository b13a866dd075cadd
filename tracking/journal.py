"""The write side of a run's journal (``tracking.events`` says what that is), with the standard library alone.

An event is on its way to the disk when the call returns: a killed process loses nothing, a machine that loses power
at most the last seconds.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from tracking.disk import Lines, cannot_write, hold, is_held, place, writer
from tracking.errors import JournalError, TrackingError
from tracking.events import (
    CONTEXTS,
    FILES,
    MAX_DIGEST_LENGTH,
    STATUSES,
    VERSION,
    Event,
    Position,
    check_name,
    encode,
    encode_number,
    journals,
    now_ms,
    read,
    segments,
)

__all__ = ["Event", "Journal", "Position", "is_held", "journals", "now_ms", "read", "writer"]


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
        self._lines: Lines | None = None
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
        to. ``tags`` are set in the same breath as the run is made. A given ``journal_id`` (letters, digits and -) must
        be new; importers give one so that importing twice makes one run.
        """
        journal_id = uuid.uuid4().hex if journal_id is None else journal_id
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", journal_id):
            raise TrackingError(f"journal id {journal_id!r}: use up to 64 letters, digits and -")
        directory = Path(root).absolute() / journal_id
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            # Nobody may see the journal before its lock is held: it would look like one whose writer died.
            fresh = directory.parent / f".{journal_id}.{os.getpid()}.tmp"
            fresh.mkdir()
            (fresh / FILES).mkdir()
            lock = hold(fresh)
            fresh.rename(directory)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and directory.exists():
                shutil.rmtree(fresh, ignore_errors=True)
                raise JournalError(f"{directory} exists: a journal is begun once; reopen it to go on") from None
            raise cannot_write(directory, error) from error
        journal = cls(directory, lock)
        time_ms = now_ms() if start_time_ms is None else start_time_ms
        try:
            journal._lines = Lines(directory, 1, 0)
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
                    "tags": {check_name(name): str(value) for name, value in (tags or {}).items()},
                }
            )
        except BaseException:
            journal.close()
            raise
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
            number = max(numbers)
            journal._lines = Lines(directory, number, end.offset if end.segment == number else 0)
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
            self._event(time_ms, "metric", step=int(step), values=numbers)

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
        if not 1 <= len(digest) <= MAX_DIGEST_LENGTH:
            raise TrackingError(f"dataset digest {digest!r}: MLflow keeps 1 to {MAX_DIGEST_LENGTH} characters")
        self._event(
            time_ms,
            "dataset",
            context=context,
            name=name,
            digest=digest,
            source=str(source),
            num_images=int(num_images),
            num_classes=int(num_classes),
            profile=dict(profile or {}),
        )

    def artifact(
        self, path: str | Path, artifact_path: str = "", *, move: bool = False, time_ms: int | None = None
    ) -> Path:
        """Keep a file or folder with the run; returns where it lies now.

        What lies outside ``files/`` is copied there (``move``: moved), so that the original may change or go; it is
        replaced whole, never written in place, so a replayer may link to it (``placed``). What is already inside is
        taken as it is. ``artifact_path`` is the folder in the run's artifacts, "" the top.
        """
        source = Path(path).absolute()
        if not source.exists():
            raise TrackingError(f"artifact {source} does not exist")
        folder = os.path.normpath(artifact_path) if artifact_path else ""
        if folder.startswith(("..", "/")):
            raise TrackingError(f"artifact folder {artifact_path!r} leads out of the run; give a relative one")
        kept, placed = source, False
        if not source.is_relative_to(self.dir / FILES):
            kept, placed = self.dir / FILES / folder / source.name, True
            try:
                place(source, kept, move)
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
        end = (time_ms if end_time_ms is None else end_time_ms) if ended else None
        with self._guard:
            self._event(time_ms, "status", status=status, reason=reason, end_time_ms=end)
            if ended and self._lines is not None:
                self._lines.sync()

    def close(self) -> None:
        """Stop writing and let go of the journal; closing twice is fine."""
        with self._guard:
            if self._lines is not None:
                self._lines.drop_reserve()
            self._release()

    def _release(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _known(self, name: str) -> str:
        if name not in self._names:
            self._names.add(check_name(name))
        return name

    def _event(self, time_ms: int | None, event: str, **rest: Any) -> None:
        self._write({"time_ms": now_ms() if time_ms is None else time_ms, "event": event, **rest})

    def _write(self, event: Event) -> None:
        line = (encode(event) + "\n").encode("ascii")
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
