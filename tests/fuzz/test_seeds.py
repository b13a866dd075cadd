"""Every seed of the fuzz targets, whole and cut short, without atheris: a result or a sentence, within seconds."""

from __future__ import annotations

import time

import pytest

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_foreign_bytes_give_a_result_or_a_sentence(name: str) -> None:
    began = time.process_time()
    for seed in SEEDS[name]:
        for data in (seed, seed[: len(seed) // 2], seed[: len(seed) // 3] + seed[-40:]):
            TARGETS[name](data)
    assert time.process_time() - began < 5, f"{name} takes too long for small inputs"
