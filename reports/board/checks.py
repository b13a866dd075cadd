"""What looks wrong: impossible values, scores that contradict each other, seeds that are not, runs that never ended.

Each finding is one sentence and the runs it is about; nothing is corrected here.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import metrics
from reports.baselines import Baseline
from reports.board.runs import BoardQuery, column, is_seed
from reports.document import text
from reports.metrics import impossible
from tracking import names

# Training accuracy this far above test accuracy means overfitting.
GAP = 0.10


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong: its text, the runs concerned, and a command with its ``purpose`` where one helps."""

    text: str
    run_ids: tuple[str, ...] = ()
    command: str = ""
    purpose: str = "Fix"


def findings(
    runs: pd.DataFrame,
    finished: pd.DataFrame,
    table: pd.DataFrame,
    ask: BoardQuery,
    baselines: Mapping[str, Baseline | None],
) -> list[Finding]:
    """Everything found, worst first.

    ``runs`` are all, ``finished`` the candidates, ``table`` their configurations, ``baselines`` those of its pages.
    """
    return [
        *_moved(runs),
        *_impossible(runs),
        *_nan(runs),
        *_percents(runs),
        *_scales(finished, ask),
        *_no_better(table, ask, baselines),
        *_flagged(runs),
        *_several_labels(finished),
        *_unreadable(runs),
        *_digests(finished),
        *_pictures(finished),
        *_overlap(finished),
        *_gaps(table),
        *_same_seed(table),
        *_not_only_seed(finished, table, ask),
        *_unrecorded(finished, table, ask),
        *_running(runs),
        *_problems(runs),
    ]


def _moved(runs: pd.DataFrame) -> list[Finding]:
    return [Finding(said, command=command, purpose="Re-point them") for said, command in runs.attrs.get("moved", [])]


def _impossible(runs: pd.DataFrame) -> list[Finding]:
    found = []
    for run_id, metric, value in impossible(runs):
        known = names.ALL.get(("metric", metric))
        legal = ""
        if known is not None and (known.low is not None or known.high is not None):
            low = "" if known.low is None else f"at least {text.number(known.low)}"
            high = "" if known.high is None else f"at most {text.number(known.high)}"
            legal = f", but must be {text.join([w for w in (low, high) if w])}"
        found.append(Finding(f"{metric} is {text.number(value, 6)}{legal}; the value is ignored.", (run_id,)))
    return found


def _nan(runs: pd.DataFrame) -> list[Finding]:
    """Scores that are not a number: as good as none, but there was a run."""
    read = set(runs["run_id"])
    metrics_of: dict[str, list[str]] = {}
    for run, name in runs.attrs.get("nan", []):
        if run in read:
            metrics_of.setdefault(run, []).append(name.partition(".")[2])
    runs_of: dict[tuple[str, ...], list[str]] = {}
    for run, listed in metrics_of.items():
        runs_of.setdefault(tuple(listed), []).append(run)
    return [
        Finding(
            f"{text.join(list(listed))} {'is' if len(listed) == 1 else 'are'} NaN, not a number, as after a training"
            " that diverged; counted as missing.",
            tuple(ids),
        )
        for listed, ids in sorted(runs_of.items())
    ]


def _percents(runs: pd.DataFrame) -> list[Finding]:
    """Accuracies of other tools that were read otherwise than logged, since their column is in percent."""
    read = set(runs["run_id"])
    by_metric: dict[str, list[tuple[str, float, float]]] = {}
    for run, metric, logged, value in runs.attrs.get("percent", []):
        if run in read:
            by_metric.setdefault(metric, []).append((run, logged, value))
    found = []
    for metric, rows in sorted(by_metric.items()):
        out = [(run, logged) for run, logged, value in rows if value != value]
        percents = [run for run, logged, value in rows if value == value]
        odd = [(run, logged) for run, logged, value in rows if value == value and 0 < logged <= 1]
        for run, logged in out:
            said = f"{metric} is {text.number(logged, 6)}, no percentage as the others are; the value is ignored."
            found.append(Finding(said, (run,)))
        for run, logged in odd:
            share = text.percent(logged / 100, 2)
            said = f"{metric} is {text.number(logged, 6)} where the others are in percent: it was read as {share}."
            found.append(Finding(f"{said} If it is a share, log it in percent.", (run,)))
        if percents:
            number = text.plural(len(percents), "run")
            said = f"{metric} was logged in percent by another tool in {number}; it is shown as a share like the rest."
            found.append(Finding(said, tuple(percents)))
    return found


def _scales(finished: pd.DataFrame, ask: BoardQuery) -> list[Finding]:
    """A share that some runs logged in 0..1 and others in percent."""
    values = column(finished, f"metrics.{ask.metric}").astype("float64")
    if ("metric", ask.metric) in names.ALL or not metrics.could_be_share(ask.metric):
        return []
    if not metrics.between(values.dropna(), 0, 100):
        return []
    shares, percent = finished.loc[(values > 0) & (values <= 1)], finished.loc[values > 1]
    if shares.empty or percent.empty:
        return []
    fewer = shares if len(shares) <= len(percent) else percent
    return [
        Finding(
            f"{ask.metric} is between 0 and 1 in {text.plural(len(shares), 'run')} and above 1 in {len(percent)}, as if"
            " some were shares and others percentages: they are ranked as plain numbers, so the ranking is wrong where"
            " the two mix. Log all of them alike, or choose runs of one kind with --filter.",
            tuple(fewer["run_id"]),
        )
    ]


def _no_better(table: pd.DataFrame, ask: BoardQuery, baselines: Mapping[str, Baseline | None]) -> list[Finding]:
    """Networks that know no more than which class is the commonest."""
    accuracy, balanced = names.accuracy(ask.split), names.balanced_accuracy(ask.split)
    if accuracy not in table.columns:
        return []
    found = []
    for _, row in table.iterrows():
        known = baselines.get(row["page"])
        if known is None or known.exceeded_by(row[accuracy]):
            continue
        said = f"{row['label']}: {text.percent(row[accuracy])} accuracy is not better than always answering"
        said += f" {text.one_line(known.commonest) or 'the commonest class'} ({text.percent(known.accuracy)})"
        if not text.is_missing(row.get(balanced)):
            said += f"; its balanced accuracy is {text.percent(row[balanced])}"
        found.append(Finding(f"{said}.", tuple(row["run_ids"])))
    return found


def _flagged(runs: pd.DataFrame) -> list[Finding]:
    """Scores from notes that were corrected when they were read: as written, and as read."""
    flagged = column(runs, f"tags.{names.FLAGGED}")
    return [
        Finding(f"{text.one_line(said)}.", (str(run),))
        for run, said in zip(runs["run_id"], flagged, strict=True)
        if isinstance(said, str)
    ]


def _several_labels(finished: pd.DataFrame) -> list[Finding]:
    """Accuracies that are shares of labels, beside those of pictures."""
    several = tuple(finished.loc[column(finished, "params.multi_label") == 1, "run_id"])
    said = "several labels a picture: accuracies count labels, not pictures, and do not compare with others."
    return [Finding(said, several)] if several else []


def _unreadable(runs: pd.DataFrame) -> list[Finding]:
    runs_of: dict[tuple[str, str], list[str]] = {}
    for run, name, said in runs.attrs.get("unreadable", []):
        runs_of.setdefault((name.partition(".")[2], said), []).append(run)
    return [
        Finding(f"{name} is {said!r}, which is not of its type; it is used as text.", tuple(ids))
        for (name, said), ids in sorted(runs_of.items())
    ]


def _digests(finished: pd.DataFrame) -> list[Finding]:
    """One configuration scored on different pictures."""
    scored = finished.loc[finished["digest"].notna()]
    counts = scored.groupby("config")["digest"].nunique()
    found = []
    for config in sorted(counts.index[counts > 1]):
        here = scored.loc[scored["config"] == config]
        found.append(
            Finding(
                f"one configuration was tested on {here['digest'].nunique()} different sets of pictures, so its runs"
                " are on different pages.",
                tuple(here["run_id"]),
            )
        )
    return found


def _pictures(finished: pd.DataFrame) -> list[Finding]:
    """Equal digests, different numbers of pictures: one of the two is wrong."""
    name = f"metrics.{names.num_images('test')}"
    if name not in finished.columns:
        return []
    found = []
    for digest, here in finished.loc[finished["digest"].notna() & finished[name].notna()].groupby("digest", sort=True):
        counts = sorted({int(v) for v in here[name]})
        if len(counts) > 1:
            said = text.join([text.count(c) for c in counts])
            ids = tuple(here.loc[here[name] != here[name].mode().iloc[0], "run_id"])
            found.append(
                Finding(f"test data {digest} was scored on {said} pictures, although they are the same set.", ids)
            )
    return found


# Per tag with a number of test pictures: what is said of one, of several, and of the score.
_LEAKS = (
    (names.TEST_OVERLAP, ("picture was", "pictures were"), "trained on, so the test score is too optimistic."),
    (
        names.TEST_NEAR_OVERLAP,
        ("picture looks", "pictures look"),
        "like a training picture (resized, mirrored, cropped …), so the test score may flatter.",
    ),
)


def _overlap(finished: pd.DataFrame) -> list[Finding]:
    found = []
    for name, (one, several), rest in _LEAKS:
        tag = column(finished, f"tags.{name}")
        for count, here in finished.loc[tag.notna() & ~tag.isin(["0", "unknown"])].groupby(tag, sort=True):
            said = f"{count} test {one if str(count) == '1' else several} {rest}"
            data = sorted({str(d) for d in here["dataset"].dropna()})
            command = shlex.join(["python", "-m", "trainers.data", "check", data[0]]) if len(data) == 1 else ""
            found.append(Finding(said, tuple(here["run_id"]), command, "To list them"))
    return found


def _gaps(table: pd.DataFrame) -> list[Finding]:
    far = table.loc[table["gap"] > GAP]
    return [
        Finding(
            f"{row['label']}: training accuracy is {text.points(row['gap']).lstrip('+')} points above test accuracy.",
            tuple(row["run_ids"]),
        )
        for _, row in far.iterrows()
    ]


def _same_seed(table: pd.DataFrame) -> list[Finding]:
    """Two runs of one seed: both count towards n where their scores differ; an exact repetition does not."""
    found = []
    columns = (table[c] for c in ("label", "run_ids", "seeds", "repeats"))
    for label, run_ids, seeds, repeats in zip(*columns, strict=True):
        if repeats:
            runs = "1 run repeats" if len(repeats) == 1 else f"{len(repeats)} runs repeat"
            found.append(Finding(f"{label}: {runs} another of the same seed exactly; each seed counts once.", repeats))
        known = [s for s, run in zip(seeds, run_ids, strict=True) if not text.is_missing(s) and run not in repeats]
        twice = sorted({str(s) for s in known if known.count(s) > 1})
        if twice:
            said = text.join(twice)
            noun = "seed" if len(twice) == 1 else "seeds"
            found.append(
                Finding(f"{label}: {noun} {said} was run more than once, so n counts runs, not seeds.", tuple(run_ids))
            )
    return found


def _not_only_seed(finished: pd.DataFrame, table: pd.DataFrame, ask: BoardQuery) -> list[Finding]:
    """Rows whose runs differ in other settings than the seed."""
    several = {run for ids in table.loc[table["n"] > 1, "run_ids"] for run in ids}
    here = finished.loc[finished["run_id"].isin(several)]
    if here.empty:
        return []
    row_of = {run: i for i, ids in enumerate(table["run_ids"]) for run in ids}
    rows = here["run_id"].map(row_of)
    params = [c for c in here.columns if c.startswith("params.") and not is_seed(c[7:])]
    first = (~rows.duplicated()).to_numpy().nonzero()[0]
    place = pd.Series(first, index=rows.to_numpy()[first]).reindex(rows).to_numpy()
    differing: dict[int, list[str]] = {}
    for name in params:
        codes = pd.factorize(here[name])[0]
        for row in sorted(set(rows[codes != codes[place]])):
            differing.setdefault(int(row), []).append(name[7:])
    if ask.by and differing:
        most = sorted({name for listed in differing.values() for name in listed})
        return [Finding(f"grouped by {text.join(ask.by)}, rows mix runs that differ in {text.join(most)} as well.")]
    return [
        Finding(
            f"{table['label'][row]}: its runs differ in {text.join(listed)}, not only in the seed.",
            table["run_ids"][row],
        )
        for row, listed in sorted(differing.items())
    ]


def _unrecorded(finished: pd.DataFrame, table: pd.DataFrame, ask: BoardQuery) -> list[Finding]:
    """Ranked scores without a digest: whether they are of the same pictures is unknown."""
    scored = finished.loc[finished["digest"].isna() & column(finished, f"metrics.{ask.metric}").notna()]
    ranked = {run for ids in table.loc[table["rank"].notna(), "run_ids"] for run in ids}
    loose = tuple(run for run in scored["run_id"] if run in ranked)
    if not loose or not metrics.is_share(ask.metric):
        return []
    return [
        Finding(
            f"the {ask.split} pictures were not recorded, so it is unknown whether these scores are comparable.", loose
        )
    ]


def _running(runs: pd.DataFrame) -> list[Finding]:
    going = runs.loc[runs["status"].isin(["RUNNING", "SCHEDULED"])]
    launchers = column(going, f"tags.{names.LAUNCHER}")
    found = []
    for run, status, start, launcher in zip(
        going["run_id"], going["status"], going["start_time"], launchers, strict=True
    ):
        command, purpose = "", ""
        if launcher == "local":
            command, purpose = "python -m tracking repair", "If its program has ended, close it with"
        elif isinstance(launcher, str) and launcher.startswith("sagemaker"):
            command, purpose = "python -m trainers.jobs watch", "To follow its job"
        found.append(Finding(f"still {status}, started {_minute(start)}; not ranked.", (run,), command, purpose))
    return found


def _minute(moment: Any) -> str:
    return "at an unknown time" if text.is_missing(moment) else f"{moment:%Y-%m-%d %H:%M} UTC"


def _problems(runs: pd.DataFrame) -> list[Finding]:
    problems = column(runs, f"tags.{names.REPLAY_PROBLEMS}")
    here: Any = runs.loc[problems.notna(), "run_id"]
    return [
        Finding(f"not everything reached MLflow: {text.one_line(said)}", (run,))
        for run, said in zip(here, problems[problems.notna()], strict=True)
    ]
