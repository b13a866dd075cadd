"""AWS calls that moto does not know, answered on the wire from a table: quotas, prices, images, simulated permissions.

boto3 reaches it through ``AWS_ENDPOINT_URL_<SERVICE>``. What is not in the table is refused as AWS refuses it; IAM
calls other than SimulatePrincipalPolicy go on to moto.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.aws import iam


class Answers:
    """``table``: operation → answer, (error code, message), or the bytes of a web page.

    For IAM ``decisions``: action → decision, or ``policies``: principal → the statements that it has.
    """

    def __init__(self, moto_url: str = "") -> None:
        self.table: dict[str, Any] = {}
        self.decisions: dict[str, str] | None = None
        self.policies: dict[str, list[dict[str, Any]]] | None = None
        self.organization_allows = True
        self.moto_url = moto_url
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    def environment(self) -> dict[str, str]:
        """The variables that lead boto3 here."""
        names = ("SERVICE_QUOTAS", "PRICING", "ECR", *(("IAM",) if self.moto_url else ()))
        return {f"AWS_ENDPOINT_URL_{name}": self.url for name in names}


class _Handler(BaseHTTPRequestHandler):
    answers: Answers

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if target := self.headers.get("X-Amz-Target"):
            self._json(target.rpartition(".")[2], json.loads(body))
        else:
            self._iam(body)

    def _json(self, operation: str, request: dict[str, Any]) -> None:
        self.answers.calls.append((operation, request))
        answer = self.answers.table.get(operation, ("AccessDeniedException", f"not authorized to perform {operation}"))
        if isinstance(answer, tuple):
            self._send(400, json.dumps({"__type": answer[0], "message": answer[1]}), "application/x-amz-json-1.1")
        elif isinstance(answer, bytes):  # a proxy's, in AWS's place
            self._send(403, answer.decode(), "text/html")
        else:
            answer = answer(request) if callable(answer) else answer
            self._send(200, json.dumps(answer), "application/x-amz-json-1.1")

    def _iam(self, body: bytes) -> None:
        form = dict(urllib.parse.parse_qsl(body.decode()))
        if form["Action"] != "SimulatePrincipalPolicy":
            onward = urllib.request.Request(self.answers.moto_url, body, dict(self.headers))
            try:
                with urllib.request.urlopen(onward, timeout=30) as answer:
                    self._send(answer.status, answer.read().decode(), "text/xml")
            except urllib.error.HTTPError as error:
                with error:
                    self._send(error.code, error.read().decode(), "text/xml")
            return
        self.answers.calls.append((form["Action"], form))
        results = self._simulated(form)
        if results is None:
            denied = "<Code>AccessDenied</Code><Message>not authorized to perform iam:SimulatePrincipalPolicy</Message>"
            self._send(403, f"<ErrorResponse><Error>{denied}</Error></ErrorResponse>", "text/xml")
            return
        name = "SimulatePrincipalPolicy"
        results = f"<EvaluationResults>{results}</EvaluationResults><IsTruncated>false</IsTruncated>"
        self._send(200, f"<{name}Response><{name}Result>{results}</{name}Result></{name}Response>", "text/xml")

    def _simulated(self, form: dict[str, str]) -> str | None:
        if self.answers.policies is not None:
            return iam.answer(form, self.answers.policies, organization=self.answers.organization_allows)
        if self.answers.decisions is None:
            return None
        action = form["ActionNames.member.1"]
        decision = self.answers.decisions.get(action, "allowed")
        names = [value for key, value in form.items() if key.startswith("ResourceArns.member.")]
        return iam.as_xml(action, {name: (decision, ()) for name in names})

    def _send(self, status: int, text: str, kind: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def answering(moto_url: str = "") -> Iterator[Answers]:
    """A server with an empty table: everything is denied until the test says otherwise."""
    answers = Answers(moto_url)
    handler = type("Handler", (_Handler,), {"answers": answers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    answers.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def product(instance_type: str, region: str, usd: str, **attributes: str) -> str:
    """One item of the price list, as text, as the API gives it."""
    facts = {
        "regionCode": region,
        "instanceName": instance_type,
        "platoinstancetype": "Training",
        "usagetype": f"USE1-Train:{instance_type}",
        **attributes,
    }
    dimension = {"unit": "Hrs", "description": "an hour", "pricePerUnit": {"USD": usd}}
    terms = {"OnDemand": {"A.B": {"priceDimensions": {"A.B.C": dimension}}}}
    item = {"product": {"sku": "A", "productFamily": "ML Instance", "attributes": facts}, "terms": terms}
    return json.dumps({**item, "publicationDate": "2026-11-02T10:00:00Z"})
