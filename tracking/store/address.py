"""What a tracking URI means, and what is wrong with one: said before MLflow, a driver or the network is asked.

The standard library alone.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tracking.errors import StoreError
from tracking.errors.redaction import is_parsable, public, remember
from tracking.errors.words import nearest
from tracking.store.readonly import sqlite_path

DATABASES = {"sqlite": 0, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_DATABRICKS = ("databricks", "databricks-uc", "uc")
_LEGAL = (*DATABASES, "http", "https", *_DATABRICKS, "arn")
_ARTIFACTS = ("s3", "gs", "wasbs", "abfss", "hdfs", "dbfs", "ftp", "sftp", "mlflow-artifacts", "runs", "models")
_SHAPES = "sqlite:////folder/mlflow.db, postgresql+psycopg2://user@host/database, http://host:5000"
# The packages of SQLAlchemy's drivers, the one that a URI without a driver means last.
_DRIVERS = {
    "postgresql": {"psycopg2": "psycopg2-binary", "pg8000": "pg8000", "psycopg": "psycopg[binary]"},
    "mysql": {"pymysql": "pymysql", "mysqlconnector": "mysql-connector-python", "mysqldb": "mysqlclient"},
    "mssql": {"pymssql": "pymssql", "pyodbc": "pyodbc"},
}
_MODULES = {"mysqlconnector": "mysql.connector", "mysqldb": "MySQLdb"}


def kind(uri: str) -> str:
    """``file``, ``sqlite``, ``postgresql``, ``http`` …: the scheme without driver; a bare path is a file store."""
    scheme, colon, _ = uri.partition(":")
    if uri in _DATABRICKS:
        return uri
    return scheme.partition("+")[0].lower() if colon and len(scheme) > 1 and "/" not in scheme else "file"


def check(uri: str) -> None:
    """Raise StoreError, a sentence with what to do, for a tracking URI that cannot be a store's."""
    remember(uri)
    what, shown = kind(uri), public(uri)
    if what == "file":
        raise StoreError(_file_fault(uri))
    if what in _ARTIFACTS:
        raise StoreError(f"{shown} is a place for artifacts, not a store of runs; those are {_SHAPES}")
    if what not in (*_LEGAL, *_plugins()):
        raise StoreError(_unknown(uri, what))
    if what in _DATABRICKS:
        _check_databricks(shown)
    elif what == "sqlite":
        _check_sqlite(uri)
    elif what != "arn" and what not in _plugins():
        _check_host(uri, what)
        if what in DATABASES:
            _check_driver(uri, what)


def is_old_layout(folder: Path) -> bool:
    """Whether a folder is a file store: MLflow's layout before databases, a ``meta.yaml`` for each experiment."""
    return any(re.fullmatch(r"\d+|\.trash", path.parent.name) for path in folder.glob("*/meta.yaml")) or any(
        path.parent.parent.name.isdigit() for path in folder.glob("*/*/meta.yaml")
    )


def file_store_folder(uri: str) -> Path | None:
    """The folder of an old file store that is meant: named by the URI, or beside an sqlite file that is not there."""
    if kind(uri) == "file":
        name = re.sub(r"^file:(//(localhost)?(?=/))?", "", uri, flags=re.IGNORECASE)
        return Path(unquote(name) if name != uri else name or "mlruns")
    path = sqlite_path(uri)
    return path.parent if path is not None and not path.exists() and is_old_layout(path.parent) else None


def _file_fault(uri: str) -> str:
    folder = file_store_folder(uri) or Path("mlruns")
    if folder.is_file():
        what = "an sqlite file" if _is_sqlite(folder) else "no database"
        return (
            f"tracking URI {uri!r} is the path of a file, {what}; for a store in it write sqlite:///{folder.absolute()}"
        )
    if folder.suffix in (".db", ".sqlite", ".sqlite3"):
        return f"tracking URI {uri!r} is a path without a scheme; write sqlite:///{folder.absolute()}"
    if not folder.exists():
        return f"tracking URI {uri!r} is a folder that does not exist; a store's URI is {_SHAPES}"
    return f"tracking URI {uri!r} is a file store. {_way_out(folder)}"


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(15) == b"SQLite format 3"
    except OSError:
        return False


def old_layout_fault(path: Path) -> str | None:
    """What to say where a store's sqlite file is not there and its folder is an old file store."""
    if path.exists() or not is_old_layout(path.parent):
        return None
    return (
        f"{path.parent} holds runs in MLflow's old file layout and no store yet. {_way_out(path.parent, path)};"
        f" or move {path.parent} away to start with an empty store"
    )


def _way_out(folder: Path, target: Path | None = None) -> str:
    source = folder.absolute()
    target = target or source / "mlflow.db"
    is_default = target == Path.cwd() / "mlruns" / "mlflow.db"
    then = "unset MLFLOW_TRACKING_URI" if is_default else f"set MLFLOW_TRACKING_URI=sqlite:///{target}"
    return (
        "MLflow writes no file stores since 3.13, only databases:"
        f" `python -m tracking copy {source} sqlite:///{target}` copies its runs into one, then {then}"
    )


def _unknown(uri: str, what: str) -> str:
    shown = public(uri)
    if re.fullmatch(r"[\w.-]+:\d{1,5}(/.*)?", uri):
        return f"tracking URI {shown!r} has no scheme; write http://{shown}"
    near = {"postgres": "postgresql", "sqlite3": "sqlite", "mariadb": "mysql", "psql": "postgresql"}.get(what)
    hint = f" Did you mean {near}?" if near else nearest(what, _LEGAL)
    return f"tracking URI {shown!r}: MLflow knows no stores of the kind {what!r}; legal are {_SHAPES}.{hint}"


@functools.cache  # reads the metadata of all that is installed
def _plugins() -> set[str]:
    return {entry.name for entry in importlib.metadata.entry_points(group="mlflow.tracking_store")} - {"file"}


def _check_databricks(shown: str) -> None:
    files = [os.environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg"]
    if not os.environ.get("DATABRICKS_HOST") and not any(Path(name).expanduser().is_file() for name in files):
        raise StoreError(
            f"{shown} is a Databricks workspace, and nothing says which: set DATABRICKS_HOST and DATABRICKS_TOKEN, or"
            f" make {files[0]} with `databricks configure`; or point MLFLOW_TRACKING_URI elsewhere"
        )


def _check_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    scheme, _, rest = uri.partition(":")
    if path is None and (rest in ("", "//", "///") or ":memory:" in rest or "mode=memory" in rest):
        raise StoreError(f"{uri!r} is in memory and gone with the process; give the path of a file")
    if scheme.lower() not in ("sqlite", "sqlite+pysqlite"):
        raise StoreError(f"{uri!r}: stores are read by Python's own sqlite alone; write sqlite:///")
    if path is None:
        name = rest.lstrip("/")
        meant = f"/{name}" if rest.startswith("/") and not rest.startswith("//") else name
        raise StoreError(
            f"{uri!r} is no sqlite URI: it has three slashes and the path; write sqlite:///{Path(meant).absolute()}"
        )
    if old := old_layout_fault(path.absolute()):
        raise StoreError(old)


def _check_host(uri: str, what: str) -> None:
    shown = public(uri)
    if "://" not in uri:
        rest = shown.partition(":")[2].lstrip("/")
        raise StoreError(f"{shown!r} is no address: two slashes follow the colon; write {what}://{rest}")
    if not is_parsable(uri):
        if "@" not in uri:
            raise StoreError(
                f"{shown!r} is no address: brackets stand around an IPv6 address only, as in http://[::1]:5000"
            )
        raise StoreError(
            f"{shown} cannot be read as it is: percent-encode what is special in its user and password"
            " (@ is %40, / is %2F, : is %3A, # is %23, ? is %3F, [ is %5B, ] is %5D)"
        )
    try:
        parts = urlsplit(shown)
        host = parts.hostname
    except ValueError:
        raise StoreError(f"{shown!r} is no address: its brackets hold no IPv6 address") from None
    if what in ("http", "https") and not host:
        raise StoreError(f"{shown!r} names no host; write {what}://host:5000")
    place = parts.netloc.rpartition("@")[2]
    if re.search(r"\s", uri) and what in ("http", "https"):
        raise StoreError(f"{shown!r} has a blank in it, and no address has")
    if "," in place:  # several hosts of one PostgreSQL
        return
    try:
        parts.port  # noqa: B018
    except ValueError:
        port = place.rpartition(":")[2]
        raise StoreError(f"{shown!r}: the port {port} is not a number from 0 to 65535") from None


def _check_driver(uri: str, what: str) -> None:
    """The driver of a database is installed; SQLAlchemy's own choice may be another than the one that is."""
    drivers = _DRIVERS[what]
    asked = uri.partition(":")[0].partition("+")[2].lower()
    driver = asked or _meant(what)
    shown, rest = public(uri), public(uri).partition(":")[2]
    if driver not in drivers:
        if near := nearest(driver, drivers):
            raise StoreError(f"{shown}: {driver!r} is no driver for {what}; legal are {', '.join(drivers)}.{near}")
        return  # others know more drivers
    if _is_installed(driver):
        return
    have = next((name for name in drivers if _is_installed(name)), None)
    if have is not None:
        what_to_do = f"{have} is installed: write {what}+{have}:{rest}"
    else:
        first = driver if asked else next(iter(drivers))
        what_to_do = f"`pip install {drivers[first]}`" + ("" if asked else f" and write {what}+{first}:{rest}")
    raise StoreError(f"{shown} needs the driver {driver}, which is not installed; {what_to_do}")


def _meant(what: str) -> str:
    """The driver that SQLAlchemy takes where a URI names none: psycopg2 up to 2.0, psycopg since 2.1."""
    if what == "postgresql":
        version = re.findall(r"\d+", importlib.metadata.version("sqlalchemy"))[:2]
        return "psycopg" if tuple(map(int, version)) >= (2, 1) else "psycopg2"
    return list(_DRIVERS[what])[-1]


def _is_installed(driver: str) -> bool:
    try:
        return importlib.util.find_spec(_MODULES.get(driver, driver)) is not None
    except ModuleNotFoundError:
        return False
