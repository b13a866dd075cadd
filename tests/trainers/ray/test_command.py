"""``--on ray`` from the command line against a cluster at the wire, with one job really run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pictures import class_folders
from tests.support.ray import FakeRay, running
from tests.support.stores import make_store
from tracking import names
from tracking.journal import Journal
from tracking.journal.events import journals
from tracking.store import resolve
from trainers import jobs, run

STUDY = 'title = "s"\nseeds = [0, 1]\n[settings]\nnum_layers = 20\nepochs = 2\n[[runs]]\nname = "cats"\n'


@pytest.fixture
def fake(tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    make_store(workdir)
    with running(tmp_path / "cluster") as fake:
        monkeypatch.setenv("RAY_ADDRESS", fake.address)
        yield fake


def plays(fake: FakeRay, play: Callable[[str], object]) -> None:
    """Each job that comes is carried out by ``play``, one after the other."""

    def go_on() -> None:
        seen: set[str] = set()
        while fake.address:
            for name in [name for name in fake.jobs if name not in seen]:
                seen.add(name)
                play(name)
            stopped.wait(0.02)

    stopped = threading.Event()
    threading.Thread(target=go_on, daemon=True).start()


def trained(fake: FakeRay, name: str) -> None:
    """What a run of two epochs leaves under --output."""
    root = Path(fake.jobs[name]["runtime_env"]["env_vars"]["TRAINERS_OUTPUT"], "journals")
    journal = Journal.create(root, experiment="x", run_name="cats")
    for step in (1, 2):
        journal.metrics({names.VALIDATION_ACCURACY: step / 10}, step=step)
    journal.status("FINISHED")
    journal.close()
    fake.end(name)


@pytest.mark.mxnet
@pytest.mark.slow
def test_a_run_really_carried_out(fake: FakeRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(tmp_path / "pets", size=(28, 28))
    plays(fake, fake.run)
    words = ["--on", "ray", "--output", str(tmp_path / "out"), "--poll", "0.1", "--dataset", "pets", "--epochs", "1"]
    code = run.main(
        [*words, "--num-layers", "20", "--image-shape", "3,28,28", "--run-name", "cats", "--mini-batch-size", "4"]
    )
    (name,) = fake.jobs
    assert code == 0, fake.logs[name]
    (one,) = resolve().runs()
    assert one.info.status == "FINISHED" and one.info.run_name == "cats"
    assert one.data.metrics[names.TEST_ACCURACY] >= 0 and one.data.tags[names.LAUNCHER] == "ray"
    assert one.data.params["dataset"] == str(tmp_path / "pets")
    (entry,) = journals(resolve().journals)
    assert (entry / "files" / "model").is_dir() and "done    best validation" in (entry / "files/log.txt").read_text()
    assert not list(fake.folder.glob("*/mlruns")), "a node keeps nothing beside the sources"
    capsys.readouterr()
    assert jobs.main(["list"]) == 0 and f"{name}  finished" in capsys.readouterr().out
    assert jobs.main(["logs", name]) == 0 and "epoch  train" in capsys.readouterr().out
    assert jobs.main(["wait", name]) == 0 and jobs.main(["stop", name]) == 0


def test_a_study_is_carried_out_once_and_goes_on_from_anywhere(
    fake: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("s.toml").write_text(STUDY)
    words = ["--study", str(tmp_path / "s.toml"), "--on", "ray", "--output", str(tmp_path / "out"), "--poll", "0.02"]
    assert run.main([*words, "--dry-run"]) == 0
    assert [job["entrypoint_num_cpus"] for job in json.loads(capsys.readouterr().out)] == [1.0, 1.0]
    assert run.main([*words, "--detach"]) == 0 and len(fake.jobs) == 2
    first, second = fake.jobs
    assert jobs.main(["list"]) == 0 and capsys.readouterr().out.count("waiting") >= 2
    trained(fake, first)
    fake.jobs[second]["status"] = "RUNNING"
    # The launcher's machine is gone; another one has the same tracking store, and nothing else.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", resolve().tracking_uri)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    threading.Timer(0.3, trained, (fake, second)).start()
    assert run.main(words) == 0
    said = capsys.readouterr().err
    assert said.count("launched from elsewhere") == 2 and "2 runs, 0 already done, 2 under way" in said
    runs = list(resolve().runs(None, f"tags.{names.STUDY_RUN} != ''"))
    assert [one.info.status for one in runs] == ["FINISHED"] * 2 and len(fake.jobs) == 2
    assert len({one.data.tags[names.STUDY_RUN] for one in runs}) == 2
    assert run.main(words) == 0 and len(fake.jobs) == 2
    assert "2 runs, 2 already done, 0 under way" in capsys.readouterr().err


def test_a_job_is_stopped_and_waited_for(fake: FakeRay, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--on", "ray", "--output", str(tmp_path / "out"), "--num-layers", "20", "--run-name", "cats"]
    assert run.main([*words, "--detach"]) == 0
    (name,) = fake.jobs
    assert jobs.main(["wait", name, "--timeout", "0"]) == jobs.TIME_IS_OVER
    assert jobs.main(["stop", name]) == 0 and "asked to end" in capsys.readouterr().out
    assert jobs.main(["watch", name, "--poll", "0.02"]) == 1
    (one,) = resolve().runs()
    assert one.info.status == "KILLED"
    assert jobs.main(["stop", name]) == 0 and "nothing to stop" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--on", "ray"], "--on ray: MLFLOW_TRACKING_URI names no server.*give --output"),
        (["--on", "ray", "--output", "out"], "--output out must be an absolute path"),
        (["--on", "ray", "--output", "/proc/out"], "--output /proc/out cannot be written here"),
        (["--on", "ray", "--spot", "--output", "/tmp/x"], "--spot is for --on sagemaker"),
        (["--cpus", "2"], "--cpus is for --on ray"),
        (["--on", "ray", "--resume", "abcd"], "resumes by itself"),
        (["--on", "ray", "--output", "/tmp/x", "--ray-address", "head:10001"], "Ray Client's address"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    fake: FakeRay, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    import re

    assert run.main(words) == 2
    assert re.search(why, capsys.readouterr().err) and not fake.jobs and not fake.headers
