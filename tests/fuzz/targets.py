"""A function for each parser of foreign bytes: a result, or one of this project's errors, and nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tracking.errors.errors import UserError
from tracking.importers import json_files, notes, tables
from tracking.importers.to_journal import read_file
from tracking.journal import events
from tracking.models import archive
from tracking.models.formats import params, symbol
from trainers.config import study, text
from trainers.data.check.findings import Findings
from trainers.data.check.lists import check_augmented
from trainers.data.formats import headers, image_record, recordio
from trainers.data.readers import augmented, idx, lists, manifest
from trainers.sagemaker.builtin import log
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


TARGETS: dict[str, Callable[[bytes], None]] = {
    "archive": _in_file("model.tar", _archive),
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
}
