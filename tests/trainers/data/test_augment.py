"""Augmentation against plain loops: where crops may lie, what colours become, what the affine map does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trainers.data.pictures import augment
from trainers.data.pictures.augment import Draws, centre_crop, draw, inverse_affine, shift_colour

RNG = np.random.default_rng(3)


def pictures(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def fixed(y: float, x: float, flip: bool, inverse: np.ndarray | None = None) -> Draws:
    one = np.array
    return Draws(y=one([y], np.float32), x=one([x], np.float32), flip=one([flip]), hls=None, inverse=inverse)


@pytest.mark.parametrize(("y", "x", "top", "left"), [(0, 0, 0, 0), (0.999, 0.999, 4, 2), (0.5, 0.4, 2, 1)])
def test_crop_is_a_window_of_the_picture(y: float, x: float, top: int, left: int) -> None:
    images = pictures(1, 12, 10)
    window = images[:, top : top + 8, left : left + 8]
    assert (augment.augment(images, 8, 8, fixed(y, x, False)) == window).all()
    assert (augment.augment(images, 8, 8, fixed(y, x, True)) == window[:, :, ::-1]).all()
    assert (augment.augment([images[0]], 8, 8, fixed(y, x, False)) == window).all()


def test_picture_of_the_crops_size_is_padded_by_reflection() -> None:
    images = pictures(1, 8, 8)
    padded = np.pad(images[0], ((4, 4), (4, 4), (0, 0)), mode="reflect")
    assert (augment.augment(images, 8, 8, fixed(0, 0, False))[0] == padded[:8, :8]).all()
    assert (augment.augment(images, 8, 8, fixed(0.5, 0.5, False))[0] == images[0]).all()  # 4.5 -> 4: in the middle
    assert (augment.augment(images, 8, 8, fixed(0.999, 0.2, True))[0] == padded[8:16, 1:9][:, ::-1]).all()


def test_all_places_are_reached_evenly_and_half_is_flipped() -> None:
    images = np.arange(100, dtype=np.uint8).reshape(1, 10, 10, 1).repeat(6000, axis=0)
    out = augment.augment(images, 8, 8, draw(np.random.default_rng(0), 6000, "crop"))[..., 0]
    flipped = out[:, 0, 0] > out[:, 0, 7]
    assert abs(flipped.mean() - 0.5) < 0.03
    corners = np.where(flipped, out[:, 0, 7], out[:, 0, 0])
    counts = np.bincount(corners, minlength=23)
    assert sorted(np.flatnonzero(counts)) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert counts.max() / counts[counts > 0].min() < 1.3


def test_colour_shift_is_opencvs_hls_clipped() -> None:
    images = pictures(3, 5, 4)
    hls = np.array([[36, -50, 50], [-36, 50, -50], [0, 0, 0]], np.int16)
    out = shift_colour(images, hls)
    for picture, shift, got in zip(images, hls, out, strict=True):
        values = cv2.cvtColor(picture, cv2.COLOR_RGB2HLS).astype(int)
        for channel, limit in enumerate((180, 255, 255)):
            values[:, :, channel] = np.clip(values[:, :, channel] + shift[channel], 0, limit)
        assert (got == cv2.cvtColor(values.astype(np.uint8), cv2.COLOR_HLS2RGB)).all()


def test_grey_is_only_lightened_or_darkened() -> None:
    out = shift_colour(np.full((2, 2, 2, 1), 230, np.uint8), np.array([[9, 50, 9], [9, -50, 9]], np.int16))
    assert out[0].tolist() == [[[255], [255]]] * 2 and out[1].tolist() == [[[180], [180]]] * 2


def test_draws_stay_within_the_built_ins_ranges() -> None:
    draws = draw(np.random.default_rng(0), 20_000, "crop_color_transform")
    assert draws.hls.min(axis=0).tolist() == [-36, -50, -50] and draws.hls.max(axis=0).tolist() == [36, 50, 50]
    assert 0 <= draws.y.min() and draws.y.max() < 1
    forward = np.linalg.inv(draws.inverse.astype(np.float64))
    down = np.hypot(forward[:, 1, 0], forward[:, 1, 1])
    angle = np.rad2deg(np.arctan2(-forward[:, 1, 0], forward[:, 1, 1]))
    assert 9.9 < np.abs(angle).max() < 10.01
    # down = 2 r / (1 + r) for r in 0.75..1.25
    assert 0.857 < down.min() < 0.86 and 1.109 < down.max() < 1.112
    assert draw(np.random.default_rng(0), 5, "crop").hls is None
    assert draw(np.random.default_rng(0), 5, "crop_color").inverse is None


def test_no_turn_no_shear_no_stretch_changes_nothing() -> None:
    images = pictures(1, 9, 9)
    same = inverse_affine(np.zeros(1), np.zeros(1), np.ones(1))
    plain, mapped = (augment.augment(images, 9, 9, fixed(0.2, 0.9, True, inverse)) for inverse in (None, same))
    assert (plain == mapped).all()


def test_quarter_turn_through_the_affine_map_is_a_quarter_turn() -> None:
    images = pictures(4, 9, 9)
    turned = inverse_affine(np.full(4, np.pi / 2), np.zeros(4), np.ones(4))
    y = np.full(4, 0.5, np.float32)
    out = augment.augment(images, 9, 9, Draws(y=y, x=y, flip=np.zeros(4, bool), hls=None, inverse=turned))
    assert (out == np.rot90(images, 1, axes=(1, 2))).all()


def test_affine_map_matches_opencvs_own_warp_inside_the_picture() -> None:
    smooth = cv2.GaussianBlur(pictures(1, 40, 40)[0], (9, 9), 3)
    angle, shear, ratio = np.array([0.15]), np.array([0.08]), np.array([1.2])
    inverse = inverse_affine(angle, shear, ratio)
    got = augment.augment(smooth[None], 20, 20, fixed(0.5, 0.5, False, inverse))[0]
    matrix = np.zeros((2, 3))
    matrix[:, :2] = inverse[0]
    matrix[:, 2] = 19.5 - inverse[0] @ [19.5, 19.5]
    expected = cv2.warpAffine(smooth, matrix, (40, 40), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)[10:30, 10:30]
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 2


def test_batch_and_single_pictures_come_out_alike() -> None:
    images = pictures(33, 40, 36)
    for kind in augment.KINDS:
        draws = draw(np.random.default_rng(5), 33, kind)
        assert (augment.augment(images, 32, 32, draws) == augment.augment(list(images), 32, 32, draws)).all()


def test_batches_too_tall_for_one_call_are_sampled_in_parts() -> None:
    images = pictures(70, 500, 8)
    draws = draw(np.random.default_rng(5), 70, "crop_color_transform")
    whole = augment.augment(images, 500, 8, draws)
    assert (whole == augment.augment(list(images), 500, 8, draws)).all()


def test_centre_crop() -> None:
    images = pictures(2, 9, 12)
    assert (centre_crop(images, 4, 4) == images[:, 2:6, 4:8]).all()
    assert (centre_crop(list(images), 4, 4) == images[:, 2:6, 4:8]).all()
