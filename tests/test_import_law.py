"""The import law of the architecture: who may not need whom, tried with the forbidden modules blocked."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

_HEAVY = ("mlflow", "pandas", "numpy", "mxnet", "boto3", "scipy", "matplotlib")
_AWS = ("boto3", "botocore", "moto", "sagemaker")

# Inside functions.
_SPEAKS_MXNET = (
    "tracking/models/gluon.py",
    "tracking/models/serving/runtime.py",
    "tracking/models/serving/runtime.py",
)

_BLOCK = """
import importlib, sys

class Blocked:
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is forbidden here")
        return None

sys.meta_path.insert(0, Blocked(sys.argv[2].split(",")))
for module in sys.argv[1].split(","):
    importlib.import_module(module)
"""


def modules(package: str) -> list[str]:
    """Every module of a package, but for the ones that run when they are imported."""
    paths = sorted((ROOT / package).rglob("*.py"))
    dotted = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths]
    return [name for name in dotted if not name.endswith("__main__")]


def existing(*names: str) -> list[str]:
    """Those of the modules whose file is there."""
    return [
        n for n in names if (ROOT / (n.replace(".", "/") + ".py")).exists() or (ROOT / n.replace(".", "/")).is_dir()
    ]


def import_without(names: list[str], blocked: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BLOCK, ",".join(names), ",".join(blocked)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def imports(path: Path) -> set[str]:
    """The top-level packages a file names anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    "module", ["tracking.names", "tracking.journal.writer", "tracking.run", "tracking.store.store"]
)
def test_the_write_side_needs_the_standard_library_alone(module: str) -> None:
    import_without([module], _HEAVY)


def test_tracking_stands_without_the_other_packages_mxnet_and_aws() -> None:
    import_without(modules("tracking"), ("trainers", "reports", "mxnet", "gluoncv", "onnx", "onnxruntime", *_AWS))


def test_reports_stand_without_the_trainers_mxnet_and_aws() -> None:
    import_without(modules("reports"), ("trainers", "mxnet", "gluoncv", *_AWS))


@pytest.mark.parametrize(
    "module",
    existing("trainers.config.config", "trainers.config.study", "trainers.jobs", "trainers.run", "tracking.__main__"),
)
def test_the_command_line_answers_without_heavy_imports(module: str) -> None:
    import_without([module], ("mlflow", "mxnet", "gluoncv", "pandas", *_AWS))


def test_the_block_blocks() -> None:
    with pytest.raises(AssertionError, match="pandas is forbidden here"):
        import_without(["tracking.frame.frame"], ("pandas",))


@pytest.mark.parametrize("path", sorted((ROOT / "tracking").rglob("*.py")), ids=lambda p: p.name)
def test_tracking_never_names_the_other_packages(path: Path) -> None:
    forbidden = {"trainers", "reports", *_AWS}
    if path.relative_to(ROOT).as_posix() not in _SPEAKS_MXNET:
        forbidden |= {"mxnet", "gluoncv"}
    assert not imports(path) & forbidden


@pytest.mark.parametrize("path", sorted((ROOT / "reports").rglob("*.py")), ids=lambda p: p.name)
def test_reports_never_name_the_trainers_mxnet_or_aws(path: Path) -> None:
    assert not imports(path) & {"trainers", "mxnet", "gluoncv", *_AWS}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "trainers").rglob("*.py")), ids=lambda p: p.relative_to(ROOT / "trainers").as_posix()
)
def test_aws_is_spoken_to_in_its_room_alone(path: Path) -> None:
    if (ROOT / "trainers" / "sagemaker") not in path.parents:
        assert not imports(path) & set(_AWS)
