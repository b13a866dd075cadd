"""The command line without training: help, list, dry run, faults and exit codes; and that it loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from trainers import run


@pytest.mark.parametrize("argv", [["--help"], ["--list"], ["--dry-run"], ["--study", "depths", "--dry-run"]])
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


def test_a_dry_run_can_be_fed_back(capsys: pytest.CaptureFixture[str], workdir: Path) -> None:
    assert run.main(["--preset", "scratch-44-30", "--epochs", "7", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "epochs = 7" in text and "num_layers = 44" in text and 'image_shape = "1,28,28"' in text
    Path("again.toml").write_text(text)
    assert run.main(["--config", "again.toml", "--dry-run"]) == 0
    assert capsys.readouterr().out == text


def test_flags_override_the_file_and_the_file_the_preset(capsys: pytest.CaptureFixture[str], workdir: Path) -> None:
    Path("c.toml").write_text("epochs = 8\nseed = 3\n")
    run.main(["--preset", "scratch-44-50", "--config", "c.toml", "--seed", "4", "--dry-run"])
    text = capsys.readouterr().out
    assert "epochs = 8" in text and "seed = 4" in text and "num_layers = 44" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--epoch", "3"], ["Did you mean --epochs?"]),
        (["--epochs", "0", "--num-layers", "45", "--learning-rate", "x"], ["not a number"]),
        (["--epochs", "0", "--num-layers", "45"], ["2 faults", "--epochs 0", "18, 20, 32"]),
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


def test_settings_without_effect_are_noted(capsys: pytest.CaptureFixture[str], workdir: Path) -> None:
    run.main(["--gamma", "0.5", "--dry-run"])
    assert "--gamma has no effect: it needs --optimizer rmsprop" in capsys.readouterr().out
