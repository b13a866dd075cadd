"""A Ray cluster of three nodes on this machine, 12 runs, a node killed twice, the launcher once: every run ends once.

python tests/benchmarks/bench_ray.py   (in an environment that has ray[default] beside this project; else it says so)
The nodes are processes of ``ray start`` with one processor each. Nothing of it is left running.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import ROOT
from tests.support.pictures import class_folders
from trainers.ray.client import RayClient, RayUnreachable

GCS_PORT, PORT = 26479, 28365
RUNS, EPOCHS = 12, 30


class Cluster:
    """Head and nodes, each a group of processes of its own, so that one of them can be killed whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": "",
            "RAY_DISABLE_USAGE_STATS": "1",
            "RAY_health_check_period_ms": "1000",
        }
        common = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
        head = ["--head", f"--port={GCS_PORT}", f"--dashboard-port={PORT}", "--dashboard-host=127.0.0.1"]
        self._node = [f"--address=127.0.0.1:{GCS_PORT}", *common]
        self.nodes = {"head": self._start("head", [*head, *common])}
        self.ids: dict[str, str] = {}
        self._known: set[str] = set()

    def start_node(self, name: str) -> None:
        """Add a node; Ray gives one up that takes half a minute, as on a busy machine, so it is tried again."""
        while not (found := self.alive() - self._known):
            if name not in self.nodes or self.nodes[name].poll() is not None:
                self.nodes[name] = self._start(name, self._node)
            time.sleep(1)
        self._known |= found
        (self.ids[name],) = found

    def note_head(self) -> bool:
        """Whether the head has come up as a node; it is not one of those that are started later."""
        self._known |= self.alive()
        return bool(self._known)

    def alive(self) -> set[str]:
        """The ids of the nodes that live."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/nodes?view=summary", timeout=30) as answer:
                nodes = [one.get("raylet", {}) for one in json.load(answer)["data"]["summary"]]
        except (OSError, ValueError, KeyError):
            return set()
        return {node["nodeId"] for node in nodes if node.get("state") == "ALIVE"}

    def kill_node(self, name: str, *, only_raylet: bool = False) -> None:
        """Kill a node with its runs, as when the power goes; or Ray's own process alone, whose runs Ray ends itself."""
        family = _family(self.nodes[name].pid)
        for process in family:
            with contextlib.suppress(psutil.Error):
                if not only_raylet or process.name() == "raylet":
                    process.kill()
        node = self.nodes.pop(name)
        with contextlib.suppress(subprocess.TimeoutExpired):
            node.wait(10)
        for one in family:
            with contextlib.suppress(psutil.Error):
                if "trainers.ray.node" not in " ".join(one.cmdline()):
                    one.kill()

    def stop(self) -> None:
        for name in reversed(list(self.nodes)):
            self.kill_node(name)

    def _start(self, name: str, words: list[str]) -> subprocess.Popen[bytes]:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *words]
        ray += [f"--temp-dir={self.folder / name}"]  # else a node removes what another's jobs run in
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(ray, env=self.environment, stdout=log, stderr=log, start_new_session=True)


def _family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _nodes_of(client: RayClient) -> Counter[str]:
    """How many jobs run on each node."""
    try:
        return Counter(str(job["driver_node_id"]) for job in client.jobs() if job["status"] == "RUNNING")
    except RayUnreachable:
        return Counter()


def main() -> int:
    if importlib.util.find_spec("ray") is None:
        print("ray is not installed here: nothing measured (pip install 'ray[default]')")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="bench-ray-"))
    work = folder / "work"
    work.mkdir()
    class_folders(folder / "pets", per_class=40, size=(28, 28))
    (folder / "study.toml").write_text(
        f'title = "does it survive?"\nseeds = {list(range(RUNS))}\n[settings]\nepochs = {EPOCHS}\nnum_layers = 20\n'
        f'dataset = "{folder / "pets"}"\nimage_shape = "3,28,28"\nmini_batch_size = 16\n[[runs]]\nname = "one"\n'
    )
    cluster, client, launchers = Cluster(folder), RayClient(f"http://127.0.0.1:{PORT}"), 0
    words = ["-m", "trainers.run", "--study", str(folder / "study.toml"), "--on", "ray", "--poll", "1"]
    words += ["--ray-address", client.address, "--output", str(folder / "shared")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def launch() -> subprocess.Popen[bytes]:
        with (folder / "launcher.log").open("ab") as log:
            return subprocess.Popen([sys.executable, *words], cwd=work, env=environment, stdout=log, stderr=log)

    started, kills = time.monotonic(), 0
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                print("Ray", client.version())
                break
            except RayUnreachable:
                time.sleep(1)
        while not cluster.note_head():
            time.sleep(1)
        cluster.start_node("b")
        cluster.start_node("c")
        launcher, launchers, began = launch(), 1, time.monotonic()
        while launcher.poll() is None and time.monotonic() - began < 1500:
            time.sleep(2)
            running = _nodes_of(client)
            if kills < 2 and running[cluster.ids["b"]] and _epochs_of(folder, client, cluster.ids["b"]) > 2:
                kills += 1
                print(f"{time.monotonic() - began:.0f} s: node b is killed, with {dict(running)} running", flush=True)
                cluster.kill_node("b", only_raylet=kills == 2)
                cluster.start_node("b")
            elif kills == 2 and launchers == 1 and len(running) > 1:
                print(f"{time.monotonic() - began:.0f} s: the launcher is killed, and started again", flush=True)
                launcher.kill()
                launcher.wait()
                launcher, launchers = launch(), 2
        code = launcher.poll()
        if code is None:
            launcher.kill()
        return _verdict(work, code, kills, len(client.jobs()) - RUNS, time.monotonic() - began)
    finally:
        cluster.stop()
        print(f"in all {time.monotonic() - started:.0f} s; the last lines of the launcher:")
        print("".join((folder / "launcher.log").read_text().splitlines(keepends=True)[-60:])[:6000])
        if "--keep" not in sys.argv:
            shutil.rmtree(folder, ignore_errors=True)


def _epochs_of(folder: Path, client: RayClient, node: str) -> int:
    """How many epochs the run has written that is on this node."""
    for job in client.jobs():
        if job["driver_node_id"] == node and job["status"] == "RUNNING":
            root = Path(job["runtime_env"]["env_vars"]["TRAINERS_OUTPUT"])
            return sum(path.read_text().count('"validation_accuracy"') for path in root.glob("journals/*/journal-*"))
    return 0


def _verdict(work: Path, code: int | None, kills: int, again: int, seconds: float) -> int:
    os.chdir(work)
    from tracking import names
    from tracking.store import resolve

    store = resolve()
    runs = [run for run in store.runs() if names.STUDY_RUN in run.data.tags]
    status = Counter(run.info.status for run in runs)
    keys = Counter(run.data.tags[names.STUDY_RUN] for run in runs)
    client = store.client()
    epochs = [
        sorted(point.step for point in client.get_metric_history(run.info.run_id, names.VALIDATION_ACCURACY))
        for run in runs
    ]
    whole = sum(steps == list(range(1, EPOCHS + 1)) for steps in epochs)
    print(
        f"{len(runs)} runs {dict(status)}, {len(keys)} different, {whole} with every epoch once, {again} submitted"
        f" again after {kills} deaths of a node; launcher's exit code {code}, {seconds:.0f} s"
    )
    good = code == 0 and len(runs) == len(keys) == whole == status["FINISHED"] == RUNS and kills == 2 and again
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
