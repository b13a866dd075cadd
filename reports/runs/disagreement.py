"""The pictures on which two runs differ: which is right, how confident the other was, the picture files found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.charts import thumbnails
from reports.document import text
from reports.document.document import Code, Column, Figure, Heading, Paragraph, Table
from reports.runs.lookup import Run, data_of
from reports.store import class_names
from tracking.frame.query import HasUri
from tracking.store.predictions import Predictions, common

_KEYS_SHOWN = 10


def disagreements(
    runs: Sequence[Run], calls: Sequence[str], first: Predictions, second: Predictions, store: HasUri
) -> list[Heading | Paragraph | Table | Figure]:
    """The pictures that one of two runs gets right and the other wrong."""
    a, b = common([first, second])
    if not len(a.digest):
        return []
    same = float((a.predicted == b.predicted).mean())
    blocks: list[Heading | Paragraph | Table | Figure] = [
        Heading("Where they differ"),
        Paragraph(f"They agree on {text.percent(same)} of the {text.plural(len(a.digest), 'picture')}."),
    ]
    size = 1 + max(int(x.max()) for x in (a.label, a.predicted, b.predicted))
    classes = class_names(store, runs[0].run_id, runs[0].artifact_uri, size)
    source = next((d.source for d in data_of(runs[0], store) if d.context == "test"), "")
    for number, (right, wrong, who) in enumerate(((a, b, 0), (b, a, 1)), 1):
        rows = np.flatnonzero(right.hits & ~wrong.hits)
        rows = rows[np.argsort(-np.nan_to_num(wrong.probability[rows]), kind="stable")]
        if not len(rows):
            continue
        blocks.append(Heading(f"Only {calls[who]} is right", 3))
        said = [
            (str(a.digest[i]), str(a.key[i]), f"{classes[a.label[i]]}, not {classes[wrong.predicted[i]]}") for i in rows
        ]
        sheet = thumbnails.contact_sheet(
            f"only-{number}", said, source, f"{calls[1 - who]} is wrong on each; highest confidence first"
        )
        if sheet is not None:
            blocks.append(sheet)
        shown = rows[:_KEYS_SHOWN]
        blocks.append(
            Table(
                (
                    Column("picture", False, [(Code(str(a.key[i])),) for i in shown]),
                    Column("label", False, [classes[a.label[i]] for i in shown]),
                    Column("predicted", False, [classes[wrong.predicted[i]] for i in shown]),
                    Column(
                        "confidence",
                        True,
                        [text.percent(wrong.probability[i]) for i in shown],
                        wrong.probability[shown].tolist(),
                    ),
                )
            )
        )
        if len(rows) > len(shown):
            blocks.append(Paragraph(f"… and {text.plural(len(rows) - len(shown), 'picture')} more.", "note"))
    return blocks
