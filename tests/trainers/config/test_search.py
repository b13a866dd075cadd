"""``[search]``, ``exclude``, ``seeds`` and ``[repeat]`` of a study's file: what is legal, and what a fault says."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.config import study as studies
from trainers.errors import BadConfig

SPACE = "\n[search.space]\nlearning_rate = { low = 0.001, high = 0.3, log = true }\n"


def read(text: str) -> studies.Study:
    Path("s.toml").write_text(text)
    return studies.load("s.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[search]\nobjective = "test_accuracy"' + SPACE, "a test score never chooses"),
        ('[search]\nobjective = "cost_usd"' + SPACE, "validation_accuracy is the first one"),
        ('[search]\nsampler = "tpa"' + SPACE, "Did you mean tpe"),
        ('[search]\nsampler = "grid"' + SPACE, "no end of values"),
        ('[search]\npruner = "wilcoxon"\nfolds = 4' + SPACE, "folds = 5 or more"),
        ('[search]\npruner = "median"\nobjective = ["validation_accuracy", "cost_usd"]' + SPACE, "hopeless in both"),
        ("[search]\ntrials = 0" + SPACE, "trials = 0 must be a whole number from 1"),
        ("[search]\ntrial = 9" + SPACE, "Did you mean trials"),
        ("[search]\nmax_time = '9 years'" + SPACE, "is no time"),
        ("[search]\n", "no [search.space]"),
        ("[search]\n[search.space]\nlearning_rat = [1]\n", "Did you mean"),
        ("[search]\n[search.space]\nlearning_rate = { low = 0.3, high = 0.1 }\n", "must be less than"),
        ("[search]\n[search.space]\nlearning_rate = { low = 0, high = 0.1, log = true }\n", "low must be more than 0"),
        ("[search]\n[search.space]\nepochs = { low = 1, high = 2.5 }\n", "whole number"),
        ("[search]\n[search.space]\noptimizer = { low = 1, high = 2 }\n", "give a list of values"),
        ("[search]\n[search.space]\nmomentum = { low = 0.5, high = 1.5 }\n", "momentum"),
        ('[search]\n[search.space]\nbeta_1 = { low = 0.5, high = 0.9, when = { optimizer = "adam" } }\n', "neither"),
        (
            '[search]\n[search.space]\noptimizer = ["sgd"]\n'
            'beta_1 = { low = 0.5, high = 0.9, when = { optimizer = "adam" } }\n',
            "never 'adam'",
        ),
        ("[search]\nseeds = [0, 0]" + SPACE, "different whole numbers"),
        ("[search]" + SPACE + "[[runs]]\nnum_layers = 20\n", "not both"),
        ("exclude = [{ num_layers = 44 }]\n[[runs]]\nnum_layers = [20, 32]\n", "leaves nothing out"),
        ("exclude = [{ num_layers = 20 }]\n[[runs]]\nnum_layers = 20\n", "leaves no run"),
        ("seeds = [0]\n[settings]\nseed = 1\n", "say the same"),
        ("[repeat]\nuntil_points = 2\n", "until_interval_points"),
        ("[repeat]\nuntil_interval_points = 2\nmost_seeds = 2\n", "from 3 to 1000"),
    ],
)  # fmt: skip
def test_a_fault_says_what_is_legal(workdir: Path, text: str, said: str) -> None:
    with pytest.raises(BadConfig) as error:
        read(text)
    assert said in " ".join(error.value.faults)


def test_seeds_multiply_and_exclusions_leave_out(workdir: Path) -> None:
    study = read(
        "seeds = [0, 1]\nexclude = [{ num_layers = 32, learning_rate = [0.1, 0.2] }]\n"
        "[[runs]]\nnum_layers = [20, 32]\nlearning_rate = [0.1, 0.3]\n"
    )
    seen = {(one.config.num_layers, one.config.learning_rate, one.config.seed) for one in study.runs}
    assert seen == {(n, r, s) for n, r in ((20, 0.1), (20, 0.3), (32, 0.3)) for s in (0, 1)}


def test_a_grid_counts_a_setting_only_where_it_has_an_effect(workdir: Path) -> None:
    study = read(
        '[search]\nsampler = "grid"\n[search.space]\noptimizer = ["sgd", "adam"]\n'
        'beta_1 = { choice = [0.8, 0.9], when = { optimizer = "adam" } }\nepochs = { low = 1, high = 3 }\n'
    )
    assert study.search is not None and study.search.trials == 9 == len(list(study.search.grid()))


def test_more_trials_are_the_same_search_and_other_settings_another(workdir: Path) -> None:
    one, more, other = (
        read(f"[settings]\nepochs = {epochs}\n[search]\ntrials = {trials}" + SPACE).search
        for trials, epochs in ((5, 2), (50, 2), (5, 3))
    )
    assert one and more and other
    assert one.fingerprint == more.fingerprint != other.fingerprint
