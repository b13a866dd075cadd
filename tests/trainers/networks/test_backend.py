"""The door to MXNet: threads are decided before it is loaded, and what is missing is said in plain words."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT
from trainers.errors import BadInput
from trainers.networks import backend

VARIABLES = ("MXNET_OMP_MAX_THREADS", "OMP_NUM_THREADS")


def run_python(code: str, path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A fresh process in which ``path`` shadows what is installed."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment["PYTHONPATH"] = os.pathsep.join([str(path), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=environment | variables,
        capture_output=True,
        text=True,
    )


def stub(path: Path, package: str, code: str) -> None:
    (path / package).mkdir()
    (path / package / "__init__.py").write_text(textwrap.dedent(code))


def fake_system(path: Path, siblings: dict[int, str], **groups: str) -> Path:
    """A /sys with the named hyper-thread pairs and control group files."""
    for cpu, text in siblings.items():
        file = path / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(text + "\n")
    for name, text in groups.items():
        file = path / "fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return path


def test_the_users_thread_count_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MXNET_OMP_MAX_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert backend.threads() == 3
    monkeypatch.setenv("MXNET_OMP_MAX_THREADS", "5")
    assert backend.threads() == 5


@pytest.mark.parametrize("text", ["two", "0", "-1", "1.5"])
def test_a_thread_count_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(BadInput, match="OMP_NUM_THREADS=.*whole number from 1 up"):
        backend.threads()


def test_threads_are_set_before_mxnet_is_imported(tmp_path: Path) -> None:
    stub(
        tmp_path, "mxnet", "import os; SEEN = [os.environ.get(n) for n in ('OMP_NUM_THREADS', 'MXNET_OMP_MAX_THREADS')]"
    )
    code = (
        "from trainers.networks import backend as mx\n"
        "cores = mx.physical_cores(); print(mx.load().SEEN == [str(cores)] * 2)"
    )
    assert run_python(code, tmp_path).stdout.split() == ["True"]
    code = "from trainers.networks import backend as mx; print(mx.prepare(7), mx.load().SEEN)"
    assert run_python(code, tmp_path, OMP_NUM_THREADS="2").stdout.split("\n")[0] == "7 ['7', '7']"


def test_another_thread_count_comes_too_late_once_mxnet_runs(tmp_path: Path) -> None:
    stub(tmp_path, "mxnet", "")
    code = """
        from trainers.networks import backend as mx
        mx.prepare(2); mx.load(); print(mx.prepare(2))
        try: mx.prepare(3)
        except ValueError as error: print(error)
    """
    kept, refused = run_python(code, tmp_path).stdout.splitlines()
    assert kept == "2" and refused.startswith("--num-threads 3: this process already computes on 2")


def test_hyper_threads_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    pairs = fake_system(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})
    assert backend.physical_cores(pairs) == 2


def test_affinity_and_a_containers_quota_limit_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    single = {cpu: str(cpu) for cpu in range(8)}
    assert backend.physical_cores(fake_system(tmp_path / "free", single, cpu_dot_max="max 100000")) == 6
    assert backend.physical_cores(fake_system(tmp_path / "two", single, cpu_dot_max="250000 100000")) == 2
    old = {"cpu__cpu_dot_cfs_quota_us": "50000", "cpu__cpu_dot_cfs_period_us": "100000"}
    assert backend.physical_cores(fake_system(tmp_path / "old", single, **old)) == 1


@pytest.mark.parametrize(("library", "package"), [("libgomp.so.1", "libgomp1"), ("libquadmath.so.0", "libquadmath0")])
def test_a_missing_system_library_is_named_with_its_debian_package(tmp_path: Path, library: str, package: str) -> None:
    stub(tmp_path, "mxnet", f"raise OSError('{library}: cannot open shared object file: No such file or directory')")
    code = (
        "from trainers import errors\nfrom trainers.networks import backend as mx\n"
        "try: mx.load()\nexcept errors.TrainerError as error: print(error)"
    )
    assert run_python(code, tmp_path).stdout.strip().endswith(f"apt-get install {package}")


@pytest.mark.parametrize("module", ["mxnet", "gluoncv"])
def test_what_is_not_installed_is_named_with_the_install_line(tmp_path: Path, module: str) -> None:
    stub(tmp_path, "mxnet", "")
    code = f"""
        import sys
        sys.modules["{module}"] = None
        from trainers import errors; from trainers.networks import backend as mx
        for sys.version_info in (sys.version_info, (3, 13)):
            try: mx.zoo("cifarresnet")
            except errors.TrainerError as error: print(error)
    """
    said, newer = run_python(code, tmp_path).stdout.splitlines()
    assert f"Training needs {module}, which is not installed" in said and "pip install" in said
    assert "Python 3.10 to 3.12" in newer and "pip install" not in newer


def test_a_part_that_gluoncv_lacks_is_named(tmp_path: Path) -> None:
    stub(tmp_path, "mxnet", "")
    stub(tmp_path, "gluoncv", "raise ImportError('Unable to import modules due to missing `mxnet` & `torch`.')")
    code = """
        import sys
        sys.modules["yacs"] = None
        from trainers import errors; from trainers.networks import backend as mx
        try: mx.zoo("cifarresnet")
        except errors.TrainerError as error: print(error)
    """
    said = run_python(code, tmp_path)
    assert "gluoncv needs yacs, not installed here" in said.stdout, said.stderr


@pytest.mark.mxnet
def test_gluoncv_loads_beside_pytorch_2_and_under_a_newer_numpy(tmp_path: Path) -> None:
    stub(tmp_path, "torch", "__version__ = '2.13.0'")
    code = """
        import numpy
        former = numpy.__getattr__
        def newer(name):
            if name == "bool": raise AttributeError(name)  # as from 1.24 on
            return former(name)
        numpy.__getattr__ = newer
        from trainers.networks import backend as mx
        print(mx.zoo("cifarresnet").__name__, mx.load().__version__)
        import torch
        print(torch.__version__)
    """
    done = run_python(code, tmp_path)
    assert done.stdout.split() == ["gluoncv.model_zoo.cifarresnet", "1.9.1", "2.13.0"], done.stderr


def test_loading_the_networks_leaves_pictures_that_are_cut_off_unreadable(tmp_path: Path) -> None:
    code = (
        "import io, numpy as np\n"
        "from PIL import Image, ImageFile\n"
        "from trainers.networks import backend as mx\n"
        "mx.zoo('cifarresnet')\n"
        "assert ImageFile.LOAD_TRUNCATED_IMAGES is False\n"
        "whole = io.BytesIO()\n"
        "Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(whole, 'PNG')\n"
        "from trainers.data.pictures.codec import decode\n"
        "from trainers.errors import BadData\n"
        "try:\n"
        "    decode(whole.getvalue()[:60], 3, 'cut.png')\n"
        "except BadData:\n"
        "    raise SystemExit(0)\n"
        "raise SystemExit('a cut-off picture was decoded')\n"
    )
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_waiting_threads_sleep_while_the_throttle_is_on() -> None:
    backend.load()
    tasks, throttle = Path("/proc/self/task"), backend.Throttle()
    before, team = len(list(tasks.iterdir())), 1 + (os.cpu_count() or 1)  # a thread and those of its idle team
    for _ in range(2):
        throttle.on()
        throttle.on()
        wait_for(lambda: len(list(tasks.iterdir())) >= before + team)
        throttle.off()
        wait_for(lambda: len(list(tasks.iterdir())) < before + team)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
