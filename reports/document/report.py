"""A report that is ready: its document for readers, its data for machines, and the ways to show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.document.document import Document
from reports.errors import ReportError

FORMATS = ("md", "html", "json")


@dataclass(frozen=True)
class Report:
    """What ``reports.compare`` and ``reports.run_card`` return."""

    document: Document
    data: dict[str, Any]

    def to_text(self, format: str = "md") -> str:
        """The report as ``md`` (without figures), ``html`` or ``json``."""
        if format == "md":
            from reports.document.markdown import render

            return render(self.document)
        if format == "html":
            from reports.document.html import render as as_html

            return as_html(self.document)
        if format == "json":
            from reports.document.json_text import dumps

            return dumps(self.data)
        raise ReportError(f"format {format!r}: legal are {', '.join(FORMATS)}")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from reports.document.html import fragment

        return fragment(self.document)
