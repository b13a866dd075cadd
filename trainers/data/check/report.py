"""What ``check`` says, as text for people and as JSON for machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracking.errors.words import readable
from trainers.data.check.check import Checked
from trainers.data.check.findings import CheckedSplit
from trainers.data.formats.headers import FORMATS

_EXAMPLES = 5  # places of a finding
_CLASSES = 20
_LEVEL_WORDS = {"refused": "REFUSED", "wrong": "WRONG  ", "unchecked": "unknown", "advice": "advice "}


def checked_text(checked: Checked) -> str:
    """What each path is, then every problem with its reason and its cure."""
    lines = [f"{path}: {words}" for path, words in checked.others.items()]
    for part in checked.parts:
        lines += _part_lines(part, checked.spare)
    problems = [finding for finding in checked.findings if finding.severity != "note"]
    lines.append("")
    if not checked.findings:
        lines.append("clean: no problem found")
    else:
        advice = len(checked.findings) - len(problems)
        lines.append(f"{len(problems)} problem(s)" + (f", {advice} piece(s) of advice" if advice else ""))
    for finding in checked.findings:
        times = f", {finding.count:,} times" if finding.count > 1 else ""
        lines += ["", f"{_LEVEL_WORDS[finding.level]}  {finding.code}  {finding.file}{times}"]
        lines.append(f"  {finding.title}")
        lines += [f"    {example}" for example in finding.examples[:_EXAMPLES]]
        if finding.count > _EXAMPLES:
            lines.append(f"    … {finding.count - _EXAMPLES:,} more")
        lines += [f"  why   {finding.why}", f"  fix   {finding.fix}"]
    return "\n".join(lines)


def _part_lines(part: CheckedSplit, spare: dict[str, int] | None) -> list[str]:
    facts = _facts(part, spare)
    lines = [f"{part.path}: {part.kind}, {len(part):,} pictures, {readable(facts['bytes'])} ({part.name})"]
    if len(part) == 0:
        return lines
    formats = ", ".join(f"{name} {count:,}" for name, count in facts["formats"].items())
    channels = ", ".join(f"{name} {count:,}" for name, count in facts["channels"].items())
    lines.append("  sizes    " + "; ".join(words for words in (_size_words(facts), channels, formats) if words))
    classes = [f"{part.class_name(label)}: {count:,}" for label, count in part.counts().items()]
    more = f", … {len(classes) - _CLASSES:,} more" if len(classes) > _CLASSES else ""
    lines.append(f"  classes  {len(classes)}: {', '.join(classes[:_CLASSES])}{more}" if classes else "  classes  none")
    if facts["duplicates"] is not None:
        lines.append(f"  copies   {facts['duplicates']:,} inside")
    return lines


def _size_words(facts: dict[str, Any]) -> str:
    low, high = facts["smallest"], facts["largest"]
    if low is None or high is None:
        return "unknown"
    return f"{low[0]} x {low[1]} px" if low == high else f"{low[0]} x {low[1]} to {high[0]} x {high[1]} px (w x h)"


def _facts(part: CheckedSplit, spare: dict[str, int] | None) -> dict[str, Any]:
    heads = part.looks.heads
    known = heads[(heads["height"] > 0) & (heads["width"] > 0)]
    by_area = np.argsort(known["height"].astype(np.int64) * known["width"], kind="stable")
    grey = int((known["components"] < 3).sum())
    counts = np.bincount(heads["format"], minlength=len(FORMATS))
    return {
        "name": part.name,
        "path": str(part.path),
        "kind": part.kind,
        "pictures": len(part),
        "bytes": int(part.looks.sizes.sum()),
        "formats": {name: int(count) for name, count in zip(FORMATS, counts, strict=True) if count},
        "channels": {name: n for name, n in (("colour", len(known) - grey), ("grey", grey)) if n},
        "smallest": _side(known, by_area, 0),
        "largest": _side(known, by_area, -1),
        "classes": {part.class_name(label): count for label, count in part.counts().items()},
        "duplicates": None if spare is None else spare.get(part.name, 0),
    }


def _side(known: Any, by_area: Any, which: int) -> list[int] | None:
    """[width, height] px of the smallest or largest picture by area."""
    if len(known) == 0:
        return None
    head = known[by_area[which]]
    return [int(head["width"]), int(head["height"])]


def checked_json(checked: Checked) -> dict[str, Any]:
    """The same for machines; ``findings`` carry stable codes."""
    return {
        "format": 1,
        "exit_code": checked.exit_code,
        "parts": [_facts(part, checked.spare) for part in checked.parts],
        "others": checked.others,
        "findings": [
            {
                "code": finding.code,
                "level": finding.level,
                "file": finding.file,
                "count": finding.count,
                "examples": list(finding.examples),
                "title": finding.title,
                "why": finding.why,
                "fix": finding.fix,
            }
            for finding in checked.findings
        ],
    }
