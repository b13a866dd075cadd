"""RecordIO: framing, image headers, splits out of ``.rec`` files, and everything that is refused."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pictures import class_folders, encoded, image_payloads, protobuf_payload, with_flag, write_rec
from trainers.data import Batches, open_dataset
from trainers.data.formats import record_pieces, recordio
from trainers.data.formats.image_record import is_protobuf_record, pack_image, unpack_image
from trainers.data.formats.recordio import MAGIC, RecordFile
from trainers.errors import BadData

MAGIC_BYTES = MAGIC.to_bytes(4, "little")


def test_a_record_is_framed_as_documented() -> None:
    file = io.BytesIO()
    assert recordio.write(file, b"abcde") == 16
    assert file.getvalue() == bytes.fromhex("0a23d7ce") + b"\x05\0\0\0" + b"abcde\0\0\0"


def test_a_payload_with_the_magic_number_is_split_there() -> None:
    file = io.BytesIO()
    recordio.write(file, b"abcd" + MAGIC_BYTES + b"ef")
    first, last = (1 << 29 | 4).to_bytes(4, "little"), (3 << 29 | 2).to_bytes(4, "little")
    assert file.getvalue() == MAGIC_BYTES + first + b"abcd" + MAGIC_BYTES + last + b"ef\0\0"
    file = io.BytesIO()
    recordio.write(file, b"abc" + MAGIC_BYTES)  # not at a multiple of 4: whole
    assert file.getvalue() == MAGIC_BYTES + (7).to_bytes(4, "little") + b"abc" + MAGIC_BYTES + b"\0"


_PIECES = st.lists(st.one_of(st.binary(max_size=9), st.just(MAGIC_BYTES)), max_size=6).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(payloads=st.lists(_PIECES, max_size=8))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]) -> None:
    path = write_rec(tmp_path_factory.mktemp("rec") / "x.rec", payloads)
    file = RecordFile(path)
    frames = file.scan()
    assert frames.fault is None
    assert [file.payload(frames, index) for index in range(len(frames))] == payloads
    seen = [
        window.data[start:end].tobytes()
        for window in file.windows(frames)
        for start, end in zip(window.starts, window.ends, strict=True)
    ]
    assert seen == payloads
    headers = np.concatenate([window.headers() for window in file.windows(frames)]) if payloads else []
    for header, payload in zip(headers, payloads, strict=True):
        record = unpack_image(payload)
        if record is not None and record.flag == 0:
            assert header["label"] == np.float32(record.labels[0]) or np.isnan(header["label"])
            assert header["id"] == record.id


def test_every_cut_of_a_file_is_noticed_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    payloads = [b"", b"a" * 5, b"bcd" + b"\0" + MAGIC_BYTES + b"x", b"e" * 8]
    whole = write_rec(tmp_path / "whole.rec", payloads).read_bytes()
    borders = [0]
    for payload in payloads:
        file = io.BytesIO()
        borders.append(borders[-1] + recordio.write(file, payload))
    for cut in range(len(whole)):
        path = tmp_path / "cut.rec"
        path.write_bytes(whole[:cut])
        frames = RecordFile(path).scan()
        kept = max(number for number, border in enumerate(borders) if border <= cut)
        assert len(frames) == kept
        assert (frames.fault is None) == (cut in borders)


def test_large_records_among_small_ones(tmp_path: Path) -> None:
    sizes = [10, 70_000, 5, 300_000, 300_000, 3_000_000, 20, 20, 1_100_000, 7]
    payloads = [np.random.default_rng(size).bytes(size) for size in sizes]
    file = RecordFile(write_rec(tmp_path / "x.rec", payloads))
    frames = file.scan()
    assert frames.lengths.tolist() == sizes
    for index, payload in enumerate(payloads):
        assert file.payload(frames, index) == payload
    heads = [
        window.data[start:end].tobytes()
        for window in file.windows(frames, head_bytes=4096)
        for start, end in zip(window.starts, window.ends, strict=True)
    ]
    assert all(payload.startswith(head) for head, payload in zip(heads, payloads, strict=True))
    assert all(len(head) >= min(len(payload), 4096) for head, payload in zip(heads, payloads, strict=True))


def test_a_file_is_never_read_whole(tmp_path: Path) -> None:
    path = write_rec(tmp_path / "x.rec", [bytes(100_000)] * 600)
    tracemalloc.start()
    file = RecordFile(path)
    frames = file.scan()
    total = sum(len(window.starts) for window in file.windows(frames))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 600
    assert peak_bytes < 12_000_000  # of 60 MB


def test_labels_and_ids_come_back() -> None:
    record = unpack_image(pack_image(7, 1234567890123, b"picture"))
    assert record is not None
    assert (record.flag, record.labels, record.id, record.image) == (0, (7.0,), 1234567890123, b"picture")
    several = unpack_image(with_flag(3, [1, 2, 3], b"picture"))
    assert several is not None and several.labels == (1.0, 2.0, 3.0) and several.image == b"picture"
    assert unpack_image(b"short") is None
    assert unpack_image(with_flag(0xFFFFFFFF, [], b"x")) is None


def test_protobuf_is_told_from_images() -> None:
    assert is_protobuf_record(protobuf_payload())
    assert not any(is_protobuf_record(payload) for payload in image_payloads(5))
    assert not is_protobuf_record(with_flag(10, [0] * 10, b"x"))  # 0x0a, as a protobuf record begins
    assert not is_protobuf_record(b"")


def test_rec_and_folder_with_the_same_pictures_have_the_same_digests(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder")
    payloads = [
        pack_image(label, number, (folder / name / f"{index:03}.png").read_bytes())
        for number, (label, name, index) in enumerate(
            (label, name, index) for index in reversed(range(10)) for label, name in enumerate(("cat", "dog"))
        )
    ]
    from_folder = open_dataset(folder)
    from_rec = open_dataset(write_rec(tmp_path / "x.rec", payloads))
    assert [split.digest for split in from_rec.splits.values()] == [
        split.digest for split in from_folder.splits.values()
    ]
    assert from_rec.train.keys[0].startswith("x.rec[")
    assert from_rec.class_names == ("0", "1")


def test_pictures_of_a_rec_are_those_of_the_files(tmp_path: Path) -> None:
    data = open_dataset(write_rec(tmp_path / "x.rec", image_payloads(20)), test_fraction=0)
    for place, key in enumerate(data.train.keys):
        number = int(key.split("[")[1].rstrip("]"))
        assert data.train.pictures.read(place) == encoded(number)
        assert data.train.labels[place] == number % 2


@pytest.mark.parametrize("flat", [True, False])
def test_one_rec_per_split(tmp_path: Path, flat: bool) -> None:
    for number, name in enumerate(("train", "validation", "test")):
        path = tmp_path / f"{name}.rec" if flat else tmp_path / name / f"any-{name}.rec"
        write_rec(path, image_payloads(20 - 4 * number, start=100 * number))
    (tmp_path / "classes.json").write_text('{"class_names": ["cat", "dog"]}')
    data = open_dataset(tmp_path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20, "validation": 16, "test": 12}
    assert data.class_names == ("cat", "dog")


def test_shuffled_stream_covers_every_record_once_an_epoch(tmp_path: Path) -> None:
    data = open_dataset(write_rec(tmp_path / "x.rec", image_payloads(60)), test_fraction=0)
    batches = Batches(data.train, (3, 12, 10), 7, shuffle=True, memory_bytes=0)
    assert not batches.in_memory
    expected = sorted(data.train.pictures.load(at, 3).tobytes() for at in range(len(data.train)))
    for epoch in range(2):
        images = np.concatenate([images for images, _ in batches.epoch(epoch)])
        assert sorted(image.transpose(1, 2, 0).tobytes() for image in images) == expected


def test_a_list_of_one_label_is_a_label(tmp_path: Path) -> None:
    payloads = [with_flag(1, [index % 2], encoded(index), index) for index in range(20)]
    data = open_dataset(write_rec(tmp_path / "x.rec", payloads))
    assert sorted(np.concatenate([split.labels for split in data.splits.values()])) == [0] * 10 + [1] * 10


@pytest.mark.parametrize(
    ("payloads", "words"),
    [
        ([], "holds no record"),
        ([protobuf_payload()] * 3, "application/x-recordio-protobuf"),
        ([*image_payloads(4), with_flag(2, [0, 1], b"x")], r"record 4 has 2 labels.*flag 0"),
        ([*image_payloads(4), with_flag(9, [0, 1], b"x")], r"record 4 has a broken header"),
        ([*image_payloads(4), b"x" * 24], r"record 4 has no room for a picture \(1 such\)"),
        ([*image_payloads(4), with_flag(1, [0.5], encoded(0))], r"record 4 has label 0\.5"),
        ([*image_payloads(4), with_flag(1, [float("nan")], encoded(0))], r"record 4 has label nan"),
        ([*image_payloads(4), with_flag(1, [1e30], encoded(0))], r"record 4 has label 1e\+30"),
        ([*image_payloads(4), with_flag(1, [-1], encoded(0))], r"labels go from -1 to 1"),
        ([*image_payloads(4), with_flag(1, [2e8], encoded(0))], r"labels go from 0 to 200000000"),
        ([*image_payloads(20), pack_image(3, 20, encoded(99))], r"class '2' has 0 different"),
    ],
)
def test_records_that_cannot_be_used_are_refused(tmp_path: Path, payloads: list[bytes], words: str) -> None:
    with pytest.raises(BadData, match=words):
        open_dataset(write_rec(tmp_path / "x.rec", payloads))


def test_damaged_files_say_where_and_what_to_do(tmp_path: Path) -> None:
    path = write_rec(tmp_path / "x.rec", image_payloads(20))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(BadData, match=r"cut off.*byte [\d,]+, after 19 whole records.*check .*x\.rec.*--skip-bad"):
        open_dataset(path)
    path.write_bytes(whole + b"more to come")
    with pytest.raises(BadData, match="after 20 whole records"):
        open_dataset(path)
    path.write_bytes(b"\x89PNG" + whole)
    with pytest.raises(BadData, match="no RecordIO file"):
        open_dataset(path)


def test_a_label_beyond_the_class_map_is_refused(tmp_path: Path) -> None:
    path = write_rec(tmp_path / "x.rec", image_payloads(20, num_classes=4))
    (tmp_path / "classes.json").write_text('{"class_names": ["cat", "dog"]}')
    with pytest.raises(BadData, match=r"label 3, but classes\.json names 2 classes"):
        open_dataset(path)


@pytest.mark.parametrize("text", ["", "[]", '{"class_names": []}', '{"class_names": ["a", 1]}', '{"class_names": "ab"}',
                                  '{"class_names": ["a", "a"]}', "[" * 100_000])  # fmt: skip
def test_broken_class_maps_are_refused(tmp_path: Path, text: str) -> None:
    path = write_rec(tmp_path / "x.rec", image_payloads(20))
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(BadData, match=r"classes\.json"):
        open_dataset(path)


def test_two_records_in_one_folder_without_split_names_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rec(tmp_path / f"{name}.rec", image_payloads(20))
    with pytest.raises(BadData, match=r"exactly one \.rec there, found a\.rec, b\.rec"):
        open_dataset(tmp_path)


def test_a_damaged_frame_is_no_incomplete_record() -> None:
    whole = io.BytesIO()
    recordio.write(whole, b"picture")
    size = whole.tell()
    incomplete = struct.pack("<II", recordio.MAGIC, 100)
    found, end = record_pieces.parse(whole.getvalue() + incomplete, base=8)
    assert [(record.offset, record.size, record.payload) for record in found] == [(8, size, b"picture")]
    assert end == 8 + size
    for damaged in (struct.pack("<II", recordio.MAGIC, 4 << 29 | 100), b"\x0a\x23\xd7\xcf"):
        with pytest.raises(record_pieces.NotRecords) as caught:
            record_pieces.parse(whole.getvalue() + damaged, base=8)
        assert caught.value.offset == 8 + size
