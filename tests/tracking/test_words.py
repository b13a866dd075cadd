from __future__ import annotations

import pytest

from tracking.errors.words import money, plural


@pytest.mark.parametrize(
    ("usd", "said"),
    [(0.0, "$0.00"), (0.004, "under $0.01"), (0.005, "$0.01"), (12.345, "$12.35"), (1234.5, "$1,234.50")],
)
def test_amounts_are_said_to_the_cent(usd: float, said: str) -> None:
    assert money(usd) == said


@pytest.mark.parametrize(
    ("n", "noun", "said"),
    [(1, "epoch", "1 epoch"), (0, "run", "0 runs"), (1797, "picture", "1,797 pictures"), (10, "class", "10 classes")],
)
def test_counts_agree_with_their_noun(n: int, noun: str, said: str) -> None:
    assert plural(n, noun) == said
