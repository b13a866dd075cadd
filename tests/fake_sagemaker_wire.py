"""HTTP as AWS speaks it (JSON 1.1): SageMaker's calls go to the fake, CloudWatch Logs' through its gate to moto."""

from __future__ import annotations

import http.client
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from fake_sagemaker_rules import Refused


class Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1  # head and body in one packet: two wait for one another, 40 ms a call
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = self.headers.get("X-Amz-Target", "")
        service, _, operation = target.partition(".")
        fake = self.server.fake
        try:
            if service == "SageMaker":
                scope = re.search(r"Credential=[^/]+/\d+/([a-z0-9-]+)/", self.headers.get("Authorization", ""))
                answer = fake.answer(operation, scope[1] if scope else "us-east-1", json.loads(body or b"{}"))
                self._send(200, json.dumps(answer).encode())
            elif service == "AWSPriceListService":
                raise Refused("AccessDeniedException", f"User is not authorized to perform: pricing:{operation}")
            else:
                name = f"Logs.{operation}"
                fake.let_pass(name)
                fake.calls.append((name, fake.now(), ""))
                self._forward(body)
        except Refused as refusal:
            told = {"__type": refusal.code, "message": refusal.message}
            self._send(refusal.status, json.dumps(told).encode(), {"x-amzn-ErrorType": refusal.code})
        except ConnectionError:
            self.close_connection = True

    def _forward(self, body: bytes) -> None:
        moto = urlsplit(self.server.fake.moto_url)
        connection = http.client.HTTPConnection(moto.hostname or "", moto.port, timeout=30)
        try:
            connection.request("POST", self.path, body, dict(self.headers))
            answer = connection.getresponse()
            self._send(answer.status, answer.read())
        finally:
            connection.close()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/x-amz-json-1.1", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
