"""The workflow in ``docs/`` does what it promises: each shell step runs here, with ``gh`` and ``pip`` replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.__main__ import main as reports
from tests.support import ROOT
from tests.support.runs import new_store, trained
from tracking import run as tracked

WORKFLOW = yaml.safe_load((ROOT / "docs" / "leaderboard-workflow.yml").read_text(encoding="utf-8"))
[JOB] = WORKFLOW["jobs"].values()
STEPS = {step["name"]: step for step in JOB["steps"] if "run" in step}
OURS = "<!-- leaderboard -->"

# What GitHub keeps, as a program: comments in a file, each call in another.
GH = """#!{python}
import json, pathlib, subprocess, sys
here, words = pathlib.Path({folder!r}), sys.argv[1:]
comments = json.loads((here / "comments.json").read_text())
with open(here / "calls.txt", "a") as calls:
    print(*words, file=calls)
if "--jq" in words:
    jq = subprocess.run(["jq", words[words.index("--jq") + 1]], input=json.dumps(comments), text=True)
    sys.exit(jq.returncode)
path = next(word for word in words if word.startswith("repos/"))
body = pathlib.Path(next(word for word in words if word.startswith("body=@"))[6:]).read_text()
assert len(body) <= 65536, "Body is too long"
if "PATCH" in words:
    next(c for c in comments if str(c["id"]) == path.rpartition("/")[2])["body"] = body
else:
    assert path == "repos/o/r/issues/7/comments" and "POST" in words
    comments.append(dict(id=len(comments) + 100, user=dict(type="Bot"), body=body))
(here / "comments.json").write_text(json.dumps(comments))
"""
OTHERS = [
    {"id": 1, "user": {"type": "User"}, "body": f"{OURS} a person quotes it"},
    {"id": 2, "user": {"type": "Bot"}, "body": "another workflow's comment"},
]


@pytest.fixture(name="step")
def step_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Run a step in a checkout whose base branch has one run; the branch's journal has another."""
    tools = tmp_path / "tools"
    tools.mkdir()
    programs = {
        "gh": GH.format(python=sys.executable, folder=str(tmp_path)),
        "pip": f'#!/bin/sh\necho "$@" > {tmp_path}/pip.txt\n',
        "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
    }
    for name, text in programs.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "comments.json").write_text(json.dumps(OTHERS))
    filler = new_store(tmp_path)
    filler.run(**trained(44, test=0.95))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", filler.uri)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.chdir(checkout)
    assert reports(["leaderboard", "--format", "json", "--out", "leaderboard.json"]) == 0
    for words in (
        ["init", "-q"],
        ["add", "leaderboard.json"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "base"],
        ["update-ref", "refs/remotes/origin/main", "HEAD"],
    ):
        subprocess.run(["git", *words], check=True)
    with tracked.start(experiment="image-classification", run_name="new", live=None, system_metrics=False) as run:
        settings = trained(56, test=0.99)
        run.log_params(settings["params"])
        run.set_tags(settings["tags"])
        run.log_metrics(settings["metrics"], step=3)
    known = {
        "secrets.MLFLOW_TRACKING_URI": filler.uri,
        "github.token": "token",
        "github.base_ref": "main",
        "github.event.pull_request.number": "7",
        "github.server_url": "https://github.com",
        "github.repository": "o/r",
        "github.run_id": "5",
    }

    def run_step(name: str) -> str:
        given = {**WORKFLOW["env"], **STEPS[name].get("env", {})}
        for key, value in given.items():
            for expression, meaning in known.items():
                value = value.replace(f"${{{{ {expression} }}}}", meaning)
            assert "${{" not in value, value
            given[key] = value
        environment = {
            **{k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
            **given,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        }
        # As GitHub runs a step that names no shell.
        line = ["bash", "-e", "-c", STEPS[name]["run"]]
        done = subprocess.run(line, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_step


def comments(tmp_path: Path) -> list[dict[str, Any]]:
    return list(json.loads((tmp_path / "comments.json").read_text()))


@pytest.mark.slow
def test_every_step_in_turn_makes_one_comment_and_keeps_it_true(step: Callable[[str], str], tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq, which gh has built in, is not installed: apt-get install jq")
    assert list(STEPS) == ["Install", "Sync", "Compare", "Write", "Comment"]
    for name in STEPS:
        step(name)
    assert (tmp_path / "pip.txt").read_text() == "install -c constraints.txt .\n"
    assert (ROOT / "constraints.txt").is_file() and (ROOT / "pyproject.toml").is_file()
    [*others, made] = comments(tmp_path)
    assert others == OTHERS and made["body"].startswith(OURS)
    assert "56 layers" in made["body"] and "99.0 %" in made["body"] and "actions/runs/5#artifacts" in made["body"]
    assert (tmp_path / "summary.md").read_text() == made["body"]
    assert "<html" in Path("leaderboard.html").read_text()
    # A longer page, after the next push, goes into the same comment.
    Path("page.md").write_text("é🚀" * 40_000)
    step("Write")
    step("Comment")
    [*others, again] = comments(tmp_path)
    assert others == OTHERS and again["id"] == made["id"]
    assert "é🚀…" not in again["body"] and "\n\n… cut here.\n" in again["body"] and "\ufffd" not in again["body"]
    assert again["body"].rstrip().endswith("#artifacts)")


@pytest.mark.slow
def test_a_base_without_a_leaderboard_gets_the_whole_page(step: Callable[[str], str]) -> None:
    subprocess.run(["git", "update-ref", "-d", "refs/remotes/origin/main"], check=True)
    step("Compare")
    assert Path("page.md").read_text().startswith("# ")


def test_it_may_do_no_more_than_it_must() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert set(WORKFLOW[True]) == {"pull_request"}  # YAML 1.1 reads "on" as true
    assert STEPS["Comment"]["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
    # What a pull request names, its branch for one, never becomes a part of a program.
    assert not [name for name, step in STEPS.items() if "${{" in step["run"]]
    [checkout] = [step for step in JOB["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}
