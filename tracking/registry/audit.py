"""The record of an alias in the registry: which version had it when, what it replaced and why; all of it tags."""

from __future__ import annotations

import datetime
import getpass
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tracking.registry.rivals import Claim

_MAX_HISTORY_CHARACTERS = 4000
_MAX_HOLDERS = 100
_MOST_WRITES = 20


def write_down(
    client: MlflowClient,
    name: str,
    alias: str,
    version: str,
    former: str | None,
    because: str,
    now: str,
    claim: Claim | None,
) -> None:
    """The audit: user, time, reason and what was replaced as a tag of the version; the history on the model."""
    replaced = "nothing" if former is None else f"version {former}"
    text = f"{now} {_user()}: {alias}, replaced {replaced}; {because}"
    client.set_model_version_tag(name, version, _audit_tag(alias), text)
    holders = holders_of(client, name, alias)
    if former is not None and holders[-1:] != [former]:
        holders.append(former)  # another program gave it the alias
    set_holders(client, name, alias, [*holders, version])
    if claim is not None:
        claim.mark("done")

    def lines() -> list[str]:
        audits = {version: text}
        for number, rival in ({} if claim is None else claim.rivals("done")).items():
            audits[number] = rival.tags.get(_audit_tag(alias), "")
        said = f"{alias}, replaced "
        return [a.replace(said, f"{alias}: version {v} for ", 1) for v, a in audits.items() if said in a]

    _history(client, name, lines)


def _audit_tag(alias: str) -> str:
    return f"alias.{alias}.audit"


def holders_of(client: MlflowClient, name: str, alias: str) -> list[str]:
    """The versions that had the alias one after another and may have it back, the last one now."""
    text = str(client.get_registered_model(name).tags.get(_holders_tag(alias), ""))
    return text.split(",") if text else []


def set_holders(client: MlflowClient, name: str, alias: str, versions: list[str]) -> None:
    """Record the versions that had the alias one after another, the last one now."""
    client.set_registered_model_tag(name, _holders_tag(alias), ",".join(versions[-_MAX_HOLDERS:]))


def _history(client: MlflowClient, name: str, lines: Callable[[], list[str]]) -> None:
    """Add lines to the registered model's ``audit`` tag; the oldest go where it grows too long for MLflow.

    Others write it too, and a server has no lock: until it holds what was done at the same time as well, each by its
    moment, it is written again.
    """
    for _ in range(_MOST_WRITES):
        wanted = lines()
        there = client.get_registered_model(name).tags.get("audit", "").splitlines()
        if all(line in there for line in wanted):
            return
        merged = sorted({*there, *wanted}, key=lambda line: line.partition(" ")[0])
        while len(merged) > 1 and sum(map(len, merged)) + len(merged) > _MAX_HISTORY_CHARACTERS:
            del merged[0]
        client.set_registered_model_tag(name, "audit", "\n".join(merged))


def note(client: MlflowClient, name: str, text: str) -> None:
    """Add what was done to the history."""
    lines = [f"{moment()} {_user()}: {text}"]
    _history(client, name, lambda: lines)


def moment() -> str:
    """Now, as the audit writes it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def _holders_tag(alias: str) -> str:
    return f"alias.{alias}.holders"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return str(os.getuid())
