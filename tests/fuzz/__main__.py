"""Feed one parser with what atheris thinks of: ``python -m tests.fuzz TARGET SECONDS``; without any, list targets."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Run until the seconds are over; a crash leaves its input in the folder and ends with the traceback."""
    import atheris

    with atheris.instrument_imports(include=["tracking", "trainers", "reports"]):
        from tests.fuzz.seeds import SEEDS
        from tests.fuzz.targets import TARGETS
    if len(sys.argv) < 2:
        print("\n".join(TARGETS))
        return
    name, seconds = sys.argv[1], sys.argv[2]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            (Path(corpus) / str(number)).write_bytes(seed)
        limits = [f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=2000", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix=fuzz-{name}-", corpus], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
