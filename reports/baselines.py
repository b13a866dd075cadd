"""What a network has to exceed: always answering the commonest class, and chance.

A score says little where classes are of unequal size: of 120 cats and 10 dogs an answer that is always *cat* gets
92.3 % right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.document import text
from reports.document.document import Column, Heading, Paragraph, Table
from reports.store import class_names, predictions
from tracking import names
from tracking.frame.query import HasUri

# So many of the best rows are put beside the baselines.
_MOST = 5
_TITLES = ("accuracy", "balanced accuracy", "macro-F1")


@dataclass(frozen=True)
class Baseline:
    """Of one set of pictures: the accuracy of always answering ``commonest`` (empty: not known which), the classes."""

    accuracy: float
    num_classes: int | None
    commonest: str = ""

    def exceeded_by(self, accuracy: float) -> bool:
        """Whether a network's accuracy is above; a missing one is not judged."""
        return not accuracy <= self.accuracy + 1e-9


def baseline(store: HasUri, runs: pd.DataFrame, split: str) -> Baseline | None:
    """From what the runs of one page logged, else from the labels in the predictions of one; None without either."""
    logged = runs.get(f"metrics.{names.majority_accuracy(split)}", pd.Series(dtype=float)).dropna()
    classes = runs.get("params.num_classes", pd.Series(dtype=float)).dropna()
    num_classes = int(classes.mode().iloc[0]) if len(classes) and str(classes.mode().iloc[0]).isdigit() else None
    if len(logged):
        return Baseline(float(logged.mode().iloc[0]), num_classes)
    scored = runs.loc[runs.get(f"metrics.{names.accuracy(split)}", pd.Series(np.nan, index=runs.index)).notna()]
    for _, run in scored.tail(1).iterrows():
        found = predictions(store.tracking_uri, run["artifact_uri"], split)
        if found is not None and len(found.label):
            counts = np.bincount(found.label)
            calls = class_names(store, run["run_id"], run["artifact_uri"], len(counts))
            known = num_classes or (len(calls) if len(calls) > len(counts) else None)
            return Baseline(float(counts.max() / counts.sum()), known or len(counts), calls[int(counts.argmax())])
    return None


def blocks(rows: pd.DataFrame, known: Baseline, split: str, places: int) -> list[Heading | Table | Paragraph]:
    """What stands under a ranking: the baselines, beside the best of its ``rows`` where those logged more scores."""
    always = f"always answering {text.one_line(known.commonest) or 'the commonest class'}"
    chance = 1 / known.num_classes if known.num_classes else np.nan
    by_chance = f"chance (1 of {known.num_classes} classes)"
    best = rows.loc[rows["rank"].notna()].head(_MOST)
    keys = [names.accuracy(split), names.balanced_accuracy(split), names.macro_f1(split)]
    more = [key for key in keys[1:] if key in best.columns and best[key].notna().any()]
    if not more:
        said = f"For comparison: {always} is right in {text.percent(known.accuracy, places)}"
        said += f", {by_chance} in {text.percent(chance, places)}" if known.num_classes else ""
        return [Paragraph(f"{said}.", "note")]
    # One class has a recall of 1 and the others 0; of its F1 the precision is how common it is.
    lone_f1 = 2 * known.accuracy / (1 + known.accuracy) * chance
    columns = [Column("", False, [*map(str, best["label"]), always, *([by_chance] if known.num_classes else [])])]
    for key, title, one in zip(keys, _TITLES, (known.accuracy, chance, lone_f1), strict=True):
        if key == keys[0] or key in more:
            by_guess = np.nan if key == keys[2] else chance
            values = [*best[key].tolist(), one, *([by_guess] if known.num_classes else [])]
            columns.append(Column(title, True, [text.percent(v, places) for v in values], values))
    return [Heading("What a network has to exceed", 3), Table(tuple(columns))]
