"""What ``check`` found so far: rules broken, where, and how often."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data.check.examine import PictureFacts
from trainers.data.check.rules import RULES, SEVERITIES, Finding
from trainers.data.readers.layouts import Form

_KEPT = 20  # examples of one finding


class Findings:
    """Collects what is found, by rule and file. ``source`` is how to name the whole data set on a command line; without
    it each file is named. ``roots``: the folder that the paths of a list start from, where it is not the list's own."""

    def __init__(self, source: str | None = None) -> None:
        self._source = source
        self.roots: dict[str, str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._looked_at: dict[str, int] = {}

    def looked_at(self, file: object, count: int) -> None:
        """Only ``count`` pictures of ``file`` are looked at; what is found is then said to be of so many."""
        self._looked_at[str(file)] = count

    def add(self, code: str, file: object, example: str = "") -> None:
        """One more place where ``code`` holds in ``file``."""
        self.add_all(code, file, (0,), lambda _: example)

    def add_all(self, code: str, file: object, places: Iterable[int], describe: Callable[[int], str]) -> None:
        """As many places as there are; only the first few are put in words."""
        for place in places:
            key = (code, str(file))
            self._counts[key] += 1
            if len(self._examples[key]) < _KEPT and (words := describe(int(place))):
                self._examples[key].append(words)

    def has_any(self, file: object) -> bool:
        """Whether an error was found in ``file``."""
        return any(place == str(file) and RULES[code].severity == "error" for code, place in self._counts)

    def listed(self) -> list[Finding]:
        """All of them, the gravest first, then by code and file."""
        found = [self._finding(code, file) for code, file in self._counts]
        return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.code, f.file))

    def _finding(self, code: str, file: str) -> Finding:
        rule, count, examples = RULES[code], self._counts[code, file], self._examples[code, file]
        often = f"{count:,} of {self._looked_at[file]:,} looked at" if file in self._looked_at else f"{count:,} times"
        words = [often] if count > 1 or file in self._looked_at else []
        words += [f"such as {examples[0]}" if count > 1 else examples[0]] if examples else []
        seen = f" ({', '.join(words)})" if words else ""
        fix = rule.fix.replace("{file}", shlex.quote(file)).replace("{source}", self._source or shlex.quote(file))
        if "{list}" in fix:
            fix = self._of_list(file, fix)
        return Finding(
            code=code,
            what=f"{file}: {rule.title}{seen}",
            severity=rule.severity,
            when=rule.when,
            why=rule.why,
            fix=fix.replace("{{", "{").replace("}}", "}"),
            title=rule.title,
            file=file,
            count=count,
            examples=tuple(examples),
        )

    def _of_list(self, file: str, fix: str) -> str:
        root = f" --image-root {shlex.quote(self.roots[file])}" if file in self.roots else ""
        root = " --image-root DIR" if file.startswith("s3://") else root
        return fix.replace("{list}", shlex.quote(file) + root)


@dataclass(kw_only=True)
class CheckedSplit:
    """N pictures of ``path``, or of an address in S3. ``labels`` (N,) float64, NaN where there is none; ``place(i)``
    says where picture i is, ``file_name(i)`` what it is called ("" in records). ``instead``: what a file is that should
    be of the form and is not. ``sources``: the patient, film or seller of each, where that was asked for."""

    name: str
    path: Path | str
    form: Form
    looks: PictureFacts
    labels: NDArray[np.float64]
    place: Callable[[int], str]
    file_name: Callable[[int], str]
    class_names: tuple[str, ...] | None = None
    instead: str = ""
    sources: Sequence[str] | None = None

    @property
    def kind(self) -> str:
        """What ``path`` is, in words."""
        return self.instead or self.form.value

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def whole(self) -> NDArray[np.bool_]:
        """(N,) which labels are whole numbers from 0."""
        good = np.isfinite(self.labels) & (self.labels >= 0) & (self.labels < 2**31)
        good[good] = self.labels[good] == np.floor(self.labels[good])
        return good

    def counts(self) -> dict[int, int]:
        """Pictures of each class, among whole labels."""
        labels, counts = np.unique(self.labels[self.whole].astype(np.int64), return_counts=True)
        return dict(zip(labels.tolist(), counts.tolist(), strict=True))

    def class_name(self, label: int) -> str:
        """``3 cat`` where the class has a name, else ``3``."""
        names = self.class_names or ()
        return f"{label} {names[label]}" if label < len(names) and names[label] != str(label) else str(label)
