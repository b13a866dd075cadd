"""The preflight on buckets as people have them: what trains is let through, what SageMaker cannot download is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from tests.support.aws.account import (
    BUILTIN,
    CODE,
    OWN,
    ROLE,
    World,
    build,
    codes,
    one,
    picture,
    preflight,
    records,
    trust,
)
from tests.support.aws.account import account_with_image_fixture as account_with_image_fixture
from trainers.sagemaker.job import request
from trainers.sagemaker.job.request import Channel
from trainers.sagemaker.preflight import examine

LISTED = replace(BUILTIN, num_classes=2, num_training_samples=8, resize=32)
LISTS = ("train", "validation", "train_lst", "validation_lst")


def _shared_images(account: World, rows: dict[str, list[int]], *, apart: bool = False) -> list[Channel]:
    """12 pictures under ``images/`` and two lists of some of them, in prefixes of their own or as single keys."""
    folder = account.folder
    for number in range(12):
        account.put(f"{folder}/images/{'ab'[number % 2]}/{number}.png", picture(number))
    uris = [f"s3://bucket-one/{folder}/images/"] * 2
    for split, numbers in rows.items():
        text = "".join(f"{n}\t{n % 2}\t{'ab'[n % 2]}/{n}.png\n" for n in numbers)
        key = f"{folder}/lists/cars_{split}.lst" if apart else f"{folder}/{split}_lst/cars_{split}.lst"
        account.put(key, text.encode())
        uris.append(f"s3://bucket-one/{key if apart else key.rpartition('/')[0] + '/'}")
    return [Channel(name, uri, request.IMAGE) for name, uri in zip(LISTS, uris, strict=True)]


SOUND = {"train": list(range(8)), "validation": list(range(8, 12))}


# Lists over shared pictures


@pytest.mark.parametrize("apart", [False, True])
def test_two_lists_over_one_folder_of_pictures_are_sound(account: World, apart: bool) -> None:
    """A common layout: both channels have one prefix, the lists tell the splits apart."""
    report = examine.examine(*build(_shared_images(account, SOUND, apart=apart), LISTED), account.aws)
    assert codes(report.findings) == []
    assert (report.facts["train"].num_images, report.facts["validation"].num_images) == (8, 4)


def test_a_list_inside_the_other_s_folder_is_sound(account: World) -> None:
    channels = _shared_images(account, SOUND)
    inside = f"s3://bucket-one/{account.folder}/images/a/"
    account.put(
        f"{account.folder}/validation_lst/cars_validation.lst", b"".join(b"%d\t0\t%d.png\n" % (n, n) for n in (8, 10))
    )
    found = preflight(
        account, [channels[0], replace(channels[1], s3_uri=inside), *channels[2:]], replace(LISTED, mini_batch_size=2)
    )
    assert set(codes(found, "error")) <= {"split-one-class"}


def test_lists_that_name_the_same_pictures_are_judged_by_them(account: World) -> None:
    partly = preflight(account, _shared_images(account, {**SOUND, "validation": [7, 8, 9, 10]}), LISTED)
    assert set(codes(partly)) == {"duplicate-across", "lst-unlisted"}  # 11.png is in no list
    assert one(partly, "duplicate-across").what.startswith("1 pictures are in train and in validation")
    every = preflight(account, _shared_images(account, {**SOUND, "validation": [0, 1, 2, 3]}), LISTED)
    finding = one(every, "validation-seen")
    assert finding.severity == "error" and "all 4 contents of validation are in train" in finding.what
    assert "channel-overlap" not in codes(every)


def test_pictures_in_no_list_are_still_said(account: World) -> None:
    channels = _shared_images(account, {"train": list(range(8)), "validation": [8, 9, 10]})
    found = preflight(account, channels, replace(LISTED, mini_batch_size=2))
    assert [f.what.partition(": ")[0] for f in found if f.code == "lst-unlisted"] == ["train", "validation"]
    assert all("1 objects are in no list" in f.what and "11.png" in f.what for f in found if f.code == "lst-unlisted")


def test_what_no_list_names_is_not_read_and_stops_nothing(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/train/a/broken.png", b"\x89PNG nothing")
    account.put(f"{account.folder}/train/_SUCCESS", b"")  # as Spark leaves it
    found = preflight(account, channels, replace(BUILTIN, resize=32))
    assert codes(found, "error") == []
    assert set(codes(found)) == {"lst-unlisted", "picture-type"}


def test_a_list_that_cannot_be_read_says_so_once(account: World) -> None:
    channels = _shared_images(account, SOUND)
    account.put(f"{account.folder}/train_lst/cars_train.lst", b"0\t0\ta/0.png\r\n2\t0\ta/2.png\r\n")
    found = preflight(account, channels, LISTED)
    assert codes(found, "error") == ["list-crlf"] and "Windows" in one(found, "list-crlf").what


# Validation that is training


def test_validation_that_is_the_training_file_stops_the_launch(account: World) -> None:
    channels = account.put_records()
    account.put(f"{account.folder}/validation/validation.rec", records(12))
    finding = one(preflight(account, channels), "validation-seen")
    assert finding.severity == "error" and finding.when == "result" and "all 12 contents" in finding.what
    large = records(300, shape=(64, 64, 3)) * 6  # read in pieces: told by S3's checksum of the whole
    for split in ("train", "validation"):
        account.put(f"{account.folder}/{split}/{split}.rec", large)
    assert "validation-seen" in codes(preflight(account, channels, replace(BUILTIN, num_training_samples=1800)))


def test_some_training_pictures_in_the_validation_file_are_a_warning(account: World) -> None:
    channels = account.put_records()
    account.put(f"{account.folder}/validation/validation.rec", records(6, first=9))  # 9, 10, 11 are in train
    found = preflight(account, channels)
    assert codes(found) == ["duplicate-across"] and "3 pictures" in one(found, "duplicate-across").what


# Keys


@pytest.mark.parametrize("kept", ["GLACIER", "DEEP_ARCHIVE"])
def test_archived_objects_cannot_be_downloaded(account: World, kept: str) -> None:
    channels = account.put_records()
    key = f"{account.folder}/train/train.rec"
    account.fake.s3.put_object(Bucket="bucket-one", Key=key, Body=records(12), StorageClass=kept)
    finding = one(preflight(account, channels), "object-archived")
    assert (finding.severity, finding.when) == ("error", "download")
    assert f"1 of 1 objects are in {kept}: {key}" in finding.what
    account.fake.s3.restore_object(Bucket="bucket-one", Key=key, RestoreRequest={"Days": 3})
    assert codes(preflight(account, channels)) == []


def test_an_archive_that_is_read_at_once_is_sound(account: World) -> None:
    channels = account.put_listed()
    for number, kept in enumerate(("GLACIER_IR", "STANDARD_IA", "INTELLIGENT_TIERING")):
        key = f"{account.folder}/train/{'abc'[number]}/{number}.png"
        account.fake.s3.put_object(Bucket="bucket-one", Key=key, Body=picture(number), StorageClass=kept)
    assert codes(preflight(account, channels, replace(BUILTIN, resize=32))) == []


def test_a_few_archived_pictures_and_an_archived_list(account: World) -> None:
    channels = account.put_listed()
    pictures = [f"{account.folder}/train/a/0.png", f"{account.folder}/train/b/1.png"]
    for key in (*pictures, f"{account.folder}/validation_lst/validation.lst"):
        data = account.fake.s3.get_object(Bucket="bucket-one", Key=key)["Body"].read()
        account.fake.s3.put_object(Bucket="bucket-one", Key=key, Body=data, StorageClass="GLACIER")
    found = [f for f in preflight(account, channels, replace(BUILTIN, resize=32)) if f.severity == "error"]
    assert [f.code for f in found] == ["object-archived", "object-archived"]
    assert "train: 2 of 12 objects" in found[0].what and "validation_lst: 1 of 1" in found[1].what


def test_an_archive_that_listings_do_not_tell_is_found_when_it_is_read(account: World) -> None:
    """Intelligent-Tiering keeps its class when it archives; moto knows no such tier: the refusal is the wire's."""
    channels = account.put_records()

    def refuse(params: dict[str, Any], **_: Any) -> Any:
        body = {"Error": {"Code": "InvalidObjectState", "Message": "not valid for the object's access tier"}}
        answer = AWSResponse(params["url"], 403, {}, None)
        return answer, {**body, "ResponseMetadata": {"HTTPStatusCode": 403}}

    events = account.aws.client("s3").meta.events
    events.register("before-call.s3.GetObject", refuse, unique_id="refuse")
    try:
        found = preflight(account, channels)
    finally:
        events.unregister("before-call.s3.GetObject", unique_id="refuse")
    assert codes(found) == ["object-archived", "object-archived"]
    assert "access tier" in one(found, "object-archived").what


def test_keys_with_two_slashes_are_refused_when_they_are_downloaded(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/train//a/0.png", picture(200))
    finding = one(preflight(account, channels, replace(BUILTIN, resize=32)), "key-double-slash")
    assert (finding.severity, finding.when) == ("error", "download") and "/train//a/0.png" in finding.what


def test_a_prefix_with_two_slashes_is_refused_before_anything_is_uploaded(account: World) -> None:
    built, config, options = build([], OWN, code_uri="s3://bucket-one/runs//uploads/code/0123/code.tar.gz")
    found = examine.run(built, config, options, account.aws, pending=("code",))
    assert codes(found, "error") == ["key-double-slash"]


def test_a_key_that_is_a_file_and_a_folder(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/train/a", b"as old tools leave it")
    finding = one(preflight(account, channels, replace(BUILTIN, resize=32)), "key-file-and-folder")
    assert finding.severity == "error" and f"{account.folder}/train/a is an object and" in finding.what
    account.fake.s3.delete_object(Bucket="bucket-one", Key=f"{account.folder}/train/a")
    account.put(f"{account.folder}/train/a/", b"")  # a folder made in the console
    assert codes(preflight(account, channels, replace(BUILTIN, resize=32))) == []


# Our own trainer


def _split(account: World, split: str, counts: dict[str, int], first: int) -> Channel:
    for index, (name, count) in enumerate(counts.items()):
        for number in range(count):
            account.put(f"{account.folder}/{split}/{name}/{number}.png", picture(first + 50 * index + number))
    return Channel(split, f"s3://bucket-one/{account.folder}/{split}/")


def test_a_class_that_validation_lacks_numbers_no_other_anew(account: World) -> None:
    """Our trainer has one class map over all splits."""
    channels = [
        _split(account, "train", {"ant": 3, "bee": 3, "cow": 3}, 0),
        _split(account, "validation", {"bee": 3, "cow": 3}, 500),
        _split(account, "test", {"ant": 1}, 900),
    ]
    for config in (OWN, replace(OWN, num_classes=3)):
        assert codes(preflight(account, channels, config, code_uri=CODE)) == ["split-one-class"]


def test_what_our_own_trainer_leaves_out_stops_nothing(account: World) -> None:
    """Finder's and Jupyter's leftovers; pictures that the built-in does not read and our trainer does."""
    channels = [_split(account, "train", {"ant": 4, "bee": 1}, 0)]
    for name, data in (
        ("ant/._0.png", b"\0\5\x16\7"),
        ("ant/.DS_Store", b"Bud1"),
        (".ipynb_checkpoints/0-checkpoint.png", picture(0)),
        ("bee/1.bmp", picture(901, kind=".bmp")),
        ("bee/2.webp", picture(902, kind=".webp")),
        ("README.txt", b"pets"),
        ("bee/_SUCCESS", b""),
    ):
        account.put(f"{account.folder}/train/{name}", data)
    report = examine.examine(*build(channels, replace(OWN, mini_batch_size=7), code_uri=CODE), account.aws)
    assert codes(report.findings) == []
    assert report.facts["train"].num_images == 7 and report.facts["train"].labels == {0, 1}


def test_a_training_split_below_the_batch_stops_our_trainer_too(account: World) -> None:
    channels = [
        _split(account, "train", {"ant": 2, "bee": 1}, 0),
        _split(account, "validation", {"ant": 1, "bee": 1}, 500),
    ]
    found = preflight(account, channels, OWN, code_uri=CODE)
    assert [f.what for f in found if f.severity == "error"] == ["train has 3, --mini-batch-size 4"]
    small = [_split(account, "train", {"ant": 4, "bee": 4}, 0), channels[1]]
    assert codes(preflight(account, small, OWN, code_uri=CODE)) == []


def test_the_number_of_training_pictures_after_a_cut_is_not_the_folder_s(account: World) -> None:
    channels = [_split(account, "train", {"ant": 10, "bee": 10}, 0)]
    told = replace(OWN, num_training_samples=14)
    assert codes(preflight(account, channels, told, code_uri=CODE)) == []
    channels.append(_split(account, "validation", {"ant": 2, "bee": 2}, 500))
    assert codes(preflight(account, channels, told, code_uri=CODE)) == ["samples"]


def test_a_packed_data_set_with_a_file_for_each_split(account: World) -> None:
    """What ``data pack --format rec`` writes, copied to S3 as it is."""
    for split, count, first in (("train", 12, 0), ("validation", 6, 100), ("test", 6, 200)):
        account.put(f"{account.folder}/{split}/{split}.rec", records(count, first=first))
        account.put(f"{account.folder}/index/{split}.idx", b"0\t0\n")
    account.put(f"{account.folder}/classes.json", b'{"format": 1, "class_names": ["a", "b", "c"]}')
    channels = [Channel("data", f"s3://bucket-one/{account.folder}/")]
    assert codes(preflight(account, channels, OWN, code_uri=CODE)) == []
    account.put(f"{account.folder}/test/test.rec", records(6)[:-100])
    assert codes(preflight(account, channels, OWN, code_uri=CODE)) == ["rec-truncated"]


def test_lists_for_our_own_trainer_need_no_content_type(account: World) -> None:
    channels = [replace(channel, content_type=None) for channel in _shared_images(account, SOUND)]
    assert codes(preflight(account, channels, replace(OWN, resize=32), code_uri=CODE)) == []


# The account


def test_a_role_is_known_by_its_path_as_well(account: World) -> None:
    account.fake.iam.create_role(
        RoleName="exec", Path="/service-role/", AssumeRolePolicyDocument=trust("sagemaker.amazonaws.com")
    )
    channels = account.put_records()
    assert codes(preflight(account, channels, role=f"{ROLE.rpartition('/')[0]}/service-role/exec")) == []
    finding = one(preflight(account, channels, role=f"{ROLE.rpartition('/')[0]}/exec"), "role-missing")
    assert "but arn:aws:iam::123456789012:role/service-role/exec" in finding.what
