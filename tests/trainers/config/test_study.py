"""Studies: lists multiply, sources come first, every fault of every run is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.config import Config, study
from trainers.errors import BadConfig


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_four_historical_configurations() -> None:
    runs = study.load("depths").runs
    assert [(r.config.num_layers, r.config.initial, r.config.epochs) for r in runs] == [
        (44, "scratch", 30),
        (44, "scratch", 50),
        (34, "imagenet", 50),
        (34, "imagenet", 100),
    ]
    assert all(r.config.learning_rate == 0.1 and r.config.mini_batch_size == 32 for r in runs)


def test_lists_multiply_and_settings_hold_for_all(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [settings]
        epochs = 2
        [[runs]]
        name = "a"
        num_layers = [20, 32]
        seed = [0, 1, 2]
        [[runs]]
        name = "b"
        epochs = 3
        """,
    )
    runs = study.load(path).runs
    assert len(runs) == 7
    assert {(r.config.num_layers, r.config.seed) for r in runs[:6]} == {(d, s) for d in (20, 32) for s in (0, 1, 2)}
    assert [r.config.epochs for r in runs] == [2] * 6 + [3]
    assert len({r.key for r in runs}) == 7
    assert runs[0].config.run_name == "a, num_layers 20, seed 0" and runs[6].config.run_name == "b"


def test_flags_hold_for_all_runs_and_replace_lists(tmp_path: Path) -> None:
    path = write(tmp_path, "[[runs]]\nseed = [0, 1]\nepochs = 9\n")
    runs = study.load(path, {"seed": 5, "epochs": 1}).runs
    assert [(r.config.seed, r.config.epochs) for r in runs] == [(5, 1)]


def test_a_source_comes_before_what_needs_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [[runs]]
        name = "late"
        init = "run:early"
        [[runs]]
        name = "early"
        pretext = "rotation"
        """,
    )
    assert [(r.name, r.needs) for r in study.load(path).runs] == [("early", None), ("late", "early")]


def test_a_key_tells_runs_apart_by_what_they_do_alone(tmp_path: Path) -> None:
    one = study.load(write(tmp_path, 'title = "x"\n[[runs]]\nname = "a"\nepochs = 2\n')).runs[0]
    renamed = study.load(write(tmp_path, 'title = "y"\n[[runs]]\nname = "b"\nepochs = 2\n')).runs[0]
    other = study.load(write(tmp_path, '[[runs]]\nname = "a"\nepochs = 3\n')).runs[0]
    assert one.key == renamed.key != other.key


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[runs]]\nepoch = 3", "Did you mean epochs"),
        ("[[runs]]\nepochs = 0\n[[runs]]\nnum_layers = 7", "num-layers 7"),
        ("[[runs]]\npreset = 'nope'", "scratch-44-30"),
        ("[setting]\nepochs = 1", "Did you mean settings"),
        ("[[runs]]\nseed = []", "empty list"),
        ("[[runs]]\nname='a'\ninit='run:b'\n[[runs]]\nname='b'\ninit='run:a'", "circle"),
        ("[[runs]]\nname='a'\nseed=[0,1]\n[[runs]]\nname='b'\ninit='run:a'", "one seed"),
    ],
)
def test_faults_are_said(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(BadConfig, match=word):
        study.load(write(tmp_path, text))


def test_faults_of_all_runs_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadConfig) as caught:
        study.load(write(tmp_path, "[[runs]]\nepochs = 0\n[[runs]]\nnum_layers = 7"))
    assert len(caught.value.faults) == 2


def test_an_unknown_study_names_the_known_ones() -> None:
    with pytest.raises(BadConfig, match="quickstart"):
        study.load("quickstrat")


def test_a_runs_name_says_what_differs_from_its_like(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('[[runs]]\nname = "long"\nlearning_rate = [0.1, 0.01]\nseed = [0, 1]\n')
    found = [run.config.run_name for run in study.load(str(file)).runs]
    assert found == [f"long, learning_rate {rate}, seed {seed}" for rate in (0.1, 0.01) for seed in (0, 1)]
    file.write_text('[[runs]]\nname = "one"\nlearning_rate = [0.1]\nseed = 3\n')
    assert [run.config.run_name for run in study.load(str(file)).runs] == ["one"]


def test_folds_are_a_study_of_one_run_each() -> None:
    made = study.folds(Config(dataset="digits", run_name="mine"), 3)
    assert [planned.config.fold for planned in made.runs] == ["1/3", "2/3", "3/3"]
    assert [planned.config.run_name for planned in made.runs][1] == "mine, fold 2 of 3"
    assert made.name == "digits-3-folds" and len({planned.key for planned in made.runs}) == 3
    for config, count, said in (
        (Config(), 1, "--folds 1 is out of range"),
        (Config(fold="1/2"), 3, "one of the two"),
    ):
        with pytest.raises(BadConfig, match=said):
            study.folds(config, count)
    for fold in ("0/3", "4/3", "1/1", "2", "a/b"):
        with pytest.raises(BadConfig, match="is not WHICH/OF"):
            Config(fold=fold)
