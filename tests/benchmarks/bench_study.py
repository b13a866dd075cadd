"""What a study of many runs costs beside the training: planned, run and reported with runs that train nothing.

python tests/benchmarks/bench_study.py [--runs 1000] [--search]
Milliseconds of this process's CPU a run, without the stub's own; the memory after a tenth of the runs and at the end.
``--search`` lets Optuna's TPE choose them instead; its place ends each run at the first look.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MATRIX = """
title = "Many runs"
seeds = {seeds}
[settings]
image_shape = "1,8,8"
epochs = 3
[[runs]]
num_layers = [20, 32]
learning_rate = [0.003, 0.01, 0.03, 0.1, 0.3]
"""
SEARCH = """
title = "Many trials"
[settings]
image_shape = "1,8,8"
epochs = 3
[search]
trials = {trials}
pruner = "median"
[search.space]
num_layers = [20, 32]
learning_rate = {{ low = 0.001, high = 1.0, log = true }}
"""


class Used:
    """CPU seconds and memory of this process; ``stub_s`` are the runs' own."""

    def __init__(self) -> None:
        self.began, self.stub_s, self.runs, self.memory = time.process_time(), 0.0, 0, dict[int, int]()

    @contextlib.contextmanager
    def stub(self) -> Any:
        begin = time.process_time()
        yield
        self.stub_s += time.process_time() - begin
        self.runs += 1
        self.memory[self.runs] = memory_mib()

    def phase(self, name: str, runs: int) -> None:
        spent = time.process_time() - self.began - self.stub_s
        print(f"{name:10} {1000 * spent / runs:6.1f} ms a run", file=sys.stderr, flush=True)
        self.began, self.stub_s = time.process_time(), 0.0


def memory_mib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def score(config: Any, epoch: int) -> float:
    return round((0.5 + config.num_layers / 100 - config.learning_rate / 2) * (1 - 0.5**epoch) + config.seed / 1e5, 6)


def matrix(runs: int, used: Used) -> None:
    from tests.support.runs import Filler
    from tracking import names
    from tracking.store import resolve
    from trainers.config import study as studies
    from trainers.launch import local, plan
    from trainers.training import experiment

    Path("many.toml").write_text(MATRIX.format(seeds=list(range(runs // 10))))
    filler = Filler(resolve().tracking_uri)

    def run(config: Any, **_: Any) -> experiment.Outcome:
        with used.stub():
            scores = {names.BEST_VALIDATION_ACCURACY: score(config, 3), names.TOTAL_TIME_S: 3.0}
            run_id = filler.run(
                config.run_name,
                params=config.params(),
                tags=dict(config.tags),
                metrics={**scores, names.EPOCH_TIME_S: 1.0},
            )
        return experiment.Outcome(journal_id="", run_id=run_id, status="FINISHED", exit_code=0, scores=scores)

    experiment.run = run
    filler.run("before", params={"dataset": "digits", "num_layers": 20}, metrics={names.EPOCH_TIME_S: 1.0})
    for kind in (20, 32):
        config = studies.load("many.toml").runs[0].config
        filler.run("known", params={**config.params(), "num_layers": kind}, metrics={names.EPOCH_TIME_S: 1.0})
    used.began = time.process_time()
    study = studies.load("many.toml")
    plan.of_study(study, resolve(), parallel=1, again=False)
    used.phase("planned", runs)
    assert local.run(study, quiet=True) == 0
    used.phase("run", runs)
    assert local.run(studies.load("many.toml"), quiet=True) == 0
    used.phase("run again", runs)
    import reports

    reports.study("many", resolve()).save(Path("many.html"))
    used.phase("reported", runs)


def search(runs: int, used: Used) -> None:
    from tests.support.runs import Filler
    from tracking import names
    from tracking import run as tracked
    from tracking.store import resolve
    from trainers.config import study as studies
    from trainers.launch import parent
    from trainers.launch.search import Searching

    Path("trials.toml").write_text(SEARCH.format(trials=runs))
    filler = Filler(resolve().tracking_uri)

    class Done:
        def __init__(self, config: Any) -> None:
            self.config, self.reached, self.stopped = config, 0, False
            self.run = tracked.start(run_name=config.run_name, root=resolve().journals, live=None, system_metrics=False)
            self.run.set_tags(dict(config.tags))

        def state(self) -> str:
            if self.reached == 3 or self.stopped:
                return "killed" if self.stopped else "finished"
            with used.stub():
                used.runs -= self.reached < 2
                self.reached += 1
                value = score(self.config, self.reached)
                self.run.log_metrics({names.VALIDATION_ACCURACY: value}, step=self.reached)
                if self.reached == 3:
                    ends = {names.BEST_VALIDATION_ACCURACY: value, names.TOTAL_TIME_S: 3.0}
                    filler.run(
                        self.config.run_name, params=self.config.params(), tags=dict(self.config.tags), metrics=ends
                    )
                    self.run.finish("FINISHED")
            return "running"

        def cancel(self) -> None:
            self.stopped = True
            self.run.finish("KILLED")

        def why(self) -> str:
            return ""

    class Place:
        slots, attempts = 4, 1

        def submit(self, config: Any, former: Any) -> Done:
            return Done(config)

        def under_way(self, key: str, former: Any) -> None:
            return None

        def close(self, directory: Path) -> None:
            return None

        def wait(self) -> None:
            return None

    used.began = time.process_time()
    study, store = studies.load("trials.toml"), resolve()
    with parent.StudyRun(study, store) as whole:
        loop = Searching(study, Place(), store, parent=whole.journal_id)  # type: ignore[arg-type]
        print(loop.run(), file=sys.stderr)
        used.phase("searched", runs)
        whole.conclude(loop.trials())
    used.phase("reported", runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--search", action="store_true")
    asked = parser.parse_args()
    used = Used()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        (search if asked.search else matrix)(asked.runs, used)
        os.chdir("/")
    early = used.memory[min(used.memory, key=lambda count: abs(count - asked.runs // 10))]
    print(f"memory     {early} MiB after a tenth of the runs, {used.memory[max(used.memory)]} MiB at the end of them")


if __name__ == "__main__":
    main()
