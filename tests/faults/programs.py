"""The programs that are stopped, written as people write them; what each begins with, and how its end is judged."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.faults.oracle import Verdict, calls, compare
from tests.faults.points import FAULTS, WINDOW_S, Place, Program
from tests.support.stores import make_store
from tests.tracking.store.test_logged_models import model_folder
from tracking import run as tracked
from tracking.__main__ import main as tracking
from tracking.errors import TrackingError
from tracking.journal.events import journals, read

STEPS = 60
ROOT = Path("mlruns/journals")


def _in_the_store(place: Place) -> Verdict:
    return compare(place.oracle, place.database, place.cut_at, WINDOW_S)


def _made(place: Place) -> None:
    make_store(place.work)


def may_end_by_signal(place: Place) -> None:
    """Every other program takes SIGTERM as an exit, as many do; the rest just die of it."""
    if place.number % 2:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def log(place: Place) -> None:
    """A run with everything that people log, shown in MLflow while it goes on."""
    may_end_by_signal(place)
    with tracked.start("stopped", experiment="exp", params={"lr": 0.1}, system_metrics=False) as run:
        _log_steps(run, 1)


def _log_steps(run: tracked.Run, first: int) -> None:
    for step in range(first, STEPS + 1):
        run.log_metrics({"loss": 1 / step, "nan": float("nan")}, step=step)
        run.log_metrics({"accuracy": step / STEPS}, step=step)
        if step % 20 == 0:
            run.set_tags({"at": f"step {step}"})
            run.log_text("x" * step, f"notes/{step}.txt")
            run.log_dataset("train", name="d", digest=f"d{step}", source="/d", num_images=step, num_classes=2)
        if step == STEPS // 2 and run._live is not None:
            run._live.look()  # what comes every two seconds, in a run of half a second
        time.sleep(0.003)


def log_slowly(place: Place) -> None:
    """Events for three seconds, so that some are on the disk itself and some are not."""
    with tracked.start("stopped", experiment="exp", system_metrics=False) as run:
        for step in range(1, 151):
            run.log_metrics({"loss": 1 / step}, step=step)
            if step % 40 == 0:
                run.log_text("x" * step, f"notes/{step}.txt")
            time.sleep(0.02)


def log_beside(place: Place) -> None:
    """A run that logs every two seconds, as others in its process begin and end."""
    with tracked.start("stopped", experiment="exp", live=None, system_metrics=False) as run:
        for step in range(1, 4):
            for name in "abc":
                with tracked.start(name, experiment="exp", live=None, system_metrics=False) as other:
                    other.log_metrics({"loss": 1 / step}, step=step)
            run.log_metrics({"loss": 1 / step}, step=step)
            time.sleep(2.0)


def go_on(place: Place) -> int:
    """Every other run is resumed and ends, the rest is closed; then everything is brought in."""
    for directory in journals(ROOT):
        if place.number % 4 < 2 and tracked.ended(directory) != "FINISHED":
            try:
                said = [one["step"] for one in calls(place.oracle) if one["kind"] == "metrics"]
                with tracked.resume(directory, live=None, system_metrics=False) as run:
                    _log_steps(run, max(said, default=0) + 1)
            except TrackingError as error:  # it ended before its first line was written
                print(error)
    return tracking(["repair"]) | tracking(["sync"])


def write_journals(place: Place) -> None:
    """Three runs that are not in the store yet."""
    _made(place)
    for name in ("first", "second", "third"):
        with tracked.start(name, experiment="exp", params={"name": name}, live=None, system_metrics=False) as run:
            for step in range(1, 301):
                run.log_metrics({"loss": 1 / step, "accuracy": step / 300}, step=step)
            run.log_text("x" * 1000, "notes/all.txt")
            run.log_artifact(model_folder(Path("model")))
            run.log_dataset("train", name="d", digest="d1", source="/d", num_images=9, num_classes=2)


def sync(place: Place) -> int:
    """Bring in what is not there."""
    may_end_by_signal(place)
    return tracking(["sync"])


# ---- programs that read, pack and promote


def content(folder: Path) -> dict[str, str]:
    """Every file's checksum."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def prepare_report(place: Place) -> None:
    """Some runs, all in the store."""
    write_journals(place)
    assert tracking(["sync"]) == 0
    assert report(place) == 0


def report(place: Place) -> int:
    """A page of the runs, in the folder beside."""
    from reports.__main__ import main as reports

    out = place.work / "page.html"
    return reports(["leaderboard", "--metric", "accuracy", "--experiment", "exp", "--out", str(out)])


def nothing_changed(place: Place) -> Verdict:
    """A reader changes nothing, and its page is whole."""
    was, now = content(place.base / "template"), content(place.work)
    changed = {name for name in was | now if was.get(name) != now.get(name)}
    page = place.work / "page.html"
    torn = page.exists() and not page.read_text().rstrip().endswith("</html>")
    stray = {name for name in changed - set(was)}
    lost = sum(name != "page.html" for name in changed & set(was))
    return Verdict(lost=lost, doubled=len(stray), wrong=int(torn), num_events=len(was), why=str(sorted(changed)))


def prepare_pack(place: Place) -> None:
    """Pictures, and what the packed folder has to be."""
    from tests.support.pictures import class_folders

    class_folders(place.work / "pictures", per_class=60, size=(64, 64))
    assert pack(place) == 0
    (place.work / "packed").rename(place.base / "expected")


def pack(place: Place) -> int:
    """Write records; the folder appears whole or not at all."""
    from trainers.data.__main__ import main as data

    words = ["--resize", "48", "--num-thread", "1", "--seed", "3"]
    return data(["pack", "pictures", "packed", *words])


def pack_again(place: Place) -> int:
    """What is there is whole; where there is nothing, packing again makes it."""
    return 0 if Path("packed").exists() else pack(place)


def packed_whole(place: Place) -> Verdict:
    """The folder is what an undisturbed call wrote, and nothing is beside it."""
    was, now = content(place.base / "expected"), content(place.work / "packed")
    changed = sorted(name for name in was | now if was.get(name) != now.get(name))
    stray = sorted(set(os.listdir(place.work)) - {"pictures", "packed", "lost+found"})
    return Verdict(lost=len(changed), doubled=len(stray), num_events=len(was), why=f"{changed} {stray}")


def prepare_promotion(place: Place) -> None:
    """Two runs with a model; the worse one has the alias."""
    _made(place)
    for name, score in (("worse", 0.5), ("better", 0.75)):
        with tracked.start(name, experiment="exp", live=None, system_metrics=False) as run:
            run.set_tags({"validation_dataset_digest": "pictures"})
            run.log_params({"dataset": "owls"})
            run.log_metrics({"validation_accuracy": score, "validation_num_images": 4}, step=2)
            run.log_artifact(model_folder(Path(name) / "model"))
    assert tracking(["sync"]) == 0
    assert tracking(["promote", "worse", "--name", "owls"]) == 0


def promote(place: Place) -> int:
    """The better one gets the alias."""
    return tracking(["promote", "better", "--name", "owls"])


def promoted_once(place: Place) -> Verdict:
    """One version of each run, and the alias is the better one's."""
    with closing(sqlite3.connect(f"file:{place.database}?mode=ro", uri=True)) as connection:
        versions = connection.execute(
            "SELECT r.name, v.version FROM model_versions v JOIN runs r ON r.run_uuid = v.run_id WHERE v.name = 'owls'"
        ).fetchall()
        aliases = connection.execute("SELECT version FROM registered_model_aliases WHERE alias = 'champion'").fetchall()
    mine = [version for name, version in versions if name == "better"]
    return Verdict(
        lost=int(not mine),
        doubled=max(0, len(mine) - 1) + max(0, len(versions) - len(mine) - 1),
        wrong=int([str(v) for v in mine] != [str(version) for (version,) in aliases]),
        num_events=2,
        why=f"{versions} {aliases}",
    )


# ---- programs that need MXNet


@contextmanager
def _one_thread() -> Iterator[None]:
    """MXNet without threads of its own: a process that has some cannot be forked safely."""
    os.environ.update(MXNET_ENGINE_TYPE="NaiveEngine", OMP_NUM_THREADS="1")
    yield


def load_mxnet() -> None:
    """Import what a training needs, once."""
    with _one_thread():
        import mxnet
        from gluoncv.model_zoo import cifarresnet  # noqa: F401

        import trainers.evaluate
        import trainers.training.experiment  # noqa: F401

        mxnet.nd.ones(1).asnumpy()


_SMALL = ["--num-layers=20", "--image-shape=1,8,8", "--mini-batch-size=500", "--num-threads=1"]


def train(place: Place) -> int:
    """A small network for three epochs on the digits."""
    from trainers.run import main as trainer

    return trainer([*_SMALL, "--epochs=3", "--run-name=stopped"])


def train_on(place: Place) -> int:
    """Resume what can be resumed, until it is done; close the rest."""
    from trainers.run import main as trainer

    code = 0
    for directory in journals(ROOT):
        if tracked.ended(directory) != "FINISHED":
            code |= trainer(["--resume", directory.name])
    return code | tracking(["repair"]) | tracking(["sync"])


def prepare_evaluation(place: Place) -> None:
    """A trained run."""
    _made(place)
    assert train(place) == 0


def evaluate(place: Place) -> int:
    """Score the run on all digits, under a name of their own."""
    from trainers.evaluate import main as evaluation

    return evaluation(["stopped", "--dataset", "digits", "--name", "again"])


def evaluate_again(place: Place) -> int:
    """Where the program did not get to its end, a person calls it again."""
    code = tracking(["repair"]) | tracking(["sync"])
    found = [one for directory in journals(ROOT) for one, _ in read(directory) if one["event"] == "metric"]
    if not any("again_accuracy" in one["values"] for one in found):
        code |= evaluate(place)
    return code


_TRAINED = ("kill -9", "SIGTERM", "os._exit", "out of memory", "STOP, then CONT", "clock steps", "no descriptor left")
_READING = tuple(fault for fault in FAULTS if fault not in ("power cut", "clock steps"))

PROGRAMS = {
    "logging": Program(
        prepare=_made,
        act=log,
        recover=go_on,
        judge=_in_the_store,
        faults=tuple(fault for fault in FAULTS if fault != "power cut"),
        share=4.0,
    ),
    "logging, slowly": Program(
        prepare=_made, act=log_slowly, recover=go_on, judge=_in_the_store, faults=("power cut",), share=0.4, cost=6.0
    ),
    "logging, several": Program(
        prepare=_made, act=log_beside, recover=go_on, judge=_in_the_store, faults=("power cut",), share=0.4, cost=8.0
    ),
    "replay": Program(
        prepare=write_journals,
        act=sync,
        recover=lambda place: tracking(["repair"]) | tracking(["sync"]),
        judge=_in_the_store,
        share=3.0,
        cost=2.0,
    ),
    "training": Program(
        prepare=_made,
        act=train,
        recover=train_on,
        judge=_in_the_store,
        faults=_TRAINED,
        share=0.3,
        cost=10.0,
        needs=load_mxnet,
    ),
    "evaluation": Program(
        prepare=prepare_evaluation,
        act=evaluate,
        recover=evaluate_again,
        judge=_in_the_store,
        faults=_TRAINED,
        share=0.3,
        cost=6.0,
        needs=load_mxnet,
    ),
    "packing": Program(
        prepare=prepare_pack, act=pack, recover=pack_again, judge=packed_whole, faults=_READING, share=0.8
    ),
    "reports": Program(
        prepare=prepare_report, act=report, recover=lambda _: 0, judge=nothing_changed, faults=_READING, share=0.8
    ),
    "promotion": Program(
        prepare=prepare_promotion, act=promote, recover=promote, judge=promoted_once, faults=_READING, share=0.7
    ),
}
