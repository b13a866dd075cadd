"""MLflow's filter language, read into conditions: ``params.dataset = 'x' and metrics.test_accuracy > 0.9``.

Only what is understood for certain is read; for anything else ``parse`` returns None and MLflow itself is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["metrics", "params", "tags", "attributes", "datasets"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("metric", "metrics"), "metrics"),
    **dict.fromkeys(("parameter", "parameters", "param", "params"), "params"),
    **dict.fromkeys(("tag", "tags"), "tags"),
    **dict.fromkeys(("attribute", "attr", "attributes", "run"), "attributes"),
    **dict.fromkeys(("dataset", "datasets"), "datasets"),
}
_ALIASES = {"created": "start_time", "Created": "start_time"}
_NUMERIC_ATTRIBUTES = ("start_time", "end_time")
_TEXT_ATTRIBUTES = ("run_id", "run_name", "status", "artifact_uri", "user_id")
_NUMERIC_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_TEXT_OPERATORS = ("=", "!=", "LIKE", "ILIKE")
_NULL_OPERATORS = ("IS NULL", "IS NOT NULL")
_LIST_OPERATORS = ("IN", "NOT IN")

_CLAUSE = re.compile(
    r"""\s*(?:(?P<kind>[A-Za-z]+)\.)?
    (?P<key>`[^`'"]+`|"[^"'`]+"|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    \s*(?P<operator>!=|<=|>=|=|<|>|\b(?:NOT\s+IN|IN|LIKE|ILIKE|IS\s+NOT\s+NULL|IS\s+NULL)\b)
    (?:\s*(?P<value>'[^'"\\]*'|"[^'"\\]*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])
        |\(\s*'[^'"\\]*'\s*(?:,\s*'[^'"\\]*'\s*)*\)))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_AND = re.compile(r"\s+AND\s+(?=\S)", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """One comparison. ``value`` is None for ``IS NULL`` and ``IS NOT NULL``, a tuple for ``IN`` and ``NOT IN``."""

    kind: Kind
    key: str
    operator: str
    value: str | float | tuple[str, ...] | None


def parse(text: str) -> list[Condition] | None:
    """The conditions of a filter, all of which must hold; None if any of it is not understood."""
    conditions: list[Condition] = []
    at = 0
    while text[at:].strip():
        if conditions:
            link = _AND.match(text, at)
            if link is None:
                return None
            at = link.end()
        clause = _CLAUSE.match(text, at)
        condition = None if clause is None else _condition(clause)
        if clause is None or condition is None:
            return None
        conditions.append(condition)
        at = clause.end()
    return conditions


def _condition(clause: re.Match[str]) -> Condition | None:
    kind = _KINDS.get(clause["kind"] or "attributes")
    if kind is None:
        return None
    key = clause["key"].strip('`"')
    operator = re.sub(r"\s+", " ", clause["operator"].upper())
    raw = clause["value"]
    number = raw is not None and (raw[0].isdigit() or raw[0] == "-")
    if kind == "attributes":
        key = _ALIASES.get(key, key)
    if kind == "metrics" or (kind == "attributes" and key in _NUMERIC_ATTRIBUTES):
        return Condition(kind, key, operator, float(raw)) if number and operator in _NUMERIC_OPERATORS else None
    if kind == "attributes" and key not in _TEXT_ATTRIBUTES:
        return None
    if kind == "datasets" and key not in ("name", "digest", "context"):
        return None
    if operator in _NULL_OPERATORS:
        return Condition(kind, key, operator, None) if raw is None and kind in ("params", "tags") else None
    if raw is None or number:
        return None
    if operator in _LIST_OPERATORS:
        listed = raw[0] == "(" and (kind == "datasets" or key == "run_id") and kind not in ("params", "tags")
        return Condition(kind, key, operator, tuple(re.findall(r"'([^']*)'", raw))) if listed else None
    if operator not in _TEXT_OPERATORS or raw[0] == "(":
        return None
    return Condition(kind, key, operator, raw[1:-1])
