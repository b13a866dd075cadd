"""What an event may hold: its vocabulary, and the checks that the writer and the reader of a journal share."""

from __future__ import annotations

import math
import operator
import os
import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, SupportsFloat

from tracking.errors import TrackingError

Event = dict[str, Any]

FILES = "files"
STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")
CONTEXTS = ("train", "validation", "test")
DAMAGED = "damaged"
# What MLflow's tables hold. A data set's name may get its split's appended.
MAX_NAME_LENGTH = 250
MAX_EXPERIMENT_LENGTH = 256
MAX_DATASET_NAME_LENGTH = 480
MAX_DATASET_SOURCE_LENGTH = 10_000
MAX_DIGEST_LENGTH = 36
MAX_STEP = 2**63 - 1
MAX_TIME_MS = 253_402_300_799_999  # the end of the year 9999

_NAME = re.compile(r"[/\w.\- :]+")
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def check_name(name: str) -> str:
    """Return a parameter's, metric's or tag's name unchanged; TrackingError where MLflow would refuse it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise TrackingError(
            f"{name!r} cannot be a name: use 1 to {MAX_NAME_LENGTH} letters, digits, spaces and any of _ - . : /"
        )
    if name != posixpath.normpath(name) or name == "." or name.startswith(("..", "/")):
        raise TrackingError(f"{name!r} cannot be a name: as a path it would lead elsewhere; drop the dots or slashes")
    return name


def encode_number(name: str, value: SupportsFloat) -> float | str:
    """A metric's value as JSON can hold it: a float, or ``"nan"``, ``"inf"``, ``"-inf"``."""
    if isinstance(value, str):
        raise TrackingError(f"metric {name}: {value!r} is text; give a number")
    try:
        # float() warns of a tensor with a gradient and of an array of one number; MXNet's older arrays have none.
        scalar = getattr(value, "item", None) or getattr(value, "asscalar", None)
        number = float(scalar() if scalar else value)
    except OverflowError:
        raise TrackingError(f"metric {name}: the number is too large; a metric is a 64-bit float") from None
    except (TypeError, ValueError, RuntimeError):
        shape = getattr(value, "shape", ())
        said = f"an array of shape {tuple(shape)}, whose mean would be one," if shape else repr(value)[:80]
        raise TrackingError(f"metric {name}: {said} is not a number") from None
    if math.isfinite(number):
        return number
    return "nan" if number != number else "inf" if number > 0 else "-inf"


def check_id(journal_id: str) -> str:
    """Return a journal's id unchanged; TrackingError where it could not be the name of one."""
    if not isinstance(journal_id, str) or not _ID.fullmatch(journal_id):
        raise TrackingError(f"journal id {journal_id!r}: use up to 64 letters, digits and -")
    return journal_id


def check_step(step: Any) -> int:
    """A metric's step as an int; TrackingError where it is none, or more than 64 bits hold."""
    try:
        number = operator.index(step)
    except TypeError:
        raise TrackingError(f"step {step!r} is not a whole number; give an int") from None
    if not -MAX_STEP <= number <= MAX_STEP:
        raise TrackingError(f"step {number} does not fit 64 bits; give one from -(2^63 - 1) to 2^63 - 1")
    return number


def check_time(time_ms: Any) -> int:
    """A time unchanged; TrackingError where it is no number of milliseconds since 1970."""
    if type(time_ms) is not int or not 0 <= time_ms <= MAX_TIME_MS:
        raise TrackingError(f"time {time_ms!r}: give milliseconds since 1970 as an int, at most {MAX_TIME_MS}")
    return time_ms


def check_folder(artifact_path: str) -> str:
    """An artifact's folder, normalised, "" for the top; TrackingError where it leads out of the run."""
    folder = os.path.normpath(artifact_path) if artifact_path else ""
    if folder.startswith(("..", "/")) or "\0" in folder:
        raise TrackingError(f"artifact folder {artifact_path!r} leads out of the run; give a relative one")
    return folder if folder != "." else ""


def text_from(value: str) -> str:
    """A text as every store can hold it: what UTF-8 has no bytes for, and NUL, as an escape."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def in_ascii(value: str) -> str:
    """``text_from`` for a database whose encoding lacks some character: all beyond ASCII as escapes."""
    return text_from(value).encode("ascii", "backslashreplace").decode()


_MAYBE_TEXT = (str, type(None))
# What an event of each kind must have; the types are exact, since JSON's true is no number.
_FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "start": {
        "version": (int,),
        "journal_id": (str,),
        "experiment": (str,),
        "run_name": _MAYBE_TEXT,
        "attach_run_id": _MAYBE_TEXT,
        "parent": _MAYBE_TEXT,
        "start_time_ms": (int,),
        "tags": (dict, type(None)),
    },
    "param": {"values": (dict,)},
    "metric": {"values": (dict,), "step": (int,)},
    "tag": {"values": (dict,)},
    "dataset": {
        **dict.fromkeys(("context", "name", "digest", "source"), (str,)),
        **dict.fromkeys(("num_images", "num_classes"), (int,)),
        "profile": (dict, type(None)),
    },
    "artifact": {"path": (str,), "artifact_path": (str,), "placed": (bool, type(None))},
    "status": {"status": (str,), "reason": _MAYBE_TEXT, "end_time_ms": (int, type(None))},
}


def check(event: Event) -> None:
    """Check an event that was read, in place: single values that the writer would not have written go to ``refused``.

    Raises TrackingError where the whole event could not be written.
    """
    kind = event["event"]
    if not isinstance(kind, str):
        raise TrackingError(f"an event of the kind {str(kind)[:80]!r}")
    try:
        check_time(event.get("time_ms"))
        _check_kind(kind, event)
    except TrackingError as error:
        raise TrackingError(f"{kind[:80]} event: {error}") from None


def _check_kind(kind: str, event: Event) -> None:
    if kind == DAMAGED:
        raise TrackingError("only a reader makes one")
    event.pop("refused", None)
    for field, types in _FIELDS.get(kind, {}).items():
        if type(event.get(field)) not in types:
            raise TrackingError(f"{field} is {str(event.get(field))[:80]!r}")
    if kind in ("param", "metric", "tag"):
        _sift(event, "values")
        if kind == "metric":
            check_step(event["step"])
    elif kind == "start":
        check_id(event["journal_id"])
        check_id(event.get("parent") or event["journal_id"])
        check_time(event["start_time_ms"])
        if not 1 <= len(event["experiment"]) <= MAX_EXPERIMENT_LENGTH:
            raise TrackingError(f"its experiment's name has {len(event['experiment'])} characters")
        event["tags"] = event.get("tags") or {}
        _sift(event, "tags")
    elif kind == "status":
        if event["status"] not in STATUSES:
            raise TrackingError(f"status is {event['status'][:80]!r}; legal are {', '.join(STATUSES)}")
        if event["status"] != "RUNNING":
            event["end_time_ms"] = check_time(event.get("end_time_ms") or event["time_ms"])
    elif kind == "dataset":
        if event["context"] not in CONTEXTS:
            raise TrackingError(f"context is {event['context'][:80]!r}; legal are {', '.join(CONTEXTS)}")
        event["profile"] = event.get("profile") or {}
    elif kind == "artifact":
        path = event["path"]
        if path.split("/")[0] != FILES or os.path.normpath(path) != path or "\0" in path:
            raise TrackingError(f"path {path[:80]!r} leads out of the journal's {FILES}/")
        event["artifact_path"] = check_folder(event["artifact_path"])


def _sift(event: Event, field: str) -> None:
    fault_of = _number_fault if event["event"] == "metric" else _text_fault
    faults = {
        name: fault
        for name, value in event[field].items()
        if (fault := _name_fault(name) or fault_of(value)) is not None
    }
    if faults:
        event[field] = {name: value for name, value in event[field].items() if name not in faults}
        event["refused"] = [f"{event['event']} {name[:80]}: {fault}" for name, fault in faults.items()]


def _text_fault(value: object) -> str | None:
    return None if isinstance(value, str) else f"{str(value)[:80]!r} is not text"


def _number_fault(value: object) -> str | None:
    if type(value) is float or value in ("nan", "inf", "-inf"):
        return None
    if type(value) is int and abs(value) < 2**1023:
        return None
    return f"{str(value)[:80]!r} is not a number that 64 bits hold"


@lru_cache(maxsize=4096)
def _name_fault(name: str) -> str | None:
    try:
        check_name(name)
    except TrackingError as error:
        return str(error)
    return None
