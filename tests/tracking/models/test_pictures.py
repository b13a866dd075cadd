"""Pictures on their way into a saved model: the very pixels that training would have made, or a refusal in words."""

from __future__ import annotations

import base64
import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.models import crops, photographs
from tracking.models.package import encode_png
from tracking.models.serving.pictures import (
    ROOT_VARIABLE,
    BadPicture,
    Sizing,
    as_pixels,
    decode,
    read,
    resized,
    sized,
    to_channels,
)
from trainers.data.pictures import codec as training
from trainers.data.pictures import sizing as training_sizing

PHOTO = photographs()[0]


def encoded(pixels: NDArray[np.uint8], form: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels if pixels.ndim == 2 or pixels.shape[2] != 1 else pixels[:, :, 0]).save(out, form, **how)
    return out.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def a_png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that says it is of this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


PIECE = PHOTO[100:177, 200:301]
FORMS = {
    "png": encoded(PIECE),
    "grey png": encoded(PIECE[:, :, 0]),
    "png with alpha": encoded(np.dstack([PIECE, PIECE[:, :, :1]])),
    "palette png": encoded(np.asarray(Image.fromarray(PIECE).quantize(16).convert("RGB"))),
    "16-bit png": encoded(PIECE[:, :, 0].astype(np.uint16) * 257),
    "png with an orientation": encoded(PIECE, exif=turned(6)),
    "jpeg": encoded(PIECE, "JPEG", quality=90),
    "jpeg, colour halved": encoded(PIECE, "JPEG", quality=70, subsampling=2),
    "progressive jpeg": encoded(PIECE, "JPEG", progressive=True),
    "grey jpeg": encoded(PIECE[:, :, 0], "JPEG"),
    "webp": encoded(PIECE, "WEBP"),
    "webp without loss, with alpha": encoded(np.dstack([PIECE, PIECE[:, :, :1]]), "WEBP", lossless=True),
    "bmp": encoded(PIECE, "BMP"),
    "grey bmp": encoded(PIECE[:, :, 0], "BMP"),
    "tiff": encoded(PIECE, "TIFF"),
    "tiff with alpha": encoded(np.dstack([PIECE, PIECE[:, :, :1]]), "TIFF", compression="tiff_lzw"),
    "16-bit tiff": encoded(PIECE[:, :, 0].astype(np.uint16) * 257, "TIFF"),
    **{f"jpeg turned {way}": encoded(PIECE, "JPEG", exif=turned(way)) for way in range(2, 9)},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_a_picture_is_decoded_as_in_training(form: str, channels: int) -> None:
    expected = training.decode(FORMS[form], channels, form)
    assert (to_channels(decode(FORMS[form], channels), channels) == expected).all()


@pytest.mark.parametrize(
    "size", [(28, 28), (32, 40), (64, 51), (77, 101), (154, 202), (20, 300), (500, 10)], ids=lambda s: f"{s[0]}x{s[1]}"
)
@pytest.mark.parametrize("channels", [1, 3])
def test_linear_resizing_is_opencvs_to_the_last_bit(size: tuple[int, int], channels: int) -> None:
    for pixels in (PIECE, PHOTO, PHOTO[:8, :8], PHOTO[: 2 * size[0], : 2 * size[1]]):
        piece = np.ascontiguousarray(pixels[:, :, :channels])
        assert (resized(piece, *size) == training_sizing.resized(piece, *size)).all()


@pytest.mark.parametrize("size", [(28, 28), (7, 20), (32, 40), (64, 51), (107, 160), (61, 91)], ids=str)
def test_resizing_by_area_is_opencvs_but_for_rounding(size: tuple[int, int]) -> None:
    for pixels in (PIECE, PHOTO):
        mine = resized(pixels, *size, area=True).astype(int)
        difference = np.abs(mine - training_sizing.resized(pixels, *size, area=True))
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(
    ("resize", "fit", "own"),
    [(None, "crop", True), (40, "crop", True), (40, "crop", False), (None, "squash", True), (None, "crop", False)],
)
@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 24, 32)], ids=str)
def test_the_network_sees_what_training_showed_it(
    resize: int | None, fit: Any, own: bool, shape: tuple[int, int, int]
) -> None:
    channels, height, width = shape
    theirs = training_sizing.Sizing(channels=channels, height=height, width=width, resize=resize, fit=fit, own=own)
    facts = {
        "image_shape": list(shape),
        "resize": resize,
        "fit": "crop" if fit == "crop" and (own or resize) else "squash",  # as trainers.training.record says it
        "interpolation": "linear" if own else "area",
    }
    for pixels in (PIECE, PHOTO[:40, :50], np.ascontiguousarray(PHOTO[:60].transpose(1, 0, 2))):
        brought = to_channels(theirs.apply(pixels, theirs.targets(np.array([pixels.shape]))[0]), channels)
        top, left = (brought.shape[0] - height) // 2, (brought.shape[1] - width) // 2
        expected = brought[top : top + height, left : left + width].transpose(2, 0, 1)
        seen = Sizing(facts).apply(pixels)
        assert seen.shape == shape and seen.flags.c_contiguous
        assert np.abs(seen.astype(int) - expected).max() <= (0 if own else 1)


@pytest.mark.parametrize(
    ("native", "given", "before_the_crop"),
    [
        ((28, 28), (28, 28), (28, 28)),  # as all of training's: nothing is scaled
        ((28, 28), (56, 112), (28, 56)),  # of another size: to theirs
        ((32, 40), (32, 40), (32, 40)),
        ((32, 40), (64, 64), (32, 32)),
        (None, (50, 60), (50, 60)),  # training saw all sizes and cropped
        (None, (14, 21), (28, 42)),  # too small for the crop
    ],
)
def test_a_picture_of_another_size_is_brought_to_trainings(
    native: tuple[int, int] | None, given: tuple[int, int], before_the_crop: tuple[int, int]
) -> None:
    sizing = Sizing({"image_shape": [3, 28, 28], "native_size": native})
    pixels = PHOTO[: given[0], : given[1]]
    scaled = resized(pixels, *before_the_crop)
    top, left = (before_the_crop[0] - 28) // 2, (before_the_crop[1] - 28) // 2
    assert (sizing.apply(pixels) == scaled[top : top + 28, left : left + 28].transpose(2, 0, 1)).all()


def test_every_way_to_give_a_picture_gives_the_same(tmp_path: Path) -> None:
    data = encoded(PIECE)
    (tmp_path / "piece.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    broken_lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    ways = [
        data,
        bytearray(data),
        memoryview(data),
        text,
        text.encode(),
        broken_lines,
        f"data:image/png;base64,{text}",
        str(tmp_path / "piece.png"),
        tmp_path / "piece.png",
        PIECE,
        PIECE.tolist(),
        PIECE.astype(np.float64),
        PIECE.astype(object),
    ]
    for way in ways:
        assert (read(way, 3, served=False) == PIECE).all(), type(way)
    assert (read(PIECE[:, :, 0], 1, served=False) == PIECE[:, :, :1]).all()


def test_our_own_png_is_one() -> None:
    for pixels in (crops(1, (3, 9, 13))[0], crops(1, (1, 9, 13))[0]):
        found = np.asarray(Image.open(io.BytesIO(encode_png(pixels.transpose(2, 0, 1)))))
        assert (found.reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (b"not a picture", "not a readable JPEG, PNG, WebP, BMP or TIFF"),
        (b"", "not a readable"),
        (FORMS["jpeg"][:300], "not a readable"),
        (FORMS["png"][:300], "not a readable"),
        (encoded(PIECE, "GIF"), "not a readable"),
        (encoded(PIECE, "TIFF")[:300], "not a readable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable"),
        (a_png(10_000, 10_000), "too large|10000 x 10000 px; at most"),
        (a_png(9_440, 9_440), "9440 x 9440 px; at most"),
        (a_png(2_000, 33_000), "2000 x 33000 px; at most"),
        (a_png(60_000, 60_000), "too large|at most"),
        (a_png(2**31 - 1, 2**31 - 1), "too large|at most"),
        (a_png(7_000, 7_000), "is a trap"),
        (a_png(0, 5), "not a readable"),
        ("/9j/not really", "damaged|not a readable"),
        ("data:image/png;base64,####", "damaged"),
        ("nowhere/at/all.png", "no file"),
        ("nul\0byte.png", "no file|cannot be read"),
        ("/etc", "no file"),
        (np.zeros((3, 28, 28), np.uint8), r"shape \(3, 28, 28\)"),
        (np.zeros((2, 28, 28, 3), np.uint8), "one picture is"),
        (np.full((8, 8, 3), 256), "from 256 to 256"),
        (np.full((8, 8, 3), -1), "from -1"),
        (np.full((8, 8, 3), 0.5), "no whole numbers"),
        (np.full((8, 8, 3), np.nan), "from nan"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        ([[[1, 2, 3]], [[1, 2]]], "no regular array"),
        ([["a"]], "no regular array"),
        (np.array([[True]]), "type bool"),
        (7, "int is no picture"),
        (None, "a missing value"),
        (float("nan"), "a missing value"),
        ({"a": 1}, "dict is no picture"),
    ],
)
def test_what_is_no_picture_is_refused(item: Any, words: str) -> None:
    sizing = Sizing({"image_shape": [3, 28, 28]})
    with pytest.raises(BadPicture, match=words):
        sizing.apply(read(item, 3, served=False))


def test_a_bomb_takes_no_memory() -> None:
    import tracemalloc

    bomb = a_png(30_000, 30_000, zlib.compress(bytes(10_000_000)))
    tracemalloc.start()
    with pytest.raises(BadPicture):
        decode(bomb, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_of_large_pictures_one_at_a_time_is_in_memory() -> None:
    """Until it has the network's size; small ones do not wait."""

    met: list[bool] = []

    class Meeting(Sizing):
        def apply(self, pixels: Any) -> Any:
            try:
                both.wait(0.2 if pixels.shape[0] > 1000 else 20)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)
            return super().apply(pixels)

    sizing = Meeting({"image_shape": [1, 28, 28], "resize": 28})
    for side in (2_100, 100):
        both = threading.Barrier(2)
        picture = encoded(np.zeros((side, side), np.uint8), compress_level=0)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda item: sized(item, sizing, served=True), [picture] * 2))
        assert {answer.shape for answer in found} == {(1, 28, 28)}
    assert met == [False, False, True, True]


def test_a_large_picture_is_brought_to_size_in_bands() -> None:
    import tracemalloc

    pixels = np.tile(PHOTO, (6, 5, 1))  # (2562, 3200, 3): 25 MB, and 98 MB as float32
    tracemalloc.start()
    found = resized(pixels, 28, 30, area=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000
    assert np.abs(found.astype(int) - training_sizing.resized(pixels, 28, 30, area=True)).max() <= 1


def test_the_largest_picture_that_trains_is_served() -> None:
    largest = encoded(np.zeros((9_400, 9_400), np.uint8), compress_level=0)
    assert training.decode(largest, 1, "largest").shape == decode(largest, 1).shape == (9_400, 9_400, 1)


def test_a_picture_like_a_thread_is_refused() -> None:
    with pytest.raises(BadPicture, match="long and thin"):
        Sizing({"image_shape": [3, 224, 224], "resize": 256}).apply(np.zeros((1, 60_000, 3), np.uint8))


def test_numbers_in_json_are_pixels() -> None:
    given = np.array(PIECE.tolist(), dtype=object)
    assert as_pixels(given).dtype == np.uint8 and (as_pixels(given) == PIECE).all()


def test_a_served_model_reads_no_files_but_those_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    for place in ("pictures/in.png", "out.png"):
        (tmp_path / place).write_bytes(encoded(PIECE))
    (tmp_path / "pictures" / "link.png").symlink_to(tmp_path / "out.png")
    inside = str(tmp_path / "pictures" / "in.png")
    with pytest.raises(BadPicture, match=ROOT_VARIABLE):
        read(inside, 3, served=True)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "pictures"))
    assert (read(inside, 3, served=True) == PIECE).all() and (read("in.png", 3, served=True) == PIECE).all()
    for way_out in (str(tmp_path / "out.png"), "../out.png", "link.png", "/etc/passwd"):
        with pytest.raises(BadPicture, match="leads out"):
            read(way_out, 3, served=True)
