"""A web hook that tests send messages to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SECRET = "xoxb-1234567890-secret"


class Inbox:
    """A web hook: what arrived, and the answers it gives first."""

    def __init__(self) -> None:
        inbox = self
        self.messages: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.tries = 0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inbox.tries += 1
                code = inbox.answers.pop(0) if inbox.answers else 200
                if code == 200:
                    inbox.messages.append(body)
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://me:{SECRET}@127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


@pytest.fixture(name="inbox")
def inbox_fixture() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.close()
