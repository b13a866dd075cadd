"""The import law of the architecture: no circles, only downwards, and what may load what, with the rest blocked."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

_HEAVY = ("mlflow", "pandas", "numpy", "mxnet", "boto3", "scipy", "matplotlib")
_AWS = ("boto3", "botocore", "moto", "sagemaker")

# The only files that load MXNet; importing them does not.
_LOADS_MXNET = (
    "tracking/models/serving/runtime.py",
    "trainers/networks/backend.py",
    "trainers/data/readers/download.py",
)

# Each package's rooms from the bottom up: a room imports only what is left of it, for types too.
_ORDER = {
    "": "tracking < reports < trainers",
    "tracking": (
        "names < errors < journal models < store < frame importers run < gluon < registry < commands < __main__"
    ),
    "reports": ("errors stats store < document < metrics < charts settings baselines claims < board < runs < __main__"),
    "trainers": (
        "errors < data config < networks < training < launch < sagemaker < ray < run evaluate predict jobs < __main__"
    ),
    "trainers.data": (
        "catalog formats groups < pictures < dataset < batches readers < check source < pack sheet < __main__"
    ),
    "trainers.sagemaker": (
        "errors < aws < cost builtin < options < job < preflight watch < rehearsal container < command"
    ),
}

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


def files() -> dict[str, Path]:
    """Every module's file, by the module's name."""
    paths = (path for package in _ORDER[""].split(" < ") for path in sorted((ROOT / package).rglob("*.py")))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def modules(package: str) -> list[str]:
    """Every module of a package, but for the ones that run when they are imported."""
    return [name for name in files() if name.split(".")[0] == package and not name.endswith("__main__")]


def graph() -> dict[str, set[str]]:
    """Module -> the modules of this project that it imports: anywhere in its file, and for types too."""
    known = files()
    found: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & known.keys()
            elif isinstance(node, ast.ImportFrom):
                above = name.split(".")[: -node.level] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                whole = [f"{base}.{alias.name}" for alias in node.names]
                found[name] |= {one if one in known else base for one in whole} & known.keys()
    return found


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
    """The top-level packages a file names anywhere: inside functions, in ``import_module("…")``, ``find_spec("…")``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(attr="import_module" | "find_spec"), args=[ast.Constant(value=str(name))]):
                found.add(name.split(".")[0])
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_imports_form_no_circle() -> None:
    graphlib.TopologicalSorter(graph()).prepare()


@pytest.mark.parametrize("package", _ORDER)
def test_a_room_imports_only_rooms_below_it(package: str) -> None:
    rank = {room: level for level, rooms in enumerate(_ORDER[package].split(" < ")) for room in rooms.split()}
    prefix = f"{package}." if package else ""

    def room(name: str) -> str:
        return name.removeprefix(prefix).split(".")[0]

    inside = {name: imported for name, imported in graph().items() if name.startswith(prefix)}
    assert {room(name) for name in inside} == rank.keys(), "the order names every room, and no other"
    assert not [
        f"{name} imports {other}"
        for name, imported in inside.items()
        for other in sorted(imported & inside.keys())
        if room(name) != room(other) and rank[room(other)] >= rank[room(name)]
    ]


def test_the_architecture_shows_the_same_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package, order in list(_ORDER.items())[1:]:
        path = package.replace(".", "/")
        column = 2 if package == "trainers.sagemaker" else 1
        (table,) = (part for part in text.split("\n\n") if re.match(rf"\|.*`{path}/`", part))
        cells = [row.split("|")[column].partition(":")[0] for row in table.splitlines()[2:]]
        levels = [re.findall(r"`(\w+)/?`", level) for level in " < ".join(cells).split(" < ")]
        assert [set(level) for level in levels if level] == [set(level.split()) for level in order.split(" < ")], (
            package
        )


def test_what_saved_models_carry_imports_nothing_else_of_the_project() -> None:
    serving = {name: imported for name, imported in graph().items() if name.startswith("tracking.models.serving")}
    assert not set().union(*serving.values()) - serving.keys()


def test_the_front_doors_import_only_the_standard_library() -> None:
    import_without([*_ORDER[""].split(" < "), "tracking.gluon", "trainers.data"], _HEAVY)


def test_the_write_side_needs_the_standard_library_alone() -> None:
    journal = [name for name in files() if name.startswith("tracking.journal")]
    import_without(["tracking.names", "tracking.errors", "tracking.run", "tracking.store.store", *journal], _HEAVY)


def test_tracking_works_without_the_other_packages_mxnet_and_aws() -> None:
    import_without(modules("tracking"), ("trainers", "reports", "mxnet", "gluoncv", "onnx", "onnxruntime", *_AWS))


def test_reports_work_without_the_trainers_mxnet_and_aws() -> None:
    import_without(modules("reports"), ("trainers", "mxnet", "gluoncv", *_AWS))


@pytest.mark.parametrize(
    "module",
    [
        "reports.__main__",
        "tracking.__main__",
        "trainers.config.config",
        "trainers.config.study",
        "trainers.data.__main__",
        "trainers.evaluate",
        "trainers.jobs",
        "trainers.predict",
        "trainers.run",
    ],
)
def test_the_command_line_answers_without_heavy_imports(module: str) -> None:
    import_without([module], ("mxnet", "gluoncv", "mlflow", "pandas", *_AWS))


def test_the_block_blocks() -> None:
    with pytest.raises(AssertionError, match="pandas is forbidden here"):
        import_without(["tracking.frame.frame"], ("pandas",))


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ({"trainers"}, ("trainers/",)),
        ({"reports"}, ("reports/", "trainers/")),
        ({"mxnet", "gluoncv"}, _LOADS_MXNET),
        (set(_AWS), ("trainers/sagemaker/",)),
    ],
    ids=["trainers", "reports", "mxnet", "aws"],
)
def test_only_these_files_name(names: set[str], allowed: tuple[str, ...]) -> None:
    naming = [path.relative_to(ROOT).as_posix() for path in files().values() if imports(path) & names]
    assert naming and not [path for path in naming if not path.startswith(allowed)]


def test_pyproject_names_every_package_and_truly_which_files_import_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = text[text.index("dependencies = [") : text.index("dev = [")]
    module = {"scikit-learn": "sklearn", "opencv-python-headless": "cv2", "pyyaml": "yaml", "Pillow": "PIL"}
    declared = {module.get(name, name.replace("-", "_")) for name in re.findall(r'"([\w-]+)[^"]*"', needed)}
    lines = re.findall(r'^  "([\w-]+)[^"]*", *# (.*)$', needed, re.MULTILINE)
    said = [(name, path) for name, comment in lines for path in re.findall(r"[\w/]+\.py", comment)]
    assert len(said) > len(lines)
    assert not [
        f"{path} does not import {name}"
        for name, path in said
        if not (ROOT / path).is_file() or module.get(name, name.replace("-", "_")) not in imports(ROOT / path)
    ]
    # gluoncv comes without its list; distutils is setuptools'; Python 3.10 has no tomllib; the last three are used only
    # where they are there.
    others = {"botocore", "markupsafe", "gluoncv", "distutils", "tomllib", "torch", "pynvml", "starlette"}
    used = set().union(*(imports(path) for path in files().values())) - set(sys.stdlib_module_names)
    assert not used - declared - others - set(_ORDER[""].split(" < "))
