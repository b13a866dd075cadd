"""A config as text and back: command line, TOML file, hyperparameter strings.

Only text crosses a border between processes, so every form reads back to an equal Config. Values arrive here as
text (or TOML's own types), are cast by the vocabulary, and every fault is collected before anything is raised.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tracking import names
from tracking.errors.words import nearest
from trainers.config.checks import flag, quoted
from trainers.config.config import Config
from trainers.errors import BadConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BOOKKEEPING_HELP = {
    "experiment": ("NAME", "MLflow experiment (default: MLFLOW_EXPERIMENT_NAME, else image-classification)"),
    "run_name": ("NAME", "the run's name (default: made from the settings)"),
    "image_root": ("DIR", "folder that the paths of a list or manifest start from"),
    "allow_overlap": ("true|false", "go on when test pictures are among the training pictures"),
    "strict": ("true|false", "stop where test pictures look like training pictures (default: say so and go on)"),
    "no_test": ("true|false", "leave the test split alone; the leaderboard then shows the score as missing"),
    "keep_model": (
        "best|all|none",
        "best: the network of the best epoch (default); all: also those of all epochs, or of every N-th with"
        " --checkpoint-frequency N; none: scores alone",
    ),
    "int8": ("true|false", "also make, score and keep a copy of the network in 8-bit integers (ONNX)"),
}
MAX_TOML_BYTES, MAX_DEPTH = 256 * 2**10, 64
# The reader takes a minute for a key of 100,000 parts.
_TEXTS = re.compile(r'"{3}.*?"{3}|' + r"'{3}.*?'{3}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL)
_CHAIN = re.compile(r"(?<![\w-])(?:(?:[\w-]+|'')[ \t]*\.[ \t]*){" + f"{MAX_DEPTH}}}")
_MOST_GUESSES = 20
_LONG_WORD = re.compile(r"(?<!\w)\w{3000}")
_BOOLEANS = ("early_stopping", "allow_overlap", "strict", "no_test", "int8")
FIELDS = tuple(f.name for f in fields(Config))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting. Values stay text; ``cast`` reads them, so that all faults come in one message."""
    builtin = parser.add_argument_group(
        "hyperparameters", "names, ranges and defaults of SageMaker's built-in image classification"
    )
    own = parser.add_argument_group("settings")
    for name in (*names.HYPERPARAMETERS, *names.SETTINGS):
        group = builtin if name in names.HYPERPARAMETERS else own
        _add_flag(group, name.key, _metavar(name), _help(name))
    for key, (metavar, text) in _BOOKKEEPING_HELP.items():
        _add_flag(own, key, metavar, text)
    own.add_argument(
        "--tag", dest="tags", metavar="NAME=VALUE", action="append", default=None, help="tag of the run; repeatable"
    )


def given_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line names, still as text."""
    return {key: getattr(arguments, key) for key in FIELDS if getattr(arguments, key, None) is not None}


def cast(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Read text and TOML values as the types of Config's fields.

    ``where`` names the source in the message. Raises BadConfig with every unknown name and unreadable value.
    """
    out: dict[str, Any] = {}
    faults: list[str] = []
    for key, value in values.items():
        key = key.replace("-", "_")
        if key not in FIELDS:
            close = nearest(key, list(FIELDS)) if len(faults) < _MOST_GUESSES else ""
            faults.append(f"{where}{key[:80]} is not a setting.{close} See --help for all of them.")
            continue
        try:
            out[key] = _cast(key, value)
        except ValueError as error:
            faults.append(f"{where}{error}")
    if faults:
        raise BadConfig(faults)
    return out


def build(*layers: Mapping[str, Any]) -> Config:
    """A Config from layers of cast values, the later ones on top.

    ``init`` and ``use_pretrained_model`` say the same thing twice: the one given in the higher layer wins.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for one, other in (("init", "use_pretrained_model"), ("use_pretrained_model", "init")):
            if one in layer and other not in layer:
                merged.pop(other, None)
        tags = {**merged.get("tags", {}), **layer.get("tags", {})}
        merged.update(layer)
        if tags:
            merged["tags"] = tags
    return Config(**merged)


def to_toml(config: Config) -> str:
    """A file for ``--config`` that gives an equal config; defaults are written too, so that it says everything."""
    lines = []
    for f in fields(config):
        value = getattr(config, f.name)
        if value is not None and f.name != "tags":
            lines.append(f"{f.name} = {_toml(value)}")
    if config.tags:
        lines += ["", "[tags]", *(f"{_quote(key)} = {_quote(value)}" for key, value in config.tags.items())]
    return "\n".join(lines) + "\n"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises BadConfig when it can't be read."""
    try:
        if path.stat().st_size > MAX_TOML_BYTES:
            raise BadConfig([f"{path} has {path.stat().st_size:,} bytes; TOML of up to {MAX_TOML_BYTES:,} is read."])
        text = path.read_text(encoding="utf-8")
        bare = _TEXTS.sub("''", text)
        if _CHAIN.search(bare):
            raise BadConfig([f"{path} has a key of more than {MAX_DEPTH} parts with dots between them."])
        if _LONG_WORD.search(bare):
            raise BadConfig([f"{path} has a word or number of 3,000 characters or more outside quotes."])
        return tomllib.loads(text)
    except OSError as error:
        raise BadConfig([f"{path}: {error.strerror or error}. Give the path of a TOML file."]) from error
    except RecursionError as error:
        raise BadConfig([f"{path} is nested too deeply: settings are tables of values and lists."]) from error
    except ValueError as error:
        if isinstance(error, BadConfig):
            raise
        raise BadConfig([f"{path} is not TOML: {error}"]) from error


def from_toml(path: Path) -> dict[str, Any]:
    """Cast settings of a ``--config`` file; the tables of other readers (``[sagemaker]``) are left to them."""
    tables = read_toml(path)
    return cast({key: value for key, value in tables.items() if key != "sagemaker"}, where=f"{path}: ")


def to_hyperparameters(config: Config) -> dict[str, str]:
    """The built-in's hyperparameters as the strings that CreateTrainingJob wants; unset ones are left out."""
    values = {name.key: getattr(config, name.key) for name in names.HYPERPARAMETERS}
    return {key: str(value) for key, value in values.items() if value is not None}


def _settings(config: Config) -> dict[str, Any]:
    """What differs from the defaults. ``init`` replaces ``use_pretrained_model``, which follows from it."""
    out = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name == "use_pretrained_model" or (f.name == "init" and value == "scratch"):
            continue
        if value != f.default and not (f.name == "tags" and not value):
            out[f.name] = value
    return out


def _cast(key: str, value: Any) -> Any:
    """One setting from text or from TOML's own type. Raises ValueError with the whole sentence."""
    if key == "tags":
        return _tags(value)
    name = names.PARAMS.get(key)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        if key in _BOOLEANS and isinstance(value, bool):
            return value
        raise ValueError(f"{flag(key)}: {value!r} has the wrong type.")
    if key in _BOOLEANS:
        name = names.Name(key=key, kind="param", type=bool, title=key)
    if name is None or name.type is str:
        return str(value)
    try:
        return names.parse(name, str(value))
    except (ValueError, OverflowError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[name.type]
        raise ValueError(f"{flag(key)} {value!s} is not {kind}.") from None


def _tags(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(key): str(text) for key, text in value.items()}
    tags = {}
    for item in value:
        tag, equals, text = str(item).partition("=")
        if not equals or not tag.strip():
            raise ValueError(f"--tag {item!r}: a tag is name=value.")
        tags[tag.strip()] = text
    return tags


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, (int, float)) else _quote(value)


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes, but characters beyond 16 bits and none left of the controls TOML forbids."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _add_flag(group: Any, key: str, metavar: str, text: str) -> None:
    more: dict[str, Any] = {"nargs": "?", "const": "true"} if key in _BOOLEANS else {}
    group.add_argument(flag(key), dest=key, metavar=metavar, default=None, help=text, **more)


def _metavar(name: names.Name) -> str:
    if name.choices and len(name.choices) <= 4:
        return "|".join(str(choice) for choice in name.choices)
    if name.key == "image_shape":
        return "C,H,W"
    if name.type is bool:
        return "true|false"
    return {int: "N", float: "X", str: "TEXT"}[name.type]


def _help(name: names.Name) -> str:
    parts = [name.help]
    if name.used_with:
        other, values = name.used_with
        parts.append(f"with {flag(other)} {'|'.join(quoted(value) for value in values)}")
    if name.low is not None and name.high is not None and name.high < 2**31 - 1:
        parts.append(f"{name.low:g} to {name.high:g}")
    if name.default is not None:
        parts.append(f"default {quoted(name.default)}")
    return "; ".join(parts).replace("%", "%%")
