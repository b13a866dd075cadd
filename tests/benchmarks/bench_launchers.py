"""Several launchers of one study, killed at random (SIGKILL) and started again: every run is finished once.

python tests/benchmarks/bench_launchers.py [--runs 8] [--kills 6] [--postgres]
With --postgres each launcher has a folder of its own, as on machines that share a database alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import ROOT
from tests.support.postgres import postgres
from tracking import names
from tracking.journal.files import is_held
from tracking.store import Store

EPOCHS = 6
STUDY = """
title = "does it survive?"
seeds = {seeds}
[settings]
num_layers = 20
image_shape = "1,8,8"
mini_batch_size = 64
epochs = {epochs}
[[runs]]
name = "one"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--postgres", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        uri = stack.enter_context(postgres()) if asked.postgres else f"sqlite:///{folder}/shared/mlruns/mlflow.db"
        (folder / "study.toml").write_text(STUDY.format(seeds=list(range(asked.runs)), epochs=EPOCHS))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": uri}

        def launch(number: int) -> subprocess.Popen[bytes]:
            work = folder / (f"machine-{number % 2}" if asked.postgres else "shared")
            work.mkdir(exist_ok=True)
            words = ["-m", "trainers.run", "--study", str(folder / "study.toml"), "--parallel", "2", "--quiet"]
            with (folder / f"launcher-{number % 2}.log").open("ab") as log:
                return subprocess.Popen([sys.executable, *words], cwd=work, env=environment, stdout=log, stderr=log)

        store = Store(uri, folder / "artifacts", folder / "unused")
        store.client()
        random.seed(1)
        began, kills = time.monotonic(), 0
        running = {number: launch(number) for number in range(2)}
        while any(one.poll() is None for one in running.values()):
            time.sleep(random.uniform(1, 8))
            number = random.randrange(2)
            trains = any(os.stat(path).st_size > 6000 for path in _journals(folder) if is_held(path.parent))
            if kills < asked.kills and trains and running[number].poll() is None:
                running[number].kill()
                running[number].wait()
                running[number] = launch(number)
                kills += 1
        codes = [one.wait() for one in running.values()]
        return _verdict(store, asked.runs, kills, codes, time.monotonic() - began, folder)


def _journals(folder: Path) -> list[Path]:
    return list(folder.glob("*/mlruns/journals/*/journal-000001.jsonl"))


def _verdict(store: Store, count: int, kills: int, codes: list[int], seconds: float, folder: Path) -> int:
    runs = [run for run in store.runs() if names.STUDY_RUN in run.data.tags]
    status = Counter(run.info.status for run in runs)
    finished = Counter(run.data.tags[names.STUDY_RUN] for run in runs if run.info.status == "FINISHED")
    client = store.client()
    whole = sum(
        sorted(point.step for point in client.get_metric_history(run.info.run_id, names.VALIDATION_ACCURACY))
        == list(range(1, EPOCHS + 1))
        for run in runs
        if run.info.status == "FINISHED"
    )
    resumed = sum(names.RESUMED in run.data.tags for run in runs)
    print(
        f"{count} runs, {kills} launchers killed: {dict(status)}, {len(finished)} different ones finished, {whole} with"
        f" every epoch once, {resumed} resumed; exit codes {codes}, {seconds:.0f} s"
    )
    good = len(finished) == whole == count and set(finished.values()) == {1} and codes == [0, 0]
    good = good and not status.keys() - {"FINISHED", "KILLED"}
    if not good:
        for path in sorted(folder.glob("launcher-*.log")):
            print(f"== {path.name}", path.read_text()[-4000:], sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
