"""The table of runs under way, as a terminal gets it: one line a run, eighty columns, no escape but its own."""

from __future__ import annotations

import io
import os
import re

import pytest
from rich.cells import cell_len

from tracking.errors.program import run_program
from trainers.launch.progress.table import LiveTable, Row, shortened, show, table

EVIL = "\x1b[31mred\x1b]0;title\x07 \u202etxt.exe\x9b2J\nsecond\tline"
LONG = "20 layers, scratch, 3 epochs, learning_rate 0.0{}, optimizer adam, seed {}"


def rows(count: int) -> list[Row]:
    states = ["running", "waiting", "finished", "failed", "interrupted", "pruned"]
    return [
        Row(
            name=LONG.format(at, at),
            state=states[at % len(states)],
            epoch=1000,
            epochs=1000,
            score=0.98765,
            images_per_s=123456.0,
            left_s=36000.0,
            cost_usd=1234.5,
        )
        for at in range(count)
    ]


class Terminal(io.StringIO):
    """A terminal as large as the environment says."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "80"), ("LINES", "24")):
        monkeypatch.setenv(name, value)
    return Terminal()


def drawn(terminal: Terminal, count: int = 3) -> str:
    with LiveTable(terminal) as view:
        view.draw(rows(count), "0 of 3 runs ended")
        view.say("start  one")
        view.draw(rows(count), "1 of 3 runs ended")
    return terminal.getvalue()


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_a_row_is_one_line_however_narrow(columns: int) -> None:
    lines = table(rows(12), "4 of 12 runs ended · best 0.9876", columns, 10)
    assert len(lines) == 10 and max(cell_len(line.plain) for line in lines) <= columns
    assert lines[-1].plain.startswith("… and 5 mo")


def test_at_eighty_columns_nothing_is_dropped_and_names_differ() -> None:
    lines = [line.plain for line in table(rows(4), "title", 80)]
    assert lines[1].split() == ["run", "state", "epoch", "score", "images/s", "left", "cost"]
    names = [line.partition("  ")[0] for line in lines[2:]]
    assert len(set(names)) == 4 and all("scratch" not in name for name in names), "what all share is left out"
    narrow = [line.plain for line in table(rows(4), "title", 50)]
    assert "images/s" not in narrow[1] and "score" in narrow[1]
    assert "cost" not in table([Row(name="a", state="waiting")], "t")[1].plain, "an unknown cost takes no room"


def test_a_low_window_keeps_what_goes_on_and_what_failed() -> None:
    many = [*rows(6), *(Row(name=f"later {at}", state="waiting") for at in range(50))]
    lines = [line.plain for line in table(many, "title", 80, 9)]
    assert [line.split()[-6] for line in lines[2:-1]][:1] == ["running"] and len(lines) == 9
    assert any("failed" in line for line in lines) and lines[-1] == "… and 50 more: 50 waiting"[: len(lines[-1])]


@pytest.mark.parametrize(("text", "room", "cut"), [("seed 0", 6, "seed 0"), ("44 layers, seed 0", 9, "44 l…ed 0"),
                                                   ("日本語の名前", 7, "日…前"), ("abc", 1, "…")])  # fmt: skip
def test_names_are_cut_in_the_middle(text: str, room: int, cut: str) -> None:
    assert shortened(text, room).replace(" ", "") == cut.replace(" ", "") and cell_len(shortened(text, room)) <= room


def test_no_escape_of_a_name_reaches_the_terminal(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> int:
        with LiveTable(terminal) as view:
            view.draw([Row(name=EVIL, state=EVIL)], f"title {EVIL}")
            view.say(f"said {EVIL}")
            print(f"printed {EVIL}")
        show([Row(name=EVIL, state="running")], EVIL)
        return 0

    assert run_program("test", act) == 0
    for text in (terminal.getvalue(), capsys.readouterr().out):
        left = re.sub(r"\x1b\[[0-9;]*[mK]|\x1b\[[0-9]*A|\x1b\[\?25[lh]", "", text)  # colours, erasing, up, the cursor
        assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", left), repr(left)
        assert "red" in left and "31mred" not in text


def test_an_unchanged_table_is_not_drawn_again(terminal: Terminal) -> None:
    with LiveTable(terminal) as view:
        view.draw(rows(3), "title")
        length = len(terminal.getvalue())
        view.draw(rows(3), "title")
        assert len(terminal.getvalue()) == length


def test_a_narrower_window_leaves_nothing_of_the_former_table(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd=0: os.terminal_size((80, 24)))
    with LiveTable(terminal) as view:
        view.draw(rows(3), "title")
        before = terminal.getvalue()
        monkeypatch.setattr(os, "get_terminal_size", lambda fd=0: os.terminal_size((40, 24)))
        view.draw(rows(3), "title")
        # Four lines of 80 have become eight: all of them are erased, the title's as well.
        assert terminal.getvalue()[len(before) :].count("\x1b[2K") == 5 + 4


def test_interrupted_it_gives_the_cursor_back(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt), LiveTable(terminal) as view:
        view.draw(rows(3), "title")
        raise KeyboardInterrupt
    text = terminal.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l") and text.endswith(("\n", "\x1b[?25h"))


def test_colours_and_dumb_terminals(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[36m" in drawn(terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[3\dm", drawn(Terminal()))
    monkeypatch.setenv("TERM", "dumb")
    assert drawn(Terminal()) == "start  one\n"


def test_a_pipe_gets_what_is_said_and_no_table() -> None:
    out = io.StringIO()
    with LiveTable(out) as view:
        view.say("start  one")
        view.draw(rows(3), "title")
    assert out.getvalue() == "start  one\n" and not view.is_live
