"""Peers: MXNet's readers and the wheel's own im2rec read what we write, and we read what they write, bit for bit."""

from __future__ import annotations

import gc
import io
import runpy
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import cast

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import class_folders, encoded, image_payloads, write_rec
from trainers.data import Batches, open_dataset
from trainers.data.formats.image_record import pack_image
from trainers.data.formats.recordio import MAGIC, RecordFile, write
from trainers.data.pack.pack import Options, pack
from trainers.networks import backend as door

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mxnet,
    # MXNet 1.9.1 asks SciPy for names by their old place.
    pytest.mark.filterwarnings("ignore:Please import .* from the `scipy.sparse` namespace:DeprecationWarning"),
]
MAGIC_BYTES = MAGIC.to_bytes(4, "little")


@pytest.fixture(scope="module")
def mx() -> ModuleType:
    return cast(ModuleType, door.load())


def awkward_payloads() -> list[bytes]:
    rng = np.random.default_rng(0)
    payloads = [b"", b"x", b"abcd", MAGIC_BYTES, MAGIC_BYTES * 3, b"a" + MAGIC_BYTES, b"abcd" + MAGIC_BYTES + b"xyz"]
    for _ in range(200):
        payload = bytearray(rng.bytes(int(rng.integers(0, 400))))
        for at in rng.integers(0, max(1, len(payload)), 3):
            payload[at : at + 4] = MAGIC_BYTES
        payloads.append(bytes(payload))
    return payloads


def test_records_are_byte_equal_both_ways(mx: ModuleType, tmp_path: Path) -> None:
    payloads = awkward_payloads()
    ours = write_rec(tmp_path / "ours.rec", payloads)
    theirs = mx.recordio.MXRecordIO(str(tmp_path / "theirs.rec"), "w")
    for payload in payloads:
        theirs.write(payload)
    theirs.close()
    assert ours.read_bytes() == (tmp_path / "theirs.rec").read_bytes()
    reader = mx.recordio.MXRecordIO(str(ours), "r")
    assert [reader.read() for _ in payloads] == payloads
    file = RecordFile(tmp_path / "theirs.rec")
    frames = file.scan()
    assert [file.payload(frames, index) for index in range(len(frames))] == payloads


def test_image_headers_are_theirs(mx: ModuleType) -> None:
    header = mx.recordio.IRHeader(0, 7.0, 42, 0)
    assert mx.recordio.pack(header, b"picture") == pack_image(7, 42, b"picture")


def test_packed_records_go_through_the_indexed_reader(mx: ModuleType, tmp_path: Path) -> None:
    source = class_folders(tmp_path / "source")
    pack(str(source), tmp_path / "out", Options())
    listed = [line.split("\t") for line in (tmp_path / "out" / "index" / "train.lst").read_text().splitlines()]
    reader = mx.recordio.MXIndexedRecordIO(
        str(tmp_path / "out" / "index" / "train.idx"), str(tmp_path / "out" / "train" / "train.rec"), "r"
    )
    assert sorted(reader.keys) == list(range(16))
    for index, label, name in listed:
        header, data = mx.recordio.unpack(reader.read_idx(int(index)))
        assert (header.flag, header.label, header.id) == (0, float(label), int(index))
        assert data == (source / name).read_bytes()


def test_packed_records_go_through_the_gluon_dataset(mx: ModuleType, tmp_path: Path) -> None:
    pack(str(class_folders(tmp_path / "source")), tmp_path / "out", Options(shares={"train": 1.0}))
    (tmp_path / "out" / "index" / "train.idx").rename(tmp_path / "out" / "train" / "train.idx")
    theirs = mx.gluon.data.vision.ImageRecordDataset(str(tmp_path / "out" / "train" / "train.rec"))
    ours = open_dataset(tmp_path / "out" / "train" / "train.rec", test_fraction=0)
    assert len(theirs) == 20
    for split in ours.splits.values():
        for place, key in enumerate(split.keys):
            pixels, label = theirs[int(key.split("[")[1].rstrip("]"))]
            assert label == split.labels[place]
            assert (pixels.asnumpy() == split.pictures.load(place, 3)).all()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(
        cv2.GaussianBlur(np.random.default_rng(orientation).integers(0, 256, (30, 44, 3), np.uint8), (5, 5), 2)
    ).save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("resize", [None, 29, 64])
def test_pixels_are_those_of_image_record_iter(mx: ModuleType, tmp_path: Path, resize: int | None) -> None:
    images = [
        encoded(1, ".jpg", (40, 31)),
        encoded(2, ".jpg", (31, 47)),
        encoded(3, ".png", (33, 33)),
        encoded(4, ".jpg", (29, 29), colour=False),
        *(turned(orientation) for orientation in range(1, 9)),
    ]
    path = write_rec(tmp_path / "x.rec", [pack_image(index % 2, index, image) for index, image in enumerate(images)])
    theirs = mx.io.ImageRecordIter(
        path_imgrec=str(path),
        data_shape=(3, 27, 26),
        batch_size=1,
        round_batch=False,
        preprocess_threads=1,
        **({} if resize is None else {"resize": resize}),
    )
    expected = [batch.data[0].asnumpy()[0] for batch in theirs]
    assert len(expected) == len(images)
    data = open_dataset(path, test_fraction=0)
    for split in data.splits.values():
        ((ours, _),) = Batches(split, (3, 27, 26), len(split), resize=resize).epoch(0)
        for key, image in zip(split.keys, ours, strict=True):
            assert (image == expected[int(key.split("[")[1].rstrip("]"))]).all()


def im2rec(*arguments: str) -> None:
    """The tool as it is, with the name that it asks for and NumPy 1.24 dropped."""
    tool = Path(door.load().__file__).parent / "tools" / "im2rec.py"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(np, "bool", bool, raising=False)
        patch.setattr(sys, "argv", [str(tool), *arguments])
        runpy.run_path(str(tool), run_name="__main__")
    gc.collect()  # it closes its files by being forgotten


def test_we_read_what_im2rec_writes(tmp_path: Path, mx: ModuleType) -> None:
    source = class_folders(tmp_path / "source", suffix=".jpg", size=(20, 24))
    prefix = str(tmp_path / "all")
    im2rec("--list", "--recursive", prefix, str(source))
    im2rec("--pass-through", prefix, str(source))
    data = open_dataset(f"{prefix}.rec")
    assert [split.digest for split in data.splits.values()] == [
        split.digest for split in open_dataset(source).splits.values()
    ]
    listed = open_dataset(f"{prefix}.lst", image_root=source)
    assert [split.digest for split in listed.splits.values()] == [split.digest for split in data.splits.values()]


def test_im2rec_reads_the_list_we_write_and_packs_the_same_records(tmp_path: Path, mx: ModuleType) -> None:
    source = class_folders(tmp_path / "source", suffix=".jpg")
    pack(str(source), tmp_path / "lst", Options(form="lst", shares={"train": 1.0}))
    (tmp_path / "lst" / "train_lst" / "train.lst").rename(tmp_path / "theirs.lst")
    im2rec("--pass-through", str(tmp_path / "theirs"), str(tmp_path / "lst" / "train"))
    pack(str(source), tmp_path / "rec", Options(shares={"train": 1.0}))
    assert (tmp_path / "theirs.rec").read_bytes() == (tmp_path / "rec" / "train" / "train.rec").read_bytes()
    assert (tmp_path / "theirs.idx").read_text() == (tmp_path / "rec" / "index" / "train.idx").read_text()


def test_resized_records_are_those_of_im2rec(tmp_path: Path, mx: ModuleType) -> None:
    source = class_folders(tmp_path / "source", suffix=".jpg", size=(40, 61))
    pack(str(source), tmp_path / "rec", Options(shares={"train": 1.0}, resize=17, quality=90))
    (tmp_path / "rec" / "index" / "train.lst").rename(tmp_path / "theirs.lst")
    im2rec("--resize", "17", "--quality", "90", str(tmp_path / "theirs"), str(source))
    assert (tmp_path / "theirs.rec").read_bytes() == (tmp_path / "rec" / "train" / "train.rec").read_bytes()


def test_multi_label_records_of_im2rec_are_recognised(tmp_path: Path, mx: ModuleType) -> None:
    from trainers.data.check.check import Job, check

    class_folders(tmp_path / "source", suffix=".jpg")
    rows = [f"{index}\t1\t0\tcat/{index:03}.jpg\n" for index in range(10)]
    (tmp_path / "m.lst").write_text("".join(rows))
    im2rec("--pack-label", "--pass-through", str(tmp_path / "m"), str(tmp_path / "source"))
    codes = {finding.code for finding in check([tmp_path / "m.rec"], Job()).findings}
    assert codes == {"rec-multi-label", "class-names-missing"}


def test_a_written_record_file_of_ours_can_be_appended_to(mx: ModuleType, tmp_path: Path) -> None:
    path = write_rec(tmp_path / "x.rec", image_payloads(3))
    with open(path, "ab") as file:
        write(file, image_payloads(1, start=9)[0])
    reader = mx.recordio.MXRecordIO(str(path), "r")
    assert [reader.read() is not None for _ in range(5)] == [True, True, True, True, False]
