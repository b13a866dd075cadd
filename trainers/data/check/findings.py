"""What ``check`` found so far: rules broken, where, and how often."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from trainers.data.check.rules import LEVELS, RULES, Rule

_KEPT = 20  # examples of one finding


@dataclass
class Finding:
    """One rule broken in one file, ``count`` times; ``examples`` are the first places with what stands there."""

    rule: Rule
    file: str
    source: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def mend(self) -> str:
        """The command that mends it, with its paths quoted for a shell."""
        filled = self.rule.mend.replace("{file}", shlex.quote(self.file)).replace("{source}", self.source)
        return filled.replace("{{", "{").replace("}}", "}")


class Findings:
    """Collects what is found, by rule and file. ``source`` is how to name the whole data set on a command line; without
    it each file stands for itself."""

    def __init__(self, source: str | None = None) -> None:
        self._source = source
        self._by: dict[tuple[str, str], Finding] = {}

    def add(self, code: str, file: object, example: str = "") -> None:
        """One more place where ``code`` holds in ``file``."""
        self.add_all(code, file, (0,), lambda _: example)

    def add_all(self, code: str, file: object, places: Iterable[int], describe: Callable[[int], str]) -> None:
        """As many places as there are; only the first few are put in words."""
        for place in places:
            key = (code, str(file))
            if key not in self._by:
                self._by[key] = Finding(RULES[code], key[1], self._source or shlex.quote(key[1]))
            finding = self._by[key]
            finding.count += 1
            if len(finding.examples) < _KEPT:
                words = describe(int(place))
                if words:
                    finding.examples.append(words)

    def listed(self) -> list[Finding]:
        """All of them, the gravest first, then by code and file."""
        return sorted(self._by.values(), key=lambda f: (LEVELS.index(f.rule.level), f.rule.code, f.file))
