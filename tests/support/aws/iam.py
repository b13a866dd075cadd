"""IAM's policy simulator for identity policies, as SimulatePrincipalPolicy answers: decisions and missing context keys.

A subset: Allow and Deny, Action, NotAction, Resource, NotResource with ``*``, and the string operators of Condition. A
positive operator whose key the request does not tell does not hold, a negative one does; both are reported as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from xml.sax.saxutils import escape

Statement = Mapping[str, Any]


def answer(
    form: Mapping[str, str], policies: Mapping[str, Sequence[Statement]], *, organization: bool = True
) -> str | None:
    """The XML of ``EvaluationResults``; None for a principal that is not there. ``organization``: it allows all."""
    statements = policies.get(form["PolicySourceArn"])
    if statements is None:
        return None
    context = {key.lower(): values for key, values in _context(form).items()}
    action = form["ActionNames.member.1"]
    results = {arn: decide(statements, action, arn, context) for arn in _members(form, "ResourceArns") or ["*"]}
    if organization:
        return as_xml(action, results)
    nothing = {arn: ("implicitDeny", missing) for arn, (_, missing) in results.items()}
    detail = "<AllowedByOrganizations>false</AllowedByOrganizations>"
    detail = f"<OrganizationsDecisionDetail>{detail}</OrganizationsDecisionDetail>"
    return as_xml(action, nothing).removesuffix("</member>") + detail + "</member>"


def as_xml(action: str, results: Mapping[str, tuple[str, Sequence[str]]]) -> str:
    """One result for the action, the most restrictive, with the single resources' below it, as AWS answers now."""
    order = ("explicitDeny", "implicitDeny", "allowed")
    whole = min((decision for decision, _ in results.values()), key=order.index)
    single = "".join(
        f"<member><EvalResourceName>{escape(arn)}</EvalResourceName>"
        f"<EvalResourceDecision>{decision}</EvalResourceDecision>{_missing(missing)}</member>"
        for arn, (decision, missing) in results.items()
    )
    first = escape(next(iter(results)))
    return (
        f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{first}</EvalResourceName>"
        f"<EvalDecision>{whole}</EvalDecision><ResourceSpecificResults>{single}</ResourceSpecificResults></member>"
    )


def decide(
    statements: Sequence[Statement], action: str, arn: str, context: Mapping[str, list[str]]
) -> tuple[str, list[str]]:
    """The decision on one resource, and the context keys that statements about it ask for in vain."""
    decision, missing = "implicitDeny", []
    for statement in statements:
        if not _is_about(statement, "Action", action.lower()) or not _is_about(statement, "Resource", arn):
            continue
        holds = True
        for operator, tests in statement.get("Condition", {}).items():
            for key, wanted in tests.items():
                values = context.get(key.lower())
                if values is None:
                    missing.append(key)
                holds = holds and _holds(operator, values, _several(wanted))
        if holds and statement["Effect"] == "Deny":
            return "explicitDeny", missing
        if holds:
            decision = "allowed"
    return decision, missing


def _is_about(statement: Statement, element: str, name: str) -> bool:
    patterns = _several(statement.get(element, statement.get(f"Not{element}", "*")))
    lower = element == "Action"
    among = any(fnmatchcase(name, pattern.lower() if lower else pattern) for pattern in patterns)
    return among == (f"Not{element}" not in statement)


def _holds(operator: str, values: list[str] | None, wanted: Sequence[str]) -> bool:
    operator = operator.rpartition(":")[2]
    plain = operator.removesuffix("IfExists")
    negative = plain in ("StringNotEquals", "StringNotLike")
    if values is None:
        return negative or plain != operator
    like = plain in ("StringLike", "StringNotLike", "ArnLike")
    among = all(any(fnmatchcase(v, w) if like else v == w for w in wanted) for v in values)
    return among != negative


def _context(form: Mapping[str, str]) -> dict[str, list[str]]:
    entries = {}
    number = 1
    while (stem := f"ContextEntries.member.{number}") + ".ContextKeyName" in form:
        entries[form[f"{stem}.ContextKeyName"]] = _members(form, f"{stem}.ContextKeyValues")
        number += 1
    return entries


def _members(form: Mapping[str, str], name: str) -> list[str]:
    out: list[str] = []
    while (key := f"{name}.member.{len(out) + 1}") in form:
        out.append(form[key])
    return out


def _missing(keys: Sequence[str]) -> str:
    return f"<MissingContextValues>{''.join(f'<member>{key}</member>' for key in keys)}</MissingContextValues>"


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
