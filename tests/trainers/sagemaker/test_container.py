"""The container's side of the contract: unit by unit, and as a real process on the fake's machines."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.aws.fake import FakeSageMaker, Plan, ScaledClock
from tests.support.aws.launches import ROLE, account, launcher, metrics, statuses, tags
from tests.support.stores import made_database, make_store
from tracking import names
from tracking.errors import RunNotFound
from tracking.journal.events import read
from tracking.store import Store
from trainers.config import Config
from trainers.errors import BadData
from trainers.sagemaker.container import __main__ as container
from trainers.sagemaker.container import data as container_data
from trainers.sagemaker.job import ledger
from trainers.sagemaker.job.launcher import SageMakerJob
from trainers.sagemaker.job.request import hyperparameters
from trainers.sagemaker.job.submit import send, stop
from trainers.sagemaker.watch.many_jobs import watch_many

pytestmark = pytest.mark.mxnet
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/image-classification-tracking:latest"
QUICK = Plan(starting_s=10, downloading_s=5, image_s=5, uploading_s=5, log_lag_s=1)
SPEED = 40.0  # of the fake's clock; the containers are real and take their time


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    with account(tmp_path / "fake", monkeypatch, ScaledClock(SPEED), default=QUICK, grace_s=60) as fake:
        yield fake


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """90 pictures of 28x28 px, two classes that differ in brightness."""
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    for number in range(90):
        folder = tmp_path / "pets" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        low, high = (0, 140) if number % 2 else (110, 255)
        cv2.imwrite(str(folder / f"{number}.png"), random.integers(low, high, (28, 28, 3), dtype=np.uint8))
    return tmp_path / "pets"


def config(pets: Path, **changes: Any) -> Config:
    """Small enough for a few seconds."""
    settings = {"num_layers": 20, "epochs": 3, "mini_batch_size": 16, "learning_rate": 0.05, "run_name": "pets"}
    return Config(**{**settings, "dataset": str(pets), "image_shape": "3,28,28", **changes})


def launched(fake: FakeSageMaker, root: Path, *configs: Config, **options: Any) -> list[ledger.Entry]:
    """Own-image jobs, written down and not yet sent."""
    where = launcher(fake, root, ledger.OWN, train=None, validation=None, image=IMAGE, **options)
    entries = []
    for one in configs:
        entry, journal = where.record(where.plan(one))
        journal.close()
        entries.append(entry)
    return entries


def watched(fake: FakeSageMaker, entries: list[ledger.Entry], **how: Any) -> list[Any]:
    from trainers.sagemaker.aws.client import Aws

    return watch_many(entries, aws=Aws(region="us-east-1", clock=fake.clock), poll_s=12, **how)


def model(fake: FakeSageMaker, uri: str) -> dict[str, bytes]:
    """The members of a model.tar.gz."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content = fake.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: stream.read() for name, stream in members.items() if stream is not None}


def weights(members: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """Every array of the model's weights, as bytes."""
    from trainers.networks.backend import load

    mx = load()
    folder.mkdir()
    (folder / "weights.params").write_bytes(members["model-0000.params"])
    return {name: array.asnumpy().tobytes() for name, array in mx.nd.load(str(folder / "weights.params")).items()}


def printed(fake: FakeSageMaker, entry: ledger.Entry) -> str:
    return (entry.directory / "files" / "log.txt").read_text()


@pytest.mark.slow
def test_a_job_in_our_image_is_a_run_like_any_other(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    """And one that loses its machine in the middle ends with the very same weights."""
    entries = launched(fake, tmp_path / "journals", config(pets)) + launched(
        fake, tmp_path / "journals", config(pets, run_name="pets-spot"), spot=True
    )
    fake.plan("pets-spot*", replace(QUICK, interrupted_on=r"^\s+1/3", spot_wait_s=5))
    shutil.copy(made_database(), tmp_path / "mlflow.db")
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", tmp_path / "journals")
    plain, spot = watched(fake, entries, store=store)
    entry, taken = entries
    assert plain.state == "finished", printed(fake, entry)
    assert spot.state == "finished", printed(fake, taken)

    # What the launcher knew, what the container found out, what AWS says: one run.
    params: dict[str, str] = {}
    for event, _ in read(entry.directory):
        params |= event["values"] if event["event"] == "param" else {}
    assert (
        params["dataset"] == str(pets) and params["num_classes"] == "2" and params["num_training_samples"] == "62"
    )  # 45 a class, less 9 for test and 5 for validation
    assert [step for step, _ in metrics(entry.directory, names.VALIDATION_ACCURACY)][:3] == [1, 2, 3]
    assert len(metrics(entry.directory, names.TEST_ACCURACY)) == 1
    assert metrics(entry.directory, names.COST_USD)[0][1] > 0 and metrics(entry.directory, "training_s")[0][1] > 0
    assert statuses(entry.directory) == [("FINISHED", "")]
    found = tags(entry.directory)
    assert found[names.LAUNCHER] == "sagemaker" and len(found[names.TEST_DATASET_DIGEST]) == 32
    assert found[names.FINGERPRINT] == tags(taken.directory)[names.FINGERPRINT]
    datasets = [event for event, _ in read(entry.directory) if event["event"] == "dataset"]
    assert {event["source"] for event in datasets} == {str(pets)}
    for name in ("config.toml", "predictions/test.parquet", "model/model.json", "figures/learning_curves.svg"):
        assert (entry.directory / "files" / name).is_file(), name
    (run,) = [run for run in store.runs() if run.data.tags["mlflow.runName"] == "pets"]
    assert run.info.status == "FINISHED" and names.TEST_ACCURACY in run.data.metrics
    assert "replay_problems" not in run.data.tags
    paths = {item.path for item in store.client().list_artifacts(run.info.run_id)}
    assert {"predictions", "figures", "config.toml", "log.txt"} <= paths
    assert len(run.outputs.model_outputs) == 1  # the model is a LoggedModel, kept where MLflow keeps models

    # The interruption: two attempts, one run, the same weights to the last bit, nothing logged twice.
    assert fake.job(taken.name).attempt == 2 and "going on with run" in printed(fake, taken)
    a = weights(model(fake, plain.model_uri), tmp_path / "a")
    assert a == weights(model(fake, spot.model_uri), tmp_path / "b") and len(a) > 20
    for name in (names.TRAIN_LOSS, names.VALIDATION_ACCURACY, names.TEST_ACCURACY):
        assert metrics(entry.directory, name) == metrics(taken.directory, name)
    assert statuses(taken.directory) == [("FINISHED", "")]


@pytest.mark.slow
def test_a_study_s_later_run_starts_from_the_earlier_one_s_network(
    fake: FakeSageMaker, tmp_path: Path, pets: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One after the other, and the network goes through S3; the command line, end to end."""
    from trainers import run

    monkeypatch.chdir(tmp_path)
    store = make_store(tmp_path)
    Path("two.toml").write_text("[[runs]]\nname = 'first'\n[[runs]]\nname = 'second'\ninit = 'run:first'\n")
    argv = [
        "--on=sagemaker",
        f"--role={ROLE}",
        "--output=s3://bucket-one/jobs",
        "--region=us-east-1",
        f"--image={IMAGE}",
    ]
    argv += ["--study=two.toml", f"--dataset={pets}", "--num-layers=20", "--epochs=1", "--mini-batch-size=16", "--yes"]
    assert run.main([*argv, "--poll=0.3"]) == 0, capfd.readouterr().out
    said = capfd.readouterr().out
    assert said.count("finished, billed") == 2 and "# Leaderboard" in said
    runs = {one.data.tags["mlflow.runName"]: one for one in store.runs()}
    assert runs["second"].data.tags[names.INIT_LABEL].startswith("labels on pets (run ")
    assert runs["first"].data.tags[names.INIT_LABEL] == "scratch"
    assert runs["second"].data.params["init"].startswith("run:")


@pytest.mark.slow
def test_stopped_and_failed_jobs_keep_what_they_have(fake: FakeSageMaker, tmp_path: Path, pets: Path) -> None:
    """A stop leaves the best network so far; pictures that cannot be read are the user's matter, and it says so."""
    broken = tmp_path / "broken"
    shutil.copytree(pets, broken)
    (broken / "cat" / "1.png").write_bytes(b"no picture at all")
    root = tmp_path / "journals"
    entries = launched(fake, root, config(pets, epochs=200), config(broken, run_name="broken"))

    def stop_after_two_epochs(fleet: Any) -> None:
        job = fleet.jobs[0]
        if job.watch.progress.get("epoch", 0) >= 2 and not job.cancelled:
            job.cancelled = True
            stop(job.watch.aws, job.entry)

    stopped, failed = watched(fake, entries, on_round=stop_after_two_epochs)
    assert (stopped.state, stopped.kind) == ("killed", "stopped"), printed(fake, entries[0])
    members = model(fake, stopped.model_uri)
    assert "model.json" in members, printed(fake, entries[0])
    facts = json.loads(members["model.json"])  # all that a run which was not stopped says of its model
    assert facts["class_names"] == ["cat", "dog"] and facts["epoch"] >= 1
    assert facts["native_size"] and facts["normalisation"]["where"] == "inside the graph"
    assert len(metrics(entries[0].directory, names.VALIDATION_ACCURACY)) >= 2
    assert [status for status, _ in statuses(entries[0].directory)] == ["KILLED"]

    assert (failed.state, failed.kind) == ("failed", "data")
    assert failed.reason.startswith("AlgorithmError: BadData: ") and failed.reason.endswith(", exit code: 2")
    assert "1.png" in failed.reason and failed.model_uri == ""


@pytest.mark.slow
def test_with_a_server_in_reach_the_job_logs_live_to_the_launcher_s_run(
    fake: FakeSageMaker, tmp_path: Path, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.postgres import mlflow_server

    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # one interpreter less to wait for
    shutil.copy(made_database(), tmp_path / "mlflow.db")
    with mlflow_server(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts") as uri:
        where = launcher(fake, tmp_path / "journals", ledger.OWN, train=None, validation=None, image=IMAGE)
        where.environment = {"MLFLOW_TRACKING_URI": uri}
        entry, journal = where.record(where.plan(config(pets, epochs=2)))
        journal.close()
        client = Store(uri, None, tmp_path / "journals").client()
        run_id = entry.request["Environment"]["MLFLOW_RUN_ID"]
        assert client.get_run(run_id).info.status == "RUNNING"
        # Nobody watches: what MLflow learns of the epochs comes from the container alone.
        job = SageMakerJob(where.aws, send(where.aws, entry))
        assert job.wait(poll_s=12) == "finished", list(job.logs())
        history = client.get_metric_history(run_id, names.VALIDATION_ACCURACY)
        assert [metric.step for metric in history][:2] == [1, 2]
        assert client.get_run(run_id).info.status == "RUNNING"  # its end is the watcher's to say
        (outcome,) = watched(fake, [entry], store=Store(uri, None, tmp_path / "journals"))
        run = client.get_run(run_id)
        assert outcome.state == "finished" and run.info.status == "FINISHED"
        assert "replay_problems" not in run.data.tags and run.data.params["dataset"] == str(pets)
        again = client.get_metric_history(run_id, names.VALIDATION_ACCURACY)
        assert [(m.step, m.value, m.timestamp) for m in again] == [(m.step, m.value, m.timestamp) for m in history]
        assert len(client.search_runs([run.info.experiment_id])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("short_of", ["disk", "network"])
def test_a_machine_without(fake: FakeSageMaker, tmp_path: Path, pets: Path, short_of: str) -> None:
    if subprocess.run(["unshare", "-rmn", "true"], capture_output=True).returncode:
        pytest.skip("needs unprivileged namespaces")
    if short_of == "disk":
        fake.plan("*", replace(QUICK, disk_mb=3))
        entries = launched(fake, tmp_path / "journals", config(pets, num_layers=110))
        (outcome,) = watched(fake, entries)
        assert (outcome.state, outcome.kind) == ("failed", "disk"), outcome
        assert "--volume-gb" in outcome.advice
        return
    fake.plan("*", replace(QUICK, no_network=True))
    # The data as three folders this time, a channel each.
    splits = {}
    for number, path in enumerate(sorted(pets.rglob("*.png"))):
        split = ("train", "train", "train", "validation", "test")[number % 5]
        splits[split] = str(tmp_path / "split" / split)
        target = Path(splits[split]) / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    where = launcher(fake, tmp_path / "journals", ledger.OWN, image=IMAGE, **splits)
    where.environment = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}  # nobody listens there
    news: list[str] = []
    where.on_news = news.append
    entry, journal = where.record(where.plan(config(pets, epochs=1)))
    journal.close()
    assert "The job will not log live to MLflow: nothing answers" in news[-1]
    # A server that was there at the launch and is not any more is no reason for a job to fail.
    variables = {**where.environment, "MLFLOW_RUN_ID": "0" * 32}
    entry = entry.changed(request={**entry.request, "Environment": variables})
    (outcome,) = watched(fake, [entry])
    assert outcome.state == "finished", printed(fake, entry)
    assert "not all was shown live: nothing answers" in printed(fake, entry)
    assert metrics(entry.directory, names.num_images("test")) == [(1, 18.0)]  # it came through S3
    params = {k: v for e, _ in read(entry.directory) if e["event"] == "param" for k, v in e["values"].items()}
    assert params["dataset"] == splits["train"] and params["num_training_samples"] == "54"


def test_a_network_is_made_and_fed_on_the_machine_s_device() -> None:
    """A GPU is taken by making it the default device; another one of the processor's shows that everything follows."""
    from trainers.networks import resnet, weights
    from trainers.networks.backend import load

    mx = load()
    with mx.cpu(1):
        net = resnet.build(20, 2, (3, 28, 28), "v1")
        weights.initialise(net, "scratch", seed=0)
        out = net(resnet.to_array(np.zeros((1, 3, 28, 28), np.float32)))
    assert out.context == mx.cpu(1)
    assert {parameter.list_ctx()[0] for parameter in net.collect_params().values()} == {mx.cpu(1)}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /opt/ml somewhere else."""
    folder = tmp_path / "ml"
    for name in ("input/config", "input/data", "model", "output/data", "checkpoints"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setenv(container.BASE_VARIABLE, str(folder))
    return folder


def test_hyperparameters_come_back_as_the_same_config(base: Path) -> None:
    from trainers.sagemaker.job.request import config_from

    given = Config(
        num_layers=44,
        epochs=7,
        lr_scheduler_step="2,4",
        early_stopping=True,
        tags={"a": "b c"},
        dataset="digits",
        seed=3,
    )
    text = hyperparameters(given)
    assert all(isinstance(value, str) for value in text.values())
    assert config_from(text) == given
    quoted = {key: json.dumps(value) for key, value in text.items()}  # as the SageMaker SDK sends them
    assert config_from({key: container.unquoted(value) for key, value in quoted.items()}) == given


def test_channels_become_the_data(base: Path) -> None:
    data = base / "input" / "data"
    (data / "data" / "cat").mkdir(parents=True)
    assert container_data.place_data(Config(dataset="/home/me/photos"), base).dataset == str(data / "data")
    assert container_data.place_data(Config(dataset="mnist:/home/me/mnist"), base).dataset == f"mnist:{data / 'data'}"
    (data / "data" / "all.lst").write_text("0\t0\tcat/1.png\n")
    listed = container_data.place_data(Config(dataset="/home/me/all.lst"), base)
    assert (listed.dataset, listed.image_root) == (str(data / "data" / "all.lst"), str(data / "data"))


def test_weights_that_came_with_the_job_are_found(base: Path, tmp_path: Path) -> None:
    channel = base / "input" / "data" / "init"
    assert container_data.place_init({"init": "scratch"}, base) == {"init": "scratch"}
    channel.mkdir()
    (channel / "mine.params").write_bytes(b"weights")
    placed = container_data.place_init({"init": "/home/me/mine.params", "epochs": "2"}, base)
    assert placed == {"init": str(channel / "mine.params"), "epochs": "2"}

    with tarfile.open(channel / "data.tar", "w") as archive:
        info = tarfile.TarInfo("config.toml")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"#\n"))
    assert container_data.place_init({"init": "run:abcd1234"}, base) == {"init": "run:abcd1234"}
    store = container.store_of(base, "run:abcd1234")
    assert (store.journal_dir("abcd1234") / "files" / "config.toml").read_bytes() == b"#\n"
    with pytest.raises(RunNotFound):
        store.journal_dir("another1")


def test_an_archived_channel_is_unpacked_and_split_channels_are_put_together(base: Path) -> None:
    data = base / "input" / "data"
    for split in ("train", "validation"):
        (data / split).mkdir()
        with tarfile.open(data / split / "data.tar", "w") as archive:
            info = tarfile.TarInfo(f"cat/{split}.png")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"png"))
    placed = Path(container_data.place_data(Config(dataset="digits"), base).dataset)
    assert (placed / "train" / "cat" / "train.png").read_bytes() == b"png"
    assert sorted(path.name for path in placed.iterdir()) == ["train", "validation"]


def test_without_channels_the_data_come_by_their_name(base: Path) -> None:
    assert container_data.place_data(Config(dataset="digits"), base).dataset == "digits"


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_an_archive_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(BadData, match="no plain file inside the archive"):
        container_data.extract(tmp_path / "bad.tar", tmp_path / "target")
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.addfile(link)
    with pytest.raises(BadData, match="no plain file inside the archive"):
        container_data.extract(tmp_path / "bad.tar", tmp_path / "target")


def process(base: Path, code: str = "", **variables: str) -> subprocess.Popen[str]:
    """The entry point as a process of its own; ``code`` runs before it."""
    start = (
        f"import sys, signal, threading\n{code}\n"
        "from trainers.sagemaker.container import __main__ as container\nsys.exit(container.main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start, "train"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SAGEMAKER_BASE_DIR": str(base), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_wrong_setting_is_in_the_failure_file(base: Path) -> None:
    (base / "input/config/hyperparameters.json").write_text(json.dumps({"num_layers": "45", "epochs": "x"}))
    done = process(base)
    out, _ = done.communicate(timeout=120)
    failure = (base / "output" / "failure").read_text()
    assert done.returncode == 2, out
    assert failure.startswith("BadConfig: ") and "--epochs" in failure and len(failure) <= 1024


def test_any_error_is_in_the_failure_file_and_cut_to_size(base: Path) -> None:
    (base / "input/config/hyperparameters.json").write_text("not JSON" + "x" * 2000)
    done = process(base)
    out, _ = done.communicate(timeout=120)
    assert done.returncode == 1 and "Traceback" in out
    assert (base / "output" / "failure").read_text().startswith("JSONDecodeError: ")


def test_another_word_than_train_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert container.main(["serve"]) == 2
    assert "train" in capsys.readouterr().err


def test_the_code_that_came_with_the_job_is_what_runs(base: Path) -> None:
    (base / "input" / "data" / "code").mkdir()
    with tarfile.open(base / "input" / "data" / "code" / "code.tar.gz", "w:gz") as archive:
        for name, text in (
            ("trainers/__init__.py", ""),
            ("trainers/sagemaker/__init__.py", ""),
            ("trainers/sagemaker/container/__main__.py", "import sys; print('newer code', *sys.argv[1:]); sys.exit(7)"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    done = process(base)
    out, _ = done.communicate(timeout=120)
    assert done.returncode == 7 and "newer code train" in out


@pytest.mark.parametrize("stubborn", [False, True])
def test_sigterm_ends_it_in_time(base: Path, stubborn: bool) -> None:
    """At once where Python gets to run; where a long call does not let it, before SageMaker loses patience."""
    code = "from trainers.sagemaker.container import __main__ as container\ncontainer.LAST_MOMENT_S = 0.5\n"
    if stubborn:  # a handler that never returns stands for a native call that does not
        code += "def train(base):\n  signal.signal(signal.SIGTERM, lambda *_: threading.Event().wait())\n"
    else:
        code += "def train(base):\n"
    code += "  print('under way', flush=True)\n  threading.Event().wait()\ncontainer.train = train\n"
    started = process(base, code)
    assert started.stdout is not None and "under way" in started.stdout.readline()
    began = time.monotonic()
    started.send_signal(signal.SIGTERM)
    out, _ = started.communicate(timeout=60)
    assert started.returncode == 143, out
    assert time.monotonic() - began < 20
    assert (base / "output" / "failure").exists() == stubborn


def test_the_dockerfile_starts_what_the_fake_starts() -> None:
    lines = (ROOT / "docs" / "Dockerfile").read_text().splitlines()
    (entry,) = (line for line in lines if line.startswith("ENTRYPOINT "))
    assert json.loads(entry.removeprefix("ENTRYPOINT ")) == ["python", "-m", "trainers.sagemaker.container"]
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied and all((ROOT / word).exists() for word in copied)


def test_the_run_is_shown_live_in_the_launcher_s_run(tmp_path: Path) -> None:
    """What the launcher said stands, the rest comes as it happens; the watcher's replay adds nothing to it."""
    from tracking.journal import Journal
    from tracking.store.replay import Replayer
    from trainers.sagemaker.container.live import Relay

    shutil.copy(made_database(), tmp_path / "mlflow.db")
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", tmp_path / "journals")
    ours = Journal.create(store.journals, experiment="pets", run_name="cats")
    ours.params({"dataset": "photos/", "epochs": 2})
    here = Replayer(ours.dir, store)
    run_id = here.advance().run_id

    theirs = Journal.create(tmp_path / "container", experiment="pets", run_name="cats")
    relay = Relay(
        tmp_path / "container", tmp_path / "relay", tracking_uri=store.tracking_uri, run_id=run_id, dataset="photos/"
    )
    relay.start()
    theirs.params({"dataset": "/opt/ml/work/photos", "epochs": 2, "num_classes": 3})
    for epoch in (1, 2):
        theirs.metrics({names.VALIDATION_ACCURACY: epoch / 4}, step=epoch)
    theirs.status("KILLED")  # an interruption is not the run's end
    assert relay.finish() is None
    run = store.client().get_run(run_id)
    assert run.data.params == {"dataset": "photos/", "epochs": "2", "num_classes": "3"}
    assert run.data.metrics[names.VALIDATION_ACCURACY] == 0.5 and run.info.status == "RUNNING"
    assert "replay_problems" not in run.data.tags

    for event, _ in read(theirs.dir):
        if event["event"] == "metric":
            ours.metrics(event["values"], step=event["step"], time_ms=event["time_ms"])
    here.advance()
    history = store.client().get_metric_history(run_id, names.VALIDATION_ACCURACY)
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.25), (2, 0.5)]
    ours.close()
    theirs.close()


def test_what_could_not_be_shown_live_is_said_and_keeps_nothing_else_out(tmp_path: Path) -> None:
    """Where nothing else brings the run into MLflow, its end would say that all is there."""
    from tracking.journal import Journal
    from tracking.store.replay import Replayer
    from trainers.sagemaker.container.live import Relay

    shutil.copy(made_database(), tmp_path / "mlflow.db")
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", tmp_path / "journals")
    ours = Journal.create(store.journals, experiment="pets", run_name="cats")
    run_id = Replayer(ours.dir, store).advance().run_id
    theirs = Journal.create(tmp_path / "container", experiment="pets", run_name="cats")
    for name in ("gone", "there"):
        (tmp_path / name).write_text(name)
    gone = theirs.artifact(tmp_path / "gone")
    theirs.artifact(tmp_path / "there")
    theirs.metrics({names.VALIDATION_ACCURACY: 0.5}, step=1)
    gone.unlink()
    relay = Relay(
        *(tmp_path / "container", tmp_path / "relay"),
        tracking_uri=store.tracking_uri,
        run_id=run_id,
        dataset="photos/",
        with_artifacts=True,
    )
    relay.start()
    assert "gone does not exist" in (relay.finish() or "")
    assert store.client().get_run(run_id).data.metrics[names.VALIDATION_ACCURACY] == 0.5
    assert [one.path for one in store.client().list_artifacts(run_id)] == ["there"]
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("resources", "machines", "rank"),
    [
        (None, ["localhost"], 0),
        ({"current_host": "algo-1", "hosts": ["algo-1"]}, ["algo-1"], 0),
        ({"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]}, ["algo-1", "algo-2"], 1),
        (
            {
                "current_host": "algo-10",
                "hosts": [f"algo-{n}" for n in (10, 9, 2, 1)],
                "network_interface_name": "eth0",
            },
            ["algo-1", "algo-2", "algo-9", "algo-10"],
            3,
        ),
        (  # a heterogeneous cluster
            {
                "current_host": "algo-1",
                "current_group_name": "gpu",
                "hosts": ["algo-1", "algo-2"],
                "instance_groups": [
                    {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-2"]},
                    {"instance_group_name": "gpu", "instance_type": "ml.g5.xlarge", "hosts": ["algo-1"]},
                ],
            },
            ["algo-1", "algo-2"],
            0,
        ),
    ],
)
def test_every_machine_finds_its_place(base: Path, resources: Any, machines: list[str], rank: int) -> None:
    if resources is not None:
        (base / "input/config/resourceconfig.json").write_text(json.dumps(resources))
    assert container.machines_of(base) == (machines, rank)
