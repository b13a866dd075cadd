"""Promotions at the same time on a server, which cannot be locked: each marks its version and looks again afterwards.

A mark, the tag ``alias.<alias>.claim`` of a version, says ``open`` before the alias is moved, ``set`` once it is, then
``done`` or ``lost``. By them a promotion finds, after its own move, others that it did not know of when it judged.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A mark that was left by a process that died is none for long.
_FRESH_S = 600.0


class Claim:
    """One version's claim to an alias of the registered model ``name``."""

    def __init__(self, client: MlflowClient, name: str, alias: str, version: str) -> None:
        self._client, self._name, self._version, self._tag = client, name, version, tag(alias)
        self.mark("open")
        self._before = self._marks()

    def mark(self, state: str) -> None:
        """Say how far the claim is."""
        self._client.set_model_version_tag(self._name, self._version, self._tag, f"{state} {time.time_ns()}")

    def rivals(self, *states: str) -> dict[str, Any]:
        """Versions that were claimed for since this claim began, or were under way then, and are in such a state."""
        found = {}
        for version, (state, mark, holder) in self._marks().items():
            was = self._before.get(version, ("", "", None))
            if state in states and (mark != was[1] or was[0] in ("open", "set")):
                found[version] = holder
        return found

    def _marks(self) -> dict[str, tuple[str, str, Any]]:
        """Version → its state, its mark, itself; this one's and old ones are left out."""
        found, token = {}, None
        while True:
            page = self._client.search_model_versions(f"name = '{self._name}'", page_token=token)
            for version in page:
                state, _, moment = version.tags.get(self._tag, "").partition(" ")
                number = str(version.version)
                if moment.isdigit() and number != self._version and time.time() - int(moment) / 1e9 < _FRESH_S:
                    found[number] = (state, f"{state} {moment}", version)
            token = page.token
            if not token:
                return found


def tag(alias: str) -> str:
    """The tag of a version that holds its mark."""
    return f"alias.{alias}.claim"
