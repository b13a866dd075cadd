"""The preflight's look at the data: every way a file was ever refused, on real files in S3, within its reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws.account import BUILTIN, CODE, OPTIONS, OWN, World, build, codes, one, picture, preflight, records
from tests.support.aws.account import account_with_image_fixture as account_with_image_fixture
from trainers.config import Config
from trainers.data.check import rules
from trainers.data.check.check import Job, check
from trainers.data.check.rules import Finding
from trainers.data.formats import image_record, recordio
from trainers.sagemaker.command import consent
from trainers.sagemaker.job import ledger, request
from trainers.sagemaker.job.launcher import SageMakerLauncher
from trainers.sagemaker.job.request import Channel
from trainers.sagemaker.options import CHANNELS, JobOptions
from trainers.sagemaker.preflight import examine
from trainers.sagemaker.preflight.data import local

pytestmark = pytest.mark.slow
LISTED = replace(BUILTIN, resize=32)


# Every row of the list of known refusals


def test_an_empty_record_file(account: World) -> None:
    channels = account.put_records()
    account.put(f"{account.folder}/train/train.rec", b"")
    finding = one(preflight(account, channels), "rec-empty")
    assert finding.severity == "error" and finding.what.endswith("/train.rec: no record at all (0 bytes)")


def test_an_invalid_list(account: World) -> None:
    channels = account.put_listed(lists={"train": "0 0 a/0.png\n1\t1\tb/1.png\n"})
    finding = one(preflight(account, channels, LISTED), "list-spaces")
    assert finding.what.endswith("train.lst: spaces where tabs must be (line 1: '0 0 a/0.png')")
    assert (
        finding.fix.startswith(f"copy {finding.file} here, python -m trainers.data relist train.lst ")
        and " OUT.lst, and upload" in finding.fix
    )


def test_fewer_pictures_than_a_batch_since_paths_are_wrong(account: World) -> None:
    rows = "".join(f"{n}\t{n % 3}\t{'abc'[n % 3]}/{n if n < 3 else f'none{n}'}.png\n" for n in range(12))
    found = preflight(account, account.put_listed(lists={"train": rows}), LISTED)
    missing = one(found, "list-path-missing")
    assert missing.count == 9 and f"line 4: s3://bucket-one/{account.folder}/train/a/none3.png" in missing.what
    assert "train has 3, --mini-batch-size 4" in one(found, "fewer-than-batch").what


def test_a_validation_set_smaller_than_a_batch(account: World) -> None:
    config = replace(BUILTIN, mini_batch_size=7)
    assert (
        "validation has 6, --mini-batch-size 7"
        in one(preflight(account, account.put_records(), config), "fewer-than-batch").what
    )


def _manifest(account: World, lines: list[dict[str, Any]], **source: Any) -> list[Finding]:
    """A job with augmented manifests, its request changed by hand as people write it."""
    text = "\n".join(json.dumps(line) for line in lines).encode()
    channels = []
    for name in ("train", "validation"):
        account.put(f"{account.folder}/{name}.manifest", text)
        uri = f"s3://bucket-one/{account.folder}/{name}.manifest"
        channels.append(Channel(name, uri, request.RECORDIO, ("source-ref", "class")))
    built, config, options = build(channels)
    for item in built["InputDataConfig"]:
        if "AttributeNames" in source:
            item["DataSource"]["S3DataSource"]["AttributeNames"] = source["AttributeNames"]
        item.update({key: value for key, value in source.items() if key != "AttributeNames"})
    return examine.run(built, config, options, account.aws)


LINES = [{"source-ref": f"s3://bucket-one/{n}.jpg", "class": n % 3} for n in range(12)]


def test_a_sound_manifest(account: World) -> None:
    assert codes(_manifest(account, LINES)) == []


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ({"RecordWrapperType": "None"}, "manifest-wrapper"),  # no magic number; unable to parse record
        ({"AttributeNames": []}, "manifest-attributes"),  # got empty batch from pipe
        ({"AttributeNames": ["source-ref", "label"]}, "manifest-attributes"),
        ({"AttributeNames": ["class", "source-ref"]}, "manifest-attributes"),
        ({"InputMode": "File"}, "manifest-mode"),
    ],
)
def test_manifests_that_the_pipe_cannot_deliver(account: World, source: dict[str, Any], code: str) -> None:
    assert codes(_manifest(account, LINES, **source))[:1] == [code]


def test_a_manifest_with_a_broken_line_or_a_wrong_label(account: World) -> None:
    line = {"source-ref": "s3://bucket-one/x.jpg", "class": 3}
    found = one(_manifest(account, [*LINES, line]), "label-out-of-range")
    assert found.examples == ("line 13: label 3",)
    found = one(_manifest(account, [*LINES, {**line, "class": "cat"}]), "label-not-integral")
    assert found.examples == ("line 13: 'cat'",)
    channels = [
        Channel("train", f"s3://bucket-one/{account.folder}/x.manifest", request.RECORDIO, ("source-ref", "class"))
    ]
    account.put(f"{account.folder}/x.manifest", b'{"source-ref": \n')
    assert "manifest-format" in codes(preflight(account, channels))
    assert "channel-empty" in codes(preflight(account, [replace(channels[0], s3_uri="s3://bucket-one/none.manifest")]))


def test_an_image_of_2018(account: World) -> None:
    built, config, options = build(account.put_records())
    built["AlgorithmSpecification"]["TrainingImage"] = (
        "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:latest"
    )
    assert codes(examine.run(built, config, options, account.aws)) == ["image-old"]


def test_packed_labels_where_one_is_read(account: World) -> None:
    channels = account.put_records()
    packed = _with_labels(records(12), [1.0, 2.0])
    account.put(f"{account.folder}/train/train.rec", packed)
    finding = one(preflight(account, channels), "rec-multi-label")
    assert finding.count == 12 and finding.examples[0] == "record 0: flag 2, not 0"
    several = replace(BUILTIN, multi_label=1)
    assert "record 0: flag 2, not 3" in one(preflight(account, channels, several), "rec-multi-label").what


def test_a_prefix_where_nothing_lies(account: World) -> None:
    channels = account.put_records()
    channels[0] = replace(channels[0], s3_uri="s3://bucket-one/nothing/here/")
    finding = one(preflight(account, channels), "channel-empty")
    assert finding.when == "create" and finding.cost_usd == 0.0


# Records


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: records(12)[:-100], "rec-truncated"),
        (lambda: records(12) + b"\0" * 4, "rec-trailing"),
        (lambda: b"PK\x03\x04" + bytes(5000), "rec-not-recordio"),
        (lambda: records(12, labels=(0, 1, 2, 3)), "label-out-of-range"),
        (lambda: records(12, labels=(0, 1, 0.5)), "label-not-integral"),
        (lambda: records(12, labels=(0, -1, 2)), "label-out-of-range"),
        (lambda: records(12, labels=(0, float("nan"), 2)), "label-not-integral"),
        (lambda: records(12, labels=(0, 1)), "label-gap"),
        (lambda: records(11), "samples"),
        (lambda: records(12, shape=(27, 28, 3)), "picture-small"),
        (lambda: records(12, shape=(28, 28)), "picture-channels"),
        (lambda: _protobuf(12), "rec-protobuf"),
        (lambda: _with_payload(b"\x93NUMPY" + bytes(100)), "picture-format"),
        (lambda: _with_payload(picture(1)[:100]), "picture-unreadable"),
    ],
)
def test_record_files_that_are_refused_or_misread(account: World, make: Any, code: str) -> None:
    channels = account.put_records()
    account.put(f"{account.folder}/train/train.rec", make())
    assert codes(preflight(account, channels))[:1] == [code]


@pytest.mark.parametrize(
    "make",
    [
        lambda: records(12),
        lambda: records(12)[:-100],
        lambda: records(12) + b"\0" * 4,
        lambda: b"PK\x03\x04" + bytes(5000),
        lambda: records(6) + b"what" + records(6, first=6)[4:],
        lambda: records(12, labels=(0, 1, 3, float("nan"), 0.5, -1)),
        lambda: records(12, labels=(0, 0, 0, 0, 0, 1)),
        lambda: records(12, shape=(27, 28)),
        lambda: _protobuf(12),
        lambda: _with_payload(picture(1)[:100]),
        lambda: _with_labels(records(12), [1.0, 2.0]),
    ],
)
def test_records_have_the_same_faults_here_and_in_s3(account: World, tmp_path: Path, make: Callable[[], bytes]) -> None:
    """All the rules of data, also those that only warn; a few are of the folder around the file, or of the copies."""
    contents = {"train": make(), "validation": records(6, first=100)}
    channels = account.put_records()
    for split, data in contents.items():
        account.put(f"{account.folder}/{split}/{split}.rec", data)
        (tmp_path / split).mkdir()
        (tmp_path / split / f"{split}.rec").write_bytes(data)
    here = check([tmp_path], Job(num_classes=3, image_shape=(3, 28, 28))).findings
    there = preflight(account, channels, replace(BUILTIN, num_training_samples=None))
    apart = {"class-names-missing", "duplicate-within", "duplicate-labels"}
    found = {(f.code, f.count, f.severity, f.when) for f in here if f.code not in apart}
    assert {(f.code, f.count, f.severity, f.when) for f in there if f.code in rules.RULES} == found


def test_files_beside_the_record_file(account: World) -> None:
    channels = account.put_records()
    account.put(f"{account.folder}/train/train.idx", b"0\t0\n")
    assert codes(preflight(account, channels)) == ["channel-stray-file"]
    account.put(f"{account.folder}/train/more.rec", records(3))
    assert one(preflight(account, channels), "channel-several-rec").count == 2
    for name in ("train", "more"):
        account.fake.s3.delete_object(Bucket="bucket-one", Key=f"{account.folder}/train/{name}.rec")
    assert one(preflight(account, channels), "rec-extension").examples == (f"{account.folder}/train/train.idx",)


def test_a_prefix_without_its_slash_takes_in_its_neighbours(account: World) -> None:
    channels = account.put_listed()
    built, config, options = build(channels, LISTED)
    source = built["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    source["S3Uri"] = source["S3Uri"].rstrip("/")
    finding = one(examine.run(built, config, options, account.aws), "channel-prefix")
    assert "train_lst/train.lst" in finding.what
    assert finding.fix == f"Say s3://bucket-one/{account.folder}/train/, with the slash."


@pytest.mark.parametrize("content_type", ["application/x-recordio-protobuf", "application/x-image", None])
def test_records_under_another_content_type(account: World, content_type: str | None) -> None:
    channels = [replace(channel, content_type=content_type) for channel in account.put_records()]
    finding = one(preflight(account, channels), "content-type")
    assert finding.fix == "Say application/x-recordio."


def test_pictures_under_the_records_content_type(account: World) -> None:
    channels = [replace(channel, content_type=request.RECORDIO) for channel in account.put_listed()]
    found = preflight(account, channels, LISTED)
    assert codes(found).count("content-type") == 4
    assert all(f.fix == "Say application/x-image." for f in found if f.code == "content-type")


def test_channels_the_algorithm_demands(account: World) -> None:
    assert codes(preflight(account, account.put_records()[:1])) == ["channel-missing"]
    found = preflight(account, account.put_listed()[:2], LISTED)
    assert [f.what for f in found if f.code == "channel-missing"] == [
        "there is no train_lst channel",
        "there is no validation_lst channel",
    ]


def test_lists_cannot_come_through_a_pipe_nor_data_in_shards(account: World) -> None:
    built, config, options = build(account.put_listed(), LISTED)
    built["AlgorithmSpecification"]["TrainingInputMode"] = "Pipe"
    built["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    found = examine.run(built, config, options, account.aws)
    assert codes(found).count("pipe-mode") == 4 and "distribution" in codes(found)


def test_one_prefix_for_two_splits(account: World) -> None:
    train, validation = account.put_records()
    assert "channel-overlap" in codes(preflight(account, [train, replace(validation, s3_uri=train.s3_uri)]))
    inside = f"s3://bucket-one/{account.folder}/"
    assert "channel-overlap" in codes(preflight(account, [replace(train, s3_uri=inside), validation]))


def test_output_inside_the_data(account: World) -> None:
    channels = account.put_records()
    output = f"s3://bucket-one/{account.folder}/train"
    assert "output-in-input" in codes(preflight(account, channels, output=output))


# Lists and pictures


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("0\t0\ta/0.png\n", "list-duplicate-index"),
        ("12\t3\ta/0.png\n", "label-out-of-range"),
        ("12\t-1\ta/0.png\n", "label-out-of-range"),
        ("12\t0.5\ta/0.png\n", "label-not-integral"),
        ("12\tcat\ta/0.png\n", "list-names"),
        ("12\t0\n", "list-fields"),
        ("12\tinf\ta/0.png\n", "label-not-integral"),
        ("12\t0\ta/\udcff.png\n", "list-encoding"),
        ("12\t0\ta/0.png\r\n", "list-crlf"),
        ("12\t0\ta/none.png\n", "list-path-missing"),
        ("12\t0\ta/0.PNG\n", "list-path-case"),
        ("12\t0\t../train/a/0.png\n", "list-path-escapes"),
        ("12\t0\tempty.png\n", "picture-unreadable"),
        ("12\t0\t./a/0.png\n", "samples"),
    ],
)
def test_a_bad_line_of_a_list(account: World, row: str, code: str) -> None:
    sound = "".join(f"{n}\t{n % 3}\t{'abc'[n % 3]}/{n}.png\n" for n in range(12))
    channels = account.put_listed(lists={"train": sound + row})
    if "empty" in row:
        account.put(f"{account.folder}/train/empty.png", b"")
    assert code in codes(preflight(account, channels, LISTED), "error")


@pytest.mark.parametrize(
    "row",
    [
        "",
        "0\t0\ta/0.png\n",
        "12\t3\ta/9.png\n",
        "12\t0.5\ta/0.png\n",
        "12\t1\tc/2.png\n12\t1\tnone.png\n13\t0\t../a/0.png\n14\t0\tA/0.png\n15\t0\ta\n15\tinf\tb/1.png\n",
    ],
)
def test_lists_have_the_same_faults_here_and_in_s3(account: World, tmp_path: Path, row: str) -> None:
    sound = "".join(f"{n}\t{n % 3}\t{'abc'[n % 3]}/{n}.png\n" for n in range(12))
    channels = account.put_listed(lists={"train": sound + row})
    for item in account.fake.s3.list_objects_v2(Bucket="bucket-one", Prefix=f"{account.folder}/")["Contents"]:
        path = tmp_path / item["Key"].partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(account.fake.s3.get_object(Bucket="bucket-one", Key=item["Key"])["Body"].read())
    here = check([tmp_path], Job(num_classes=3, image_shape=(3, 28, 28), resize=32)).findings
    there = preflight(account, channels, replace(LISTED, num_training_samples=None))
    apart = {"class-names-missing", "duplicate-within", "duplicate-labels", "channel-neighbour"}
    found = {(f.code, f.count, f.severity, f.when) for f in here if f.code not in apart}
    assert {(f.code, f.count, f.severity, f.when) for f in there if f.code in rules.RULES} == found


def test_pictures_that_no_list_names(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/train/a/extra.png", picture(99))
    account.put(f"{account.folder}/train/notes.txt", b"hello")
    found = preflight(account, channels, LISTED)
    assert codes(found) == ["picture-type", "lst-unlisted"]
    assert "train: 2 objects are in no list" in one(found, "lst-unlisted").what


def test_two_lists_in_a_channel(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/train_lst/more.lst", b"0\t0\ta/0.png\n")
    assert "lst-count" in codes(preflight(account, channels, LISTED))


def test_lists_whose_class_numbers_differ(account: World) -> None:
    rows = "".join(f"{n}\t{(n + 1) % 3}\t{'abc'[n % 3]}/{n}.png\n" for n in range(6))
    finding = one(preflight(account, account.put_listed(lists={"validation": rows}), LISTED), "class-map-differs")
    assert finding.severity == "error" and finding.count == 3
    assert finding.examples[0].startswith("a/: label 1 here, 0 in s3://")


def test_a_folder_that_is_no_class_has_no_class_number(account: World) -> None:
    rows = {
        "train": "".join(f"{n}\t{n % 3}\ta/{3 * (n % 4)}.png\n" for n in range(12)),
        "validation": "".join(f"{n}\t{n % 2}\ta/{3 * (n % 2)}.png\n" for n in range(6)),
    }
    assert codes(preflight(account, account.put_listed(lists=rows), LISTED), "error") == []


def test_lists_without_resize_are_warned_about(account: World) -> None:
    assert codes(preflight(account, account.put_listed(), BUILTIN)) == ["resize-missing"]


def test_several_labels_a_picture(account: World) -> None:
    rows = {
        s: "".join(f"{n}\t1\t0\t1\t{'abc'[n % 3]}/{n}.png\n" for n in range(c))
        for s, c in (("train", 12), ("validation", 6))
    }
    config = replace(LISTED, multi_label=1)
    assert codes(preflight(account, account.put_listed(lists=rows), config)) == []
    assert "list-multi-label" in codes(preflight(account, account.put_listed(), config), "error")


def test_the_same_picture_in_two_splits(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/validation/a/0.png", picture(0))  # training picture a/0.png
    finding = one(preflight(account, channels, LISTED), "duplicate-across")
    assert finding.severity == "warning"
    assert finding.what.startswith("1 pictures are in train and in validation, such as ")


def test_broken_pictures_are_among_those_looked_at(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/train/b/4.png", picture(4)[:50])  # the smallest
    finding = one(preflight(account, channels, LISTED), "picture-unreadable")
    assert "(1 of 6 looked at, " in finding.what and "b/4.png" in finding.what


def test_small_pictures_matter_without_resize_only(account: World) -> None:
    channels = account.put_listed()
    account.put(f"{account.folder}/train/b/4.png", picture(4, (20, 40, 3)))
    assert "picture-small" in codes(preflight(account, channels, BUILTIN))
    assert "picture-small" not in codes(preflight(account, channels, LISTED))


# Our own trainer's folders


def _folders(account: World, **counts: int) -> list[Channel]:
    for name, count in counts.items():
        for number in range(count):
            seed = ord(name[0]) + 200 * number
            account.put(f"{account.folder}/train/{name}/{number}.png", picture(seed))
    return [Channel("train", f"s3://bucket-one/{account.folder}/train/")]


def test_folders_are_classes_for_our_own_trainer(account: World) -> None:
    report = examine.examine(*build(_folders(account, cat=3, dog=4), OWN, code_uri=CODE), account.aws)
    assert codes(report.findings) == []
    assert report.facts["train"].num_images == 7
    assert report.facts["train"].part is not None and report.facts["train"].part.counts() == {0: 3, 1: 4}


def test_folders_that_are_no_classes(account: World) -> None:
    assert codes(preflight(account, _folders(account, cat=4), OWN, code_uri=CODE)) == ["one-class"]
    channels = _folders(account, cat=4, dog=4)
    assert "3 folders" not in codes(preflight(account, channels, OWN, code_uri=CODE))
    wrong = replace(OWN, num_classes=3)
    assert (
        "2 folders (cat, dog), --num-classes 3"
        in one(preflight(account, channels, wrong, code_uri=CODE), "folder-classes").what
    )
    account.put(f"{account.folder}/train/loose.png", picture(5))
    finding = one(preflight(account, channels, OWN, code_uri=CODE), "folder-classes")
    assert finding.severity == "warning" and "1 pictures lie in no class's folder" in finding.what


def test_test_pictures_among_the_training_pictures(account: World) -> None:
    channels = _folders(account, cat=3, dog=4)
    account.put(f"{account.folder}/test/cat/9.png", picture(ord("c")))  # training picture cat/0.png
    account.put(f"{account.folder}/test/dog/9.png", picture(9))
    channels.append(Channel("test", f"s3://bucket-one/{account.folder}/test/"))
    assert codes(preflight(account, channels, OWN, code_uri=CODE)) == ["test-overlap"]
    allowed = replace(OWN, allow_overlap=True)
    assert codes(preflight(account, channels, allowed, code_uri=CODE)) == ["duplicate-across"]


def test_channels_to_be_uploaded_are_not_looked_for(account: World) -> None:
    channels = [Channel("train", "s3://bucket-one/uploads/data/0123/")]
    built, config, options = build(channels, OWN, code_uri="s3://bucket-one/uploads/code/0123/code.tar.gz")
    found = examine.run(built, config, options, account.aws, pending=("train", "code"))
    assert codes(found) == []
    assert [f.what for f in found if f.code == "upload-pending"] == [
        "train: goes to s3://bucket-one/uploads/data/0123/",
        "code: goes to s3://bucket-one/uploads/code/0123/code.tar.gz",
    ]


# What it costs to look


def test_data_that_may_not_be_read_are_unchecked_not_sound(account: World) -> None:
    channels = account.put_records()
    channels[0] = replace(channels[0], s3_uri="s3://bucket-denied/train/")
    # moto lets everybody in: the refusal is the wire's.
    account.aws.client("s3").meta.events.register("before-call.s3.ListObjectsV2", _deny, unique_id="deny")
    try:
        found = preflight(account, channels)
    finally:
        account.aws.client("s3").meta.events.unregister("before-call.s3.ListObjectsV2", unique_id="deny")
    assert "channel-unchecked" in codes(found, "unchecked")
    assert not [f for f in found if f.code == "samples"]


def _deny(params: dict[str, Any], **_: Any) -> Any:
    if "bucket-denied" not in params["url"]:
        return None
    from botocore.awsrequest import AWSResponse

    body = {"Error": {"Code": "AccessDenied", "Message": "Access Denied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    return AWSResponse(params["url"], 403, {}, None), body


def test_a_large_record_file_is_read_in_pieces(account: World) -> None:
    channels = account.put_records()
    sixth = records(300, shape=(64, 64, 3))  # 3.7 MB
    account.put(f"{account.folder}/train/train.rec", sixth * 6)
    report = examine.examine(*build(channels, replace(BUILTIN, num_training_samples=1800)), account.aws)
    facts = report.facts["train"]
    assert facts.num_images is not None and abs(facts.num_images - 1800) <= facts.error < 200
    assert report.num_reads <= 30
    assert report.num_bytes_read < 7 * 2**20 < 6 * len(sixth)
    assert codes(report.findings) == ["rec-duplicate-id"]  # the same records six times
    far_off = preflight(account, channels, replace(BUILTIN, num_training_samples=3600))
    assert "3,600, the train channel has about 1,8" in one(far_off, "samples-about").what


def test_the_index_counts_a_large_record_file(account: World) -> None:
    channels = account.put_records()
    account.put(f"{account.folder}/train/train.rec", records(300, shape=(64, 64, 3)) * 6)
    account.put(f"{account.folder}/train/train.idx", b"".join(b"%d\t0\n" % n for n in range(1800)))
    report = examine.examine(*build(channels), account.aws)
    assert report.facts["train"].num_images == 1800
    assert "--num-training-samples 12, the train channel has 1,800" in one(report.findings, "samples").what


def test_a_large_record_file_that_was_cut_off_or_damaged(account: World) -> None:
    channels = account.put_records()
    config = replace(BUILTIN, num_training_samples=1800)
    whole = records(300, shape=(64, 64, 3)) * 6
    account.put(f"{account.folder}/train/train.rec", whole[:-1000])
    assert "rec-truncated" in codes(preflight(account, channels, config))
    account.put(f"{account.folder}/train/train.rec", whole[: 4 * 2**20] + bytes(12 * 2**20) + whole[4 * 2**20 :])
    assert "rec-magic" in codes(preflight(account, channels, config))


def test_pictures_larger_than_a_piece(account: World) -> None:
    channels = account.put_records()
    account.put(f"{account.folder}/train/train.rec", records(3, shape=(1000, 1200, 3)))  # 3.6 MB each
    report = examine.examine(*build(channels, replace(BUILTIN, num_training_samples=3, mini_batch_size=2)), account.aws)
    assert report.facts["train"].num_images == 3
    assert codes(report.findings) == []


def _with_labels(data: bytes, labels: list[float]) -> bytes:
    """The records with packed labels instead of one."""
    import io
    import struct

    out = io.BytesIO()
    for record in _payloads(data):
        header = struct.pack("<IfQQ", len(labels), 0.0, 0, 0) + struct.pack(f"<{len(labels)}f", *labels)
        recordio.write(out, header + record[24:])
    return out.getvalue()


def _payloads(data: bytes) -> list[bytes]:
    from trainers.data.formats.record_pieces import parse

    return [record.payload for record in parse(data)[0]]


def _with_payload(picture_bytes: bytes) -> bytes:
    import io

    out = io.BytesIO()
    for number in range(12):
        recordio.write(out, image_record.pack_image(number % 3, number, picture_bytes))
    return out.getvalue()


def _protobuf(count: int) -> bytes:
    """SageMaker's own records: field 1, a map entry with key "values"."""
    import io

    out = io.BytesIO()
    for number in range(count):
        value = b"\x12\x05\x0a\x03" + bytes([number, 1, 2])
        entry = b"\x0a\x06values" + value
        recordio.write(out, b"\x0a" + bytes([len(entry)]) + entry)
    return out.getvalue()


# Data on this machine


def test_local_data_are_checked_before_they_are_sent(account: World, tmp_path: Path) -> None:
    for name, count in (("cat", 6), ("dog", 6)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "pets" / name / f"{number}.png").write_bytes(picture(ord(name[0]) + 200 * number))
    channels = [Channel("data", "s3://bucket-one/uploads/data/0123/")]
    told: dict[str, Any] = {"pending": ("data", "code"), "local": [tmp_path / "pets"]}
    built = build(channels, OWN, code_uri=CODE)
    assert codes(examine.run(*built, account.aws, **told)) == []
    (tmp_path / "pets" / "dog" / "3.png").write_bytes(picture(3)[:60])
    found = examine.run(*built, account.aws, **told)
    broken = [f for f in found if "3.png" in f.what and f.code == "picture-unreadable"]
    assert broken and broken[0].severity in ("error", "warning") and broken[0].fix
    report = examine.examine(*built, account.aws, **told, counts={"train": 10_000, "validation": 1000})
    assert report.usd is not None and report.usd > 0
    assert examine.examine(*built, account.aws, **told).usd is None


def _pictures(folder: Path, counts: dict[str, int], first: int = 0) -> Path:
    """Pictures like no other in sub-folders, one a class."""
    for index, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").write_bytes(picture(first + 1000 * index + number))
    return folder


Found = dict[str, list[str]]


@pytest.fixture
def planned(account: World, tmp_path: Path) -> Callable[..., Found]:
    """A job planned as the command line does it, data of this machine included; severity and code → what was found."""

    def plan(kind: str = ledger.BUILTIN, *batches: int, **given: Any) -> Found:
        at = {name: str(given.pop(name)) for name in CHANNELS if name in given}
        where = SageMakerLauncher(
            JobOptions(**OPTIONS, **at), kind, tmp_path / "journals", experiment="pets", aws=account.aws
        )
        config = Config(**{"num_layers": 20, "image_shape": "3,28,28", "epochs": 1, **given})
        configs = [replace(config, mini_batch_size=batch) for batch in batches] or [config]
        seen = consent.preflight([where.plan(one, dry=True) for one in configs], where, None)
        found: Found = {}
        for finding in [finding for report in seen.reports for finding in report.findings]:
            if finding.severity in ("error", "warning"):
                found.setdefault(f"{finding.severity} {finding.code}", []).append(finding.what)
        assert seen.has_errors == any(key.startswith("error") for key in found)
        return found

    return plan


def test_a_folder_whose_validation_cut_is_below_the_batch_is_not_launched(
    planned: Callable[..., Found], tmp_path: Path
) -> None:
    """Ten of a hundred are cut for validation: the built-in stops at that, on billed time."""
    pets = _pictures(tmp_path / "pets", {"cat": 41, "dog": 41})
    assert planned(dataset=str(pets)) == {"error fewer-than-batch": ["validation has 8, --mini-batch-size 32"]}
    assert planned(dataset=str(pets), mini_batch_size=8) == {}
    assert planned(dataset=str(pets), validation_fraction=0.4) == {}
    # Our own trainer keeps batches that are not full; it needs a batch of training pictures.
    assert "error fewer-than-batch" not in planned(ledger.OWN, dataset=str(pets))


def test_a_small_test_folder_is_nothing_to_the_built_in(planned: Callable[..., Found], tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    for split, count, first in (("train", 16, 0), ("validation", 16, 100), ("test", 3, 200)):
        _pictures(pets / split, {"cat": count, "dog": count}, first)
    assert planned(dataset=str(pets)) == {}
    assert planned(ledger.OWN, dataset=str(pets)) == {}
    (pets / "test" / "cat" / "0.png").write_bytes(picture(0)[:50])
    assert planned(dataset=str(pets)) == {}  # it is never sent
    assert "error picture-unreadable" in planned(ledger.OWN, dataset=str(pets))
    assert planned(**{split: pets / split for split in ("train", "validation", "test")}) == {}
    (pets / "validation" / "cat" / "0.png").write_bytes(picture(0)[:50])
    assert len(planned(dataset=str(pets))["error picture-unreadable"]) == 1


def test_each_job_of_a_study_is_held_against_its_own_batch(planned: Callable[..., Found], tmp_path: Path) -> None:
    for split, count, first in (("train", 40, 0), ("validation", 12, 100)):
        (tmp_path / f"{split}.rec").write_bytes(records(count, first=first))
    given = {split: tmp_path / f"{split}.rec" for split in ("train", "validation")}
    found = planned(ledger.BUILTIN, 8, 32, num_classes=3, num_training_samples=40, **given)
    assert found == {"error fewer-than-batch": ["validation has 12, --mini-batch-size 32"]}


def test_validation_that_is_wholly_training_pictures_stops_the_launch_from_here(
    planned: Callable[..., Found], tmp_path: Path
) -> None:
    pets = tmp_path / "pets"
    _pictures(pets / "train", {"cat": 16, "dog": 16})
    _pictures(pets / "validation", {"cat": 16, "dog": 16})
    found = planned(dataset=str(pets))
    assert [what.partition(" of ")[0] for what in found["error validation-seen"]] == ["all 32 pictures"]
    (pets / "validation" / "cat" / "0.png").write_bytes(picture(77))
    assert set(planned(dataset=str(pets))) == {"warning duplicate-across"}


def test_two_lists_over_one_folder_of_this_machine_are_sound(planned: Callable[..., Found], tmp_path: Path) -> None:
    """The lists lie elsewhere; their paths start in --train and --validation."""
    images = _pictures(tmp_path / "images", {"audi": 12, "bmw": 12})
    (tmp_path / "lists").mkdir()
    numbers = {"train": range(8), "val": range(8, 12)}
    for split in numbers:
        rows = [f"{n}\t{c}\t{name}/{n}.png\n" for n in numbers[split] for c, name in enumerate(("audi", "bmw"))]
        (tmp_path / "lists" / f"cars_{split}.lst").write_text(
            "".join(f"{k}{row[row.index(chr(9)) :]}" for k, row in enumerate(rows))
        )
    lists = tmp_path / "lists"
    given = {"train": images, "train_lst": lists / "cars_train.lst"}
    given |= {"validation": images, "validation_lst": lists / "cars_val.lst"}
    assert planned(**given, mini_batch_size=8) == {}
    assert set(planned(**given, mini_batch_size=9)) == {"error fewer-than-batch"}
    with open(tmp_path / "lists" / "cars_val.lst", "a") as file:
        file.write("99\t1\tbmw/none.png\n")
    names = ("train", "validation", "train_lst", "validation_lst")
    paths = (images, images, tmp_path / "lists" / "cars_train.lst", tmp_path / "lists" / "cars_val.lst")
    found, _ = local.check(list(zip(names, paths, strict=True)), BUILTIN, is_builtin=True)
    (finding,) = (f for f in found if f.code == "list-path-missing")
    (tmp_path / "images" / "twice.lst").write_text("0\t0\taudi/0.png\n0\t1\tbmw/0.png\n")
    found, _ = local.check([("data", tmp_path / "images" / "twice.lst")], BUILTIN, is_builtin=True)
    assert "label-gap" in codes(found) and "list-duplicate-index" not in codes(found)  # packing numbers them anew
    assert finding.what.startswith(f"{tmp_path}/lists/cars_val.lst: ") and "none.png" in finding.what


def test_a_whole_data_set_in_s3_may_have_any_layout(account: World) -> None:
    for split in ("train", "validation"):
        for number in range(4):
            account.put(f"{account.folder}/{split}/cat/{number}.png", picture(ord(split[0]) + 200 * number))
    channels = [Channel("data", f"s3://bucket-one/{account.folder}/")]
    assert codes(preflight(account, channels, OWN, code_uri=CODE)) == []
