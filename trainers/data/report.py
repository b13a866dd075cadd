"""What ``pack`` and ``check`` say, as text for people and as JSON for machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainers.data.check import Checked
from trainers.data.pack import Packed
from trainers.data.part import Part
from trainers.data.probe_many import FORMATS

_SHOWN = 10  # skipped pictures
_EXAMPLES = 5  # places of a finding
_CLASSES = 20
_LEVEL_WORDS = {"refused": "REFUSED", "wrong": "WRONG  ", "advice": "advice "}


def packed_text(packed: Packed, elapsed_s: float) -> str:
    """A few lines: what lies where, how much was skipped and why, and what to do next."""
    lines = [
        f"{packed.out}: {packed.num_pictures:,} pictures of {len(packed.class_names)} classes in {elapsed_s:.1f} s"
    ]
    for split, counts in packed.pictures.items():
        few, many = min(counts), max(counts)
        each = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        where = f"{split}/{split}.rec" if packed.form == "rec" else f"{split}/ and {split}_lst/{split}.lst"
        size = readable(packed.num_bytes[split])
        lines.append(f"  {split:<10} {sum(counts):>9,} pictures, {each} a class, {size:>9}  {where}")
    lines.append("  classes.json names the classes; pack.json says how this was made")
    if packed.reencoded:
        lines.append(f"  {packed.reencoded:,} pictures were encoded anew")
    if packed.skipped:
        lines.append(f"  {len(packed.skipped):,} pictures were left out:")
        lines += [f"    {name}: {reason}" for name, reason in list(packed.skipped.items())[:_SHOWN]]
        if len(packed.skipped) > _SHOWN:
            lines.append(f"    … and {len(packed.skipped) - _SHOWN:,} more, all in pack.json")
    lines += [f"  note: {note}" for note in packed.notes]
    return "\n".join(lines)


def packed_json(packed: Packed, elapsed_s: float) -> dict[str, Any]:
    """The same, whole."""
    return {
        "format": 1,
        "out": packed.out,
        "source": packed.source,
        "form": packed.form,
        "class_names": list(packed.class_names),
        "splits": {
            split: {"pictures": sum(counts), "per_class": counts, "bytes": packed.num_bytes[split]}
            for split, counts in packed.pictures.items()
        },
        "reencoded": packed.reencoded,
        "skipped": [{"picture": name, "reason": reason} for name, reason in packed.skipped.items()],
        "notes": list(packed.notes),
        "elapsed_s": round(elapsed_s, 3),
    }


def checked_text(checked: Checked) -> str:
    """What each path is, then every problem with its reason and its cure."""
    lines = [f"{path}: {words}" for path, words in checked.others.items()]
    for part in checked.parts:
        lines += _part_lines(part, checked.spare)
    problems = [finding for finding in checked.findings if finding.rule.level != "advice"]
    lines.append("")
    if not checked.findings:
        lines.append("clean: nothing a job would stumble over")
    else:
        advice = len(checked.findings) - len(problems)
        lines.append(f"{len(problems)} problem(s)" + (f", {advice} piece(s) of advice" if advice else ""))
    for finding in checked.findings:
        times = f", {finding.count:,} times" if finding.count > 1 else ""
        lines += ["", f"{_LEVEL_WORDS[finding.rule.level]}  {finding.rule.code}  {finding.file}{times}"]
        lines.append(f"  {finding.rule.title}")
        lines += [f"    {example}" for example in finding.examples[:_EXAMPLES]]
        if finding.count > _EXAMPLES:
            lines.append(f"    … {finding.count - _EXAMPLES:,} more")
        lines += [f"  why   {finding.rule.why}", f"  mend  {finding.mend}"]
    return "\n".join(lines)


def _part_lines(part: Part, spare: dict[str, int] | None) -> list[str]:
    facts = _facts(part, spare)
    lines = [f"{part.path}: {part.kind}, {len(part):,} pictures, {readable(facts['bytes'])} ({part.name})"]
    if len(part) == 0:
        return lines
    formats = ", ".join(f"{name} {count:,}" for name, count in facts["formats"].items())
    channels = ", ".join(f"{name} {count:,}" for name, count in facts["channels"].items())
    lines.append(f"  sizes    {_size_words(facts)}; {channels}; {formats}")
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


def _facts(part: Part, spare: dict[str, int] | None) -> dict[str, Any]:
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
                "code": finding.rule.code,
                "level": finding.rule.level,
                "file": finding.file,
                "count": finding.count,
                "examples": finding.examples,
                "title": finding.rule.title,
                "why": finding.rule.why,
                "mend": finding.mend,
            }
            for finding in checked.findings
        ],
    }


def readable(num_bytes: int) -> str:
    """1,234 bytes -> 1.2 kB, in powers of 1000."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
