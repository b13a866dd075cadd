"""``trainers.evaluate``: which pictures are scored, what the score is called, what it never replaces."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import reports
from tests.support.forked import Forked
from tests.support.pictures import class_folders
from tests.support.stores import make_store
from tracking import names
from tracking import store as stores
from trainers import evaluate, run
from trainers.data import open_dataset

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
TINY = ["--num-layers=20", "--image-shape=3,8,8", "--mini-batch-size=8", "--epochs=1", "--split-seed=5"]
PER_CLASS = 30  # of two classes: 42 are learned from, 6 choose, 12 test


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with photos/ and a run that learned from them, in its own directory; the run's id."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(variable, raising=False)
        make_store(folder)
        class_folders(folder / "photos", PER_CLASS)
        assert run.main([*TINY, "--dataset=photos"]) == 0
        (found,) = stores.resolve(folder).runs()
        yield folder, found.info.run_id


@pytest.fixture
def photos(trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    monkeypatch.chdir(trained[0])
    return trained


def logged(folder: Path) -> Any:
    (found,) = stores.resolve(folder).runs()
    return found


def artifacts(folder: Path) -> dict[str, str]:
    root = Path(logged(folder).info.artifact_uri.removeprefix("file://"))
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


def own_score(folder: Path) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
    """Everything that says how good a run is on its own test split."""
    found = logged(folder)
    metrics = {k: v for k, v in found.data.metrics.items() if k.startswith("test_")}
    tags = {k: v for k, v in found.data.tags.items() if k.startswith("test_")}
    files = {k: v for k, v in artifacts(folder).items() if k.endswith(("/test.parquet", "/confusion_matrix.svg"))}
    assert len(metrics) >= 3 and len(files) == 2
    return metrics, tags, files


def predictions(folder: Path, name: str) -> pd.DataFrame:
    root = Path(logged(folder).info.artifact_uri.removeprefix("file://"))
    return pd.read_parquet(root / "predictions" / f"{name}.parquet")


def mixed(target: Path, num_learned: int, per_class: int = 20) -> Path:
    """Other pictures of the same classes, ``num_learned`` of which the run learned from."""
    class_folders(target, per_class, start=1000)
    train = open_dataset("photos", split_seed=5).train
    for number, key in enumerate(train.keys[:num_learned]):
        shutil.copy(Path("photos") / key, target / key.partition("/")[0] / f"copy{number}.png")
    return target


def test_another_folder_is_scored_whole_under_a_name_of_its_own(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    before = own_score(folder)
    mixed(folder / "field_test 2", num_learned=7)
    assert evaluate.main([run_id, "--dataset", "field_test 2"]) == 0
    said = capsys.readouterr().out
    assert f"{run_id[:8]}  field-test-2 accuracy" in said and "on 47 pictures" in said
    assert "7 of them are training pictures of this run" in said
    assert own_score(folder) == before
    data, table = logged(folder).data, predictions(folder, "field-test-2")
    assert data.metrics["field-test-2_num_images"] == len(table) == 47
    assert data.metrics["field-test-2_accuracy"] == pytest.approx((table["label"] == table["predicted"]).mean())
    assert data.tags["field-test-2_overlap_images"] == "7" and len(data.tags["field-test-2_dataset_digest"]) == 32
    assert names.other_data(data.tags) == ["field-test-2"]
    card = reports.run_card(run_id, stores.resolve(folder)).to_text().replace("\u00a0", " ")
    assert "| field-test-2 |" in card and "7 of the 47 pictures of field-test-2 are training pictures" in card
    assert "never seen" not in card and "on 12 pictures it was not trained on" in card
    assert "Other metrics" not in card
    page = reports.leaderboard(stores.resolve(folder))
    assert page["test_accuracy"].tolist() == [before[0]["test_accuracy"]] and "field-test" not in page.to_text()


def test_a_score_by_the_onnx_copy_needs_no_mxnet(photos: tuple[Path, str]) -> None:
    folder, run_id = photos
    class_folders(folder / "later", 5, start=3000)
    code = f"""
import sys
for name in [name for name in sys.modules if name.partition(".")[0] in ("trainers", "mxnet", "gluoncv")]:
    del sys.modules[name]
sys.modules["mxnet"] = sys.modules["gluoncv"] = None
from trainers.evaluate import main
sys.exit(main(["{run_id}", "--dataset", "later"]))
"""
    process = Forked("-c", code)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert logged(folder).data.metrics["later_num_images"] == 10


def test_several_other_sets_stand_side_by_side(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    before = own_score(folder)
    for number in (1, 2):
        class_folders(folder / f"set{number}", 3, start=2000 * number)
        assert evaluate.main([run_id, "--dataset", f"set{number}"]) == 0
    assert "none of them is a training picture of this run" in capsys.readouterr().out
    data = logged(folder).data
    assert data.metrics["set1_num_images"] == data.metrics["set2_num_images"] == 6
    assert data.tags["set1_dataset_digest"] != data.tags["set2_dataset_digest"]
    assert own_score(folder) == before


def test_a_name_with_other_pictures_is_said_and_can_be_another(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    class_folders(folder / "changing", 3, start=5000)
    assert evaluate.main([run_id, "--dataset", "changing"]) == 0
    first = logged(folder).data.tags["changing_dataset_digest"]
    assert evaluate.main([run_id, "--dataset", "changing"]) == 0
    assert "other pictures" not in capsys.readouterr().out
    class_folders(folder / "changing", 4, start=6000)
    assert evaluate.main([run_id, "--dataset", "changing", "--name", "changed"]) == 0
    assert logged(folder).data.tags["changing_dataset_digest"] == first
    assert evaluate.main([run_id, "--dataset", "changing"]) == 0
    said = capsys.readouterr().out
    assert f"changing was of other pictures before (digest {first}" in said and "--name" in said
    assert logged(folder).data.metrics["changing_num_images"] == 8
    for wrong in ("test", "a_b", "../x", "", "validation"):
        assert evaluate.main([run_id, "--dataset", "changing", "--name", wrong]) == 2
        assert "--name" in capsys.readouterr().err


def test_a_data_set_with_splits_is_scored_on_its_test_split_or_the_one_named(
    photos: tuple[Path, str], capsys: Any
) -> None:
    folder, run_id = photos
    before = own_score(folder)
    for number, split in enumerate(("train", "val", "test")):
        class_folders(folder / "parted" / split, 3 + number, start=7000 + 100 * number)
    assert evaluate.main([run_id, "--dataset", "parted"]) == 0
    assert evaluate.main([run_id, "--dataset", "parted", "--split", "validation"]) == 0
    assert evaluate.main([run_id, "--dataset", "parted", "--split", "train"]) == 0
    metrics = logged(folder).data.metrics
    assert [metrics[f"parted{s}_num_images"] for s in ("", "-validation", "-train")] == [10, 8, 6]
    shutil.rmtree(folder / "parted" / "test")
    assert evaluate.main([run_id, "--dataset", "parted"]) == 2
    assert "parted has no test split; it has train, validation" in capsys.readouterr().err
    # The folder of one split alone says nothing by its name.
    assert evaluate.main([run_id, "--dataset", "parted/val"]) == 0
    assert logged(folder).data.metrics["parted-val_num_images"] == 8
    class_folders(folder / "unparted", 3, start=8000)
    assert evaluate.main([run_id, "--dataset", "unparted", "--split", "validation"]) == 2
    assert "has no splits of its own" in capsys.readouterr().err
    assert evaluate.main([run_id, "--split", "train"]) == 2
    assert "--split train is for other data" in capsys.readouterr().err
    assert own_score(folder) == before


def test_the_runs_own_test_split_is_found_wherever_it_lies(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    before = own_score(folder)
    shutil.copytree("photos", "moved")
    test = open_dataset("photos", split_seed=5).test
    assert test is not None
    for key in test.keys:
        (folder / "only" / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("photos") / key, folder / "only" / key)
    known = set(logged(folder).data.metrics)
    for data in ([], ["--dataset", "moved"], ["--dataset", "only"]):
        assert evaluate.main([run_id, *data]) == 0
        assert f"{run_id[:8]}  test accuracy" in capsys.readouterr().out
    after = own_score(folder)
    assert after[0] == pytest.approx(before[0]) and after[1] == before[1]
    assert set(logged(folder).data.metrics) == known


def test_own_pictures_that_changed_are_not_the_runs_test_split(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    before = own_score(folder)
    shutil.copytree("photos", "kept")
    try:
        class_folders(folder / "photos", PER_CLASS + 10, start=0)
        assert evaluate.main([run_id]) == 2
        said = capsys.readouterr().err
        assert "no longer the test pictures of this run" in said and "--dataset photos" in said
        assert own_score(folder) == before
        # As another data set it is scored, and whether it was learned from cannot be told.
        assert evaluate.main([run_id, "--dataset", "photos"]) == 0
        said = capsys.readouterr().out
        assert "on 80 pictures" in said and "not known whether this run was trained on some of them" in said
        assert logged(folder).data.tags["photos_overlap_images"] == "unknown"
        card = reports.run_card(run_id, stores.resolve(folder)).to_text().replace("\u00a0", " ")
        assert "never seen" not in card and "not known" in card
    finally:
        shutil.rmtree("photos")
        shutil.copytree("kept", "photos")
    assert own_score(folder) == before


def test_a_test_score_that_an_earlier_version_replaced_comes_back(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    before, client = own_score(folder), stores.resolve(folder).client()
    client.set_tag(run_id, names.TEST_DATASET_DIGEST, "f" * 32)
    client.log_metric(run_id, names.TEST_ACCURACY, 0.99, step=1)
    assert evaluate.main([run_id]) == 0
    assert f"of other pictures before (digest {'f' * 32}, accuracy 0.9900)" in capsys.readouterr().out
    after = own_score(folder)
    assert after[0] == pytest.approx(before[0]) and after[1] == before[1]


def test_another_sizing_is_another_score(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    before = own_score(folder)
    assert evaluate.main([run_id, "--fit", "squash"]) == 0
    assert "test-squash accuracy" in capsys.readouterr().out
    data = logged(folder).data
    assert data.metrics["test-squash_num_images"] == 12
    assert data.tags["test-squash_dataset_digest"] == data.tags["test_dataset_digest"]
    assert own_score(folder) == before and len(predictions(folder, "test-squash")) == 12
    assert evaluate.main([run_id, "--fit", "crop"]) == 0
    assert own_score(folder)[0] == pytest.approx(before[0])


def test_a_metric_that_somebody_else_logged_stays(photos: tuple[Path, str], capsys: Any) -> None:
    folder, run_id = photos
    class_folders(folder / "holdout", 3, start=9000)
    stores.resolve(folder).client().log_metric(run_id, "holdout_accuracy", 0.5)
    assert evaluate.main([run_id, "--dataset", "holdout"]) == 2
    assert "holdout_accuracy" in capsys.readouterr().err
    assert evaluate.main([run_id, "--dataset", "holdout", "--fit", "squash"]) == 0
    assert logged(folder).data.metrics["holdout_accuracy"] == 0.5


def test_a_run_without_a_test_set_gets_the_first_one_given(
    photos: tuple[Path, str], workdir: Path, capsys: Any
) -> None:
    class_folders(workdir / "here" / "train", 12)
    class_folders(workdir / "here" / "val", 4, start=100)
    make_store(workdir)
    assert run.main([*TINY, "--dataset=here"]) == 0
    (found,) = stores.resolve(workdir).runs()
    run_id = found.info.run_id
    assert evaluate.main([run_id]) == 2 and "no test split" in capsys.readouterr().err
    class_folders(workdir / "exam", 5, start=300)
    shutil.copytree("here/train/cat", "exam/cat/learned")
    assert evaluate.main([run_id, "--dataset", "exam", "--fit", "squash"]) == 0
    metrics = logged(workdir).data.metrics
    assert "test_accuracy" not in metrics and metrics["exam-squash_num_images"] == 22
    assert evaluate.main([run_id, "--dataset", "exam"]) == 0
    said = capsys.readouterr().out
    assert "had no test set" in said and "12 of them are training pictures" in said
    data = logged(workdir).data
    assert data.metrics["test_num_images"] == 22 and data.tags["test_overlap_images"] == "12"
    class_folders(workdir / "other", 5, start=400)
    assert evaluate.main([run_id, "--dataset", "other"]) == 0
    after = logged(workdir).data
    assert after.metrics["other_num_images"] == 10
    assert after.tags["test_dataset_digest"] == data.tags["test_dataset_digest"]
    assert after.metrics["test_accuracy"] == data.metrics["test_accuracy"]


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("new photos",), "new-photos"),
        (("a_b", "x"), "a-b"),
        (("test", "photos"), "photos-test"),
        (("Val", "my/photos"), "my-photos-Val"),
        (("test", "Test", "", "packed"), "packed-test"),
        (("test",), "other-test"),
        (("best", "train"), "other-best"),
        (("фото",), "фото"),
        (("caf\udce9",), "caf"),
        (("...", ""), "other"),
        (("n" * 300,), "n" * 60),
    ],
)
def test_a_data_sets_name_is_never_a_splits(parts: tuple[str, ...], name: str) -> None:
    found = names.data_name(*parts)
    assert found == name and names.data_name(found) == found
    assert all(("metric", key) not in names.ALL for key in (names.accuracy(found), names.num_images(found)))
