"""Every figure can be read: no text is cut, covered or too pale, whatever the numbers and the names."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports.charts import figures, svg
from reports.charts.figures import Curve
from reports.document.document import Figure
from tests.reports.charts import gallery
from tests.support.browser import browser

FIGURES = list(gallery.every())
Colour = tuple[float, float, float]


def paints(figure: Figure, scheme: str) -> dict[str, Colour]:
    """The colours of a scheme, as the file itself gives them."""
    light, dark = figure.svg.split("@media (prefers-color-scheme:dark)")
    found = re.findall(r"--x-(\w+):#(\w{6})", light if scheme == "light" else dark.split("</style>")[0])
    return {name: tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)) for name, code in found}  # type: ignore[misc]


def contrast(one: Colour, other: Colour) -> float:
    def luminance(colour: Colour) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def texts_with_what_is_behind(figure: Figure, scheme: str) -> list[tuple[str, float]]:
    """Each text and its contrast to the boxes and dots drawn before it where it is."""
    known = paints(figure, scheme)
    behind: list[tuple[float, float, float, float, Colour, float]] = []
    found = []
    # A titled drawing is moved as a whole, marks and texts alike.
    for mark in ElementTree.fromstring(figure.svg).iter():
        tag = mark.tag.rpartition("}")[2]
        name = re.match(r"var\(--(\w+)", mark.get("fill", ""))
        if name is None:
            continue
        paint = known[name[1]]
        if tag == "rect":
            x, y, w, h = (float(mark.get(key, "0")) for key in ("x", "y", "width", "height"))
            behind.append((x, y, x + w, y + h, paint, float(mark.get("fill-opacity", "1"))))
        elif tag == "circle":
            x, y, r = (float(mark.get(key, "0")) for key in ("cx", "cy", "r"))
            behind.append((x - r, y - r, x + r, y + r, paint, 1.0))
        elif tag == "text":
            x, y = float(mark.get("x", "0")), float(mark.get("y", "0")) - 3
            colour = (1.0, 0.0, 1.0)
            for left, top, right, bottom, over, opacity in behind:
                if left <= x <= right and top <= y <= bottom:
                    colour = tuple(o * opacity + c * (1 - opacity) for o, c in zip(over, colour, strict=True))  # type: ignore[assignment]
            found.append((mark.text or "", contrast(paint, colour)))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_readable_on_what_is_behind_it(scheme: str) -> None:
    pale = [
        (figure.name, said, round(ratio, 2))
        for figure in FIGURES
        for said, ratio in texts_with_what_is_behind(figure, scheme)
        if ratio < 4.5
    ]
    assert pale == []


def test_the_pale_would_be_seen() -> None:
    drawing = svg.Drawing(100, 20)
    drawing.box(0, 0, 100, 20, "bad", 0.6)
    drawing.text(10, 15, "pale", "paper")
    drawing.text(10, 15, "clear", "ink")
    seen = dict(texts_with_what_is_behind(Figure("pale", drawing.svg("a box"), ""), "light"))
    assert seen["pale"] < 3 < 4.5 < seen["clear"]


_MEASURE = """
[...document.querySelectorAll('svg')].flatMap(drawing => {
  const whole = drawing.getBoundingClientRect()
  const texts = [...drawing.querySelectorAll('text')].filter(t => t.textContent)
  const boxes = texts.map(t => [t, t.getBoundingClientRect()])
  const out = boxes.filter(([t, b]) => b.left < whole.left || b.right > whole.right || b.top < whole.top
    || b.bottom > whole.bottom).map(([t, b]) => drawing.id + ': cut ' + t.textContent)
  // A box is higher than its letters: two lines apart by less than that do not touch.
  const touch = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 5
  for (let i = 0; i < boxes.length && boxes.length < 200; i++)
    for (let j = i + 1; j < boxes.length; j++)
      if (touch(boxes[i][1], boxes[j][1]))
        out.push(drawing.id + ': ' + boxes[i][0].textContent + ' touches ' + boxes[j][0].textContent)
  return out
})
"""


def test_in_a_browser_no_text_is_cut_and_none_touches_another(tmp_path: Path) -> None:
    drawn = [f.svg.replace("<svg ", f'<svg id="{f.name}" ', 1) for f in FIGURES]
    body = "".join(f"<div class=figure>{one}</div>" for one in drawn)
    (tmp_path / "all.html").write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    with browser() as page:
        page.open(tmp_path / "all.html")
        assert page.run("document.querySelectorAll('svg').length") == len(FIGURES)
        assert page.run(_MEASURE) == []
        assert page.errors == []


def numbers_of(figure: Figure, tag: str) -> list[float]:
    return [
        float(value)
        for mark in ElementTree.fromstring(figure.svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}")
        for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy")
        if (value := mark.get(key)) is not None
    ]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_whatever_the_numbers_it_is_a_whole_file_and_nothing_is_outside(figure: Figure) -> None:
    width, height = (float(ElementTree.fromstring(figure.svg).get(key, "0")) for key in ("width", "height"))
    for tag in ("line", "circle", "text", "rect"):
        assert all(-8 <= number <= max(width, height) - 8 for number in numbers_of(figure, tag)), tag
    way = [
        float(y) for d in re.findall(r'<path d="M([^"]*)"', figure.svg) for pair in d.split("L") for y in pair.split()
    ]
    assert all(math.isfinite(number) and number >= 0 for number in way)
    assert "nan" not in re.sub(r"<title>.*?</title>|aria-label=\"[^\"]*\"", "", figure.svg).lower()


def by_name(name: str) -> Figure:
    return next(figure for figure in FIGURES if figure.name == name)


def test_losses_that_span_decades_have_a_log_axis() -> None:
    assert "loss, log scale" in by_name("training-decades").svg and "loss, log scale" in by_name("training-usual").svg
    for name in ("training-negative", "training-equal", "training-lost", "training-large"):
        assert "log scale" not in by_name(name).svg, name


def test_a_line_stops_where_a_value_is_no_number() -> None:
    whole = figures.learning_curves("whole", [Curve("a", tuple(enumerate([0.1, 0.2, 0.3, 0.4, 0.5], 1)))])
    gap = figures.learning_curves("gap", [Curve("a", tuple(enumerate([0.1, 0.2, math.nan, 0.4, 0.5], 1)))])
    assert gap.svg.count('stroke-width="2.2"') == whole.svg.count('stroke-width="2.2"') + 1


def test_a_curve_without_a_score_says_so() -> None:
    assert ">–</text>" in by_name("curves-lost").svg and "0.0 %</text>" in by_name("curves-lost").svg
    assert by_name("training-lost").alt.count("no validation accuracy") == 1


def test_curves_are_drawn_from_their_first_epoch() -> None:
    """A steep beginning is neither cut off nor does it press the ends together."""
    curves = [Curve(f"net {n}", tuple(enumerate([0.1, 0.5, 0.8, 0.9, top], 1))) for n, top in enumerate((0.95, 0.98))]
    drawn = figures.learning_curves("steep", curves)
    ways = [d.split("L") for d in re.findall(r'<path d="M([^"]*)"[^>]*stroke-width="2.2"', drawn.svg)]
    assert [len(way) for way in ways] == [5, 5]
    ends = [float(way[-1].split()[1]) for way in ways]
    assert ends[0] - ends[1] > 30
    assert ">95.0 %</text>" in drawn.svg and ">98.0 %</text>" in drawn.svg


def test_long_names_keep_what_tells_them_apart() -> None:
    names = [f"34 layers, transfer from rotation, batch size 32, learning rate {rate}, seed 0" for rate in (0.01, 0.02)]
    assert svg.told_apart(names, 200) == ["…learning rate 0.01, seed 0", "…learning rate 0.02, seed 0"]
    assert svg.told_apart(["short", "names"], 200) == ["short", "names"]
    same = ["one name for both " * 5] * 2
    assert len(set(svg.told_apart(same, 100))) == 1
    cut = svg.told_apart(["x" * 500 + "1", "x" * 500 + "2"], 100)
    assert len(set(cut)) == 2 and all(svg.measure(one) <= 100 for one in cut)
    assert svg.told_apart(["", ""], 10) == ["", ""]


def test_a_sign_of_several_characters_is_not_cut_in_two() -> None:
    assert svg.fitted("👩‍🔬👩‍🔬👩‍🔬", 50) == "👩‍🔬👩‍🔬…"
    assert svg.fitted("🇩🇪🇫🇷🇮🇹", 50) == "🇩🇪🇫🇷…"
    assert svg.fitted("e\u0301" * 20, 40).removesuffix("…").endswith("e\u0301")


def test_what_no_file_can_hold_is_replaced() -> None:
    assert svg.words("a\ud800b\uffffc\x00d") == "a\ufffdb\ufffdcd"
    ElementTree.fromstring(svg.Drawing(1, 1).svg("a\ud800\x0b"))


def test_points_at_one_place_are_beside_each_other() -> None:
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="8"[^>]*><title>', by_name("cost-equal-usd").svg)
    places = [(float(x), float(y)) for x, y in dots]
    assert len(places) == 6
    assert all(math.dist(a, b) >= 16 for i, a in enumerate(places) for b in places[:i])


def test_a_front_of_hundreds_names_a_few() -> None:
    """3,334 points of equal cost and score were all named: 100 seconds, and a legend of a thousand lines."""
    points = [
        figures.Point(label=f"run {i}", cost=1.0 + i, score=0.5 + i / 1000, low=0.4, high=0.95, front=True)
        for i in range(300)
    ]
    drawn = figures.cost_against_score("cost", points, "time a run", "s", "test accuracy")
    assert drawn.caption.endswith("Named are 24 of the 300 that are so.") and drawn.alt.count("run ") <= 26
    assert "run 299" in drawn.alt and "run 0 (" in drawn.alt
