"""What a page claims, against known truth: by hand, and by simulated studies with fixed seeds (the short form of
``tests/benchmarks/bench_claims.py``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import reports
from reports import stats
from reports.claims import two_way
from reports.claims.sources import source_of
from reports.claims.verdict import Entry, judge
from reports.errors import ReportError
from tests.benchmarks import bench_claims as bench
from tests.support.runs import empty_store, predictions, trained


def test_the_variance_is_that_of_a_table_by_hand() -> None:
    # Means of seeds 1/2 and 1, of pictures 1/2, 1, 1, 1/2: seeds (1/4)² * 2 / 2 = 1/16; pictures 1/12 / 4 = 1/48;
    # what is left ±1/4 everywhere: 8/16 / 3 / 8 = 1/48, so that the pictures have no part of their own.
    hits = np.array([[0.0, 1, 1, 0], [1, 1, 1, 1]])
    parts = two_way.variance(hits)
    assert parts.sizes.tolist() == pytest.approx([1 / 16, 0]) and parts.freedom.tolist() == [1, 3]


def test_of_one_seed_the_interval_is_wilsons() -> None:
    hits = (np.arange(360) % 20 > 0)[None].astype(float)
    low, high = (float(end) for end in stats.wilson(0.95, 360))
    assert bench.interval(hits) == pytest.approx((low, high), abs=6e-4)


def test_equal_seeds_are_equal_and_not_a_billionth_apart() -> None:
    """343 of 359 three times: their spread was 1e-16, the interval a point and every difference significant."""
    hits = np.tile(np.arange(359) < 343, (3, 1)).astype(float)
    low, high = bench.interval(hits)
    assert (low, high) == pytest.approx([float(end) for end in stats.wilson(343 / 359, 359)], abs=2e-3)
    other = np.roll(hits, 7, axis=1)
    judged = judge(bench.entries(np.stack([hits, other])))
    assert judged.p_value[0, 1] > 0.999 and judged.ranks[1].tolist() == [2, 2]


def test_an_interval_stays_within_the_possible() -> None:
    for share in (0.0, 0.01, 0.5, 0.995, 1.0):
        hits = np.zeros((3, 100))
        hits[:, : round(100 * share)] = 1
        low, high = bench.interval(hits)
        assert 0 <= low <= hits.mean() <= high <= 1 and low < high


def test_pictures_of_one_source_count_once() -> None:
    """Ten pictures of each of 40 sources, all right or all wrong: no surer than 40 pictures."""
    right = np.arange(40) % 5 > 0
    source = np.repeat(np.arange(40), 10)
    hits = np.repeat(right, 10)[None].astype(float)
    few = two_way.variance(right[None].astype(float)).variance
    assert two_way.variance(two_way.by_cluster(hits, source)).variance == pytest.approx(few)
    assert two_way.variance(hits).variance < few / 9


def test_two_single_seeds_are_judged_by_mcnemar() -> None:
    first, second = np.arange(20) < 16, (np.arange(20) < 8) | (np.arange(20) >= 18)
    judged = judge(bench.entries(np.stack([first[None], second[None]]).astype(float)))
    assert judged.p_value[0, 1] == pytest.approx(scipy.stats.binomtest(2, 10, 0.5).pvalue)
    assert judged.networks.all() and not judged.winner


def test_seeds_without_predictions_are_judged_by_their_spread() -> None:
    sides = [np.array([0.95, 0.951, 0.952]), np.array([0.90, 0.901, 0.902])]
    judged = judge([Entry(seeds=(0, 1, 2), scores=s) for s in sides])
    assert judged.p_value[0, 1] == pytest.approx(scipy.stats.ttest_ind(*sides).pvalue, rel=0.5) and judged.winner
    lower = judge([Entry(seeds=(0, 1, 2), scores=s) for s in reversed(sides)], higher=False)
    assert lower.winner and lower.difference[0, 1] == pytest.approx(0.05)


def test_thirty_seeds_all_count_and_the_sign_does() -> None:
    """Ten of thirty were tested, and a leader that was behind on those was called significantly ahead."""
    random = np.random.Generator(np.random.PCG64(1))
    ahead = (random.random((30, 400)) < np.r_[np.full(10, 0.85), np.full(20, 0.96)][:, None]).astype(float)
    behind = (random.random((30, 400)) < 0.87).astype(float)
    judged = judge(bench.entries(np.stack([ahead, behind])))
    assert judged.difference[0, 1] > 0 and judged.low[0, 1] > 0 and judged.winner


def test_tiers_and_ranks_by_hand() -> None:
    random = np.random.Generator(np.random.PCG64(2))
    shares = np.array([0.95, 0.949, 0.80, 0.5])
    hits = (random.random((4, 5, 2000)) < shares[:, None, None]).astype(float)
    judged = judge(bench.entries(hits))
    assert judged.tiers.tolist() == [1, 1, 2, 3] and not judged.winner
    assert [r.tolist() for r in judged.ranks] == [[1, 1, 3, 4], [2, 2, 3, 4]]


@pytest.mark.parametrize(
    ("world", "accuracy", "seeds", "pictures"),
    [
        (bench.REAL, 0.95, 1, 360),
        (bench.REAL, 0.9, 2, 360),
        (bench.REAL, 0.98, 3, 360),
        (bench.REAL, 0.5, 5, 360),
        (bench.REAL, 0.95, 10, 360),
        (bench.REAL, 0.98, 10, 50),
        (bench.ALIKE, 0.9, 5, 360),
        (bench.COINS, 0.8, 10, 360),
    ],
)
def test_an_interval_covers_the_truth(world: bench.World, accuracy: float, seeds: int, pictures: int) -> None:
    assert 0.92 <= bench.coverage(world, accuracy, seeds, pictures, 400)


@pytest.mark.parametrize(("recipes", "seeds"), [(2, 1), (2, 2), (2, 5), (4, 3)])
def test_equals_have_no_winner(recipes: int, seeds: int) -> None:
    assert bench.winners(bench.REAL, recipes, seeds, 200, 150) <= 0.07


def test_a_gap_of_the_stated_size_is_found() -> None:
    smallest, states, found = bench.power(bench.REAL, 2, 5, 360, 60)
    assert 0 < smallest < 0.2 and states >= 0.9 and found >= 0.75


@pytest.mark.parametrize(("recipes", "points"), [(20, 2.0), (100, 2.7)])
def test_selection_flatters_as_much_as_is_said(recipes: int, points: float) -> None:
    is_so, said = bench.flattered(recipes, 400)
    assert is_so == pytest.approx(points, abs=0.2) and said == pytest.approx(is_so, abs=0.4)


def test_clearly_different_recipes_flatter_little() -> None:
    assert stats.flattery([0.95, 0.8, 0.7, 0.5], [1e-4] * 4) < 0.003
    assert np.isnan(stats.flattery([0.9, 0.8], [np.nan, np.nan]))


def test_a_source_is_a_part_of_the_key_or_what_an_expression_finds() -> None:
    assert source_of("path:1")("p07/eye/3.png") == "p07" and source_of("path:2")("p07/eye/3.png") == "p07/eye"
    assert source_of(r"patient(\d+)")("a/patient12_x.png") == "12" and source_of("q+")("a.png") == "a.png"
    for wrong in ("path:0", "path:x", "("):
        with pytest.raises(ReportError, match="--cluster.*legal are path:N"):
            source_of(wrong)


def test_a_manifest_names_sources_or_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "m.csv"
    file.write_text("Path,label,Patient\n./a/1.png,cat,7\na/2.png,dog,\n")
    found = source_of(f"{file}:patient")
    assert (found("a/1.png"), found("a/2.png"), found("b.png")) == ("7", "a/2.png", "b.png")
    found.check()
    pd.read_csv(file).to_parquet(tmp_path / "m.parquet")
    assert source_of(f"{tmp_path / 'm.parquet'}:Patient")("a/1.png") == "7.0"
    other = source_of(f"{file}:patient")
    other("z.png")
    with pytest.raises(
        ReportError, match="none of the tested pictures; it calls one 'a/1.png', and the runs .*'z.png'"
    ):
        other.check()
    for wrong, said in ((f"{file}:age", "legal are label, patient$"), (str(file), "legal are label, patient$")):
        with pytest.raises(ReportError, match=said):
            source_of(wrong)
    (tmp_path / "two.tsv").write_text("key\tp\na\t1\na\t2\n")
    (tmp_path / "none.csv").write_text("file,p\na,1\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "empty.csv").write_bytes(b"")
    for name, said in (
        ("two.tsv", "'a' is of both '1' and '2'"),
        ("none.csv", "no column path or key; it has file, p"),
        ("bad.parquet", "cannot be read"),
        ("empty.csv", "cannot be read"),
        ("gone.csv", "cannot be read"),
    ):
        with pytest.raises(ReportError, match=said):
            source_of(f"{tmp_path / name}:p")


def test_a_board_of_sources_is_less_sure() -> None:
    filler = empty_store()
    for depth, score in ((44, 0.95), (34, 0.90)):
        for seed in range(2):
            run = filler.run(**trained(depth, seed=seed, test=score))
            predictions(filler, run, score, seed=seed)
    alone, by_source = (reports.leaderboard(filler.uri, cluster=c) for c in ("", r"^(.*).$"))
    assert "The pictures count as" in by_source.to_text() and "The pictures count as" not in alone.to_text()
    assert (by_source["low"] != alone["low"]).all()
    assert by_source["interval"].tolist() == ["seeds and pictures"] * 2 and by_source["tier"].tolist()[0] == 1


def test_equal_seeds_without_predictions_are_no_proof() -> None:
    """Three seeds of 95.0 % against three of 93.0 %: the difference was "+1.9 to +1.9 points, p < 0.001"."""
    one, other = (Entry(seeds=(0, 1, 2), scores=np.full(3, score), pictures=360) for score in (0.95, 0.93))
    judged = judge([one, other])
    assert judged.low[0, 1] < 0 < judged.high[0, 1] and not judged.winner and judged.p_value[0, 1] > 0.2


def test_a_damaged_file_of_predictions_ends_no_page(tmp_path: Path) -> None:
    filler = empty_store()
    runs = [filler.run(**trained(44, seed=seed, test=0.95)) for seed in range(2)]
    predictions(filler, runs[0], 0.95)
    (tmp_path / "test.parquet").write_bytes(b"PAR1 broken")
    filler.client.log_artifact(runs[1], str(tmp_path / "test.parquet"), "predictions")
    filler.run(**trained(34, test=0.93))
    page = reports.leaderboard(filler.uri).to_text("html")
    assert "predictions of 1 run were not used: unreadable" in page
    reports.run_card(runs[1], filler.uri).to_text("html")
    reports.compare(runs, filler.uri).to_text("html")
