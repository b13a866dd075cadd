"""Messages to people, by Apprise: at an end, a failure, a rule's finding, a quota granted. They never harm a run.

The addresses are secrets: they are in no journal, log or message, and child processes do not get them.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from tracking.errors.redaction import STARS, hidden
from tracking.journal.background import in_background
from trainers.errors import BadConfig

VARIABLE = "TRAINERS_NOTIFY"
Kind = Literal["info", "success", "warning", "failure"]
PAUSES_S = (0.0, 2.0, 10.0)  # before each try
PATIENCE_S = 30.0  # that a process waits at its end


class Notifier:
    """Sends from a thread, to each address by itself, and tries again where that fails."""

    def __init__(self, urls: Sequence[str], *, pauses_s: Sequence[float] = ()) -> None:
        """Raises BadConfig where Apprise is missing or does not know an address."""
        import logging

        try:
            import apprise
        except ImportError:
            raise BadConfig(["--notify needs Apprise: pip install 'image-classification-tracking[notify]'"]) from None
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it names addresses
        faults, self._servers = [], list[tuple[str, Any]]()
        self._pauses_s = pauses_s or PAUSES_S
        for number, url in enumerate(urls, 1):
            scheme, server = url.partition("://")[0] if "://" in url else "?", apprise.Apprise()
            if not server.add(url):
                faults.append(
                    f"--notify: Apprise does not know address {number} ({scheme}://…); it takes such as"
                    " slack://…, mailto://…, msteams://… or json://host/path."
                )
            self._servers.append((f"{scheme}://…", server))
        if faults:
            raise BadConfig(faults)
        self._waiting: queue.Queue[tuple[str, str, str] | None] = queue.Queue()
        self._given_up = threading.Event()
        self._over = in_background(self._send_all)

    def tell(self, title: str, text: str, kind: Kind) -> None:
        """Have a message sent; returns at once."""
        self._waiting.put((hidden(title), hidden(text), kind))

    def close(self, patience_s: float) -> None:
        """Wait until all is sent, no longer than ``patience_s``."""
        self._waiting.put(None)
        is_over = self._over.wait(patience_s)
        self._given_up.set()
        if not is_over:
            print(f"not every message was sent within {patience_s:.0f} s (--notify)", file=sys.stderr)

    def _send_all(self) -> None:
        while (message := self._waiting.get()) is not None:
            for name, server in self._servers:
                is_sent = any(self._send(server, message, pause_s) for pause_s in self._pauses_s)
                if not is_sent and not self._given_up.is_set():
                    print(f"a message could not be sent to {name} (--notify): {message[0]}", file=sys.stderr)

    def _send(self, server: Any, message: tuple[str, str, str], pause_s: float) -> bool:
        if self._given_up.wait(pause_s):
            return False
        title, text, kind = message
        try:
            return bool(server.notify(body=text, title=title, notify_type=kind))
        except Exception:  # whatever a plugin raises, its words may name the address
            return False


_current: Notifier | None = None


@contextmanager
def using(urls: Sequence[str] | None) -> Iterator[None]:
    """``tell`` sends to ``urls`` and to those of the environment, which is cleared of them. Raises BadConfig."""
    global _current
    given = [*(urls or ()), *os.environ.pop(VARIABLE, "").split()]
    sys.argv = [_masked(word, given) for word in sys.argv]  # a run's journal keeps it
    _current = Notifier(given) if given else None
    try:
        yield
    finally:
        close()


def _masked(word: str, urls: Sequence[str]) -> str:
    for url in urls:
        word = word.replace(url, STARS)
    return word


def tell(title: str, text: str, kind: Kind = "info") -> None:
    """Send a message where people asked for it; without that nothing is done."""
    if _current is not None:
        _current.tell(title, text, kind)


def tell_findings(name: str, findings: Sequence[str]) -> None:
    """Send what the rules found of a run that another process watches."""
    for text in findings:
        tell(f"{name}: {text.partition(' ')[0]}", text, "warning")


def close(patience_s: float = PATIENCE_S) -> None:
    """Wait until all is sent; ``tell`` does nothing afterwards."""
    global _current
    former, _current = _current, None
    if former is not None:
        former.close(patience_s)
