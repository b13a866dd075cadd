"""How fast ``tracking copy`` is: 10,000 runs from one SQLite store to another; and its memory beside a fifth of them.

``python tests/benchmarks/bench_copy.py [--runs 10000] [--points 1]`` fills a store by direct SQL (15 parameters, 10
metrics of so many points, 6 tags a run) and copies it in a process of its own. Missed where 10,000 runs of one point
take more than 60 s, or all of them 30 MB more than a fifth.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
from bench_reports import fill  # noqa: E402

LIMIT_S, LIMIT_MB = 60.0, 30.0
_COPY = """
import sys
from tracking.__main__ import main
code = main(["copy", *sys.argv[1:]])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""


def copied(source: Path, target: Path, *options: str) -> tuple[float, float, float]:
    """Seconds and processor seconds, imports included, and the highest memory in MB of one copy."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    uris = (f"sqlite:///{source}", f"sqlite:///{target}")
    line = [sys.executable, "-W", "ignore", "-c", _COPY, *uris, *options]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print("\n".join(f"  {said}" for said in done.stdout.splitlines()[:-1]))
    processor_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - start, processor_s, int(done.stdout.splitlines()[-1]) / 1024


def main() -> int:
    """Fill, copy, print; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1, help="of each metric")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.db"
        fill(source, asked.runs)
        with sqlite3.connect(source) as raw:
            for step in range(1, asked.points):
                columns = "run_uuid, key, value, timestamp, is_nan"
                raw.execute(
                    f"INSERT INTO metrics ({columns}, step) SELECT {columns}, {step} FROM metrics WHERE step = 0"
                )
        raw.close()
        few = f"attributes.start_time < {asked.runs // 5 * 60_000}"  # one begins each minute
        _, _, small_mb = copied(source, folder / "few" / "mlflow.db", "--filter", few)
        seconds, processor_s, mb = copied(source, folder / "all" / "mlflow.db")
        again_s, _, _ = copied(source, folder / "all" / "mlflow.db")
    print(f"{asked.runs:,} runs: {seconds:.1f} s (processor {processor_s:.1f} s); again: {again_s:.1f} s")
    print(f"peak {mb:.0f} MB, of a fifth of the runs {small_mb:.0f} MB")
    is_slow = asked.runs == 10_000 and asked.points == 1 and seconds > LIMIT_S
    return int(is_slow or mb - small_mb > LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
