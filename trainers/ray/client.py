"""Ray's Jobs API over HTTP: jobs are submitted, asked about and stopped, sources are sent. Standard library alone.

The wire is the one that Ray's own command line speaks (``/api/jobs/``, ``/api/packages/``), the same since Ray 2.0, so
the launching machine needs neither Ray nor the cluster's version of it. Enters: an address, as Ray's commands take it.
Leaves: answers, or an error that says
what to do, of the kinds that a launch knows (``trainers.sagemaker.errors``).
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import io
import json
import os
import ssl
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tracking.errors.redaction import address as without_password
from trainers.errors import BadInput
from trainers.sagemaker.aws.client import Clock, SystemClock
from trainers.sagemaker.aws.upload import PACKAGES, SENT_SUFFIXES
from trainers.sagemaker.errors import AwsError, NameTaken, NotAllowed, Rejected, Unreachable

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # as Ray's own commands read them
HEADERS_VARIABLE = "RAY_JOB_HEADERS"
# Ray keeps a package in its head's memory; older versions refuse more than this.
MAX_PACKAGE_BYTES = 100 * 2**20
_TIMEOUT_S = 30.0
_OTHER_PORTS = {10001: "Ray Client's", 6379: "the nodes'"}


class RayUnreachable(Unreachable):
    """No usable answer; asking again later may help."""


class RayRefused(Rejected):
    """Ray does not take the request as it is."""


class RayDenied(NotAllowed):
    """The cluster, or a proxy before it, does not let us in."""


def address_of(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The cluster's HTTP address: the one given, else the environment's, else Ray's default. Raises BadInput."""
    text = given or next((environment[key] for key in ADDRESS_VARIABLES if environment.get(key)), DEFAULT_ADDRESS)
    text = DEFAULT_ADDRESS if text == "auto" else text  # a shell on the head
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme == "ray" or port in _OTHER_PORTS:
        whose = _OTHER_PORTS.get(port or 10001, _OTHER_PORTS[10001])
        raise BadInput(
            f"--ray-address {given or text} is {whose} address; jobs go to the dashboard:"
            f" http://{parts.hostname or 'HEAD'}:8265"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"--ray-address {given or text} must have the form http://HEAD:8265 or https://HOST/PATH.")
    return text.rstrip("/")


class RayClient:
    """One cluster. Safe to share between threads."""

    def __init__(
        self, address: str, *, clock: Clock | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.address, self.clock = address, SystemClock() if clock is None else clock
        self._headers = _headers(environment)
        # As requests and curl read them; Python's own variables (SSL_CERT_FILE) hold too.
        self._trusted = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")

    def version(self) -> str:
        """The cluster's version of Ray. Raises AwsError: this is also how an address is tried."""
        answer = self._json("GET", "/api/version")
        version = answer.get("ray_version") if isinstance(answer, Mapping) else None
        if not isinstance(version, str):
            raise RayRefused(f"{self._shown} answers, but not as Ray's dashboard does. {_WHERE}")
        if version.partition(".")[0].isdigit() and int(version.partition(".")[0]) < 2:
            raise RayRefused(f"{self._shown} runs Ray {version}, whose jobs are different; Ray 2.0 or newer is needed.")
        return version

    def submit(self, body: Mapping[str, Any]) -> None:
        """Submit a job. Raises NameTaken for a ``submission_id`` that the cluster has, AwsError."""
        self._json("POST", "/api/jobs/", json.dumps(body).encode())

    def info(self, name: str) -> dict[str, Any] | None:
        """What Ray knows of a job; None where it knows none of this name. Raises AwsError."""
        answer = self._json("GET", f"/api/jobs/{quote(name, safe='')}", missing=True)
        return None if answer is None else dict(answer)

    def jobs(self) -> list[dict[str, Any]]:
        """Every job that was submitted to the cluster and that it still knows. Raises AwsError."""
        return [dict(job) for job in self._json("GET", "/api/jobs/") if job.get("submission_id")]

    def logs(self, name: str) -> str:
        """All that a job printed so far; "" where there is nothing, or its node is gone. Raises RayUnreachable."""
        try:
            answer = self._json("GET", f"/api/jobs/{quote(name, safe='')}/logs", missing=True)
        except Rejected:  # the node that had them does not answer
            return ""
        return str((answer or {}).get("logs") or "")

    def stop(self, name: str) -> bool:
        """Ask a job to end (SIGTERM, three seconds later SIGKILL); False where there is none. Raises AwsError."""
        return self._json("POST", f"/api/jobs/{quote(name, safe='')}/stop", b"", missing=True) is not None

    def send_sources(self) -> str:
        """Bring the project's packages to the cluster, once for each content; their URI for ``working_dir``."""
        content = sources()
        if len(content) > MAX_PACKAGE_BYTES:
            size = len(content) / 2**20
            raise RayRefused(f"the project's sources are {size:.0f} MiB, and Ray takes {MAX_PACKAGE_BYTES >> 20} MiB.")
        uri = f"gcs://_ray_pkg_{hashlib.sha256(content).hexdigest()[:16]}.zip"
        if not self.has_sources(uri):
            self._ask("PUT", f"/api/packages/{uri.replace('://', '/')}", content)
        return uri

    def has_sources(self, uri: str) -> bool:
        """Whether the cluster still has a package; asking keeps it for ten minutes, in which a job may take it up."""
        return self._ask("GET", f"/api/packages/{uri.replace('://', '/')}", missing=True) is not None

    @property
    def _shown(self) -> str:
        return without_password(self.address)

    def _json(self, method: str, path: str, data: bytes | None = None, *, missing: bool = False) -> Any:
        answer = self._ask(method, path, data, missing=missing)
        try:
            return None if answer is None else json.loads(answer)
        except ValueError:  # a login page of a proxy, for one
            raise RayRefused(f"{self._shown} answers, but not as Ray's dashboard does. {_WHERE}") from None

    def _ask(self, method: str, path: str, data: bytes | None = None, *, missing: bool = False) -> bytes | None:
        """The answer's body; None for 404 if that is one of the answers (``missing``)."""
        kind = "application/octet-stream" if method == "PUT" else "application/json"
        headers = {"Content-Type": kind, **self._headers}
        request = urllib.request.Request(f"{self.address}{path}", data=data, method=method, headers=headers)
        try:
            context = None
            if self.address.startswith("https:"):
                folder = self._trusted if self._trusted and os.path.isdir(self._trusted) else None
                context = ssl.create_default_context(cafile=None if folder else self._trusted, capath=folder)
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace").strip()
            if error.code == 404 and missing:
                return None
            raise self._failed(error.code, text) from error
        except http.client.BadStatusLine as error:
            raise RayRefused(f"{self._shown} does not speak HTTP. {_WHERE}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                raise RayRefused(
                    f"{self._shown}: {reason}. For a certificate of your own: REQUESTS_CA_BUNDLE=FILE; an address"
                    " without TLS begins with http://."
                ) from error
            raise RayUnreachable(f"{self._shown} does not answer ({reason}). {_WHERE}") from error

    def _failed(self, code: int, text: str) -> AwsError:
        last = text.splitlines()[-1].strip(" .") if text else f"HTTP {code}"
        reason = next((line for line in reversed(text.splitlines()) if line.strip(" .")), last).strip()
        if "already exists" in reason:
            return NameTaken(reason)
        if code in (401, 403):
            return RayDenied(
                f"{self._shown} does not let us in (HTTP {code}): for a cluster with tokens set RAY_AUTH_TOKEN; for a"
                f' proxy {HEADERS_VARIABLE}=\'{{"Authorization": "Bearer …"}}\'.'
            )
        if code == 404:
            return RayRefused(f"{self._shown} has no Jobs API (HTTP 404). {_WHERE}")
        if code in (408, 429, 502, 503, 504) or "No available agent" in text or "timed out" in reason.lower():
            return RayUnreachable(f"{self._shown} is not ready (HTTP {code}: {reason[:200]})")
        return RayRefused(f"{self._shown} refused (HTTP {code}): {reason[:400]}")


_WHERE = (
    "Jobs go to the dashboard of the head node, port 8265 by default, with ray[default] installed there; on Kubernetes:"
    " kubectl port-forward service/NAME-head-svc 8265:8265"
)


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    """The headers of RAY_JOB_HEADERS, and the token where Ray's own variables or file name one."""
    headers: dict[str, str] = {}
    text = environment.get(HEADERS_VARIABLE)
    if text:
        try:
            headers = {str(key): str(value) for key, value in json.loads(text).items()}
        except (ValueError, AttributeError):
            raise BadInput(f'{HEADERS_VARIABLE} must be JSON such as {{"Authorization": "Bearer …"}}.') from None
    token = environment.get("RAY_AUTH_TOKEN", "")
    if not token and environment.get("RAY_AUTH_MODE") == "token":
        path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        token = path.read_text(encoding="utf-8") if path.is_file() else ""
    if token.strip() and "authorization" not in {key.lower() for key in headers}:
        headers["Authorization"] = f"Bearer {token.strip()}"
    return headers


@functools.cache  # a study's jobs bring the same along
def sources() -> bytes:
    """The packages as they are on this machine, as a zip without times: equal sources make equal archives.

    Nothing else of the folder goes along, so neither ``mlruns`` nor data does.
    """
    root = Path(__file__).resolve().parents[2]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*")):
                if path.is_file() and path.suffix in SENT_SUFFIXES:
                    info = zipfile.ZipInfo(path.relative_to(root).as_posix())
                    archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
