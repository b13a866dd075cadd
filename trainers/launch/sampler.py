"""Optuna as the one who chooses: its study, opened in a storage that optuna-dashboard shows; ask, report, tell.

Optuna is imported inside functions: a study without ``[search]`` does not need it.
"""

from __future__ import annotations

import math
import random
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from tracking import names
from trainers.config.search import Search
from trainers.errors import BadInput, TrainerError

if TYPE_CHECKING:
    from tracking.store import Store

End = Literal["complete", "pruned", "failed"]
# A schema of its own: MLflow and Optuna both keep a table alembic_version.
_SCHEMA = "optuna"


@dataclass
class Trial:
    """One choice of values. ``optuna`` is its handle; ``let_run`` once it was hopeless and goes on all the same.

    ``stopped`` once it was hopeless and is to end.
    """

    optuna: Any
    values: dict[str, Any]
    reported: dict[int, float] = field(default_factory=dict)
    let_run: bool = False
    stopped: bool = False

    @property
    def number(self) -> int:
        """From 0."""
        return int(self.optuna.number)

    def note(self, **facts: Any) -> None:
        """Keep facts about it in Optuna's storage, where the dashboard shows them."""
        for key, value in facts.items():
            if value is not None:
                self.optuna.set_user_attr(key, value)


def storage_url(store: Store) -> str:
    """Where Optuna keeps its trials: MLflow's PostgreSQL database, else a file beside the journals."""
    if store.tracking_uri.startswith(("postgresql:", "postgresql+", "postgres:")):
        uri = (
            store.tracking_uri.replace("postgres:", "postgresql:", 1)
            if store.tracking_uri.startswith("postgres:")
            else store.tracking_uri
        )
        return f"{uri}{'&' if '?' in uri else '?'}options=-csearch_path%3D{_SCHEMA}"
    return f"sqlite:///{store.journals.parent / 'search.db'}"


def public_url(store: Store) -> str:
    """The same for a screen: as short as it can be, without a password."""
    from tracking.errors.redaction import hidden

    url = storage_url(store)
    return hidden(url) if not url.startswith("sqlite") else url


def num_begun(name: str, search: Search, store: Store) -> int:
    """How many trials were begun and did not fail; nothing is written, and no storage is made."""
    optuna, url = _load(), storage_url(store)
    if url.startswith("sqlite") and not (store.journals.parent / "search.db").exists():
        return 0
    try:
        study = optuna.load_study(study_name=f"{name} {search.fingerprint}", storage=url)
    except Exception:  # there is no such study, or no schema of Optuna's
        return 0
    state = optuna.trial.TrialState
    return sum(one.state not in (state.WAITING, state.FAIL) for one in study.get_trials(deepcopy=False))


class Chooser:
    """Optuna's study: ``ask`` for a trial, ``report`` its values as they come, ``tell`` how it ended."""

    def __init__(self, name: str, search: Search, store: Store) -> None:
        """Open the study or make it. Raises BadInput where Optuna is not installed, TrainerError for its storage."""
        self._optuna, self._search = _load(), search
        self.name = f"{name} {search.fingerprint}"
        url = storage_url(store)
        try:
            with _alone(url, store):
                self._storage = self._optuna.storages.RDBStorage(url, engine_kwargs=_engine(url))
                self._study = self._optuna.create_study(
                    study_name=self.name,
                    storage=self._storage,
                    directions=[
                        "maximize" if one == names.VALIDATION_ACCURACY else "minimize" for one in search.objectives
                    ],
                    load_if_exists=True,
                )
        except Exception as error:  # SQLAlchemy's and the driver's
            raise _unreadable(store, error) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the names are marked experimental
            self._study.set_metric_names(list(search.objectives))
        # A sampler that is started again must not repeat itself: with each value that was drawn it begins elsewhere.
        seed = search.seed + 1000 * sum(len(one.params) for one in self.trials())
        self._study.sampler = _sampler(self._optuna, search, seed)
        self._study.pruner = _pruner(self._optuna, search)
        if search.sampler == "grid":
            self._enqueue()

    def trials(self) -> list[Any]:
        """Optuna's own record of all trials that were begun."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [one for one in self._study.get_trials(deepcopy=False) if one.state != waiting]

    def under_way(self) -> list[Trial]:
        """Trials that a search which was ended left unfinished; they go on."""
        running = self._optuna.trial.TrialState.RUNNING
        found = []
        for one in self._study.get_trials(deepcopy=False, states=(running,)):
            handle = self._optuna.trial.Trial(self._study, one._trial_id)
            trial = Trial(handle, self._values(handle), dict(one.intermediate_values))
            trial.let_run, trial.stopped = "hopeless_at" in one.user_attrs, "stopped_at" in one.user_attrs
            found.append(trial)
        return found

    def summary(self) -> list[dict[str, Any]]:
        """Every trial that was begun, in plain values."""
        return _plain(self.trials(), self._search)

    def ask(self) -> Trial | None:
        """The next trial; None where a grid has no more."""
        search = self._search
        if search.sampler == "grid":
            waiting = self._optuna.trial.TrialState.WAITING
            if not self._study.get_trials(deepcopy=False, states=(waiting,)):
                return None
        trial = self._study.ask()
        return Trial(trial, self._values(trial))

    def _values(self, trial: Any) -> dict[str, Any]:
        """What was chosen for a trial; what was not when its search was ended is chosen now."""
        values: dict[str, Any] = {}
        for one in self._search.ranges:
            if not one.is_active({**self._search.settings, **values}):
                continue
            if one.choices:
                values[one.key] = trial.suggest_categorical(one.key, one.choices)
            elif one.whole:
                step = int(one.step or 1)
                values[one.key] = trial.suggest_int(one.key, int(one.low), int(one.high), step=step, log=one.log)
            else:
                values[one.key] = trial.suggest_float(one.key, one.low, one.high, step=one.step, log=one.log)
        return values

    def _enqueue(self) -> None:
        """Put the combinations of the grid in line that are not there; one whose trial failed comes again."""
        failed = self._optuna.trial.TrialState.FAIL
        there = [one for one in self._study.get_trials(deepcopy=False) if one.state != failed]
        known = {repr(one.system_attrs.get("fixed_params")) for one in there}
        for values in self._search.grid():
            if repr(values) not in known:
                self._study.enqueue_trial(values)

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Give a value of a trial under way, once a step; whether the trial is to be stopped.

        Of the hopeless ones a share goes on, chosen by the trial's number alone.
        """
        if len(self._search.objectives) > 1 or step in trial.reported or value != value:
            return False
        trial.reported[step] = value
        trial.optuna.report(value, step)
        if step >= self._search.steps(trial.values) or trial.let_run or self._search.pruner == "none":
            return False
        if not trial.optuna.should_prune():
            return False
        if random.Random(f"{self._search.seed} {trial.number}").random() < self._search.let_run:
            trial.let_run = True
            trial.note(hopeless_at=step)
            return False
        trial.stopped = True
        trial.note(stopped_at=step)  # before it is ended: a search that goes on ends it, and trains it no further
        return True

    def tell(self, trial: Trial, end: End, values: Sequence[float] = (), constraint: float | None = None) -> None:
        """How a trial ended; ``constraint`` above 0 says that it costs more than allowed."""
        state = self._optuna.trial.TrialState
        if constraint is not None and hasattr(trial.optuna, "set_constraint"):
            trial.optuna.set_constraint("max_cost_usd", constraint)
        if end == "complete":
            self._study.tell(trial.optuna, list(values))
        elif end == "pruned":
            self._study.tell(trial.optuna, state=state.PRUNED)
        else:
            self._study.tell(trial.optuna, state=state.FAIL)


def recorded(name: str, search: Search, store: Store) -> list[dict[str, Any]]:
    """A search's trials, as ``Chooser.summary`` gives them, from a storage that is only read; none where it has none.

    Raises BadInput where Optuna is not installed, TrainerError where the storage cannot be read.
    """
    optuna, url = _load(), storage_url(store)
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.is_file():
            return []
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        how: dict[str, Any] = {"creator": lambda: sqlite3.connect(address, uri=True, timeout=60)}
    else:
        url, how = f"{url}%20-cdefault_transaction_read_only%3Don", {}
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=how, skip_table_creation=True)
        trials = storage.get_all_trials(storage.get_study_id_from_name(f"{name} {search.fingerprint}"), deepcopy=False)
    except KeyError:
        return []
    except Exception as error:  # SQLAlchemy's and the driver's
        raise _unreadable(store, error) from error
    return _plain([one for one in trials if one.state != optuna.trial.TrialState.WAITING], search)


def _plain(trials: Sequence[Any], search: Search) -> list[dict[str, Any]]:
    rows = []
    for one in trials:
        values = dict(zip(search.objectives, one.values or (), strict=False))
        facts = {key: one.user_attrs.get(key) for key in ("time_s", "cost_usd", "hopeless_at", "runs", "why")}
        rows.append(
            {
                "number": one.number,
                # Told as pruned, so that the sampler learns of it; nothing was saved by it.
                "state": "failed" if one.state.name == "FAIL" or "why" in one.user_attrs else one.state.name.lower(),
                "params": dict(one.params),
                "values": values if one.state.name == "COMPLETE" else {},
                "reported": {str(step): value for step, value in sorted(one.intermediate_values.items())},
                "steps": search.steps(one.params),
                **({} if search.max_cost_usd is None else {"max_cost_usd": search.max_cost_usd}),
                **{key: value for key, value in facts.items() if value is not None},
            }
        )
    return rows


def _unreadable(store: Store, error: Exception) -> TrainerError:
    from tracking.errors.redaction import hidden

    said = hidden((str(error).splitlines() or [type(error).__name__])[0])
    return TrainerError(f"Optuna's storage {public_url(store)} cannot be opened: {said}")


def _load() -> Any:
    try:
        import optuna
    except ImportError:
        raise BadInput(
            "[search] needs Optuna, which is not installed: pip install 'image-classification-tracking[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _alone(url: str, store: Store) -> AbstractContextManager[None]:
    """One process at a time: of two that make the tables, one fails."""
    from tracking.store import connection

    if not url.startswith("sqlite"):
        return connection.opening(store.tracking_uri)
    store.journals.parent.mkdir(parents=True, exist_ok=True)
    return connection.locked(store.journals.parent / "search.db")


def _engine(url: str) -> dict[str, Any]:
    if not url.startswith("postgresql"):
        return {"connect_args": {"timeout": 60}}
    import sqlalchemy

    plain = url.partition("?options=")[0].partition("&options=")[0]
    engine = sqlalchemy.create_engine(plain)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
    engine.dispose()
    return {}


def _sampler(optuna: Any, search: Search, seed: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # group is marked experimental
        match search.sampler:
            case "tpe":
                conditional = any(one.when for one in search.ranges)
                how: Mapping[str, Any] = {"multivariate": True, "constant_liar": True, "group": conditional}
                startup = max(3, min(10, search.trials // 3))
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, **how)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(optuna: Any, search: Search) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match search.pruner:
            case "median":
                startup = max(3, min(5, search.trials // 4))
                return optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=1)
            case "hyperband":
                # Trials are compared within their bracket, so each is to have some ten; and none in which nothing
                # could be stopped before the end: ``let_run`` has its share of those.
                brackets = max(1, min(int(math.log(max(3, search.steps({})), 3) + 1e-9), search.trials // 10))
                return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=3 ** (brackets - 1))
            case "wilcoxon":
                return optuna.pruners.WilcoxonPruner(p_threshold=0.1)
    return optuna.pruners.NopPruner()
