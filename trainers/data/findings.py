"""What ``check`` found so far: rules broken, where, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from trainers.data.rules import LEVELS, RULES, Rule

_KEPT = 20  # examples of one finding


@dataclass
class Finding:
    """One rule broken in one file, ``count`` times; ``examples`` are the first places with what stands there."""

    rule: Rule
    file: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def mend(self) -> str:
        return self.rule.mend.replace("{file}", self.file).replace("{{", "{").replace("}}", "}")


class Findings:
    """Collects what is found, by rule and file."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, str], Finding] = {}

    def add(self, code: str, file: object, example: str = "") -> None:
        """One more place where ``code`` holds in ``file``."""
        self.add_all(code, file, (0,), lambda _: example)

    def add_all(self, code: str, file: object, places: Iterable[int], describe: Callable[[int], str]) -> None:
        """As many places as there are; only the first few are put in words."""
        for place in places:
            finding = self._by.setdefault((code, str(file)), Finding(RULES[code], str(file)))
            finding.count += 1
            if len(finding.examples) < _KEPT:
                words = describe(int(place))
                if words:
                    finding.examples.append(words)

    def listed(self) -> list[Finding]:
        """All of them, the gravest first, then by code and file."""
        return sorted(self._by.values(), key=lambda f: (LEVELS.index(f.rule.level), f.rule.code, f.file))
