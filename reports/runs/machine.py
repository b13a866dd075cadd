"""What a run's machine did, by its system metrics, and whether a smaller one would have done."""

from __future__ import annotations

from reports.document.document import Block, Column, Heading, Paragraph, Table
from reports.runs.lookup import Run
from tracking.frame import histories, load
from tracking.frame.query import HasUri

_PREFIX, _LEAST = "system/", 3  # fewer samples say nothing
_CPU, _MEMORY, _DISK = "cpu_utilization_percentage", "system_memory_usage_percentage", "disk_usage_percentage"
_TITLES = {_CPU: "processors", _MEMORY: "memory", _DISK: "disk"}
_GPU, _GPU_MEMORY = "utilization_percentage", "memory_usage_percentage"
_HALF = 45.0  # per cent: what fits into half of a machine


def blocks(run: Run, store: HasUri) -> list[Block]:
    """A table of the load, and what follows from it; nothing for a run without system metrics."""
    gpus = [f"gpu_{number}{part}" for number in ("", *(f"{n}_" for n in range(16))) for part in (_GPU, _GPU_MEMORY)]
    columns = [f"metrics.{_PREFIX}{key}" for key in (*_TITLES, *gpus)]
    there = load(store, filter=f"attributes.run_id = '{run.run_id}'", columns=columns)
    # Asked once which there are: a server answers for each metric's points by itself.
    points = histories(store, [run.run_id], [c.removeprefix("metrics.") for c in columns if c in there])
    found = {
        str(key).removeprefix(_PREFIX): (float(own.mean()), float(own.max()))
        for key, own in points.dropna(subset="value").groupby("metric")["value"]
        if len(own) >= _LEAST
    }
    if not found:
        return []
    titles = [_title(key) for key in found]
    shown = (
        Column("", False, titles),
        Column("mean", True, [f"{mean:.0f} %" for mean, _ in found.values()]),
        Column("highest", True, [f"{high:.0f} %" for _, high in found.values()]),
    )
    return [Heading("The machine"), Table(shown), Paragraph(_verdict(found), "note")]


def _title(key: str) -> str:
    if key in _TITLES:
        return _TITLES[key]
    number = key.split("_")[1]
    return f"GPU{f' {number}' if number.isdigit() else ''}{' memory' if key.endswith(_GPU_MEMORY) else ''}"


def _verdict(found: dict[str, tuple[float, float]]) -> str:
    """Whether half of the machine would have been enough."""
    busy = [load for key, load in found.items() if key.startswith("gpu") and key.endswith(_GPU)]
    filled = [high for key, (_, high) in found.items() if key.endswith(_GPU_MEMORY)]
    said = []
    if busy:
        mean, high = sum(mean for mean, _ in busy) / len(busy), max(high for _, high in busy)
        if high <= _HALF and max(filled, default=0.0) <= _HALF:
            said.append("A GPU half as fast, with half of the memory, would have done.")
        elif mean <= _HALF:
            said.append("The GPU waited more than half of the time: faster input, or a smaller GPU, would have done.")
        else:
            said.append("The GPU was used; a slower one would have taken longer.")
    if _CPU in found and _MEMORY in found:
        fits = found[_CPU][0] <= _HALF and found[_MEMORY][1] <= _HALF
        said.append(f"Half of the processors and memory would {'' if fits else 'not '}have done.")
    if _DISK in found and found[_DISK][1] <= _HALF:
        said.append("Half of the disk would have done.")
    return " ".join(said) or "Too little is known to say whether a smaller machine would have done."
