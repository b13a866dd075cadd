"""Names and values of others: no escape reaches a terminal, no formula a spreadsheet."""

from __future__ import annotations

import sys

import pytest

from tracking.errors.program import run_program
from tracking.errors.words import csv_cell, csv_text, harmless

ESCAPES = {
    "\x1b[31mred\x1b[0m": "red",
    "a\x1b]0;title\x07b": "ab",
    "a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "alink",
    "\x9b2Jgone\x85": "gone",
    "abc\u202egpj.exe\u2066": "abcgpj.exe",
    "bell\a\b": "bell",
    "größe\t⭐\n": "größe\t⭐\n",
}


@pytest.mark.parametrize("text", ESCAPES)
def test_what_a_terminal_acts_upon_is_left_out(text: str) -> None:
    assert harmless(text) == ESCAPES[text]


def test_no_program_lets_escapes_through(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> int:
        print("out \x1b[31mred\x1b]0;t\x07")
        print("err \u202eright", file=sys.stderr)
        return 0

    assert run_program("tracking", act) == 0
    said = capsys.readouterr()
    assert said.out == "out red\n" and said.err == "err right\n"


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\r=1", " =1"])
def test_formulas_become_text_and_are_read_back(text: str) -> None:
    assert csv_cell(text) == f"'{text}" and csv_text(f"'{text}") == text


@pytest.mark.parametrize("value", [-0.5, "-0.5", "+3", "-1e-05", "-12 %", "-inf", "a=b", "", "'quoted'", 3])
def test_numbers_stay_numbers(value: object) -> None:
    assert csv_cell(value) == value
