"""Effects of a study's factors on its score: a linear model by least squares, with Student's intervals.

Factors of few values have a mean for each value, numbers of many values one slope over their range (of their logarithm
where that spans a decade). Seeds repeat a configuration; what the model leaves over is the error.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from reports.document import text

Floats = NDArray[np.float64]
# More values than these, and a number is a slope.
_MOST_LEVELS = 5
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Effect:
    """By how much the score changes, in fractions, when a factor goes from one value to another; NaN where unknown."""

    factor: str
    change: str
    mean: float
    low: float
    high: float
    num_runs: int


@dataclass(frozen=True)
class _Term:
    """A factor's columns of the model; ``words`` say what each means."""

    factor: str
    columns: Floats
    words: list[str]
    counts: list[int]


def effects(settings: pd.DataFrame, score: Floats, level: float = 0.95) -> list[Effect]:
    """The effect of each column of ``settings`` (n rows) on ``score`` (n,), the others held."""
    terms = [_term(key, settings[key]) for key in settings.columns]
    fit = _Fit.of([term.columns for term in terms], score)
    out, at = [], 1
    for term in terms:
        for number, words in enumerate(term.words):
            mean, low, high = fit.interval(_unit(fit.size, at + number), level)
            out.append(
                Effect(factor=term.factor, change=words, mean=mean, low=low, high=high, num_runs=term.counts[number])
            )
        at += term.columns.shape[1]
    return out


def interaction(settings: pd.DataFrame, score: Floats, pair: tuple[str, str], level: float = 0.95) -> list[Effect]:
    """By how much the effect of the second of ``pair`` differs between the values of the first, the others held.

    Each is a difference of differences: of the last value against the first one in both factors. Empty where the
    combinations are not there.
    """
    first, second = (_term(key, settings[key]) for key in pair)
    others = [_term(key, settings[key]) for key in settings.columns if key not in pair]
    both = [
        (a * b, f"{second.words[j]}, with {first.words[i]}", min(first.counts[i], second.counts[j]))
        for (i, a), (j, b) in itertools.product(enumerate(first.columns.T), enumerate(second.columns.T))
    ]
    columns = [first.columns, second.columns, *(term.columns for term in others)]
    fit = _Fit.of([*columns, np.stack([product for product, _, _ in both], axis=1)], score)
    start = fit.size - len(both)
    out = []
    for number, (_, words, count) in enumerate(both):
        mean, low, high = fit.interval(_unit(fit.size, start + number), level)
        if not np.isnan(mean):
            name = f"{_title(pair[0])} x {_title(pair[1])}"
            out.append(Effect(factor=name, change=words, mean=mean, low=low, high=high, num_runs=count))
    return out


@dataclass(frozen=True)
class _Fit:
    """Least squares: coefficients, the inverse of X'X, the error's variance and its degrees of freedom."""

    beta: Floats
    inverse: Floats
    known: NDArray[np.bool_]
    variance: float
    freedom: int

    @property
    def size(self) -> int:
        return len(self.beta)

    @classmethod
    def of(cls, columns: Sequence[Floats], score: Floats) -> _Fit:
        x = np.concatenate([np.ones((len(score), 1)), *columns], axis=1)
        inverse = np.linalg.pinv(x.T @ x)
        beta = inverse @ x.T @ score
        rank = int(np.linalg.matrix_rank(x))
        freedom = len(score) - rank
        left = score - x @ beta
        variance = float(left @ left) / freedom if freedom > 0 else float("nan")
        # A coefficient is known where the data tell it from the others: its unit vector is in the row space.
        space = np.linalg.pinv(x) @ x
        known = np.abs(space - np.eye(x.shape[1])).max(axis=1) < 1e-6
        return cls(beta, inverse, known, variance, freedom)

    def interval(self, contrast: Floats, level: float) -> tuple[float, float, float]:
        """The contrast's value and the ends of its interval."""
        if not self.known[contrast != 0].all():
            return float("nan"), float("nan"), float("nan")
        mean = float(contrast @ self.beta)
        if self.freedom < 1:
            return mean, float("nan"), float("nan")
        error = float(np.sqrt(max(float(contrast @ self.inverse @ contrast), 0.0) * self.variance))
        half = float(special.stdtrit(self.freedom, 0.5 + level / 2)) * max(error, _ROUNDING)
        return mean, mean - half, mean + half


def _unit(size: int, at: int) -> Floats:
    out = np.zeros(size)
    out[at] = 1.0
    return out


def is_slope(values: pd.Series[Any]) -> bool:
    """Whether a factor is a number of so many values that it counts by its slope."""
    numbers = pd.to_numeric(values, errors="coerce")
    return bool(numbers.notna().all() and numbers.nunique() > _MOST_LEVELS)


def on_log(values: Floats) -> bool:
    """Whether positive numbers span a decade, so that their ratios count."""
    low, high = float(np.min(values)), float(np.max(values))
    return low > 0 and high / low >= 10


def _term(key: str, values: pd.Series[Any]) -> _Term:
    if is_slope(values):
        numbers = pd.to_numeric(values).to_numpy(dtype="float64")
        scaled = np.log(numbers) if on_log(numbers) else numbers
        column = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        change = (
            f"{text.number(numbers.min())} to {text.number(numbers.max())}{', log scale' if on_log(numbers) else ''}"
        )
        return _Term(_title(key), column[:, None], [change], [len(numbers)])
    levels = sorted(values.unique(), key=lambda one: (isinstance(one, str), one))
    columns = np.stack([(values == one).to_numpy(dtype="float64") for one in levels[1:]], axis=1)
    words = [f"{word(levels[0])} to {word(one)}" for one in levels[1:]]
    return _Term(_title(key), columns, words, [int((values == one).sum()) for one in levels[1:]])


def word(value: Any) -> str:
    """A setting's value, for a page."""
    return text.number(value) if isinstance(value, (int, float, np.number)) else text.one_line(value)


def _title(column: str) -> str:
    return column.partition(".")[2] or column


def importance(settings: pd.DataFrame, score: Floats) -> dict[str, float] | None:
    """PED-ANOVA (Watanabe 2023) by Optuna: which factors the best tenth owes its place to, in shares of 1.

    None where Optuna is not installed, or too few runs are there to say.
    """
    try:
        import optuna
    except ImportError:
        return None
    if len(score) < 8:
        return None
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spaces: dict[str, Any] = {}
    given: dict[str, list[Any]] = {}
    for key in settings.columns:
        if is_slope(settings[key]):
            numbers = pd.to_numeric(settings[key]).to_numpy(dtype="float64")
            spaces[key] = FloatDistribution(float(numbers.min()), float(numbers.max()), log=on_log(numbers))
            given[key] = [float(one) for one in numbers]
        else:
            given[key] = [word(one) for one in settings[key]]
            spaces[key] = CategoricalDistribution(sorted(set(given[key])))
    study = optuna.create_study(direction="maximize")
    for row, value in enumerate(score):
        params = {key: values[row] for key, values in given.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=float(value)))
    share = min(0.5, max(0.1, 4 / len(score)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {_title(key): float(value) for key, value in found.items()}
