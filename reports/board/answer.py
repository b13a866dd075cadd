"""The answer in one sentence: what leads, by how much, whether by more than chance, and the time and cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from reports import metrics
from reports.board import columns as cells
from reports.board.board import Page
from reports.board.runs import BoardQuery, column
from reports.claims.verdict import Judgement
from reports.document import text
from reports.document.document import Column, Paragraph, Span, Strong, Table
from tracking import names

# Two means closer than this are equal: their difference is rounding.
EQUAL = 1e-9


def sentence(page: Page, ask: BoardQuery) -> tuple[Span, ...]:
    """The answer for one page: whether its first row leads or is level with others, and the score."""
    table = page.table
    ranked = table.loc[table["rank"].notna()]
    what, on = _what(ask), f" on {page.name}" if page.dataset else ""
    if ranked.empty:
        said = f"No configuration{on} has {_a(what, ask)} yet: nothing is ranked."
        best = table.iloc[0]
        if text.is_missing(best["validation"]):
            return (said,)
        shown = text.percent(best["validation"], cells.decimals(table, ask))
        return f"{said} In the order of validation accuracy ", Strong(str(best["label"])), f" is first ({shown})."
    places = cells.decimals(table, ask)
    first = ranked.iloc[0]
    score = Strong(metrics.value_text(ask.metric, first[ask.metric], places))
    if len(ranked) == 1:
        alone = "the only one" if len(table) == 1 else f"the only one of {len(table)}"
        return (
            Strong(str(first["label"])),
            f" is {alone} with {_a(what, ask)}{on}: ",
            score,
            f"{_basis(first, ask, places)}. {_took(first)}",
        )
    judged = page.claims.judgement
    assert judged is not None
    of = f"{what}{_basis(first, ask, places)}"
    label = Strong(str(first["label"]))
    if judged.winner:
        ahead = _lead(first, ranked.iloc[1], ask, places)
        return label, f" leads{on} with ", score, f" {of}, {ahead}. {_took(first)}"
    others = [j for j in range(1, judged.size) if not judged.apart[0, j]] or [1]
    second = ranked.iloc[others[0]]
    other = str(second["label"])
    same = judged.difference[0, others[0]] < EQUAL
    if judged.networks[0, others[0]]:
        scored = f" and {other} have the same score{on}: " if same else f" scored best{on}: "
        ahead = "" if same else f", {_lead(first, second, ask, places)}"
        return label, scored, score, f" {of}{ahead}. {_of_weights(judged, others[0], first, second)}. {_took(first)}"
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    why = "the same score" if same else "which chance could explain"
    if judged.p_value[0, others[0]] != judged.p_value[0, others[0]]:
        why = "and whether they differ cannot be tested"
    against = metrics.value_text(ask.metric, second[ask.metric], places)
    return (
        label,
        f" is level with {other}{more}{on}: ",
        score,
        f" against {against} {of}, {why}. {_took(first)}",
    )


def _what(ask: BoardQuery) -> str:
    known = names.ALL.get(("metric", ask.metric))
    return f"{known.title} accuracy" if known is not None and "accuracy" in ask.metric else ask.metric


def _a(what: str, ask: BoardQuery) -> str:
    """``a test accuracy``; a bare name has no article of its own: ``the metric eval_accuracy``."""
    return f"the metric {what}" if what == ask.metric else f"a {what}"


def _basis(row: pd.Series[Any], ask: BoardQuery, places: int) -> str:
    """`` (95 % interval 95.7–98.9 %, one seed, 360 pictures)``; without seeds that differ, it counts runs."""
    parts = []
    if not text.is_missing(row["low"]):
        parts.append(f"95 % interval {metrics.interval_text(row['low'], row['high'], ask.metric, places)}")
    what, n = "seed" if row["seeded"] else "run", int(row[f"{ask.metric}_n"])
    parts.append(f"one {what}" if n == 1 else f"mean of {n} {what}s")
    images = row[names.num_images(ask.split)]
    if not text.is_missing(images):
        parts.append(f"{text.count(images)} pictures")
    return f" ({', '.join(parts)})"


def _lead(first: pd.Series[Any], second: pd.Series[Any], ask: BoardQuery, places: int) -> str:
    """``2.6 points ahead of 34 layers (93.9 %)``."""
    other = f"{second['label']} ({metrics.value_text(ask.metric, second[ask.metric], places)})"
    ahead = abs(float(first[ask.metric]) - float(second[ask.metric]))
    if ahead < EQUAL:
        return f"as {other}"
    if not metrics.is_share(ask.metric):
        return f"{text.number(ahead, 2)} {'above' if metrics.higher_is_better(ask.metric) else 'below'} {other}"
    return f"{_amount(ahead, places)} ahead of {other}"


def _amount(share: float, places: int) -> str:
    """``2.6 points``, ``1.0 point``, ``less than a tenth of a point``: a difference of shares without its sign."""
    points = text.points(abs(share), places).lstrip("+")
    if float(points) == 0:
        return f"less than {'a tenth of a point' if places == 1 else '0.01 points'}"
    return f"{points} {'point' if float(points) == 1 else 'points'}"


def _of_weights(judged: Judgement, other: int, first: pd.Series[Any], second: pd.Series[Any]) -> str:
    """What a single seed allows to say."""
    two = "two " if len(first["run_ids"]) == len(second["run_ids"]) == 1 else ""
    one = "one seed" if first["seeded"] else "one run"
    if judged.p_value[0, other] != judged.p_value[0, other]:
        return f"Whether that is more than chance cannot be tested: {one} and no predictions of both"
    better = "the first is better" if judged.apart[0, other] else "neither is shown to be better"
    return f"Of these {two}networks {better}; {one} cannot tell a better setting from luck"


def notes(page: Page, ask: BoardQuery) -> list[Paragraph]:
    """How the answer was found, in small print: the test, what these data can show, what choosing by test does."""
    ranked = page.table.loc[page.table["rank"].notna()]
    judged = page.claims.judgement
    said = [*_tested(page, ranked, judged, ask)] if judged is not None else []
    said += _chosen(page, ranked, ask)
    return [Paragraph(" ".join(said), "note")] if said else []


def _tested(page: Page, ranked: pd.DataFrame, judged: Judgement, ask: BoardQuery) -> Iterator[str]:
    low, high, p = judged.low[0, 1], judged.high[0, 1], judged.p_value[0, 1]
    if p != p:
        return
    places, claims = cells.decimals(page.table, ask), page.claims
    unit = " points" if metrics.is_share(ask.metric) else ""
    what = "seeds" if ranked.iloc[:2]["seeded"].all() else "runs"
    over = "pictures" if judged.networks[0, 1] else f"{what} and pictures"
    if claims.by_pictures < claims.tested:
        alike = ranked.iloc[:2][f"{ask.metric}_spread"].max() < EQUAL  # the seeds say nothing
        over = "pictures, no mistake taken as shared" if judged.networks[0, 1] or alike else what
    between = f"{_written(low, ask, places)} to {_written(high, ask, places)}{unit}"
    yield f"First minus second: {between} over {over}, {text.p_value(p)}."
    if claims.clusters:
        yield f"The pictures count as {text.plural(claims.clusters, 'source')}."
    if claims.tested > 2:
        every = "all" if len(ranked) == claims.tested else f"the first {claims.tested} of {len(ranked)}"
        alike = int((judged.tiers == 1).sum())
        yield (
            "Only the first is in tier 1."
            if alike == 1
            else f"Tier 1 is {alike} rows, none of them told apart from the first."
        )
        yield f"Tiers and ranks hold for {every} together (Holm)."
    if not judged.winner and not judged.networks[0].any() and judged.smallest == judged.smallest:
        smallest = _written(judged.smallest, ask, places).lstrip("+")
        if np.isinf(judged.smallest) or metrics.is_share(ask.metric) and judged.smallest > 0.5:
            yield f"So few {what} cannot be relied on to show a lead of any size; more are needed."
        else:
            yield f"The smallest lead these data would show is {smallest}{unit} (four times in five)."
    if claims.unused:
        runs = text.plural(claims.unused, "run")
        yield f"The predictions of {runs} were not used: unreadable, of other pictures, or not the logged score."


def _chosen(page: Page, ranked: pd.DataFrame, ask: BoardQuery) -> Iterator[str]:
    """What validation chooses, and what choosing by the shown score does to it."""
    if len(ranked) < 2 or ask.split != "test":
        return
    places = cells.decimals(page.table, ask)
    if ask.metric == names.TEST_ACCURACY and ranked["validation"].notna().any():
        row = ranked.iloc[int(np.nanargmax(ranked["validation"].to_numpy(dtype=np.float64)))]
        which = "the same" if row.name == ranked.index[0] else str(row["label"])
        score = "" if which == "the same" else f" (test {metrics.value_text(ask.metric, row[ask.metric], places)})"
        yield f"Validation chooses {which}{score}."
    by = page.claims.flattery
    if by == by:
        scored = int(column(page.runs, f"metrics.{ask.metric}").notna().sum())
        much = _amount(by, places) if metrics.is_share(ask.metric) else f"{by:.4g}"
        yield (
            f"The first is the best of {len(ranked)} by this very score ({text.plural(scored, 'run')} scored on these"
            f" pictures), which flatters it by {'' if much.startswith('less') else 'about '}{much}."
        )


def _written(value: float, ask: BoardQuery, places: int) -> str:
    return text.points(value, places) if metrics.is_share(ask.metric) else f"{value:+.4g}"


def _took(row: pd.Series[Any]) -> str:
    """``Each run took 52 s and cost 0.42 USD.``"""
    subject = "It" if len(row["run_ids"]) == 1 else "Each run"
    time, cost = row["time_s"], row[names.COST_USD]
    if text.is_missing(time) and text.is_missing(cost):
        return "Its time and cost were not recorded."
    if text.is_missing(cost):
        return f"{subject} took {text.duration(time)}; no cost was recorded."
    if text.is_missing(time):
        return f"{subject} cost {text.money(cost)}."
    return f"{subject} took {text.duration(time)} and cost {text.money(cost)}."


SCRATCH, TRANSFER = "scratch", "transfer"


def depth_by_start(page: Page, ask: BoardQuery) -> tuple[Table, Paragraph] | None:
    """The best ranked configuration of each depth and start; None where neither varies."""
    table = page.table
    if "layers" not in table.columns or "init" not in table.columns:
        return None
    in_numbers = pd.to_numeric(table["layers"], errors="coerce").notna()  # another tool's may be a word
    ranked = table.loc[table["rank"].notna() & in_numbers & table["init"].notna()]
    start = ranked["init"].map(lambda init: SCRATCH if str(init).lower() == SCRATCH else TRANSFER)
    depths = sorted({int(d) for d in ranked["layers"]})
    starts = [s for s in (SCRATCH, TRANSFER) if (start == s).any()]
    if len(depths) < 2 and len(starts) < 2:
        return None
    places = cells.decimals(table, ask)
    best: dict[tuple[int, str], pd.Series[Any]] = {}
    said: dict[tuple[int, str], str] = {}
    for depth in depths:
        for one in starts:
            here = ranked.loc[(ranked["layers"] == depth) & (start == one)]
            said[depth, one] = text.MISSING
            if len(here):
                row = best[depth, one] = here.iloc[0]
                said[depth, one] = metrics.value_text(ask.metric, row[ask.metric], places)
                if not text.is_missing(row["low"]):
                    said[depth, one] += f" ({metrics.interval_text(row['low'], row['high'], ask.metric, places)})"
    columns = [Column("layers", True, [str(d) for d in depths], depths)]
    for one in starts:
        values = [best[d, one][ask.metric] if (d, one) in best else None for d in depths]
        columns.append(Column(_start_title(ranked, start, one), True, [said[d, one] for d in depths], values))
    scores = {place: float(row[ask.metric]) for place, row in best.items()}
    order = {row: at for at, row in enumerate(table.index[table["rank"].notna()])}
    at = {place: order[row.name] for place, row in best.items()}

    def change(a: tuple[int, str], b: tuple[int, str], several: bool) -> str:
        return _change(page, ask, places, scores[a] - scores[b], at[a], at[b], several)

    return Table(tuple(columns)), Paragraph(_words(scores, change, depths, starts, ask), "note")


def _change(page: Page, ask: BoardQuery, places: int, change: float, a: int, b: int, several: bool) -> str:
    """``adds 2.6 points (−1.2 to +6.3: level)``: from row ``b`` to row ``a`` of the ranked; a plural's verb."""
    ending = "" if several else "s"
    if not metrics.is_share(ask.metric) or not metrics.higher_is_better(ask.metric):
        said = f"change{ending} the score by {_written(change, ask, places)}"
        said += " points" if metrics.is_share(ask.metric) else ""
    elif float(text.points(change, places).replace("−", "-")) == 0:
        said = f"change{ending} nothing"
    else:
        said = f"{'add' if change > 0 else 'cost'}{ending} {_amount(change, places)}"
    judged = page.claims.judgement
    if judged is None or max(a, b) >= judged.size or judged.p_value[a, b] != judged.p_value[a, b]:
        return f"{said} (untested)"
    sign = 1 if metrics.higher_is_better(ask.metric) else -1
    low, high = sorted((sign * judged.low[a, b], sign * judged.high[a, b]))
    told = judged.apart[a, b] or judged.apart[b, a]
    between = f"{_written(low, ask, places)} to {_written(high, ask, places)}"
    return f"{said} ({between}{'' if told else ': level'})"


def _start_title(ranked: pd.DataFrame, start: pd.Series[Any], one: str) -> str:
    """``transfer: imagenet`` where every transfer has the same source."""
    kinds = sorted({text.one_line(i) for i in ranked.loc[start == one, "init"]})
    if one == SCRATCH or len(kinds) != 1:
        return one
    return kinds[0] if kinds[0].startswith(TRANSFER) else f"{one}: {kinds[0]}"


def _words(
    scores: dict[tuple[int, str], float],
    change: Callable[[tuple[int, str], tuple[int, str], bool], str],
    depths: list[int],
    starts: list[str],
    ask: BoardQuery,
) -> str:
    """What can be concluded from the table, and what cannot."""
    head = "Each cell is the best configuration of its kind. "
    sign = 1 if metrics.higher_is_better(ask.metric) else -1
    parts = []
    if len(starts) == 2:
        both = [d for d in depths if all((d, s) in scores for s in starts)]
        parts += [f"at {d} layers transfer {change((d, TRANSFER), (d, SCRATCH), False)}" for d in both]
    for one in starts:
        there = [d for d in depths if (d, one) in scores]
        steps: list[str] = []
        for low, high in zip(there, there[1:], strict=False):
            by = change((high, one), (low, one), True)
            steps.append(f"{high} {'' if steps else 'layers '}instead of {low} {by}")
        if steps:
            parts.append(f"{'from scratch' if one == SCRATCH else 'with transfer'}, {text.join(steps)}")
    if parts:
        joined = " ".join(f"{said[0].upper()}{said[1:]}." for said in parts)
        level = " Level: not told apart where all pairs of the page are tested together." if ": level" in joined else ""
        return f"{head}{joined}{'' if sign > 0 else ' Lower is better.'}{level}"
    if len(starts) == 2 and len(depths) > 1:
        return (
            f"{head}No depth was trained both ways, so the effects of depth and start cannot be separated: a difference"
            " may come from either."
        )
    return head.strip()
