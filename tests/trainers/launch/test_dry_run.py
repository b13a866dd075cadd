"""``--dry-run`` with real data and the real network: what it says is what the run then is, and it writes nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pictures import class_folders
from tracking import store as stores
from trainers import run
from trainers.config import study as studies

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
Said = Callable[..., str]
STUDY = """
[settings]
num_layers = 20
image_shape = "1,8,8"
epochs = 3
[[runs]]
name = "source, 3 epochs"
pretext = "rotation"
[[runs]]
name = "transfer"
init = "run:source, 3 epochs"
seed = [0, 1]
"""


@pytest.fixture
def said(workdir: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """What a dry run prints; nothing may have changed in the folder."""

    def ask(*argv: str, code: int = 0) -> str:
        before = sorted(workdir.rglob("*"))
        assert run.main([*argv, "--dry-run"]) == code
        assert sorted(workdir.rglob("*")) == before
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return ask


def test_it_says_what_the_run_then_is(workdir: Path, said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(workdir / "p", per_class=60, size=(12, 12))
    argv = ["--dataset=p", "--num-layers=20", "--image-shape=3,12,12", "--mini-batch-size=4", "--epochs=2"]
    text = said(*argv)
    assert "p (folder of pictures): 84 train · 12 validation · 24 test pictures, 2 classes, 3,12,12" in text
    assert "cat: 42, dog: 42" in text and "nothing found by the headers alone" in text
    assert re.search(r"# time    about [\d.ms]+ for 2 epochs and the scores: [\d,]+ pictures/s .* measured now", text)
    assert re.search(r"# disk    up to [\d.]+ MB while it trains, [\d.]+ MB afterwards; .* are free", text)
    assert run.main(argv) == 0
    output = capsys.readouterr().out
    assert re.findall(r"p-20-scratch-2ep-s0", text)[0] in output
    assert "84 train · 12 validation · 24 test pictures, 2 classes, 3,12,12" in output
    stays = float(re.findall(r"([\d.]+) MB afterwards", text)[0]) * 1e6
    (model,) = (workdir / "mlruns" / "journals").glob("*/files/model")
    kept = sum(file.stat().st_size for file in model.iterdir() if file.suffix in (".params", ".onnx"))
    assert stays == pytest.approx(kept, rel=0.15)


def test_what_the_data_hold_is_found(workdir: Path, said: Said) -> None:
    for start, split in enumerate(("train", "validation", "test")):
        class_folders(workdir / "p" / split, per_class=8, start=100 * start, size=(12, 12))
    argv = ["--dataset=p", "--num-layers=20", "--image-shape=3,12,12", "--mini-batch-size=4"]
    shutil.copy(workdir / "p/train/cat/000.png", workdir / "p/test/cat/leak.png")
    text = said(*argv, "--epochs=0", code=2)
    assert "--epochs 0" in text
    assert "leak.png" in said(*argv, code=2)
    shutil.copy(workdir / "p/train/cat/001.png", workdir / "p/train/cat/PHOTO.tiff")
    assert "PHOTO.tiff" in said(*argv, "--allow-overlap")


def test_a_study_is_described_run_by_run(workdir: Path, said: Said) -> None:
    Path("three.toml").write_text(STUDY)
    text = said("--study=three.toml", "--epochs=1")
    blocks = text.split("\n\n")
    assert "trained on digits; --dataset DATA takes another\n3 runs, 0 already done:" in blocks[0]
    assert blocks[1].startswith("source, 1 epoch\n") and "4 classes" in blocks[1] and "pretext rotation" in blocks[1]
    assert blocks[2].startswith("transfer, seed 0  (after source, ") and "10 classes" in blocks[2]
    assert all("time    about" in block and "disk    up to" in block for block in blocks[1:4])
    assert blocks[3].startswith("transfer, seed 1") and "seed 1" in blocks[3].splitlines()[1]
    assert blocks[4].startswith("in all about") and "for 3 runs" in blocks[4]
    text = said("--study=three.toml", "--mini-batch-size=2000", code=2)
    assert "transfer, seed 0: --mini-batch-size 2000" in text


def test_the_historical_study_says_its_data_and_its_names_follow_the_flags(workdir: Path) -> None:
    assert [planned.config.run_name for planned in studies.load("depths").runs] == [
        "44 layers, scratch, 30 epochs",
        "44 layers, scratch, 50 epochs",
        "34 layers, ImageNet, 50 epochs",
        "34 layers, ImageNet, 100 epochs",
    ]
    names = [planned.config.run_name for planned in studies.load("depths", {"epochs": 1}).runs]
    assert names == ["44 layers, scratch, 1 epoch", "34 layers, ImageNet, 1 epoch"]


def test_going_on_is_checked_without_going_on(workdir: Path, said: Said) -> None:
    assert run.main(["--num-layers=20", "--image-shape=1,8,8", "--epochs=1"]) == 0
    (logged,) = stores.resolve().runs()
    assert "is finished" in said("--resume", logged.info.run_id, code=2)
    assert stores.resolve().find_run(logged.info.run_id).info.end_time == logged.info.end_time


def test_weights_that_do_not_fit_are_found_before_a_run_is_made(workdir: Path, said: Said) -> None:
    (workdir / "w.params").write_bytes(b"not weights")
    text = said("--init=w.params", "--num-layers=20", "--image-shape=1,8,8", code=2)
    assert "w.params is not an MXNet .params file" in text
