"""Values of pages as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from reports.document.text import is_missing

FORMAT = 1


def plain(value: Any) -> Any:
    """Python's own types only: no NumPy array or scalar, no NaN, tuples as lists."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, float):
        # Twelve digits: what is beyond is the order of additions, which may differ between versions of numpy.
        return float(f"{value:.12g}")
    return value


def dumps(body: Any) -> str:
    """JSON that is the same text for the same values."""
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
