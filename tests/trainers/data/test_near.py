"""Near-duplicates: copies of photographs are found, and pictures that only look alike to a hash are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from trainers.data.check.check import Job, check
from trainers.data.check.near import Match, matches_between, near_test_pictures, thumbnail, thumbnails
from trainers.data.pictures.pictures import EncodedPictures, Files
from trainers.data.source import open_dataset

Pixels = np.ndarray


def photographs(side: int = 48) -> list[Pixels]:
    """Patches of scikit-learn's two photographs at two scales, without sky; of one turn they do not overlap."""
    found = []
    for image in load_sample_images().images:
        for scaled in (image, cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)):
            for turned in (scaled, np.rot90(scaled)):
                height, width = turned.shape[:2]
                for top in range(0, height - side, side):
                    for left in range(0, width - side, side):
                        patch = turned[top : top + side, left : left + side]
                        grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
                        if grey.std() > 15 and cv2.Laplacian(grey, cv2.CV_32F).std() > 10:
                            found.append(np.ascontiguousarray(patch))
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))]


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def cropped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = (round(0.9 * side) for side in pixels.shape[:2])
    top, left = (int(rng.integers(0, gap + 1)) for gap in (pixels.shape[0] - height, pixels.shape[1] - width))
    return pixels[top : top + height, left : left + width]


KINDS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "resized": lambda pixels, rng: cv2.resize(pixels, (24, 24), interpolation=cv2.INTER_AREA),
    "enlarged": lambda pixels, rng: cv2.resize(pixels, (100, 80), interpolation=cv2.INTER_CUBIC),
    "re-encoded": lambda pixels, rng: jpeg(pixels, int(rng.integers(40, 90))),
    "brighter": lambda pixels, rng: np.clip(pixels.astype(int) + 40, 0, 255).astype(np.uint8),
    "darker": lambda pixels, rng: np.clip(pixels.astype(int) - 40, 0, 255).astype(np.uint8),
    "mirrored": lambda pixels, rng: jpeg(pixels[:, ::-1], 95),
    "cropped": lambda pixels, rng: jpeg(cropped(pixels, rng), 95),
    "grey": lambda pixels, rng: np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2),
}


def between(known: list[Pixels], asked: list[Pixels]) -> list[Match]:
    looks = [np.stack([thumbnail(pixels) for pixels in some]) for some in (known, asked)]
    return matches_between(looks, [(0, 1)])[0]


@pytest.mark.parametrize(
    ("kind", "least"), [(kind, {"cropped": 0.85, "darker": 0.94}.get(kind, 0.97)) for kind in KINDS]
)
@pytest.mark.parametrize("way", ["the test picture is the copy", "the training picture is the copy"])
def test_a_copy_is_found_and_nothing_else(kind: str, least: float, way: str) -> None:
    every, rng = photographs(), np.random.default_rng(1)
    train, test, number = every[:200], every[200:300], 50
    if way.startswith("the test"):
        test = [KINDS[kind](pixels, rng) for pixels in train[:number]] + test
    else:
        test = train[:number] + test
        train = [KINDS[kind](pixels, rng) for pixels in train[:number]] + train[number:]
    found = between(train, test)
    assert sum(match.query == match.index for match in found) >= least * number
    assert [match for match in found if match.query != match.index] == []


@pytest.mark.parametrize("number", [1, 2, 3, 5, 10])
def test_a_handful_of_pictures_is_enough(number: int) -> None:
    """How much a frequency varies cannot be learned from one pair; what photographs vary by stands in for it."""
    some, rng = photographs()[:number], np.random.default_rng(2)
    found = between(some, [jpeg(pixels[1:, ::-1], int(rng.integers(60, 90))) for pixels in some])
    assert [(match.query, match.index) for match in found] == [(at, at) for at in range(number)]
    assert between(some, photographs()[50 : 50 + number]) == []


def page(rng: np.random.Generator) -> Pixels:
    """A page of text, on white."""
    pixels = np.full((400, 300, 3), 255, np.uint8)
    for top in range(30, 370, 14):
        words = " ".join("".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 9))) for _ in range(6))
        cv2.putText(pixels, words, (25, top), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1)
    return pixels


def form(rng: np.random.Generator) -> Pixels:
    """One form, filled in with other words."""
    pixels = page(np.random.default_rng(0))
    for top in range(100, 300, 50):
        words = "".join(rng.choice(list("ABCDEFGH123"), 8))
        cv2.putText(pixels, words, (120, top), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 2)
    return pixels


def blank(rng: np.random.Generator) -> Pixels:
    return np.clip(rng.integers(0, 256) + rng.normal(0, 2, (64, 64, 3)), 0, 255).astype(np.uint8)


def dark(rng: np.random.Generator) -> Pixels:
    glow = cv2.GaussianBlur(rng.normal(0, 60, (64, 64, 3)), (0, 0), 12)
    return np.clip(rng.exponential(6) + rng.normal(0, 3, (64, 64, 3)) + glow, 0, 255).astype(np.uint8)


def sky(rng: np.random.Generator) -> Pixels:
    return np.tile(np.linspace(rng.integers(0, 100), rng.integers(120, 255), 64)[:, None, None], (64, 3)).astype(
        np.uint8
    )


def letterboxed(rng: np.random.Generator) -> Pixels:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[14:50] = sky(rng)[14:50]
    return pixels


def chest(rng: np.random.Generator) -> Pixels:
    """An X-ray: one anatomy, other details."""
    y, x = np.mgrid[:128, :128]
    lungs = sum(120 * np.exp(-((x - middle) ** 2 + (y - 64) ** 2) / 900) for middle in (44, 84))
    detail = cv2.GaussianBlur(rng.normal(0, 120, (128, 128)), (0, 0), 6)
    return np.repeat(np.clip(lungs + detail, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def shirt(rng: np.random.Generator) -> Pixels:
    """One thing on white, in six colours."""
    pixels = np.full((96, 96, 3), 250, np.uint8)
    colour = [(200, 30, 30), (30, 160, 30), (30, 30, 220), (200, 200, 0), (200, 0, 200), (0, 180, 180)]
    outline = np.array([[20, 20], [76, 20], [90, 40], [72, 44], [72, 84], [24, 84], [24, 44], [6, 40]])
    cv2.fillPoly(pixels, [outline], colour[int(rng.integers(6))])
    return pixels


@pytest.mark.parametrize("kind", [page, form, blank, dark, sky, letterboxed, chest])
def test_what_only_looks_alike_to_a_hash(kind: Callable[[np.random.Generator], Pixels]) -> None:
    rng = np.random.default_rng(3)
    pictures = [kind(rng) for _ in range(60)]
    assert between(pictures[:30], pictures[30:]) == []


def test_one_thing_in_two_colours() -> None:
    red, blue = (shirt(np.random.default_rng(seed)) for seed in (0, 1))
    others = photographs()[:40]
    assert not (red == blue).all()
    assert between([red, *others], [blue]) == []
    assert [match.index for match in between([red, *others], [jpeg(red, 70)])] == [0]


def test_a_page_that_was_scanned_once_and_kept_twice() -> None:
    rng = np.random.default_rng(4)
    pages = [page(rng) for _ in range(40)]
    found = between(pages[:30], [jpeg(pages[7], 40), *pages[30:]])
    assert [(match.query, match.index) for match in found] == [(0, 7)]


def test_frames_of_one_film_are_found() -> None:
    still = load_sample_images().images[0]
    frames = [still[100:300, left : left + 200] for left in range(0, 100, 4)]
    found = between(frames[0::2] + photographs()[:50], frames[1::2])
    assert len(found) == len(frames[1::2])
    assert all(match.index in (match.query, match.query + 1) for match in found)


def test_equal_pictures_within_one_split() -> None:
    some = photographs()[:60]
    looks = np.stack([thumbnail(pixels) for pixels in [*some, jpeg(some[4], 60), some[9][:, ::-1]]])
    ((*found,),) = matches_between([looks], [(0, 0)])
    assert [(match.query, match.index) for match in found] == [(60, 4), (61, 9)]


@pytest.mark.parametrize("number", [0, 1])
def test_empty_splits(number: int) -> None:
    looks = np.stack([thumbnail(pixels) for pixels in photographs()[:3]])
    assert matches_between([looks[:number], looks[3:]], [(0, 1), (1, 0), (0, 0), (1, 1)]) == [[], [], [], []]


def test_files_of_every_size_upright_and_broken(tmp_path: Path) -> None:
    """Large files are decoded at a part of their size; a broken one is left to others."""
    still = load_sample_images().images[0]
    tall = cv2.resize(still, (2000, 1400))
    for name, pixels in {"large.jpg": tall, "same.png": still, "side.jpg": np.rot90(tall)}.items():
        cv2.imwrite(str(tmp_path / name), pixels[:, :, ::-1])
    lying = (tmp_path / "side.jpg").read_bytes()
    exif = (
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    (tmp_path / "side.jpg").write_bytes(lying[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + lying[2:])
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    files = [tmp_path / name for name in ("large.jpg", "same.png", "side.jpg", "broken.jpg")]
    looks = thumbnails(EncodedPictures(Files(files)))
    (found,) = matches_between([looks[:1], looks[1:]], [(0, 1)])
    assert [match.query for match in found] == [0, 1]


def test_check_leaves_equal_bytes_to_their_own_finding(tmp_path: Path) -> None:
    some = photographs()
    for at in range(20):
        for split, start in (("train", 0), ("test", 100)):
            folder = tmp_path / split / ("cat" if at % 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{at:02}.png"), some[start + at])
    equal, alike = tmp_path / "test" / "dog" / "equal.png", tmp_path / "test" / "dog" / "alike.jpg"
    equal.write_bytes((tmp_path / "train" / "dog" / "04.png").read_bytes())
    cv2.imwrite(str(alike), some[6][:, ::-1])
    found = {finding.code: finding.examples for finding in check([tmp_path], Job()).findings}
    first = tmp_path / "train" / "dog" / "06.png"
    assert found == {
        "duplicate-across": (f"{equal} is {tmp_path / 'train' / 'dog' / '04.png'} of {tmp_path / 'train'}",),
        "near-duplicate-across": (f"{alike} looks like {first} of {tmp_path / 'train'}",),
    }
    assert "near-duplicate-across" not in {f.code for f in check([tmp_path], Job(), fast=True).findings}


def test_of_pictures_too_small_to_judge_the_number_is_not_known() -> None:
    """The digits, 8 x 8 px: the run's tag said 0 test pictures like a training picture; nothing had been compared."""
    assert near_test_pictures(open_dataset("digits")) is None
