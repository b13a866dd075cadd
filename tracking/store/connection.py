"""The connection to MLflow: kinds of tracking URI, MLflow's errors translated, locks and probes.

The only place that reads MLflow's messages; each is looked for by a named predicate.
"""

from __future__ import annotations

import errno
import importlib.util
import logging
import math
import os
import re
import socket
import tempfile
import threading
import time
import urllib.request
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from tracking import names
from tracking.errors import StoreError, StoreUnreachable, TrackingError
from tracking.errors.redaction import guard_logs, hidden, remember
from tracking.errors.redaction import public as public
from tracking.journal.background import in_background
from tracking.store import address, readonly
from tracking.store.address import DATABASES as DATABASES
from tracking.store.address import kind as kind

if TYPE_CHECKING:
    import sqlalchemy
    from mlflow import MlflowClient

PROBE_TIMEOUT_S = 5.0
ANSWER_S = 8.0
WELL_S = 10.0  # so long a server that answered well is not asked again
LOCK_TIMEOUT_S = 120.0
_NO_EXPERIMENT = "is this an MLflow server"
_SHOWN = 240
_well: dict[str, float] = {}
_opened: set[sqlalchemy.URL] = set()
_once = threading.Lock()


def run_filters(word: str) -> list[str]:
    """MLflow's filters, tried in turn, for what a person calls a run: an id or its beginning, or the run's name."""
    found = []
    if re.fullmatch(r"[A-Za-z0-9-]{4,64}", word):
        columns = ("attributes.run_id", f"tags.{names.JOURNAL_ID}", f"tags.{names.COPIED_FROM}")
        found = [f"{column} LIKE '{word}%'" for column in columns]
    quote = '"' if "'" in word else "'"
    return found if quote in word else [*found, f"attributes.run_name = {quote}{word}{quote}"]


def check_reachable(uri: str, timeout_s: float = PROBE_TIMEOUT_S) -> None:
    """Raise StoreError for a URI that is no store's, and StoreUnreachable at once where MLflow would retry for minutes.

    No server listens at the store's address; or what does is not an MLflow server, or is sick.
    """
    address.check(uri)
    is_web = kind(uri) in ("http", "https")
    if not (is_web and _is_behind_proxy(uri)):
        _check_listens(uri, timeout_s)
    if is_web and time.monotonic() - _well.get(uri, -math.inf) > WELL_S:
        _check_answer(uri)
        _well[uri] = time.monotonic()


def _is_behind_proxy(uri: str) -> bool:
    host = urlsplit(public(uri)).hostname or ""
    return kind(uri) in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)


def _check_listens(uri: str, timeout_s: float) -> None:
    parts, scheme = urlsplit(public(uri)), kind(uri)
    host, port = parts.hostname, {"http": 80, "https": 443, **DATABASES}.get(scheme, 0)
    if "," in parts.netloc:  # several hosts
        return
    port = parts.port or port
    if scheme in DATABASES:
        host = host or next((name for key, name in parse_qsl(parts.query) if key == "host" and name[:1] != "/"), None)
    if not host or not port:
        return
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise StoreUnreachable(
            f"nothing answers at {public(uri)} ({why}); start the server or correct MLFLOW_TRACKING_URI"
        ) from error


def _check_answer(uri: str) -> None:
    """Have an MLflow server name an experiment, within ``ANSWER_S`` in all, however slowly it drips."""
    client = open_client(uri)
    found: list[Exception | None] = []

    def ask() -> None:
        try:
            if not client.search_experiments(max_results=1):
                # Any JSON object can be read as an empty list; a server of another kind has no such experiment either.
                named = client.get_experiment_by_name(_NO_EXPERIMENT)
                if named is not None and named.name != _NO_EXPERIMENT:
                    raise ValueError("it answers with JSON of another kind")
            found.append(None)
        except Exception as error:
            found.append(error)

    in_background(ask).wait(ANSWER_S)
    where = public(uri)
    if not found:
        raise StoreUnreachable(
            f"no complete answer from {where} within {ANSWER_S:g} s; look at that server, or correct"
            " MLFLOW_TRACKING_URI"
        )
    if (error := found[0]) is None:
        return
    ours = _translate(uri, error)
    if isinstance(ours, StoreUnreachable):
        raise StoreUnreachable(f"{ours}; look at that server, or correct MLFLOW_TRACKING_URI") from error
    raise ours or StoreError(
        f"{where} does not answer as an MLflow server does ({_in_short(str(error))}); correct MLFLOW_TRACKING_URI:"
        " the address and path of the server, or its user and token"
    ) from error


def _in_short(text: str) -> str:
    text = hidden(text[:20_000])  # before it is cut short: half a secret is not known any more
    text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
    cause = re.search(
        r"\(Caused by (?:\w+\()?['\"]?(.+?)['\"]?\)*$", text, re.DOTALL
    )  # of a connection; MLflow and urllib3 wrap it twice
    text = " ".join("".join(c if c.isprintable() else " " for c in (cause[1] if cause else text)).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def open_client(uri: str) -> MlflowClient:
    """MLflow's client for a tracking URI, importing MLflow at the first call.

    MLflow reports its use over the network unless that is switched off before its import; the user did not agree to it,
    so it is switched off, unless MLFLOW_DISABLE_TELEMETRY is set. Raises StoreError where the URI needs a plugin that
    is not installed.
    """
    if kind(uri) == "arn" and importlib.util.find_spec("sagemaker_mlflow") is None:
        raise StoreError(
            f"{uri} is a tracking server of SageMaker's, which MLflow reaches through a plugin:"
            " pip install 'image-classification-tracking[sagemaker-mlflow]'"
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # It draws two progress bars for every folder it fetches, even without a terminal.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # It asks a sick server seven times in silence, for 90 s and more. A journal is replayed again in any case.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    from mlflow import MlflowClient

    remember(uri)
    guard_logs()
    if kind(uri) in DATABASES:
        _share_no_connections(uri)
    # It narrates the making of its tables into the middle of a run's output.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def _share_no_connections(uri: str) -> None:
    """Have a forked process open connections of its own: on one connection two processes read each other's answers.

    After SQLAlchemy's documentation, "Using Connection Pools with Multiprocessing or os.fork()".
    """
    import sqlalchemy.event

    if not _opened:
        engines: weakref.WeakSet[sqlalchemy.Engine] = weakref.WeakSet()

        @sqlalchemy.event.listens_for(sqlalchemy.Engine, "engine_connect")
        def connected(connection: sqlalchemy.Connection) -> None:
            if connection.engine.url in _opened:
                engines.add(connection.engine)

        def forget() -> None:
            for engine in list(engines):
                engine.dispose(close=False)

        os.register_at_fork(after_in_child=forget)
    _opened.add(sqlalchemy.make_url(uri))


def server_remark(uri: str) -> str | None:
    """What matters of a tracking server's version, asked of it; None where nothing does, or where it says none."""
    if kind(uri) not in ("http", "https"):
        return None
    check_reachable(uri)
    open_client(uri)
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0, timeout=PROBE_TIMEOUT_S)
        version = re.fullmatch(r"(\d+)\.\d+[\w.]*", answer.text.strip()) if answer.status_code == 200 else None
    except Exception:  # it is only a remark, whatever the server is
        return None
    if version is None or int(version[1]) >= 3:
        return None
    return (
        f"{public(uri)} runs MLflow {version[0]}: it knows no logged models, so models become artifacts of their runs"
    )


def check_writable(path: Path) -> None:
    """Raise StoreError where the database ``path`` could not be written or made; its folder is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(_no_permission(path.parent, error.strerror or str(error))) from error
    for needed in (path, path.parent):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise StoreError(_no_permission(needed, "no write permission"))


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S, doing: str = "making") -> Iterator[None]:
    """Hold the store at ``path`` alone while it is made; StoreUnreachable when others hold it for too long.

    ``doing`` says in the message what it is held for.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise StoreUnreachable(f"another process has been {doing} {path} for {timeout_s:.0f} s; try again") from None
    except OSError as error:
        raise StoreError(_no_permission(path.parent, error.strerror or str(error))) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Let one process of this machine at a time open a database server: the first one makes the tables."""
    if kind(uri) not in DATABASES:
        yield
        return
    name = f"tracking-{os.getuid()}-{sha256(uri.encode()).hexdigest()[:16]}"
    with locked(Path(tempfile.gettempdir()) / name), quiet():
        yield


@contextmanager
def asked_once() -> Iterator[None]:
    """Keep MLflow from repeating a request whose answer was lost: what makes something would make it twice."""
    with _once:
        former = os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        try:
            yield
        finally:
            os.environ.pop("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
            if former is not None:
                os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = former


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow from announcing that it makes a database."""
    logger = logging.getLogger("mlflow.store.db.utils")
    former = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(former)


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Raise MLflow's and the driver's errors as ours; what it does not know passes through."""
    remember(uri)
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        ours = _translate(uri, error)
        if ours is None:
            raise
        raise ours from error


def is_bad_value(error: Exception) -> bool:
    """Whether MLflow refused a name or value as such: asking again is of no use, the rest may go on."""
    return getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE" and not _is_deleted(str(error))


def is_refusal(error: Exception) -> bool:
    """Whether what was sent may be to blame, a name, a value, a file; the store is well if it takes something else."""
    if isinstance(error, OSError):  # of a file; what the whole machine lacks is no event's fault
        if getattr(getattr(error, "response", None), "status_code", 0) == 413:  # more than a proxy lets through
            return True
        return error.errno in (errno.EACCES, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT)
    if lacks_character(error):
        return True
    if isinstance(error, TrackingError) or _is_deleted(str(error)) or _translate("", error) is not None:
        return False
    if _is_page(str(error)):
        return False
    code = getattr(error, "error_code", None)
    if code is not None:
        return code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INTERNAL_ERROR", "ENDPOINT_NOT_FOUND")
    return isinstance(error, (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError))


# As psycopg2, PostgreSQL and MySQL say that a database of another encoding than UTF-8 lacks a character.
_LACKS_CHARACTER = re.compile(
    r"codec can't encode character|has no equivalent in encoding|Illegal mix of collations|Incorrect string value"
    r"|\(3988, "
)


def lacks_character(error: BaseException | None) -> bool:
    """Whether the database's encoding has no place for a character that was sent."""
    return error is not None and (bool(_LACKS_CHARACTER.search(str(error))) or lacks_character(error.__cause__))


def has_no_such_call(error: Exception) -> bool:
    """Whether a server does not know what it was asked for: it is older than the call."""
    return getattr(error, "error_code", "") == "ENDPOINT_NOT_FOUND"


def _translate(uri: str, error: Exception) -> TrackingError | None:
    text = str(error)
    where = public(uri)
    if isinstance(error, ModuleNotFoundError):
        return StoreError(
            f"{where} needs the driver {error.name}, which is not installed; `pip install {error.name}`,"
            " or name another in the URI, such as postgresql+psycopg2://"
        )
    if _is_other_version(text):
        return StoreError(
            f"{where}: {text.split('.')[0]}; another version of MLflow made it:"
            f" keep a copy, then `mlflow db upgrade {where}`"
        )
    if _is_deleted(text):
        return StoreError(f"a run was deleted in {where} while it was written; `mlflow runs restore` brings it back")
    if _is_file_store(text):
        return StoreError(f"{where} is a file store; `python -m tracking copy` moves its runs into a database")
    if "database is locked" in text:
        return StoreUnreachable(readonly.locked(where.partition(":///")[2] or where))
    if _is_damaged(text):
        return readonly.in_words(Path(where.partition(":///")[2] or where), text.splitlines()[0])
    if _is_full_disk(text):
        return StoreUnreachable(f"{where}: the disk is full; make room, then `python -m tracking sync`")
    if _is_read_only(text):
        return StoreError(_no_permission(Path(where.split(":///")[-1]), "no write permission"))
    if lacks_character(error):
        return StoreError(f"{where} has no place for some character: {_in_short(text)}; a database with UTF-8 has")
    if _is_no_answer(error, text):
        return StoreUnreachable(f"no answer from {where}: {_in_short(text)}")
    if _is_refused(error, text):
        return StoreError(f"{where} refused: {_in_short(text)}; check user, password and permissions")
    return None


def _is_other_version(text: str) -> bool:
    return "out-of-date database schema" in text or "Can't locate revision" in text


def _is_deleted(text: str) -> bool:
    return "must be in the 'active' state" in text


def _is_file_store(text: str) -> bool:
    return "maintenance mode" in text and "file" in text


def _is_full_disk(text: str) -> bool:
    return "disk is full" in text or "No space left" in text or "disk I/O error" in text


def _is_damaged(text: str) -> bool:
    signs = ("file is not a database", "database disk image is malformed")
    return any(f"(sqlite3.DatabaseError) {sign}" in text for sign in signs)


def _is_read_only(text: str) -> bool:
    return "readonly database" in text or "unable to open database file" in text or "Permission denied" in text


def _is_no_answer(error: Exception, text: str) -> bool:
    if (
        isinstance(error, (ConnectionError, TimeoutError))
        or getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE"
    ):
        return True
    signs = ("Max retries exceeded", "timed out", "Connection refused", "Connection aborted", "IncompleteRead")
    return any(sign in text for sign in signs) or bool(re.search(r"error code 5\d\d|failed with error code 429", text))


def _is_page(text: str) -> bool:
    """Whether a proxy answered, which says nothing of what was sent, but that it was too much: MLflow answers JSON."""
    return "not in a valid JSON format" in text or bool(re.search(r"failed with error code (?!413)\d", text))


def _is_refused(error: Exception, text: str) -> bool:
    if getattr(error, "error_code", "") in ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        return True
    return bool(re.search(r"error code 40[13]|authentication failed|Invalid (username|password)", text))


def _no_permission(path: Path, why: str) -> str:
    return (
        f"cannot write {path}: {why}; change its owner or permissions, work in another directory,"
        " or point MLFLOW_TRACKING_URI elsewhere"
    )
