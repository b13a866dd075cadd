"""kill -9 of a search or of one of its runs at random moments, until the search is done: is each run ended once?

python tests/benchmarks/bench_kill.py [--kills 50] [--trials 30] [--seed 0]
The runs are real processes that train nothing; what starts, resumes and ends them is what ``--parallel 3`` has.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, EPOCH_S = 5, 0.3
STUDY = """
title = "Killed"
[settings]
num_layers = 20
image_shape = "1,8,8"
epochs = {epochs}
[search]
trials = {trials}
sampler = "random"
pruner = "median"
[search.space]
learning_rate = {{ low = 0.001, high = 1.0, log = true }}
"""


def run(config_file: str, former: str) -> None:
    """A run: an epoch a moment, each kept before the next."""
    from tracking import names
    from tracking import run as tracked
    from trainers.config.text import build, from_toml

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)
    config = build(from_toml(Path(config_file)))
    root = Path("mlruns/journals").resolve()
    if former:
        journal = tracked.resume(root / former, live=None, system_metrics=False)
    else:
        journal = tracked.start(run_name=config.run_name, root=root, live=None, system_metrics=False)
        journal.set_tags(config.tags)
    state = journal.dir / "state"
    state.mkdir(exist_ok=True)
    with journal:
        for epoch in range(len(list(state.iterdir())) + 1, EPOCHS + 1):
            time.sleep(EPOCH_S)
            score = (1 - config.learning_rate / 2) * (1 - 0.5**epoch)
            journal.log_metrics({names.VALIDATION_ACCURACY: score}, step=epoch)
            (state / f"state-{epoch:04d}.npz").touch()


def search() -> None:
    """The study's process."""
    from tracking import store as stores
    from trainers.config import Config
    from trainers.config import study as studies
    from trainers.config.text import to_toml
    from trainers.launch import search as searching
    from trainers.launch.job import LocalJob, LocalLauncher

    class Launcher(LocalLauncher):
        def submit(self, config: Config, resume: str = "", lock: int | None = None) -> LocalJob:
            path = self.folder / f"{os.getpid()}-{time.time_ns()}.toml"
            path.write_text(to_toml(config))
            keep = () if lock is None else (lock,)
            argv = [sys.executable, __file__, "--run", str(path), resume]
            return LocalJob(subprocess.Popen(argv, pass_fds=keep, start_new_session=True), path.with_suffix(".log"))

    study, store = studies.load("killed.toml"), stores.resolve()
    with searching.alone(study, store):
        place = searching.LocalPlace(Launcher(store.journals.parent / "jobs"), 3, store)
        searching.Searching(study, place, store).run()


def living(folder: Path) -> list[int]:
    """The runs' processes that work in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"--run" in words and __file__.encode() in words and (entry / "cwd").resolve() == folder:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    moments, killed = random.Random(asked.seed), collections.Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "killed.toml").write_text(STUDY.format(epochs=EPOCHS, trials=asked.trials))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        while True:
            argv = [sys.executable, __file__, "--search"]
            process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            threading.Thread(target=process.stdout.read, daemon=True).start()
            while process.poll() is None and killed.total() < asked.kills:
                time.sleep(moments.uniform(0.1, 3.0))
                victims = living(folder)
                if victims and moments.random() < 0.5:
                    os.kill(moments.choice(victims), signal.SIGKILL)
                    killed["runs"] += 1
                elif process.poll() is None:
                    process.kill()
                    killed["search"] += 1
                    break
            if process.wait() == 0:
                break
        os.chdir(folder)
        report(folder, killed)


def report(folder: Path, killed: collections.Counter[str]) -> None:
    """What came of it; the exit code is 1 where a run is lost or doubled."""
    from tracking import store as stores
    from tracking.journal.events import journals
    from trainers.config import study as studies
    from trainers.launch.progress.follow import Followed
    from trainers.launch.sampler import Chooser

    study, store = studies.load("killed.toml"), stores.resolve()
    assert study.search is not None
    trials = Chooser(study.name, study.search, store).summary()
    states = collections.Counter(row["state"] for row in trials)
    ends = collections.Counter[str]()
    finished = collections.Counter[str]()
    for directory in journals(store.journals):
        seen = Followed(directory).look()
        ends[seen.status or "no end"] += 1
        if seen.status == "FINISHED":
            finished[seen.tags["study_run"]] += 1
    doubled = [key for key, count in finished.items() if count > 1]
    lost = [row["number"] for row in trials if row["state"] == "complete" and row["runs"][0] not in finished]
    print(f"killed: {dict(killed)}; trials: {dict(states)}; journals: {dict(ends)}; still alive: {len(living(folder))}")
    print(
        f"doubled: {len(doubled)}, lost: {len(lost)}, unended: {states['running'] + ends['no end'] + ends['RUNNING']}"
    )
    sys.exit(1 if doubled or lost or states["running"] or ends["no end"] or ends["RUNNING"] else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(*sys.argv[2:4])
    elif sys.argv[1:2] == ["--search"]:
        search()
    else:
        main()
