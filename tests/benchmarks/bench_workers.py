"""Fresh starts of two workers on a tiny network: each begins with worker 0's weights and ends with those of one worker.

    python -m tests.benchmarks.bench_workers [STARTS]

Worker 1 draws other first weights. Ends with 1 where a start is wrong; about 10 s a start on two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.support import ROOT
from tests.trainers.training.test_devices import CLOSE, CONFIG, network, trained
from trainers.training.steps import checkpoints

_PROGRAM = "import sys; from tests.trainers.training import test_workers; test_workers.lead(sys.argv[1], 0)"


def main(starts: int) -> int:
    """The exit code."""
    wrong, took = 0, []
    with tempfile.TemporaryDirectory() as place:
        one, _ = trained(Path(place, "one"))
        for number in range(starts):
            folder, began = Path(place, str(number)), time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, str(folder)],
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=300,
            )
            took.append(time.monotonic() - began)
            try:
                error = json.loads(done.stdout.splitlines()[-1])["error"]
                state = checkpoints.load(folder)
                if state is None or len(state.history) != CONFIG.epochs:
                    error = error or "not all epochs were trained"
                else:
                    checkpoints.set_arrays(network(), state.weights, folder)
                    for name, array in one.items():
                        np.testing.assert_allclose(state.weights[name], array, err_msg=name, **CLOSE)
            except (AssertionError, IndexError, ValueError) as failed:
                error = f"{failed} {done.stderr}"
            wrong += bool(error)
            print(f"{number + 1:3} {took[-1]:5.1f} s  {error or 'right'}", flush=True)
    print(f"{starts - wrong} of {starts} starts right, {np.median(took):.1f} s each (median)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 30))
