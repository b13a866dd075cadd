"""What is known about a metric: its direction, its legal values, how it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports.document import text
from tracking import names


def value_text(metric: str, value: Any, places: int = 1) -> str:
    """A metric's value as a reader wants it: a share in percent, a time in minutes, dollars …"""
    if is_share(metric):
        return text.percent(value, places)
    known = names.ALL.get(("metric", metric))
    if metric.startswith("num_") or metric.endswith("_num_images"):
        return text.count(value)
    show = {"s": text.duration, "USD": text.money, "bytes": text.size}.get(known.unit if known else "", text.number)
    return show(value)


def interval_text(low: Any, high: Any, metric: str, places: int = 1) -> str:
    """``95.7–98.9 %``, or two plain numbers for a metric that is no share."""
    if is_share(metric):
        return text.interval(low, high, places)
    return text.MISSING if text.is_missing(low) else f"{value_text(metric, low)} – {value_text(metric, high)}"


def is_plain(metric: str) -> bool:
    """A metric without a unit that is no share and no count: shown as a bare number."""
    known = names.ALL.get(("metric", metric))
    counts = metric.startswith("num_") or metric.endswith("_num_images")
    return not is_share(metric) and not counts and (known is None or known.unit not in ("s", "USD", "bytes"))


def is_share(metric: str) -> bool:
    """A metric in 0..1 that reads well as a percentage."""
    known = names.ALL.get(("metric", metric))
    return known is not None and known.high == 1 and "accuracy" in metric


def higher_is_better(metric: str) -> bool:
    """The vocabulary's direction; for a foreign metric, by its name."""
    known = names.ALL.get(("metric", metric))
    if known is not None and known.better:
        return known.better == "higher"
    return not any(word in metric.lower() for word in ("loss", "error", "time", "cost", "perplexity"))


def impossible(runs: pd.DataFrame) -> list[tuple[str, str, float]]:
    """``(run_id, metric, value)`` of every value outside its metric's bounds, infinite ones included."""
    found = []
    for c in runs.columns:
        if not c.startswith("metrics."):
            continue
        bad = runs.loc[~is_legal(c, runs[c]) & runs[c].notna()]
        found += [(str(r), c[8:], float(v)) for r, v in zip(bad["run_id"], bad[c], strict=True)]
    return sorted(found)


def is_legal(name: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """Which of a metric's values are finite and within the vocabulary's bounds; NaN is not."""
    known = names.ALL.get(("metric", name.removeprefix("metrics.")))
    low = -np.inf if known is None or known.low is None else known.low
    high = np.inf if known is None or known.high is None else known.high
    numbers = values.to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        legal = (numbers >= low) & (numbers <= high) & np.isfinite(numbers)
    return pd.Series(legal, index=values.index)
