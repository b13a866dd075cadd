"""What is missing: every configuration's run without a test accuracy, why, and the exact command that fills it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.board.board import Page
from reports.board.runs import column
from reports.document import text
from tracking import names


@dataclass(frozen=True)
class Gap:
    """A run without a test accuracy. ``settings`` are its own, where it has to be trained again."""

    run_id: str
    why: str
    command: str
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Gaps:
    """The finished candidates without a test accuracy, or with an impossible one.

    ``found`` are the first ``MOST`` in the ranking's order, of ``total`` that a command here can fill; ``foreign`` were
    logged by another tool, ``own`` with this package by training code of the user's.
    """

    found: list[Gap]
    total: int
    foreign: int
    own: int


MOST = 50
_EVALUATE = "python -m trainers.evaluate"


def gaps(page: Page) -> Gaps:
    """What a page lacks."""
    row_of = {run: row for row, ids in enumerate(page.table["run_ids"]) for run in ids}
    value = pd.to_numeric(column(page.runs, f"metrics.{names.TEST_ACCURACY}")).astype("float64")
    lacking = page.runs.loc[~value.between(0, 1)]
    marks = [f"tags.{t}" for t in (names.FINGERPRINT, names.LAUNCHER, names.MODEL_URI)]
    trained = pd.concat([column(lacking, mark).notna() for mark in marks], axis=1).any(axis=1)
    # A network from other code may have a model like ours, but has no settings to score it by.
    own = column(lacking, f"params.{names.NETWORK}").notna() & column(lacking, f"tags.{names.FINGERPRINT}").isna()
    own |= column(lacking, f"tags.{names.JOURNAL_ID}").notna() & ~trained
    ours = (trained | column(lacking, f"metrics.{names.MODEL_SIZE_BYTES}").notna()) & ~own
    num_own, num_foreign = int(own.sum()), int((~ours & ~own).sum())
    lacking = lacking.loc[ours]
    lacking = lacking.loc[lacking["run_id"].map(row_of).sort_values(kind="stable").index]
    found = []
    for (_, run), score in zip(lacking.head(MOST).iterrows(), value.loc[lacking.index], strict=False):
        why, command = _why(run, float(score))
        again = None if command.startswith(_EVALUATE) else _settings(run)
        found.append(Gap(str(run["run_id"]), why, command, again))
    return Gaps(found, len(lacking), num_foreign, num_own)


def _why(run: pd.Series[Any], score: float) -> tuple[str, str]:
    evaluate = f"{_EVALUATE} {run['run_id']}"
    has_model = not text.is_missing(run.get(f"metrics.{names.MODEL_SIZE_BYTES}")) or not text.is_missing(
        run.get(f"tags.{names.MODEL_URI}")
    )
    imported = str(run.get(f"tags.{names.LAUNCHER}")) == "import"
    if score == score:
        why = f"the logged value {text.number(score)} is not an accuracy"
        return why, evaluate if has_model or not imported else retrain(_settings(run))
    if imported and not has_model:
        return "imported without a test score and without a model, so it has to be trained again", retrain(
            _settings(run)
        )
    if str(run.get(f"tags.{names.LAUNCHER}")) == "sagemaker-builtin":
        where = " --dataset PATH" if text.is_missing(run.get("params.dataset")) else ""
        return "the built-in algorithm takes no test pictures", evaluate + where
    if not text.is_missing(run.get("digest")):
        return "testing was skipped (--no-test)", evaluate
    return "no test score was logged", evaluate


def _settings(run: pd.Series[Any]) -> dict[str, Any]:
    known = {name: run.get(f"params.{name}") for name in names.PARAMS}
    return {name: value for name, value in known.items() if not text.is_missing(value)}


def retrain(params: Mapping[str, Any]) -> str:
    """The command that trains the same configuration again."""
    words = ["python", "-m", "trainers.run"]
    for key, value in _given(params).items():
        words += [f"--{key.replace('_', '-')}", value]
    return shlex.join(words)


def study(several: Sequence[Mapping[str, Any]]) -> str:
    """The lines that train many configurations again: they write a study's file, and run it."""
    given = [_given(params) for params in several]
    shared = {key: value for key, value in given[0].items() if all(one.get(key) == value for one in given)}
    own = [_toml({key: value for key, value in one.items() if key not in shared}) for one in given]
    runs = [f"[[runs]]\n{lines}" for lines in dict.fromkeys(own)]  # twice the same is one run of a study
    text = "\n\n".join([f"[settings]\n{_toml(shared)}", *runs] if shared else runs)
    return f"cat > again.toml <<'END'\n{text}\nEND\npython -m trainers.run --study again.toml"


def _toml(given: Mapping[str, str]) -> str:
    return "\n".join(f"{k} = {json.dumps(v) if names.PARAMS[k].type is str else v}" for k, v in given.items())


def _given(params: Mapping[str, Any]) -> dict[str, str]:
    """The settings a person gives, as text; the data decides the others."""
    given = {}
    for key, name in names.PARAMS.items():
        if key not in params or key in ("num_classes", "num_training_samples", "num_threads"):
            continue
        value = params[key]
        if key == "use_pretrained_model":
            if str(value) == "1" and "init" not in params:
                given["init"] = "imagenet"
            continue
        given[key] = str(value).lower() if name.type is bool else str(value)
    return given if "dataset" in given else {**given, "dataset": "PATH"}
