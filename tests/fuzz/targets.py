"""A function for each parser of foreign bytes: a result, or one of this project's errors, and nothing else."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from rich.console import Console

from reports.charts.svg import Drawing
from reports.document import html, markdown, terminal
from reports.document.document import Bullets, Column, Document, Folded, Heading, Listing, Paragraph, Strong, Table
from tracking.errors.errors import UserError
from tracking.errors.redaction import hidden, public
from tracking.errors.words import csv_cell, csv_text, harmless
from tracking.importers import json_files, notes, tables
from tracking.importers.to_journal import read_file
from tracking.journal import events
from tracking.models import archive
from tracking.models.formats import params, symbol
from tracking.models.serving import tables as served_tables
from tracking.models.serving.pictures import BadPicture, Sizing, sized
from trainers.config import study, text
from trainers.data.check.findings import Findings
from trainers.data.check.lists import check_augmented
from trainers.data.formats import headers, image_record, recordio
from trainers.data.readers import augmented, idx, lists, manifest
from trainers.sagemaker.builtin import log
from trainers.sagemaker.container.data import extract
from trainers.sagemaker.watch import reasons


def _in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder, suppress(UserError):
            path = Path(folder) / name
            path.write_bytes(data)
            read(path)

    return target


def _text(read: Callable[[str], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with suppress(UserError):
            read(data.decode("utf-8", "replace"))

    return target


def _archive(path: Path) -> None:
    for act in (archive.epochs, archive.image_shape, archive.has_facts):
        with suppress(UserError):
            act(path)
    archive.take_out(path, path.parent / "out")


def _symbol(data: bytes) -> None:
    with suppress(UserError):
        graph = symbol.parse(data)
        symbol.to_json(symbol.in_single_precision(symbol.to_logits(graph)))
        symbol.num_classes(graph, {})


def _records(data: bytes) -> None:
    with suppress(UserError):
        records = recordio.RecordBytes(data)
        frames = records.scan()
        for index in range(min(len(frames), 20)):
            payload = records.payload(frames, index)
            image_record.is_protobuf_record(payload)
            found = image_record.unpack_image(payload)
            if found is not None:
                headers.probe(found.image)


def _augmented(path: Path) -> None:
    augmented.is_augmented(path.read_bytes())
    with suppress(UserError):
        findings = Findings()
        check_augmented(path, None, "train", findings, True, 1)
        findings.listed()
    augmented.read_file(path, None)


def _journal(path: Path) -> None:
    events.beginning(path.parent)
    list(events.read(path.parent))


def _document(words: str) -> Document:
    table = Table((Column(f"h{words}", False, [f"x{words}"]), Column("b", True, ["1"])), marked=(0,))
    lists = Bullets((f"x{words}", (Strong(f"x{words}"), f" {words}"))), Folded(f"x{words}", (f"x{words}",))
    return Document(f"x{words}", [Heading(f"x{words}"), Paragraph(f"x{words}"), *lists, Listing(f"x{words}"), table])


class _Tags(HTMLParser):
    """What a browser would make elements of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def _kinds(page: str) -> list[str]:
    """The blocks of markdown, and what is no text in their lines."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    lines = [
        inner.type for token in tokens for inner in token.children or [] if inner.type not in ("text", "softbreak")
    ]
    return [token.type for token in tokens] + lines


_PLAIN = _document("")
_PLAIN_TAGS, _PLAIN_KINDS = _Tags(html.render(_PLAIN)).found, _kinds(markdown.render(_PLAIN))


def _page(words: str) -> None:
    """A name is text wherever it is shown: for a browser, in markdown, on a terminal, in a drawing, in a table."""
    document, screen = _document(words), io.StringIO()
    terminal.show(document, Console(file=screen, width=100, highlight=False))
    as_html, as_markdown = html.render(document), markdown.render(document)
    assert _Tags(as_html).found == _PLAIN_TAGS, "mark-up in HTML"
    assert _kinds(as_markdown) == _PLAIN_KINDS, "mark-up in markdown"
    for page in (as_html, as_markdown, screen.getvalue()):
        assert harmless(page) == page, "an escape"
    drawing = Drawing(100, 100)
    drawing.text(1, 1, words)
    drawing.dot(1, 1, 1, "ink", title=words)
    root = ElementTree.fromstring(drawing.titled(words).svg(words))
    assert not [
        one.tag for one in root.iter() if one.tag.rpartition("}")[2] in ("script", "a", "image", "foreignObject")
    ]
    cell = str(csv_cell(words))
    assert not cell.startswith(("=", "@", "\t", "\r")) and csv_text(cell) == words, "a formula in CSV"
    file = io.StringIO()
    csv.writer(file).writerow([cell, "end"])
    assert next(csv.reader(io.StringIO(file.getvalue(), newline="")))[-1] == "end"


def _secret(words: str) -> None:
    """What is hidden stays so, and says nothing of the password that was there."""
    for uri in (f"https://me:{words}@host.example/x", words):
        assert public(public(uri)) == public(uri)
        hidden(f"no answer from {uri}")


def _request(data: bytes) -> None:
    """What a served model is asked, as MLflow hands it over."""
    import pandas

    sizing = Sizing({"image_shape": [3, 8, 8], "resize": 8})
    items: list[object] = [data, data.decode("utf-8", "replace")]
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        items += [found, *(found if isinstance(found, list) else [])][:20]
    for item in items:
        with suppress(BadPicture):
            sized(item, sizing, served=True)
        with suppress(BadPicture):
            for one in served_tables.pictures(pandas.DataFrame({"image": [item], "label": [1]}), sizing):
                sized(one, sizing, served=True)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "archive": _in_file("model.tar", _archive),
    "channel": _in_file("data.tar", lambda path: extract(path, path.parent / "out")),
    "symbol": _symbol,
    "params": _in_file("model.params", params.read),
    "notes": _text(lambda words: notes.read_notes(words, "notes.txt")),
    "table": _text(lambda words: tables.read_csv(words, "table.csv")),
    "import_json": _text(lambda words: json_files.read_json(words, "runs.json")),
    "import_file": _in_file("results.csv", read_file),
    "builtin_log": _text(lambda words: list(log.log_events(words))),
    "failure_reason": _text(reasons.classify),
    "list": _in_file("pictures.lst", lambda path: lists.read_file(path, None)),
    "idx": _in_file("train-images-idx3-ubyte", idx.read_file),
    "records": _records,
    "study": _in_file("study.toml", lambda path: study.load(str(path))),
    "config": _in_file("config.toml", text.from_toml),
    "journal": _in_file("journal-000001.jsonl", _journal),
    "manifest": _in_file("pictures.csv", lambda path: manifest.read_file(path, None)),
    "augmented": _in_file("output.manifest", _augmented),
    "parquet": _in_file("pictures.parquet", lambda path: manifest.read_file(path, None)),
    "page": _text(_page),
    "secret": _text(_secret),
    "request": _request,
}
