"""Hostile bytes: the parsers of records, lists, IDX files and headers neither crash, hang nor swallow memory."""

from __future__ import annotations

import io
import os
import random
import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.pictures import encoded, image_payloads, protobuf_payload, with_flag, write_rec
from trainers.data import open_dataset
from trainers.data.check.check import Job, check
from trainers.data.formats.headers import FORMATS, probe, probe_many
from trainers.data.formats.image_record import is_protobuf_record, unpack_image
from trainers.data.formats.recordio import RecordFile
from trainers.data.pictures.codec import decode
from trainers.data.readers.idx import read_file
from trainers.data.readers.lists import BadLine, Row, parse
from trainers.errors import BadData

ROUNDS = 400
MEMORY_BYTES = 40_000_000


def mutations(data: bytes, rounds: int, seed: int) -> Iterator[bytes]:
    """``data`` with bytes flipped, cut out, doubled, and length fields set to extremes."""
    chance = random.Random(seed)
    extremes = [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x1f", b"\xff\xff\xff\x7f", b"\x0a\x23\xd7\xce"]
    for _ in range(rounds):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(changed) + 1)
            kind = chance.randrange(5)
            if kind == 0 and changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            elif kind == 1:
                changed[at // 4 * 4 : at // 4 * 4 + 4] = chance.choice(extremes)
            elif kind == 2:
                del changed[at : at + chance.randint(1, 64)]
            elif kind == 3:
                changed[at:at] = changed[at : at + chance.randint(1, 64)]
            else:
                changed[at:at] = chance.randbytes(chance.randint(1, 16))
        yield bytes(changed)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Python's own memory, and what the process grew to with that of OpenCV and Pillow."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    yield
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MEMORY_BYTES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 5 * MEMORY_BYTES // 1024


def read_all(path: Path) -> None:
    file = RecordFile(path)
    frames = file.scan()
    assert len(frames) <= file.size // 8
    for index in range(len(frames)):
        payload = file.payload(frames, index)
        assert len(payload) == frames.lengths[index]
        unpack_image(payload)
        is_protobuf_record(payload)
    total = 0
    for window in file.windows(frames):
        window.headers()
        total += len(window.starts)
    assert total == len(frames)
    file.close()


def test_record_parser(tmp_path: Path, bounded_memory: None) -> None:
    magic = b"\x0a\x23\xd7\xce"
    payloads = [*image_payloads(4), b"abcd" + magic * 3 + b"x", with_flag(3, [1, 2, 3], b"x"), protobuf_payload(), b""]
    whole = write_rec(tmp_path / "x.rec", payloads).read_bytes()
    path = tmp_path / "fuzz.rec"
    for changed in mutations(whole, ROUNDS, 1):
        path.write_bytes(changed)
        read_all(path)
        try:
            open_dataset(path)
        except BadData as error:
            assert len(str(error)) < 2000


def test_record_check_never_fails(tmp_path: Path, bounded_memory: None) -> None:
    whole = write_rec(tmp_path / "x.rec", image_payloads(6)).read_bytes()
    path = tmp_path / "fuzz.rec"
    for number, changed in enumerate(mutations(whole, ROUNDS // 4, 2)):
        path.write_bytes(changed)
        check([path], Job(num_classes=2, image_shape=(3, 8, 8)), fast=number % 2 == 0, threads=1)


def test_lengths_that_promise_gigabytes_allocate_nothing(tmp_path: Path, bounded_memory: None) -> None:
    path = tmp_path / "bomb.rec"
    for flag in range(8):
        head = b"\x0a\x23\xd7\xce" + (flag << 29 | 0x1FFFFFFF).to_bytes(4, "little")
        for body in (b"", b"x" * 100, head * 50):
            path.write_bytes(head + body)
            read_all(path)
            assert RecordFile(path).scan().fault is not None
    payload = with_flag(0xFFFFFFFF, [], b"x")
    path = write_rec(path, [payload] * 4)
    read_all(path)
    with pytest.raises(BadData, match="broken header"):
        open_dataset(path)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_list_parser_takes_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lst"
    path.write_bytes(data)
    _, rows = parse(path)
    for row in rows:
        assert isinstance(row, Row | BadLine)
        if isinstance(row, BadLine):
            assert len(row.text) < 600


def test_list_parser(tmp_path: Path, bounded_memory: None) -> None:
    whole = "".join(f"{index}\t{index % 3}\tcat/{index}.jpg\n" for index in range(20)).encode()
    path = tmp_path / "fuzz.lst"
    for changed in mutations(whole, ROUNDS, 3):
        path.write_bytes(changed)
        list(parse(path)[1])
        try:
            open_dataset(path, image_root=tmp_path)
        except BadData as error:
            assert len(str(error)) < 2000
    with open(path, "wb") as file:
        file.write(b"0\t1\t")
        file.truncate(200_000_000)
    assert [row.kind for row in parse(path)[1] if isinstance(row, BadLine)] == ["long"]


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("x.rec", "x.lst", "x.csv", "x"):
        os.mkfifo(tmp_path / name)
        for read in (open_dataset, lambda path: check([path], Job())):
            with pytest.raises(BadData, match="neither a file nor a folder"):
                read(tmp_path / name)


def test_idx_parser(tmp_path: Path, bounded_memory: None) -> None:
    whole = (0x803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (5, 4, 3)) + bytes(60)
    path = tmp_path / "fuzz"
    for changed in mutations(whole, ROUNDS, 4):
        path.write_bytes(changed)
        try:
            assert read_file(path).size <= len(changed)
        except BadData:
            pass


def pictures() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, deep, small = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.fromarray(np.zeros((9, 14, 3), np.uint8)).save(turned, "JPEG", exif=exif)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(deep, "PNG")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8), "RGBA").save(small, "WEBP")
    return [
        encoded(1, ".jpg"),
        encoded(2),
        encoded(3, ".png", colour=False),
        *(f.getvalue() for f in (turned, deep, small)),
    ]


def test_headers_in_bulk_are_those_one_by_one() -> None:
    data = [*pictures(), b"", b"x", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + bytes(40), b"GIF89a" + bytes(40)]
    for number, picture in enumerate(pictures()):
        data += mutations(picture, ROUNDS, 10 + number)
        data += [picture[:cut] for cut in range(0, min(len(picture), 700), 7)]
    ends = np.cumsum([len(picture) for picture in data])
    starts = ends - np.array([len(picture) for picture in data])
    heads = probe_many(np.frombuffer(b"".join(data), np.uint8), starts, ends)
    for picture, head in zip(data, heads, strict=True):
        one = probe(picture)
        if one is None:
            assert head["height"] == 0 or head["width"] == 0
        else:
            assert FORMATS[head["format"]] == one.format
            assert (head["height"], head["width"], head["orientation"]) == (one.height, one.width, one.orientation)
            assert (head["components"], head["bits"]) == (one.components, one.bits)
            assert (head["alpha"], head["animated"]) == (one.alpha, one.animated)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::DeprecationWarning:PIL")
def test_decoder_gives_a_picture_or_names_it(bounded_memory: None) -> None:
    for number, picture in enumerate(pictures()):
        for changed in mutations(picture, ROUNDS // 4, 20 + number):
            for channels in (1, 3):
                try:
                    pixels = decode(changed, channels, "the picture")
                except BadData as error:
                    assert str(error).startswith("the picture: ")
                else:
                    assert pixels.ndim == 3 and pixels.shape[2] == channels and pixels.dtype == np.uint8
