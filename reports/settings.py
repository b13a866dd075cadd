"""Which settings tell the configurations of one page apart, and the names made of them.

The most telling come first: those that separate many configurations and go with the score. A name holds what differs on
its page and nothing else: up to ``MOST_IN_NAMES`` settings in every row, a rare one only where it departs from the
common value, and whatever else two rows of the same name differ in. So equal names mean equal settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.document import text
from tracking import names

HEAD = {"params.num_layers": "layers", "init": "init", "params.epochs": "epochs"}
MOST_IN_NAMES = 4
_DERIVED = {"params.init", "params.use_pretrained_model", "params.dataset", "params.num_threads"}
_DECIDED = {"params.image_shape", "params.num_classes", "params.num_training_samples", "params.resize"}
# Other tools' settings that change no result: where things are written, how much is printed, how many processes.
_IDLE = re.compile(
    r"(output|logging|log|save|checkpoint|cache)_dir|(run|experiment|project)_(name|id)|(logging|save|eval)_steps"
    r"|verbose|verbosity|log_level|report_to|disable_tqdm|local_rank|n_jobs|(num|n)_workers|hub_(token|model_id)"
)
# A value this common in a page is not said in its rows' names.
_COMMON = 0.7
_LONGEST = 36


@dataclass(frozen=True, kw_only=True)
class Naming:
    """A page's names. ``used`` settings are in names, the ``others`` differ too, most telling first each.

    ``same`` are the words that no name holds since all rows share them, or all but those whose name says otherwise.
    """

    names: list[str]
    order: list[int]
    used: list[str]
    others: list[str]
    same: list[str]


@dataclass(frozen=True, eq=False)
class _Setting:
    """A setting's value in each row as a code (-1: missing), in words, and how telling it is."""

    column: str
    codes: NDArray[np.int64]
    words: list[str]
    telling: float


def setting_name(column: str) -> str:
    """What a frame's column is called in the table: ``params.num_layers`` is ``layers``."""
    return HEAD.get(column) or column.partition(".")[2] or column


def name_rows(rows: pd.DataFrame, score: Any, only: Sequence[str] = ()) -> Naming:
    """Names for one page's configurations: a row of settings each, without seeds; ``score`` is ``(n,)``, may be NaN.

    ``only`` are the settings that make a row where the user chose them; then they are the names.
    """
    if only:
        chosen = [_setting(rows, c, rows[c], score) for c in only]
        return Naming(
            names=[", ".join(s.words[i] for s in chosen if s.words[i]) for i in range(len(rows))],
            order=_sorted(chosen, len(rows)),
            used=list(only),
            others=[],
            same=[],
        )
    rows = _with_zoo(rows)
    found, last = _differing(rows, score)
    spread = [s for s in found if len(rows) < 5 or np.bincount(s.codes + 1).max() < _COMMON * len(rows)]
    chosen = spread[:MOST_IN_NAMES]
    rare = [s for s in found if s not in spread]
    parts: list[dict[str, str]] = [{} for _ in range(len(rows))]
    for s in chosen:
        for i, word in enumerate(s.words):
            parts[i][s.column] = word
    same = _shared(rows, score) if len(rows) > 1 and chosen else []
    for s in rare:
        common = int(np.bincount(s.codes + 1).argmax()) - 1
        same += [word for word in (s.words[np.flatnonzero(s.codes == common)[0]],) if word]
        for i in np.flatnonzero(s.codes != common):
            parts[i][s.column] = s.words[i] or f"no {_title(s.column)}"
    _separate(parts, [*found, *last])
    used = {column for row in parts for column in row}
    every = [*found, *(s for s in last if s.column in used)]
    if not chosen:
        # All rows share nearly everything: what has no name of its own is called by what it is.
        head = [_setting(rows, c, rows[c], score) for c in HEAD if c in rows.columns]
        for i, row in enumerate(parts):
            if not row:
                row.update({s.column: s.words[i] for s in head})
    order = [*HEAD, *(s.column for s in chosen), *(s.column for s in every)]
    said = [", ".join(row[c] for c in dict.fromkeys(order) if row.get(c)) for row in parts]
    return Naming(
        names=said,
        order=_sorted([s for s in every if s.column in used], len(rows)),
        used=[s.column for s in every if s.column in used],
        others=[s.column for s in found if s.column not in used],
        same=list(dict.fromkeys(same)),
    )


def _with_zoo(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the zoo's network where others have their depth: it is what they have instead."""
    network, depth = f"params.{names.NETWORK}", "params.num_layers"
    if network not in rows.columns or not (zoo := rows[network].isin(list(names.ZOO))).any():
        return rows
    layers = rows[depth] if depth in rows.columns else pd.Series(None, rows.index)
    pairs = zip(rows[network], zoo, layers, strict=True)
    said = [name if is_zoo else None if pd.isna(n) else f"{float(n):g}" for name, is_zoo, n in pairs]
    return rows.assign(**{depth: pd.Series(said, rows.index, dtype=object), network: rows[network].mask(zoo)})


def _differing(rows: pd.DataFrame, score: Any) -> tuple[list[_Setting], list[_Setting]]:
    """The settings with two values or more that matter, most telling first; those that only may help as a last resort:
    settings that some rows lack, that change no result or have no effect here, and the experiment."""
    known = [*HEAD, *(f"params.{name}" for name in (names.NETWORK, *names.PARAMS))]
    foreign = sorted(c for c in rows.columns if c.startswith("params.") and c not in known)
    found: list[_Setting] = []
    last: list[_Setting] = []
    for c in (*known, *foreign, "experiment"):
        if c not in rows.columns or c in _DERIVED or len(rows) < 2:
            continue
        values = _effective(rows, c)
        if rows[c].nunique(dropna=False) < 2:
            continue
        one = _setting(rows, c, values, score)
        idle = c == "experiment" or _IDLE.fullmatch(c[7:].rpartition("__")[2])
        if one.codes.max() < 1 or not one.telling or max(map(len, one.words)) > 2 * _LONGEST or idle:
            last.append(one)
        elif c not in _DECIDED or not _decided(rows, one):
            found.append(one)
        if values.isna().sum() > rows[c].isna().sum():
            last.append(_setting(rows, c, rows[c], score))
    last.sort(key=lambda s: s.column != "experiment")
    return sorted(found, key=lambda s: -s.telling), last


def _effective(rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """A setting's values, missing where the row's other settings leave it without effect."""
    known = names.PARAMS.get(column.removeprefix("params."))
    values = rows[column]
    if known is None or known.used_with is None or (other := f"params.{known.used_with[0]}") not in rows.columns:
        return values
    return values.where(rows[other].isna() | rows[other].isin(list(known.used_with[1])))


def _decided(rows: pd.DataFrame, one: _Setting) -> bool:
    """Whether depth, start and epochs decide its value."""
    shown = [rows[c].astype(object) for c in HEAD if c in rows.columns]
    codes = pd.Series(one.codes, index=rows.index)
    return bool(codes.groupby(shown, dropna=False).nunique().max() < 2) if shown else False


def _setting(rows: pd.DataFrame, column: str, values: pd.Series[Any], score: Any) -> _Setting:
    plain = values.astype(object)
    numbers = pd.to_numeric(plain, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    missing = plain.isna().to_numpy()
    is_number = not np.isnan(numbers[~missing]).any()
    # By value where it is a number: 1e-3 and 0.001 are one setting. In order, so that codes sort as values do.
    if is_number:
        codes = np.full(len(plain), -1, dtype=np.int64)
        codes[~missing] = np.unique(numbers[~missing], return_inverse=True)[1]
    else:
        codes = pd.factorize(plain.astype(str).where(~missing), sort=True)[0].astype(np.int64)
    words = _words(column, plain.tolist(), missing)
    return _Setting(column, codes, words, _telling(column, codes, is_number, np.asarray(score, dtype="float64")))


def _telling(column: str, codes: NDArray[np.int64], is_number: bool, score: NDArray[np.float64]) -> float:
    """0 to 2: how many pairs of rows it separates, and how much of the score goes with it."""
    counts = np.bincount(codes + 1)
    if not is_number and counts.max() == 1 and len(codes) > 3 and column[7:] not in (names.NETWORK, *names.PARAMS):
        return 0.0  # a text of its own in every row, such as a path, says which row it is and nothing else
    separates = 1 - float(((counts / counts.sum()) ** 2).sum())
    known = np.isfinite(score)
    n, groups = int(known.sum()), np.unique(codes[known], return_inverse=True)[1]
    if n < 3 or np.ptp(score[known]) == 0:
        return separates
    y = score[known] - score[known].mean()
    k = int(groups.max()) + 1
    shares = [0.0]
    if k < n:
        within = np.bincount(groups, y) ** 2 / np.bincount(groups)
        shares.append(1 - (1 - within.sum() / (y**2).sum()) * (n - 1) / (n - k))
    if is_number and k > 2:
        rank = pd.Series(groups).rank().corr(pd.Series(y).rank())
        shares.append(1 - (1 - float(rank) ** 2) * (n - 1) / (n - 2))
    return separates + max(shares)


def _separate(parts: list[dict[str, str]], settings: Sequence[_Setting]) -> None:
    """Add to rows of one name the settings they differ in, as few as it takes."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(parts):
        alike.setdefault(tuple(sorted(row.values())), []).append(i)
    groups = [group for group in alike.values() if len(group) > 1]
    while groups:
        group = groups.pop()
        said = parts[group[0]]
        codes = next((s for s in settings if not said.get(s.column) and np.ptp(s.codes[group]) > 0), None)
        if codes is None:
            continue
        split: dict[int, list[int]] = {}
        for i in group:
            parts[i][codes.column] = codes.words[i] or f"no {_title(codes.column)}"
            split.setdefault(int(codes.codes[i]), []).append(i)
        groups += [rest for rest in split.values() if len(rest) > 1]


def _sorted(settings: Sequence[_Setting], num_rows: int) -> list[int]:
    """Each row's place when sorted by these settings, the first counting most."""
    if not settings:
        return list(range(num_rows))
    order = np.lexsort([np.where(s.codes < 0, len(s.codes), s.codes) for s in reversed(settings)])
    places = np.empty(num_rows, dtype=np.int64)
    places[order] = np.arange(num_rows)
    return [int(p) for p in places]


def _shared(rows: pd.DataFrame, score: Any) -> list[str]:
    """The words of depth, start and epochs where every row has the same."""
    heads = [_setting(rows, c, rows[c], score) for c in HEAD if c in rows.columns]
    return [s.words[0] for s in heads if s.words[0] and np.ptp(s.codes) == 0]


def _title(column: str) -> str:
    known = names.PARAMS.get(column.removeprefix("params."))
    return known.title if known else text.one_line(setting_name(column))


def _words(column: str, values: list[Any], missing: NDArray[np.bool_]) -> list[str]:
    """A setting in words in each row, empty where it is missing: ``44 layers``, ``learning rate 0.1``."""
    known = {v for v, gone in zip(values, missing, strict=True) if not gone}
    shown = _distinct(known)
    name = setting_name(column)
    setting = names.PARAMS.get(name)
    if name in ("layers", "epochs"):
        said = {v: w if w in names.ZOO else f"{w} {name if w != '1' else name[:-1]}" for v, w in shown.items()}
    elif name in ("init", names.NETWORK):
        said = shown
    elif setting is not None and setting.type is bool:
        known_words = {"true": _title(column), "false": f"no {_title(column)}"}
        said = {v: known_words.get(w, f"{_title(column)} {w}") for v, w in shown.items()}
    else:
        said = {v: f"{_title(column)} {w}" for v, w in shown.items()}
    return ["" if gone else said[v] for v, gone in zip(values, missing, strict=True)]


def _distinct(values: set[Any]) -> dict[Any, str]:
    """Values as short texts that differ where the values do: digits enough, of long texts the part that differs."""
    try:
        numbers = {v: v if isinstance(v, (bool, np.bool_)) else float(v) for v in values}
    except (TypeError, ValueError):
        shown = {v: text.one_line(v) for v in values}
        if max(map(len, shown.values())) > _LONGEST and len(shown) > 1:
            common = os.path.commonprefix(list(shown.values()))
            start = len(common) - len(re.split(r"\W", common)[-1])
            shown = {v: f"…{word[start:]}" if start > 8 else word for v, word in shown.items()}
        return {v: word if len(word) <= 2 * _LONGEST else f"{word[: 2 * _LONGEST - 1]}…" for v, word in shown.items()}
    for digits in (4, 6, 9, 17):
        shown = {v: text.number(number, digits) for v, number in numbers.items()}
        if len(set(shown.values())) == len(set(numbers.values())):
            break
    return shown
