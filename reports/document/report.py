"""A report and the one place that writes it: as markdown, HTML, CSV or JSON, as text or into a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reports.document.document import Document
from reports.errors import ReportError

FORMATS = ("md", "html", "csv", "json")
WITHOUT_CSV = ("md", "html", "json")


@dataclass(frozen=True, repr=False)
class Report:
    """What ``reports.compare`` and ``reports.run_card`` return.

    Nothing is made before it is asked for: ``make_document`` takes whether figures are wanted, ``make_csv`` is None
    for a report that is no table.
    """

    make_document: Callable[[bool], Document]
    make_data: Callable[[], dict[str, Any]]
    make_csv: Callable[[], str] | None = None

    @cached_property
    def document(self) -> Document:
        """The report for readers, with its figures."""
        return self.make_document(True)

    @cached_property
    def data(self) -> dict[str, Any]:
        """The report for machines: plain values."""
        return self.make_data()

    @cached_property
    def answer(self) -> str:
        """Its first sentence."""
        return self.make_document(False).answer()

    def __repr__(self) -> str:
        return self.answer

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats this report can be written in."""
        return FORMATS if self.make_csv else WITHOUT_CSV

    def to_text(self, format: str = "md") -> str:
        """The report as ``md`` (without figures), ``html``, ``csv`` or ``json``. Raises ReportError for another."""
        if format == "md":
            from reports.document.markdown import render

            return render(self.make_document(False))
        if format == "html":
            from reports.document.html import render as as_html

            return as_html(self.document)
        if format == "csv" and self.make_csv:
            return self.make_csv()
        if format == "json":
            from reports.document.json_text import dumps

            return dumps(self.data)
        raise ReportError(f"format {format!r}: legal are {', '.join(self.formats)}")

    def save(self, path: Path | str, format: str = "") -> None:
        """Write the report to ``path``, in the format of its ending where none is given.

        The figures of markdown go to a folder of the same name beside it. Raises ReportError.
        """
        path = Path(path)
        format = format or format_of(path, self.formats)
        if format != "md":
            _write(path, self.to_text(format))
            return
        from reports.document.markdown import render

        folder = path.with_name(f"{path.stem}-figures")
        figures = {figure.name: f"{folder.name}/{figure.name}.svg" for figure in self.document.figures()}
        _write(path, render(self.document, figures))
        for figure in self.document.figures():
            _write(folder / f"{figure.name}.svg", figure.svg + "\n")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from reports.document.html import fragment

        return fragment(self.document)


def format_of(path: Path | None, formats: tuple[str, ...] = FORMATS) -> str:
    """The format that a file's ending names; ``md`` without one. Raises ReportError for an unknown ending."""
    ending = path.suffix.lstrip(".").lower() if path else ""
    if ending and ending not in formats:
        raise ReportError(f"{path}: no format is called {ending!r}; legal are {', '.join(formats)}")
    return ending or "md"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}; give another place to write to") from error
