"""HTTP as AWS speaks it (JSON 1.1): SageMaker's calls go to the fake, CloudWatch Logs' through its gate to moto.

S3's calls pass the same way where AWS_ENDPOINT_URL_S3 leads here.
"""

from __future__ import annotations

import http.client
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.support.aws import metrics
from tests.support.aws.batch import BATCH_PATHS
from tests.support.aws.rules import Refused

_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([a-z0-9-]+)/")
_HOP_BY_HOP = ("connection", "date", "keep-alive", "server", "transfer-encoding")


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
                scope = _SCOPE.search(self.headers.get("Authorization", ""))
                if scope and scope[1] in fake.expired_keys:
                    fake.let_pass(operation, scope[1])
                answer = fake.answer(operation, scope[2] if scope else "us-east-1", json.loads(body or b"{}"))
                self._send(200, json.dumps(answer).encode())
            elif service == metrics.SERVICE:
                fake.let_pass(operation)
                fake.calls.append((operation, fake.now(), ""))
                self._send(200, json.dumps(metrics.answer(fake, json.loads(body))).encode())
            elif self.path in BATCH_PATHS:
                scope = _SCOPE.search(self.headers.get("Authorization", ""))
                region = scope[2] if scope else "us-east-1"
                answer = fake.answer(BATCH_PATHS[self.path], region, json.loads(body or b"{}"))
                self._send(200, json.dumps(answer).encode())
            elif service == "AWSPriceListService":
                raise Refused("AccessDeniedException", f"User is not authorized to perform: pricing:{operation}")
            else:
                self._gate(f"Logs.{operation}" if target else f"S3.{self.command}", body)
        except Refused as refusal:
            told = json.dumps({"__type": refusal.code, "message": refusal.message})
            if not target and self.path not in BATCH_PATHS:
                told = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
            self._send(refusal.status, told.encode(), {"x-amzn-ErrorType": refusal.code} if told[0] == "{" else {})
        except ConnectionError:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

    def _gate(self, name: str, body: bytes) -> None:
        fake, scope = self.server.fake, _SCOPE.search(self.headers.get("Authorization", ""))
        fake.let_pass(name, scope[1] if scope else "")
        fake.calls.append((name, fake.now(), ""))
        self._forward(body)

    def _forward(self, body: bytes) -> None:
        moto = urlsplit(self.server.fake.moto_url)
        connection = http.client.HTTPConnection(moto.hostname or "", moto.port, timeout=30)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            self._send(answer.status, answer.read(), kept)
        finally:
            connection.close()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        answered = {"Content-Type": "application/x-amz-json-1.1", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in answered.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
