"""Who started a run, with which program, of which commit: MLflow's standard tags of a run's source."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from pathlib import Path

from tracking.errors.redaction import address


def origin(source_type: str = "LOCAL") -> dict[str, str]:
    """The tags that MLflow's pages show as user and source; those of git where the program is in a checkout.

    The checkout is the program's own, else that of the current directory. ``source_type`` is one of MLflow's.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        user = str(os.getuid())
    tags = {"mlflow.user": user, "mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": source_type}
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    return tags | ((program and _git(Path(program).parent)) or _git(Path.cwd()))


def _git(folder: Path) -> dict[str, str]:
    """Commit, branch and address of the checkout around ``folder``, without credentials; empty outside of one."""

    def ask(*words: str) -> list[str]:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return []
        return done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []

    found = ask("rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if len(found) != 2:
        return {}
    commit, branch = found
    tags = {"mlflow.source.git.commit": commit}
    if branch != "HEAD":  # no branch is checked out
        tags["mlflow.source.git.branch"] = branch
    remotes = ask("config", "--get-regexp", r"^remote\..*\.url$")
    remotes.sort(key=lambda line: not line.startswith("remote.origin.url "))
    if remotes and (url := re.sub(r"[?#].*", "", address(remotes[0].partition(" ")[2]))):
        tags["mlflow.source.git.repoURL"] = url
    return tags
