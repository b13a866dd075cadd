"""How well a run does on other data than its own, as ``trainers.evaluate --dataset`` logs it: shown, never ranked."""

from __future__ import annotations

from typing import Any

from reports import stats
from reports.document import text
from reports.document.document import Block, Code, Column, Heading, Paragraph, Table
from reports.runs.lookup import Run
from tracking import names


def data_sets(run: Run) -> list[str]:
    """The names of the other data sets that the run has a score on, sorted."""
    return [name for name in names.other_data(run.tags) if names.accuracy(name) in run.metrics]


def metrics(run: Run) -> set[str]:
    """The run's metrics that are scores on other data."""
    return {metric for name in data_sets(run) for metric in run.metrics if metric.partition("_")[0] == name}


def blocks(run: Run) -> list[Block]:
    """A table, and which of the scores are too optimistic."""
    named = data_sets(run)
    if not named:
        return []
    images = [run.metric(names.num_images(name)) for name in named]
    losses = [run.metric(names.loss(name)) for name in named]
    learned = [run.tags.get(names.overlap(name), "unknown") for name in named]
    columns = [
        Column("data", False, [text.one_line(name) for name in named]),
        Column("accuracy (95 % interval)", True, [_accuracy(run, name) for name in named]),
        Column("loss", True, text.numbers(losses), losses),
        Column("pictures", True, [text.count(n) for n in images], images),
        Column("trained on", True, [text.one_line(n) if n != "unknown" else "not known" for n in learned]),
        Column("content digest", False, [(Code(run.tags[names.dataset_digest(name)]),) for name in named]),
        Column("from", False, [_source(run, name) for name in named]),
    ]
    overlaps = [
        Paragraph(
            f"{n} of the {text.count(k)} pictures of {name} are training pictures, so that score is too optimistic.",
            "note",
        )
        for name, n, k in zip(named, learned, images, strict=True)
        if n not in ("0", "unknown")
    ]
    return [Heading("On other pictures", 3), Table(tuple(columns)), *overlaps]


def as_data(run: Run) -> list[dict[str, Any]]:
    """The same for machines; ``trained_on`` None is not known."""
    return [
        {
            "name": name,
            "accuracy": run.metric(names.accuracy(name)),
            "num_images": run.metric(names.num_images(name)),
            "digest": run.tags[names.dataset_digest(name)],
            "source": run.tags.get(names.dataset_source(name)),
            "trained_on": int(n) if (n := run.tags.get(names.overlap(name), "")).isdigit() else None,
        }
        for name in data_sets(run)
    ]


def _accuracy(run: Run, name: str) -> str:
    value, images = run.metric(names.accuracy(name)), run.metric(names.num_images(name))
    places = 2 if images is not None and images >= 2000 else 1
    if value is None or images is None:
        return text.percent(value, places)
    low, high = stats.wilson(value, images)
    return f"{text.percent(value, places)} ({text.interval(float(low), float(high), places)})"


def _source(run: Run, name: str) -> Any:
    source = run.tags.get(names.dataset_source(name))
    return (Code(text.one_line(source)),) if source else text.MISSING
