"""Launching: what goes to S3, what is written down first, exactly one job whatever happens, quota waited for."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.aws.fake import FakeSageMaker, Plan
from tests.support.aws.launches import CONFIG, account, launched, launcher, metrics, statuses, submitted, tags
from tests.support.stores import made_database
from tracking import names
from tracking.journal import Journal
from tracking.journal.events import read
from tracking.store import Store
from trainers.config import Config
from trainers.errors import BadInput
from trainers.sagemaker.aws import upload
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.upload import code_archive
from trainers.sagemaker.builtin import limits
from trainers.sagemaker.errors import NotAllowed, NotFound, QuotaReached, Unreachable
from trainers.sagemaker.job import ledger, submit
from trainers.sagemaker.job.launcher import SageMakerJob, SageMakerLauncher
from trainers.sagemaker.watch.adopt import adopt
from trainers.sagemaker.watch.many_jobs import watch_many

pytestmark = pytest.mark.slow


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    with account(tmp_path / "fake", monkeypatch) as fake:
        yield fake


def keys(fake: FakeSageMaker, prefix: str = "jobs/") -> list[str]:
    listed = fake.s3.list_objects_v2(Bucket="bucket-one", Prefix=prefix)
    return [entry["Key"] for entry in listed.get("Contents", [])]


def content(fake: FakeSageMaker, key: str) -> bytes:
    return bytes(fake.s3.get_object(Bucket="bucket-one", Key=key)["Body"].read())


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """12 small pictures of two classes, in folders."""
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "pets" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 255, (40, 48, 3), dtype=np.uint8))
    return tmp_path / "pets"


def test_a_dry_plan_sends_nothing(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    where = launcher(fake, tmp_path / "journals", ledger.OWN, train=None, validation=None)
    plan = where.plan(replace(CONFIG, dataset=str(pets), num_training_samples=None), dry=True)
    assert plan.request["TrainingJobName"] == plan.name and plan.price is not None and plan.price.usd == 0.7364
    assert [channel["ChannelName"] for channel in plan.request["InputDataConfig"]] == ["data", "code"]
    assert keys(fake) == [] and fake.calls == [] and not (tmp_path / "journals").exists()
    sent = where.plan(replace(CONFIG, dataset=str(pets), num_training_samples=None))
    assert sent.request["InputDataConfig"] == plan.request["InputDataConfig"]  # what is shown is what is sent


def test_weights_and_networks_to_start_from_go_along(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    weights, source = tmp_path / "mine.params", tmp_path / "journals" / ("0123456789abcdef" * 2)
    weights.write_bytes(b"weights")
    (source / "files" / "model").mkdir(parents=True)
    (source / "journal-000001.jsonl").write_text("")
    (source / "files" / "config.toml").write_text('num_layers = 20\nimage_shape = "3,28,28"\n')
    for name in ("model.json", "model-0000.params", "model-symbol.json"):
        (source / "files" / "model" / name).write_text(name)
    where = launcher(fake, tmp_path / "journals", ledger.OWN, train=None, validation=None)
    config = Config(num_layers=20, image_shape="3,28,28", dataset=str(pets))
    planned = {}
    for init in (str(weights), f"run:{source.name}"):
        plan = where.plan(replace(config, init=init, use_pretrained_model=None))
        (uri,) = (
            channel["DataSource"]["S3DataSource"]["S3Uri"]
            for channel in plan.request["InputDataConfig"]
            if channel["ChannelName"] == "init"
        )
        planned[init] = keys(fake, uri.removeprefix("s3://bucket-one/"))
        assert plan.request["HyperParameters"]["init"] == init
    assert content(fake, planned[str(weights)][0]) == b"weights" and planned[str(weights)][0].endswith("/mine.params")
    with tarfile.open(fileobj=BytesIO(content(fake, planned[f"run:{source.name}"][0]))) as archive:
        assert sorted(archive.getnames()) == ["config.toml", "model/model-0000.params", "model/model.json"]
    with pytest.raises(BadInput, match="--num-layers 32: the network of --init run:0123.* has 20"):
        where.plan(replace(config, num_layers=32, init=f"run:{source.name}", use_pretrained_model=None))
    with pytest.raises(BadInput, match="no run 'fedcba98'"):
        where.plan(replace(config, init="run:fedcba98", use_pretrained_model=None))


def test_own_data_and_code_go_up_once(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    config = replace(CONFIG, dataset=str(pets), num_training_samples=None)
    news: list[str] = []
    for _ in range(2):
        where = launcher(fake, tmp_path / "journals", ledger.OWN, train=None, validation=None)
        where.on_news = news.append
        where.plan(config)
    assert len(news) == 2 and len(keys(fake)) == 2  # data and code, each once
    (data,) = (key for key in keys(fake) if key.endswith("data.tar"))
    with tarfile.open(fileobj=BytesIO(content(fake, data))) as archive:
        assert sorted(archive.getnames()) == sorted(f"{path.parent.name}/{path.name}" for path in pets.rglob("*.png"))
        member = archive.extractfile("cat/1.png")
        assert member is not None and member.read() == (pets / "cat" / "1.png").read_bytes()
    (pets / "cat" / "1.png").write_bytes((pets / "cat" / "3.png").read_bytes())
    where.plan(config)
    assert len(keys(fake)) == 3  # other data, another key


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file"), "changed while it was sent"),
        (MemoryError("out of memory"), "out of memory"),
    ],
)
def test_an_archive_that_could_not_be_written_to_its_end_is_not_kept(
    fake: FakeSageMaker, tmp_path: Path, pets: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    real, added = upload._add, list[str]()

    def fail(archive: tarfile.TarFile, path: Path, name: str) -> None:
        added.append(name)
        if len(added) == 3:
            raise error
        real(archive, path, name)

    monkeypatch.setattr(upload, "_add", fail)
    where = launcher(fake, tmp_path / "journals", ledger.OWN, train=None, validation=None)
    with pytest.raises((BadInput, MemoryError), match=said):
        where.plan(replace(CONFIG, dataset=str(pets), num_training_samples=None))
    assert not [key for key in keys(fake) if key.endswith("data.tar")]


def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir
    (tmp_path / "pets" / "dog").mkdir(parents=True)

    def scandir(path: Any) -> Any:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(BadInput, match="dog: cannot be read .Permission denied"):
        list(upload._files(tmp_path / "pets"))


def test_the_code_archive_is_the_packages_and_always_the_same() -> None:
    first = code_archive()
    assert first == code_archive()
    with tarfile.open(fileobj=BytesIO(first)) as archive:
        inside = archive.getnames()
    assert {
        "trainers/sagemaker/container/__main__.py",
        "tracking/journal/writer.py",
        "trainers/config/presets.toml",
        "reports/charts/figures.py",  # a run's figures are drawn in the container
    } <= set(inside)
    assert not any("__pycache__" in name or name.startswith("tests") for name in inside)


def test_the_built_in_gets_records_with_the_same_pictures(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    from trainers.data import open_dataset

    where = launcher(fake, tmp_path / "journals", train=None, validation=None)
    config = Config(num_layers=20, image_shape="3,28,28", epochs=1, dataset=str(pets), mini_batch_size=4)
    plan = where.plan(config)
    where.plan(config)
    assert sorted(key.rpartition("/")[2] for key in keys(fake)) == ["classes.json", "train.rec", "validation.rec"]
    assert [channel["ChannelName"] for channel in plan.request["InputDataConfig"]] == ["train", "validation"]
    assert {channel["ContentType"] for channel in plan.request["InputDataConfig"]} == {"application/x-recordio"}
    local = open_dataset(pets)
    assert plan.request["HyperParameters"]["num_training_samples"] == str(len(local.train))
    assert plan.request["HyperParameters"]["num_classes"] == "2"
    for key in keys(fake):
        target = tmp_path / "packed" / key.rpartition("/")[2]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content(fake, key))
    packed = open_dataset(tmp_path / "packed")
    assert packed.class_names == local.class_names
    assert (packed.train.digest, packed.validation.digest) == (local.train.digest, local.validation.digest)
    entry, journal = where.record(plan)
    journal.close()
    datasets = {e["context"]: e["digest"] for e, _ in read(entry.directory) if e["event"] == "dataset"}
    assert local.test is not None
    assert datasets == {
        "train": local.train.digest,
        "validation": local.validation.digest,
        "test": local.test.digest,
    }


@pytest.mark.parametrize(
    ("side", "given", "chosen"),
    [
        (20, {}, (44, "3,28,28", None)),
        (28, {}, (44, "3,28,28", None)),
        (32, {}, (44, "3,28,28", None)),  # the whole of a crop's room
        (32, {"num_layers": 20}, (20, "3,28,28", None)),
        (48, {}, (44, "3,28,28", 32)),
        (64, {"resize": 72}, (44, "3,28,28", 72)),
        (32, {"image_shape": "3,32,32"}, (34, "3,32,32", None)),
        (32, {"num_layers": 18}, (18, "3,32,32", None)),
    ],
)
def test_what_is_left_open_for_small_pictures_is_what_the_built_in_can_build(
    fake: FakeSageMaker, tmp_path: Path, side: int, given: dict[str, Any], chosen: tuple[int, str, int | None]
) -> None:
    cv2, random = pytest.importorskip("cv2"), np.random.default_rng(side)
    for name in ("cats", "dogs"):
        (tmp_path / "small" / name).mkdir(parents=True)
        for number in range(10):
            picture = random.integers(0, 255, (side, side, 3), np.uint8)
            assert cv2.imwrite(str(tmp_path / "small" / name / f"{number}.png"), picture)
    where = launcher(fake, tmp_path / "journals", train=None, validation=None)
    config = where.plan(Config(dataset=str(tmp_path / "small"), mini_batch_size=4, **given), dry=True).config
    assert (config.num_layers, config.image_shape, config.resize) == chosen
    assert [fault.code for fault in limits.faults(config)] == []


def test_bundled_pictures_are_scaled_up_to_the_network(fake: FakeSageMaker, tmp_path: Path) -> None:
    from trainers.data import open_dataset

    where = launcher(fake, tmp_path / "journals", train=None, validation=None)
    where.plan(Config(num_layers=20, epochs=1, dataset="digits"))
    for name in ("train", "validation"):
        (key,) = (key for key in keys(fake) if key.endswith(f"{name}.rec"))
        (tmp_path / f"{name}.rec").write_bytes(content(fake, key))
    packed = open_dataset(tmp_path)
    assert (packed.facts.height, packed.facts.width, packed.facts.channels) == (28, 28, 1)
    assert packed.facts.num_training_samples == 1259


def test_data_partly_here_and_partly_there_is_refused(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    where = launcher(fake, tmp_path / "journals", validation=str(pets))
    with pytest.raises(BadInput, match="the others must be in S3 too"):
        where.plan(CONFIG)
    where = launcher(fake, tmp_path / "journals", train=str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="no such file or folder"):
        where.plan(CONFIG)


def test_an_upload_to_nowhere_says_so(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    where = launcher(fake, tmp_path / "journals", ledger.OWN, train=None, validation=None, output="s3://no-such-bucket")
    with pytest.raises(NotFound, match="does not exist"):
        where.plan(replace(CONFIG, dataset=str(pets), num_training_samples=None))


def test_a_job_speaks_like_every_job(fake: FakeSageMaker, tmp_path: Path) -> None:
    job = submitted(launcher(fake, tmp_path / "journals"))
    assert job.id in {name for _, name in fake.jobs} and job.state() == "waiting"
    assert job.wait(timeout_s=200) == "running"
    assert job.wait() == "finished"
    fake.clock.sleep(60)
    assert sum("Validation-accuracy" in line for line in job.logs()) == 3
    job.cancel()  # too late, and no error
    other = submitted(launcher(fake, tmp_path / "journals"))
    other.cancel()
    assert other.wait() == "killed"


def test_it_is_written_down_before_it_is_sent(fake: FakeSageMaker, tmp_path: Path) -> None:
    where = launcher(fake, tmp_path / "journals")
    entry, journal = where.record(where.plan(CONFIG))
    journal.close()
    assert not fake.jobs
    loaded = ledger.load(entry.directory)
    assert loaded == entry and loaded.submitted_ms is None
    (outcome,) = watch_many([loaded], aws=where.aws)  # another process goes on with it
    assert outcome is not None and outcome.state == "finished" and len(fake.jobs) == 1
    assert tags(entry.directory)[names.LAUNCHER] == "sagemaker-builtin"


def test_sent_twice_is_one_job(fake: FakeSageMaker, tmp_path: Path) -> None:
    entry = launched(fake, tmp_path / "journals")
    # The launcher died after the call and before it could write the answer down.
    forgotten = replace(entry, submitted_ms=None, arn="").save()
    aws = Aws(region="us-east-1", clock=fake.clock)
    again = submit.send(aws, forgotten)
    assert len(fake.jobs) == 1 and again.arn == entry.arn and again.name == entry.name
    fake.fail_next("ListTags", 10, "denied")  # without leave to read tags it is known by what was asked for
    assert submit.send(aws, replace(forgotten, submitted_ms=None)).name == entry.name
    assert len(fake.jobs) == 1


def test_a_lost_answer_makes_no_second_job(fake: FakeSageMaker, tmp_path: Path) -> None:
    where = launcher(fake, tmp_path / "journals")
    entry, journal = where.record(where.plan(CONFIG))
    journal.close()
    fake.fail_next("CreateTrainingJob", 1, "drop")
    fake.fail_next("CreateTrainingJob", 2, "lost")
    assert submit.send(where.aws, entry).submitted_ms is not None and len(fake.jobs) == 1


def test_without_leave_to_read_tags_a_job_is_known_by_what_was_asked_for(fake: FakeSageMaker, tmp_path: Path) -> None:
    """AWS's description of a job also holds what was not asked for: its defaults."""
    entry = launched(fake, tmp_path / "journals")
    for channel in fake.job(entry.name).request["InputDataConfig"]:
        channel |= {"CompressionType": "None", "RecordWrapperType": "None", "InputMode": "File"}
    fake.fail_next("ListTags", 10, "denied")
    aws = Aws(region="us-east-1", clock=fake.clock)
    assert submit.send(aws, replace(entry, submitted_ms=None).save()).name == entry.name and len(fake.jobs) == 1
    fake.forgive()
    fake.fail_next("ListTags", 1, "expired")  # no answer is not another's job
    with pytest.raises(NotAllowed, match="renew"):
        submit.send(aws, replace(entry, submitted_ms=None).save())
    assert len(fake.jobs) == 1


@pytest.mark.parametrize("faults", [("lost", "drop"), ("drop",), ("expired",)])
@pytest.mark.parametrize("kind", [ledger.BUILTIN, ledger.OWN])
def test_a_launch_that_is_repeated_is_one_job(
    fake: FakeSageMaker, tmp_path: Path, kind: str, faults: tuple[str, ...]
) -> None:
    """Whether AWS heard of the first or not."""
    root = tmp_path / "journals"
    fake.plan("*", Plan(never_starts=True))
    where = launcher(fake, root, kind, image="123456789012.dkr.ecr.x.amazonaws.com/x:1")
    for how in faults:
        fake.fail_next("CreateTrainingJob", 1 if how == "lost" else 100, how)
    with pytest.raises((Unreachable, NotAllowed)):
        submitted(where)
    fake.forgive()
    fake.clock.sleep(3600)
    (left,) = ledger.entries(root)
    job = submitted(launcher(fake, root, kind, image="123456789012.dkr.ecr.x.amazonaws.com/x:1"))
    assert job.entry.journal_id == left.journal_id and job.entry.submitted_ms is not None
    assert len(fake.jobs) == 1 and list(ledger.entries(root)) == [job.entry]
    submitted(where)  # nothing was left: this is one more
    assert len(fake.jobs) == 2 and not list(ledger.unsent(root))


def test_a_launch_of_something_else_leaves_the_other_alone(fake: FakeSageMaker, tmp_path: Path) -> None:
    where = launcher(fake, tmp_path / "journals")
    fake.fail_next("CreateTrainingJob", 1, "expired")
    with pytest.raises(NotAllowed):
        submitted(where)
    (left,) = ledger.entries(tmp_path / "journals")
    held = Journal.reopen(left.directory)  # its launcher lives, and this one is asked for beside it
    assert submitted(where).entry.journal_id != left.journal_id
    held.close()
    assert submitted(where, replace(CONFIG, epochs=4)).entry.journal_id != left.journal_id
    assert submitted(launcher(fake, tmp_path / "journals", max_runtime_s=600)).entry.journal_id != left.journal_id
    (left.directory.parent / "torn").mkdir()
    (left.directory.parent / "torn" / "journal-000001.jsonl").write_text("{}\n")
    (left.directory.parent / "torn" / ledger.FILE).write_text("{")  # nothing of the others' matters
    assert submitted(where).entry.journal_id == left.journal_id


def test_a_job_that_aws_refuses_is_over(fake: FakeSageMaker, tmp_path: Path) -> None:
    """No watcher launches it later, when another launch has taken its place."""
    where = launcher(fake, tmp_path / "journals")
    fake.fail_next("CreateTrainingJob", 1, "denied")
    with pytest.raises(NotAllowed, match="not authorized"):
        submitted(where)
    submitted(where)
    watch_many(list(ledger.entries(tmp_path / "journals")), aws=where.aws)
    assert sorted(entry.ended for entry in ledger.entries(tmp_path / "journals")) == ["failed", "finished"]
    assert len(fake.jobs) == 1


def test_new_keys_in_a_file_are_seen(fake: FakeSageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the very next call, whichever service refused the old ones; what was refused leaves nothing behind."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    fake.plan("*", Plan(never_starts=True))
    uses: list[Callable[[SageMakerLauncher], Any]] = [
        lambda where: where.plan(CONFIG),  # it uploads the code
        lambda where: where.aws.s3("ListObjectsV2", Bucket="bucket-one"),
        lambda where: where.aws.read_object("bucket-one", "data/train/train.rec"),
        lambda where: where.aws.call("sagemaker", "ListTrainingJobs"),
    ]
    for number, use in enumerate(uses):
        file.write_text(f"[default]\naws_access_key_id = key{number}\naws_secret_access_key = s\n")
        where = launcher(fake, tmp_path / "journals", ledger.OWN, image="123456789012.dkr.ecr.x.amazonaws.com/x:1")
        for service in ("sagemaker", "s3"):
            where.aws.client(service)
        fake.expired_keys.add(f"key{number}")
        with pytest.raises(NotAllowed, match="renew") as caught:
            use(where)
        assert caught.value.has_expired and not (tmp_path / "journals").exists()
        file.write_text(f"[default]\naws_access_key_id = new{number}\naws_secret_access_key = s\n")
        use(where)


def test_a_name_that_somebody_else_has_is_counted_on(fake: FakeSageMaker, tmp_path: Path) -> None:
    theirs = launched(fake, tmp_path / "theirs")
    where = launcher(fake, tmp_path / "journals", ledger.OWN, image="123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1")
    entry, journal = where.record(where.plan(replace(CONFIG, run_name="dogs")))
    journal.close()
    checkpoints = {"S3Uri": f"s3://bucket-one/jobs/{theirs.name}/checkpoints/"}
    request = {**entry.request, "TrainingJobName": theirs.name, "CheckpointConfig": checkpoints}
    fake.plan("*", Plan(never_starts=True))
    sent = submit.send(where.aws, entry.changed(name=theirs.name, request=request))
    assert sent.name == theirs.name[:-3] + "001" and len(fake.jobs) == 2
    assert sent.request["CheckpointConfig"]["S3Uri"] == f"s3://bucket-one/jobs/{sent.name}/checkpoints/"


def test_quota_is_waited_for(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.quotas["ml.g4dn.xlarge"] = 1
    where, news = launcher(fake, tmp_path / "journals"), list[str]()
    where.on_news = news.append
    first = submitted(where)
    second = submitted(where)
    assert first.state() == "finished" and second.state() == "waiting"
    assert "ml.g4dn.xlarge for training job usage is used up (1 of 1)" in news[0]


def test_a_quota_of_nothing_is_not_waited_for(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.quotas["ml.g4dn.xlarge"] = 0
    where = launcher(fake, tmp_path / "journals")
    with pytest.raises(QuotaReached) as caught:
        submitted(where)
    assert (caught.value.limit, caught.value.used, caught.value.wanted) == (0, 0, 1)
    (outcome,) = watch_many(list(ledger.entries(tmp_path / "journals")), aws=where.aws)
    assert outcome is not None and (outcome.state, outcome.kind, outcome.cost_usd) == ("failed", "quota", 0.0)
    assert "Service Quotas" in outcome.advice


def test_eight_jobs_at_once(fake: FakeSageMaker, tmp_path: Path) -> None:
    """Three fit in the quota; the others follow. Every run is whole, and AWS was never asked too fast."""
    fake.quotas["ml.g4dn.xlarge"] = 3
    where = launcher(fake, tmp_path / "journals")
    entries, journals = [], {}
    for seed in range(8):
        entry, journal = where.record(where.plan(replace(CONFIG, seed=seed, run_name=f"cats-{seed}")))
        entries.append(entry)
        journals[entry.journal_id] = journal
    most = 0

    def look(fleet: Any) -> None:
        nonlocal most
        most = max(most, sum(job.status == "InProgress" for job in fake.jobs.values()))

    shutil.copy(made_database(), tmp_path / "mlflow.db")
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", tmp_path / "journals")
    outcomes = watch_many(entries, aws=where.aws, journals=journals, store=store, on_round=look)
    assert [outcome.state for outcome in outcomes if outcome is not None] == ["finished"] * 8 and most == 3
    runs = {run.data.tags["mlflow.runName"]: run for run in store.runs()}
    assert sorted(runs) == [f"cats-{seed}" for seed in range(8)]
    for entry in (ledger.load(entry.directory) for entry in entries):
        assert entry is not None and entry.run_name is not None
        truth = fake.job(entry.name).truth
        assert metrics(entry.directory, names.VALIDATION_ACCURACY) == [(e, v) for e, _, v in truth]
        run = runs[entry.run_name]
        assert run.info.status == "FINISHED" and run.data.metrics[names.VALIDATION_ACCURACY] == truth[-1][2]
        assert run.data.metrics[names.COST_USD] == pytest.approx(266 / 3600 * 0.7364)
    for operation, rate in (("DescribeTrainingJob", 10), ("Logs.GetLogEvents", 10), ("CreateTrainingJob", 3)):
        assert 0 < fake.fastest_second(operation) <= rate
        assert fake.count(operation, "ThrottlingException") == 0


def test_a_study_stays_within_its_money(fake: FakeSageMaker, tmp_path: Path) -> None:
    where = launcher(fake, tmp_path / "journals")
    entries, journals = [], {}
    fake.quotas["ml.g4dn.xlarge"] = 2
    for seed in range(4):
        entry, journal = where.record(where.plan(replace(CONFIG, seed=seed, epochs=300, run_name=f"cats-{seed}")))
        entries.append(entry)
        journals[entry.journal_id] = journal
    outcomes = watch_many(entries, aws=where.aws, journals=journals, max_cost_usd=0.50, poll_s=60)
    ended = [outcome for outcome in outcomes if outcome is not None]
    assert [outcome.state for outcome in ended] == ["killed"] * 4
    spent = sum(outcome.cost_usd or 0 for outcome in ended)
    assert 0.25 < spent <= 0.50 and len(fake.jobs) == 2  # the other two were never launched
    assert statuses(entries[3].directory)[0][0] == "KILLED"


def test_a_ceiling_holds_for_whoever_watches(fake: FakeSageMaker, tmp_path: Path) -> None:
    """Written down at the launch; what is watched elsewhere, or by nobody, counts as well."""
    root = tmp_path / "journals"
    where, entries = launcher(fake, root, max_cost_usd=0.50), []
    for seed in range(3):
        entry, journal = where.record(where.plan(replace(CONFIG, seed=seed, epochs=300, run_name=f"cats-{seed}")))
        journal.close()
        entries.append(submit.send(where.aws, entry))
    # The launcher died; its jobs are picked up, but for one.
    outcomes = watch_many([entry for entry in ledger.entries(root)][:2], aws=where.aws, poll_s=60)
    spent = [outcome.cost_usd for outcome in outcomes if outcome is not None and outcome.state == "killed"]
    assert len(spent) == 2 and fake.job(entries[2].name).status == "InProgress"
    third = (fake.now() - fake.job(entries[2].name).created) / 3600 * 0.7364
    assert 0.25 < sum(usd or 0 for usd in spent) + third <= 0.55


def test_a_job_of_another_machine_is_adopted(fake: FakeSageMaker, tmp_path: Path) -> None:
    there = launched(fake, tmp_path / "there")
    aws = Aws(region="us-east-1", clock=fake.clock)
    here = adopt(aws, there.name, tmp_path / "here", profile=None, experiment="elsewhere")
    # On a shared server both are one run: the journal's id is the same, and so are experiment and name.
    assert (here.journal_id, here.kind, here.experiment, here.run_name) == (
        there.journal_id,
        ledger.BUILTIN,
        "pets",
        "cats",
    )
    (outcome,) = watch_many([here], aws=aws)
    assert outcome is not None and outcome.state == "finished" and outcome.cost_usd is not None
    assert metrics(here.directory, names.VALIDATION_ACCURACY) == [(e, v) for e, _, v in fake.job(there.name).truth]
    params = {k: v for e, _ in read(here.directory) if e["event"] == "param" for k, v in e["values"].items()}
    assert params["num_layers"] == "18" and params["dataset"] == "s3://bucket-one/data/train/"
    with pytest.raises(BadInput, match="neither launched from here nor a training job"):
        adopt(aws, "no-such-job", tmp_path / "here", profile=None, experiment="x")


def test_the_ledger_finds_jobs_by_the_beginning_of_their_name(fake: FakeSageMaker, tmp_path: Path) -> None:
    where = launcher(fake, tmp_path / "journals")
    made = []
    for name in ("cats", "cattle"):
        entry, journal = where.record(where.plan(replace(CONFIG, run_name=name)))
        journal.close()
        made.append(entry)
    root = tmp_path / "journals"
    assert ledger.find(root, made[0].name) == made[0] and ledger.find(root, "catt") == made[1]
    assert ledger.find(root, made[1].journal_id[:10]) == made[1] and ledger.find(root, "dog") is None
    with pytest.raises(BadInput, match="could be 2 jobs"):
        ledger.find(root, "cat")
    assert [entry.run_name for entry in ledger.entries(root)] == ["cats", "cattle"]


def test_waiting_has_an_end(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.plan("*", Plan(never_starts=True))
    entry = launched(fake, tmp_path / "journals")
    job = SageMakerJob(Aws(region="us-east-1", clock=fake.clock), entry)
    before = fake.clock.now()
    assert job.wait(timeout_s=100) == "waiting" and 100 <= fake.clock.now() - before < 110
