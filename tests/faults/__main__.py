"""Stop programs at random moments and count what is lost: ``python -m tests.faults [PROGRAM …] --points N --seed S``.

A point is a forked program, a fault at a moment that the seed decides (of the program, or of its store), recovery by
``tracking repair``, ``sync`` and ``--resume``, and a comparison of the calls that had returned with the store, by SQL.
One table at the end; exit code 1 where something was lost, doubled, ended wrongly or hung: each such point is printed
with the command that shows it again.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
import time
import traceback
from datetime import datetime, timezone
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MXNET_ENGINE_TYPE", "NaiveEngine")  # no threads, so that it can be forked
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)

import mlflow.store.tracking.sqlalchemy_store  # noqa: E402

from tests.faults.commands import COMMANDS  # noqa: E402
from tests.faults.oracle import Verdict  # noqa: E402
from tests.faults.points import Place, Program, Row, calibrate, run_point  # noqa: E402
from tests.faults.programs import PROGRAMS as FIRST  # noqa: E402
from tests.faults.stores import SERVICES, STORES  # noqa: E402
from tests.support.stores import made_database  # noqa: E402

PROGRAMS = {**FIRST, **COMMANDS, **STORES}
_ALL_FAULTS = list(dict.fromkeys(fault for program in PROGRAMS.values() for fault in program.faults))
_HEADS = ("promise", "points", "calls", "lost", "doubled", "wrong status", "hung", "slowest call, ms", "seconds")


def main() -> int:
    """Run the points and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("programs", nargs="*", choices=[*PROGRAMS, []], metavar="PROGRAM", help=", ".join(PROGRAMS))
    parser.add_argument(
        "--fault", action="append", choices=_ALL_FAULTS, metavar="FAULT", help="only this one; may be given again"
    )
    parser.add_argument("--points", type=int, default=1000, help="in all, shared out (default 1000)")
    parser.add_argument("--only", type=int, help="the point of this number alone, to see it again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="shared out, too: no point begins later (default 60)")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/reliability.md")
    asked = parser.parse_args()
    assert mlflow.store.tracking.sqlalchemy_store
    made_database()
    chosen = {name: PROGRAMS[name] for name in asked.programs or PROGRAMS}
    plan = [
        (name, program, [f for f in program.faults if not asked.fault or f in asked.fault])
        for name, program in chosen.items()
    ]
    plan = [one for one in plan if one[2]]
    shares = sum(program.share for _, program, _ in plan)
    costs = sum(program.share * program.cost for _, program, _ in plan)
    base = Path(tempfile.mkdtemp(prefix="faults-"))
    end, rows, is_clean = time.monotonic(), {}, True
    try:
        for name, program, faults in plan:
            end += asked.minutes * 60 * program.share * program.cost / costs
            place = Place(base=base / "point", seed=f"{asked.seed}/{name}")
            cannot = calibrate(place, program)
            count = max(len(faults), math.ceil(asked.points * program.share / shares), (asked.only or 0) + 1)
            for number in range(count):
                fault = faults[number % len(faults)]
                if asked.only is not None and number != asked.only:
                    continue
                row = rows.setdefault((name, fault), Row(left_out=cannot or ""))
                if time.monotonic() > end:
                    row.left_out = row.left_out or ("" if row.points else "out of time")
                    continue
                place.number = number
                verdict, hung = None, row.hung
                try:
                    if not row.left_out:
                        verdict = run_point(place, program, fault, row)
                except Exception:  # a store that cannot even be read; the other points go on
                    verdict = Verdict(wrong=1, why=traceback.format_exc())
                    row.points, row.sums.wrong = row.points + 1, row.sums.wrong + 1
                if row.hung > hung or (verdict and (verdict.lost or verdict.doubled or verdict.wrong)):
                    is_clean = False
                    why = verdict.why[-1500:] if verdict and verdict.why else "it hung"
                    only = "".join(f' --fault "{one}"' for one in asked.fault or ())
                    again = f'python -m tests.faults "{name}"{only} --seed {asked.seed} --only {number}'
                    print(f"{fault}: {again}\n{why}", file=sys.stderr, flush=True)
                    kept = Path(tempfile.gettempdir()) / f"fault-{name.replace(', ', '-')}-{asked.seed}-{number}"
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(place.base, kept, ignore=shutil.ignore_patterns("disk*", "template"))
    finally:
        _print(rows, asked.markdown)
        SERVICES.close()
        shutil.rmtree(base, ignore_errors=True)
    return 0 if is_clean else 1


def _print(rows: dict[tuple[str, str], Row], markdown: bool) -> None:
    heads = (*_HEADS, "date") if markdown else _HEADS
    table = [heads]
    for (name, fault), row in rows.items():
        sums = row.sums
        counts = (row.points, sums.num_events, sums.lost, sums.doubled, sums.wrong, row.hung)
        remark = f" ({row.left_out})" if row.left_out else ""
        remark += f" (loss window {sums.window_s:.2f} s)" if fault == "power cut" and sums.slowest_ms else ""
        slowest = f"{sums.slowest_ms:.0f}" if sums.slowest_ms else ""
        line = [f"{name}: {fault}{remark}", *(f"{count:,}" for count in counts), slowest, f"{row.seconds:.0f}"]
        table.append((*line, f"{datetime.now(timezone.utc):%Y-%m-%d}") if markdown else tuple(line))
    totals = [sum(getattr(row, what) for row in rows.values()) for what in ("points", "hung", "seconds")]
    sums = [
        sum(getattr(row.sums, what) for row in rows.values()) for what in ("num_events", "lost", "doubled", "wrong")
    ]
    last = ("all", *(f"{n:,}" for n in (totals[0], *sums, totals[1])), "", f"{totals[2]:.0f}")
    table.append((*last, "") if markdown else last)
    if markdown:
        table.insert(1, ("---", *["---:"] * (len(heads) - 1)))
        print("\n".join(f"| {' | '.join(line)} |" for line in table))
        return
    widths = [max(len(line[n]) for line in table) for n in range(len(heads))]
    for line in table:
        print(line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)), sep="  ")


if __name__ == "__main__":
    assert Program
    sys.exit(main())
