"""Which labels are probably wrong: confident learning over the predictions that runs logged of pictures unseen."""

from __future__ import annotations

import csv
import io
import shlex
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.charts import thumbnails
from reports.document import Document, text
from reports.document.document import Code, Column, Heading, Listing, Paragraph, Table
from reports.document.report import Report
from reports.errors import ReportError
from reports.runs.lookup import Run, data_of, find
from reports.store import class_names
from tracking import names
from tracking.errors.words import csv_cell
from tracking.frame.query import HasUri
from tracking.store.moved import why_missing
from tracking.store.predictions import MOST_CLASSES, Predictions, load

COLUMNS = ("key", "image_digest", "label", "suggested", "score")
_GALLERY = 48


@dataclass(frozen=True, kw_only=True)
class _Found:
    """``rows`` of ``seen`` whose label is probably wrong, the likeliest first; ``score`` (N,) is the probability that
    the networks give each label."""

    seen: Predictions
    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    score: NDArray[np.float64]
    classes: list[str]
    left_out: int
    twice: list[list[int]]  # rows of one picture under several labels

    def table(self) -> list[dict[str, Any]]:
        """A row a probable error, under the names of the relabel file."""
        return [
            {
                "key": str(self.seen.key[row]),
                "image_digest": str(self.seen.digest[row]),
                "label": self.classes[self.seen.label[row]],
                "suggested": self.classes[self.suggested[row]],
                "score": round(float(self.score[row]), 6),
            }
            for row in self.rows
        ]


def mistakes(run_ids: Sequence[str], store: HasUri | str | None = None, *, split: str = "", top: int = 100) -> Report:
    """Probable label errors among the pictures of ``split`` that the runs predicted, the likeliest first.

    ``split`` defaults to the fold each run held out, else to the test split. A picture that several runs predicted
    has the mean of their probabilities. The page shows ``top`` of them (0: all); its data and its CSV, which is the
    file for ``python -m trainers.data pack --relabel``, hold all. Raises ReportError without cleanlab, for a run
    without such predictions, and for pictures that cannot be judged.
    """
    opened, runs = find(list(run_ids), store)
    if len({run.run_id for run in runs}) < len(runs):
        raise ReportError("mistakes was given the same run twice; give each once")
    if split == "train":
        raise ReportError(
            "--split train: a network repeats the labels it learned, right or wrong. Train with"
            " `python -m trainers.run --folds 5`, then give those runs without --split"
        )
    first = load(opened.tracking_uri, runs[0].artifact_uri, names.FOLD) if not split else None
    split = split or (names.FOLD if first is not None else "test")
    found = _judged(runs, [_predictions(run, opened, split) for run in runs], opened)
    data = {
        "runs": [run.run_id for run in runs],
        "split": split,
        "num_images": len(found.seen.label),
        "left_out": found.left_out,
        "accuracy": float(found.seen.hits.mean()),
        "mistakes": found.table(),
    }
    return Report(lambda _: _document(runs, found, split, top, opened), lambda: data, lambda: _csv(found))


def _predictions(run: Run, store: HasUri, split: str) -> Predictions:
    seen = load(store.tracking_uri, run.artifact_uri, split, every_class=True)
    if seen is None:
        if why := why_missing(store.tracking_uri, run.artifact_uri):
            raise ReportError(f"the predictions of run {run.label} ({run.run_id[:8]}) are missing: {why}")
        have = [s for s in (names.FOLD, "test", "validation") if load(store.tracking_uri, run.artifact_uri, s)]
        told = f"it has those of {text.join(have)} (--split)" if have else "it has none of any split"
        how = "" if split == names.FOLD else f"; `python -m trainers.evaluate {run.run_id}` makes those of test"
        raise ReportError(f"run {run.label} ({run.run_id[:8]}) logged no predictions of {split}: {told}{how}")
    if not len(seen.label):
        raise ReportError(f"run {run.label} ({run.run_id[:8]}): its predictions of {split} hold no picture")
    if seen.probabilities is None:
        again = "train it again with --folds" if split == names.FOLD else f"python -m trainers.evaluate {run.run_id}"
        raise ReportError(
            f"run {run.label} ({run.run_id[:8]}) kept only the probability of the likeliest class. Runs keep all of"
            f" them for up to {MOST_CLASSES} classes; for a run of an older version, score it again: `{again}`"
        )
    num_classes = seen.probabilities.shape[1]
    if int(seen.label.max()) >= num_classes or int(seen.label.min()) < 0:
        raise ReportError(
            f"run {run.label} ({run.run_id[:8]}) knows {num_classes} classes, but its labels go from"
            f" {seen.label.min()} to {seen.label.max()}: the columns do not belong to the labels"
        )
    return seen


def _judged(runs: Sequence[Run], predicted: Sequence[Predictions], store: HasUri) -> _Found:
    classes = _classes(runs, predicted, store)
    seen, left_out = _merged(predicted)
    rows_of = defaultdict[str, list[int]](list)
    for row, digest in enumerate(seen.digest):
        rows_of[str(digest)].append(row)
    twice = [rows for rows in rows_of.values() if len({int(seen.label[row]) for row in rows}) > 1]
    if len(np.unique(seen.label)) < 2:
        raise ReportError(
            f"the {text.plural(len(seen.label), 'picture')} carry one label, {classes[seen.label[0]]}: an error is"
            " found by comparing classes; take pictures of two classes or more"
        )
    assert seen.probabilities is not None
    score = seen.probabilities[np.arange(len(seen.label)), seen.label]
    rows = _issues(seen.label, seen.probabilities)
    rows = rows[seen.predicted[rows] != seen.label[rows]]
    return _Found(
        seen=seen,
        rows=rows,
        suggested=seen.predicted,
        score=score,
        classes=classes,
        left_out=left_out,
        twice=sorted(twice),
    )


def _classes(runs: Sequence[Run], predicted: Sequence[Predictions], store: HasUri) -> list[str]:
    """The names of the classes, which all runs share."""
    counts = [one.probabilities.shape[1] for one in predicted if one.probabilities is not None]
    if len(set(counts)) > 1:
        told = text.join([f"{run.label} {count}" for run, count in zip(runs, counts, strict=True)])
        raise ReportError(f"the runs know different numbers of classes ({told}); give runs of one data set")
    numbers = [str(i) for i in range(counts[0])]
    named = [class_names(store, run.run_id, run.artifact_uri, counts[0]) for run in runs]
    real = [(run, found) for run, found in zip(runs, named, strict=True) if found != numbers]
    for run, found in real[1:]:
        if found != real[0][1]:
            raise ReportError(
                f"{run.label} and {real[0][0].label} name their classes differently ({text.join(found[:5])};"
                f" {text.join(real[0][1][:5])}); give runs of one data set"
            )
    return real[0][1] if real else numbers


def _merged(predicted: Sequence[Predictions]) -> tuple[Predictions, int]:
    """Every picture once with the mean of its probabilities, and how many have none that can be used."""
    rows = np.concatenate([one.probabilities for one in predicted if one.probabilities is not None])
    _, first, which = np.unique(
        [name for one in predicted for name in one.pictures], return_index=True, return_inverse=True
    )
    usable = np.isfinite(rows).all(axis=1) & (rows >= 0).all(axis=1)
    usable &= np.where(usable, rows.sum(axis=1), 0.0) > 0
    total = np.zeros((len(first), rows.shape[1]))
    np.add.at(total, which[usable], rows[usable] / rows[usable].sum(axis=1, keepdims=True))
    good = total.sum(axis=1) > 0
    if not good.any():
        raise ReportError("no picture has probabilities that are numbers: the training diverged; take another run")
    total, first = total[good], first[good]
    total /= total.sum(axis=1, keepdims=True)

    def of(name: str) -> NDArray[Any]:
        return np.asarray(np.concatenate([getattr(one, name) for one in predicted])[first])

    seen = Predictions(
        digest=of("digest"),
        key=of("key"),
        label=of("label"),
        predicted=total.argmax(axis=1),
        probability=total.max(axis=1),
        probabilities=total,
    )
    return seen, int((~good).sum())


def _issues(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows whose label is probably wrong, the least likely label first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from cleanlab.filter import find_label_issues

            found = find_label_issues(
                labels,
                probabilities,
                filter_by="low_self_confidence",
                return_indices_ranked_by="self_confidence",
                n_jobs=1,
            )
    except ImportError as error:
        raise ReportError(
            "label errors are found by cleanlab, which is not installed here: python -m pip install 'cleanlab>=2.6'"
        ) from error
    return np.asarray(found, np.int64)


def _csv(found: _Found) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in found.table())
    return out.getvalue()


def _document(runs: Sequence[Run], found: _Found, split: str, top: int, store: HasUri) -> Document:
    seen, rows = found.seen, found.rows[: top or None]
    total = text.plural(len(seen.label), "picture")
    paper = Document("Probable label errors")
    if len(found.rows):
        share = text.percent(len(found.rows) / len(seen.label))
        said = f"{text.count(len(found.rows))} of {total} ({share}) are probably labelled wrong."
    else:
        said = f"No label of {total} looks wrong."
    paper.add(Paragraph(said, "answer"))
    by = f"{len(runs)} runs" if len(runs) > 1 else runs[0].label
    paper.add(
        Paragraph(
            f"Found by confident learning over what {by} predicted of the pictures of {split}, which they did not learn"
            f" from. They agree with {text.percent(float(seen.hits.mean()))} of the labels: the weaker the network, the"
            " more of the list are its own mistakes. Look before you change a label.",
            "note",
        )
    )
    for warning in _warnings(runs, found, split):
        paper.add(Paragraph(warning, "warning"))
    if len(rows):
        paper.add(Heading("The least likely labels"))
        said_of = [
            (
                str(seen.digest[i]),
                str(seen.key[i]),
                f"{found.classes[seen.label[i]]}: {found.classes[seen.predicted[i]]}?",
            )
            for i in rows
        ]
        source = next((one.source for one in data_of(runs[0], store)), "")
        caption = "Label, and what the network sees; the least likely label first"
        sheet = thumbnails.contact_sheet("mistakes", said_of, source, caption, _GALLERY)
        if sheet is not None:
            paper.add(sheet)
        else:
            paper.add(
                Paragraph("No picture is shown: they are not files on this machine, or have changed since.", "note")
            )
        paper.add(_table(found, rows))
        data = shlex.quote(str(runs[0].params.get("dataset", "DATA")))
        paper.add(
            Heading("To correct them"),
            Paragraph("Write the list, delete or change what you judge otherwise, and pack the data with it:"),
            Listing(
                f"python -m reports mistakes {' '.join(run.run_id for run in runs)} --split {split} --relabel"
                f" relabel.csv\npython -m trainers.data pack {data} relabelled --relabel relabel.csv"
            ),
        )
    return paper


def _warnings(runs: Sequence[Run], found: _Found, split: str) -> list[str]:
    said = []
    folds = [str(run.params.get("fold", "")).partition("/") for run in runs]
    counts = {count for _, _, count in folds}
    if split == names.FOLD and len(counts) == 1 and next(iter(counts)).isdecimal():
        missing = sorted(set(range(1, int(next(iter(counts))) + 1)) - {int(n) for n, _, _ in folds if n.isdecimal()})
        if missing:
            which = text.join([str(n) for n in missing])
            said.append(
                f"No run given held out {'fold' if len(missing) == 1 else 'folds'} {which} of {next(iter(counts))}; the"
                " pictures in there are not judged."
            )
    if found.left_out:
        said.append(f"{text.plural(found.left_out, 'picture')} had no probabilities that are numbers and are left out.")
    if found.twice:
        shown = "; ".join(
            text.join([f"{found.seen.key[row]} ({found.classes[found.seen.label[row]]})" for row in rows])
            for rows in found.twice[:3]
        )
        more = "; …" if len(found.twice) > 3 else ""
        said.append(
            f"Under several labels, of which at most one is right: {text.plural(len(found.twice), 'picture')}"
            f" ({shown}{more})."
        )
    return said


def _table(found: _Found, rows: NDArray[np.int64]) -> Table:
    seen = found.seen
    return Table(
        (
            Column("picture", False, [(Code(str(seen.key[i])),) for i in rows]),
            Column("label", False, [found.classes[seen.label[i]] for i in rows]),
            Column("suggested", False, [found.classes[seen.predicted[i]] for i in rows]),
            Column(
                "label's probability", True, [text.percent(found.score[i], 2) for i in rows], found.score[rows].tolist()
            ),
            Column(
                "suggested's", True, [text.percent(seen.probability[i]) for i in rows], seen.probability[rows].tolist()
            ),
        ),
        more=len(found.rows) - len(rows),
    )
