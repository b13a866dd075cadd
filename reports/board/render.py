"""A leaderboard in one of its formats, and on disk with its figures beside it."""

from __future__ import annotations

from pathlib import Path

from reports.board.board import Board
from reports.document import Document
from reports.errors import ReportError

FORMATS = ("md", "html", "csv", "json")


def render(board: Board, format: str) -> str:
    """The text of ``board`` in one of ``FORMATS``, ending in one newline."""
    if format == "md":
        from reports.board.page import document
        from reports.document.markdown import render as as_markdown

        return as_markdown(document(board, with_figures=False))
    if format == "html":
        from reports.board.page import document
        from reports.document.html import render as as_html

        return as_html(document(board))
    if format == "csv":
        from reports.board.export import to_csv

        return to_csv(board)
    if format == "json":
        from reports.board.export import to_json

        return to_json(board)
    raise ReportError(f"format {format!r}: legal are {', '.join(FORMATS)}")


def write(board: Board, path: Path, format: str) -> None:
    """Write the page to ``path``; markdown's figures go to a folder of the same name beside it."""
    if format == "md":
        from reports.board.page import document

        write_document(document(board), path, format)
    else:
        save(path, render(board, format))


def write_document(document: Document, path: Path, format: str) -> None:
    """Write a document as ``md`` with its figures beside it, or as ``html`` with them inside."""
    if format == "html":
        from reports.document.html import render as as_html

        save(path, as_html(document))
        return
    from reports.document.markdown import render as as_markdown

    folder = path.with_name(f"{path.stem}-figures")
    figures = {figure.name: f"{folder.name}/{figure.name}.svg" for figure in document.figures()}
    save(path, as_markdown(document, figures))
    for figure in document.figures():
        save(folder / f"{figure.name}.svg", figure.svg + "\n")


def save(path: Path, text: str) -> None:
    """Write a text file, making its folder. Raises ReportError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}; give another --out") from error
