"""Settings: defaults of the built-in, all faults at once, what the data decides, text forms that read back."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking import names
from trainers.config import Config
from trainers.config.checks import depth_faults, local_faults, quoted
from trainers.config.text import add_flags, build, cast, from_toml, given_flags, to_hyperparameters, to_toml
from trainers.errors import BadConfig

PARSER = argparse.ArgumentParser(allow_abbrev=False)
add_flags(PARSER)


def parse(argv: list[str]) -> Config:
    return build(cast(given_flags(PARSER.parse_args(argv))))


def faults_of(**values: object) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        Config(**values)  # type: ignore[arg-type]
    return caught.value.faults


def test_defaults_are_the_builtins() -> None:
    config = Config()
    assert (config.epochs, config.mini_batch_size, config.learning_rate, config.optimizer) == (30, 32, 0.1, "sgd")
    assert (config.momentum, config.weight_decay, config.lr_scheduler_factor) == (0.9, 0.0001, 0.1)
    assert (config.beta_1, config.beta_2, config.eps, config.gamma) == (0.9, 0.999, 1e-8, 0.9)
    assert (config.early_stopping, config.early_stopping_min_epochs, config.early_stopping_patience) == (False, 10, 5)
    assert config.initial == "scratch" and config.use_pretrained_model == 0


def test_every_setting_is_in_the_vocabulary_or_bookkeeping() -> None:
    fields = {f.name for f in dataclasses.fields(Config)}
    bookkeeping = {
        "experiment",
        "run_name",
        "tags",
        "image_root",
        "allow_overlap",
        "strict",
        "no_test",
        "keep_model",
        "int8",
    }
    assert fields == set(names.PARAMS) | bookkeeping


@pytest.mark.parametrize("name", [name for name in names.HYPERPARAMETERS if name.choices or name.low is not None])
def test_each_range_is_enforced_at_its_edge(name: names.Name) -> None:
    if name.choices:
        legal, illegal = name.choices[-1], ("nonsense" if name.type is str else 7)
    else:
        assert name.low is not None
        legal, illegal = name.type(name.low), name.type(name.low) - 1
    extra = {"multi_label": 1} if name.key == "use_weighted_loss" else {}
    Config(**{name.key: legal, **extra})  # type: ignore[arg-type]
    (fault,) = faults_of(**{name.key: illegal})
    assert str(illegal) in fault and "--" + name.key.replace("_", "-") in fault


def test_all_faults_come_at_once() -> None:
    found = faults_of(num_layers=45, epochs=0, optimizer="sdg", image_shape="3,20", learning_rate=float("nan"))
    assert len(found) == 5
    assert any("Did you mean sgd?" in fault for fault in found)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"num_layers": 34, "image_shape": "3,28,28"}, "at least 32"),
        ({"num_layers": 44, "image_shape": "3,224,224"}, "8 to 64"),
        ({"image_shape": "3,224,224", "resize": 200}, "at least the crop"),
        ({"lr_scheduler_step": "20,10"}, "rise"),
        ({"lr_scheduler_step": "ten"}, "list of epochs"),
        ({"init": "imagenet", "num_layers": 44}, "no ImageNet weights for 44"),
        ({"init": "scratch", "use_pretrained_model": 1}, "contradicts"),
        ({"init": "nowhere.params"}, "no such file"),
        ({"init": "run:"}, "names no run"),
        ({"init": "imagenet", "image_shape": "1,32,32"}, "3 channels"),
        ({"resnet_version": "v1b", "num_layers": 44}, "v1 or v2"),
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "too little"),
        ({"epochs": 2.5}, "whole number"),
        ({"early_stopping": 1}, "true or false"),
    ],
)
def test_settings_at_odds_are_refused(values: dict[str, object], word: str) -> None:
    assert any(word in fault for fault in faults_of(**values))


def test_pretrained_flag_and_init_say_the_same() -> None:
    assert Config(use_pretrained_model=1, num_layers=34).initial == "imagenet"
    assert Config(init="imagenet").use_pretrained_model == 1
    lower, higher = {"init": "imagenet"}, {"use_pretrained_model": 0}
    assert build(lower, higher).initial == "scratch"


@pytest.mark.parametrize(
    ("given", "native", "depth", "shape", "resize"),
    [
        ({}, (1, 8, 8), 44, "1,28,28", None),
        ({}, (3, 32, 32), 44, "3,32,32", None),
        ({}, (3, 300, 300), 34, "3,224,224", None),
        ({}, (3, None, None), 34, "3,224,224", 256),
        ({"num_layers": 34}, (1, 28, 28), 34, "1,32,32", None),
        ({"init": "imagenet"}, (1, 28, 28), 34, "3,32,32", None),
        ({"image_shape": "3,24,24"}, (3, 32, 32), 44, "3,24,24", None),
    ],
)
def test_the_data_decides_what_is_left_open(
    given: dict[str, object], native: tuple[int, int | None, int | None], depth: int, shape: str, resize: int | None
) -> None:
    config = Config(**given).with_shape(channels=native[0], height=native[1], width=native[2])  # type: ignore[arg-type]
    assert (config.num_layers, config.image_shape, config.resize) == (depth, shape, resize)
    assert depth_faults(depth, *config.shape[1:]) == []


def test_resolving_checks_the_numbers_against_the_data() -> None:
    facts = {"num_classes": 10, "num_training_samples": 100, "channels": 1, "height": 8, "width": 8}
    assert Config().resolve(**facts).num_training_samples == 100  # type: ignore[arg-type]
    with pytest.raises(BadConfig) as caught:
        Config(num_classes=9, mini_batch_size=128, top_k=10).resolve(**facts)  # type: ignore[arg-type]
    assert len(caught.value.faults) == 3


def test_fingerprint_ignores_seed_bookkeeping_and_settings_without_effect() -> None:
    base = Config(num_layers=44)
    same = Config(num_layers=44, seed=7, run_name="x", tags={"a": "b"}, num_threads=2, beta_1=0.5)
    assert base.fingerprint() == same.fingerprint()
    assert base.fingerprint() != Config(num_layers=44, epochs=31).fingerprint()
    assert base.fingerprint() != Config(num_layers=44, momentum=0.8).fingerprint()


def test_settings_without_effect_are_said() -> None:
    notes = Config(beta_1=0.5, lr_scheduler_step="10,40", kv_store="dist_sync").notes()
    assert len(notes) == 3 and "--optimizer adam" in notes[0]


def test_what_only_the_cloud_can_do_is_refused_locally() -> None:
    assert len(local_faults(vars(Config(multi_label=1, precision_dtype="float16")))) == 2


def test_unknown_settings_and_unreadable_values_come_together() -> None:
    with pytest.raises(BadConfig) as caught:
        cast({"epoch": "3", "epochs": "three", "early_stopping": "yes", "seed": "1.5"}, where="f.toml: ")
    assert len(caught.value.faults) == 4
    assert "Did you mean epochs?" in caught.value.faults[0]


def settings() -> st.SearchStrategy[Config]:
    text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1).filter(lambda s: s.strip())
    text = text.filter(lambda s: s != "--")  # argparse swallows a value that is just this
    return st.builds(
        Config,
        num_layers=st.sampled_from((None, *names.DEPTHS)),
        epochs=st.integers(1, 500),
        learning_rate=st.floats(0, 1),
        weight_decay=st.floats(0, 1),
        optimizer=st.sampled_from(names.PARAMS["optimizer"].choices),
        lr_scheduler_step=st.sampled_from((None, "10,20")),
        early_stopping=st.booleans(),
        no_test=st.booleans(),
        keep_model=st.sampled_from((None, "best", "all", "none")),
        init=st.sampled_from((None, "scratch", "run:abc")),
        run_name=st.none() | text,
        tags=st.dictionaries(text.map(lambda s: s.replace("=", "").strip() or "t"), text),
        top_k=st.none() | st.integers(2, 9),
    )


@given(settings())
def test_argv_reads_back_to_the_same_config(config: Config) -> None:
    argv = [f"--tag={tag}={text}" for tag, text in config.tags.items()]
    given = {key: value for key, value in vars(config).items() if key != "tags" and value is not None}
    # One word each: a value may start with a dash.
    argv += [f"--{key.replace('_', '-')}={quoted(value)}" for key, value in given.items()]
    assert parse(argv) == config


@given(settings())
def test_toml_reads_back_to_the_same_config(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = tmp_path_factory.getbasetemp() / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert build(from_toml(path)) == config


def test_hyperparameters_are_strings_with_the_builtins_spelling() -> None:
    strings = to_hyperparameters(Config(num_layers=44, early_stopping=True, num_classes=10, image_shape="3,28,28"))
    assert strings["early_stopping"] == "True" and strings["num_layers"] == "44" and strings["image_shape"] == "3,28,28"
    assert set(strings) <= {name.key for name in names.HYPERPARAMETERS}
    assert "top_k" not in strings


def test_a_toml_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(BadConfig, match="x.toml is not TOML"):
        from_toml(path)
    with pytest.raises(BadConfig, match="No such file"):
        from_toml(tmp_path / "none.toml")
