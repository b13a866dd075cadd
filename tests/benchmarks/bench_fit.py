"""Training end to end against the bare MXNet step on the same net: 44 layers, 28x28, batch 128, crop augmentation.

The bare step is forward, backward and update on one batch that already lies in MXNet's memory; end to end is
``trainers.training.fit`` with its data, augmentation, counting, and a run that is shown live in a real MLflow store,
system metrics included. Both in turns in one process, epoch by epoch; the ratio is the median over the turns, so
that a busy
neighbour strikes both alike. An epoch is logged after the bare turn, so that its replay falls into the next epoch.
The first epoch compiles and does not count. The bare net is never validated nor read: what a validation and a saved
state cost the steps of later epochs shows in those epochs' ratios.

    python tests/benchmarks/bench_fit.py [--epochs 3] [--num-layers 44] [--batch 128] [--precision-dtype float32]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainers.networks import backend  # noqa: E402

AT_LEAST = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="measured, after the one that compiles")
    parser.add_argument("--num-layers", type=int, default=44)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision-dtype", default="float32")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # others' deprecations

    num_threads = backend.prepare()
    from tracking import run as tracked
    from tracking import store as stores
    from trainers.config import Config
    from trainers.data import Batches, open_dataset
    from trainers.networks import resnet, weights
    from trainers.training import fit

    data = open_dataset("digits")
    config = Config(
        num_layers=asked.num_layers,
        num_classes=10,
        image_shape="3,28,28",
        mini_batch_size=asked.batch,
        epochs=asked.epochs + 1,
        learning_rate=0.01,
        augmentation_type="crop",
        precision_dtype=asked.precision_dtype,
    )
    train = Batches(data.train, config.shape, asked.batch, augmentation="crop", shuffle=True, last="discard")
    validation = Batches(data.validation, config.shape, asked.batch)
    net = resnet.build(asked.num_layers, 10, config.shape)
    weights.initialise(net, "scratch", seed=0)
    bare = bare_step(config, *next(train.epoch(0)))
    steps = len(train)

    print(f"{asked.num_layers} layers, 28x28, batch {asked.batch}, {asked.precision_dtype}, {num_threads} thread(s)")
    ratios, ends, bares, whole = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        store = stores.resolve(Path(folder))
        with tracked.start(run_name="bench", live=store) as run:
            run.log_params(config.params())
            records = fit.fit(net, train, validation, config, state_dir=run.dir / "state", on_batch=lambda _: None)
            next(records)  # compiles
            bare(2)
            for record in records:
                before = bare(steps)
                values = {key: value for key, value in record.values().items() if isinstance(value, float)}
                run.log_metrics(values, step=record.epoch)
                ends.append(record.images_per_s)
                bares.append(train.num_images / before)
                whole.append(train.num_images / record.epoch_time_s)
                ratios.append(ends[-1] / bares[-1])
                print(
                    f"  epoch {record.epoch}:"
                    f" end to end {ends[-1]:6.1f} images/s ({asked.batch / ends[-1]:.3f} s a step),"
                    f" bare {bares[-1]:6.1f} ({asked.batch / bares[-1]:.3f} s), {ratios[-1]:.3f}"
                )
        assert store.find_run(run.mlflow_run_id).info.status == "FINISHED"
    ratio = statistics.median(ratios)
    print(
        f"end to end / bare MXNet step: {ratio:.3f} (median of {len(ratios)}; at least {AT_LEAST} wanted);"
        f" best {max(ends):.0f} and {max(bares):.0f} images/s;"
        f" with validation and state {statistics.median(whole):.0f} images/s"
    )


def bare_step(config: object, images: object, labels: object) -> Callable[[int], float]:
    """A function that takes so many steps and answers with their seconds."""
    from trainers.networks import backend, resnet, weights
    from trainers.training.steps import optimizers

    mx = resnet.mx
    net = resnet.build(config.num_layers, 10, config.shape)
    weights.initialise(net, "scratch", seed=0)
    graph = backend.computing_in(net, config.precision_dtype)
    graph.hybridize(static_alloc=True, static_shape=True)
    loss_of = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    loss_of.hybridize()
    trainer = optimizers.trainer_for(net, config)
    pictures, answers = resnet.to_array(images), resnet.to_array(labels)

    def take(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            with mx.autograd.record():
                loss = loss_of(graph(pictures), answers)
            loss.backward()
            trainer.step(len(labels))
        mx.nd.waitall()
        return time.perf_counter() - started

    return take


if __name__ == "__main__":
    main()
