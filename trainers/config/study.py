"""Many runs from one file: presets, lists that multiply, sources of transfer; what is done and what is left.

A study is TOML: ``title``, ``[settings]`` for all runs, ``[[runs]]`` with a ``name``, an optional ``preset`` and any
setting. A list of values makes one run for each; ``init = "run:<name>"`` starts from another run of the study.
``seeds`` trains each with these, ``exclude`` leaves combinations out, ``[repeat]`` adds seeds until the score is known
well enough. ``[search]`` in place of ``[[runs]]`` lets the scores so far choose the next run.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracking import names
from tracking.errors.words import nearest, plural
from trainers.config import search as searches
from trainers.config.config import Config
from trainers.config.search import Search
from trainers.config.text import build, cast, read_toml, to_toml
from trainers.errors import BadConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).parent
MAX_RUNS = 1000

_TABLES = ("title", "settings", "runs", "seeds", "exclude", "repeat", "search")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study. ``needs`` names the run of the same study whose network it starts from.

    ``shown`` is its name for people where flags have made another of it.
    """

    name: str
    config: Config
    needs: str | None = None
    shown: str = ""

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits that identify the planned run, to find it among finished ones."""
        settings = to_toml(replace(self.config, run_name=None, experiment=None, tags={}, strict=False))
        plan = settings.replace("strict = false\n", "") + f"needs {self.needs}"  # as before there was the setting
        return hashlib.sha256(plan.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Repeat:
    """More seeds for each configuration until the 95 % interval of its mean is at most so many points wide."""

    until_interval_points: float
    most_seeds: int = 10


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs that belong together, in an order in which sources come before what needs them.

    With ``search`` the runs are chosen while it goes on, and ``runs`` is empty. ``file`` is what it was read from.
    """

    name: str
    title: str
    runs: tuple[PlannedRun, ...]
    search: Search | None = None
    repeat: Repeat | None = None
    file: Path | None = None


def presets() -> dict[str, dict[str, Any]]:
    """Name → settings of every preset."""
    return tomllib.loads((_HERE / "presets.toml").read_text(encoding="utf-8"))


def preset(name: str) -> dict[str, Any]:
    """The settings of one preset. Raises BadConfig with the legal names."""
    known = presets()
    if name not in known:
        raise BadConfig([f"--preset {name!r} is unknown; there are {', '.join(known)}.{nearest(name, list(known))}"])
    return cast(known[name])


def studies() -> dict[str, Path]:
    """Name → file of every study that ships with the package."""
    return {path.stem: path for path in sorted((_HERE / "studies").glob("*.toml"))}


def read_title(path: Path) -> str:
    """The one-line title of a study's file."""
    return str(read_toml(path).get("title", path.stem))


def load(spec: str, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read a study by name or from a file; ``overrides`` (cast settings from flags) hold for all its runs.

    Raises BadConfig with every fault of every run.
    """
    path = studies().get(spec) or Path(spec)
    if path.suffix != ".toml":
        known = list(studies())
        raise BadConfig(
            [f"--study {spec!r} is neither a file.toml nor one of {', '.join(known)}.{nearest(spec, known)}"]
        )
    tables = read_toml(path)
    faults = [
        f"{path}: {key!r} is none of {', '.join(_TABLES)}.{nearest(key, list(_TABLES))}"
        for key in tables
        if key not in (*_TABLES, "sagemaker")
    ]
    if not isinstance(tables.get("settings", {}), dict):
        raise BadConfig(
            [f"{path}: settings are a table, begun by a line [settings], not {str(tables['settings'])[:80]}."]
        )
    title, settings = str(tables.get("title", path.stem)), dict(tables.get("settings", {}))
    if "search" in tables:
        return _searching(path, title, tables, dict(overrides or {}), faults)
    faults += [f"{path}: {fault}" for fault in _shared_seeds(tables, settings)]
    repeat = _repeat(path, tables, faults)
    exclude = _excluded(path, tables, faults)
    planned: list[PlannedRun] = []
    listed = tables.get("runs") or [{}]
    if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
        raise BadConfig([f"{path}: runs are tables, each begun by a line [[runs]], not {str(listed)[:80]}."])
    number_of_runs = sum(_count(table, settings, overrides or {}) for table in listed)
    if number_of_runs > MAX_RUNS:
        raise BadConfig([f"{path}: makes {_big(number_of_runs)} runs; a study has at most {MAX_RUNS:,}."])
    for number, table in enumerate(listed, start=1):
        try:
            planned += _expand(table, settings, dict(overrides or {}), exclude)
        except BadConfig as error:
            where = f"{path}: run {table.get('name') or number}: "
            faults += [where + fault for fault in error.faults]
    # Flags may make two runs one: the same settings under one name are trained once.
    planned = list({(run.name, run.key): run for run in planned}.values())
    faults += _name_faults(path, planned)
    if faults:
        raise BadConfig(faults)
    if not planned:
        raise BadConfig([f"{path}: exclude leaves no run."])
    faults = [f"{path}: exclude {dict(one)} leaves nothing out." for one in exclude if not one.used]
    if faults:
        raise BadConfig(faults)
    study = Study(name=_searchable(path.stem), title=title, runs=tuple(_in_order(planned)), repeat=repeat, file=path)
    return replace(study, runs=_named(study.runs))


class _Exclusion(dict[str, Any]):
    """Settings of the combinations that are not trained; ``used`` once it has left one out."""

    used = False

    def leaves_out(self, config: Config) -> bool:
        """Whether the run has each of the settings, or one of the values where there is a list."""
        hit = all(getattr(config, key) in value for key, value in self.items())
        self.used = self.used or hit
        return hit


def _searching(path: Path, title: str, tables: dict[str, Any], overrides: dict[str, Any], faults: list[str]) -> Study:
    for key in ("runs", "exclude", "repeat", "seeds"):
        if key in tables:
            instead = "seeds belongs under [search]" if key == "seeds" else f"give {key} or [search], not both"
            faults.append(f"{path}: {instead}.")
    # Validation chooses; the chosen network alone is tested, unless the file says otherwise.
    settings = {"no_test": True, **tables.get("settings", {})}
    try:
        search = searches.read(tables["search"], settings, overrides)
    except BadConfig as error:
        faults += [f"{path}: {fault}" for fault in error.faults]
    if faults:
        raise BadConfig(faults)
    return Study(name=_searchable(path.stem), title=title, runs=(), search=search, file=path)


def _shared_seeds(tables: Mapping[str, Any], settings: dict[str, Any]) -> list[str]:
    """``seeds`` is the setting ``seed`` of all runs, for reading."""
    if "seeds" not in tables:
        return []
    seeds = tables["seeds"]
    if not isinstance(seeds, list) or not seeds or any(type(one) is not int for one in seeds):
        return [f"seeds = {seeds!r} must be a list of whole numbers, such as [0, 1, 2]."]
    if "seed" in settings:
        return ["seeds and the setting seed say the same; give one of the two."]
    settings["seed"] = seeds
    return []


def _repeat(path: Path, tables: Mapping[str, Any], faults: list[str]) -> Repeat | None:
    table = tables.get("repeat")
    if table is None:
        return None
    legal = ("until_interval_points", "most_seeds")
    if not isinstance(table, Mapping) or set(table) - set(legal) or legal[0] not in table:
        faults.append(f"{path}: [repeat] takes until_interval_points = 2.0 and, if wanted, most_seeds = 10.")
        return None
    points, most = table[legal[0]], table.get(legal[1], Repeat.most_seeds)
    if type(points) not in (int, float) or not 0 < points <= 100:
        faults.append(f"{path}: [repeat] until_interval_points = {points!r} must be a number from 0 to 100.")
    elif type(most) is not int or not 3 <= most <= 1000:
        faults.append(f"{path}: [repeat] most_seeds = {most!r} must be a whole number from 3 to 1000.")
    else:
        return Repeat(float(points), most)
    return None


def _excluded(path: Path, tables: Mapping[str, Any], faults: list[str]) -> list[_Exclusion]:
    given = tables.get("exclude", [])
    if not isinstance(given, list) or not all(isinstance(one, Mapping) and one for one in given):
        faults.append(f"{path}: exclude must be a list of settings, such as [{{ num_layers = 44, seed = 1 }}].")
        return []
    out = []
    for one in given:
        try:
            lists = {key: value if isinstance(value, list) else [value] for key, value in one.items()}
            each = [[cast({key: value}) for value in values] for key, values in lists.items()]
            out.append(_Exclusion({next(iter(x[0])): [next(iter(v.values())) for v in x] for x in each if x}))
        except BadConfig as error:
            faults += [f"{path}: exclude: {fault}" for fault in error.faults]
    return out


def repeated(study: Study, planned: PlannedRun, seed: int) -> PlannedRun:
    """The same configuration with one more seed, under a name of its own."""
    name, comma, last = str(planned.config.run_name).rpartition(", seed ")
    base = name if comma and last.isdecimal() else str(planned.config.run_name)
    return replace(planned, config=replace(planned.config, seed=seed, run_name=f"{base}, seed {seed}"))


def folds(config: Config, count: int) -> Study:
    """One run for each of ``count`` parts of the training pictures, which the run holds out and scores at the end.

    Raises BadConfig.
    """
    if count < 2:
        raise BadConfig([f"--folds {count} is out of range: 2 or more."])
    if config.fold is not None:
        raise BadConfig(["--folds trains every fold, --fold one of them; give one of the two."])
    name = names.data_name(Path(config.dataset).name)
    runs = [
        PlannedRun(
            f"{config.run_name or name}, fold {n} of {count}", replace(config, fold=f"{n}/{count}", run_name=None)
        )
        for n in range(1, count + 1)
    ]
    title = f"{config.dataset}: every training picture held out once"
    study = Study(name=_searchable(f"{name}-{count}-folds"), title=title, runs=tuple(runs))
    return replace(study, runs=_named(study.runs))


def _expand(
    table: Mapping[str, Any], shared: Mapping[str, Any], overrides: dict[str, Any], exclude: list[_Exclusion]
) -> list[PlannedRun]:
    """One run for each combination of the listed values that is not excluded."""
    own = {key: value for key, value in table.items() if key not in ("name", "preset")}
    base = preset(str(table["preset"])) if "preset" in table else {}
    settings = {**shared, **own}
    lists = {key: value for key, value in settings.items() if isinstance(value, list) and key not in overrides}
    fixed = {key: value for key, value in settings.items() if not isinstance(value, list)}
    if any(not values for values in lists.values()):
        raise BadConfig([f"{key} is an empty list." for key, values in lists.items() if not values])
    runs = []
    for values in itertools.product(*lists.values()):
        layer = {**fixed, **dict(zip(lists, values, strict=True))}
        # A source inside the study is only a name here: its id is not known before it has run.
        needs = str(layer["init"])[4:] if str(layer.get("init", "")).startswith("run:") else None
        config = build(base, cast(layer), overrides)
        # Each is asked, so that one which leaves nothing out is found.
        if any([one.leaves_out(config) for one in exclude]):
            continue
        name = str(table.get("name") or _name(config))
        planned = {**base, **cast(layer)}.get("epochs", Config.epochs)
        shown = _with_epochs(name, planned, config.epochs) if "name" in table else name
        runs.append(PlannedRun(name, config, needs, shown))
    return runs


def _searchable(name: str) -> str:
    """A study's name as MLflow's search takes it, in quotes."""
    return re.sub(r"['\"`]", "_", name)


def _count(table: Mapping[str, Any], shared: Mapping[str, Any], overrides: Mapping[str, Any]) -> int:
    """How many runs ``_expand`` would make; one at least, since a fault of it is a fault."""
    lists = {key: value for key, value in {**shared, **table}.items() if isinstance(value, list)}
    return math.prod(max(1, len(value)) for key, value in lists.items() if key not in overrides)


def _big(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "more than 10^15"


def _name(config: Config) -> str:
    depth = f"{config.num_layers} layers" if config.num_layers else "default depth"
    init = "ImageNet" if config.initial == "imagenet" else config.initial
    return f"{depth}, {init}, {plural(config.epochs, 'epoch')}"


def _with_epochs(name: str, planned: int, epochs: int) -> str:
    """A run's name, which must not name the file's number of epochs where a flag has changed it."""
    return name.replace(plural(planned, "epoch"), plural(epochs, "epoch"))


def _name_faults(path: Path, planned: list[PlannedRun]) -> list[str]:
    names = [run.name for run in planned]
    faults = []
    for run in planned:
        if run.needs is None or run.needs not in names:
            continue  # an id of the store, found (or not) when the run starts
        if names.count(run.needs) > 1:
            faults.append(
                f"{path}: init = 'run:{run.needs}' names {names.count(run.needs)} runs; give the source one seed."
            )
        if any(one.name == run.needs and one.config.keep_model == "none" for one in planned):
            faults.append(f"{path}: {run.name!r} starts from {run.needs!r}, whose network --keep-model none drops.")
        if run.needs == run.name:
            faults.append(f"{path}: {run.name!r} starts from itself.")
    return faults


def _in_order(planned: list[PlannedRun]) -> list[PlannedRun]:
    """Sources before what needs them, otherwise as written. Raises BadConfig on a circle."""
    names, done, out, left = {run.name for run in planned}, set[str](), list[PlannedRun](), list(planned)
    if not any(run.needs in names for run in planned):
        return planned
    while left:
        ready = [run for run in left if run.needs not in names or run.needs in done]
        if not ready:
            raise BadConfig([f"runs wait for one another in a circle: {', '.join(run.name for run in left)}"])
        out.append(ready[0])
        left.remove(ready[0])
        if all(run.name != ready[0].name for run in left):
            done.add(ready[0].name)
    return out


def _named(runs: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
    """Each run under a name of its own among those of its table: what differs among them, the seed last."""
    same: dict[str, list[Config]] = {}
    for run in runs:
        same.setdefault(run.name, []).append(run.config)
    varied = {
        name: sorted(
            (key for key in names.PARAMS if any(getattr(one, key) != getattr(each[0], key) for one in each)),
            key=lambda key: key == "seed",
        )
        for name, each in same.items()
    }
    out = []
    for run in runs:
        name = ", ".join([run.shown or run.name, *(f"{key} {getattr(run.config, key)}" for key in varied[run.name])])
        out.append(run if run.config.run_name else replace(run, config=replace(run.config, run_name=name)))
    return tuple(out)
