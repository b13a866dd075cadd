"""Numbers as words, and text that stays text in markdown."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports.document import Document, markdown, text
from reports.document.document import Bullets, Code, Column, Heading, Link, Listing, Paragraph, Strong, Table

NASTY = [
    "a|b",
    "line\nbreak",
    "<script>alert(1)</script>",
    "<b>bold</b> &amp; &lt;",
    "_under_ __score__ snake_case *star* **two**",
    "[link](http://evil.example)",
    "![image](x.png)",
    "`code` ``more``",
    "# heading",
    "- item",
    "1. first",
    "> quote",
    "~~gone~~",
    "\\backslash\\",
    "tab\there",
    "http://evil.example www.evil.example someone@evil.example",
    "$math$",
    "  spaces  ",
    "\u202eright to left",
    "日本語 résumé",
    "---",
    "=== ",
    "",
]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.percent(0.97841), "97.8 %"),
        (text.percent(np.float64(0.97841), 2), "97.84 %"),
        (text.percent(None), "–"),
        (text.percent(math.nan), "–"),
        (text.percent(0.0), "0.0 %"),
        (text.points(0.012), "+1.2"),
        (text.points(-0.012), "−1.2"),
        (text.points(-0.0001), "0.0"),
        (text.score(0.978, 0.004, 3), "97.8 ± 0.4 %"),
        (text.score(0.978, math.nan, 1), "97.8 %"),
        (text.interval(0.95, 0.99), "95.0–99.0 %"),
        (text.interval(math.nan, 0.99), "–"),
        (text.count(12345.0), "12,345"),
        (text.number(np.float64(0.1)), "0.1"),
        (text.number(np.int64(7)), "7"),
        (text.number(0), "0"),
        (text.number(True), "true"),
        (text.number(math.inf), "∞"),
        (text.number(pd.NA), "–"),
        (text.number("as it is"), "as it is"),
        (text.number(1234567.0), "1234567"),
        (text.p_value(0.0004), "p < 0.001"),
        (text.p_value(0.0312), "p = 0.031"),
        (text.p_value(0.5), "p = 0.50"),
        (text.duration(0), "0.0 s"),
        (text.duration(0.045), "45 ms"),
        (text.duration(0.0001), "< 1 ms"),
        (text.duration(0.1), "0.1 s"),
        (text.duration(9.96), "10 s"),
        (text.duration(59.6), "1 min 00 s"),
        (text.duration(200), "3 min 20 s"),
        (text.duration(3600 * 2 + 299), "2 h 04 min"),
        (text.money(0), "0.00 USD"),
        (text.money(0.0042), "0.0042 USD"),
        (text.money(1234.5), "1,234.50 USD"),
        (text.size(2_700_000), "2.7 MB"),
        (text.size(999), "999 B"),
        (text.plural(1, "run"), "1 run"),
        (text.plural(1200, "run"), "1,200 runs"),
        (text.join(["a"]), "a"),
        (text.join(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_as_words(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.9163, 0.9, None], ["0.9163", "0.9000", "–"]),
        ([0.0, 0.25], ["0.0000", "0.2500"]),
        ([12.5, 3.25], ["12.50", "3.25"]),
        ([359, 2.0], ["359", "2"]),
        ([1234.5, 7], ["1234", "7"]),
        ([2e9, 1], ["2e+09", "1"]),
        ([100.0, 0.00012], ["100", "0.00012"]),
        ([1.5, -0.0016], ["1.500", "−0.002"]),
        ([math.inf, 0.5], ["∞", "0.5000"]),
        ([], []),
    ],
)
def test_a_column_of_numbers_has_as_many_decimals_each(values: list[float | None], expected: list[str]) -> None:
    assert text.numbers(values) == expected


def test_width_counts_terminal_columns() -> None:
    assert text.width("日本") == 4 and text.width("e\u0301") == 1 and text.pad("日", 4) == "日  "


def rendered(source: str) -> tuple[str, list[str]]:
    """The text a CommonMark reader with GitHub's tables sees, and the kinds of everything but plain text."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    said, kinds = "", []
    for token in tokens:
        for inner in token.children or []:
            if inner.type == "text":
                said += inner.content
            else:
                kinds.append(inner.type)
    return said, kinds


def visible(value: str) -> str:
    return text.one_line(value).replace("\u2060", "")


@pytest.mark.parametrize("nasty", NASTY)
def test_text_stays_text_in_a_paragraph_and_in_a_cell(nasty: str) -> None:
    for block in (Paragraph(("x ", nasty, " y")), Table((Column("head", False, [nasty, "plain"]),))):
        said, kinds = rendered(markdown.render(Document("t", [block])))
        assert kinds == []
        assert visible(nasty) in said.replace("\u2060", "")


@given(st.text(max_size=40))
def test_any_text_stays_text(nasty: str) -> None:
    table = Table((Column("a", False, [nasty]), Column("b", True, ["end"])))
    page = markdown.render(Document("t", [Paragraph(f"x {nasty} y"), table]))
    said, kinds = rendered(page)
    assert kinds == []
    assert visible(f"x {nasty} y") in said.replace("\u2060", "")
    # One row, two cells: nothing in the text split the table.
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    assert sum(t.type == "td_open" for t in tokens) == 2


@pytest.mark.parametrize("nasty", NASTY)
def test_a_block_is_what_it_was_meant_to_be_whatever_it_begins_with(nasty: str) -> None:
    blocks = [
        Heading(nasty or "h"),
        Paragraph(nasty or "p"),
        Bullets((nasty or "b",)),
        Listing(nasty),
        Paragraph("end"),
    ]
    tokens = MarkdownIt("commonmark").parse(markdown.render(Document("t", blocks)))
    kinds = [t.type for t in tokens if t.level == 0 and t.nesting >= 0]
    assert kinds == ["heading_open", "heading_open", "paragraph_open", "bullet_list_open", "fence", "paragraph_open"]


def test_code_and_links_survive_backticks_and_spaces() -> None:
    page = markdown.render(
        Document("t", [Paragraph((Code("a`b"), " ", Link("run", "http://host/#/a b>c"), " ", Strong("x*y")))])
    )
    html = MarkdownIt("commonmark").render(page)
    assert "<code>a`b</code>" in html
    assert '<a href="http://host/#/a%20b%3Ec"><code>run</code></a>' in html
    assert "<strong>x*y</strong>" in html


def test_numbers_in_a_table_are_not_torn_apart() -> None:
    table = Table((Column("score", True, ["98.4 ± 0.2 %"]), Column("words", False, ["may be torn"])))
    assert "| 98.4\u00a0±\u00a00.2\u00a0% | may be torn |" in markdown.table(table)


def test_a_heading_over_nothing_is_left_out() -> None:
    page = markdown.render(Document("t", [Heading("kept"), Paragraph("p"), Heading("empty", 3), Heading("last")]))
    assert page == "# t\n\n## kept\n\np\n"


def test_no_numpy_repr_reaches_a_reader() -> None:
    assert "np." not in " ".join(
        [
            text.number(np.float64(1.5)),
            text.percent(np.float32(0.5)),
            text.duration(np.float64(3)),
            text.count(np.int64(3)),
        ]
    )
