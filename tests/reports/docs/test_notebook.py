"""The notebook in ``docs/`` runs from top to bottom on a real store, and what it shows is what it promises."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import reports
import tracking
from tests.support import ROOT
from tests.support.runs import demo, new_store

NOTEBOOK = ROOT / "docs" / "leaderboard.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(cells: list[str], **names: Any) -> list[Any]:
    """Execute cells one after another as a notebook does; the value of each one's last line."""
    shown = []
    for number, source in enumerate(cells):
        tree = ast.parse(source, f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        shown.append(value)
    return shown


def test_it_is_kept_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        assert cell["id"] and (
            cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
        )


def test_the_first_cell_is_what_readme_and_the_page_of_the_names_begin_with() -> None:
    """There it is run, by the test of that page's code."""
    first = code_cells()[0]
    assert all(first in (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/api.md"))
    assert len([line for line in first.splitlines() if line]) <= 10


def test_it_runs(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workdir / "mlruns").mkdir()
    demo(new_store(workdir / "mlruns"))
    shown = run(code_cells()[1:], reports=reports, tracking=tracking)
    board, columns, by_depth, grouped, pair, card, runs = shown
    html = board._repr_html_()
    assert "on digits: " in html and "<svg" in html and "<script" not in html
    assert list(columns.columns) == ["rank", "label", "n", "test_accuracy", "low", "high", "time_s"]
    assert by_depth.loc[44] == pytest.approx(0.978, abs=0.001)
    assert grouped["n"].sum() == board["n"].sum()
    assert "McNemar" in pair._repr_html_() and "Calibration" in card._repr_html_()
    assert isinstance(runs, pd.DataFrame) and len(runs) == 5
    assert runs["metrics.test_accuracy"].is_monotonic_decreasing
