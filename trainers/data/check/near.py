"""Near-duplicates: one photograph kept twice, resized, re-encoded, brighter, mirrored or cropped to nine tenths.

A picture becomes a grey thumbnail, and that its low spatial frequencies (DCT), measured in units of how much each one
varies in this data set: what all pictures share, such as a white page or a studio's backdrop, does not count. Few
frequencies find candidates by matrix products in blocks; more of them, with the crops tried, decide, and the colours
must agree. A picture with next to nothing in it (blank, dark, a plain sky) is alike to none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.dataset import Dataset, Split
from trainers.data.pictures import codec
from trainers.data.pictures.codec import Pixels
from trainers.data.pictures.pictures import READERS, EncodedPictures, Pictures
from trainers.data.pictures.sizing import resized
from trainers.data.pictures.threads import in_order
from trainers.errors import BadData

SIDE = 32  # px of a thumbnail
LEAST_PX = 16  # the shortest side of a picture that has enough in it to be told from another
LEAST_CONTRAST = 3.0  # standard deviation of the grey values: below, noise decides what looks alike
ALIKE = 0.9  # correlation: 1,000 pairs of different photographs among 10^9 come to 0.6, and copies begin at 0.97
_COARSE, _FINE = 7, 12  # frequencies a side
_CANDIDATES, _GROUP, _LEAST_GROUPS = 10, 32, 1_000
_WORTH_A_LOOK = 0.4  # coarse correlation; one in 200 crops has less
_CROP, _PLACES = 0.9, 6
_BLOCK_BYTES, _PAIRS = 1 << 26, 2_000
_BREADTH = 9.0  # frequencies that share the energy; a gradient has 4, one photograph in 1,000 fewer than 9
_LEAST_SLANTED = 0.15  # of the energy; black bars have less
_COLOURS, _OTHER_COLOUR = 4, 25.0  # places a side; how far Cb and Cr may be apart where they are furthest
_PRIOR_PICTURES, _PRIOR_SCALE = 32.0, 330.0  # what photographs vary by, 330 / frequency, counts as 32 of them

LOOK = np.dtype([("grey", "u1", (SIDE, SIDE)), ("colour", "f2", (_COLOURS, _COLOURS, 2))])
Thumbnails = NDArray[np.void]  # of LOOK
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """Picture ``query`` looks like picture ``index``, both by their place among the thumbnails."""

    query: int
    index: int
    correlation: float


def thumbnail(pixels: Pixels) -> Thumbnails:
    """() of LOOK from (H, W, 3) uint8 RGB; all 0, which is alike to none, for a picture too small to judge."""
    look = np.zeros((), LOOK)
    if min(pixels.shape[:2]) >= LEAST_PX:
        small = resized(np.ascontiguousarray(pixels), SIDE, SIDE, area=True)
        split = (small.reshape(-1, 3) @ _YCC).reshape(SIDE, SIDE, 3)
        look["grey"] = np.rint(split[:, :, 0])
        step = SIDE // _COLOURS
        look["colour"] = split[:, :, 1:].reshape(_COLOURS, step, _COLOURS, step, 2).mean(axis=(1, 3))
    return look


_YCC = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32).T


def thumbnails(pictures: Pictures) -> Thumbnails:
    """(N,) of LOOK; all 0 where a picture cannot be decoded, which is for others to report."""
    found = np.zeros(len(pictures), LOOK)

    def fill(start: int) -> None:
        for at in range(start, min(start + 64, len(pictures))):
            try:
                if isinstance(pictures, EncodedPictures):
                    pixels = codec.decode_small(pictures.read(at), 4 * SIDE, pictures.name(at))
                else:
                    pixels = pictures.load(at, 3)
                found[at] = thumbnail(pixels)
            except BadData:
                continue

    for _ in in_order(fill, range(0, len(pictures), 64), READERS, 2 * READERS):
        pass
    return found


def matches_between(splits: Sequence[Thumbnails], pairs: Sequence[tuple[int, int]]) -> list[list[Match]]:
    """For each of ``pairs`` of splits the best match in the first for every picture of the second that has one.

    A pair (a, a) is a split with itself: each picture is compared with those before it.
    """
    everything = _Spectra(splits)
    return [everything.matches(first, second) for first, second in pairs]


_last: dict[Any, dict[str, str] | None] = {}


def near_test_pictures(dataset: Dataset) -> dict[str, str] | None:
    """Key of each test picture that looks like a training picture, not equal to one -> key of that training picture.

    None where nothing can be compared: one of the splits has only pictures that are too small or plain to judge. The
    last answer is kept, since the runs of a study share their pictures and 60,000 take most of a minute.
    """
    train, test = dataset.train, dataset.test
    if test is None:
        return None
    asked = (train.digest, test.digest, tuple(train.keys), tuple(test.keys))
    if asked not in _last:
        found = _near_test_pictures(train, test)
        _last.clear()
        _last[asked] = found
    return _last[asked]


def _near_test_pictures(train: Split, test: Split) -> dict[str, str] | None:
    looks = [thumbnails(train.pictures), thumbnails(test.pictures)]
    if not all(_judged(look["grey"]).any() for look in looks):
        return None
    learned = set(train.image_digests)
    (found,) = matches_between(looks, [(0, 1)])
    equal = test.image_digests
    return {test.keys[one.query]: train.keys[one.index] for one in found if equal[one.query] not in learned}


class _Spectra:
    """The thumbnails of all splits, and how much their frequencies vary over all of them."""

    def __init__(self, splits: Sequence[Thumbnails]) -> None:
        self._thumbs = splits
        number, total, square = _PRIOR_PICTURES, np.zeros((_FINE, _FINE)), _PRIOR_PICTURES * _prior_variance()
        self._judged = [_judged(thumbs["grey"]) for thumbs in splits]
        self._spectra = [_spectra(thumbs["grey"]) for thumbs in splits]
        for spectra, judged in zip(self._spectra, self._judged, strict=True):
            known = spectra[judged]
            number, total = number + len(known), total + known.sum(axis=0, dtype=np.float64)
            square = square + np.einsum("nij,nij->ij", known, known, dtype=np.float64)
        self._mean = (total / number).astype(np.float32)
        self._spread = np.sqrt(np.maximum(square / number - self._mean**2, 1e-3)).astype(np.float32)

    def matches(self, first: int, second: int) -> list[Match]:
        rows = np.flatnonzero(self._judged[second])
        columns = np.flatnonzero(self._judged[first])
        if len(rows) == 0 or len(columns) == 0:
            return []
        index = self._directions(self._spectra[first][columns], _COARSE, 0.5)
        step = max(1, _BLOCK_BYTES // (4 * len(columns)))
        best: dict[int, Match] = {}
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            for mirrored in (False, True):
                spectra = self._spectra[second][block]
                scores = self._directions(spectra * _SIGNS if mirrored else spectra, _COARSE, 0.5) @ index.T
                if first == second:
                    scores[columns[None, :] >= block[:, None]] = -1
                queries, places = _highest(scores)
                for match in self._decided(first, second, block[queries], columns[places], mirrored):
                    if match.query not in best or best[match.query].correlation < match.correlation:
                        best[match.query] = match
        return [best[query] for query in sorted(best)]

    def _directions(self, spectra: _Floats, size: int, power: float) -> _Floats:
        """(…, FINE, FINE) to unit vectors (…, size² - 1), each frequency divided by its spread to the ``power``."""
        spread = self._spread[:size, :size] ** power
        scaled = (spectra[..., :size, :size] - self._mean[:size, :size]) / spread
        flat = scaled.reshape(*scaled.shape[:-2], size * size)[..., 1:]  # without the mean brightness
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6), np.float32)

    def _decided(
        self, first: int, second: int, queries: NDArray[np.int64], places: NDArray[np.int64], mirrored: bool
    ) -> list[Match]:
        """The candidates that are alike, whole or with one of them cropped."""
        found = []
        for start in range(0, len(queries), _PAIRS):
            query, place = queries[start : start + _PAIRS], places[start : start + _PAIRS]
            turn = np.s_[:, :, ::-1] if mirrored else np.s_[:]
            asked, known = self._thumbs[second]["grey"][query][turn], self._thumbs[first]["grey"][place]
            colours = self._thumbs[second]["colour"][query][turn], self._thumbs[first]["colour"][place]
            one = self._directions(_spectra(asked), _FINE, 1.0)
            other = self._directions(_spectra(known), _FINE, 1.0)
            score = np.einsum("nd,nd->n", one, other)
            score[_other_colours(*colours) | _plain(one) | _plain(other)] = -1
            open_ = np.flatnonzero((score < ALIKE) & (score >= 0))
            if len(open_):
                whole = [
                    np.einsum("nwd,nd->nw", self._crops(cropped[open_]), against[open_]).max(axis=1)
                    for cropped, against in ((known, one), (asked, other))
                ]
                score[open_] = np.maximum(score[open_], np.maximum(*whole))
            found += [Match(int(query[at]), int(place[at]), float(score[at])) for at in np.flatnonzero(score >= ALIKE)]
        return found

    def _crops(self, thumbs: NDArray[np.uint8]) -> _Floats:
        """(N, PLACES², FINE² - 1): the directions of what each picture is when it is cropped at each place."""
        both = _crop_basis() @ thumbs.astype(np.float32) @ _crop_basis().T
        apart = both.reshape(len(thumbs), _PLACES, _FINE, _PLACES, _FINE).transpose(0, 1, 3, 2, 4)
        return self._directions(apart.reshape(len(thumbs), _PLACES**2, _FINE, _FINE), _FINE, 1.0)


def _judged(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N,) which pictures have something to see in them."""
    flat = grey.reshape(len(grey), SIDE * SIDE)
    spread = [flat[start : start + 4096].std(axis=1) for start in range(0, len(flat), 4096)]
    return np.asarray(np.concatenate([np.zeros(0), *spread]) >= LEAST_CONTRAST)


def _plain(directions: _Floats) -> NDArray[np.bool_]:
    """(N,) with the energy in a few frequencies, as a gradient has it, or in rows or columns alone, as black bars."""
    energy = directions**2
    return np.asarray((1 / (energy**2).sum(axis=1) < _BREADTH) | (energy @ _SLANTED < _LEAST_SLANTED))


def _other_colours(one: NDArray[np.float16], other: NDArray[np.float16]) -> NDArray[np.bool_]:
    """(N,) where two pictures differ in colour, over the quarter of the places that differ most; grey fits all."""
    flat = [colour.reshape(len(colour), _COLOURS**2, 2).astype(np.float32) for colour in (one, other)]
    grey = np.minimum(*(np.abs(colour).max(axis=(1, 2)) for colour in flat)) < 3
    apart = np.sort(np.linalg.norm(flat[0] - flat[1], axis=2), axis=1)[:, -(_COLOURS**2) // 4 :].mean(axis=1)
    return np.asarray(~grey & (apart > _OTHER_COLOUR))


def _spectra(thumbs: NDArray[np.uint8]) -> _Floats:
    """(N, FINE, FINE) lowest frequencies; the first axis is vertical."""
    basis = _basis()[:_FINE]
    found = np.empty((len(thumbs), _FINE, _FINE), np.float32)
    for start in range(0, len(thumbs), 4096):
        found[start : start + 4096] = basis @ thumbs[start : start + 4096].astype(np.float32) @ basis.T
    return found


_SLANTED = (np.minimum.outer(np.arange(_FINE), np.arange(_FINE)) > 0).reshape(-1)[1:].astype(np.float32)
_SIGNS = ((-1.0) ** np.arange(_FINE)).astype(np.float32)  # of the horizontal frequencies, in a mirror


@functools.cache
def _basis() -> _Floats:
    """(SIDE, SIDE): the orthonormal DCT-II, a frequency a row."""
    at = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    rows = np.cos(np.arange(SIDE)[:, None] * at[None, :]) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)


@functools.cache
def _crop_basis() -> _Floats:
    """(PLACES · FINE, SIDE): crop along one axis at each place, scale up again linearly, and the frequencies of it."""
    rows = []
    for offset in np.linspace(0, SIDE * (1 - _CROP), _PLACES):
        at = np.clip(offset + (np.arange(SIDE) + 0.5) * _CROP - 0.5, 0, SIDE - 1)
        taps = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(SIDE)[None, :]))
        rows.append(_basis()[:_FINE] @ taps.astype(np.float32))
    return np.concatenate(rows)


def _prior_variance() -> NDArray[np.float64]:
    """(FINE, FINE): what photographs vary by at each frequency, for a set too small to say it."""
    each = np.arange(_FINE, dtype=np.float64) ** 2
    squared = each[:, None] + each[None, :]
    return _PRIOR_SCALE**2 / np.maximum(squared, 1.0)


def _highest(scores: _Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, column) of about the ``_CANDIDATES`` highest scores of each row: the best of each group of columns, of
    so many groups that two of the highest are seldom in one."""
    rows, columns = scores.shape
    number = min(columns, max(_LEAST_GROUPS, -(-columns // _GROUP)))
    missing = -columns % number
    if missing:
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-1)
    groups = scores.reshape(rows, -1, number)  # column c is in group c % number: neighbours are in different ones
    tops = groups.max(axis=1)
    kept = min(_CANDIDATES, number)
    chosen = np.argpartition(-tops, kept - 1, axis=1)[:, :kept]
    row = np.repeat(np.arange(rows), kept)
    group = chosen.reshape(-1)
    worth = tops[row, group] >= _WORTH_A_LOOK
    row, group = row[worth], group[worth]
    return row, groups[row, :, group].argmax(axis=1) * number + group
