"""Numbers in words."""

from __future__ import annotations


def readable(num_bytes: int) -> str:
    """1,234 bytes -> 1.2 kB, in powers of 1000."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
