"""Every figure with usual and with extreme input, for what must be so of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reports.charts import figures
from reports.charts.figures import Curve, Point
from reports.document.document import Figure

NAMES = [
    "34 layers, transfer from rotation, learning rate 0.01, batch size 32, seed 0",
    "34 layers, transfer from rotation, learning rate 0.02, batch size 32, seed 0",
    "🚀🚀 best run 👩‍🔬 🇩🇪",
    "残差ネットワーク四十四層、学習率〇・〇一、転移学習あり、追加実験",
    "רשת עצבית עם 44 שכבות",
    "naïve Ünïcode with e\u0301 marks and a \udc80 lost half",
]


def history(losses: list[float], accuracies: list[float]) -> list[dict[str, float]]:
    """Epochs from 1."""
    return [
        {
            "epoch": epoch,
            "train_loss": loss,
            "validation_loss": 1.3 * loss,
            "train_accuracy": score,
            "validation_accuracy": 0.95 * score,
        }
        for epoch, (loss, score) in enumerate(zip(losses, accuracies, strict=True), 1)
    ]


def rising(epochs: int, top: float = 0.96) -> list[float]:
    return [top - (top - 0.1) * 0.8**e for e in range(epochs)]


def curve(label: str, scores: list[float], train: float = 0.02) -> Curve:
    return Curve(label, tuple(enumerate(scores, 1)), tuple(enumerate([min(s + train, 1.0) for s in scores], 1)))


def points(*costs: float, scores: float = 0.9) -> list[Point]:
    return [
        Point(
            label=NAMES[i % len(NAMES)],
            cost=cost,
            score=scores + i / 200,
            low=scores + i / 200 - 0.03,
            high=min(scores + i / 200 + 0.03, 1.0),
            front=i % 3 == 0,
        )
        for i, cost in enumerate(costs)
    ]


def matrix(size: int, right: int = 40) -> list[list[int]]:
    return [[right if i == j else (i * j) % 7 // 4 for j in range(size)] for i in range(size)]


def every() -> Iterator[Figure]:
    """The figures, each under a name of its own."""
    gaps = [math.nan if 8 < e < 14 or e == 20 else s for e, s in enumerate(rising(30))]
    training = {
        "usual": history([2.3 * 0.85**e for e in range(30)], rising(30)),
        "decades": history([300 * 0.5**e for e in range(30)], rising(30)),
        "tiny": history([1e-15 * 0.9**e for e in range(3)], rising(3)),
        "large": history([1e6 + e / 10 for e in range(12)], rising(12)),
        "negative": history([1 - 0.1 * e for e in range(30)], rising(30)),
        "one": history([2.0], [0.375]),
        "thousand": history([2.3 * 0.995**e for e in range(1000)], [0.9 - 0.8 * 0.99**e for e in range(1000)]),
        "gaps": history([math.nan if e in (3, 4) else math.inf if e == 9 else 2 - e / 30 for e in range(30)], gaps),
        "lost": history([math.nan] * 5, [math.nan] * 5),
        "equal": history([0.5] * 4, [1.0] * 4),
    }
    for what, rows in training.items():
        yield figures.training(f"training-{what}", rows, f"{NAMES[0]} {NAMES[2]}")
    six = [curve(name, rising(40, 0.97 - i / 100)) for i, name in enumerate(NAMES)]
    yield figures.learning_curves("curves-six", six)
    yield figures.learning_curves("curves-usual", [curve("44 layers, scratch", rising(30))])
    yield figures.learning_curves("curves-one-epoch", [Curve("one epoch", ((1, 0.375),)), Curve("two", ((1, 0.625),))])
    yield figures.learning_curves(
        "curves-thousand", [curve(n, [0.9 - 0.8 * 0.99**e for e in range(1000)]) for n in "ab"]
    )
    yield figures.learning_curves("curves-gaps", [curve("gaps", gaps), curve("lost", [math.nan] * 30)])
    yield figures.learning_curves("curves-lost", [curve("lost", [math.nan] * 3)])
    yield figures.learning_curves("curves-negative", [curve("R²", [e / 10 - 0.6 for e in range(12)])])
    costs = {
        "usual": points(12.0, 30.0, 55.0, 70.0),
        "decades": points(0.0001, 10_000.0, 1.0, 20.0, 300.0),
        "one": points(5.0),
        "equal": points(*[5.0] * 6),
        "many": [*points(*[float(c) for c in range(10, 70)])],
        "none-known": [
            Point(label=n, cost=1 + i, score=0.5, low=math.nan, high=math.nan, front=not i) for i, n in enumerate("abc")
        ],
    }
    for what, some in costs.items():
        yield figures.cost_against_score(f"cost-{what}-usd", some, "cost a run", "USD", "test accuracy")
    yield figures.cost_against_score(
        "cost-time", costs["usual"], "time a run", "s", "long-named data set accuracy " * 5
    )
    for size in (2, 10, 26, 60, 150):
        yield figures.confusion(
            f"confusion-{size}", matrix(size), [f"class {i}" for i in range(size)], "Test pictures."
        )
    yield figures.confusion("confusion-names", matrix(6, 123_456), NAMES, "Test pictures.", NAMES[3])
    half = [[5, 5, 0], [2, 2, 6], [0, 0, 0]]
    yield figures.confusion("confusion-half", half, ["cat", "dog", "none of these"], "Test pictures.", "cats")
    bins = [(0.05 + i / 10, min(0.02 + i / 9, 1.0), 10 * i + 1) for i in range(10)]
    yield figures.reliability("reliability-usual", bins, 0.05)
    yield figures.reliability("reliability-one", [(1.0, 1.0, 5)], 0.0)
    yield figures.reliability("reliability-none", [], 0.0)
    yield figures.differences(
        "differences", [(n, i / 50 - 0.03, i / 50 - 0.05, i / 50) for i, n in enumerate(NAMES)], "Test"
    )
    yield figures.differences("differences-equal", [("a against b", 0.0, 0.0, 0.0)], "Test accuracy")
