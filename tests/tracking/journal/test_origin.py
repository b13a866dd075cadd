"""Which program and which commit a run is of, whatever the remote's address looks like, and never its credentials."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tracking.journal.origin import origin

ADDRESSES = {
    "https://ghp_abc123secret@github.com/o/r.git": "https://github.com/o/r.git",
    "https://x-access-token:ghs_secret@github.com/o/r": "https://github.com/o/r",
    "https://oauth2:glpat-secret@gitlab.com/group/sub/r.git": "https://gitlab.com/group/sub/r.git",
    "https://org@dev.azure.com/org/project/_git/r": "https://dev.azure.com/org/project/_git/r",
    "https://bob:p%40ss%2Fsecret@host.example:8443/r": "https://host.example:8443/r",
    "https://host.example/r.git?private_token=secret": "https://host.example/r.git",
    "ssh://git:secret@host.example:22/r.git": "ssh://host.example:22/r.git",
    "ssh://git@host.example/r.git": "ssh://git@host.example/r.git",
    "git@github.com:o/r.git": "git@github.com:o/r.git",
    "/srv/git/r.git": "/srv/git/r.git",
    "../r": "../r",
}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(name="checkout")
def checkout_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a commit, the current directory in it, and a program that is in none."""
    folder = tmp_path / "checkout"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.chdir(folder / "sub")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "train.py"), raising=False)
    return folder


def test_commit_branch_and_address(checkout: Path) -> None:
    git(checkout, "remote", "add", "backup", "https://backup.example/r")
    assert origin()["mlflow.source.git.repoURL"] == "https://backup.example/r"
    git(checkout, "remote", "add", "origin", "https://github.com/o/r")
    tags = origin("JOB")
    assert tags["mlflow.source.git.commit"] == git(checkout, "rev-parse", "HEAD")
    assert tags["mlflow.source.git.branch"] == "main" and tags["mlflow.source.type"] == "JOB"
    assert tags["mlflow.source.git.repoURL"] == "https://github.com/o/r"
    assert tags["mlflow.source.name"] and tags["mlflow.user"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_has_no_credentials(checkout: Path, address: str) -> None:
    git(checkout, "config", "remote.origin.url", address)
    tags = origin()
    assert tags["mlflow.source.git.repoURL"] == ADDRESSES[address]
    assert "secret" not in str(tags)


def test_a_checkout_of_no_branch_as_of_a_pipeline(checkout: Path) -> None:
    git(checkout, "checkout", "-q", "--detach")
    tags = origin()
    assert "mlflow.source.git.commit" in tags and "mlflow.source.git.branch" not in tags


def test_the_programs_checkout_comes_first(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(checkout / "train.py"), raising=False)
    monkeypatch.chdir(checkout.parent)
    assert "mlflow.source.git.commit" in origin()


@pytest.mark.parametrize("what", ["no commit", "no checkout", "no git"])
def test_without_git_there_are_no_tags_of_it(checkout: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "no commit":
        empty = checkout.parent / "empty"
        empty.mkdir()
        git(empty, "init", "-q")
        monkeypatch.chdir(empty)
    elif what == "no checkout":
        monkeypatch.chdir(checkout.parent)
    else:
        monkeypatch.setenv("PATH", "")
    assert set(origin()) == {"mlflow.user", "mlflow.source.name", "mlflow.source.type"}


def test_the_standard_library_is_enough() -> None:
    program = "import sys; import tracking.journal.origin; assert not {'mlflow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
