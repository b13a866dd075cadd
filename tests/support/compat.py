"""What works between this project and servers of other MLflow versions: ``make compat`` prints docs/compatibility.md.

Each version is installed into an environment of its own below the folder given first, serves a store of its own on
loopback, and is written to, read and loaded from with the MLflow installed here and with its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support import ROOT
from tests.support.postgres import mlflow_server

VERSIONS = ("2.9.2", "2.14.3", "2.22.5", "3.0.1", "3.5.1", "3.10.1", "3.17.2", "3.18.0")
COLUMNS = ("train live", "sync", "report", "load model, this client", "load model, the server's client")
# Of a model that needs nothing but Python, so that the oldest client can load it too.
_LOADER = "class Model:\n    def predict(self, data): return data\n\n\ndef _load_pyfunc(path): return Model()\n"
_MLMODEL = (
    "artifact_path: model\nflavors:\n  python_function:\n    code: code\n    data: .\n"
    "    loader_module: compat_loader\n    python_version: {python}\n"
    "model_uuid: 0123456789abcdef0123456789abcdef\nutc_time_created: '2026-01-01 00:00:00'\n"
)
_LOAD = "import sys, mlflow; print('loaded', mlflow.pyfunc.load_model(sys.argv[1]).predict([1])[0])"


def environment(folder: Path, version: str) -> Path:
    """The interpreter of an environment with this MLflow, made where there is none."""
    python = folder / version / "bin" / "python"
    if not (folder / version / ".ok").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / version], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
        # SQLAlchemy 2.1 and setuptools 81 dropped what older versions import.
        wanted = [f"mlflow=={version}", "sqlalchemy<2.1", "setuptools<81"]
        if subprocess.run([*install, *wanted]).returncode:
            # An index may have a release without the parts of it that are released apart.
            subprocess.run([*install, "mlflow", *wanted[1:]], check=True)
            subprocess.run([*install, "--no-deps", wanted[0]], check=True)
        (folder / version / ".ok").touch()
    return python


def model(folder: Path) -> Path:
    """A saved model as the trainers' in form."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "compat_loader.py").write_text(_LOADER)
    (folder / "MLmodel").write_text(_MLMODEL.format(python=sys.version.split()[0]))
    return folder


def lines(python: Path, address: str, folder: Path) -> dict[str, str]:
    """What works with the server at ``address``: for each of COLUMNS ``yes``, or why not."""
    import reports
    from tracking import run as tracked
    from tracking.__main__ import main as tracking
    from tracking.journal import Journal
    from tracking.store import resolve

    os.environ["MLFLOW_TRACKING_URI"] = address
    store = resolve(folder)
    found: dict[str, str] = {}
    loaded = model(folder / "model")

    def check(column: str, work: Callable[[], str | None]) -> None:
        try:
            found[column] = work() or "yes"
        except Exception as error:
            found[column] = f"no: {type(error).__name__}: {str(error).splitlines()[0][:200]}"

    def ended(name: str) -> str | None:
        [run] = store.runs(None, f"attributes.run_name = '{name}'")
        assert run.info.status == "FINISHED" and run.data.metrics["test_accuracy"] == 0.5, run.info.status
        assert run.data.params["num_layers"] == "20" and "replay_problems" not in run.data.tags, run.data.tags
        assert [one.dataset.digest for one in run.inputs.dataset_inputs] == ["d1"]
        lacks = run.data.tags.get("server_lacks")
        return f"yes; the server has no {lacks}" if lacks else None

    def live() -> str | None:
        with tracked.start(run_name="live", live=store, system_metrics=False, flush_s=120) as run:
            run.log_params({"num_layers": 20, "dataset": "digits"})
            run.log_dataset("test", name="digits", digest="d1", source="/d", num_images=5, num_classes=2)
            run.log_metrics({"test_accuracy": 0.5}, step=1)
            run.log_artifact(loaded)
        return ended("live")

    def sync() -> str | None:
        journal = Journal.create(store.journals, experiment=store.default_experiment, run_name="later")
        journal.params({"num_layers": 20})
        journal.dataset(context="test", name="digits", digest="d1", source="/d", num_images=5, num_classes=2)
        journal.metrics({"test_accuracy": 0.5}, step=1)
        journal.artifact(loaded)
        journal.status("FINISHED")
        journal.close()
        assert tracking(["sync"]) == 0
        return ended("later")

    def report() -> None:
        assert "50.0 %" in reports.leaderboard_text(store)

    def load(interpreter: Path | str) -> None:
        [run] = store.runs(None, "attributes.run_name = 'later'")
        done = subprocess.run(
            [interpreter, "-W", "ignore", "-c", _LOAD, f"runs:/{run.info.run_id}/model"],
            capture_output=True,
            text=True,
            env={**os.environ, "MLFLOW_TRACKING_URI": address},
            timeout=300,
        )
        if "loaded 1" not in done.stdout:
            raise RuntimeError(next(iter(done.stderr.strip().splitlines()[::-1]), "no word"))

    check(COLUMNS[0], live)
    check(COLUMNS[1], sync)
    check(COLUMNS[2], report)
    check(COLUMNS[3], lambda: load(sys.executable))
    check(COLUMNS[4], lambda: load(python))
    return found


def main() -> int:
    """Print the table; 1 where something does not work."""
    folder = Path(sys.argv[1]).absolute()
    versions = sys.argv[2:] or VERSIONS
    failed = False
    print("| server | " + " | ".join(COLUMNS) + " |\n" + "| --- " * (len(COLUMNS) + 1) + "|", flush=True)
    for version in versions:
        python = environment(folder, version)
        with tempfile.TemporaryDirectory() as scratch:
            os.chdir(scratch)
            with mlflow_server(f"sqlite:///{scratch}/server.db", Path(scratch) / "served", python=python) as address:
                found = lines(python, address, Path(scratch))
            os.chdir(ROOT)
        failed |= any(one.startswith("no") for one in found.values())
        print(f"| {version} | " + " | ".join(re.sub(r"\s+", " ", found[c]) for c in COLUMNS) + " |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
