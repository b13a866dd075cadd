"""What a person sees while a run trains: a heading, a line an epoch, and on a terminal a bar under it.

Lines go to standard output (and so into the run's log); the bar goes to the terminal alone.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, TextIO

_COLUMNS = ("epoch", "train", "loss", "validation", "loss", "lr", "images/s", "time")
_WIDTHS = (7, 8, 8, 11, 8, 9, 9, 8)


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

            self._bar = Bar(
                TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
                BarColumn(bar_width=28),
                TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.3f}"),
                TextColumn("[dim]{task.fields[rate]:.0f} images/s[/dim]"),
                TimeRemainingColumn(compact=True),
                console=Console(file=self._terminal, force_terminal=True),
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
            print(_row(_COLUMNS))
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


def duration(seconds: float) -> str:
    """``48s``, ``3m05s``, ``2h10m``."""
    if seconds < 59.95:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{left:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def _row(cells: tuple[str, ...]) -> str:
    return "".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
