"""Rehearsing on data in S3: a few pictures of every layout, read in pieces; what the job would refuse is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.aws.account import BUILTIN, World, picture, records
from trainers import run
from trainers.data import open_dataset
from trainers.errors import BadData, BadInput
from trainers.sagemaker import rehearsal
from trainers.sagemaker import rehearsal as sample
from trainers.sagemaker.aws.objects import Objects
from trainers.sagemaker.options import JobOptions

COUNTS = {"train": 6, "validation": 6, "test": 6}


def objects(account: World) -> Objects:
    return Objects(account.aws, sample.MOST_READS)


def uris(account: World, *names: str) -> dict[str, str]:
    return {name: f"s3://bucket-one/{account.folder}/{name}/" for name in names}


def test_records_of_every_class_come_out_of_a_record_file(account: World, tmp_path: Path) -> None:
    account.put_records()
    folder = sample.fetch(uris(account, "train", "validation"), tmp_path / "few", COUNTS, BUILTIN, objects(account))
    found = open_dataset(folder)
    assert len(found.train) == 6 and sorted(found.train.labels) == [0, 0, 1, 1, 2, 2]
    for name, count, first in (("train", 12, 0), ("validation", 6, 100)):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / f"{name}.rec").write_bytes(records(count, first=first))
    assert found.train.image_digests == open_dataset(tmp_path / "all").train.image_digests[:6]  # the very pictures


def test_a_large_record_file_is_read_in_pieces(account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted by class, as an unshuffled list leaves it: the pieces reach all of them."""
    monkeypatch.setattr(sample, "_PIECE_BYTES", 8192)
    data = b"".join(records(40, first=100 * label, labels=(label,)) for label in range(3))
    account.put(f"{account.folder}/train/train.rec", data)
    account.put(f"{account.folder}/validation/validation.rec", records(6, first=900))
    reading = objects(account)
    folder = sample.fetch(uris(account, "train", "validation"), tmp_path / "few", COUNTS, BUILTIN, reading)
    assert set(open_dataset(folder).train.labels) == {0, 1, 2}
    assert reading.num_bytes_read < len(data) / 2


def test_pictures_come_by_their_list(account: World, tmp_path: Path) -> None:
    account.put_listed()
    names = ("train", "validation", "train_lst", "validation_lst")
    reading = objects(account)
    folder = sample.fetch(uris(account, *names), tmp_path / "few", COUNTS, BUILTIN, reading)
    found = open_dataset(folder)
    assert sorted(found.train.labels) == [0, 0, 1, 1, 2, 2] and len(found.validation) == 6
    assert reading.num_reads == 2 + 6 + 6  # lists and pictures, no more


def test_a_whole_data_set_of_folders_is_sampled_by_class(account: World, tmp_path: Path) -> None:
    for number in range(30):
        account.put(f"{account.folder}/pets/{'cat' if number < 20 else 'dog'}/{number}.png", picture(number))
    where = {"data": f"s3://bucket-one/{account.folder}/pets/"}
    folder = sample.fetch(where, tmp_path / "few", {"train": 8}, BUILTIN, objects(account))
    found = open_dataset(folder, validation_fraction=0.25, test_fraction=0.0)
    labels = [*found.train.labels, *found.validation.labels]
    assert sorted(labels) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_whole_data_set_with_splits_keeps_them(account: World, tmp_path: Path) -> None:
    account.put_records()
    where = {"data": f"s3://bucket-one/{account.folder}/"}
    found = open_dataset(sample.fetch(where, tmp_path / "few", COUNTS, BUILTIN, objects(account)))
    assert (len(found.train), len(found.validation)) == (6, 6)


def test_labels_that_the_job_would_refuse_are_refused(account: World, tmp_path: Path) -> None:
    account.put_records()
    with pytest.raises(BadData, match="train: label 2; legal are whole numbers from 0, below num_classes"):
        config = replace(BUILTIN, num_classes=2)
        sample.fetch(uris(account, "train", "validation"), tmp_path / "few", COUNTS, config, objects(account))


@pytest.mark.parametrize(
    ("key", "data", "told"),
    [
        ("train/train.rec", b"pictures of cats, but no records", "no record begins there"),
        ("train/data.tar", b"tar", "neither a .rec nor pictures in folders"),
        ("elsewhere/a.png", b"", "train: there is nothing under"),
    ],
)
def test_what_cannot_be_sampled_says_why(account: World, tmp_path: Path, key: str, data: bytes, told: str) -> None:
    account.put(f"{account.folder}/{key}", data)
    with pytest.raises(BadData, match=told):
        sample.fetch(uris(account, "train"), tmp_path / "few", COUNTS, BUILTIN, objects(account))


def test_a_list_whose_pictures_are_elsewhere_says_so(account: World, tmp_path: Path) -> None:
    account.put_listed(lists={"train": "0\t0\tsomewhere/else.png\n"})
    with pytest.raises(BadData, match="none of its pictures is under"):
        sample.fetch(uris(account, "train", "train_lst"), tmp_path / "few", COUNTS, BUILTIN, objects(account))


def test_large_networks_rehearse_on_fewer_pictures() -> None:
    small, large = (
        rehearsal.num_pictures(replace(BUILTIN, num_layers=depth, image_shape=shape, mini_batch_size=32))
        for depth, shape in ((20, "3,28,28"), (152, "3,224,224"))
    )
    assert small == {"train": 96, "validation": 64, "test": 64}
    assert large["train"] < 32 and large["validation"] >= 4


def test_data_here_and_there_are_not_rehearsed_together(tmp_path: Path) -> None:
    options = JobOptions(train="s3://bucket-one/a/", validation=str(tmp_path), region="us-east-1")
    with pytest.raises(BadInput, match="--validation is here and --train in S3"):
        rehearsal.run(BUILTIN, options)


@pytest.mark.mxnet
def test_a_job_on_records_in_s3_is_rehearsed_on_them(
    account: World, workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    account.put_records()
    given = [f"--{name}={uri}" for name, uri in uris(account, "train", "validation").items()]
    argv = ["--on=sagemaker-builtin", "--rehearse", "--region=us-east-1", *given]
    argv += ["--num-layers=20", "--image-shape=3,28,28", "--num-classes=3", "--num-training-samples=12"]
    assert run.main([*argv, "--mini-batch-size=4"]) == 0
    said = capfd.readouterr().out
    assert "kB out of S3" in said and "12 train, 6 validation pictures" in said and "ran to its end" in said
