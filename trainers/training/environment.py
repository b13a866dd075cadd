"""What a run was made with: packages, code version, machine, threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "mxnet",
    "gluoncv",
    "numpy",
    "opencv-python-headless",
    "scikit-learn",
    "mlflow",
    "pandas",
    "pyarrow",
    "boto3",
)


def environment(num_threads: int) -> dict[str, Any]:
    """Everything that another person needs to repeat the run, as JSON-able values."""
    return {
        "python": platform.python_version(),
        "packages": packages(),
        "git": git(Path.cwd()),
        "machine": machine(),
        "num_threads": num_threads,
        "argv": sys.argv,
    }


def packages() -> dict[str, str]:
    """Name → version of the packages that results depend on; those not installed are left out."""
    found = {}
    for name in ("image-classification-tracking", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git(folder: Path) -> dict[str, Any]:
    """Commit and dirtiness of the checkout around ``folder``; empty outside of one."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"commit": commit, "branch": ask("rev-parse", "--abbrev-ref", "HEAD"), "dirty": bool(ask("status", "-s"))}


def machine() -> dict[str, Any]:
    """Processor, memory and system, without names of people or hosts."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "num_processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
