"""Results from notes, CSV and JSON: read as meant, flagged where that differs, imported once however often."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.stores import Stopped, StoppingStore, make_store
from tracking.__main__ import main
from tracking.importers import to_journal
from tracking.importers.result import read_score
from tracking.journal import Journal
from tracking.journal.events import journals, read
from tracking.store import Store, resolve
from tracking.store.replay import Outcome, replay

pytestmark = pytest.mark.slow
NOTES = """Example training status log:

Start time
End time
Description
Starting\tMay 08, 2019 07:47 UTC\tMay 08, 2019 07:51 UTC\tPreparing the instances for training
Training\tMay 08, 2019 07:52 UTC\tMay 08, 2019 07:53 UTC\tTraining image download completed. Training in progress.
Failed\t\tMay 08, 2019 07:53 UTC\tMay 08, 2019 07:53 UTC\tTraining job failed


default image classification with 44 layers, 30 epochs:
training accuracy:   0.994
validation accuracy: 0.982
test: ?


default image classification with 44 layers, 50 epochs:
training accuracy:   0.997
validation accuracy: 0.987
test: ?

default image classification with 34 layers, 50 epochs, transfer learning w/ imagenet:
training accuracy: 0.989\x20\x20
validation accuracy: 0.988
test: ?

default image classification with 34 layers, 100 epochs, transfer learning w/ imagenet:
training accuracy: 994
validation accuracy: 983
test: ?
"""


def _file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _runs(store: Store) -> dict[str, object]:
    return {run.info.run_name: run for run in store.runs()}


def test_the_four_historical_results(tmp_path: Path) -> None:
    reading = to_journal.read_file(_file(tmp_path / "notes.txt", NOTES))
    assert [dict(result.params) for result in reading.results] == [
        {"num_layers": "44", "epochs": "30", "use_pretrained_model": "0", "init": "scratch"},
        {"num_layers": "44", "epochs": "50", "use_pretrained_model": "0", "init": "scratch"},
        {"num_layers": "34", "epochs": "50", "use_pretrained_model": "1", "init": "imagenet"},
        {"num_layers": "34", "epochs": "100", "use_pretrained_model": "1", "init": "imagenet"},
    ]
    read = [[(s.written, s.value) for s in result.scores.values()] for result in reading.results]
    assert read == [
        [("0.994", 0.994), ("0.982", 0.982), ("?", None)],
        [("0.997", 0.997), ("0.987", 0.987), ("?", None)],
        [("0.989", 0.989), ("0.988", 0.988), ("?", None)],
        [("994", 0.994), ("983", 0.983), ("?", None)],
    ]
    assert [len(result.flags) for result in reading.results] == [0, 0, 0, 2]
    assert reading.remarks == ("notes.txt: lines 1 and 3 to 8 hold no result and were left out",)


@pytest.mark.parametrize(
    ("written", "value", "flagged"),
    [
        ("0.994", 0.994, False),
        ("1", 1.0, False),
        ("0", 0.0, False),
        (" .5 ", 0.5, False),
        ("98.3 %", 0.983, False),
        ("100%", 1.0, False),
        ("0,994", 0.994, False),
        ("98.3", 0.983, True),
        ("99", 0.99, True),
        ("994", 0.994, True),
        ("9821", 0.9821, True),
        ("?", None, False),
        ("", None, False),
        ("n/a", None, False),
        ("-0.5", None, True),
        ("101.5", None, True),
        ("101%", None, True),
        ("about 0.9", None, True),
        ("nan", None, True),
    ],
)
def test_scores_as_people_write_them(written: str, value: float | None, flagged: bool) -> None:
    score = read_score(written)
    assert score.value == value
    assert bool(score.remark) == flagged
    assert score.written == written.strip()


def test_imported_notes_are_runs_with_both_values(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _file(workdir / "notes.txt", NOTES)
    assert main(["import", "notes.txt"]) == 0
    out = capsys.readouterr().out
    assert "4 new, 0 changed, 0 known already" in out
    assert "flagged: train_accuracy 994 was read as 0.994, since a share is at most 1" in out
    runs = list(store.runs())
    assert len(runs) == 4
    (odd,) = [run for run in runs if run.data.params["epochs"] == "100"]
    assert odd.data.metrics == {"train_accuracy": 0.994, "validation_accuracy": 0.983}
    assert odd.data.tags["train_accuracy_as_written"] == "994"
    assert odd.data.tags["test_accuracy_as_written"] == "?"
    assert "983 was read as 0.983" in odd.data.tags["flagged"]
    assert odd.data.tags["launcher"] == "import" and odd.data.tags["imported_from"] == "notes.txt, line 27"
    assert odd.data.tags["init_label"] == "ImageNet, as the notes say"
    assert odd.info.status == "FINISHED"
    assert all("test_accuracy" not in run.data.metrics for run in runs)
    assert sum("flagged" in run.data.tags for run in runs) == 1
    history_of = store.client().get_metric_history(odd.info.run_id, "train_accuracy")
    assert [(m.step, m.value) for m in history_of] == [(100, 0.994)]


def test_importing_again_changes_nothing(store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _file(workdir / "notes.txt", NOTES)
    assert main(["import", "notes.txt"]) == 0
    before = {run.info.run_id: (run.data.to_dictionary(), run.info.end_time) for run in store.runs()}
    os.utime(workdir / "notes.txt", (2_000_000_000, 2_000_000_000))  # touched, not edited
    assert main(["import", "notes.txt"]) == 0
    assert "0 new, 0 changed, 4 known already" in capsys.readouterr().out
    shutil.rmtree(workdir / "mlruns" / "journals")  # another machine, or the folder was removed
    assert main(["import", "notes.txt"]) == 0
    assert "0 new, 0 changed, 4 known already" in capsys.readouterr().out
    assert {run.info.run_id: (run.data.to_dictionary(), run.info.end_time) for run in store.runs()} == before


def test_an_edited_file_brings_what_is_new_onto_the_same_run(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(workdir / "notes.txt", NOTES)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert main(["import", "notes.txt"]) == 0
    before = {run.info.run_id: run.info.start_time for run in store.runs()}
    edited = NOTES.replace("0.982\ntest: ?", "0.981\ntest: 97.5 %") + "\n20 layers, 3 epochs:\nval acc = 0.5\n"
    _file(path, edited)
    os.utime(path, (1_600_000_100, 1_600_000_100))
    assert main(["import", "notes.txt"]) == 0
    assert "1 new, 1 changed, 3 known already" in capsys.readouterr().out
    after = {run.info.run_id: run for run in store.runs()}
    assert before.keys() < after.keys() and len(after) == 5
    (changed,) = [run for run in after.values() if run.data.params["epochs"] == "30"]
    assert changed.data.metrics == {"train_accuracy": 0.994, "validation_accuracy": 0.981, "test_accuracy": 0.975}
    assert changed.info.start_time == before[changed.info.run_id] and changed.info.status == "FINISHED"
    assert main(["import", "notes.txt"]) == 0
    assert "0 new, 0 changed, 5 known already" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _file(workdir / "notes.txt", NOTES)
    assert main(["import", "notes.txt", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("would be imported") == 4
    assert not (workdir / "mlruns").exists()


def test_an_import_that_was_stopped_before_mlflow_is_picked_up(store: Store, workdir: Path) -> None:
    reading = to_journal.read_file(_file(workdir / "notes.txt", NOTES))
    brought = list(to_journal.bring_in(reading.results, store, experiment="old"))  # and nothing replayed
    assert [b.what for b in brought] == ["new"] * 4
    assert [b.what for b in to_journal.bring_in(reading.results, store, experiment="old")] == ["new"] * 4
    assert main(["sync"]) == 0
    assert len(list(store.runs())) == 4 and len(journals(store.journals)) == 4


ONE = "20 layers, 3 epochs:\nval acc = 0.5\n"


def test_a_deleted_experiment_leaves_nothing_behind(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.client().delete_experiment(store.experiment_id("gone"))
    _file(workdir / "notes.txt", NOTES)
    assert main(["import", "notes.txt", "--experiment", "gone"]) == 2
    assert "experiment 'gone' is deleted" in capsys.readouterr().err
    assert journals(store.journals) == [] and not list(store.runs())
    assert main(["import", "notes.txt", "--experiment", "x" * 501]) == 2
    assert journals(store.journals) == []
    assert main(["import", "notes.txt", "--experiment", "here"]) == 0
    assert "4 new, 0 changed, 0 known already" in capsys.readouterr().out
    assert len(list(store.runs([store.experiment_id("here")]))) == 4
    assert main(["sync"]) == 0


def test_a_journal_that_is_in_no_store_is_not_known(store: Store, workdir: Path) -> None:
    """As a program that was killed, or a refused import of an earlier version, left it."""
    (result,) = to_journal.read_file(_file(workdir / "notes.txt", ONE)).results
    half = Journal.create(store.journals, experiment="gone", run_name="half", journal_id=result.journal_id)
    half.close()
    assert main(["import", "notes.txt", "--experiment", "here"]) == 0
    (run,) = store.runs()
    assert run.info.status == "FINISHED" and run.data.metrics == {"validation_accuracy": 0.5}
    assert main(["sync"]) == 0
    assert len(list(store.runs())) == 1


@pytest.mark.parametrize("after", [False, True])
def test_an_import_stopped_anywhere_is_finished_by_the_next(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str], after: bool
) -> None:
    stopped = 0
    for number in range(20):
        name = f"{number}.txt"
        results = to_journal.read_file(_file(workdir / name, ONE)).results
        (brought,) = to_journal.bring_in(results, store, experiment="one")
        assert brought.directory is not None
        stopping = StoppingStore(store.tracking_uri, store.artifact_root, store.journals, stop_at=number, after=after)
        try:
            replay(brought.directory, stopping)
        except Stopped:
            stopped += 1
        assert main(["import", name, "--experiment", "other"]) == 0
        runs = [run for run in store.runs() if run.data.tags.get("imported_from", "").startswith(name)]
        assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"validation_accuracy": 0.5})]
        if stopped <= number:
            break
    assert stopped > 2
    assert len(list(store.runs())) == len(journals(store.journals)) == number + 1
    assert "not" not in capsys.readouterr().err


def test_ctrl_c_between_two_runs_leaves_no_half(store: Store, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(workdir / "notes.txt", NOTES)
    brought: list[Path] = []

    def interrupted(directory: Path, store: Store) -> Outcome:
        brought.append(directory)
        if len(brought) == 2:
            raise KeyboardInterrupt
        return replay(directory, store)

    with monkeypatch.context() as patched:
        patched.setattr("tracking.store.replay.replay", interrupted)
        assert main(["import", "notes.txt"]) == 130
    assert len(list(store.runs())) == 1 and journals(store.journals) == sorted(brought)
    assert list(store.journals.glob(".import-*")) == []
    assert main(["import", "notes.txt"]) == 0
    assert sorted(run.info.status for run in store.runs()) == ["FINISHED"] * 4


def test_a_killed_import_is_finished_by_the_next(store: Store, workdir: Path) -> None:
    rows = "\n".join(f"run {n},3,0.5" for n in range(20))
    _file(workdir / "runs.csv", f"name,epochs,test_acc\n{rows}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    importing = subprocess.Popen([sys.executable, "-m", "tracking", "import", "runs.csv"], env=environment)
    while importing.poll() is None and len(list(store.journals.glob("[!.]*"))) < 4:
        time.sleep(0.01)
    importing.kill()
    importing.wait()
    whole = [read(directory) for directory in journals(store.journals)]
    assert all([event["event"] for event, _ in events][-1] == "status" for events in whole)
    assert main(["import", "runs.csv"]) == 0
    assert sorted((r.info.run_name, r.info.status) for r in store.runs()) == sorted(
        (f"run {n}", "FINISHED") for n in range(20)
    )
    assert list(store.journals.glob(".import-*")) == []


def test_what_is_in_another_experiment_is_said(store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _file(workdir / "notes.txt", ONE)
    assert main(["import", "notes.txt", "--experiment", "one"]) == 0
    assert main(["import", "notes.txt", "--experiment", "two"]) == 0
    assert "0 new, 0 changed, 1 known already (in experiment one)" in capsys.readouterr().out
    store.client().delete_experiment(store.experiment_id("one"))
    assert main(["import", "notes.txt", "--experiment", "two"]) == 0
    (run,) = store.runs()
    assert run.info.experiment_id == store.experiment_id("two")


def test_a_deleted_run_stays_deleted_and_keeps_no_other_out(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _file(workdir / "notes.txt", ONE)
    assert main(["import", "notes.txt"]) == 0
    (run,) = store.runs()
    store.client().delete_run(run.info.run_id)
    _file(workdir / "notes.txt", ONE + NOTES)
    assert main(["import", "notes.txt"]) == 1
    captured = capsys.readouterr()
    assert f"notes.txt, line 1: run {run.info.run_id} was deleted" in captured.err
    assert "4 new, 0 changed, 0 known" in captured.out and len(list(store.runs())) == 4


def test_another_store_gets_the_runs_too(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(workdir / "notes.txt", ONE)
    for name in ("a", "b"):
        (workdir / name).mkdir()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", make_store(workdir / name).tracking_uri)
        assert main(["import", "notes.txt"]) == 0
        assert len(list(resolve().runs())) == 1
    assert len(journals(resolve().journals)) == 1


def test_a_server_that_is_away_gets_the_runs_later(
    store: Store, workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _file(workdir / "notes.txt", NOTES)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        assert main(["import", "notes.txt"]) == 1
        assert "nothing answers" in capsys.readouterr().err
    assert not store.journals.exists()
    bringing = to_journal.bring_in(to_journal.read_file(workdir / "notes.txt").results, store, experiment="one")
    first = next(bringing)
    with monkeypatch.context() as away:
        away.setattr("tracking.importers.to_journal.bring_in", lambda *_, **__: iter([first]))
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        assert main(["import", "notes.txt"]) == 1
        assert "import again when it answers" in capsys.readouterr().err
    bringing.close()
    assert [directory.name for directory in journals(store.journals)] == [first.result.journal_id]
    assert main(["import", "notes.txt", "--experiment", "one"]) == 0
    assert sorted(run.info.status for run in store.runs()) == ["FINISHED"] * 4


def test_an_edit_taken_back_comes_onto_the_run(store: Store, workdir: Path) -> None:
    for value in ("0.5", "0.6", "0.5", "0.6"):
        _file(workdir / "notes.txt", ONE.replace("0.5", value))
        assert main(["import", "notes.txt"]) == 0
        (run,) = store.runs()
        assert run.data.metrics == {"validation_accuracy": float(value)}


def test_one_bad_file_of_several_leaves_nothing(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _file(workdir / "notes.txt", NOTES)
    _file(workdir / "bad.csv", "name,colour,seed\na,blue,many\n")
    assert main(["import", "notes.txt", "bad.csv"]) == 2
    assert not store.journals.exists() and not list(store.runs())
    (workdir / "again").mkdir()
    _file(workdir / "again" / "notes.txt", NOTES.replace("0.994", "0.995"))
    assert main(["import", "notes.txt", "again/notes.txt"]) == 2
    assert "rename one of the files" in capsys.readouterr().err
    assert not store.journals.exists() and not list(store.runs())
    assert main(["import", "notes.txt", "notes.txt"]) == 0
    assert len(list(store.runs())) == 4


# Headers as people's programs and spreadsheets write them, and what they mean here.
HEADERS = [
    ("Test Acc (%)", "97.5", "metrics", {"test_accuracy": 0.975}),
    ("Val Accuracy [%]", "0.98", "metrics", {"validation_accuracy": 0.0098}),
    ("train_acc%", "100", "metrics", {"train_accuracy": 1.0}),
    ("val/acc@1 (top-1)", "0.9", "metrics", {"validation_accuracy": 0.9}),
    ("metrics.timing(s)/gen", "1.5", "metrics", {"timing_s_/gen": 1.5}),
    ("metrics.training gpu:0 mem(%)", "55", "metrics", {"training_gpu:0_mem": 55.0}),
    ("Test Cert Acc (0.25)", "0.3", "tags", {"test_cert_acc_0.25": "0.3"}),
    ("#Params (M)", "23.5", "tags", {"params_m": "23.5"}),
    ("F1-score*", "0.9", "tags", {"f1_score": "0.9"}),
    ("metrics.mAP@0.5", "0.4", "metrics", {"map_0.5": 0.4}),
    ("params.lr (initial)", "0.1", "params", {"lr_initial": "0.1"}),
    ("tags.mlflow.user", "ada", "tags", {"mlflow.user": "ada"}),
    ("Größe", "3", "tags", {"größe": "3"}),
    ("", "7", "tags", {"column_1": "7"}),  # pandas' index
    ("%", "7", "tags", {}),
]


@pytest.mark.parametrize(("header", "cell", "kind", "found"), HEADERS)
def test_a_header_becomes_a_key_that_mlflow_takes(
    store: Store, workdir: Path, header: str, cell: str, kind: str, found: dict[str, object]
) -> None:
    _file(workdir / "r.csv", f"{header},epochs,test_loss\n{cell},3,0.5\n")
    assert main(["import", "r.csv"]) == 0
    (run,) = store.runs()
    logged = getattr(run.data, kind)
    assert run.info.status == "FINISHED" and {key: logged.get(key) for key in found} == found
    assert "replay_problems" not in run.data.tags


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", f"epochs,test_acc,note\n3,0.5,{'x' * 200_000}\n", "field larger than field limit"),
        ("a.csv", "epochs,test_acc,status\n3,0.5,running\n", "a.csv, line 2: left out"),
        ("a.csv", "epochs,seed\n1e30,many\n", "epochs '1e30' was left out: it is not a whole number"),
    ],
)
def test_what_holds_no_run_is_refused_before_anything_is_written(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    _file(workdir / name, text)
    assert main(["import", name]) == 2
    assert said in capsys.readouterr().err
    assert not store.journals.exists() and not list(store.runs())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "../x,epochs,test_acc\n1,3,0.5\n", "a.csv: column '../x' was left out"),
        ("a.csv", f"{'x' * 251},epochs,test_acc\n1,3,0.5\n", "cannot be a name"),
        ("a.csv", f"metrics.{'x' * 245},epochs,test_acc\n1,3,0.5\n", "cannot be a name"),
        ("a.csv", "Test Acc (%),test_accuracy,epochs\n50,0.9,3\n", "both mean test_accuracy; the second was left"),
        ("a.csv", "acc,acc,epochs,test_acc\n1,2,3,0.5\n", "the header has 'acc' twice; the first counts"),
        ("a.csv", "seed,epochs,test_acc\n1e30,3,0.5\n", "line 2: seed '1e30' was left out: it is not a whole number"),
        ("a.csv", "epochs,test_acc,date\n3,0.5,1969-12-31\n", "no time since 1970"),
        ("a.csv", "epochs,test_acc,date\n3,0.5,99999999999999999999\n", "no time since 1970"),
        ("a.csv", "epochs,test_acc\n3,0.5\n4,0,6\n", "a.csv, line 3: left out, since it has more cells"),
        ("a.csv", "epochs,test_acc,status\n3,0.5,done\n4,0.6,odd\n", "status 'odd' was left out"),
        ("a.csv", "epochs,test_acc,test_loss\n3,0.5,inf\n", "test_loss 'inf' was left out: it is not finite"),
        ("a.json", '{"epochs": 3, "test_acc": 0.5, "..": [0.5]}', "column '..' was left out"),
        ("a.json", '{"epochs": 3, "test_acc": 0.5, "classes": ["a", "b"]}', "a.json: classes was left out"),
    ],
)
def test_one_bad_cell_costs_that_cell(
    store: Store, workdir: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    _file(workdir / name, text)
    assert main(["import", name]) == 0
    assert said in capsys.readouterr().err
    run = next(run for run in store.runs() if run.data.params["epochs"] == "3")
    assert run.data.metrics == {"test_accuracy": 0.5} and run.info.status == "FINISHED"


def test_odd_values_end_in_a_finished_run(store: Store, workdir: Path) -> None:
    odd = {
        "name": "n" * 600 + "\ud83d",
        "epochs": 3,
        "test_loss": "inf",
        "note": "\ud83d half a sign\0",
        "params": {"own": "x" * 7000},
        "tags": {"journal_id": "0" * 32, "imported_from": "elsewhere"},
    }
    _file(workdir / "odd.json", json.dumps(odd))
    for said in ("1 new", "1 known already"):
        assert main(["import", "odd.json"]) == 0, said
    (run,) = store.runs()
    assert run.info.status == "FINISHED" and run.data.tags["imported_from"] == "odd.json, run 1"
    assert run.data.tags["journal_id"] != "0" * 32


def test_notes_in_other_words(tmp_path: Path) -> None:
    text = (
        "# Tuesday\nResNet-50 batch size 64, lr=0.05, adam, 12 epochs, seed 3\n"
        "Train acc = 91%\nval accuracy: 0.9\nTest Accuracy: 0.88\ntest top-5: 0.99\ntest loss: 0.41\ntest: 0.87\n"
        "20 layers, 5 epochs, from scratch:\nnothing yet\n"
        "20 layers, 5 epochs, from scratch:\ntest: 0.5\n"
        "20 layers, 5 epochs, from scratch:\ntest: 0.6\n"
    )
    reading = to_journal.read_file(_file(tmp_path / "log.md", text))
    first, *again = reading.results
    assert dict(first.params) == {
        "num_layers": "50",
        "epochs": "12",
        "mini_batch_size": "64",
        "learning_rate": "0.05",
        "optimizer": "adam",
        "seed": "3",
    }
    assert {metric: score.value for metric, score in first.scores.items()} == {
        "train_accuracy": 0.91,
        "validation_accuracy": 0.9,
        "test_accuracy": 0.88,
        "test_top5_accuracy": 0.99,
        "test_loss": 0.41,
    }
    assert [r.scores["test_accuracy"].value for r in again] == [0.5, 0.6]
    assert len({r.journal_id for r in reading.results}) == 3
    assert reading.remarks == (
        "log.md, line 8: 'test: 0.87' was left out: a second test_accuracy of"
        " 'ResNet-50 batch size 64, lr=0.05, adam, 12 epochs, seed 3'",
        "log.md: lines 1 and 9 to 10 hold no result and were left out",
    )


CSV = """run_name,Layers,Epochs,lr,Val Acc,metrics.test_accuracy,cost_usd,status,date,colour
first,44,30,0.1,98.2%,0.975,0.31,finished,2019-05-08,blue
second,34,50,,994,,,FAILED,2019-05-08T07:47:00Z,
,20,3,0.01,?,0.5,,,,
"""


def test_a_table_becomes_runs(tmp_path: Path) -> None:
    reading = to_journal.read_file(_file(tmp_path / "runs.csv", CSV))
    first, second, third = reading.results
    assert dict(first.params) == {"num_layers": "44", "epochs": "30", "learning_rate": "0.1"}
    assert {k: s.value for k, s in first.scores.items()} == {
        "validation_accuracy": 0.982,
        "test_accuracy": 0.975,
        "cost_usd": 0.31,
    }
    assert first.tags == {"colour": "blue"} and first.start_ms == 1_557_273_600_000
    assert (second.status, second.start_ms) == ("FAILED", 1_557_301_620_000)
    assert second.flags == ["validation_accuracy 994 was read as 0.994, since a share is at most 1"]
    assert "learning_rate" not in second.params
    assert third.run_name == "runs.csv, line 4" and third.scores["validation_accuracy"].value is None
    assert reading.remarks == ("runs.csv: kept as tags: colour",)


def test_semicolons_and_tabs_separate_as_well(tmp_path: Path) -> None:
    for suffix, delimiter in (("csv", ";"), ("tsv", "\t")):
        path = _file(
            tmp_path / f"runs.{suffix}",
            delimiter.join(["name", "epochs", "test_acc"]) + "\n" + delimiter.join(["a", "3", "0,5"]),
        )
        (result,) = to_journal.read_file(path).results
        assert result.scores["test_accuracy"].value == 0.5


def test_every_unreadable_cell_is_named(tmp_path: Path) -> None:
    text = "name,epochs,seed,status,test_loss,date,test_acc\na,many,1.5,ODD,low,soon,0.5\n"
    reading = to_journal.read_file(_file(tmp_path / "runs.csv", text))
    (result,) = reading.results
    assert (dict(result.params), result.status) == ({}, "FINISHED")
    assert {k: s.value for k, s in result.scores.items()} == {"test_accuracy": 0.5}
    for said in ("epochs 'many'", "seed '1.5'", "status 'ODD'", "test_loss 'low'", "date 'soon'"):
        assert any(remark.startswith(f"runs.csv, line 2: {said} was left out") for remark in reading.remarks)


def test_json_of_several_forms(store: Store, workdir: Path) -> None:
    nested = (
        '{"runs": [{"name": "a", "params": {"epochs": 3, "early_stopping": true, "own": 1},'
        ' "metrics": {"train_accuracy": [0.1, null, 0.3], "test_accuracy": 0.25, "f1": 0.2}, "tags": {"who": "me"}}]}'
    )
    (result,) = to_journal.read_file(_file(workdir / "a.json", nested)).results
    assert dict(result.params) == {"epochs": "3", "early_stopping": "True", "own": "1"}
    assert dict(result.series) == {"train_accuracy": [(1, 0.1), (3, 0.3)]}
    assert (result.scores["f1"].value, dict(result.tags)) == (0.2, {"who": "me"})
    assert main(["import", "a.json"]) == 0
    (run,) = store.runs()
    assert [(m.step, m.value) for m in store.client().get_metric_history(run.info.run_id, "train_accuracy")] == [
        (1, 0.1),
        (3, 0.3),
    ]
    lines = '{"id": "x", "epochs": 1, "test_accuracy": 0.5}\n\n{"id": "y", "epochs": 1, "test_accuracy": 0.6}\n'
    assert len(to_journal.read_file(_file(workdir / "b.jsonl", lines)).results) == 2
    assert len(to_journal.read_file(_file(workdir / "c.json", '{"epochs": 1, "test_accuracy": 0.5}')).results) == 1


def test_an_id_keeps_a_row_the_same_run_when_its_settings_are_corrected(tmp_path: Path) -> None:
    ids = [
        to_journal.read_file(_file(tmp_path / "r.csv", f"id,epochs,test_acc\n{row}\n")).results[0].journal_id
        for row in ("7,3,0.5", "7,4,0.5", "8,3,0.5")
    ]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "dear diary\n", "holds no run that could be read"),
        ("a.csv", "", "holds no run"),
        ("a.csv", "name,epochs\na,1,2\n", "more cells than the header has columns"),
        ("a.xlsx", "PK\x03\x04", "is a workbook"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "a list of objects is expected"),
    ],
)
def test_files_without_results_are_refused(
    workdir: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    _file(workdir / name, text)
    assert main(["import", name]) == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_opened_is_said(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "none.txt"]) == 2
    assert "none.txt: No such file" in capsys.readouterr().err
    (workdir / "bytes.txt").write_bytes(b"\xff\xfe\xfa")
    assert main(["import", "bytes.txt"]) == 2
    assert "is not UTF-8 text" in capsys.readouterr().err
    assert main(["import"]) == 2
    assert "nothing to import" in capsys.readouterr().err


def test_a_run_with_mlflows_id_is_one_run_whatever_its_file_is_called(store: Store, workdir: Path) -> None:
    head = "Run ID,Name,epochs,test_acc\n"
    one, two = f"{'0c' * 16},owl,30,0.9\n", f"{'1c' * 16},cat,30,0.8\n"
    _file(workdir / "runs.csv", head + one)
    _file(workdir / "runs (1).csv", head + one.replace("0.9", "0.91") + two)
    assert main(["import", "runs.csv"]) == 0 and main(["import", "runs (1).csv"]) == 0
    found = {run.info.run_name: run.data.metrics["test_accuracy"] for run in store.runs()}
    assert found == {"owl": 0.91, "cat": 0.8}
    assert main(["import", "runs.csv", "runs (1).csv"]) == 0  # two files at once: the later one counts
    assert len(list(store.runs())) == 2


def test_a_run_that_an_earlier_version_knew_by_its_file_is_not_brought_in_twice(store: Store, workdir: Path) -> None:
    path = _file(workdir / "runs.csv", f"Run ID,Name,epochs,test_acc\n{'0c' * 16},owl,30,0.9\n")
    (result,) = to_journal.read_file(path).results
    earlier = replace(result, key=result.former_key, former_key="")
    for one in to_journal.bring_in([earlier], store, experiment="Default"):
        assert one.what == "new" and one.directory is not None
        replay(one.directory, store)
    assert [one.what for one in to_journal.bring_in([result], store, experiment="Default")] == ["known"]
