"""Many runs from one file: presets, lists that multiply, sources of transfer; what is done and what is left.

A study is TOML: ``title``, ``[settings]`` for all runs, ``[[runs]]`` with a ``name``, an optional ``preset`` and any
setting. A list of values makes one run for each; ``init = "run:<name>"`` starts from another run of the study.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracking import names
from tracking.errors.words import nearest, plural
from trainers.config.config import Config
from trainers.config.text import build, cast, read_toml, to_toml
from trainers.errors import BadConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).parent
MAX_RUNS = 1000


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study. ``needs`` names the run of the same study whose network it starts from.

    ``shown`` is its name for people where flags have made another of it.
    """

    name: str
    config: Config
    needs: str | None = None
    shown: str = ""

    @property
    def key(self) -> str:
        """16 hex digits that identify the planned run, to find it among finished ones."""
        settings = to_toml(replace(self.config, run_name=None, experiment=None, tags={}, strict=False))
        plan = settings.replace("strict = false\n", "") + f"needs {self.needs}"  # as before there was the setting
        return hashlib.sha256(plan.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Study:
    """Runs that belong together, in an order in which sources come before what needs them."""

    name: str
    title: str
    runs: tuple[PlannedRun, ...]


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
    unknown = [key for key in tables if key not in ("title", "settings", "runs", "sagemaker")]
    faults = [
        f"{path}: {key!r} is none of title, settings, runs.{nearest(key, ['settings', 'runs'])}" for key in unknown
    ]
    planned: list[PlannedRun] = []
    listed, shared = tables.get("runs") or [{}], tables.get("settings", {})
    if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
        raise BadConfig([f"{path}: runs are tables, each begun by a line [[runs]], not {str(listed)[:80]}."])
    if not isinstance(shared, dict):
        raise BadConfig([f"{path}: settings are a table, begun by a line [settings], not {str(shared)[:80]}."])
    number_of_runs = sum(_count(table, shared, overrides or {}) for table in listed)
    if number_of_runs > MAX_RUNS:
        raise BadConfig([f"{path}: makes {_big(number_of_runs)} runs; a study has at most {MAX_RUNS:,}."])
    for number, table in enumerate(listed, start=1):
        try:
            planned += _expand(table, shared, dict(overrides or {}))
        except BadConfig as error:
            where = f"{path}: run {table.get('name') or number}: "
            faults += [where + fault for fault in error.faults]
    # Flags may make two runs one: the same settings under one name are trained once.
    planned = list({(run.name, run.key): run for run in planned}.values())
    faults += _name_faults(path, planned)
    if faults:
        raise BadConfig(faults)
    study = Study(_searchable(path.stem), str(tables.get("title", path.stem)), tuple(_in_order(planned)))
    return replace(study, runs=tuple(_tagged(run, study) for run in study.runs))


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
    study = Study(
        _searchable(f"{name}-{count}-folds"), f"{config.dataset}: every training picture held out once", tuple(runs)
    )
    return replace(study, runs=tuple(_tagged(run, study) for run in study.runs))


def _expand(table: Mapping[str, Any], shared: Mapping[str, Any], overrides: dict[str, Any]) -> list[PlannedRun]:
    """One run for each combination of the listed values."""
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
    while left:
        ready = [run for run in left if run.needs not in names or run.needs in done]
        if not ready:
            raise BadConfig([f"runs wait for one another in a circle: {', '.join(run.name for run in left)}"])
        out.append(ready[0])
        left.remove(ready[0])
        if all(run.name != ready[0].name for run in left):
            done.add(ready[0].name)
    return out


def _tagged(run: PlannedRun, study: Study) -> PlannedRun:
    """The run under a name of its own among those of its table: what differs among them, the seed last."""
    same = [other.config for other in study.runs if other.name == run.name]
    varied = [key for key in names.PARAMS if any(getattr(one, key) != getattr(same[0], key) for one in same)]
    varied.sort(key=lambda key: key == "seed")
    name = ", ".join([run.shown or run.name, *(f"{key} {getattr(run.config, key)}" for key in varied)])
    config = run.config if run.config.run_name else replace(run.config, run_name=name)
    return replace(run, config=config)
