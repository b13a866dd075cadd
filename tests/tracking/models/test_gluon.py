"""The flavor: what is in a saved model, and that it answers the same wherever and however it is loaded."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Map
from PIL import Image

import tracking
from tests.support import ROOT
from tests.support.models import CLASS_NAMES, FAMILIES, ask, by_class, crops, network, probabilities, saved_model
from tracking import gluon as tracked_gluon
from tracking.errors import ModelError, TrackingError
from tracking.models import facts as model_format
from tracking.models import gluon
from tracking.models.package import encode_png
from tracking.models.serving import runtime as gluon_symbol
from tracking.models.serving.model import PictureModel

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
SMALL = (20, "v1", (3, 28, 28))


@pytest.fixture
def saved() -> Path:
    """A saved small network, read only."""
    return saved_model(*SMALL)


def pyfunc(path: Path, **how: Any) -> Any:
    return mlflow.pyfunc.load_model(str(path), suppress_warnings=True, **how)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_mxnet_onnx_and_pyfunc_agree(family: tuple[Any, ...]) -> None:
    net, model = network(*family), saved_model(*family)
    pictures = crops(5, family[2], seed=4)
    expected = probabilities(ask(net, pictures))
    planes = pictures.transpose(0, 3, 1, 2)
    block = gluon.load_model(model)
    assert type(block).__name__ == "SymbolBlock"
    in_mxnet = block(gluon_symbol.to_array(planes)).asnumpy()
    assert (in_mxnet == ask(net, pictures)).all()  # the very same weights
    in_onnx = gluon.load_model(model, runtime="onnx")(planes)
    assert np.abs(probabilities(in_onnx) - expected).max() <= 1e-5
    answer = pyfunc(model).predict(pictures)
    assert np.abs(by_class(answer, CLASS_NAMES) - expected).max() <= 1e-5
    assert list(answer["class_name"]) == [CLASS_NAMES[index] for index in expected.argmax(axis=1)]
    np.testing.assert_allclose(answer["probability"], expected.max(axis=1), atol=1e-5)


def test_every_form_of_input_gives_the_same(saved: Path, tmp_path: Path) -> None:
    net, pictures = network(*SMALL), crops(3, SMALL[2], seed=5)
    expected = probabilities(ask(net, pictures))
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, pixels in zip(files, pictures, strict=True):
        file.write_bytes(encode_png(pixels.transpose(2, 0, 1)))
    data, paths = [file.read_bytes() for file in files], [str(file) for file in files]
    model = pyfunc(saved)
    forms = [
        pictures,
        pictures.astype(np.int64),
        {"image": pictures},
        pd.DataFrame({"image": data}),
        pd.DataFrame({"image": paths, "label": ["a", "b", "c"]}),
        pd.Series(paths, name="image"),
        np.array(paths),
        np.array(data, object),
        data,
        paths,
        files,
        list(pictures),
        pictures.tolist(),
        {"image": data},
    ]
    for given in forms:
        for ask_it in (model.predict, model.get_raw_model().predict):
            assert np.abs(by_class(ask_it(given), CLASS_NAMES) - expected).max() <= 1e-5, type(given)
    for one in (data[0], paths[0], files[0], pictures[0]):
        assert len(model.get_raw_model().predict(one)) == 1


def test_a_table_is_answered_whatever_its_index(saved: Path) -> None:
    model, pictures = pyfunc(saved), crops(6, SMALL[2], seed=8)
    table = pd.DataFrame({"image": [encode_png(p.transpose(2, 0, 1)) for p in pictures], "label": list("abcdef")})
    table["right"] = model.predict(pictures)["probability"].to_numpy()
    assert table["right"].nunique() == 6
    for given in (
        table.iloc[3:],
        table[table["label"].isin(["b", "e"])],
        table.sample(frac=1, random_state=1),
        table.iloc[:0],
        pd.concat([table.iloc[:2], table.iloc[:2]]),
        table.set_index("label"),
        table.assign(fold=1).set_index(["fold", "label"]),
        table.set_index(pd.date_range("2020-01-01", periods=6))[2:],
    ):
        answer = model.predict(given)
        assert answer.index.equals(given.index)
        assert given.assign(found=answer["probability"])["found"].tolist() == pytest.approx(given["right"].tolist())
    assert model.predict(table["image"].iloc[4:]).index.tolist() == [4, 5]


def test_pictures_as_other_tools_keep_them(saved: Path) -> None:
    model, pictures = pyfunc(saved), crops(3, SMALL[2], seed=8)
    data = [encode_png(p.transpose(2, 0, 1)) for p in pictures]
    expected = model.predict(pictures)["probability"].tolist()
    spark = [{"height": 28, "width": 28, "nChannels": 3, "mode": 16, "data": p[..., ::-1].tobytes()} for p in pictures]
    flat, number = pictures.reshape(3, -1), [f"pixel{n}" for n in range(28 * 28 * 3)]
    for given in (
        pd.DataFrame({"path": "dbfs:/x.png", "length": 9, "content": data}),  # Spark's binaryFile
        pd.DataFrame({"image": spark}),  # Spark's image type in a table
        pd.DataFrame(spark),  # and as spark_udf hands it over
        pd.DataFrame({"0": data}),  # a column that spark_udf was given without a name
        pd.DataFrame({"image": [{"bytes": one, "path": None} for one in data], "label": 1}),  # Hugging Face's
        pd.DataFrame({"image": [Image.open(io.BytesIO(one)) for one in data]}),
        pd.DataFrame({"Image": [bytearray(one) for one in data]}).convert_dtypes(),
        pd.DataFrame(flat),
        pd.DataFrame(flat, columns=number).assign(label=3),
        pd.DataFrame({"emotion": 1, "pixels": [" ".join(map(str, row)) for row in flat], "Usage": "Training"}),
        [{"b64": base64.urlsafe_b64encode(one).decode().rstrip("=")} for one in data],
    ):
        assert model.predict(given)["probability"].tolist() == pytest.approx(expected), given
    grey = pd.DataFrame(np.repeat(pictures[..., :1], 3, axis=3).reshape(3, -1))
    expected = model.predict(grey)["probability"].tolist()
    cells = [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]
    given = pd.DataFrame(pictures[..., 0].reshape(3, -1), columns=cells)
    assert model.predict(given.assign(label=3))["probability"].tolist() == pytest.approx(expected)


def test_many_pictures_are_answered_in_batches(saved: Path) -> None:
    pictures = crops(150, SMALL[2], seed=6)
    answer = by_class(pyfunc(saved).predict(pictures), CLASS_NAMES)
    assert np.abs(answer - probabilities(ask(network(*SMALL), pictures))).max() <= 1e-5
    assert len(pyfunc(saved).predict(pictures[:0])) == 0


def test_only_the_likeliest_classes_on_request(saved: Path) -> None:
    model, pictures = pyfunc(saved), crops(2, SMALL[2])
    whole = model.predict(pictures)
    for answer, row in zip(
        model.predict(pictures, params={"top_k": 2})["probabilities"], whole["probabilities"], strict=True
    ):
        assert list(answer.items()) == sorted(row.items(), key=lambda one: -one[1])[:2]
    assert model.predict(pictures, params={"top_k": 99})["probabilities"][0] == whole["probabilities"][0]
    with pytest.raises(mlflow.MlflowException, match="top_k=-1"):
        model.predict(pictures, params={"top_k": -1})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pd.DataFrame({"image": [b"x"]}), "picture 1 of 1: not a readable"),
        (pd.DataFrame({"image": [encode_png(np.zeros((3, 28, 28), np.uint8)), "gone.png"]}), "picture 2 of 2"),
        (np.zeros((2, 3, 28, 28), np.uint8), r"shape \(2, 3, 28, 28\)"),
        (np.zeros((2, 28, 28, 3), np.float32) + 0.5, "no whole numbers"),
        (np.zeros((1, 1, 28, 28, 3), np.uint8), "shape"),
        (pd.DataFrame({"image": [None]}), "picture 1 of 1: nothing is there"),
        (pd.DataFrame({"price": [3], "colour": ["red"]}), "columns 'price', 'colour'; a column 'image'"),
        (pd.DataFrame(np.zeros((1, 700), int)), r"700 columns .*; .* or 784 columns of grey pixels \(2,352 of red"),
        (pd.DataFrame(np.zeros((1, 784)) + 0.5), "no whole numbers"),
        (pd.DataFrame(np.zeros((1, 784), int), columns=["0", *(f"0.{n}" for n in range(1, 784))]), "a header line"),
        (pd.DataFrame([{"height": 2, "width": 2, "nChannels": 3, "data": b"abc"}]), "as Spark keeps it"),
    ],
)
def test_bad_input_is_mlflows_error_for_bad_requests(given: Any, words: str, saved: Path) -> None:
    with pytest.raises(mlflow.MlflowException, match=words) as caught:
        pyfunc(saved).predict(given)
    assert caught.value.get_http_status_code() == 400


def test_the_folder_holds_what_it_says(saved: Path) -> None:
    names = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    code = {name for name in names if name.startswith("code/")}
    assert names - code == {
        "MLmodel",
        "model.json",
        "model.onnx",
        "model-symbol.json",
        "model-0000.params",
        "requirements.txt",
        "python_env.yaml",
        "conda.yaml",
        "input_example.json",
        "serving_input_example.json",
    }
    assert {Path(name).name for name in code} == {
        "__init__.py",
        "model.py",
        "files.py",
        "pictures.py",
        "runtime.py",
        "tables.py",
    }
    facts = model_format.read_facts(saved)
    assert facts["class_names"] == CLASS_NAMES and facts["image_shape"] == [3, 28, 28] and facts["epoch"] == 7
    description = yaml.safe_load((saved / "MLmodel").read_text())
    assert description["metadata"]["class_names"] == CLASS_NAMES
    assert set(description["flavors"]) == {"gluon", "python_function"}


def test_no_file_of_a_saved_model_is_a_pickle_or_has_to_be_run_to_be_read(saved: Path) -> None:
    for path in saved.rglob("*"):
        if path.is_file():
            start = path.read_bytes()[:2]
            assert start[:1] != b"\x80" and path.suffix not in (".pkl", ".pyc", ".npy", ".npz"), path


def test_the_code_in_a_model_reads_as_python_3_10(saved: Path) -> None:
    for path in saved.glob("code/*/*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 10))
        named = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)
        }
        assert not named & {"tracking", "trainers", "reports", "cv2", "onnx", "yaml"}, path


def test_the_signature_is_what_mlflow_would_write() -> None:
    from tracking.models import package

    expected = ModelSignature(
        None,
        Schema(
            [
                ColSpec("string", "class_name"),
                ColSpec("double", "probability"),
                ColSpec(Map(DataType.double), "probabilities"),
            ]
        ),
        ParamSchema([ParamSpec("top_k", "long", 0)]),
    )
    assert ModelSignature.from_dict(package.signature()) == expected
    assert {key: json.loads(text) for key, text in package.signature().items()} == {
        key: json.loads(text) for key, text in expected.to_dict().items() if text is not None
    }


def test_the_input_example_is_a_real_picture(saved: Path) -> None:
    model = pyfunc(saved)
    expected = probabilities(ask(network(*SMALL), crops(4, SMALL[2])[:1]))
    assert np.abs(by_class(model.predict(model.input_example), CLASS_NAMES) - expected).max() <= 1e-5


def test_requirements_are_ranges_that_this_environment_meets(saved: Path) -> None:
    from importlib.metadata import version

    from packaging.requirements import Requirement

    lines = (saved / "requirements.txt").read_text().splitlines()
    assert lines == gluon.get_default_pip_requirements()
    for line in lines:
        requirement = Requirement(line)
        assert requirement.specifier.contains(version(requirement.name)), line
    assert yaml.safe_load((saved / "conda.yaml").read_text()) == gluon.get_default_conda_env()
    assert any(line.startswith("mxnet") for line in gluon.get_default_pip_requirements(onnx=False))


def test_log_model_makes_a_logged_model_in_the_directory_s_store(workdir: Path, store: Any) -> None:
    client = store.client()
    run = client.create_run(store.experiment_id("exp"))
    client.log_metric(run.info.run_id, "validation_accuracy", 0.75, step=3)
    info = tracked_gluon.log_model(
        network(*SMALL),
        run_id=run.info.run_id,
        step=3,
        class_names=CLASS_NAMES,
        pictures=crops(2, SMALL[2]).transpose(0, 3, 1, 2),
        registered_model_name="owls",
    )
    assert info.signature is not None and info.registered_model_version == 1
    model = client.get_logged_model(info.model_id)
    assert {metric.key: metric.value for metric in model.metrics} == {"validation_accuracy": 0.75}
    for uri in (f"runs:/{run.info.run_id}/model", f"models:/{info.model_id}", "models:/owls/1"):
        for load in (tracking.load_model, tracked_gluon.load_model):
            assert type(load(uri)).__name__ == "SymbolBlock"
    assert not (workdir / "mlflow.db").exists() and not mlflow.is_tracking_uri_set()
    mlflow.set_tracking_uri(store.tracking_uri)
    try:
        for uri in (f"runs:/{run.info.run_id}/model", f"models:/{info.model_id}", "models:/owls/1"):
            assert len(mlflow.pyfunc.load_model(uri).predict(crops(1, SMALL[2]))) == 1
            assert type(gluon.load_model(uri)).__name__ == "SymbolBlock"
        with mlflow.start_run() as theirs:
            tracked_gluon.log_model(network(*SMALL), "theirs", class_names=CLASS_NAMES)
    finally:
        mlflow.set_tracking_uri(None)
    assert type(tracking.load_model(f"runs:/{theirs.info.run_id}/theirs")).__name__ == "SymbolBlock"


def test_log_model_to_a_run_of_this_package(workdir: Path, store: Any) -> None:
    pictures = crops(2, SMALL[2]).transpose(0, 3, 1, 2)
    with tracking.start_run("mine", system_metrics=False) as run:
        run.log_metrics({"validation_accuracy": 0.75}, step=3)
        kept = run.log_model(network(*SMALL), class_names=CLASS_NAMES, pictures=pictures, epoch=3)
        tracked_gluon.log_model(network(*SMALL), "within", class_names=CLASS_NAMES)
        for wrong, said in (
            ({"name": "model"}, "this run has 'model' already"),
            (
                {"name": "m", "run": run, "registered_model_name": "owls"},
                "does not take registered_model_name: .*promote",
            ),
            ({"name": "m", "class_names": ["one", "two"]}, "2 class names for a network of 4"),
        ):
            with pytest.raises(TrackingError, match=said):
                tracked_gluon.log_model(network(*SMALL), **wrong)
    assert kept == run.dir / "files" / "model" and not (workdir / "mlflow.db").exists()
    found = store.find_run(run.run_id)
    assert found.data.metrics.keys() == {"validation_accuracy", "model_size_bytes", "onnx_max_difference"}
    models = [store.client().get_logged_model(one.model_id) for one in found.outputs.model_outputs]
    assert sorted(model.name for model in models) == ["model", "within"]
    (metric,) = [m for model in models for m in model.metrics or [] if m.key == "validation_accuracy"]
    assert metric.value == 0.75 and type(tracking.load_model(f"runs:/{run.run_id}/model")).__name__ == "SymbolBlock"
    with pytest.raises(tracking.ModelError, match="log_model is outside of a run: give run="):
        tracked_gluon.log_model(network(*SMALL))


def test_a_model_carries_its_own_code_whatever_is_installed(saved: Path, tmp_path: Path) -> None:
    model = pyfunc(saved)
    assert model.loader_module.startswith("picture_model_")
    assert type(model.get_raw_model()).__module__ == model.loader_module
    # The flavor's own way in is the same code under its own name.
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    description = yaml.safe_load((copy / "MLmodel").read_text())
    description["flavors"]["python_function"]["loader_module"] = gluon.__name__
    (copy / "MLmodel").write_text(yaml.safe_dump(description))
    direct = mlflow.pyfunc.load_model(str(copy), model_config={"runtime": "mxnet"}).get_raw_model()
    assert isinstance(direct, PictureModel) and direct.network.runtime == "mxnet"


_BLOCKED = """
import json, sys, warnings
warnings.simplefilter("ignore")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[3].split(","):
            raise ImportError(name + " is not installed")
sys.meta_path.insert(0, Blocked())
"""
_WITHOUT_MXNET = (
    _BLOCKED
    + """
import mlflow, numpy
pictures = numpy.load(sys.argv[2])
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pictures)
example = model.predict(model.input_example)
alone = sorted(set(sys.modules) & {"mxnet", "cv2", "onnx", "tracking", "trainers"})
sys.argv[3] = "mxnet,gluoncv,onnx"  # the same where this package is installed
from tracking.models import gluon
logits = gluon.load_model(sys.argv[1])(pictures.transpose(0, 3, 1, 2)).tolist()
print(json.dumps([answer["probabilities"].tolist(), len(example), logits, alone]))
"""
)


def test_a_model_answers_where_mxnet_is_not_installed(saved: Path, tmp_path: Path) -> None:
    blocked = "mxnet,gluoncv,onnx,cv2,tracking,trainers"
    pictures = crops(3, SMALL[2], seed=8)
    np.save(tmp_path / "pictures.npy", pictures)
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_MXNET, str(saved), str(tmp_path / "pictures.npy"), blocked],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows, num_examples, logits, loaded = json.loads(done.stdout.splitlines()[-1])
    expected = ask(network(*SMALL), pictures)
    found = np.array([[row[name] for name in CLASS_NAMES] for row in rows])
    assert np.abs(found - probabilities(expected)).max() <= 1e-5 and num_examples == 1 and not loaded
    assert np.abs(np.array(logits) - expected).max() <= 1e-4


def test_a_model_answers_with_onnxruntime_numpy_and_pillow_alone(saved: Path, tmp_path: Path) -> None:
    """What will still be there when MLflow is not."""
    blocked = "mxnet,gluoncv,onnx,cv2,tracking,trainers,mlflow,pandas,scipy,sklearn,yaml,pyarrow"
    code = f"""{_BLOCKED}
import importlib, pathlib, numpy
(code,) = pathlib.Path(sys.argv[1], "code").glob("picture_model_*")
sys.path.insert(0, str(code.parent))
model = importlib.import_module(code.name + ".model").PictureModel(sys.argv[1])
print(json.dumps([model.class_names, model.probabilities(numpy.load(sys.argv[2])).tolist()]))
"""
    pictures = crops(3, SMALL[2], seed=8)
    np.save(tmp_path / "pictures.npy", pictures)
    asked = [sys.executable, "-c", code, str(saved), str(tmp_path / "pictures.npy"), blocked]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    class_names, found = json.loads(done.stdout)
    assert class_names == CLASS_NAMES
    assert np.abs(np.array(found) - probabilities(ask(network(*SMALL), pictures))).max() <= 1e-5


def test_loading_a_network_runs_no_code_of_the_folder(saved: Path, tmp_path: Path) -> None:
    import shutil

    folder, mark = tmp_path / "model", tmp_path / "executed"
    shutil.copytree(saved, folder)
    evil = f"open({str(mark)!r}, 'w')\n"
    for path in [*folder.glob("code/*/*.py"), folder / "mxnet.py", folder / "code" / "onnxruntime.py"]:
        path.write_text(evil)
    description = yaml.safe_load((folder / "MLmodel").read_text())
    description["flavors"]["python_function"]["loader_module"] = "evil"
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
    for runtime in ("auto", "onnx"):
        gluon.load_model(folder, runtime=runtime)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1}', "image_shape"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        gluon.load_model(tmp_path)


def test_an_unknown_runtime_is_named(saved: Path, workdir: Path) -> None:
    with pytest.raises(ModelError, match="legal are auto, onnx, mxnet"):
        gluon.load_model(saved, runtime="torch")
    with pytest.raises(ModelError, match="cannot be loaded"):
        gluon.load_model("runs:/0123456789abcdef0123456789abcdef/model")


def test_a_model_can_answer_with_names_alone_as_mlflows_evaluation_wants(
    saved: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = crops(8, SMALL[2], seed=5)
    model = pyfunc(saved, model_config={"output": "class_name"})
    expected = [CLASS_NAMES[index] for index in ask(network(*SMALL), pictures).argmax(axis=1)]
    assert model.predict(pictures).tolist() == expected
    table = pd.DataFrame({"image": [encode_png(p.transpose(2, 0, 1)) for p in pictures], "label": expected})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    with mlflow.start_run(experiment_id="0"):  # whatever another test has set
        found = mlflow.models.evaluate(model, table.iloc[3:], targets="label", model_type="classifier")
    assert found.metrics["accuracy_score"] == 1 and found.metrics["example_count"] == 5
    with pytest.raises(ValueError, match="legal are table, class_name"):
        pyfunc(saved, model_config={"output": "haiku"})


def test_the_private_names_of_mlflow_are_there() -> None:
    example = gluon.mlflow_internal("mlflow.models.utils", "_save_example")
    assert callable(example)
    with pytest.raises(ModelError, match=r"tested are >=3\.17"):
        gluon.mlflow_internal("mlflow.models.utils", "_gone")
