"""``python -m tracking ui`` with MLflow's real server: on either signal it goes, with all that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from tests.support import ROOT
from tests.support.stores import store_fixture as store_fixture
from tracking.store import Store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "code", "until"), [(signal.SIGINT, 130, "ready: "), (signal.SIGTERM, 143, "are coming up at")]
)
def test_its_server_ends_with_it(store: Store, signum: int, code: int, until: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tracking", "ui", "--port", str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert any(until in line for line in process.stdout)
    children: list[psutil.Process] = []
    while not children:
        assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signum)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert f"tracking: ended by {signal.Signals(signum).name}: the pages are closed, all runs are kept" in said
    assert not any(child.is_running() for child in children)
    with socket.create_server(("127.0.0.1", port)):  # nothing listens there any more
        pass
