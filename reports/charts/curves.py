"""Metric histories as the learning curves of configurations."""

from __future__ import annotations

from collections.abc import Sequence

from reports.charts.figures import Curve
from tracking import names
from tracking.frame import histories
from tracking.frame.query import HasUri

_CURVES = (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY)


def curves_for(store: HasUri, rows: Sequence[tuple[str, Sequence[str]]]) -> list[Curve]:
    """A curve a row ``(label, run ids)``: the mean over its runs at every step that all of them reached."""
    points = histories(store, [run for _, ids in rows for run in ids], _CURVES)
    curves = []
    for label, ids in rows:
        here = points.loc[points["run_id"].isin(list(ids))]
        means = {
            metric: tuple(
                (int(str(step)), float(values.mean()))
                for step, values in here.loc[here["metric"] == metric].groupby("step")["value"]
                if len(values) == here.loc[here["metric"] == metric, "run_id"].nunique()
            )
            for metric in _CURVES
        }
        if any(len(m) > 1 for m in means.values()):
            curves.append(Curve(label, means[names.VALIDATION_ACCURACY], means[names.TRAIN_ACCURACY]))
    return curves
