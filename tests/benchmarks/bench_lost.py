"""The same program with other trackers, the same kills and the same outage: what is lost, doubled, ended wrongly.

    python tests/benchmarks/bench_lost.py [TOOL …] [--kills 200] [--outages 5] [--peers DIR]

The program logs two metrics a step; an oracle outside of the store notes each call that returned. Each run is a forked
process that is killed (-9) at a random moment; then the tool's own recovery runs, and its store is read. An outage: a
server that closes every connection for some seconds while the program logs. Trackio, W&B and Aim are wanted in
environments of their own, DIR/peer-trackio and so on; those that are not there are left out.
"""

from __future__ import annotations

import argparse
import collections
import glob
import json
import os
import random
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STEPS, PAUSE_S = 60, 0.03
OUTAGE_STEPS, OUTAGE_PAUSE_S, OUTAGE_S = 60, 0.1, 10.0
Found = dict[str, tuple[collections.Counter[int], str | None]]  # by run: how often each step is there; its status


def _by_sql(database: str, metrics: str, runs: str) -> Found:
    with closing(sqlite3.connect(database)) as connection:  # may take back what a killed writer left half written
        found: Found = {name: (collections.Counter(), status) for name, status in connection.execute(runs)}
        for name, step in connection.execute(metrics):
            found.setdefault(name, (collections.Counter(), None))[0][step] += 1
    return found


class Bare:
    """MLflow as its pages show it, to a file or a server."""

    package, asynchronously = "mlflow", False

    def version(self) -> str:
        return version(self.package)

    def load(self, address: str) -> None:
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

        self.address = address or f"sqlite:///{os.getcwd()}/mlflow.db"
        mlflow.set_tracking_uri(f"sqlite:///{os.getcwd()}/mlflow.db")
        if not address:
            mlflow.search_experiments()

    def begin(self, name: str) -> None:
        import mlflow

        mlflow.set_tracking_uri(self.address)
        mlflow.start_run(run_name=name)

    def log(self, values: dict[str, float], step: int) -> None:
        import mlflow

        mlflow.log_metrics(values, step=step, synchronous=not self.asynchronously)

    def end(self) -> None:
        import mlflow

        mlflow.end_run()

    def recover(self) -> None:
        """There is nothing to recover from."""

    def found(self) -> Found:
        metrics = "SELECT r.name, m.step FROM metrics m JOIN runs r USING (run_uuid) WHERE m.key = 'loss'"
        return _by_sql("mlflow.db", metrics, "SELECT name, status FROM runs")


class Async(Bare):
    """MLflow's asynchronous logging."""

    asynchronously = True


class Ours(Bare):
    """This package on the same store."""

    def version(self) -> str:
        from tracking import __version__

        return f"{__version__}, MLflow {version(self.package)}"

    def load(self, address: str) -> None:
        from tracking.store import resolve

        super().load(address)
        os.environ["MLFLOW_TRACKING_URI"] = self.address
        if not address:
            resolve().client()

    def begin(self, name: str) -> None:
        from tracking import run as tracked

        self.run = tracked.start(name, experiment="lost", system_metrics=False)

    def log(self, values: dict[str, float], step: int) -> None:
        self.run.log_metrics(values, step=step)

    def end(self) -> None:
        self.run.finish()

    def recover(self) -> None:
        from tracking.__main__ import main

        main(["repair"])
        main(["sync"])


class Trackio:
    """Trackio, which writes to sqlite from a thread; ``fragments``: to files, which its server reads."""

    package, mode = "trackio", "sqlite"

    def version(self) -> str:
        return version(self.package)

    def load(self, address: str) -> None:
        os.environ.update(TRACKIO_DIR=f"{os.getcwd()}/trackio", TRACKIO_STORAGE_MODE=self.mode)
        import trackio

        self.trackio = trackio

    def begin(self, name: str) -> None:
        self.trackio.init(project="lost", name=name, embed=False, auto_log_cpu=False, auto_log_gpu=False)

    def log(self, values: dict[str, float], step: int) -> None:
        self.trackio.log(values, step=step)

    def end(self) -> None:
        self.trackio.finish()

    def recover(self) -> None:
        from trackio import fragments

        fragments.import_inbox_dir()

    def found(self) -> Found:
        path = "trackio/lost.db"
        return _by_sql(path, "SELECT run_name, step FROM metrics", "SELECT DISTINCT run_name, NULL FROM metrics")


class Fragments(Trackio):
    """Trackio's storage mode jsonl."""

    mode = "jsonl"


class Wandb:
    """W&B offline; its file is read as its format says, since ``wandb sync`` wants W&B's server."""

    package = "wandb"

    def version(self) -> str:
        return version(self.package)

    def load(self, address: str) -> None:
        import wandb

        self.wandb = wandb

    def begin(self, name: str) -> None:
        settings = self.wandb.Settings(silent=True, x_disable_stats=True, console="off")
        self.run = self.wandb.init(project="lost", name=name, mode="offline", dir=".", settings=settings)

    def log(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)

    def end(self) -> None:
        self.run.finish()

    def recover(self) -> None:
        time.sleep(10)  # its service outlives the program and may write what it has

    def found(self) -> Found:
        from wandb.proto.wandb_internal_pb2 import Record

        found: Found = {}
        for path in glob.glob("wandb/*/*.wandb"):
            name, steps, status = "", collections.Counter[int](), None
            for record in map(Record.FromString, _level_records(Path(path).read_bytes())):
                kind = record.WhichOneof("record_type")
                name = record.run.display_name if kind == "run" else name
                status = "FINISHED" if kind == "exit" else status
                for item in record.history.item if kind == "history" else ():
                    if [*item.nested_key, item.key][0] == "_step":
                        steps[int(item.value_json)] += 1
            found[name] = steps, status
        return found


def _level_records(data: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log with W&B's 7 bytes before it: blocks of 32 KiB, pieces with a header of 7 bytes."""
    offset, whole = 7, b""
    while offset + 7 <= len(data):
        if (left := 32768 - offset % 32768) < 7:
            offset += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, offset)
        piece = data[offset + 7 : offset + 7 + size]
        if kind == 0 or len(piece) < size:
            return
        whole, offset = whole + piece, offset + 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""


class Aim:
    """Aim into a folder."""

    package = "aim"

    def version(self) -> str:
        return version(self.package)

    def load(self, address: str) -> None:
        from aim import Repo

        Repo.from_path("aim", init=True)

    def begin(self, name: str) -> None:
        from aim import Run

        quiet: dict[str, Any] = {"system_tracking_interval": None, "capture_terminal_logs": False}
        self.run = Run(repo="aim", experiment="lost", log_system_params=False, **quiet)
        self.run.name = name

    def log(self, values: dict[str, float], step: int) -> None:
        self.run.track(values, step=step)

    def end(self) -> None:
        self.run.report_successful_finish()
        self.run.close()

    def recover(self) -> None:
        subprocess.run([f"{sys.prefix}/bin/aim", "storage", "--repo", "aim", "reindex", "-y"], capture_output=True)

    def found(self) -> Found:
        from aim import Repo, Run

        found: Found = {}
        for key in Repo("aim").list_all_runs():
            steps = collections.Counter[int]()
            with suppress(Exception):  # a run that was killed early cannot be opened
                run = Run(key, repo="aim", read_only=True)
                for metric in run.metrics():
                    if metric.name == "loss":
                        steps.update(metric.data.indices_list())
                found[run.name] = steps, "RUNNING" if run.active else "FINISHED"
        return found


TOOLS: dict[str, type[Any]] = {
    "this package": Ours,
    "this package, server": Ours,
    "MLflow, sqlite": Bare,
    "MLflow, server": Bare,
    "MLflow async, server": Async,
    "Trackio, sqlite": Trackio,
    "Trackio, fragments": Fragments,
    "W&B offline": Wandb,
    "Aim": Aim,
}


def program(tool: Any, name: str, steps: int, pause_s: float, oracle: int) -> None:
    """What all of them run: log, and say after each call that it returned and how long it took."""
    begin = time.monotonic()
    tool.begin(name)
    for step in range(steps):
        before = time.monotonic()
        try:
            tool.log({"loss": 1 / (step + 1), "accuracy": step / steps}, step)
        except Exception as error:
            os.write(oracle, f"{json.dumps({'run': name, 'error': type(error).__name__})}\n".encode())
            break
        slow = time.monotonic() - before
        os.write(oracle, f"{json.dumps({'run': name, 'step': step, 's': slow})}\n".encode())
        time.sleep(pause_s)
    else:
        os.write(oracle, f"{json.dumps({'run': name, 'ending': True})}\n".encode())
        with suppress(Exception):
            tool.end()
            os.write(oracle, f"{json.dumps({'run': name, 'ended': True})}\n".encode())
    os.write(oracle, f"{json.dumps({'run': name, 'all': time.monotonic() - begin})}\n".encode())


def forked(tool: Any, name: str, steps: int, pause_s: float, oracle: int) -> int:
    """The program in a child; its process id."""
    pid = os.fork()
    if not pid:
        with suppress(BaseException):
            null = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(null, 1)
            os.dup2(null, 2)
            program(tool, name, steps, pause_s, oracle)
        os._exit(0)
    return pid


def worker(name: str, kills: int, seed: int, address: str, control: str) -> dict[str, Any]:
    """All runs of one tool, in the current folder; the counts. With ``control`` as many outages as ``kills`` says."""
    tool, moments = TOOLS[name](), random.Random(seed)
    tool.load(address)
    oracle = os.open("oracle", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    begin = time.monotonic()
    if control:  # the server is away from the tenth step on
        with socket.create_connection(("127.0.0.1", int(control))) as said:
            for number in range(kills):
                before = Path("oracle").read_bytes().count(b"step")
                pid = forked(tool, f"outage-{number}", OUTAGE_STEPS, OUTAGE_PAUSE_S, oracle)
                while Path("oracle").read_bytes().count(b"step") < before + 10:
                    time.sleep(0.05)
                said.sendall(b"down")
                time.sleep(OUTAGE_S)
                said.sendall(b"up")
                os.waitpid(pid, 0)
    else:
        os.waitpid(forked(tool, "whole", STEPS, PAUSE_S, oracle), 0)
        whole_s = time.monotonic() - begin
        for number in range(kills):
            pid = forked(tool, f"run-{number}", STEPS, PAUSE_S, oracle)
            time.sleep(moments.uniform(0, whole_s))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    pid = os.fork()  # what has forked is not what reads: no thread of it is here
    if not pid:
        with suppress(Exception):
            tool.recover()
        os._exit(0)
    os.waitpid(pid, 0)
    found = tool.found()
    done: dict[str, set[int]] = collections.defaultdict(set)
    ending, ended, seconds, slowest, errors = set(), set(), 0.0, 0.0, []
    for line in Path("oracle").read_text().splitlines():
        entry = json.loads(line)
        if "step" in entry:
            done[entry["run"]].add(entry["step"])
            slowest = max(slowest, entry["s"])
        elif "ending" in entry:
            ending.add(entry["run"])
        elif "ended" in entry:
            ended.add(entry["run"])
        elif "all" in entry:
            seconds = max(seconds, entry["all"])
        elif "error" in entry:
            errors.append(entry["error"])
    lost = sum(len(steps - set(found.get(run, (set(), None))[0])) for run, steps in done.items())
    doubled = sum(sum(steps.values()) - len(steps) for steps, _ in found.values())
    statuses = [(run, found[run][1] if run in found else None) for run in done]
    wrong = sum(
        status == "RUNNING" or (status == "FINISHED" and run not in ending) or (status != "FINISHED" and run in ended)
        for run, status in statuses
        if status is not None
    )
    return {
        "version": tool.version(),
        "logged": sum(map(len, done.values())),
        "lost": lost,
        "runs_lost": sum(1 for run, steps in done.items() if len(steps - set(found.get(run, (set(), 0))[0]))),
        "doubled": doubled,
        "wrong": wrong if any(status for _, status in statuses) else None,
        "seconds": seconds,
        "slowest": slowest,
        "errors": errors,
    }


class Relay:
    """In front of a server: hands bytes on, or closes every connection while it is told to."""

    def __init__(self, port: int) -> None:
        self.is_down, self._port = False, port
        self._open: set[socket.socket] = set()
        self.outer, self.control = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        for listener, serve in ((self.outer, self._relay), (self.control, self._listen)):
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()

    def _accept(self, listener: socket.socket, serve: Any) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        while word := connection.recv(16):
            self.is_down = word == b"down"
            for one in list(self._open) if self.is_down else ():
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _relay(self, connection: socket.socket) -> None:
        if self.is_down:
            connection.close()
            return
        inner = socket.create_connection(("127.0.0.1", self._port))
        self._open |= {connection, inner}
        back = threading.Thread(target=_pump, args=(inner, connection), daemon=True)
        back.start()
        _pump(connection, inner)
        back.join()
        self._open -= {connection, inner}


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _ask(name: str, folder: Path, python: str, rest: list[str]) -> dict[str, Any] | None:
    folder.mkdir(parents=True)
    argv = [python, "-W", "ignore", __file__, "--worker", name, *rest]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}: {done.stderr[-1500:]}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Run every tool and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=", ".join(TOOLS))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--outages", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", default="/tmp", help="folder of the environments peer-trackio, peer-wandb, peer-aim")
    asked = parser.parse_args()
    print(
        "| tool | fault | calls that returned | lost | in runs | doubled | wrong status | caller s | slowest call ms |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    sys.path.insert(0, str(ROOT))
    from tests.support.postgres import mlflow_server

    with tempfile.TemporaryDirectory(prefix="lost-") as name_of_folder:
        base = Path(name_of_folder)
        for name in asked.tools or TOOLS:
            package = TOOLS[name].package
            python = sys.executable if package == "mlflow" else f"{asked.peers}/peer-{package}/bin/python"
            if not os.path.exists(python):
                print(f"{name}: {python} is not there", file=sys.stderr)
                continue
            for fault, count in (("kill -9", asked.kills), ("outage", asked.outages)):
                arguments = ["--kills", str(count), "--seed", str(asked.seed)]
                folder = base / f"{len(list(base.iterdir()))}"
                if "server" not in name:
                    result = _ask(name, folder, python, arguments) if fault == "kill -9" else None
                else:
                    served = folder / "served"
                    served.mkdir(parents=True)
                    with mlflow_server(f"sqlite:///{served}/mlflow.db", served / "artifacts") as address:
                        relay = Relay(int(address.rpartition(":")[2]))
                        address = f"http://127.0.0.1:{relay.outer.getsockname()[1]}"
                        control = str(relay.control.getsockname()[1]) if fault == "outage" else ""
                        rest = [*arguments, "--address", address, "--control", control]
                        result = _ask(name, served / "client", python, [*rest, "--database", f"{served}/mlflow.db"])
                if result is None:
                    continue
                what = f"{count} kills" if fault == "kill -9" else f"server away {count} x {OUTAGE_S:.0f} s"
                what += f", {result['errors'][0]}" if result["errors"] else ""
                wrong = "none kept" if result["wrong"] is None else result["wrong"]
                counts = [f"{result[key]:,}" for key in ("logged", "lost", "runs_lost", "doubled")]
                times = [f"{result['seconds']:.1f}", f"{result['slowest'] * 1e3:,.0f}"]
                print(
                    f"| {name} ({result['version']}) | {what} | {' | '.join([*counts, str(wrong), *times])} |",
                    flush=True,
                )


def _work() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int)
    for name in ("--address", "--control", "--database"):
        parser.add_argument(name, default="")
    asked = parser.parse_args()
    if asked.database:
        os.symlink(asked.database, "mlflow.db")
    print(json.dumps(worker(asked.worker, asked.kills, asked.seed, asked.address, asked.control)))


if __name__ == "__main__":
    _work() if "--worker" in sys.argv else main()
