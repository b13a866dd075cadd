"""Batches: shapes, sizes, determinism, coverage; the same whether pictures are kept in memory or decoded anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support import ROOT
from trainers.data import Batches, Split, open_dataset
from trainers.data.pictures.pictures import ArrayPictures, EncodedPictures, Files
from trainers.errors import BadData


def array_split(count: int = 10, size: tuple[int, int] = (8, 6), channels: int = 3, *, own: bool = False) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, channels), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64)
    return Split(ArrayPictures(pixels, "array", own=own), labels, [str(label) for label in labels])


def file_split(folder: Path, sizes: list[tuple[int, int]], suffix: str = ".png") -> Split:
    rng = np.random.default_rng(1)
    paths = []
    for index, size in enumerate(sizes):
        paths.append(folder / f"{index}{suffix}")
        cv2.imwrite(str(paths[-1]), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    labels = np.arange(len(sizes), dtype=np.int64)
    return Split(EncodedPictures(Files(paths)), labels, [path.name for path in paths])


def collect(batches: Batches, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
    parts = list(batches.epoch(epoch))
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def test_untouched_pictures_pass_through_in_order() -> None:
    split = array_split()
    batches = Batches(split, (3, 8, 6), 4)
    images, labels = collect(batches)
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert (images == split.pictures.array.transpose(0, 3, 1, 2)).all()
    assert labels.tolist() == list(range(10))
    assert len(batches) == 3 and batches.num_images == 10
    assert [len(part) for part, _ in batches.epoch(0)] == [4, 4, 2]
    assert all(part.flags.c_contiguous for part, _ in batches.epoch(0))


def test_last_batch_can_be_discarded() -> None:
    batches = Batches(array_split(), (3, 8, 6), 4, last="discard", shuffle=True)
    assert len(batches) == 2 and batches.num_images == 8
    seen = [set(collect(batches, epoch)[1].tolist()) for epoch in range(6)]
    assert all(len(labels) == 8 for labels in seen)
    assert set.union(*seen) == set(range(10))  # another two are left out each time


def test_shuffling_covers_each_picture_once_and_differs_between_epochs() -> None:
    batches = Batches(array_split(50), (3, 8, 6), 8, shuffle=True, seed=5)
    orders = [collect(batches, epoch)[1].tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("augmentation", [None, "crop", "crop_color", "crop_color_transform"])
def test_seed_and_epoch_alone_decide(augmentation: str | None) -> None:
    def make(seed: int) -> Batches:
        return Batches(array_split(30, (12, 12)), (3, 8, 8), 7, shuffle=True, seed=seed, augmentation=augmentation)

    first, second = make(1), make(1)
    third = collect(first, 3)
    assert all((a == b).all() for a, b in zip(third, collect(second, 3), strict=True))  # epochs 0..2 never asked for
    assert (collect(first, 4)[0] != third[0]).any()
    assert (collect(make(2), 3)[0] != third[0]).any()


@pytest.mark.parametrize("augmentation", [None, "crop", "crop_color_transform"])
@pytest.mark.parametrize("resize", [None, 14])
@pytest.mark.parametrize("even", [True, False])
def test_streaming_gives_the_same_batches_as_memory(
    tmp_path: Path, augmentation: str | None, resize: int | None, even: bool
) -> None:
    sizes = [(12, 16)] * 21 if even else [(12 + index % 3, 20 - index % 5) for index in range(21)]
    split = file_split(tmp_path, sizes, ".jpg")
    options = {"resize": resize, "augmentation": augmentation, "shuffle": True, "seed": 9}
    kept = Batches(split, (3, 10, 11), 4, **options)
    streamed = Batches(split, (3, 10, 11), 4, memory_bytes=0, **options)
    assert kept.in_memory and not streamed.in_memory
    for epoch in (0, 1):
        for a, b in zip(kept.epoch(epoch), streamed.epoch(epoch), strict=True):
            assert (a[0] == b[0]).all() and (a[1] == b[1]).all()


def test_a_streamed_epoch_can_be_left_early(tmp_path: Path) -> None:
    batches = Batches(file_split(tmp_path, [(8, 8)] * 20), (3, 8, 8), 2, memory_bytes=0)
    stream = batches.epoch(0)
    next(stream)
    stream.close()
    assert len(collect(batches)[1]) == 20


def test_corrupt_picture_is_named_while_streaming(tmp_path: Path) -> None:
    split = file_split(tmp_path, [(8, 8)] * 9)
    split.pictures.sizes()
    bad = tmp_path / "5.png"
    bad.write_bytes(bad.read_bytes()[:-40])
    with pytest.raises(BadData, match=r"5\.png: not a readable picture"):
        collect(Batches(split, (3, 8, 8), 4, memory_bytes=0))


def test_bundled_pictures_are_scaled_to_what_the_network_takes() -> None:
    data = open_dataset("digits")
    images, _ = collect(Batches(data.test, (3, 32, 32), 64))
    assert images.shape == (359, 3, 32, 32)
    assert (images[:, 0] == images[:, 2]).all()
    expected = cv2.resize(data.test.pictures.load(0, 1), (32, 32), interpolation=cv2.INTER_LINEAR)
    assert (images[0, 0] == expected).all()
    assert next(Batches(data.test, (1, 4, 4), 2).epoch(0))[0].shape == (2, 1, 4, 4)


def test_shortest_side_becomes_resize_and_the_middle_is_cropped(tmp_path: Path) -> None:
    split = file_split(tmp_path, [(20, 31), (31, 20), (16, 16)])
    images, _ = collect(Batches(split, (3, 12, 12), 3, resize=16))
    for index, (height, width) in enumerate([(16, 24), (24, 16), (16, 16)]):  # 31 * 16 / 20 = 24.8, cut down
        pixels = cv2.resize(split.pictures.load(index, 3), (width, height), interpolation=cv2.INTER_LINEAR)
        top, left = (height - 12) // 2, (width - 12) // 2
        assert (images[index] == pixels[top : top + 12, left : left + 12].transpose(2, 0, 1)).all()


def test_squash_scales_without_cropping(tmp_path: Path) -> None:
    split = file_split(tmp_path, [(20, 30), (9, 5)])
    images, _ = collect(Batches(split, (3, 12, 16), 2, fit="squash"))
    expected = cv2.resize(split.pictures.load(1, 3), (16, 12), interpolation=cv2.INTER_LINEAR)
    assert (images[1] == expected.transpose(2, 0, 1)).all()


def test_smaller_than_the_crop_names_the_file_and_the_flag(tmp_path: Path) -> None:
    split = file_split(tmp_path, [(30, 30), (30, 27), (20, 30)])
    with pytest.raises(BadData, match=r"1\.png and 1 more: 27 x 30 px .* image_shape 3,28,28; give --resize 28"):
        Batches(split, (3, 28, 28), 2)
    with pytest.raises(BadData, match=r"--resize 20 must be at least 28"):
        Batches(split, (3, 28, 28), 2, resize=20)
    assert collect(Batches(split, (3, 28, 28), 2, resize=28))[0].shape == (3, 3, 28, 28)


def test_grey_network_sees_the_luma_of_colour() -> None:
    split = array_split(own=True)
    images, _ = collect(Batches(split, (1, 8, 6), 10))
    expected = [cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in split.pictures.array]
    assert (images[:, 0] == np.stack(expected)).all()


def test_colour_network_sees_grey_three_times() -> None:
    for augmentation in (None, "crop"):
        split = array_split(channels=1)
        images, _ = collect(Batches(split, (3, 8, 6), 10, augmentation=augmentation))
        assert images.shape == (10, 3, 8, 6)
        assert (images[:, 0] == images[:, 1]).all() and (images[:, 0] == images[:, 2]).all()


def test_grey_pictures_take_on_colour_under_crop_color_only_for_a_colour_network() -> None:
    split = array_split(channels=1)
    tinted, _ = collect(Batches(split, (3, 8, 6), 10, augmentation="crop_color"))
    assert (tinted[:, 0] != tinted[:, 2]).any()
    assert collect(Batches(split, (1, 8, 6), 10, augmentation="crop_color"))[0].shape == (10, 1, 8, 6)


def test_upright_means_upright(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :12] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left half is the top
    Image.fromarray(pixels).save(tmp_path / "0.jpg", exif=exif, quality=95)
    split = Split(EncodedPictures(Files([tmp_path / "0.jpg"])), np.zeros(1, np.int64), ["0"])
    assert split.pictures.sizes().tolist() == [[24, 16, 3]]
    images, _ = collect(Batches(split, (3, 24, 16), 1))
    assert images[0, :, :10].min() > 200 and images[0, :, 14:].max() < 50


def test_orientation_is_read_from_exif_alone(tmp_path: Path) -> None:
    """A PNG's eXIf and a JPEG's XMP are left alone: readers differ on them, and so would sizes and pixels."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png", exif=exif)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    Image.fromarray(pixels).save(tmp_path / "1.jpg", xmp=xmp)
    files = Files([tmp_path / "0.png", tmp_path / "1.jpg"])
    split = Split(EncodedPictures(files), np.zeros(2, np.int64), ["0", "1"])
    assert split.pictures.sizes().tolist() == [[16, 24, 3]] * 2
    images, _ = collect(Batches(split, (3, 16, 24), 2))
    assert (images[0] == pixels.transpose(2, 0, 1)).all()


def test_pillow_does_where_opencv_is_missing(tmp_path: Path) -> None:
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.random.default_rng(index).integers(0, 256, (9, 8, 3), np.uint8))
    code = (
        "import sys, pathlib, hashlib, numpy as np\n"
        "if len(sys.argv) > 2: sys.modules['cv2'] = None\n"
        "from trainers.data import Batches, Split\n"
        "from trainers.data.pictures.pictures import EncodedPictures, Files\n"
        "files = Files([pathlib.Path(sys.argv[1]) / f'{index}.png' for index in range(20)])\n"
        "split = Split(EncodedPictures(files), np.zeros(20, np.int64), [''] * 20)\n"
        "batches = Batches(split, (3, 8, 8), 8, augmentation='crop', shuffle=True)\n"
        "print(hashlib.sha256(b''.join(images.tobytes() for images, _ in batches.epoch(0))).hexdigest())\n"
        "print(('cv2' in sys.modules) and sys.modules['cv2'] is not None)\n"
        "try: next(Batches(split, (3, 8, 8), 8, augmentation='crop_color').epoch(0))\n"
        "except ValueError as error: print(error)\n"
    )
    outputs = []
    for extra in ([], ["without"]):
        arguments = [sys.executable, "-c", code, str(tmp_path), *extra]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
        outputs.append(done.stdout.splitlines())
    assert outputs[0][0] == outputs[1][0]
    assert outputs[0][1:] == ["True"]
    assert outputs[1][1] == "False" and "need OpenCV: pip install opencv-python-headless" in outputs[1][2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 0}, "mini_batch_size 0"),
        ({"image_shape": (2, 8, 8)}, "C 1 or 3"),
        ({"augmentation": "flip"}, "'flip': legal are crop, crop_color"),
        ({"batch_size": 11, "last": "discard"}, "10 pictures are fewer than mini_batch_size 11"),
    ],
)
def test_bad_settings_are_refused(change: dict, words: str) -> None:
    settings = {"image_shape": (3, 8, 6), "batch_size": 4} | change
    with pytest.raises(BadData, match=words):
        Batches(array_split(), **settings)


@pytest.mark.parametrize("channels", [3, 1])
def test_large_jpegs_may_be_decoded_smaller(tmp_path: Path, channels: int) -> None:
    sizes = [(63, 75), (64, 71), (131, 161), (300, 257), (24, 30)]  # scales 2, 2, 4, 8; the last is not large
    paths = []
    for index, (height, width) in enumerate([*sizes, sizes[0]]):
        rows, columns = np.mgrid[0:height, 0:width]
        smooth = np.stack([rows * 200 / height, columns * 200 / width, np.full((height, width), 90.0)], axis=2)
        paths.append(tmp_path / f"{index}{'.png' if index == len(sizes) else '.jpg'}")
        cv2.imwrite(str(paths[-1]), smooth.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    labels = np.arange(len(paths), dtype=np.int64)
    split = Split(EncodedPictures(Files(paths)), labels, [path.name for path in paths])
    shape = (channels, 24, 24)
    whole, _ = collect(Batches(split, shape, 2, resize=30))
    scaled, _ = collect(Batches(split, shape, 2, resize=30, scaled=True))
    anew, _ = collect(Batches(split, shape, 2, resize=30, scaled=True, memory_bytes=0))
    assert (scaled == anew).all()
    apart = np.abs(scaled.astype(int) - whole).max(axis=(1, 2, 3))
    assert 0 < apart[:4].max() <= 8 and not apart[4:].any()
    decoded = [split.pictures.load(index, channels, 30).shape[:2] for index in range(4)]
    assert decoded == [(32, 38), (32, 36), (33, 41), (38, 33)]
