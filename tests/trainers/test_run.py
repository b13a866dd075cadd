"""The command line without training: help, list, dry run, faults and exit codes; and that it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from trainers import run


@pytest.mark.parametrize("argv", [["--help"], ["--list"], ["--help", "--study", "depths"]])
def test_what_needs_no_training_imports_nothing_heavy(argv: list[str], workdir: Path) -> None:
    code = (
        "import sys; from trainers import run\n"
        f"try: code = run.main({argv!r})\n"
        "except SystemExit as error: code = error.code\n"
        "heavy = {'mxnet', 'mlflow', 'boto3', 'pandas', 'gluoncv', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy and not code, (heavy, code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not list(workdir.iterdir())


def settings(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def test_a_dry_run_can_be_fed_back(capsys: pytest.CaptureFixture[str], workdir: Path) -> None:
    """Flags go over the file, and the file over the preset."""
    small = ["--num-layers=20", "--image-shape=1,8,8", "--gamma=0.5"]
    Path("c.toml").write_text("epochs = 8\nseed = 3\n")
    assert run.main(["--preset", "scratch-44-30", "--config", "c.toml", "--seed", "4", *small, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "epochs = 8" in text and "seed = 4" in text and "num_layers = 20" in text
    assert "num_training_samples = 1259" in text and "run_name" not in settings(text)
    assert "# run     digits-20-scratch-8ep-s4  (experiment image-classification)" in text
    assert "# note: --gamma has no effect: it needs --optimizer rmsprop" in text
    assert {entry.name for entry in workdir.iterdir()} == {"c.toml"}
    Path("again.toml").write_text(text)
    assert run.main(["--config", "again.toml", "--dry-run"]) == 0
    assert settings(capsys.readouterr().out) == settings(text)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--epoch", "3"], ["Did you mean --epochs?"]),
        (["--epochs", "0", "--num-layers", "45", "--learning-rate", "x"], ["not a number"]),
        (["--epochs", "0", "--num-layers", "45"], ["2 faults", "--epochs 0", "18, 20, 32"]),
        # Of every kind at once, the data and what only they can tell included.
        (
            [
                "--epochz=3",
                "--learning-rate=x",
                "--num-layers=45",
                "--spot",
                "--parallel=0",
                "--preset=scratch",
                "--leaderboard=b.txt",
                "--init=run:feedbeef",
                "--mini-batch-size=5000",
                "--num-classes=11",
            ],
            [
                "11 faults",
                "--epochz",
                "--learning-rate x",
                "--num-layers 45",
                "--spot",
                "--parallel 0",
                "scratch-44-30",
                "b.txt",
                "is for --study",
                "no run 'feedbeef'",
                "more than the 1259",
                "digits has 10",
            ],
        ),
        (
            ["--on=sagemaker", "--num-layers=45"],
            ["--num-layers 45", "--role is needed"],
        ),
        (["--study=depths", "--epochs=0", "--dataset=digts"], ["--epochs 0", "Did you mean digits?"]),
        (
            ["--init=weights.params", "--dataset=digts"],
            ["weights.params: there is no such file", "Did you mean digits?"],
        ),
        (["--resume=feedbeef"], ["no journal of run 'feedbeef'"]),
        (["--preset", "scratch"], ["scratch-44-30"]),
        (["--study", "depth"], ["Did you mean depths?"]),
        (["--dataset", "digts"], ["Did you mean digits?"]),
        (["--num-layers", "34", "--image-shape", "1,28,28"], ["at least 32 px"]),
        (["--multi-label", "1"], ["sagemaker-builtin"]),
        (["--precision-dtype", "float16"], ["bfloat16"]),
        (["--num-classes", "11"], ["digits has 10"]),
        (["--on", "mars"], ["sagemaker"]),
        (["--resume", "abc", "--epochs", "3"], ["give it alone"]),
        (["--parallel", "0"], ["1 or more"]),
        (["--config", "missing.toml"], ["missing.toml"]),
        (["digits"], ["not a flag"]),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str], workdir: Path
) -> None:
    assert run.main([*argv, "--dry-run"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    for word in words:
        assert word in captured.err
    assert not list(workdir.iterdir())  # nothing is made before the input is good
