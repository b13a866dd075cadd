"""MXNet's files and SageMaker's archive from an unknown hand: read right, or refused in words; nothing of them runs."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracking.errors import ModelError
from tracking.models import archive as model_archive
from tracking.models.formats import params as params_file
from tracking.models.formats import symbol as symbol_graph
from tracking.models.serving import runtime
from trainers.networks import backend as door

pytestmark = pytest.mark.mxnet
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def params(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> Path:
    """Arrays as MXNet itself writes them."""
    mx = runtime.mxnet()
    mx.nd.save(str(path), {name: mx.nd.from_numpy(array.copy()) for name, array in arrays.items()})
    return path


def builtin(mx: Any) -> Any:
    """A graph of the form that the built-in algorithm leaves: raw pixels, a first BatchNorm, a softmax with a label."""
    s = mx.sym
    layer = s.BatchNorm(s.var("data"), fix_gamma=True, eps=2e-5, name="bn_data")
    layer = s.Convolution(layer, num_filter=4, kernel=(3, 3), pad=(1, 1), no_bias=True, name="conv0")
    layer = s.Activation(layer, act_type="relu", name="relu0")
    layer = s.Flatten(s.Pooling(layer, kernel=(7, 7), global_pool=True, pool_type="avg", name="pool1"))
    return s.SoftmaxOutput(s.FullyConnected(layer, num_hidden=3, name="fc1"), name="softmax")


def builtin_files(folder: Path, *, epochs: tuple[int, ...] = (13,), seed: int = 0) -> dict[str, bytes]:
    """The files of such a model, by name."""
    mx = runtime.mxnet()
    symbol = builtin(mx)
    shapes, _, states = symbol.infer_shape(data=(1, 3, 8, 8))
    rng = np.random.default_rng(seed)
    arrays = {
        f"arg:{name}": rng.normal(size=shape).astype(np.float32)
        for name, shape in zip(symbol.list_arguments(), shapes, strict=True)
        if name not in ("data", "softmax_label")
    }
    for name, shape in zip(symbol.list_auxiliary_states(), states, strict=True):
        arrays[f"aux:{name}"] = np.full(shape, 100 if name.endswith("var") else 120, np.float32)
    files = {
        "image-classification-symbol.json": symbol.tojson().encode(),
        "model-shapes.json": json.dumps([{"name": "data", "shape": [32, 3, 8, 8]}]).encode(),
    }
    for epoch in epochs:
        file = params(folder / "scratch.params", {name: array * epoch for name, array in arrays.items()})
        files[f"image-classification-{epoch:04d}.params"] = file.read_bytes()
    return files


def archive(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    """``model.tar.gz`` of these files, and of members without content."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return path


def test_arrays_are_read_as_mxnet_reads_them(tmp_path: Path) -> None:
    mx = runtime.mxnet()
    arrays = {
        "arg:weight": WEIGHT,
        "aux:var": np.array([1.5, -2], np.float32),
        "arg:half": np.array([[1, 2.5]], np.float16),
        "arg:double": np.array([np.pi]),
        "arg:bytes": np.arange(5, dtype=np.uint8),
        "arg:whole": np.array([-7], np.int64),
    }
    path = params(tmp_path / "x.params", arrays)
    found, theirs = params_file.read(path), mx.nd.load(str(path))
    assert found.keys() == theirs.keys() == arrays.keys()
    for name, array in found.items():
        assert array.dtype == theirs[name].dtype and (array == theirs[name].asnumpy()).all()
    assert set(params_file.weights(path)) == {"weight", "var", "half", "double", "bytes", "whole"}


def old_list(array: bytes) -> bytes:
    return struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 1) + b"w"


@pytest.mark.parametrize(
    "head",
    [struct.pack("<III", 2, 3, 4), struct.pack("<IIqq", 0xF993FAC8, 2, 3, 4)],
    ids=["before 0.9.5", "before 1.0"],
)
def test_files_of_old_are_read_as_mxnet_reads_them(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "old.params"
    path.write_bytes(old_list(head + struct.pack("<iii", 1, 0, 0) + WEIGHT.tobytes()))
    assert (params_file.read(path)["w"] == WEIGHT).all()
    assert (runtime.mxnet().nd.load(str(path))["w"].asnumpy() == WEIGHT).all()


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = params(tmp_path / "x.params", {"arg:weight": WEIGHT}).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.params").write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.params"):
            params_file.read(tmp_path / "cut.params")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<QQQ", 0x112, 0, 2**60), "arrays cannot be"),
        (old_list(struct.pack("<III", 2, 2**31, 2**31) + struct.pack("<iii", 1, 0, 0)), "bytes are announced"),
        (old_list(struct.pack("<I", 4_000_000)), "axes cannot be"),
        (old_list(struct.pack("<Iiiq", 0xF993FAC9, 0, 1, -5)), "shape"),
        (old_list(struct.pack("<Ii", 0xF993FAC9, 1)), "sparse"),
        (old_list(struct.pack("<II", 1, 1) + struct.pack("<iii", 1, 0, 99) + b"0000"), "type 99"),
        (b"x" * 100, "does not begin"),
        (b"", "the file ends before"),
    ],
)
def test_lengths_that_lie_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.params").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        params_file.read(tmp_path / "x.params")


_WHOLE = struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<Iiiqq", 0xF993FAC9, 0, 2, 3, 4)
_WHOLE += struct.pack("<iii", 1, 0, 0) + WEIGHT.tobytes() + struct.pack("<QQ", 1, 5) + b"arg:w"


@settings(max_examples=300, deadline=None)
@example(at=40, change=b"\x00\x00\x00 \x00")  # an array of (0, 2**61 and more)
@given(st.integers(0, len(_WHOLE) - 1), st.binary(min_size=1, max_size=9))
def test_any_change_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.params"
    path.write_bytes(_WHOLE[:at] + change + _WHOLE[at + len(change) :])
    try:
        params_file.read(path)
    except ModelError:
        pass


def test_a_softmax_and_its_label_are_cut_off() -> None:
    graph = symbol_graph.parse(builtin(runtime.mxnet()).tojson())
    assert "softmax_label" in graph.variables
    cut = symbol_graph.to_logits(graph)
    assert cut.nodes[cut.head].name == "fc1" and "softmax_label" not in cut.variables
    again = symbol_graph.parse(symbol_graph.to_json(cut))
    assert again == cut
    assert runtime.mxnet().sym.load_json(symbol_graph.to_json(cut)).list_outputs() == ["fc1_output"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"nodes": [], "heads": [[0, 0, 0]]}', "0 nodes"),
        ('{"nodes": [{"op": "relu", "name": "a", "inputs": [[0, 0, 0]]}], "heads": [[0, 0, 0]]}', "not before it"),
        ('{"nodes": [{"op": "relu", "name": "a", "inputs": [[-1, 0, 0]]}], "heads": [[0, 0, 0]]}', "not before it"),
        ('{"nodes": [{"op": "null", "name": "a"}], "heads": [[7, 0, 0]]}', "outputs"),
        ('{"nodes": [{"op": "null", "name": "a"}], "heads": [[0, 0, 0], [0, 0, 0]]}', "2 outputs"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_graph_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        symbol_graph.parse(text)


def test_an_archive_gives_its_network(tmp_path: Path) -> None:
    files = builtin_files(tmp_path)
    found = model_archive.take_out(archive(tmp_path / "model.tar.gz", files), tmp_path / "out")
    assert (found.epoch, found.image_shape, found.num_classes) == (13, (3, 8, 8), 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model-0000.params", "model-symbol.json"]
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8), np.uint8)
    # Gluon's own way: the block up to fc1, the very same file of weights.
    mx = runtime.mxnet()
    (tmp_path / "whole.params").write_bytes(files["image-classification-0013.params"])
    symbol = mx.sym.load_json(files["image-classification-symbol.json"].decode()).get_internals()["fc1_output"]
    symbol.save(str(tmp_path / "whole.json"))
    with door.quiet():
        block = mx.gluon.SymbolBlock.imports(str(tmp_path / "whole.json"), ["data"], str(tmp_path / "whole.params"))
    expected = block(runtime.to_array(pixels)).asnumpy()
    assert (runtime.SymbolNetwork(tmp_path / "out")(pixels) == expected).all()


def test_a_folder_of_the_same_files_does_as_well(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    for name, content in builtin_files(tmp_path).items():
        (tmp_path / "job" / name).write_bytes(content)
    assert model_archive.is_archive(tmp_path / "job")
    assert model_archive.take_out(tmp_path / "job", tmp_path / "out").epoch == 13


def _aside(files: dict[str, bytes]) -> dict[str, bytes]:
    """With what a Mac packs beside each file."""
    return {f"._{name}": b"\x00\x05\x16\x07" + bytes(200) for name in files} | files


def _within(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.tar.gz", _aside),
        ("model.tar.gz", lambda files: _within("model", _aside(files)) | _within("__MACOSX/model", files)),
        ("model.tar.gz", lambda files: _within("./opt/ml/model", files) | {"README.md": b"mine"}),
        ("model.tar.gz.1", dict),
        ("download", dict),
        ("model.tar.gz", lambda files: files | {"code/inference.py": b"", "code/x-symbol.json.py": b""}),
    ],
)
def test_an_archive_as_people_pack_it_is_read(name: str, change: Any, tmp_path: Path) -> None:
    path = archive(tmp_path / name, change(builtin_files(tmp_path)))
    assert model_archive.is_archive(path) and model_archive.epochs(path) == [13]
    assert model_archive.take_out(path, tmp_path / "out").image_shape == (3, 8, 8)


def test_an_archive_that_was_compressed_twice_or_unpacked_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", _within("model", builtin_files(tmp_path)))
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    path.write_bytes(gzip.compress(path.read_bytes()))
    for one in (path, tmp_path / "unpacked"):
        assert model_archive.is_archive(one)
        assert model_archive.take_out(one, tmp_path / "out").epoch == 13


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML page, such as the error that S3"),
        (b"\n<!DOCTYPE html><html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04rest of a zip", "a zip"),
        (b"", "an empty file"),
        (b"BZh91AY&SY", "compressed by bzip2 .unpack it and name the folder"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"7z\xbc\xaf'\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a RAR archive"),
        (b"\x28\xb5\x2f\xfd\x04", "compressed by zstd"),
        (gzip.compress(gzip.compress(gzip.compress(b"a", mtime=0), mtime=0), mtime=0), "gzipped more than 2 times"),
        (b"\x12\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "MXNet's weights alone"),
        (b"404: Not Found", "is text .'404: Not Found'"),
    ],
)
def test_what_is_no_archive_is_called_by_its_name(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        model_archive.take_out(tmp_path / "model.tar.gz", tmp_path / "out")


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (["xgboost-model"], "it holds xgboost-model .a model of XGBoost"),
        (["code/inference.py", "model.pth"], "inference.py, model.pth .a model of PyTorch"),
        (["1/saved_model.pb"], "a model of TensorFlow"),
        (["model.onnx"], "an ONNX model"),
        (["output/model.tar.gz"], "an archive inside; unpack this one"),
        (["cifar_resnet20_v1.params"], r"without their graph; Gluon's `net.export\(…\)` writes both"),
        (["image-classification-0010.params", "model-shapes.json"], "weights without their graph"),
        (["code/inference.py"], "it holds inference.py."),
    ],
)
def test_an_archive_of_something_else_is_called_by_what_it_holds(held: list[str], words: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", dict.fromkeys(held, b"x"))
    for read in (model_archive.epochs, lambda one: model_archive.take_out(one, tmp_path / "out")):
        with pytest.raises(ModelError, match=f"has no graph of a network.*{words}"):
            read(path)


@pytest.mark.parametrize("inside", ["", "output"])
def test_the_folder_of_a_job_s_output_will_do(inside: str, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    (folder / inside).mkdir(parents=True)
    archive(folder / inside / "model.tar.gz", builtin_files(tmp_path))
    assert model_archive.is_archive(folder) and model_archive.epochs(folder) == [13]
    (folder / "other").mkdir()
    archive(folder / "other" / "model.tar.gz", {"a": b""})
    assert not model_archive.is_archive(folder)


def test_an_archive_of_nothing_of_half_or_of_several_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is empty: the job left no model"):
        model_archive.image_shape(archive(tmp_path / "model.tar.gz", {}))
    files = builtin_files(tmp_path)
    path = archive(tmp_path / "model.tar.gz", files)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="cut short"):
        model_archive.take_out(path, tmp_path / "out")
    with pytest.raises(ModelError, match=r"several models \(a/, b/\)"):
        model_archive.epochs(archive(tmp_path / "model.tar.gz", _within("a", files) | _within("b", files)))


def test_among_several_epochs_one_must_be_chosen(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", builtin_files(tmp_path, epochs=(5, 10, 1234)))
    with pytest.raises(ModelError, match="epochs 5, 10, 1234"):
        model_archive.take_out(path, tmp_path / "out")
    with pytest.raises(ModelError, match="no weights of epoch 7"):
        model_archive.take_out(path, tmp_path / "out", epoch=7)
    assert model_archive.take_out(path, tmp_path / "out", epoch=1234).epoch == 1234
    written = params_file.weights(tmp_path / "out" / "model-0000.params")["bn_data_moving_mean"]
    assert written[0] == 120 * 1234


@pytest.mark.parametrize(
    ("numbers", "epoch", "best", "expected"),
    [
        ((10,), None, None, 10),
        ((10,), None, 3, 10),  # only the best is kept, whatever another log says
        ((1, 2, 13, 100), None, 13, 13),
        ((1, 2, 13, 100), 2, 13, 2),
        ((9999, 10000), None, 10000, 10000),
    ],
)
def test_the_epoch_is_read_with_all_its_digits(
    tmp_path: Path, numbers: tuple[int, ...], epoch: int | None, best: int | None, expected: int
) -> None:
    path = archive(tmp_path / "model.tar.gz", builtin_files(tmp_path, epochs=numbers))
    assert model_archive.epochs(path) == sorted(numbers)
    assert model_archive.take_out(path, tmp_path / "out", epoch=epoch, best_epoch=best).epoch == expected
    written = params_file.weights(tmp_path / "out" / "model-0000.params")["bn_data_moving_mean"]
    assert written[0] == 120 * expected


def test_a_best_epoch_that_is_not_there_is_not_replaced_by_another(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", builtin_files(tmp_path, epochs=(1, 2, 13)))
    with pytest.raises(ModelError, match="no weights of epoch 5; there are: 1, 2, 13"):
        model_archive.take_out(path, tmp_path / "out", best_epoch=5)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside-0001.params"),
        member("/tmp/outside-0001.params"),
        member("a/../../outside"),
        member("image-classification-0099.params", tarfile.SYMTYPE, "/etc/passwd"),
        member("image-classification-0099.params", tarfile.LNKTYPE, "../../etc/passwd"),
        member("pipe", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
    ],
    ids=lambda one: f"{one.name} {one.type!r}",
)
def test_an_archive_that_reaches_out_is_refused(hostile: tarfile.TarInfo, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "in" / "model.tar.gz", builtin_files(tmp_path), hostile)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match="no plain file inside the archive"):
        model_archive.take_out(path, tmp_path / "in" / "out")
    new = set(tmp_path.rglob("*")) - set(before)
    assert {one.relative_to(tmp_path / "in").parts[0] for one in new} == {"out"}


def test_code_in_an_archive_is_not_even_written(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    code = f"open({str(mark)!r}, 'w')".encode()
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(mark), "w")

    files = {
        "inference.py": code,
        "sitecustomize.py": code,
        "code/inference.py": code,
        "model.pkl": pickle.dumps(Evil()),
        **builtin_files(tmp_path),
    }
    model_archive.take_out(archive(tmp_path / "model.tar.gz", files), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model-0000.params", "model-symbol.json"]
    assert not mark.exists()


def test_pickled_weights_are_no_weights(tmp_path: Path) -> None:
    import pickle

    files = builtin_files(tmp_path) | {"image-classification-0013.params": pickle.dumps({"arg:w": [1.0]}) + b" " * 64}
    with pytest.raises(ModelError, match="not a readable MXNet parameter file"):
        model_archive.take_out(archive(tmp_path / "model.tar.gz", files), tmp_path / "out")


def test_an_operator_no_network_of_the_algorithm_has_is_refused(tmp_path: Path) -> None:
    files = builtin_files(tmp_path)
    graph = json.loads(files["image-classification-symbol.json"])
    next(node for node in graph["nodes"] if node["op"] == "Activation")["op"] = "Custom"
    files["image-classification-symbol.json"] = json.dumps(graph).encode()
    with pytest.raises(ModelError, match="uses Custom"):
        model_archive.take_out(archive(tmp_path / "model.tar.gz", files), tmp_path / "out")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_archive, "MAX_BYTES", 10_000_000)
    files = {"zeros": bytes(20_000_000), **builtin_files(tmp_path)}
    path = archive(tmp_path / "model.tar.gz", files)
    assert path.stat().st_size < 100_000
    with pytest.raises(ModelError, match="unpacks to more"):
        model_archive.take_out(path, tmp_path / "out")


def test_a_header_that_wants_gigabytes_is_refused(tmp_path: Path) -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 2**33
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(long_name.tobuf(tarfile.GNU_FORMAT) + bytes(100_000)))
    with pytest.raises(ModelError, match="bytes of headers before a file"):
        model_archive.take_out(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image-classification-symbol.json": None}, "no graph of a network"),
        ({"image-classification-0013.params": None}, "no weights"),
        ({"other-symbol.json": b"{}"}, "several graphs"),
        ({"model-shapes.json": b"[{}]"}, "model-shapes.json cannot be read"),
        ({"image-classification-symbol.json": b"not json"}, "not an MXNet graph"),
    ],
)
def test_an_archive_that_is_not_whole_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    files = {name: content for name, content in {**builtin_files(tmp_path), **change}.items() if content is not None}
    with pytest.raises(ModelError, match=words):
        model_archive.take_out(archive(tmp_path / "model.tar.gz", files), tmp_path / "out")


@pytest.mark.parametrize("cut", [0, 10, 100, 1000])
def test_a_damaged_archive_is_refused(cut: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", builtin_files(tmp_path))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"model\.tar\.gz"):
        model_archive.take_out(path, tmp_path / "out")
