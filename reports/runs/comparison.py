"""Runs side by side: what was set differently, how they score, and whether one is better on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from reports import metrics, stats
from reports.board import columns as cells
from reports.charts import curves, figures
from reports.claims.verdict import LEVEL, Pair, judge_pair
from reports.document import Document, text
from reports.document.document import Code, Column, Figure, Heading, Paragraph, Strong, Table, Text, joined
from reports.document.report import Report
from reports.errors import ReportError
from reports.runs.disagreement import disagreements
from reports.runs.lookup import Run, find, missing_artifacts
from reports.store import predictions
from tracking import names
from tracking.frame.query import HasUri
from tracking.store import connection
from tracking.store.predictions import Predictions, common

_METRICS = (
    *(names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY, names.BEST_VALIDATION_ACCURACY, names.TEST_ACCURACY),
    *(names.TEST_LOSS, names.top_k_accuracy("test", 5), names.num_images("test"), names.BEST_EPOCH),
    *(names.TRAINING_TIME_S, names.TOTAL_TIME_S, names.IMAGES_PER_S, names.BILLABLE_TIME_S, names.COST_USD),
    *(names.NUM_PARAMETERS, names.MODEL_SIZE_BYTES),
)


def compare(run_ids: Sequence[str], store: HasUri | str | None = None) -> Report:
    """Compare two runs or more by id or the beginning of it. Raises ReportError for fewer, or an unknown one."""
    if len(run_ids) < 2:
        raise ReportError(f"compare needs two runs or more, {len(run_ids)} given")
    opened, runs = find(list(run_ids), store)
    if len({run.run_id for run in runs}) < len(runs):
        raise ReportError("compare was given the same run twice")
    predicted = [predictions(opened.tracking_uri, run.artifact_uri) for run in runs]
    pairs = _verdicts(runs, predicted)
    calls = display_names(runs)
    paper = Document(f"{len(runs)} runs compared")
    paper.add(Paragraph(_answer(runs, calls, pairs), "answer"), _warning(runs))
    paper.add(*missing_artifacts(runs, opened))
    paper.add(Heading("Settings"), *_settings(runs, calls, opened))
    paper.add(*_scores(runs, calls), Heading("On the same pictures"), *_tests(calls, pairs, predicted))
    drawn = curves.curves_for(opened, [(call, (run.run_id,)) for call, run in zip(calls, runs, strict=True)])
    if drawn:
        paper.add(Heading("Learning curves"), figures.learning_curves("curves", drawn, caption=""))
    for (i, j), _ in pairs.items():
        a, b = predicted[i], predicted[j]
        if len(runs) == 2 and a is not None and b is not None:
            paper.add(*disagreements(runs, calls, a, b, opened))
    return Report(lambda _: paper, lambda: _data(runs, pairs))


def display_names(runs: Sequence[Run]) -> list[str]:
    """What to call each run: its name, with its id where two have the same."""
    said = [run.label for run in runs]
    return [s if said.count(s) == 1 else f"{s} ({text.short(r.run_id)})" for s, r in zip(said, runs, strict=True)]


_SCORES_LEGEND = "The 95 % interval of an accuracy is Wilson's for its number of pictures."


def _verdicts(
    runs: Sequence[Run], predicted: Sequence[Predictions | None]
) -> dict[tuple[int, int], tuple[Pair, float] | None]:
    """Each pair's verdict and its p value after Holm's correction over all pairs; None without common pictures."""
    found: dict[tuple[int, int], Pair | None] = {}
    for i, j in combinations(range(len(runs)), 2):
        a, b = predicted[i], predicted[j]
        found[i, j] = judge_pair(a, b) if a is not None and b is not None else None
    adjusted = stats.holm([np.nan if v is None else v.p_value for v in found.values()])
    return {
        pair: None if verdict is None else (verdict, float(p))
        for (pair, verdict), p in zip(found.items(), adjusted, strict=True)
    }


def _answer(runs: Sequence[Run], calls: Sequence[str], pairs: dict[tuple[int, int], Any]) -> Text:
    scored = [(i, run.metric(names.TEST_ACCURACY)) for i, run in enumerate(runs)]
    known = sorted(((s, i) for i, s in scored if s is not None), key=lambda k: (-k[0], k[1]))
    if len(known) < 2:
        lacking = [i for i, score in scored if score is None]
        have = "has" if len(lacking) == 1 else "have"
        said = f"{text.join([calls[i] for i in lacking])} {have} no test accuracy, so which run is better is unknown."
        fill = [(Code(f"python -m trainers.evaluate {runs[i].run_id}"),) for i in lacking if runs[i].is_ours]
        return (said, " To compute it: ", *joined(fill), ".") if fill else said
    (best, i), (next_best, j) = known[0], known[1]
    pair = pairs[min(i, j), max(i, j)]
    if best == next_best:
        head: Text = (Strong(calls[i]), " and ", Strong(calls[j]), f" have equal scores: {text.percent(best)}")
    else:
        ahead = text.points(best - next_best).lstrip("+")
        head = (
            Strong(calls[i]),
            " scores best with ",
            Strong(text.percent(best)),
            f" test accuracy, {ahead} {'point' if ahead == '1.0' else 'points'} above {calls[j]}"
            f" ({text.percent(next_best)})",
        )
    if pair is None:
        tail = "; without predictions of both on the same pictures, whether that is chance is unknown."
    else:
        verdict, p = pair
        corrected = f", {text.p_value(p)} after Holm's correction for {len(pairs)} pairs" if len(pairs) > 1 else ""
        said = "significant" if p < LEVEL else "not significant"
        tail = (
            f"; between these networks the difference is {said} ({_from(verdict, i > j)}{corrected})."
            " Of their settings one run each says nothing: luck of the seed may be all."
        )
    return (*head, tail)


def _from(verdict: Pair, turned: bool) -> str:
    """``exact McNemar test on the same 360 pictures: 9 that only the first gets right, 5 only …``: the better first."""
    first, second = verdict.only_first, verdict.only_second
    first, second = (second, first) if turned else (first, second)
    return (
        f"exact McNemar test on the same {text.plural(verdict.num_images, 'picture')}: {first} that only the first"
        f" gets right, {second} only the second, {text.p_value(verdict.p_value)}"
    )


def _warning(runs: Sequence[Run]) -> Paragraph | None:
    digests = {run.tags[names.TEST_DATASET_DIGEST] for run in runs if names.TEST_DATASET_DIGEST in run.tags}
    if len(digests) < 2:
        return None
    return Paragraph(
        f"These runs were tested on {len(digests)} different sets of pictures. Their scores are not comparable;"
        " only pictures in both sets are compared below.",
        "warning",
    )


def _settings(runs: Sequence[Run], calls: Sequence[str], store: HasUri) -> list[Table | Paragraph]:
    """The runs, and every setting in which they differ."""
    uri = connection.public(store.tracking_uri)
    rows: list[tuple[str, list[Text]]] = [
        ("run", [(cells.run_text(run.run_id, run.experiment_id, uri),) for run in runs]),
        ("status", [run.status for run in runs]),
    ]
    keys = [*names.PARAMS, *sorted({k for run in runs for k in run.params} - set(names.PARAMS))]
    for key in keys:
        values = [run.params.get(key) for run in runs]
        if any(v != values[0] for v in values):
            rows.append((key, [text.MISSING if v is None else text.one_line(text.number(v, 6)) for v in values]))
    for tag, title in (
        (names.INIT_LABEL, "initial weights"),
        (names.TRAIN_DATASET_DIGEST, "training data"),
        (names.TEST_DATASET_DIGEST, "test data"),
        (names.LAUNCHER, "where"),
    ):
        said = [run.tags.get(tag) for run in runs]
        if any(v != said[0] for v in said) and said != [run.params.get("init") for run in runs]:
            rows.append((title, [text.MISSING if v is None else text.one_line(v) for v in said]))
    same = sum(1 for k in keys if k in runs[0].params) - sum(1 for k, _ in rows if k in runs[0].params)
    table = Table((Column("", False, [k for k, _ in rows]), *_by_run(calls, [v for _, v in rows], False)))
    return [table, Paragraph(f"{text.plural(same, 'other setting')} {'is' if same == 1 else 'are'} the same.", "note")]


def _by_run(calls: Sequence[str], rows: Sequence[Sequence[Text]], right: bool) -> list[Column]:
    return [Column(call, right, [row[i] for row in rows]) for i, call in enumerate(calls)]


def foreign_metrics(runs: Sequence[Run]) -> list[str]:
    """The metrics of these runs that the vocabulary does not know, sorted."""
    return sorted({m for run in runs for m in run.metrics if ("metric", m) not in names.ALL})


def _scores(runs: Sequence[Run], calls: Sequence[str]) -> list[Heading | Table | Paragraph]:
    titles, rows = [], []
    for key in _METRICS:
        if not any(key in run.metrics for run in runs):
            continue
        known = names.ALL[("metric", key)]
        titles.append(f"{known.title} accuracy" if known.title in names.SPLITS else known.title)
        rows.append([score_text(run, key) for run in runs])
    for key in foreign_metrics(runs):
        titles.append(text.one_line(key))
        rows.append(text.numbers([run.metrics.get(key) for run in runs]))
    if not rows:
        return []
    legend = Paragraph(_SCORES_LEGEND, "note") if any("(" in cell for row in rows for cell in row) else None
    table = Table((Column("", False, titles), *_by_run(calls, rows, True)))
    return [Heading("Scores"), table, *([legend] if legend else [])]


def score_text(run: Run, key: str) -> str:
    """A metric's value, an accuracy with its interval; an impossible value is marked."""
    value = run.metric(key)
    if value is None:
        raw = dict(run.impossible).get(key)
        return text.MISSING if raw is None else f"{cells.IMPOSSIBLE} {text.number(raw)}"
    split = key.removeprefix("best_").partition("_")[0]
    images = run.metric(names.num_images(split)) if split in names.SPLITS else None
    if not metrics.is_share(key):
        return metrics.value_text(key, value)
    places = 2 if images is not None and images >= 2000 else 1
    if images is None or split == "train":
        return text.percent(value, places)
    low, high = stats.wilson(value, images)
    return f"{text.percent(value, places)} ({text.interval(float(low), float(high), places)})"


def _tests(
    calls: Sequence[str], pairs: dict[tuple[int, int], Any], predicted: Sequence[Predictions | None]
) -> list[Table | Paragraph | Figure | Heading]:
    judged = {pair: found for pair, found in pairs.items() if found is not None}
    if not judged:
        lacking = [call for call, p in zip(calls, predicted, strict=True) if p is None]
        why = f"{text.join(lacking)} logged no predictions" if lacking else "the runs have no picture in common"
        return [Paragraph(f"No paired test is possible: {why}.")]
    named = [(calls[i], calls[j], *found) for (i, j), found in judged.items()]
    columns = [
        Column("first", False, [a for a, *_ in named]),
        Column("second", False, [b for _, b, *_ in named]),
        Column("pictures", True, [text.count(v.num_images) for *_, v, _ in named]),
        Column("only first right", True, [str(v.only_first) for *_, v, _ in named]),
        Column("only second right", True, [str(v.only_second) for *_, v, _ in named]),
        Column("difference", True, [text.points(v.difference) for *_, v, _ in named]),
        Column(
            "95 % interval",
            True,
            [f"{text.points(v.low)} to {text.points(v.high)}" for *_, v, _ in named],
        ),
        Column("p", True, [text.p_value(v.p_value).removeprefix("p ").removeprefix("= ") for *_, v, _ in named]),
    ]
    legend = "Difference in points, first minus second: interval over the pictures, p by McNemar's exact test"
    if len(named) > 1:
        columns.append(
            Column("p, Holm", True, [text.p_value(p).removeprefix("p ").removeprefix("= ") for *_, p in named])
        )
        legend += f", the last column corrected for {len(named)} pairs"
    blocks: list[Table | Paragraph | Figure | Heading] = [Table(tuple(columns)), Paragraph(f"{legend}.", "note")]
    blocks.append(
        figures.differences(
            "differences",
            [(f"{a} − {b}", v.difference, v.low, v.high) for a, b, v, _ in named],
            "Difference in test accuracy",
        )
    )
    several = [(call, p) for call, p in zip(calls, predicted, strict=True) if p is not None]
    if len(several) > 2:
        blocks += [Heading("Agreement", 3), _agreement(several)]
    return blocks


def _agreement(several: Sequence[tuple[str, Predictions]]) -> Table:
    """The share of pictures on which two runs predict the same, right or wrong."""
    same = common([p for _, p in several])
    calls = [call for call, _ in several]
    columns = [Column("", False, calls)]
    for j, call in enumerate(calls):
        shares = [float((a.predicted == same[j].predicted).mean()) for a in same]
        columns.append(Column(call, True, [text.percent(s) for s in shares], shares))
    return Table(tuple(columns))


def _data(runs: Sequence[Run], pairs: dict[tuple[int, int], Any]) -> dict[str, Any]:
    from reports.document.json_text import FORMAT, plain

    tests = []
    for (i, j), found in pairs.items():
        one: dict[str, Any] = {"first": runs[i].run_id, "second": runs[j].run_id}
        if found is not None:
            verdict, p = found
            one |= {
                "num_images": verdict.num_images,
                "only_first": verdict.only_first,
                "only_second": verdict.only_second,
                "difference": verdict.difference,
                "low": verdict.low,
                "high": verdict.high,
                "p_value": verdict.p_value,
                "p_value_holm": p,
            }
        tests.append(plain(one))
    return {
        "format": FORMAT,
        "runs": [
            {
                "run_id": r.run_id,
                "name": r.name,
                "status": r.status,
                "params": plain(r.params),
                "metrics": plain(r.metrics),
            }
            for r in runs
        ],
        "tests": tests,
    }
