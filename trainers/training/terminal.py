"""What a person sees while a run trains: a heading, a line an epoch, and on a terminal a bar under it.

Lines go to standard output (and so into the run's log); the bar goes to the terminal alone.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tracking.errors.program import drawn
from tracking.errors.words import duration
from tracking.journal.background import in_background

_COLUMNS = ("epoch", "train", "loss", "validation", "loss", "lr", "images/s", "time")
_WIDTHS = (7, 6, 6, 10, 6, 8, 8, 7)
_BEGIN_S = 5.0  # a thread that has not begun by then has died of it
_END_S = 5.0  # a child process that still holds the pipe must not hold us
_BAR_AT_MOST, _BESIDE_BAR = 28, 66  # columns: the bar, and the widest text that stands beside it


class Progress:
    """``with Progress(epochs) as progress:`` then ``batch`` and ``epoch`` as they come."""

    def __init__(self, epochs: int, *, terminal: TextIO | None = None, bar: bool | None = None) -> None:
        """``bar``: draw one; by default where standard output is a terminal."""
        self.epochs = epochs
        self._terminal = terminal or sys.stdout
        self._bar: Any = None
        self._wants_bar = self._terminal.isatty() if bar is None else bar
        self._task: Any = None
        self._headed = False

    def __enter__(self) -> Progress:
        if self._wants_bar:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            console = Console(file=drawn(self._terminal), force_terminal=True)
            width = max(4, min(_BAR_AT_MOST, console.width - _BESIDE_BAR))  # a wrapped bar is not erased whole
            self._bar = Bar(
                TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
                BarColumn(bar_width=width),
                TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.3f}"),
                TextColumn("[dim]{task.fields[rate]:.0f} images/s[/dim]"),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hide()

    def batch(self, seen: Any) -> None:
        """One step of the bar; ``seen`` is a ``trainers.training.fit.BatchProgress``."""
        if self._bar is None:
            return
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(
                "", total=self.epochs, epoch=seen.epoch, epochs=self.epochs, loss=0.0, accuracy=0.0, rate=0.0
            )
        self._bar.update(
            self._task,
            completed=seen.epoch - 1 + seen.batch / seen.num_batches,
            epoch=seen.epoch,
            loss=seen.loss,
            accuracy=seen.accuracy,
            rate=seen.images_per_s,
        )

    def epoch(self, row: dict[str, Any]) -> None:
        """Print the line of a finished epoch; ``row`` holds its metric values and ``epoch``."""
        if self._bar is not None and self._task is not None:
            self._bar.stop()
            self._bar.console.file.flush()
        if not self._headed:
            print(_row(_COLUMNS) + "  * best so far")
            self._headed = True
        cells = (
            f"{row['epoch']}/{self.epochs}",
            f"{row['train_accuracy']:.3f}",
            f"{row['train_loss']:.3f}",
            f"{row['validation_accuracy']:.3f}" + ("*" if row.get("is_best") else " "),
            f"{row['validation_loss']:.3f}",
            f"{row['epoch_learning_rate']:g}",
            f"{row['images_per_s']:,.0f}",
            duration(row["epoch_time_s"]),
        )
        print(_row(cells), flush=True)
        if self._bar is not None and self._task is not None and row["epoch"] < self.epochs:
            self._bar.start()

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _row(cells: tuple[str, ...]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))


class Tee:
    """``with Tee(path) as tee:`` copies standard output and error to ``path``; ``tee.terminal`` bypasses the copy.

    What is for eyes only (a progress bar that redraws itself) goes to ``terminal``, so that the file stays readable.
    ``quiet`` keeps standard output for the file alone; errors are still shown.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self.path = path
        self._quiet = quiet
        self.terminal: TextIO = sys.stdout
        self._saved: list[tuple[int, int]] = []
        self._over: list[threading.Event] = []
        self._guard = threading.Lock()

    def __enter__(self) -> Tee:
        self._file = self.path.open("ab", buffering=0)
        for descriptor in (1, 2):
            _flush()
            saved = os.dup(descriptor)
            reader, writer = os.pipe()
            is_hidden, begun = self._quiet and descriptor == 1, threading.Event()
            shown = os.open(os.devnull, os.O_WRONLY) if is_hidden else os.dup(descriptor)
            over = in_background(partial(self._copy, reader, shown, begun))
            if over.is_set():
                os.close(reader)
                os.close(shown)
            elif begun.wait(_BEGIN_S):  # a pipe without a reader fills up, and who writes to it waits forever
                os.dup2(writer, descriptor)
                self._over.append(over)
            os.close(writer)
            self._saved.append((descriptor, saved))
        to = os.open(os.devnull, os.O_WRONLY) if self._quiet else os.dup(self._saved[0][1])
        self.terminal = os.fdopen(to, "w", encoding="utf-8", errors="replace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flush()
        self.terminal.close()
        for descriptor, saved in self._saved:
            os.dup2(saved, descriptor)  # closes the pipe's last writer, so the thread sees its end
        for over in self._over:
            over.wait(_END_S)
        for _, saved in self._saved:
            os.close(saved)
        with self._guard:
            self._file.close()

    def _copy(self, reader: int, shown: int, begun: threading.Event) -> None:
        begun.set()
        # Both are its own: it may outlive the tee, and the number of a closed descriptor is soon another file's.
        with os.fdopen(reader, "rb", buffering=0) as pipe, os.fdopen(shown, "wb", buffering=0) as terminal:
            rest = b""
            while chunk := pipe.read(65536):
                _write(terminal.fileno(), chunk)
                lines, end, rest = (rest + chunk).rpartition(b"\n")  # the other stream's may be written in between
                if len(rest) > 65536:
                    end, rest = end + rest, b""
                self._log(lines + end)
            self._log(rest)

    def _log(self, content: bytes) -> None:
        with self._guard:
            if not self._file.closed:
                _write(self._file.fileno(), content)


def _write(descriptor: int, chunk: bytes) -> None:
    while chunk:
        try:
            chunk = chunk[os.write(descriptor, chunk) :]
        except OSError:
            return  # a closed terminal or a full disk must not stop the other copy


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
