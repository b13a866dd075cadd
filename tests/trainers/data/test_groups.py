"""--group: all pictures of a source are in one split, the classes stay balanced, and a leak by source is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.pictures import picture
from tests.support.stores import make_store
from trainers.config import Config
from trainers.data import open_dataset
from trainers.data.check.check import Job, check
from trainers.data.groups import Group, grouped
from trainers.data.pack.pack import Options, pack
from trainers.data.source import read_source
from trainers.errors import BadData
from trainers.training.experiment import prepare


def patients(root: Path, number: int = 30) -> Path:
    """``root/<class>/<patient>/<n>.png``: each patient has 1 to 5 pictures of either class."""
    value, rng = 0, np.random.default_rng(0)
    for patient in range(number):
        for label in ("ill", "well"):
            for at in range(int(rng.integers(1, 6))):
                value += 1
                picture(root / label / f"p{patient:02}" / f"{at}.png", value)
    return root


@pytest.mark.parametrize("group", ["1", r"/(p\d+)/"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_source_is_in_one_split_and_the_shares_hold(group: str, seed: int, tmp_path: Path) -> None:
    data = open_dataset(patients(tmp_path), group=group, split_seed=seed)
    held = {name: {key.split("/")[1] for key in split.keys} for name, split in data.splits.items()}
    assert held.keys() == {"train", "validation", "test"}
    assert sum(len(found) for found in held.values()) == len(set.union(*held.values())) == 30
    every = sum(len(split) for split in data.splits.values())
    for name, share in {"train": 0.7, "validation": 0.1, "test": 0.2}.items():
        assert len(data.splits[name]) / every == pytest.approx(share, abs=0.02)
        assert np.mean(data.splits[name].labels) == pytest.approx(np.mean(data.train.labels), abs=0.08)


def test_a_source_is_held_out_in_one_fold(tmp_path: Path) -> None:
    folder, held = patients(tmp_path), []
    for number in (1, 2, 3):
        data = open_dataset(folder, group="1", fold=(number, 3))
        assert data.held_out is not None
        held.append({key.split("/")[1] for key in data.held_out.keys})
        assert not held[-1] & {key.split("/")[1] for key in data.train.keys}
    assert all(held) and sum(map(len, held)) == len(set.union(*held))


def test_the_cut_is_the_same_in_any_order_and_another_by_another_seed() -> None:
    rng = np.random.default_rng(0)
    labels, sources = rng.integers(0, 3, 400), [f"s{number}" for number in rng.integers(0, 60, 400)]
    digests = [str(at) for at in range(400)]

    def cut(order: np.ndarray, seed: int) -> set[str]:
        found = grouped(
            labels[order], [digests[at] for at in order], [sources[at] for at in order], {"test": 0.2}, seed, "abc"
        )
        return {digests[order[at]] for at in found["test"]}

    straight = np.arange(400)
    assert cut(straight, 0) == cut(rng.permutation(400), 0) != cut(straight, 1)


def test_one_huge_source_and_copies_that_tie_sources() -> None:
    sources = ["huge"] * 70 + [f"s{number // 2}" for number in range(30)]
    digests = [str(at) for at in range(100)]
    digests[70] = digests[99]  # s0 and s14 share a picture
    parts = grouped(np.arange(100) % 2, digests, sources, {"test": 0.2, "validation": 0.1}, 0, "ab")
    side = {
        source: {name for name, part in parts.items() for at in part if sources[at] == source} for source in sources
    }
    assert all(len(found) == 1 for found in side.values())
    assert side["huge"] == {"train"} and side["s0"] == side["s14"]
    assert {name: len(part) for name, part in parts.items()} == {"train": 70, "test": 20, "validation": 10}


def test_a_class_of_one_source_is_trained_on_and_the_rest_is_said(tmp_path: Path) -> None:
    patients(tmp_path)
    for at in range(5):
        picture(tmp_path / "rare" / "p99" / f"{at}.png", 1000 + at)
    data = open_dataset(tmp_path, group="1")
    assert set(data.train.labels) == {0, 1, 2}
    assert sorted(data.notes) == ["test: no picture of class rare", "validation: no picture of class rare"]


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("0", "1: the one it is in"),
        ("-2", "legal are N"),
        ("(p", "no regular expression"),
        (r"p\d+", "0 groups"),
        ("(a)(b)", "2 groups"),
        (" ", "is empty"),
        ("3", "has 2 folder"),
        ("(q[0-9])", "does not match"),
        ("patient", "is no manifest"),
        ("2", "too few to split"),
    ],
)
def test_what_is_no_group(group: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="--group|source"):
        open_dataset(patients(tmp_path, 6), group=group)
    with pytest.raises(BadData) as raised:
        open_dataset(tmp_path, group=group)
    assert said in str(raised.value)


def test_a_column_of_a_manifest(tmp_path: Path) -> None:
    patients(tmp_path / "p")
    paths = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    rows = [f"{path},{path.parts[1]},{path.parts[2]}" for path in paths]
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(["path,label,Patient", *rows]))
    data = open_dataset(listed, group="patient")
    held = [set(split.sources or ()) for split in data.splits.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == 30
    with pytest.raises(BadData, match="no column seller"):
        open_dataset(listed, group="seller")


def test_pack_keeps_a_source_in_one_split(tmp_path: Path) -> None:
    every = read_source(str(patients(tmp_path / "p")), None).splits["all"]
    patient = dict(zip(every.image_digests, (key.split("/")[1] for key in every.keys), strict=True))
    pack(str(tmp_path / "p"), tmp_path / "out", Options(group="1"))
    held = [
        {patient[digest] for digest in split.image_digests} for split in open_dataset(tmp_path / "out").splits.values()
    ]
    assert sum(map(len, held)) == len(set.union(*held)) == 30


def test_check_and_a_run_find_a_source_in_two_given_splits(tmp_path: Path) -> None:
    patients(tmp_path / "train")
    for label in ("ill", "well"):
        picture(tmp_path / "test" / label / "p77" / "0.png", 5000 + len(label))
    assert "source-across" not in {finding.code for finding in check([tmp_path], Job(), group="1").findings}
    picture(tmp_path / "test" / "ill" / "p03" / "0.png", 7000)
    (found,) = (one for one in check([tmp_path], Job(), group="1").findings if one.code == "source-across")
    assert found.examples == (f"p03: 1 pictures here, others in {tmp_path / 'train'}",)
    (tmp_path / "store").mkdir()
    config = Config(dataset=str(tmp_path), group="1", image_shape="3,12,10", num_layers=20)
    with pytest.raises(BadData, match="1 source.*p03"):
        prepare(config, make_store(tmp_path / "store"))


def test_group_reads_its_value() -> None:
    assert Group.parse("2").of(["a/b/c.png"], "x") == ["a"]
    assert Group.parse(r"(\w)\.png").of(["a/b/c.png"], "x") == ["c"]
    assert Group.parse("patient").column == "patient"
