"""Installed by pip, not editable, and used far from the checkout: everything that the packages read is in the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.slow
SOURCES = ("tracking", "trainers", "reports", "pyproject.toml", "README.md", "LICENSE")
ARCHIVE = """
import io, tarfile
from trainers.sagemaker.aws.upload import code_archive

print(*tarfile.open(fileobj=io.BytesIO(code_archive())).getnames(), sep="\\n")
"""
SAVE = """
import tracking
from trainers.networks import backend, resnet

mxnet = backend.load()
net = resnet.build(20, 3, (1, 28, 28))
net.initialize()
net(mxnet.nd.zeros((1, 1, 28, 28)))
tracking.save_model(net, "saved", class_names=["a", "b", "c"], image_shape=(1, 28, 28))
"""
LOAD = """
import sys

sys.modules["tracking"] = sys.modules["trainers"] = None  # cannot be imported, even where they are installed
import mlflow, numpy

print(*mlflow.pyfunc.load_model("saved").predict(numpy.zeros((2, 28, 28, 1), "uint8"))["class_name"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``pip install`` filled from a copy of the sources; nothing is downloaded."""
    pytest.importorskip("setuptools", minversion="77", reason="an older setuptools cannot read this pyproject.toml")
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--quiet", "--target", folder / "site", folder / "source"], check=True, timeout=300)
    shutil.rmtree(folder / "source")
    return folder / "site"


def run(*argv: str, path: Path | None) -> str:
    """What a Python process prints, in the current directory, with ``path`` in place of the checkout."""
    environment = {**os.environ, "PYTHONPATH": "" if path is None else str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *argv], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_the_three_packages_and_no_tests(installed: Path, workdir: Path) -> None:
    folders = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert folders == {"bin", "reports", "tracking", "trainers"}
    where = run("-c", "import reports, tracking, trainers as t; print(t.__file__)", path=installed)
    assert where.startswith(str(installed))


def test_every_file_of_the_packages_is_in_it(installed: Path) -> None:
    for package in ("tracking", "trainers", "reports"):
        here = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.is_file()}
        there = {path.relative_to(installed) for path in (installed / package).rglob("*") if path.is_file()}
        assert there == {path for path in here if "__pycache__" not in path.parts}


def test_each_command_is_a_script(installed: Path, workdir: Path) -> None:
    entries = ConfigParser()
    (info,) = installed.glob("*.dist-info")
    entries.read(info / "entry_points.txt")
    scripts = entries["console_scripts"]
    assert sorted(scripts) == sorted(path.name for path in (installed / "bin").iterdir() if path.is_file())
    for name in scripts:
        assert "usage:" in run(str(installed / "bin" / name), "--help", path=installed)


def test_lists_and_plans(installed: Path, workdir: Path) -> None:
    listed = run("-m", "trainers.run", "--list", path=installed)
    assert "imagenet-34-50" in listed and "quickstart" in listed
    small = ["--num-layers=20", "--image-shape=1,8,8"]
    planned = run("-m", "trainers.run", "--study", "quickstart", *small, "--dry-run", path=installed)
    assert "7 runs, 0 already done:" in planned and not list(workdir.iterdir())


def test_a_report_of_a_store(installed: Path, workdir: Path) -> None:
    from tests.support.runs import demo, new_store

    (workdir / "mlruns").mkdir()
    demo(new_store(workdir / "mlruns"))
    run("-m", "reports", "leaderboard", "--out", "board.html", path=installed)
    page = (workdir / "board.html").read_text(encoding="utf-8")
    assert "on digits" in page and "<style>" in page and "<script>" in page


def test_a_job_gets_the_same_code(installed: Path, workdir: Path) -> None:
    sent = run("-c", ARCHIVE, path=installed)
    assert "trainers/config/presets.toml" in sent.split() and sent == run("-c", ARCHIVE, path=ROOT)


@pytest.mark.mxnet
def test_a_saved_model_brings_its_loader(installed: Path, workdir: Path) -> None:
    run("-c", SAVE, path=installed)
    first, second = run("-c", LOAD, path=None).split()
    assert first == second and first in "abc"
