"""Fill in missing test scores: ``python -m trainers.evaluate RUN`` or ``--missing``.

The network of a tracked run is scored on every picture of a split once; scores, predictions and confusion matrix go to
the same MLflow run, whose status and times stay as they were.

Exit codes: 0 done, 1 a run could not be evaluated, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tracking import names
from tracking.errors import TrackingError
from trainers.errors import BadData, BadInput, TrainerError

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.scores import Scores

_BATCH = 256
_EPILOG = """
examples:
  python -m trainers.evaluate 3f2a91c4             the test score of one run
  python -m trainers.evaluate --missing            of every finished run that has none
  python -m trainers.evaluate 3f2a91c4 --dataset new-photos/
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises for what the user did."""
    try:
        return _main(_parser().parse_args(argv))
    except (BadInput, TrackingError) as error:
        print(f"trainers.evaluate: {error}", file=sys.stderr)
        return 2
    except TrainerError as error:
        print(f"trainers.evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def evaluate(
    run_id: str,
    *,
    store: Store,
    split: str = "test",
    dataset: str | None = None,
    image_root: str | None = None,
    runtime: str = "auto",
) -> Scores:
    """Score one tracked run on ``split`` and write the scores to it.

    ``dataset`` (default: the run's own) says where the pictures come from, ``runtime`` what computes: mxnet, onnx, or
    auto for the faster of those that can be had. Raises BadInput when there is no such run,
    no model or no such split, and BadData when the classes are not those that the network knows.
    """
    from tracking import run as tracked
    from trainers import experiment, modelfiles, record_scores, runtimes, sources
    from trainers.data import Batches

    run = store.find_run(run_id)
    source = sources.find(run.info.run_id, store)
    config = source.config
    if config.pretext:
        raise BadInput(f"run {run_id} learned {config.pretext}, not the labels; it has no test score.")
    if dataset is not None:
        config = replace(config, dataset=dataset, image_root=image_root)
    num_threads = experiment.fix_threads(None)
    opened, _ = experiment.load_data(replace(config, num_classes=None, num_training_samples=None))
    pictures = opened.splits.get(split)
    if pictures is None:
        raise BadInput(f"{config.dataset} has no {split} split; it has {', '.join(opened.splits)}.")
    scorer = runtimes.scorer(source.model_dir, runtime, num_threads)
    meta = modelfiles.read_meta(source.model_dir)
    if list(meta["class_names"]) != list(opened.class_names):
        raise BadData(
            f"{config.dataset} has the classes {_few(opened.class_names)}, the network of run {run_id} knows"
            f" {_few(meta['class_names'])}: its scores would mean nothing."
        )
    batches = Batches(pictures, image_shape=config.shape, resize=config.resize, batch_size=_BATCH)
    result = scorer(batches)
    with tracked.attach(run.info.run_id, root=store.journals, live=store) as attached:
        attached.dataset(
            context=split,
            name=opened.name,
            digest=pictures.digest,
            source=opened.source,
            num_images=len(pictures),
            num_classes=len(opened.class_names),
        )
        attached.tags({f"{split}_dataset_digest": pictures.digest})
        epoch = int(meta.get("epoch", config.epochs))
        name = str(run.info.run_name)
        record_scores.record(attached, split, pictures, result, opened.class_names, step=epoch, run_name=name)
    return result


def missing(store: Store, experiment: str | None = None) -> list[str]:
    """Ids of the finished runs that should have a test accuracy and have none, oldest first."""
    ids = None if experiment is None else [store.experiment_id(experiment, create=False)]
    runs = [
        run
        for run in store.runs(ids, "attributes.status = 'FINISHED'")
        if names.TEST_ACCURACY not in run.data.metrics and names.PRETEXT not in run.data.tags
    ]
    return [run.info.run_id for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]


def _main(arguments: argparse.Namespace) -> int:
    from tracking import store as stores

    store = stores.resolve()
    if bool(arguments.runs) == arguments.missing:
        raise BadInput("give the ids of the runs to evaluate, or --missing for every run without a test score.")
    run_ids = missing(store, arguments.experiment) if arguments.missing else arguments.runs
    if not run_ids:
        print("no finished run lacks a test score")
    failed = 0
    for run_id in run_ids:
        try:
            result = evaluate(
                run_id,
                store=store,
                split=arguments.split,
                dataset=arguments.dataset,
                image_root=arguments.image_root,
                runtime=arguments.runtime,
            )
        except (BadInput, TrackingError) as error:
            if len(run_ids) == 1:
                raise
            failed += 1  # one run that can't be evaluated must not keep the others from their scores
            print(f"{run_id[:8]}  not evaluated: {error}", file=sys.stderr)
            continue
        print(f"{run_id[:8]}  {arguments.split} accuracy {result.accuracy:.4f} on {result.num_images:,} pictures")
    return 1 if failed else 0


def _few(class_names: Sequence[str]) -> str:
    shown = ", ".join(map(str, class_names[:5]))
    return f"{shown}, … ({len(class_names)} classes)" if len(class_names) > 5 else shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainers.evaluate",
        description="Score tracked runs on their test split and write the scores to the same MLflow runs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="MLflow run id, or its beginning")
    parser.add_argument("--missing", action="store_true", help="every finished run without a test score")
    parser.add_argument("--experiment", metavar="NAME", help="with --missing: only runs of this experiment")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="default test")
    parser.add_argument("--dataset", metavar="DATA", help="other pictures of the same classes (default: the run's own)")
    parser.add_argument(
        "--runtime",
        choices=("auto", "mxnet", "onnx"),
        default="auto",
        help="what computes the answers (default auto: the ONNX copy where there is one, it is faster; else MXNet)",
    )
    parser.add_argument("--image-root", metavar="DIR", help="folder that the paths of a list or manifest start from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
