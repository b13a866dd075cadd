"""Copy everything this process writes to its terminal into a file as well, C++ libraries' output included.

The file descriptors 1 and 2 are replaced by pipes, so that lines written below Python's streams are caught too.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import TextIO


class Tee:
    """``with Tee(path) as tee:`` copies standard output and error to ``path``; ``tee.terminal`` bypasses the copy.

    What is for eyes only (a progress bar that redraws itself) goes to ``terminal``, so that the file stays readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.terminal: TextIO = sys.stdout
        self._saved: list[tuple[int, int]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Tee:
        self._file = self.path.open("ab", buffering=0)
        for descriptor in (1, 2):
            _flush()
            saved = os.dup(descriptor)
            reader, writer = os.pipe()
            os.dup2(writer, descriptor)
            os.close(writer)
            thread = threading.Thread(target=self._copy, args=(reader, saved), name=f"tee-{descriptor}", daemon=True)
            thread.start()
            self._saved.append((descriptor, saved))
            self._threads.append(thread)
        self.terminal = os.fdopen(os.dup(self._saved[0][1]), "w", encoding="utf-8", errors="replace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flush()
        self.terminal.close()
        for descriptor, saved in self._saved:
            os.dup2(saved, descriptor)  # closes the pipe's last writer, so the thread sees its end
        for thread in self._threads:
            thread.join(timeout=5)  # a child process that still holds the pipe must not hold us
        for _, saved in self._saved:
            os.close(saved)
        self._file.close()

    def _copy(self, reader: int, terminal: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                _write(terminal, chunk)
                _write(self._file.fileno(), chunk)


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
