"""What people really have: notes, tables and JSON rebuilt small from public ones, read rightly or left out and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracking.__main__ import main
from tracking.errors import TrackingError
from tracking.importers import to_journal
from tracking.importers.result import Reading, read_score, scale_of


def _read(folder: Path, name: str, text: str | bytes) -> Reading:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return to_journal.read_file(folder / name)


def _scores(reading: Reading) -> list[dict[str, float | None]]:
    return [{metric: score.value for metric, score in result.scores.items()} for result in reading.results]


STARTS = [
    ("transfer learning", "imagenet"),
    ("pretrained=True", "imagenet"),
    ("fine-tuned, not from scratch", "imagenet"),
    ("no augmentation, pretrained", "imagenet"),
    ("Tiny-ImageNet, pretrained", "imagenet"),
    ("not pretrained", "scratch"),
    ("not pretrained on imagenet", "scratch"),
    ("'pretrained': False", "scratch"),
    ("pretrained: no", "scratch"),
    ("non-pretrained", "scratch"),
    ("w/o pre-training", "scratch"),
    ("without ImageNet weights", "scratch"),
    ("no transfer learning", "scratch"),
    ("weights=None", "scratch"),
    ("from scratch", "scratch"),
    ("Tiny-ImageNet", None),
    ("tiny imagenet", None),
    ("trained on ImageNet", None),
    ("pretrained on Places", None),
    ("scratch vs. pretrained", None),
]


@pytest.mark.parametrize(("words", "init"), STARTS)
def test_what_is_negated_is_not_so(tmp_path: Path, words: str, init: str | None) -> None:
    (result,) = _read(tmp_path, "n.txt", f"34 layers, 50 epochs, {words}:\ntest: 0.9\n").results
    wanted = {} if init is None else {"init": init, "use_pretrained_model": str(int(init == "imagenet"))}
    assert dict(result.params) == {"num_layers": "34", "epochs": "50", **wanted}


LINES = [
    ("training accuracy: 0.994", {"train_accuracy": 0.994}),
    ("- val acc: 0,98", {"validation_accuracy": 0.98}),
    ("* **Test accuracy:** 94.560% (9456/10000)", {"test_accuracy": 0.9456, "test_num_images": 10000.0}),
    (
        "* Test Loss: 0.191 | Acc: 94.5% (945/1000)",
        {"test_loss": 0.191, "test_accuracy": 0.945, "test_num_images": 1000},
    ),
    ("test accuracy: 95/100", {"test_accuracy": 0.95, "test_num_images": 100.0}),
    (
        "train 0,99, validation 0,97, test 0,95",
        {"train_accuracy": 0.99, "validation_accuracy": 0.97, "test_accuracy": 0.95},
    ),
    ("91.30% test Accuracy", {"test_accuracy": 0.913}),
    ("validation accuracy 0.95", {"validation_accuracy": 0.95}),
    ("validation accuracy → 0.95", {"validation_accuracy": 0.95}),
    ("val acc => 0.95", {"validation_accuracy": 0.95}),
    ("Training accuracy - 97.43%", {"train_accuracy": 0.9743}),
    ("TestAcc=0.703 TestLoss=1.35", {"test_accuracy": 0.703, "test_loss": 1.35}),
    ("Best validation accuracy: 0.96", {"best_validation_accuracy": 0.96}),
    (
        "test Loss: 1.8 Top-1 Acc: 47.3% Top-5 Acc: 79.4%",
        {"test_loss": 1.8, "test_accuracy": 0.473, "test_top5_accuracy": 0.794},
    ),
    ("test acc 85.0 ± 0.4 %", {"test_accuracy": 0.85}),
    ("test accuracy: ~0.94", {"test_accuracy": None}),
    ("test accuracy: 90 % (10/100)", {"test_accuracy": None, "test_num_images": 100.0}),
]


@pytest.mark.parametrize(("line", "scores"), LINES)
def test_a_score_as_people_write_it(tmp_path: Path, line: str, scores: dict[str, float | None]) -> None:
    assert _scores(_read(tmp_path, "n.md", f"## 34 layers, 50 epochs\n\n{line}\n")) == [scores]


@pytest.mark.parametrize(
    "line",
    [
        "split: train 80%, val 10%, test 10%",
        "train: 33993, val: 9713",
        "test: 5000",
        "accuracy: 0.9",
        "test error: 5 %",
    ],
)
def test_what_is_no_score_is_named(tmp_path: Path, line: str) -> None:
    reading = _read(tmp_path, "n.txt", f"34 layers:\n{line}\ntest acc: 0.9\n")
    assert _scores(reading) == [{"test_accuracy": 0.9}]
    assert any("line 2" in remark for remark in reading.remarks)


def test_no_score_moves_to_another_run(tmp_path: Path) -> None:
    text = (
        "Resnet18 5 epochs (val = test set) Test Accuracy: 87.77%\n- Batch-size = 32\n- LEARNING_RATE = 1e-4\n\n"
        "Resnet34 epcohs 15: 91.30% test Accuracy\n\n"
        "With newer labels (ResNet18, 5 epochs):\nTest Accuracy: 99.74%\n\n"
        "Baseline (with same settings):\nTest Accuracy: 86.75%\n"
        "# 20 layers, 3 epochs\nval acc: 0.5\n# Others\ntest acc: 0.4\n"
    )
    reading = _read(tmp_path, "n.md", text)
    assert [result.params.get("num_layers") for result in reading.results] == ["18", "34", "18", "20"]
    assert dict(reading.results[0].params) == {
        "num_layers": "18",
        "epochs": "5",
        "mini_batch_size": "32",
        "learning_rate": "1e-4",
    }
    assert reading.results[1].params["epochs"] == "15" and reading.results[1].run_name == "Resnet34 epcohs 15"
    assert _scores(reading) == [
        {"test_accuracy": 0.8777},
        {"test_accuracy": 0.913},
        {"test_accuracy": 0.9974},
        {"validation_accuracy": 0.5},
    ]
    said = "\n".join(reading.remarks)
    assert "n.md, line 11: 'Test Accuracy: 86.75%' was left out" in said and "line 15: 'test acc: 0.4'" in said


def test_settings_below_one_another_and_lists_with_gaps(tmp_path: Path) -> None:
    text = (
        "Model: Resnet18\nEpochs: 25\nOptimizer: SGD\npretrained = False\n\n"
        "- train acc: 0.9\n\n- test acc: 0.8 (epoch 21)\n"
    )
    reading = _read(tmp_path, "n.txt", text)
    assert [dict(result.params) for result in reading.results] == [
        {"num_layers": "18", "epochs": "25", "optimizer": "sgd", "use_pretrained_model": "0", "init": "scratch"}
    ]
    assert _scores(reading) == [{"train_accuracy": 0.9, "test_accuracy": 0.8}]
    assert reading.remarks == ("n.txt, line 8: read in part; '(epoch 21)' was left out",)


def test_several_values_of_a_setting_are_none(tmp_path: Path) -> None:
    reading = _read(tmp_path, "n.txt", "resnet18, 80 epochs with lr 0.1, 5 epochs with lr 0.01\ntest: 0.9\n")
    assert dict(reading.results[0].params) == {"num_layers": "18"}
    assert "more than one value of epochs, learning_rate" in reading.remarks[0]


@pytest.mark.parametrize(
    "log",
    [
        "#### Epoch 0/49\ntrain loss: 1.22, acc: tensor(0.67)\nval loss: 0.2, acc: 0.9\n#### Epoch 1/49\nval: 1\n",
        "INFO:root:[Epoch 0] train=0.40 val=0.51 loss=200.1\nINFO:root:Epoch[1] Validation-accuracy=0.55\n",
        "resnet-50 - Epoch 0/49\n-----\ntrain Loss: 2.2 Top-1 Acc: 37.1\nresnet-50 - Epoch 1/49\ntest Loss: 1.8\n",
        "model:resnet18\nepoch: 1 start\nepoch: 1 accuracy 47.670%\nepoch: 2 accuracy 61.310%\n",
        "Epoch 01 loss 75.6 | train 2.6s\nEpoch 02 loss 12.3 | train 2.1s | Acc 9.32%\n",
    ],
)
def test_a_log_by_epoch_is_refused_with_the_reason(tmp_path: Path, log: str) -> None:
    with pytest.raises(TrackingError, match="belong to a log by epoch, not notes"):
        _read(tmp_path, "n.log", log)
    (result,) = _read(tmp_path, "both.md", f"20 layers, 3 epochs:\ntest: 0.5\n\n44 layers, 9 epochs\n{log}").results
    assert dict(result.params) == {"num_layers": "20", "epochs": "3"}


def test_markdown_tables(tmp_path: Path) -> None:
    text = (
        "# scenes\n## train from scratch\n| network architecture | test accuracy | epoch |  |\n|---|:--:|---|---|\n"
        "| resnet18_v1 | **0.8750** | 96 |  |\n| | | | |\n\n## transfer learning\n"
        "| network architecture | test accuracy | epoch |  |\n|---|---|---|---|\n"
        "| resnet18_v1 | 0.9257 | 44 | |\n| resnet18_v2 w/o pretrain | 0.9313 | 85 | |\n\n"
        "34 layers, 50 epochs\n\n| Metric | Value |\n|--|--|\n| Train accuracy | 0.99 |\n| Test accuracy | 0.95 |\n\n"
        "| Model | Train |  |\n|--|--|--|\n| | Loss | Accuracy |\n| VGG | 0.1 | 98.1% |\n"
    )
    reading = _read(tmp_path, "n.md", text)
    note, *rows = reading.results
    assert {k: s.value for k, s in note.scores.items()} == {"train_accuracy": 0.99, "test_accuracy": 0.95}
    assert [(r.params["num_layers"], r.params["resnet_version"], r.params["init"]) for r in rows] == [
        ("18", "v1", "scratch"),
        ("18", "v1", "imagenet"),
        ("18", "v2", "scratch"),
    ]
    assert [r.scores["test_accuracy"].value for r in rows] == [0.875, 0.9257, 0.9313]
    assert len({r.journal_id for r in reading.results}) == 4
    assert any("line 21: a table was left out, since no column is a score's" in remark for remark in reading.remarks)


EPOCHS = {
    "keras.csv": "epoch,accuracy,loss,lr,val_accuracy\n0,0.5,1.2,0.1,0.4\n1,0.6,nan,0.01,0.5\n",
    "percent.md": (
        "| Epoch | Train Acc (%) | Train Loss | Learning Rate | Val Acc |\n----------\n"
        "| 1 | 50 | 1.2 | 0.1 | 40 % |\n| 2 | 60 |  | 0.01 | 50 % |\n"
    ),
    "lightning.csv": (
        "epoch,step,train_acc,train_loss,lr,val_acc\n0,49,50.0,1.2,0.1,\n0,49,,,,40.0\n1,99,60.0,,0.01,\n1,99,,,,50.0\n"
    ),
    "history.json": '{"accuracy": [0.5, 0.6], "loss": [1.2, NaN], "lr": [0.1, 0.01], "val_accuracy": [0.4, 0.5]}',
    "frame.json": (
        '{"acc":{"0":0.5,"1":0.6},"loss":{"0":1.2,"1":null},"lr":{"0":0.1,"1":0.01},"val_acc":{"0":0.4,"1":0.5}}'
    ),
    "list.json": (
        '{"epoch_data": [{"epoch": 1, "train_acc": 0.5, "train_loss": 1.2, "lr": 0.1, "val_acc": 0.4},'
        ' {"epoch": 2, "train_acc": 0.6, "lr": 0.01, "val_acc": 0.5}]}'
    ),
}


@pytest.mark.parametrize("name", EPOCHS)
def test_a_row_or_a_value_for_each_epoch_is_one_run_with_curves(tmp_path: Path, name: str) -> None:
    (result,) = _read(tmp_path, name, EPOCHS[name]).results
    assert {metric: list(points) for metric, points in result.series.items()} == {
        "train_accuracy": [(1, 0.5), (2, 0.6)],
        "train_loss": [(1, 1.2)],
        "epoch_learning_rate": [(1, 0.1), (2, 0.01)],
        "validation_accuracy": [(1, 0.4), (2, 0.5)],
    }


def test_tables_under_other_names_and_in_frames(tmp_path: Path) -> None:
    (logged,) = _read(tmp_path, "training.log", "epoch,accuracy,loss\n0,0.5,1.2\n1,0.6,1.1\n").results
    assert list(logged.series["train_accuracy"]) == [(1, 0.5), (2, 0.6)]
    text = "layers\ttest acc\n34\t0,9\n"
    assert _scores(_read(tmp_path, "unicode.txt", text.encode("utf-16"))) == [{"test_accuracy": 0.9}]
    frame = "+------+------+\n| layers | test acc |\n+------+------+\n| 34 | 0.9 |\n+------+------+\n"
    assert _scores(_read(tmp_path, "frame.txt", frame)) == [{"test_accuracy": 0.9}]


@pytest.mark.parametrize(("final", "curve"), [(0.6, True), (0.55, False)])
def test_a_final_value_beside_its_list(tmp_path: Path, final: float, curve: bool) -> None:
    run = {"arch": "resnet18", "final_test_acc": final, "history": {"test_acc": [0.5, 0.6], "train_acc": [0.7, 0.8]}}
    reading = _read(tmp_path, "r.json", json.dumps(run))
    (result,) = reading.results
    assert ("test_accuracy" in result.series) == curve and ("test_accuracy" in result.scores) != curve
    assert any("the list of test_accuracy was left out" in remark for remark in reading.remarks) != curve
    assert result.params == {"num_layers": "18"} and "train_accuracy" in result.series


def test_a_line_without_end_costs_that_line(tmp_path: Path) -> None:
    reading = _read(tmp_path, "n.txt", "34 layers:\ntest acc: 0.9\n" + "test " * 20_000 + "\ntest acc: " + "1" * 60_000)
    assert _scores(reading) == [{"test_accuracy": 0.9}]
    assert sum("longer than 1000 characters" in remark for remark in reading.remarks) == 2


def test_runs_that_name_an_epoch_stay_runs(tmp_path: Path) -> None:
    for text in ("layers,epoch,test_acc\n18,30,0.5\n34,50,0.6\n", "run,epoch,test_acc\na,1,0.5\nb,2,0.6\n"):
        assert len(_read(tmp_path, "r.csv", text).results) == 2


def test_the_scale_is_a_columns() -> None:
    assert [scale_of(texts) for texts in (["62.1", "70.9", "1.0"], ["0.9", "98.2"], ["1", "0", "?", "98 %"])] == [
        "percent",
        "share",
        "",
    ]
    assert read_score("105").value is None and read_score("994").value == 0.994
    assert read_score("994", others="percent").value is None


def test_where_others_are_percent_one_is_one_percent(tmp_path: Path) -> None:
    text = "layers,test_acc,val_acc,train_acc\n18,62.1,0.7,1\n34,70.9,62.1,1\n50,1.0,105,1\n"
    reading = _read(tmp_path, "r.csv", text)
    assert [[s["test_accuracy"], s["validation_accuracy"]] for s in _scores(reading)] == [
        [0.621, 0.7],
        [0.709, 0.621],
        [0.01, None],
    ]
    flags = "\n".join(reading.results[2].flags)
    assert (
        "1.0 was read as 0.01, since the others of its column are in percent" in flags and "105 was not read" in flags
    )
    assert any("62.1 was read as 0.621" in flag for flag in reading.results[1].flags)
    notes = "34 layers, 60 epochs\ntrain: 62.1\ntest: 70.9\nval acc: 1.0\n\n34 layers, 9 epochs\ntest: 105\n"
    assert _scores(_read(tmp_path, "n.txt", notes)) == [
        {"train_accuracy": 0.621, "test_accuracy": 0.709, "validation_accuracy": 0.01},
        {"test_accuracy": None},
    ]


def test_mlflows_download(tmp_path: Path) -> None:
    head = "Start Time,Duration,Run ID,Name,Source Type,Status,epochs,num_layers,pretrained,val_acc,loss,loss\n"
    rows = (
        "2022-12-01 12:00:00,2.3min,aa,34-x,LOCAL,FINISHED,50,34.0,True,0.9634,ce,0.1\n"
        "2022-12-01 12:10:00,-,bb,,LOCAL,FAILED,30,44,False,,ce,\n"
        "2022-12-01 12:30:00,1.0s,cc,s,JOB,SCHEDULED,30,44,maybe,,ce,\n"
    )
    reading = _read(tmp_path, "runs.csv", head + rows)
    first, second = reading.results
    assert dict(first.params) == {"epochs": "50", "num_layers": "34", "use_pretrained_model": "1", "init": "imagenet"}
    assert (first.run_name, first.start_ms, first.end_ms) == ("34-x", 1_669_896_000_000, 1_669_896_138_000)
    assert (second.status, second.params["init"]) == ("FAILED", "scratch")
    assert any("line 4: left out, since it had not ended" in remark for remark in reading.remarks)
    head = "run_id,status,metrics.val_accuracy,metrics.loss,params.num_layers,tags.mlflow.runName\n"
    search = f"{head}aa,FINISHED,0.9,inf,34.0,owl\n"
    (found,) = _read(tmp_path, "search.csv", search).results
    assert (found.run_name, dict(found.params), set(found.scores)) == (
        "owl",
        {"num_layers": "34"},
        {"validation_accuracy"},
    )


def test_excels_ways(tmp_path: Path) -> None:
    german = (
        "sep=;\r\nRun;layers;learning rate;Test Acc (%);val loss;pretrained;Wer;Date;Status\r\n"
        "a;34;0,01;95,8;0,12;WAHR;Jörg;08.05.2019 07:47;success\r\nb;34;0,02;1,0;;nein;;;Stopped\r\n"
    )
    for data in (german.encode("cp1252"), b"\xef\xbb\xbf" + german.encode(), german.encode("utf-16")):
        first, second = _read(tmp_path, "r.csv", data).results
        assert (first.tags["wer"], first.place, first.start_ms) == ("Jörg", "r.csv, line 3", 1_557_301_620_000)
        assert (first.params["learning_rate"], first.params["init"], second.params["init"]) == (
            "0.01",
            "imagenet",
            "scratch",
        )
        assert {k: s.value for k, s in first.scores.items()} == {"test_accuracy": 0.958, "validation_loss": 0.12}
        assert (second.scores["test_accuracy"].value, second.status) == (0.01, "KILLED")
    assert any("read as Windows-1252" in r for r in _read(tmp_path, "r.csv", german.encode("cp1252")).remarks)
    with pytest.raises(TrackingError, match="is not UTF-8 text"):
        _read(tmp_path, "r.csv", b"a,b\n\x00\xff\x01")


def test_what_others_call_their_columns(tmp_path: Path) -> None:
    head = "model,pretrained,epochs,Acc@1,best_test_acc,final_test_acc\n"
    text = f"{head}resnet50,yes,90,70.9,71.0,70.9\nresnet18,no,90,74.3,74.5,74.4\n"
    first, second = _read(tmp_path, "r.csv", text).results
    assert first.params["num_layers"] == "50" and first.tags["best_test_acc"] == "71.0"
    assert [r.scores["test_accuracy"].value for r in (first, second)] == [0.709, 0.744]


INFO = {
    "run_id": "aa",
    "run_name": "owl",
    "status": "FINISHED",
    "start_time": 1628327784123,
    "artifact_uri": "s3://b/a",
}
LISTED = {"metrics": [{"key": "val_acc", "value": 0.91}], "params": [{"key": "epochs", "value": "30"}]}
STEPS = {"val_acc": [{"value": 0.91, "timestamp": 1, "step": 0}]}
FORMS = {
    "describe": {"info": INFO, "data": {"metrics": {"val_acc": 0.91}, "params": {"epochs": "30"}, "tags": {}}},
    "rest": {"run": {"info": INFO, "data": LISTED}},
    "search": {"runs": [{"info": {**INFO, "status": 3}, "data": LISTED}]},
    "export": {"system": {}, "info": {}, "mlflow": {"info": INFO, "params": {"epochs": "30"}, "metrics": STEPS}},
    "names": {"owl": {"epochs": 30, "val_acc": 0.91}, "fox": {"epochs": 3, "val_acc": 0.5}},
    "nested": {"name": "owl", "config": {"EPOCHS": 30}, "val": {"accuracy": 0.91}, "classes": ["a", "b"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_json_of_others(tmp_path: Path, form: str) -> None:
    result = _read(tmp_path, "r.json", json.dumps(FORMS[form])).results[0]
    assert (result.run_name, result.status, dict(result.params)) == ("owl", "FINISHED", {"epochs": "30"})
    assert {k: s.value for k, s in result.scores.items()} == {"validation_accuracy": 0.91}


JOB = {
    "TrainingJobName": "signs-1",
    "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/signs-1",
    "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/out/model.tar.gz"},
    "TrainingJobStatus": "Completed",
    "HyperParameters": {"learning_rate": "0.001", "use_pretrained_model": "1", "own": '"x"'},
    "ResourceConfig": {"InstanceType": "ml.p2.xlarge", "InstanceCount": 1},
    "TrainingStartTime": 1567896827.5,
    "TrainingEndTime": "2019-09-07T23:03:10Z",
    "FinalMetricDataList": [{"MetricName": "train:accuracy", "Value": 1.0}, {"MetricName": "", "Value": 1.0}],
    "BillableTimeInSeconds": 428,
}


def test_a_described_training_job(tmp_path: Path) -> None:
    stopped = {**JOB, "TrainingJobName": "signs-2", "TrainingJobArn": "arn:2", "TrainingJobStatus": "Stopped"}
    first, second = _read(tmp_path, "jobs.json", json.dumps([JOB, stopped])).results
    assert (first.run_name, first.start_ms, first.end_ms) == ("signs-1", 1_567_896_827_500, 1_567_897_390_000)
    assert dict(first.params) == {"learning_rate": "0.001", "use_pretrained_model": "1", "own": "x", "init": "imagenet"}
    assert {k: s.value for k, s in first.scores.items()} == {"billable_time_s": 428.0, "train_accuracy": 1.0}
    assert first.tags["job_arn"] == JOB["TrainingJobArn"] and first.tags["region"] == "us-east-1"
    assert second.status == "KILLED" and first.journal_id != second.journal_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"TrainingJobSummaries": [{"TrainingJobName": "a"}]}), "python -m trainers.jobs import"),
        (repr(JOB), "what Python prints, in single quotes"),
        ('{"cm": [[1, 2], [3, 4]]}', "cm was left out: it is not a list of numbers"),
    ],
)
def test_json_that_holds_no_run_is_named_for_what_it_is(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TrackingError, match=said):
        _read(tmp_path, "a.json", text)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "model,epochs,test_error\nresnet18,90,30.2\nresnet34,90,1\n", [0.698, 0.99]),
        ("b.csv", "model,Top-1 err\nresnet18,30.24%\nresnet34,26.7%\n", [0.6976, 0.733]),
        ("c.csv", "model;test error (%)\nresnet18;0,5\n", [0.995]),
        ("d.csv", "layers,test_err\n18,0.05\n34,?\n", [0.95, None]),
        ("e.csv", "layers,test_error,test_acc\n18,5.0,95.1\n", [0.951]),
        ("f.md", "| Network | Top-1 error |\n|---|---|\n| ResNet-18 | 30.43 |\n", [0.6957]),
    ],
)
def test_error_rates_are_scores(name: str, text: str, expected: list[float | None], tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    found = to_journal.read_file(file)
    assert [result.scores["test_accuracy"].value for result in found.results] == expected
    assert ("1 minus the error" in " ".join(found.remarks)) == (name != "e.csv")


def test_many_remarks_of_a_kind_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"run {n},3,word{n}\n" for n in range(40))
    file = tmp_path / "bad.csv"
    file.write_text(f"name,epochs,test_loss\n{rows}other,x,1\n", encoding="utf-8")
    assert main(["import", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert sum("test_loss" in line for line in said) == 10 and "30 more remarks like these" in said[-1]
    assert any("epochs 'x'" in line for line in said)
    assert main(["import", str(file), "--dry-run", "--all-remarks"]) == 0
    assert capsys.readouterr().err.count("test_loss") == 40


OF_OTHERS = [  # the head and rows of a table, and what each row's scores are
    ("Network,Acc@1,Acc@5,Params\nresnet18,69.758,89.078,11.7M\n", [{"test_accuracy": 0.69758, "test_top5": 0.89078}]),
    ("Model,Top-1 acc\nResNet-18,93.02%\nother,~76%\n", [{"test_accuracy": 0.9302}, {"test_accuracy": None}]),
    (
        "model,top1,top1_err,top5,top5_err,img_size\nresnet50.a1,80.2,19.8,94.6,5.4,288\n",
        [{"test_accuracy": 0.802, "test_top5": 0.946}],
    ),
    ("Model,Top-1 (%),Top-5 (%)\nr18,0.93,1\n", [{"test_accuracy": 0.0093, "test_top5": 0.01}]),
    ("Name,# layers,Test err(paper),Test err (ours)\nr20,20,8.75%,8.27%\n", [{"test_accuracy": 0.9173}]),
    ("Name,Test err(paper)\nr20,8.75%\n", [{"test_accuracy": 0.9125}]),
    ("model,error_rate\nresnet34,0.075\n", [{"test_accuracy": 0.925}]),
    ("model,Acc.\nresnet34,93.1\n", [{"test_accuracy": 0.931}]),
    ("model,Val Prec@1,Train Err@1\nresnet34,93.1,2.5\n", [{"validation_accuracy": 0.931, "train_accuracy": 0.975}]),
    ("model,Acc@1(gluon-cv),Acc@1,Acc@1 drop\nr18,70.9,70.2,0.7\n", [{"test_accuracy": 0.702}]),
    ("model,Top-3 Accuracy,Top-1,Gap\nr18,80%,70%,+5%\n", [{"test_accuracy": 0.7, "test_top3": 0.8}]),
    ("model,test_acc,Gain\nr18,70%,2\nup,+5%,2\n", [{"test_accuracy": 0.7}, {"test_accuracy": None}]),
    (
        "model,split,top-1\nr18,val,70%\nr18,test,69%\nr18,-,68%\n",
        [{"validation_accuracy": 0.7}, {"test_accuracy": 0.69}, {"test_accuracy": 0.68}],
    ),
    # Several scores in a column.
    (
        "model,Val acc / test acc\nr18,87.19% / 87.7%\nup,86.7% / —\n",
        [
            {"validation_accuracy": 0.8719, "test_accuracy": 0.877},
            {"validation_accuracy": 0.867, "test_accuracy": None},
        ],
    ),
    ("model,Top-1/Top-5 (%)\nr18,76.1/93.0\nup,77.0\n", [{"test_accuracy": 0.761, "test_top5": 0.93}]),
    ("model,train/test acc\nr18,0.99/0.95\n", [{"train_accuracy": 0.99, "test_accuracy": 0.95}]),
    # Errors that are losses, of which the accuracies tell.
    ("data,Val Error,Val Accuracy,Test error\nall,0.44,81.97%,0.51\n", [{"validation_accuracy": 0.8197}]),
    # Nothing says which of the two, and Keras' own is of the training pictures.
    ("model,CIFAR-10 acc,MNIST acc,train_acc\nr18,93.1,99.2,100\n", [{"train_accuracy": 1.0}]),
    ("model,accuracy,val_accuracy\nr18,0.9,0.8\n", [{"validation_accuracy": 0.8}]),
    ("model,precision,error,test_acc\nr18,0.9,0.8,0.7\n", [{"test_accuracy": 0.7}]),
    ("model,Acc@0.5,top-1 95% CI,test_acc\nr18,0.9,70,0.7\n", [{"test_accuracy": 0.7}]),
]


@pytest.mark.parametrize("suffix", [".csv", ".md"])
def test_accuracies_and_errors_in_the_words_of_others(tmp_path: Path, suffix: str) -> None:
    for n, (text, expected) in enumerate(OF_OTHERS):
        head, *rows = text.splitlines()
        if suffix == ".md":
            text = "\n".join(f"| {line.replace(',', ' | ')} |" for line in (head, *rows[:0]))
            text += "\n" + "|---" * len(head.split(",")) + "|\n"
            text += "\n".join("| [{}](https://a.b/c) | {} |".format(*_first(row)) for row in rows)
        reading = _read(tmp_path, f"{n}{suffix}", text)
        wanted = [{k.replace("top5", "top5_accuracy").replace("top3", "top3_accuracy"): v for k, v in e.items()}
                  for e in expected]  # fmt: skip
        assert _scores(reading) == wanted, head
        said = " ".join(reading.remarks)
        assert all(column in said for column in head.split(",") if "@" in column or "op-" in column), said


def _first(row: str) -> tuple[str, str]:
    name, _, others = row.partition(",")
    return name, others.replace(",", " | ")


@pytest.mark.parametrize(
    ("cell", "value", "why"),
    [
        ("~87%", None, "not a number"),
        ("99.63% ← Winner", 0.9963, "without what is behind it"),
        ("0.86 (example — your run may vary)", 0.86, "without what is behind it"),
        ("92.1% ✅", 0.921, "without what is behind it"),
        ("—", None, ""),
        ("90-95%", None, "not a number"),
        ("70.1 (top-5: 90.2)", None, "not a number"),
        ("0.91 F1", None, "not a number"),
    ],
)
def test_a_score_with_words_around_it(cell: str, value: float | None, why: str, tmp_path: Path) -> None:
    (run,) = _read(tmp_path, "n.md", f"| Epochs | Val Acc |\n|-|:-:|\n| 5 | {cell} |\n").results
    score = run.scores["validation_accuracy"]
    assert score.value == value and why in score.remark and run.params == {"epochs": "5"}


def test_only_what_pictures_are_normalised_by_or_from_is_no_start(tmp_path: Path) -> None:
    text = "| Normalization | Dataset | Start | Epochs | Test Acc |\n|---|---|---|---|---|\n"
    text += "| ImageNet | ImageNet | random init | 9 | 0.9 |\n| own | ImageNet | - | 9 | 0.8 |\n"
    text += "| own | own | ImageNet | 9 | 0.7 |\n"
    assert [run.params.get("init") for run in _read(tmp_path, "n.md", text).results] == ["scratch", None, "imagenet"]


def test_the_log_of_a_job_names_the_command_that_brings_it(tmp_path: Path) -> None:
    line = "\x1b[34m[07/14/2020 22:20:42 INFO 140558353856320] Epoch[0] Validation-accuracy=0.253906\x1b[0m\n"
    with pytest.raises(TrackingError, match="log by epoch") as caught:
        _read(tmp_path, "log.txt", line)
    assert "the log of a SageMaker job; `python -m trainers.jobs import --name-contains NAME`" in str(caught.value)


def test_where_a_score_came_from_is_not_the_score(tmp_path: Path) -> None:
    text = "Epochs: 50\n- val accuracy climbed from 93.70% to 98.88%\n\n[x] Run  ResNet-18, ~96% val accuracy\n"
    reading = _read(tmp_path, "n.md", text)
    assert _scores(reading) == [{"validation_accuracy": 0.9888}]
    assert "line 4 holds no result and was left out" in reading.remarks[0]  # nothing near is a score


def test_logs_by_epoch_in_the_words_of_others(tmp_path: Path) -> None:
    logs = {
        "timm": "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n0,2,1.9,40.5,70,0.1\n1,1,0.9,60.5,90,0.1\n",
        "fastai": "epoch,train_loss,valid_loss,error_rate,time\n0,2,1.9,0.595,00:12\n1,1,0.9,0.395,00:12\n",
        "fastai2": "epoch,train_loss,valid_loss,accuracy,time\n0,2,1.9,0.405,00:12\n1,1,0.9,0.605,00:12\n",
        "keras": "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.9,2,0.405,1.9\n1,1.0,1,0.605,0.9\n",
    }
    for name, text in logs.items():
        (run,) = _read(tmp_path, f"{name}.csv", text).results
        assert run.series["validation_accuracy"] == [(1, 0.405), (2, 0.605)], name
        assert run.series["validation_loss"] == [(1, 1.9), (2, 0.9)] and run.series["train_loss"] == [(1, 2), (2, 1)]


POINTS = [(1, 0.4), (2, 0.6)]
HISTORIES: dict[str, str | object] = {  # of other tools, each of the same training
    "trainer_state.json": {  # Hugging Face; a loss within an epoch belongs to that epoch
        "num_train_epochs": 2,
        "train_batch_size": 8,
        "log_history": [
            {"epoch": 0.5, "loss": 3.0, "step": 5},
            {"epoch": 1.0, "loss": 2.0, "step": 10},
            {"epoch": 1.0, "eval_accuracy": 0.4, "eval_runtime": 3.1, "step": 10},
            {"epoch": 2.0, "loss": 1.0, "step": 20},
            {"epoch": 2.0, "eval_accuracy": 0.6, "eval_runtime": 3.1, "step": 20},
            {"epoch": 2.0, "train_loss": 1.9, "train_runtime": 300.1, "step": 20},
        ],
    },
    "comet.json": [
        {"metricName": name, "metricValue": str(value), "step": 10 * epoch, "epoch": epoch, "timestamp": 1}
        for name, values in (("val_acc", (0.4, 0.6)), ("train_loss", (2.0, 1.0)))
        for epoch, value in enumerate(values, start=1)
    ],
    "mlflow.json": {
        "metrics": [
            {"key": name, "value": value, "step": epoch, "timestamp": 1}
            for name, values in (("val_acc", (0.4, 0.6)), ("train_loss", (2.0, 1.0)))
            for epoch, value in enumerate(values, start=1)
        ]
    },
    "clearml.json": {
        "accuracy": {"validation": {"name": "validation", "x": [1, 2], "y": [0.4, 0.6]}},
        "loss": {"train": {"name": "train", "x": [1, 2], "y": [2.0, 1.0]}},
    },
    "keras.csv": ",loss,accuracy,val_loss,val_accuracy\n0,2.0,0.5,2.1,0.4\n1,1.0,0.7,1.1,0.6\n",  # by pandas
    "lightning.csv": "epoch,step,train_loss_step,train_loss_epoch,val_acc\n0,49,3,,\n0,99,,,0.4\n0,99,,2,\n1,149,2,,\n"
    "1,199,,,0.6\n1,199,,1,\n",
    "fastai.csv": "epoch,train_loss,valid_loss,error_rate,time\n0,2,1,0.6,00:12\n1,1,#na#,0.4,1:00:12\n",
    "yolo.csv": "   epoch,  train/loss,  metrics/accuracy_top1,  val/loss\n  1,  2,  0.4,  1\n  2,  1,  0.6,  1\n",
    "mm.json": "".join(
        json.dumps(line) + "\n"
        for line in (
            {"mode": "train", "epoch": 1, "iter": 100, "loss": 2.0},
            {"mode": "val", "epoch": 1, "iter": 79, "accuracy_top-1": 40.0},
            {"mode": "train", "epoch": 2, "iter": 100, "loss": 1.0},
            {"mode": "val", "epoch": 2, "iter": 79, "accuracy_top-1": 60.0},
        )
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_histories_of_other_tools_are_one_run_each(name: str, tmp_path: Path) -> None:
    content = HISTORIES[name]
    (run,) = _read(tmp_path, name, content if isinstance(content, str) else json.dumps(content, indent=1)).results
    assert run.series["validation_accuracy"] == POINTS
    assert dict(run.series["train_loss"]) == {1: 2.0, 2: 1.0} and "step" not in run.series
    if name == "trainer_state.json":
        assert run.params == {"epochs": "2", "mini_batch_size": "8"}


def test_a_table_may_begin_with_the_euro_of_windows(tmp_path: Path) -> None:
    (run,) = _read(tmp_path, "a.csv", "€;epochs;test_acc\n3;9;0.9\n".encode("cp1252")).results
    assert run.scores["test_accuracy"].value == 0.9


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"step,value,timestamp\n1.0,0.5,2024-01-01\n", "one curve as TensorBoard exports it"),
        ("a.json", b'[{"name":"validation","x":[1],"y":[0.6],"type":"scatter"}]', "ClearML and Neptune do alike"),
        ("a.csv", b'"Step","sky - val_acc","sky - val_acc__MIN"\n0,0.5,0.5\n', r"wandb.Api\(\).run\(PATH\)"),
        ("history.npy", b"\x93NUMPY\x01", "an array of NumPy; write it as CSV"),
        ("history.pkl", b"\x80\x04\x95", "a pickle, never loaded here"),
        ("runs.parquet", b"PAR1\x15", r"pandas.read_parquet\('FILE'\).to_csv"),
        ("mlflow.db", b"SQLite format 3\0", "is a database"),
        ("events.out.tfevents.17.host", b"\x18\0\0", "an event file of TensorBoard"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=words):
        _read(tmp_path, name, content)


def test_a_table_without_a_score_is_named_with_its_columns(tmp_path: Path) -> None:
    text = "| Model | CIFAR-10 | Link |\n|---|---|---|\n| r18 | 93 | x |\n\n34 layers\ntest: 0.9\n"
    assert (
        "no column is a score's (Test acc, Top-1 err): Model, CIFAR-10, Link"
        in _read(tmp_path, "n.md", text).remarks[0]
    )


def test_what_other_trackers_save(tmp_path: Path) -> None:
    lines = "".join(
        json.dumps({"train_loss": 9 - n, "test_acc1": 10.5 * n, "epoch": n, "n_parameters": 22}) + "\n"
        for n in range(3)
    )
    for name in ("log.txt", "log.jsonl"):  # a line of JSON each epoch is one run with curves
        (run,) = _read(tmp_path, name, lines).results
        assert run.series["test_accuracy"] == [(1, 0.0), (2, 0.105), (3, 0.21)], name
        assert run.series["train_loss"] == [(1, 9.0), (2, 8.0), (3, 7.0)]
    text = "Name,State,Created,val/acc@1\nsun,finished,2023-03-01T10:00:00.000Z,76.1\nmoon,crashed,2023-03-01,75\n"
    sun, moon = _read(tmp_path, "wandb.csv", text).results
    assert (sun.status, sun.start_ms, moon.status) == ("FINISHED", 1_677_664_800_000, "FAILED")
    text = "number,value,datetime_start,datetime_complete,params_lr,params_num_layers,state\n"
    text += "0,0.91,2023-03-01 10:00:00,2023-03-01 10:10:00,0.1,34,COMPLETE\n1,,2023-03-01,2023-03-01,0.2,18,FAIL\n"
    first, second = _read(tmp_path, "trials.csv", text).results
    assert dict(first.params) == {"learning_rate": "0.1", "num_layers": "34"} and first.status == "FINISHED"
    assert second.status == "FAILED" and first.end_ms == 1_677_665_400_000
    for name, text in (("tb.csv", "Wall time,Step,Value\n1.5,1,0.5\n"), ("tb.json", "[[1.5, 1, 0.5], [2.5, 2, 0.6]]")):
        with pytest.raises(TrackingError, match="one curve as TensorBoard exports it"):
            _read(tmp_path, name, text)
