"""What ``pack`` says, as text for people and as JSON for machines."""

from __future__ import annotations

from typing import Any

from trainers.data.pack.pack import Packed
from trainers.data.units import readable

_SHOWN = 10  # skipped pictures


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
