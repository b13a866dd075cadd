"""One run's card: its data, settings, scores, time and cost, and how to repeat it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports import metrics, stats
from reports.board.missing import retrain
from reports.charts import curves, figures
from reports.document import Document, text
from reports.document.document import Block, Code, Column, Heading, Paragraph, Strong, Table, Text
from reports.document.report import Report
from reports.runs import machine, other_scores, reuse
from reports.runs.comparison import foreign_metrics, score_text
from reports.runs.lookup import Data, Run, data_of, find, missing_artifacts
from reports.store import class_names, predictions
from tracking import names
from tracking.frame import histories
from tracking.frame.query import HasUri
from tracking.store.predictions import Predictions

_EFFORT = (
    *("starting_s", "downloading_s", "training_s", "uploading_s", "interrupted_s", "stopping_s"),
    *(names.TRAINING_TIME_S, names.TOTAL_TIME_S, names.BILLABLE_TIME_S, names.COST_USD, names.SPOT_SAVING),
    *(names.IMAGES_PER_S, names.NUM_PARAMETERS, names.MODEL_SIZE_BYTES),
)
_PLACE = (
    names.LAUNCHER,
    names.INSTANCE_TYPE,
    names.INSTANCE_COUNT,
    names.REGION,
    names.PRICE,
    names.JOB_NAME,
    names.RESUMED,
)


def run_card(run_id: str, store: HasUri | str | None = None) -> Report:
    """The card of one run, by its id or the beginning of it. Raises ReportError when there is no such run."""
    opened, (run,) = find([run_id], store)
    data = data_of(run, opened)
    predicted = {split: predictions(opened.tracking_uri, run.artifact_uri, split) for split in ("validation", "test")}
    config, flavor, environment = reuse.files(opened, run)
    paper = Document(run.label)
    paper.add(Paragraph(_answer(run), "answer"), *_state(run))
    paper.add(*missing_artifacts([run], opened))
    paper.add(*_scores(*_of_one_epoch(run, opened), data), *_data(data))
    drawn = curves.curves_for(opened, [(run.label, (run.run_id,))])
    if drawn:
        paper.add(Heading("Learning curve"), figures.learning_curves("curves", drawn, caption=""))
    test = predicted["test"]
    if test is not None:
        paper.add(*_by_class(opened, run, test), *_calibration(test))
    paper.add(*_effort(run), *machine.blocks(run, opened), *_settings(run), *reuse.environment_of(environment))
    paper.add(*reuse.rerun_blocks(run, opened, config, environment), *reuse.how_to_load(run, opened, flavor))
    return Report(lambda _: paper, lambda: _as_data(run, data, test))


def _answer(run: Run) -> Text:
    words = []
    for key, unit in (("num_layers", " layers"), ("init", ""), ("epochs", " epochs")):
        value = run.tags.get(names.INIT_LABEL, run.params.get(key)) if key == "init" else run.params.get(key)
        if value is not None:
            words.append(f"{text.one_line(value)}{unit if value != 1 else unit[:-1]}")
    on = [f"on {text.one_line(run.params['dataset'])}"] if "dataset" in run.params else []
    head = f"{' '.join([*([', '.join(words)] if words else []), *on])}: " if words or on else ""
    if names.PRETEXT in run.tags:
        return f"{head}a pretext run ({run.tags[names.PRETEXT]}), not ranked; it only provides starting weights."
    accuracy = run.metric(names.TEST_ACCURACY)
    if accuracy is None:
        said = f"{head}no test accuracy" if head else "No test accuracy"
        if run.is_own_code:
            return (f"{said}. Where the run is logged, add it: ", Code('run.log_metrics({"test_accuracy": …})'), ".")
        if not run.is_ours:
            return f"{said}: another tool logged this run."
        if run.metric(names.MODEL_SIZE_BYTES) is None and run.tags.get(names.LAUNCHER) == "import":
            return (
                f"{said}, and no model that could be tested. To train it again: ",
                Code(retrain(run.params)),
                ".",
            )
        return (f"{said}. To compute it: ", Code(f"python -m trainers.evaluate {run.run_id}"), ".")
    images = run.metric(names.num_images("test"))
    tested = f" on {text.count(images)} pictures" if images is not None else ""
    if tested and run.tags.get(names.TEST_OVERLAP) == "0":
        tested += " it was not trained on"
    return (head, Strong(score_text(run, names.TEST_ACCURACY)), f" test accuracy{tested}.")


def _state(run: Run) -> list[Block]:
    """How it ended where it did not finish, and what looks wrong."""
    blocks: list[Block] = []
    if run.status != "FINISHED":
        reason = run.tags.get(names.STATUS_REASON) or run.tags.get(names.ERROR_TYPE) or "no reason was recorded"
        advice = run.tags.get(names.ADVICE)
        said = f"{run.status}: {text.one_line(reason)}{f' ({text.one_line(advice)})' if advice else ''}"
        blocks.append(Paragraph(said, "warning"))
    blocks += [
        Paragraph(f"{metric} is {text.number(value, 6)}, which is impossible; the value is ignored.", "warning")
        for metric, value in run.impossible
    ]
    if names.FLAGGED in run.tags:
        blocks.append(Paragraph(f"{text.one_line(run.tags[names.FLAGGED])}.", "warning"))
    if names.FINDINGS in run.tags:
        blocks += [Paragraph(text.one_line(line), "warning") for line in run.tags[names.FINDINGS].splitlines()]
    if names.STOPPED_EARLY in run.tags:
        blocks.append(Paragraph(f"Stopped early {text.one_line(run.tags[names.STOPPED_EARLY])}.", "note"))
    overlap = run.tags.get(names.TEST_OVERLAP)
    if overlap == "unknown":
        said = (
            "Whether it was trained on some of the test pictures is not known; if so, the test score is too optimistic."
        )
        blocks.append(Paragraph(said, "warning"))
    elif overlap and overlap != "0":
        blocks.append(
            Paragraph(f"{overlap} test pictures were trained on, so the test score is too optimistic.", "warning")
        )
    return blocks


def _data(data: list[Data]) -> list[Block]:
    if not data:
        return []
    columns = [
        Column("split", False, [d.context for d in data]),
        Column("data", False, [text.one_line(d.name) for d in data]),
        Column("pictures", True, [text.count(d.num_images) for d in data], [d.num_images for d in data]),
        Column("classes", True, [text.count(d.num_classes) for d in data], [d.num_classes for d in data]),
        Column("content digest", False, [(Code(d.digest),) for d in data]),
        Column("from", False, [(Code(d.source),) if d.source else text.MISSING for d in data]),
    ]
    return [Heading("Data"), Table(tuple(columns))]


def _settings(run: Run) -> list[Block]:
    known = [key for key in names.PARAMS if key in run.params]
    idle = [key for key in known if not _has_effect(key, run)]
    keys = [*(k for k in known if k not in idle), *sorted(set(run.params) - set(known))]
    if not keys:
        return []
    values = [text.one_line(text.number(run.params[k], 6)) for k in keys]
    meaning = [names.PARAMS[k].help if k in names.PARAMS else "" for k in keys]
    columns = (
        Column("setting", False, [(Code(k),) for k in keys]),
        Column("value", False, values),
        Column("meaning", False, [m if len(m) < 90 else m[:88].rstrip() + "…" for m in meaning]),
    )
    blocks: list[Block] = [Heading("Settings"), Table(columns)]
    if idle:
        blocks.append(Paragraph(f"Without effect with these settings: {text.join(idle)}.", "note"))
    return blocks


def _has_effect(key: str, run: Run) -> bool:
    """Whether a setting has an effect with the run's others: momentum has none with adam."""
    used_with = names.PARAMS[key].used_with
    return used_with is None or used_with[0] not in run.params or run.params[used_with[0]] in used_with[1]


def _of_one_epoch(run: Run, store: HasUri) -> tuple[Run, int | None]:
    """The run with the train and validation scores of one epoch, and which: the kept checkpoint's, else the last one.

    What was logged once stays; what has other epochs' values alone is missing.
    """
    keys = [key for split in ("train", "validation") for key in _scores_of(split) if key in run.metrics]
    points = histories(store, [run.run_id], keys).dropna(subset="value")
    best = run.metric(names.BEST_EPOCH)
    steps = points.loc[points["metric"].duplicated(keep=False) & points["metric"].str.endswith("_accuracy"), "step"]
    if steps.empty:
        return run, None
    epoch = int(steps.max() if best is None else best)
    values = dict(run.metrics)
    for key, own in points.groupby("metric"):
        if len(own) > 1:
            there = own.loc[own["step"] == epoch, "value"]
            values[str(key)] = float(there.iloc[0]) if len(there) else np.nan
    return replace(run, metrics=values), epoch


def _scores_of(split: str) -> tuple[str, ...]:
    return names.accuracy(split), names.loss(split), names.top_k_accuracy(split, 5)


def _scores(run: Run, epoch: int | None, data: list[Data]) -> list[Block]:
    splits = [s for s in names.SPLITS if f"{s}_accuracy" in run.metrics or f"{s}_loss" in run.metrics]
    if not splits:
        return [*other_scores.blocks(run), *_foreign(run, 2)]
    sizes = {d.context: d.num_images for d in data}
    top5 = [score_text(run, names.top_k_accuracy(s, 5)) for s in splits]
    losses = [run.metric(f"{s}_loss") for s in splits]
    logged = [(s, run.metric(names.num_images(s))) for s in splits]
    images = [sizes.get(s) if count is None else count for s, count in logged]
    accuracy = [score_text(run, _accuracy_key(run, s)) for s in splits]
    columns = [Column("split", False, splits), Column("accuracy (95 % interval)", True, accuracy)]
    for title, name in (("balanced accuracy", names.balanced_accuracy), ("macro-F1", names.macro_f1)):
        values = [run.metric(name(s)) for s in splits]
        if any(v is not None for v in values):
            columns.append(Column(title, True, [text.percent(v) for v in values], values))
    if any(v is not None for v in losses):
        columns.append(Column("loss", True, text.numbers(losses), losses))
    if any(t != text.MISSING for t in top5):
        columns.append(Column("top-5", True, top5))
    if any(i is not None for i in images):
        columns.append(Column("pictures", True, [text.count(i) for i in images], images))
    best = run.metric(names.BEST_EPOCH)
    kept = "" if best is None else f" The kept checkpoint is that of epoch {text.number(best)}."
    if epoch is not None:
        kept += f" Train and validation are those of {'this' if best == epoch else 'the last'} epoch."
    said = "Train: running accuracy over the epoch's batches. Intervals are Wilson's for the number of pictures."
    note = None if run.tags.get(names.LAUNCHER) == "import" else Paragraph(said + kept, "note")
    return [
        Heading("Scores"),
        Table(tuple(columns)),
        *([note] if note else []),
        *_commonest(run),
        *other_scores.blocks(run),
        *_foreign(run, 3),
    ]


def _commonest(run: Run) -> list[Block]:
    """A test score that is no better than knowing which class is the commonest."""
    accuracy, commonest = run.metric(names.TEST_ACCURACY), run.metric(names.majority_accuracy("test"))
    if accuracy is None or commonest is None:
        return []
    share = f"right in {text.percent(commonest)} of the test pictures"
    if accuracy > commonest + 1e-9:
        return [Paragraph(f"Always answering the commonest class is {share}.", "note")]
    said = f"The test accuracy is not better than that of always answering the commonest class, which is {share}."
    return [Paragraph(said, "warning")]


def _foreign(run: Run, level: int) -> list[Block]:
    """The metrics that are not in the vocabulary, such as another tool's."""
    other = [m for m in foreign_metrics([run]) if m not in other_scores.metrics(run)]
    if not other:
        return []
    values = [run.metrics[m] for m in other]
    said = [text.number(v) for v in values]
    return [Heading("Other metrics", level), Table((Column("metric", False, other), Column("last value", True, said)))]


def _accuracy_key(run: Run, split: str) -> str:
    best = names.BEST_VALIDATION_ACCURACY
    kept = split == "validation" and best in run.metrics and run.metric(names.VALIDATION_ACCURACY) is None
    return best if kept else f"{split}_accuracy"


def _by_class(store: HasUri, run: Run, test: Predictions) -> list[Block]:
    size = 1 + int(max(test.label.max(), test.predicted.max()))
    classes = class_names(store, run.run_id, run.artifact_uri, size)
    counts = confusion(test, max(size, len(classes)) if len(classes) <= 60 else size)
    blocks: list[Block] = [Heading("By class"), table(counts, classes)]
    if len(counts) <= 60:
        blocks.append(
            figures.confusion("confusion", counts.tolist(), classes[: len(counts)], "Test pictures by class.")
        )
    return blocks


def _calibration(test: Predictions) -> list[Block]:
    if not np.isfinite(test.probability).all():
        return []
    bins, error = stats.calibration(test.probability, test.hits)
    sure, right = float(test.probability.mean()), float(test.hits.mean())
    low, high = (float(end) for end in stats.wilson(right, len(test.hits)))
    word = "calibrated, as far as this number of pictures can show"
    if not low <= sure <= high:
        word = "overconfident" if sure > right else "underconfident"
    said = (
        f"Mean confidence {text.percent(sure)}, accuracy {text.percent(right)}: {word}."
        f" Expected calibration error (ECE) {text.percent(error)}."
    )
    return [Heading("Calibration"), Paragraph(said), figures.reliability("calibration", bins, error)]


def _effort(run: Run) -> list[Block]:
    rows = [
        (names.ALL[("metric", k)].title, metrics.value_text(k, run.metric(k)))
        for k in _EFFORT
        if run.metric(k) is not None
    ]
    places = [(names.ALL[("tag", k)].title, text.one_line(run.tags[k])) for k in _PLACE if k in run.tags]
    if not rows and not places:
        return []
    table = Table(
        (Column("", False, [r[0] for r in (*rows, *places)]), Column("value", True, [r[1] for r in (*rows, *places)]))
    )
    return [Heading("What it took"), table]


def _as_data(run: Run, data: list[Data], test: Predictions | None) -> dict[str, Any]:
    from reports.document.json_text import FORMAT, plain

    accuracy, images = run.metric(names.TEST_ACCURACY), run.metric(names.num_images("test"))
    low, high = stats.wilson(np.nan if accuracy is None else accuracy, np.nan if images is None else images)
    return {
        "format": FORMAT,
        "run_id": run.run_id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "params": plain(run.params),
        "metrics": plain(run.metrics),
        "test_accuracy_low": plain(low),
        "test_accuracy_high": plain(high),
        "calibration_error": None if test is None else plain(stats.calibration(test.probability, test.hits)[1]),
        "data": [
            {"context": d.context, "name": d.name, "digest": d.digest, "num_images": d.num_images, "source": d.source}
            for d in data
        ],
        "other_data": other_scores.as_data(run),
        "impossible": [{"metric": m, "value": plain(v)} for m, v in run.impossible],
    }


def confusion(predicted: Predictions, num_classes: int) -> NDArray[np.int64]:
    """``(K, K)`` counts: rows are labels, columns what was predicted."""
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (predicted.label, predicted.predicted), 1)
    return counts


def table(counts: NDArray[np.int64], classes: list[str]) -> Table:
    """One row a class: pictures, recall with Wilson's interval, precision, the class it is most often mistaken for."""
    right, labelled, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall, precision = right / labelled, right / predicted
    low, high = stats.wilson(recall, labelled)
    names = [text.one_line(c) for c in classes[: len(counts)]]
    return Table(
        (
            Column("class", False, names),
            Column("pictures", True, [text.count(n) for n in labelled], labelled.tolist()),
            Column("recall", True, [text.percent(r) for r in recall], recall.tolist()),
            Column("95 % interval", True, [text.interval(a, b) for a, b in zip(low, high, strict=True)], low.tolist()),
            Column("precision", True, [text.percent(p) for p in precision], precision.tolist()),
            Column("most often mistaken for", False, [_confused(row, i, names) for i, row in enumerate(counts)]),
        )
    )


def _confused(row: Any, own: int, names: list[str]) -> str:
    """``3 (5)``: the class it is most often mistaken for, and how often."""
    others = [(int(n), j) for j, n in enumerate(row) if j != own and n]
    if not others:
        return text.MISSING
    most, j = max(others, key=lambda o: (o[0], -o[1]))
    return f"{names[j]} ({most})"
