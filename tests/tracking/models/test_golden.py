"""Models that other Pythons saved, at an earlier time, answer as they did then, in MLflow and through the flavor."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import mlflow
import numpy as np
import pytest

from tests.support import GOLDEN
from tests.support.models import by_class, probabilities
from tracking.models import facts as model_format
from tracking.models import gluon
from tracking.models.serving import runtime as gluon_symbol
from tracking.models.serving.pictures import Sizing, read

pytestmark = pytest.mark.mxnet


@pytest.mark.parametrize("version", ["310", "312"])
def test_a_model_that_another_python_saved_gives_the_same_answers(version: str, tmp_path: Path) -> None:
    with tarfile.open(GOLDEN / f"model_python{version}.tar.gz") as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):  # extractall wants a filter that not every Python 3.10 knows
            content = tar.extractfile(member)
            assert content is not None
            (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / member.name).write_bytes(content.read())
    folder = tmp_path / "model"
    assert f"python_version: {version[0]}.{version[1:]}." in (folder / "MLmodel").read_text(encoding="utf-8")
    expected = np.array([json.loads((folder / "expected.json").read_text())])
    facts = model_format.read_facts(folder)
    names = facts["class_names"]
    # The code in it, of its own time.
    for runtime in ("onnx", "mxnet"):
        model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True, model_config={"runtime": runtime})
        answer = model.predict(model.input_example)
        assert np.abs(by_class(answer, names) - expected).max() <= 1e-6
        assert answer["class_name"][0] == names[int(expected.argmax())]
    # Today's code.
    example = json.loads((folder / "input_example.json").read_text())["data"][0][0]
    pixels = Sizing(facts).apply(read(example, 3, served=True))[None]
    for found in (
        gluon.load_model(folder, runtime="onnx")(pixels),
        gluon.load_model(folder)(gluon_symbol.to_array(pixels)).asnumpy(),
    ):
        assert np.abs(probabilities(found) - expected).max() <= 1e-6
