"""Documents of headings, tables and figures, and their renderings."""

from reports.document.document import Document

__all__ = ["Document"]
