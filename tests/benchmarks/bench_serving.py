"""A served model for an hour: clients that ask, and ask for too much; is its memory flat?

python tests/benchmarks/bench_serving.py [--clients 16] [--minutes 60] [--rate 3] [--body-bytes 104857600]
MLflow's own server (`mlflow models serve`) on loopback. Of the requests 80 % are small JPEGs, 10 % pictures of 24
million pixels, 10 % are to be refused: a request or a picture that is too large, no picture, no JSON.
"""

from __future__ import annotations

import argparse
import base64
import io
import random
import sys
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.models import photographs, saved_model
from tests.support.serving import Server, serve
from tests.tracking.models.test_pictures import a_png
from tracking.models.serving.model import BODY_VARIABLE, MAX_BODY_BYTES

MB = 1e6
MOST_MB_PER_HOUR = 20.0


def jpeg(width: int, height: int, number: int) -> str:
    """A photograph of this size in base64."""
    file = io.BytesIO()
    Image.fromarray(photographs()[number % 2]).resize((width, height)).save(file, "JPEG", quality=90)
    return base64.b64encode(file.getvalue()).decode()


class Clients:
    """What they ask, what they wait for it, and what was answered wrongly."""

    def __init__(self, server: Server, count: int, rate: float, body_bytes: int) -> None:
        self.server, self.pause_s = server, count / rate
        self.small = [{"inputs": [jpeg(320 + 40 * number, 240 + 40 * number, number)]} for number in range(8)]
        self.large = [{"inputs": [jpeg(6000, 4000, number)]} for number in range(2)]
        bomb = a_png(30_000, 30_000, zlib.compress(bytes(3_000_000)))
        self.refused = [
            (b" " * (body_bytes + 1), 413),
            ({"inputs": [base64.b64encode(bomb).decode()]}, 400),
            ({"inputs": ["no picture"]}, 400),
            (b'{"inputs": ', 400),
        ]
        self.waits_s: list[float] = []
        self.requests = self.errors = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(seed,), daemon=True) for seed in range(count)]

    def ask(self, seed: int) -> None:
        """One client, until all are stopped."""
        rng = random.Random(seed)
        while not self.over.wait(rng.uniform(0, 2 * self.pause_s)):
            kind = rng.random()
            payload, wanted = rng.choice(self.refused) if kind >= 0.9 else (rng.choice(self.small), 200)
            if 0.8 <= kind < 0.9:
                payload = rng.choice(self.large)
            began, status = time.monotonic(), 0
            with suppress(OSError):  # a refused request's rest is not read: its sender may find the connection closed
                status, _ = self.server.ask(payload)
            self.waits_s.append(time.monotonic() - began)
            self.requests += 1
            self.errors += status != wanted and not (wanted == 413 and status == 0)


def memory_mb() -> float:
    """RSS of the server, which is this process's child, and of its children."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MB


def main() -> int:
    """Print a line a minute and the slope of memory; 1 where it grows or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=3, help="requests a second, of all clients together")
    parser.add_argument("--body-bytes", type=int, default=MAX_BODY_BYTES, help="the limit of a request")
    given = parser.parse_args()
    with serve(saved_model(18, "v1", (3, 32, 32)), **{BODY_VARIABLE: str(given.body_bytes)}) as server:
        clients = Clients(server, given.clients, given.rate, given.body_bytes)
        print(f"{given.clients} clients, {given.minutes:g} minutes; at the start {memory_mb():.0f} MB", flush=True)
        for thread in clients.threads:
            thread.start()
        began, seen = time.monotonic(), []
        while (minute := (time.monotonic() - began) / 60) < given.minutes:
            time.sleep(min(60, 60 * (given.minutes - minute) + 0.1))
            seen.append(((time.monotonic() - began) / 60, memory_mb()))
            p50, p99 = np.percentile(clients.waits_s[-1000:] or [0.0], [50, 99])
            print(
                f"{seen[-1][0]:5.1f} min  {seen[-1][1]:7.1f} MB  {clients.requests:6} requests"
                f"  {clients.errors} errors  p50 {p50 * 1e3:.0f} ms  p99 {p99 * 1e3:.0f} ms",
                flush=True,
            )
        clients.over.set()
        is_alive = server.is_alive()
    late = np.array(seen[len(seen) // 4 :])
    slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0] * 60) if len(late) > 1 else 0.0
    is_flat = slope <= MOST_MB_PER_HOUR and not clients.errors and is_alive
    print(f"memory over the last three quarters: {slope:+.1f} MB an hour: {'flat' if is_flat else 'NOT FLAT'}")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
