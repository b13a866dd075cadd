"""Metric histories: the learning curves of configurations, and values at the best or at a given step."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.board.table import higher_is_better
from reports.charts.figures import Curve
from tracking import names
from tracking.frame import histories
from tracking.frame.load import HasUri

_CURVES = (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY)


def of_rows(store: HasUri, rows: Sequence[tuple[str, Sequence[str]]]) -> list[Curve]:
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


def at_step(
    store: HasUri, runs: pd.DataFrame, metrics: Sequence[str], *, best: str = "", step: int | None = None
) -> pd.DataFrame:
    """``runs`` with the metrics' last values replaced by those at ``step``, or at the step where ``best`` was best.

    Metrics logged once in a run, such as a test score, are no curves and stay. A run without that step has no value;
    one where ``best`` is no curve keeps its last values. Adds the column ``at_step``.
    """
    wanted = list(dict.fromkeys([*metrics, *([best] if best else [])]))
    points = histories(store, runs["run_id"].tolist(), wanted)
    counts = points.groupby(["run_id", "metric"])["step"].transform("size")
    points = points.loc[counts > 1]
    if best:
        judged = points.loc[(points["metric"] == best) & points["value"].notna()]
        ordered = judged.sort_values(
            ["run_id", "value", "step"], ascending=[True, not higher_is_better(best), True], kind="stable"
        )
        chosen = ordered.groupby("run_id")["step"].first()
    else:
        chosen = pd.Series(step, index=runs["run_id"], dtype="float64")
    steps = runs["run_id"].map(chosen)
    values = points.loc[points["step"] == points["run_id"].map(chosen)].pivot(
        index="run_id", columns="metric", values="value"
    )
    changed = runs.copy()
    for metric in wanted:
        curve = set(points.loc[points["metric"] == metric, "run_id"])
        found = runs["run_id"].map(values[metric]) if metric in values.columns else pd.Series(float("nan"), runs.index)
        name = f"metrics.{metric}"
        if name in changed.columns:
            chosen_for = runs["run_id"].isin(curve) & (steps.notna() if best else True)
            changed[name] = changed[name].where(~chosen_for, found)
    changed["at_step"] = steps.astype("float64")
    changed.attrs = dict(runs.attrs)
    return changed
