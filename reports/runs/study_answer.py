"""A study's answer: which configuration is best, what each factor does, what matters, and what a search saved."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import stats
from reports.board.runs import as_written, column
from reports.charts import figures, searches
from reports.document import Document, text
from reports.document.document import Bullets, Code, Column, Heading, Paragraph, Strong, Table
from reports.document.report import Report
from reports.errors import ReportError
from reports.runs import study_effects as model
from reports.store import UNREADABLE, open_store
from tracking import names
from tracking.frame import load
from tracking.frame.query import HasUri
from tracking.store.artifacts import fetch

_METRICS = (
    names.BEST_VALIDATION_ACCURACY,
    names.TEST_ACCURACY,
    names.accuracy(names.FOLD),
    names.COST_USD,
    names.TOTAL_TIME_S,
    names.num_images("validation"),
    names.num_images("test"),
    names.num_images(names.FOLD),
)
# What differs between runs without being a choice of the study's.
_NOT_FACTORS = {
    "seed",
    "fold",
    "num_threads",
    "num_classes",
    "num_training_samples",
    "use_pretrained_model",
    "kv_store",
}


@dataclass(frozen=True, kw_only=True)
class _Study:
    """The study's scored runs: ``settings`` (the factors, a row a run), ``score`` and ``cost`` (n,).

    ``too_dear`` (n,): the run's trial cost more than ``max_cost_usd`` allows, so it is not the answer.
    """

    name: str
    question: str
    runs: pd.DataFrame
    settings: pd.DataFrame
    metric: str
    score: NDArray[np.float64]
    cost: NDArray[np.float64]
    too_dear: NDArray[np.bool_]
    unit: str
    trials: list[dict[str, Any]] = field(default_factory=list)

    @property
    def factors(self) -> list[str]:
        """The settings that differ, as columns."""
        return [str(key) for key in self.settings.columns]

    @property
    def groups(self) -> pd.DataFrame:
        """A row a configuration: mean, spread and number of its runs, its mean cost; best first, too dear ones last."""
        keys: list[Any] = [self.settings[key].astype(str).to_numpy() for key in self.factors]
        keys = keys or [np.zeros(len(self.score), dtype=np.int64)]
        table = pd.DataFrame({"score": self.score, "cost": self.cost, "dear": self.too_dear}, index=self.settings.index)
        out = table.groupby(keys, sort=False).agg(
            score=("score", "mean"),
            spread=("score", "std"),
            n=("score", "size"),
            cost=("cost", "mean"),
            dear=("dear", "any"),
        )
        first = table.groupby(keys, sort=False).apply(lambda rows: rows.index[0])
        out["first"] = first.to_numpy()
        return out.sort_values(["dear", "score"], ascending=[True, False], kind="stable").reset_index(drop=True)

    def words(self, row: Any) -> str:
        """The factors of one run."""
        said = [f"{key.partition('.')[2]} {model.word(self.settings.at[row, key])}" for key in self.factors]
        return ", ".join(word for word in said if not word.endswith(" ")) or "the one configuration"


def study(name: str, store: HasUri | str | None = None, *, trials: Sequence[Mapping[str, Any]] | None = None) -> Report:
    """What a study says about its question, by its name: a ranking, effects, importance, cost, what a search saved.

    ``trials`` are those of a search; by default they are read from the study's own run. Raises ReportError.
    """
    opened = open_store(store)
    known = _read(name, opened, trials)
    return Report(lambda drawn: _document(known, drawn), lambda: _data(known))


def _read(name: str, store: HasUri, trials: Sequence[Mapping[str, Any]] | None) -> _Study:
    columns = ["params.*", *(f"metrics.{key}" for key in _METRICS), f"tags.{names.REPORT}", f"tags.{names.QUESTION}"]
    columns += [f"tags.{key}" for key in (names.PRETEXT, names.INIT_LABEL, names.STUDY, names.STUDY_RUN)]
    said = name.replace("'", "")
    runs = as_written(
        load(store, None, f"tags.{names.STUDY} = '{said}'", columns, order_by="start_time", descending=False)
    )
    if runs.empty:
        raise ReportError(f"no study {name!r} in this store: a study's name is its file's without .toml")
    parent = column(runs, f"tags.{names.REPORT}").notna()
    question = next(iter(column(runs, f"tags.{names.QUESTION}").dropna()), name)
    if trials is None:
        trials = _stored_trials(store, runs.loc[parent])
    scored = runs.loc[~parent & (runs["status"] == "FINISHED") & column(runs, f"tags.{names.PRETEXT}").isna()]
    test, best = (_number(scored, f"metrics.{key}") for key in (names.TEST_ACCURACY, names.BEST_VALIDATION_ACCURACY))
    fold = _number(scored, f"metrics.{names.accuracy(names.FOLD)}")
    metric, score = names.BEST_VALIDATION_ACCURACY, best
    if len(scored) and not trials and np.isfinite(test).all():
        metric, score = names.TEST_ACCURACY, test
    elif len(scored) and np.isfinite(fold).all():
        metric, score = names.accuracy(names.FOLD), fold
    usable = np.isfinite(score)
    scored, score = scored.loc[usable].reset_index(drop=True), score[usable]
    if scored.empty:
        raise ReportError(f"study {name!r} has no finished run with a score yet")
    money, seconds = (_number(scored, f"metrics.{key}") for key in (names.COST_USD, names.TOTAL_TIME_S))
    by_run = {key: one for one in trials or () for key in one.get("runs") or () if one.get("cost_usd") is not None}
    of_trial = [by_run.get(str(key), {}) for key in column(scored, f"tags.{names.STUDY_RUN}")]
    # Runs on this machine cost what their trial's seconds cost by usd_per_hour.
    shares = [float(one["cost_usd"]) / len(one["runs"]) if one else np.nan for one in of_trial]
    money = np.where(np.isfinite(money), money, np.asarray(shares, dtype="float64"))
    too_dear = [bool(one) and float(one["cost_usd"]) > float(one.get("max_cost_usd", np.inf)) for one in of_trial]
    unit = "USD" if np.isfinite(money).all() else "s"
    return _Study(
        name=name,
        question=str(question),
        runs=scored,
        settings=_factors(scored),
        metric=metric,
        score=score,
        cost=money if unit == "USD" else seconds,
        too_dear=np.asarray(too_dear, dtype=np.bool_),
        unit=unit,
        trials=[dict(one) for one in trials or ()],
    )


def _stored_trials(store: HasUri, parents: pd.DataFrame) -> list[dict[str, Any]]:
    for uri in parents["artifact_uri"] if "artifact_uri" in parents else ():
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = fetch(store.tracking_uri, uri, names.STUDY_TRIALS, Path(folder))
                found = [] if path is None else json.loads(path.read_text(encoding="utf-8"))
            except UNREADABLE:
                continue
            if isinstance(found, list):
                return [one for one in found if isinstance(one, dict)]
    return []


def _number(runs: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return pd.to_numeric(column(runs, name), errors="coerce").to_numpy(dtype="float64", na_value=np.nan)


def _factors(runs: pd.DataFrame) -> pd.DataFrame:
    """The settings that differ between the study's runs, most general first; of those that go together the first."""
    known = [f"params.{key}" for key in names.PARAMS if f"params.{key}" in runs and key not in _NOT_FACTORS]
    out: dict[str, pd.Series[Any]] = {}
    codes: list[tuple[int, ...]] = []
    for key in sorted(known, key=lambda key: key not in ("params.num_layers", "params.init")):
        values = runs[key].astype(object)
        if key == "params.init" and f"tags.{names.INIT_LABEL}" in runs:
            labels = runs[f"tags.{names.INIT_LABEL}"].astype(object)
            values = labels.where(labels.notna(), values)
        values = pd.Series(["" if text.is_missing(v) else v for v in values], index=runs.index, dtype=object)
        code = tuple(pd.factorize(values)[0].tolist())
        if len(set(code)) > 1 and code not in codes:
            codes.append(code)
            out[key] = values
    return pd.DataFrame(out, index=runs.index)


def _document(known: _Study, drawn: bool) -> Document:
    paper = Document(f"Study {known.name}")
    groups = known.groups
    first = groups.iloc[0]
    title = known.metric.replace("_", " ")
    low, high = _interval(known, first)
    paper.add(Paragraph(known.question))
    better = f" ({text.interval(low, high)})" if np.isfinite(low) else ""
    paper.add(
        Paragraph(
            (Strong(known.words(first["first"])), f": {text.percent(first['score'])} {title}{better}, the best of"
             f" {len(groups)} configurations in {len(known.score)} runs."),
            "answer",
        )
    )  # fmt: skip
    if dear := int(groups["dear"].sum()):
        limit = text.money(next(float(one["max_cost_usd"]) for one in known.trials if "max_cost_usd" in one))
        said = f"{text.count(dear)} of them cost more than the {limit} that a trial may cost; they are listed last."
        paper.add(
            Paragraph(said if dear < len(groups) else f"All cost more than the {limit} that a trial may cost.", "note")
        )
    if known.metric != names.TEST_ACCURACY:
        run_id = str(known.runs.at[first["first"], "run_id"])
        paper.add(
            Paragraph(
                (
                    "Chosen on validation pictures, so its own score is a little too good. Its test: ",
                    Code(f"python -m trainers.evaluate {run_id[:8]}"),
                ),
                "note",
            )
        )
    paper.add(Heading("Configurations"), _ranking(known, groups))
    paper.add(*_effect_blocks(known), *_importance_blocks(known), *_cost_blocks(known, groups, drawn))
    paper.add(*_search_blocks(known))
    if drawn and len(known.score) > 1:
        paper.add(Heading("All runs"))
        if len(known.settings.columns):
            axes = [_axis(key, known.settings[key]) for key in known.factors]
            paper.add(searches.parallel_coordinates("coordinates", axes, known.score.tolist(), title))
        paper.add(_history(known, title))
    return paper


def _interval(known: _Study, row: Any) -> tuple[float, float]:
    """Of a configuration's mean: over its seeds where it has three or more, else over the pictures of its one run."""
    if row["n"] >= 3:
        low, high = stats.t_interval(row["score"], row["spread"], row["n"])
    else:
        split = {names.TEST_ACCURACY: "test", names.accuracy(names.FOLD): names.FOLD}.get(known.metric, "validation")
        images = _number(known.runs.loc[[row["first"]]], f"metrics.{names.num_images(split)}")[0]
        low, high = stats.wilson(row["score"], images)
    low, high = np.clip((float(low), float(high)), 0.0, 1.0)  # and unknown stays unknown
    return float(low), float(high)


def _ranking(known: _Study, groups: pd.DataFrame) -> Table:
    shown = groups.head(20)
    ranges = [_interval(known, row) for _, row in shown.iterrows()]
    cost = text.money if known.unit == "USD" else text.duration
    return Table(
        (
            Column("configuration", False, [known.words(row) for row in shown["first"]]),
            Column(
                known.metric.replace("_", " "), True, [text.percent(v) for v in shown["score"]], list(shown["score"])
            ),
            Column("95 %", False, [text.interval(low, high) for low, high in ranges]),
            Column("runs", True, [text.count(v) for v in shown["n"]]),
            Column("cost" if known.unit == "USD" else "time", True, [cost(v) for v in shown["cost"]]),
        ),
        more=len(groups) - len(shown),
    )


def _effect_blocks(known: _Study) -> list[Any]:
    if not len(known.settings.columns) or len(known.score) < 3:
        return []
    found = [one for one in model.effects(known.settings, known.score) if np.isfinite(one.mean)]
    pair = ("params.num_layers", "params.init")
    both: list[model.Effect] = []
    if all(key in known.settings for key in pair):
        both = model.interaction(known.settings, known.score, pair)
    blocks: list[Any] = [Heading("What each factor does"), _effect_table(found)]
    note = "By least squares over the runs, the other factors held; seeds repeat a configuration."
    if any(not np.isfinite(one.low) for one in found):
        note += " No interval where every configuration ran once and the factors use up all runs: give more seeds."
    blocks.append(Paragraph(note, "note"))
    if all(key in known.settings for key in pair):
        blocks.append(Heading("Depth and start together", 3))
        if both:
            clear = [one for one in both if one.low > 0 or one.high < 0]
            said = (
                "The effect of the start depends on the depth."
                if clear
                else (
                    "No interaction shown: the start does about the same at every depth, as far as these runs can tell."
                )
            )
            blocks += [Paragraph(said), _effect_table(both)]
        else:
            blocks.append(Paragraph("Not every start was tried with every depth, so this cannot be said.", "note"))
    return blocks


def _effect_table(found: Sequence[model.Effect]) -> Table:
    return Table(
        (
            Column("factor", False, [one.factor for one in found]),
            Column("from, to", False, [one.change for one in found]),
            Column("effect in points", True, [text.points(one.mean) for one in found], [one.mean for one in found]),
            Column(
                "95 %",
                False,
                [f"{text.points(e.low)} to {text.points(e.high)}" if np.isfinite(e.low) else "" for e in found],
            ),
        )
    )


def _importance_blocks(known: _Study) -> list[Any]:
    if len(known.settings.columns) < 2:
        return []
    found = model.importance(known.settings, known.score)
    if not found:
        return []
    names_, shares = list(found), list(found.values())
    return [
        Heading("What matters most"),
        Table(
            (
                Column("factor", False, names_),
                Column("importance", True, [text.percent(one) for one in shares], shares),
            )
        ),
        Paragraph("PED-ANOVA by Optuna: how much a factor decides whether a run is among the best.", "note"),
    ]


def _cost_blocks(known: _Study, groups: pd.DataFrame, drawn: bool) -> list[Any]:
    rows = groups.loc[np.isfinite(groups["cost"])]
    if len(rows) < 2:
        return []
    front, best = [], -np.inf
    for _, row in rows.sort_values(["cost", "score"], ascending=[True, False]).iterrows():
        if row["score"] > best:
            best = row["score"]
            front.append(row)
    say = text.money if known.unit == "USD" else text.duration
    items = tuple(
        f"for {say(row['cost'])} or more: {known.words(row['first'])}, {text.percent(row['score'])}" for row in front
    )
    title = "The best for how much money" if known.unit == "USD" else "The best for how much time"
    blocks: list[Any] = [Heading(title), Bullets(items)]
    if drawn:
        cheap = {int(row["first"]) for row in front}
        points = [
            figures.Point(
                label=known.words(row["first"]),
                cost=float(row["cost"]),
                score=float(row["score"]),
                low=_interval(known, row)[0],
                high=_interval(known, row)[1],
                front=int(row["first"]) in cheap,
            )
            for _, row in rows.iterrows()
        ]
        what = "cost" if known.unit == "USD" else "time"
        blocks.append(
            figures.cost_against_score("cost", points, f"{what} of a run", known.unit, known.metric.replace("_", " "))
        )
    return blocks


def _search_blocks(known: _Study) -> list[Any]:
    """What stopping early saved, and how often it was wrong, from the hopeless ones that were let run on."""
    saved = savings(known.trials)
    if saved is None:
        return []
    part = (
        f", {text.percent(saved['saved_s'] / saved['whole_s'])} of what all trials would have taken"
        if saved["whole_s"]
        else ""
    )
    items = [
        f"{saved['pruned']} of {saved['trials']} trials were stopped early, which saved about"
        f" {text.duration(saved['saved_s'])}{part}"
        + (f", {text.money(saved['saved_usd'])} less." if saved["saved_usd"] else ".")
    ]
    tried = saved["let_run"]
    if tried:
        low, high = stats.wilson(saved["wrong"] / tried, tried)
        items.append(
            f"{tried} hopeless {'one was' if tried == 1 else 'ones were'} let run on all the same:"
            f" {saved['wrong']} ended above every trial that was not, so stopping was wrong in"
            f" {text.percent(saved['wrong'] / tried, 0)} (95 %: {text.interval(low, high, 0)})."
        )
    elif saved["pruned"]:
        items.append("No hopeless one was let run on, so how often stopping was wrong is not known.")
    return [Heading("What the search saved"), Bullets(tuple(items))]


def savings(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of a search: how many ``trials`` were ``pruned``, ``saved_s`` (of ``whole_s``) and ``saved_usd`` by that; of the
    ``let_run`` ones, how many were ``wrong``ly hopeless: better in the end than all others.

    None where nothing was stopped or let run.
    """
    pruned = [one for one in trials if one.get("state") == "pruned"]
    let_run = [one for one in trials if one.get("hopeless_at") is not None and one.get("state") == "complete"]
    if not pruned and not let_run:
        return None
    saved = usd = 0.0
    for one in pruned:
        done, steps = len(one.get("reported") or {}), int(one.get("steps") or 0)
        if done and steps > done:
            saved += float(one.get("time_s") or 0.0) / done * (steps - done)
            usd += float(one.get("cost_usd") or 0.0) / done * (steps - done)
    others = [_value(one) for one in trials if one.get("state") == "complete" and one.get("hopeless_at") is None]
    best = max((value for value in others if value is not None), default=None)
    wrong = [one for one in let_run if best is None or (_value(one) or 0.0) > best]
    spent = sum(float(one.get("time_s") or 0.0) for one in trials)
    return {
        "trials": len(trials),
        "pruned": len(pruned),
        "saved_s": saved,
        "saved_usd": usd,
        "whole_s": spent + saved,
        "let_run": len(let_run),
        "wrong": len(wrong),
    }


def _value(trial: Mapping[str, Any]) -> float | None:
    value = (trial.get("values") or {}).get(names.VALIDATION_ACCURACY)
    return None if value is None else float(value)


def _history(known: _Study, title: str) -> Any:
    if not known.trials:
        return searches.history("history", known.score.tolist(), [], title)
    score = [np.nan if (value := _value(one)) is None else value for one in known.trials]
    stopped = [
        (number, float(list(one["reported"].values())[-1]))
        for number, one in enumerate(known.trials, start=1)
        if one.get("state") == "pruned" and one.get("reported")
    ]
    return searches.history("history", score, stopped, names.VALIDATION_ACCURACY.replace("_", " "))


def _axis(key: str, values: pd.Series[Any]) -> searches.Axis:
    if model.is_slope(values):
        numbers = pd.to_numeric(values).to_numpy(dtype="float64")
        log = model.on_log(numbers)
        scaled = np.log(numbers) if log else numbers
        low, high = scaled.min(), scaled.max()
        ends = [(place, low + place * (high - low)) for place in (0.0, 0.5, 1.0)]
        ticks = [(place, text.number(float(np.exp(value)) if log else value, 2)) for place, value in ends]
        return searches.Axis(key.partition(".")[2], ((scaled - low) / (high - low)).tolist(), ticks)
    levels = sorted(values.unique(), key=lambda one: (isinstance(one, str), one))
    place = {one: number / max(len(levels) - 1, 1) for number, one in enumerate(levels)}
    ticks = [(place[one], model.word(one) or "none") for one in levels]
    return searches.Axis(key.partition(".")[2], [place[one] for one in values], ticks)


def _known(value: float) -> float | None:
    """A number for JSON, which has none for what is not known."""
    return float(value) if np.isfinite(value) else None


def _data(known: _Study) -> dict[str, Any]:
    groups = known.groups
    return {
        "study": known.name,
        "question": known.question,
        "metric": known.metric,
        "configurations": [
            {
                "settings": {key.partition(".")[2]: known.settings.at[row["first"], key] for key in known.factors},
                "run_id": str(known.runs.at[row["first"], "run_id"]),
                "score": float(row["score"]),
                "interval": [_known(end) for end in _interval(known, row)],
                "runs": int(row["n"]),
                "cost": _known(row["cost"]),
            }
            for _, row in groups.iterrows()
        ],
        "effects": [
            {key: _known(value) if isinstance(value, float) else value for key, value in vars(one).items()}
            for one in model.effects(known.settings, known.score)
        ]
        if len(known.settings.columns) and len(known.score) > 2
        else [],
        "importance": model.importance(known.settings, known.score) if len(known.settings.columns) > 1 else None,
        "search": savings(known.trials),
    }
