"""``--cluster``: which source (patient, video, seller) a picture is of, told by its key or by a manifest's column."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from reports.document import text
from reports.errors import ReportError

_LEGAL = "legal are path:N (the first N parts of a picture's key), MANIFEST.csv:COLUMN and a regular expression"
_MANIFESTS = (".csv", ".tsv", ".parquet")
_KEYS = ("path", "key")


class Sources:
    """The source of each picture by its key; a picture of no known source is a source of its own."""

    def __init__(self, name: Callable[[str], str | None], spec: str = "", example: str = "") -> None:
        self._name, self._spec, self._example = name, spec, example
        self._met, self._unknown = 0, ""

    def __call__(self, key: str) -> str:
        found = self._name(key)
        self._met += found is not None
        self._unknown = self._unknown or ("" if found else key)
        return found or key

    def check(self) -> None:
        """Raises ReportError where pictures were asked for and the manifest has none of them."""
        if self._example and self._unknown and not self._met:
            raise ReportError(
                f"--cluster {self._spec}: the manifest has none of the tested pictures; it calls one"
                f" {self._example!r}, and the runs call one {self._unknown!r}"
            )


def source_of(spec: str) -> Sources:
    """What names a picture's source: ``path:2`` (the first two parts of its key), ``manifest.csv:patient`` (the column
    ``patient`` of its row), else a regular expression, whose first group counts, or all that it matches.

    Raises ReportError.
    """
    kind, _, number = spec.partition(":")
    if kind == "path":
        if not number.isdecimal() or int(number) < 1:
            raise ReportError(f"--cluster {spec!r}: N has to be 1 or more; {_LEGAL}")
        return Sources(lambda key: "/".join(key.split("/")[: int(number)]))
    for suffix in _MANIFESTS:
        file, dot, column = spec.partition(f"{suffix}:")
        if dot or spec.endswith(suffix):
            return _manifest(spec, Path(spec if not dot else file + suffix), column)
    try:
        pattern = re.compile(spec)
    except re.error as error:
        raise ReportError(f"--cluster {spec!r} is no regular expression ({error}); {_LEGAL}") from error

    def matched(key: str) -> str | None:
        found = pattern.search(key)
        return None if found is None else found.group(1 if pattern.groups else 0)

    return Sources(matched)


def _manifest(spec: str, file: Path, column: str) -> Sources:
    import pandas as pd

    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, sep="\t" if file.suffix == ".tsv" else ",", dtype=str, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas's and pyarrow's own errors are ValueErrors
        raise ReportError(f"--cluster {spec}: {file} cannot be read: {text.one_line(str(error))}") from error
    named = {str(name).strip().lower(): name for name in table.columns}
    key = next((named[name] for name in _KEYS if name in named), None)
    if key is None:
        raise ReportError(f"--cluster {spec}: {file} has no column path or key; it has {', '.join(named)}")
    legal = [name for name in named if named[name] != key]
    if column.strip().lower() not in legal:
        raise ReportError(f"--cluster {spec}: {column!r} is no column of {file}; legal are {', '.join(legal)}")
    known: dict[str, str] = {}
    rows = table[[key, named[column.strip().lower()]]].dropna().astype(str)
    for picture, source in rows.itertuples(index=False):
        place = str(PurePosixPath(picture))
        if known.setdefault(place, source) != source:
            raise ReportError(f"--cluster {spec}: {picture!r} is of both {known[place]!r} and {source!r}")
    return Sources(lambda picture: known.get(str(PurePosixPath(picture))), spec, next(iter(known), "nothing"))
