"""The runs of a leaderboard: the frame of the store, with the columns that have to be derived.

Out: one row a run, the frame's columns plus ``dataset``, ``digest`` (of the split the metric was computed on), ``init``
(in words), ``seed``, ``time_s`` and ``config`` (the group key over seeds). A parameter that cannot be read as the
vocabulary's type is there as the text that was logged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.errors import ReportError
from reports.metrics import higher_is_better, in_percent, is_accuracy, judged, nearest, split_of
from reports.store import moved_away
from tracking import names
from tracking.frame import histories, load
from tracking.frame.query import HasUri, suits
from tracking.store import connection

# ``split_seed`` and its like make other data, not another training of the same.
_SEEDS = frozenset(
    "seed random_seed random_state data_seed seed_everything manual_seed rng_seed global_seed np_seed numpy_seed"
    " torch_seed torch_manual_seed pytorch_seed tf_seed python_seed seed_value train_seed training_seed model_seed"
    " init_seed base_seed main_seed exp_seed run_seed randomseed randomstate manualseed globalseed seedvalue".split()
)
SETTING_COLUMNS = tuple(f"params.{key}" for key in names.PARAMS)
PARENT = "mlflow.parentRunId"
# Optuna's MLflow callback says by it which way its study looks for the best: MINIMIZE or MAXIMIZE.
STUDY_DIRECTION = "direction"
# How other tools call the number of examples that a score is of.
_COUNTS = {"validation": ("eval_samples", "val_samples"), "test": ("predict_samples", "test_samples", "example_count")}
_TAGS = (
    names.FINGERPRINT,
    names.JOURNAL_ID,
    names.INIT_LABEL,
    names.PRETEXT,
    names.STATUS_REASON,
    names.ERROR_TYPE,
    names.LAUNCHER,
    names.TEST_OVERLAP,
    names.TEST_NEAR_OVERLAP,
    names.MODEL_URI,
    names.INSTANCE_TYPE,
    names.FAILURE_KIND,
    names.ADVICE,
    names.REPLAY_PROBLEMS,
    names.FLAGGED,
    names.STUDY,
    names.REPORT,
    PARENT,
    STUDY_DIRECTION,
)


@dataclass(frozen=True, kw_only=True)
class BoardQuery:
    """What a leaderboard is asked for.

    ``metric`` ranks. ``by`` are the settings that make a row (empty: the whole configuration). ``columns`` are extra
    parameters, metrics or tags to show. ``best`` names the metric at whose best epoch the curves' values are taken,
    ``at_step`` an epoch; without either the last value counts. ``top`` rows are shown a page (0: all). ``better`` is
    which way the metric is better, ``higher`` or ``lower``; empty: what is known, or guessed by its name.
    ``cluster`` names the source of a picture by its key: pictures of one source count as one draw.
    """

    experiments: tuple[str, ...] | None = None
    filter: str = ""
    metric: str = names.TEST_ACCURACY
    by: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    best: str = ""
    at_step: int | None = None
    top: int = 100
    better: str = ""
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.best and self.at_step is not None:
            raise ReportError(f"best {self.best!r} and step {self.at_step}: choose one of the two")

    @property
    def split(self) -> str:
        """The split whose digest decides what compares: the metric's own, or the test split."""
        return split_of(self.metric) or "test"


METRICS = (
    names.TRAIN_ACCURACY,
    names.VALIDATION_ACCURACY,
    names.BEST_VALIDATION_ACCURACY,
    names.TEST_ACCURACY,
    *(score(split) for split in ("validation", "test") for score in names.BY_CLASS),
    names.num_images("train"),
    names.num_images("validation"),
    names.num_images("test"),
    names.TRAINING_TIME_S,
    names.TOTAL_TIME_S,
    names.IMAGES_PER_S,
    names.BILLABLE_TIME_S,
    names.COST_USD,
    names.NUM_PARAMETERS,
    names.MODEL_SIZE_BYTES,
)


def read(store: HasUri, ask: BoardQuery) -> pd.DataFrame:
    """The runs asked for. Raises ReportError when there are none, or none has a metric that is asked for."""
    named = [c for word in (*ask.by, *ask.columns) for c in _candidates(word)]
    columns = [
        *SETTING_COLUMNS,
        *(f"metrics.{m}" for m in dict.fromkeys((*METRICS, ask.metric, *([ask.best] if ask.best else [])))),
        *(f"metrics.{count}" for count in _COUNTS.get(ask.split, ())),
        *(f"tags.{t}" for t in (*_TAGS, f"{ask.split}_dataset_digest")),
        f"datasets.{ask.split}",
        *named,
    ]
    # A database gives only what is asked for; MLflow's API sends everything, so it is asked once.
    is_database = suits(store.tracking_uri)
    runs = as_written(load(store, ask.experiments, ask.filter, columns if is_database else [*columns, "params.*"]))
    if runs.empty:
        where = f" in {', '.join(ask.experiments)}" if ask.experiments else ""
        narrowed = f" that match {ask.filter!r}" if ask.filter else ""
        uri = connection.public(store.tracking_uri)
        raise ReportError(f"no runs{where}{narrowed} in {uri}; train one: python -m trainers.run")
    fingerprint = column(runs, f"tags.{names.FINGERPRINT}")
    attrs = dict(runs.attrs)
    if (fingerprint.isna() & (runs["status"] == "FINISHED")).any():
        # Runs of another tool: all parameters but the seed make the configuration.
        if is_database:
            runs = as_written(load(store, ask.experiments, ask.filter, [*columns, "params.*"]))
            fingerprint = column(runs, f"tags.{names.FINGERPRINT}")
            attrs = dict(runs.attrs)
    elif not is_database and "params.*" not in columns:
        runs = runs.drop(columns=[c for c in runs.columns if c.startswith("params.") and c not in columns])
    if ask.best or ask.at_step is not None:
        runs = _at_step(store, runs, ask)
        attrs = dict(runs.attrs)
    attrs["percent"] = as_shares(runs, store, filtered=bool(ask.filter), narrowed=bool(ask.experiments))
    if ask.metric != names.TEST_ACCURACY:
        _demand_metric(store, ask, runs, ask.metric)
    _count_examples(runs, ask)
    runs["seed"] = _seeds(runs)
    runs["init"] = _init(runs)
    runs["dataset"] = column(runs, "params.dataset")
    digest = column(runs, f"tags.{ask.split}_dataset_digest")
    runs["digest"] = digest.where(digest.notna(), column(runs, f"datasets.{ask.split}"))
    runs["time_s"] = _time(runs)
    settings = fingerprint.where(fingerprint.notna(), _params_key(runs, fingerprint.isna()))
    configs = [f"{experiment}/{key}" for experiment, key in zip(runs["experiment"], settings, strict=True)]
    runs["config"] = pd.Series(configs, index=runs.index, dtype=object)
    runs.attrs = {**attrs, "moved": _Shared(moved_away(store, runs["artifact_uri"].dropna()))}
    return runs


def is_seed(param: str) -> bool:
    """Whether a parameter is a seed by its name or the last part of it: ``clf__random_state``, ``data/seed``."""
    return re.split(r"__|[./:]", param)[-1].lower().replace("-", "_") in _SEEDS


class _Shared(list[Any]):
    """A list that is one and the same in every copy: pandas copies a frame's attributes with each column taken."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def as_written(runs: pd.DataFrame) -> pd.DataFrame:
    """The frame with the text of every parameter that could not be read: it is still a setting."""
    texts: dict[str, dict[str, str]] = {}
    runs.attrs["unreadable"] = _Shared(runs.attrs.get("unreadable", []))
    runs.attrs["nan"] = _Shared(runs.attrs.get("nan", []))
    for run_id, name, said in runs.attrs["unreadable"]:
        texts.setdefault(name, {})[run_id] = said
    for name, said_of in texts.items():
        said = pd.Series([said_of.get(run) for run in runs["run_id"]], index=runs.index, dtype=object)
        runs[name] = said.where(said.notna(), runs[name].astype(object))
    return runs


def as_shares(
    runs: pd.DataFrame, store: HasUri, *, filtered: bool, narrowed: bool
) -> list[tuple[str, str, float, float]]:
    """Turn the accuracies that other tools logged in percent into shares, as the vocabulary has them.

    That is decided for a metric of an experiment as a whole, and where that tells nothing, of the store: beside 62.1
    and 70.9 a 1.0 is 1 %. What is neither (105) is left: it is impossible, or taken out where the vocabulary does not
    know the metric. ``filtered``: the frame has not all runs of its experiments; ``narrowed``: not all experiments of
    the store. Returns run, metric, and the value as logged and as read (NaN: taken out).
    """
    foreign = column(runs, f"tags.{names.FINGERPRINT}").isna() & column(runs, f"tags.{names.JOURNAL_ID}").isna()
    asked = [c for c in runs.columns if c.startswith("metrics.") and is_accuracy(c[8:])]
    logged = runs.loc[foreign]
    asked = [c for c in asked if (pd.to_numeric(logged[c]) > 0).any()]
    if not asked:
        return []
    marks = [f"tags.{tag}" for tag in (names.FINGERPRINT, names.JOURNAL_ID)]
    told = (in_percent(pd.to_numeric(its[c])) is not None for _, its in logged.groupby("experiment") for c in asked)
    # The store is read once more only where these runs alone don't tell.
    every = load(store, None, "", [*asked, *marks]) if filtered or (narrowed and not all(told)) else runs.copy()
    own = column(every, f"tags.{names.FINGERPRINT}").notna() | column(every, f"tags.{names.JOURNAL_ID}").notna()
    every = every.loc[~own]
    found = []
    for name in asked:
        known = ("metric", name[8:]) in names.ALL
        numbers = pd.to_numeric(runs[name]).astype("float64")
        there = pd.to_numeric(column(every, name)).astype("float64")
        whole = in_percent(there)
        for experiment in logged["experiment"].unique():
            here = in_percent(there[every["experiment"] == experiment])
            if not (whole if here is None else here):
                continue
            its = foreign & (runs["experiment"] == experiment) & numbers.notna() & (numbers != 0)
            possible = numbers.between(0, 100)
            read = (numbers / 100).where(possible, numbers) if known else numbers.where(possible)
            changed = its & (read != numbers)
            rows = zip(runs.loc[changed, "run_id"], numbers[changed], read[changed], strict=True)
            found += [(str(run), name[8:], float(a), float(b)) for run, a, b in rows]
            runs[name] = numbers = numbers.where(~changed, read)
    return _Shared(found)


def _seeds(runs: pd.DataFrame) -> pd.Series[Any]:
    """A whole number; of several kinds of seed all of them, as text; None where a run has none."""
    columns = [runs[c] for c in runs.columns if c.startswith("params.") and is_seed(c[7:])]
    found = [[seed for seed in map(_seed, row) if seed is not None] for row in zip(*columns, strict=True)]
    seeds = [row[0] if len(row) == 1 else " / ".join(map(str, row)) or None for row in found]
    return pd.Series(seeds if columns else [None] * len(runs), index=runs.index, dtype=object)


def _seed(value: Any) -> int | None:
    """A seed as a number; None for text that is not a number."""
    try:
        return None if pd.isna(value) else int(names.parse(names.PARAMS["seed"], str(value)))
    except (ValueError, OverflowError):
        return None


def _demand_metric(store: HasUri, ask: BoardQuery, runs: pd.DataFrame, metric: str, use: str = "") -> None:
    if f"metrics.{metric}" in runs.columns:
        return
    logged = load(store, ask.experiments, ask.filter, ["metrics.*"]).columns
    known = nearest(metric, [c[8:] for c in logged if c.startswith("metrics.")])
    more = f" and {len(known) - 30} more" if len(known) > 30 else ""
    there = f"there are: {', '.join(known[:30])}{more}" if known else "these runs logged no metrics"
    raise ReportError(f"no run has a metric {metric!r}{use}; {there}")


def _count_examples(runs: pd.DataFrame, ask: BoardQuery) -> None:
    """The number of examples that another tool logged, where there is no count of pictures."""
    own = f"metrics.{names.num_images(ask.split)}"
    for count in _COUNTS.get(ask.split, ()):
        if f"metrics.{count}" in runs.columns:
            numbers = pd.to_numeric(column(runs, own)).astype("float64")
            runs[own] = numbers.where(numbers.notna(), runs[f"metrics.{count}"])


def _at_step(store: HasUri, runs: pd.DataFrame, ask: BoardQuery) -> pd.DataFrame:
    if ask.best:
        _demand_metric(store, ask, runs, ask.best, " to take the best of")
    curves = [names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY, ask.metric]
    best = judged(ask.best, column(runs, f"metrics.{ask.best}"), ask.better if ask.best == ask.metric else "")
    changed = at_step(store, runs, curves, best=best, step=ask.at_step)
    # The score of the kept checkpoint is no longer what the column shows.
    best_validation = f"metrics.{names.BEST_VALIDATION_ACCURACY}"
    return changed.drop(columns=[best_validation]) if best_validation in changed.columns else changed


def column(runs: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column of the frame, or one of missing values where no run has it."""
    if name in runs.columns:
        return runs[name]
    return pd.Series(np.full(len(runs), None, dtype=object), index=runs.index)


def resolve_name(runs: pd.DataFrame, word: str) -> str:
    """The frame's column for a word of the user's: ``init``, ``num_layers``, ``tags.study`` … Raises ReportError."""
    for candidate in ("init",) if word == "init" else _candidates(word):
        if candidate in runs.columns:
            return candidate
    known = sorted({c.partition(".")[2] for c in runs.columns if c.startswith(("params.", "metrics.", "tags."))})
    raise ReportError(f"no run has a parameter, metric or tag {word!r}; there are: {', '.join(known)}")


def _candidates(word: str) -> tuple[str, ...]:
    if word.startswith(("params.", "metrics.", "tags.", "datasets.")):
        return (word,)
    return (f"params.{word}", f"metrics.{word}", f"tags.{word}")


def _init(runs: pd.DataFrame) -> pd.Series[Any]:
    """Where the weights came from, in words: the tag, the parameter, or the built-in's own flag."""
    pretrained = {"1": "imagenet", "0": "scratch"}

    def words(label: Any, init: Any, flag: Any) -> str | None:
        if isinstance(label, str):
            return label
        if isinstance(init, str):
            return f"run {init[4:12]}" if init.startswith("run:") else init
        return None if pd.isna(flag) else pretrained.get(str(flag))

    rows = zip(
        column(runs, f"tags.{names.INIT_LABEL}"),
        column(runs, "params.init"),
        column(runs, "params.use_pretrained_model"),
        strict=True,
    )
    return pd.Series([words(*row) for row in rows], index=runs.index, dtype=object)


def _time(runs: pd.DataFrame) -> pd.Series[Any]:
    """Seconds: the logged total, else training alone, else from start to end."""
    seconds = (runs["end_time"] - runs["start_time"]).dt.total_seconds()
    # A run from notes without times begins and ends at once.
    seconds = seconds.where(seconds > 0)
    for name in (names.TRAINING_TIME_S, names.TOTAL_TIME_S):
        logged = pd.to_numeric(column(runs, f"metrics.{name}"))
        seconds = logged.where(logged.notna(), seconds)
    return seconds.astype("float64")


def _params_key(runs: pd.DataFrame, which: pd.Series[Any]) -> pd.Series[Any]:
    """A hash of every parameter but the seed, for the runs that carry no fingerprint.

    A run without settings is a configuration of its own: its id is the key.
    """
    if not which.any():
        return column(runs, "")
    chosen = runs.loc[which]
    params = [c for c in chosen.columns if c.startswith("params.") and not is_seed(c[7:])]
    cells = [_key_cells(c, chosen[c]) for c in params]
    keys = ["".join(row) for row in zip(*cells, strict=True)] if cells else [""] * len(chosen)
    digests = {key: "p" + hashlib.sha256(key.encode(errors="replace")).hexdigest()[:15] for key in set(keys)}
    known = [digests[key] if key else run for key, run in zip(keys, chosen["run_id"], strict=True)]
    return pd.Series(known, index=chosen.index, dtype=object).reindex(runs.index)


def _key_cells(name: str, values: pd.Series[Any]) -> list[str]:
    texts: dict[Any, str] = {}
    return [
        "" if missing else texts.setdefault(value, f"{name}={value!s}\x00")
        for value, missing in zip(values, values.isna(), strict=True)
    ]


def split_words(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """``"a,b"`` or ``["a", "b"]`` -> ``("a", "b")``."""
    if text is None:
        return ()
    parts: Iterable[str] = text.split(",") if isinstance(text, str) else text
    return tuple(word.strip() for word in parts if word.strip())


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
