"""Near-duplicates among 60,000 small photographs: what share of planted copies is found, what else, how fast.

Run by: python tests/benchmarks/bench_duplicates.py PICTURES [SHEET.png]
PICTURES is a folder of at least 12,000 small photographs, at any depth, such as CIFAR-10's. Each counts five times: as
it is, turned three ways, and as a negative; none of these is a copy of another. SHEET.png gets the pairs that are
reported though nothing was planted, side by side, to be looked at.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from trainers.data.check.near import matches_between, thumbnail

PLANTED, TEST = 1_000, 10_000
Pixels = np.ndarray


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def copy_of(pixels: Pixels, kind: str, rng: np.random.Generator) -> Pixels:
    """One copy of ``pixels``, encoded anew as well."""
    height, width = pixels.shape[:2]
    if kind == "re-encoded":
        return jpeg(pixels, int(rng.integers(30, 90)))
    if kind == "resized":
        side = int(rng.choice([16, 20, 24, 28, 40, 48, 64]))
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if side < width else cv2.INTER_CUBIC)
    elif kind == "brighter or darker":
        shift = rng.uniform(15, 50) * rng.choice([-1, 1])
        pixels = np.clip(pixels.astype(float) + shift, 0, 255).astype(np.uint8)
    elif kind == "mirrored":
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    else:
        tall, wide = round(0.9 * height), round(0.9 * width)
        top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
        pixels = np.ascontiguousarray(pixels[top : top + tall, left : left + wide])
        if rng.random() < 0.5:
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return jpeg(pixels, 95)


def sheet(path: str, pairs: list[tuple[Pixels, Pixels]], columns: int = 8, side: int = 64) -> None:
    """The pairs side by side, from the most alike, as one picture."""
    shown = [
        np.hstack([cv2.resize(one, (side, side)) for one in pair] + [np.full((side, 12, 3), 255, np.uint8)])
        for pair in pairs
    ]
    shown += [np.full_like(shown[0], 255)] * (-len(shown) % columns)
    rows = [np.hstack(shown[start : start + columns]) for start in range(0, len(shown), columns)]
    gap = np.full((8, rows[0].shape[1], 3), 255, np.uint8)
    cv2.imwrite(path, np.vstack([part for row in rows for part in (row, gap)]))


KINDS = ("resized", "re-encoded", "brighter or darker", "mirrored", "cropped")


def main() -> None:
    paths = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.suffix in (".jpg", ".jpeg", ".png"))[:12_000]
    photographs = [cv2.imread(str(path)) for path in paths]
    every = [np.ascontiguousarray(np.rot90(one, turn)) for turn in range(4) for one in photographs]
    every += [255 - one for one in photographs]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(every))
    test, train = [every[at] for at in order[:TEST]], [every[at] for at in order[TEST:]]
    planted: dict[int, tuple[int, str]] = {}
    for query, index in enumerate(rng.choice(len(train), PLANTED * len(KINDS), replace=False)):
        planted[query] = int(index), KINDS[query // PLANTED]
        test[query] = copy_of(train[index], KINDS[query // PLANTED], rng)
    cv2.setNumThreads(1)
    started = time.perf_counter()
    looks = [np.stack([thumbnail(pixels[:, :, ::-1]) for pixels in split]) for split in (train, test)]
    del every
    seen_s, cpu_s = time.perf_counter() - started, time.process_time()
    ((*found,),) = matches_between(looks, [(0, 1)])
    searched_s, cpu_s = time.perf_counter() - started - seen_s, time.process_time() - cpu_s
    right, wrong, unplanted = Counter[str](), 0, []
    for match in found:
        if match.query not in planted:
            unplanted.append(match)
        elif planted[match.query][0] == match.index:
            right[planted[match.query][1]] += 1
        else:
            wrong += 1
    print(f"{len(train):,} training and {len(test):,} test pictures\n")
    print("| planted | found |\n| --- | --- |")
    for kind in KINDS:
        print(f"| {kind} | {right[kind] / PLANTED:.1%} |")
    print(f"\nanother than the planted: {wrong}; of {TEST - len(planted):,} unplanted reported: {len(unplanted)}")
    if len(sys.argv) > 2 and unplanted:
        unplanted.sort(key=lambda match: -match.correlation)
        sheet(sys.argv[2], [(train[match.index], test[match.query]) for match in unplanted])
    print(f"thumbnails {seen_s:.1f} s, search {searched_s:.1f} s ({cpu_s:.1f} s of processor time)")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MB, the pictures included")


if __name__ == "__main__":
    main()
