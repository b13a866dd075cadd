"""What a saved model costs: evaluating through it, logging it, asking it over HTTP.

``python tests/benchmarks/bench_models.py [evaluate|runtimes|log|serve|families]``. The peers are measured in the same
run: bare onnxruntime and MXNet's own step for evaluation, the plain symbol and params pair for logging. Settings in
brackets are the targets. ``families`` starts a real ``mlflow models serve`` for every family and compares its answers
with MXNet's.
"""

from __future__ import annotations

import base64
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = 2
os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = str(THREADS)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from tests.support.models import CLASS_NAMES, FAMILIES, ask, crops, network, probabilities, save  # noqa: E402
from tests.support.serving import serve  # noqa: E402

NET = (44, "v1", (3, 28, 28))
IMAGES, ROUNDS, BATCH = 2048, 5, 64
REQUESTS = 300


def interleaved(works: dict[str, Callable[[], Any]], images: int) -> dict[str, float]:
    """Images a second of each, the best of rounds taken in turn, so that a busy moment hits all alike."""
    best = dict.fromkeys(works, 0.0)
    for work in works.values():
        work()
    for _ in range(ROUNDS):
        for name, work in works.items():
            best[name] = max(best[name], rate(work, images))
    return best


def rate(work: Callable[[], Any], images: int) -> float:
    """Images a second of one round."""
    begin = time.perf_counter()
    work()
    return images / (time.perf_counter() - begin)


def evaluate(folder: Path) -> None:
    """The 44-layer net on 28 x 28 pictures through the logged model, bare onnxruntime and MXNet."""
    import mlflow
    import onnxruntime

    from trainers.networks import resnet

    net = network(*NET)
    model = save(net, folder / "evaluate")
    pictures = crops(IMAGES, NET[2], seed=1)
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), options, providers=["CPUExecutionProvider"])
    loaded = mlflow.pyfunc.load_model(str(model), suppress_warnings=True, model_config={"num_threads": THREADS})
    net.hybridize(static_alloc=True, static_shape=True)

    def bare() -> None:
        for start in range(0, IMAGES, BATCH):
            session.run(None, {"data": planes[start : start + BATCH]})

    def mxnet() -> None:
        for start in range(0, IMAGES, 256):
            net(resnet.to_array(planes[start : start + 256])).asnumpy()

    rates = interleaved({"model": lambda: loaded.predict(pictures), "bare": bare, "mxnet": mxnet}, IMAGES)
    share = rates["model"] / rates["bare"]
    print(
        f"evaluate, {THREADS} threads: logged model {rates['model']:.0f} images/s [1000], bare onnxruntime"
        f" {rates['bare']:.0f} ({share:.1%} of it) [95 %], MXNet {rates['mxnet']:.0f}"
        f" ({rates['model'] / rates['mxnet']:.2f} times it)"
    )


RUNTIMES = (NET, (34, "v1", (3, 112, 112)), (34, "v1", (3, 224, 224)), (50, "v1b", (3, 224, 224)))


def runtimes(folder: Path) -> None:
    """What ``trainers.evaluate --runtime auto`` rests on: is the ONNX copy faster than MXNet, whatever the network?"""
    from tracking.models.serving.runtime import OnnxNetwork
    from trainers.networks import resnet, saved

    for number, family in enumerate(RUNTIMES):
        side = family[2][1]
        batch, rounds = (256, 4) if side < 64 else (16, 1)
        model = save(network(*family, thin=False), folder / f"runtime-{number}")
        block, _ = saved.load_model(model)
        onnx = OnnxNetwork(model / "model.onnx", THREADS)
        planes = np.ascontiguousarray(crops(batch, family[2]).transpose(0, 3, 1, 2), np.float32)

        def in_mxnet(block: Any = block, planes: Any = planes, rounds: int = rounds) -> None:
            for _ in range(rounds):
                block(resnet.to_array(planes)).asnumpy()

        def in_onnx(onnx: Any = onnx, planes: Any = planes, rounds: int = rounds) -> None:
            for _ in range(rounds):
                onnx(planes)

        rates = interleaved({"onnx": in_onnx, "mxnet": in_mxnet}, batch * rounds)
        print(
            f"runtimes, {family[0]} layers {family[1]} at {side} px: ONNX {rates['onnx']:.1f} images/s, MXNet"
            f" {rates['mxnet']:.1f}, {rates['onnx'] / rates['mxnet']:.2f} times it [1]"
        )


def log(folder: Path) -> None:
    """What logging the model adds to a run: packaging, ONNX export and comparison, and MLflow's part, a copy.

    Beside it the plain pair's own time. A run logs once, so the first time counts, imports included.
    """
    from tracking.models import package
    from trainers.networks import resnet, saved

    for number, (layers, side, count) in enumerate(((44, 28, 8), (34, 112, 2))):
        net = network(layers, "v1", (3, side, side), 10, thin=False)
        pictures = crops(count, (3, side, side)).transpose(0, 3, 1, 2)
        ask(net, crops(count, (3, side, side)))  # a run has validated
        meta = {"class_names": [str(one) for one in range(10)], "image_shape": [3, side, side]}
        pairs, packages = [], []
        for turn in range(ROUNDS):
            target = folder / f"log-{number}-{turn}"
            begin = time.perf_counter()
            saved.save_model(net, target, meta)
            between = time.perf_counter()
            package.package(target, pictures=pictures, ask=lambda p, n=net: n(resnet.to_array(p)).asnumpy())
            pairs.append(between - begin)
            packages.append(time.perf_counter() - between)
        mlflow_s = into_mlflow(folder / f"store-{number}", folder / f"log-{number}-0")
        print(
            f"log, {layers} layers at {side} px: {packages[0]:.2f} s for the package the first time (best"
            f" {min(packages):.2f}) and {mlflow_s:.2f} s in MLflow, together {packages[0] + mlflow_s:.2f} s [1] more"
            f" than the pair's own {min(pairs):.2f} s"
        )


def into_mlflow(folder: Path, model: Path) -> float:
    """Seconds by which a run's way into MLflow gets longer with this model; the best of rounds."""
    from tracking import store as stores
    from tracking.journal import Journal
    from tracking.store.replay import replay

    folder.mkdir()
    store = stores.resolve(folder)
    store.client()
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for with_model, found in times.items():
            journal = Journal.create(store.journals, experiment="log", run_name="run")
            journal.metrics({"validation_accuracy": 0.5}, step=1)
            if with_model:
                journal.artifact(model)
            journal.status("FINISHED")
            journal.close()
            begin = time.perf_counter()
            replay(journal.dir, store)
            found.append(time.perf_counter() - begin)
    return min(times[True]) - min(times[False])


def over_http(folder: Path) -> None:
    """One 28 x 28 PNG a request over loopback, from a real server."""
    from tracking.models.package import encode_png

    model = save(network(*NET), folder / "served")
    picture = crops(1, NET[2])[0].transpose(2, 0, 1)
    payload = {"inputs": [base64.b64encode(encode_png(picture)).decode()]}
    with serve(model) as server:
        times = []
        for _ in range(REQUESTS):
            begin = time.perf_counter()
            status, _ = server.ask(payload)
            times.append((time.perf_counter() - begin) * 1000)
            assert status == 200
        idle = []
        for _ in range(REQUESTS):
            begin = time.perf_counter()
            server.is_alive()
            idle.append((time.perf_counter() - begin) * 1000)
    cuts = statistics.quantiles(times[20:], n=20)
    print(
        f"serve, 44 layers, one picture: p50 {statistics.median(times[20:]):.1f} ms [15], p95 {cuts[18]:.1f} ms;"
        f" the server's own /ping {statistics.median(idle):.1f} ms"
    )


def families(folder: Path) -> None:
    """Image bytes in, the same probabilities out, from a real ``mlflow models serve`` of every family."""
    from tracking.models.package import encode_png

    for number, family in enumerate(FAMILIES):
        net = network(*family, thin=False)
        pictures = crops(4, family[2], seed=2)
        expected = probabilities(ask(net, pictures))
        texts = [base64.b64encode(encode_png(one.transpose(2, 0, 1))).decode() for one in pictures]
        with serve(save(net, folder / f"family-{number}")) as server:
            status, answer = server.ask({"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}})
        assert status == 200, answer
        found = np.array([[row["probabilities"][name] for name in CLASS_NAMES] for row in answer["predictions"]])
        difference = np.abs(found - expected).max()
        print(f"family {family}: {difference:.1e} from MXNet over HTTP [1e-4]")
        assert difference <= 1e-4


def main() -> None:
    wanted = sys.argv[1:] or ["evaluate", "runtimes", "log", "serve"]
    parts = {"evaluate": evaluate, "runtimes": runtimes, "log": log, "serve": over_http, "families": families}
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
