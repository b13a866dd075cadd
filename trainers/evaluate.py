"""Fill in missing test scores: ``python -m trainers.evaluate RUN`` or ``--missing``.

The network of a tracked run is scored on every picture of a split once; scores, predictions and confusion matrix go to
the same MLflow run, whose status and times stay as they were.

Exit codes: 0 done, 1 a run could not be evaluated, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import TrackingError
from trainers.errors import BadData, BadInput, TrainerError

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.data import Dataset
    from trainers.data.sizing import Fit
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
    fit: Fit = "crop",
    model: str | None = None,
) -> Scores:
    """Score one tracked run on ``split`` and write the scores to it.

    ``dataset`` (default: the run's own) says where the pictures come from, ``runtime`` what computes: mxnet, onnx, or
    auto for the faster of those that can be had. A job of the built-in algorithm is scored from its archive (``model``:
    where it is, if the run does not say), its pictures brought to size as ``fit`` says. Raises BadInput when there is
    no such run, no model or no such split, and BadData when the classes are not those that the network knows.
    """
    from trainers import experiment, modelfiles, runtimes, sources
    from trainers.data import Batches

    run = store.find_run(run_id)
    if run.data.tags.get(names.LAUNCHER) == "sagemaker-builtin" or model is not None:
        return _evaluate_builtin(run, store, split, dataset, image_root, fit, model)
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
    _write(run, store, opened, split, result, int(meta.get("epoch", config.epochs)))
    return result


def _evaluate_builtin(
    run: Any, store: Store, split: str, dataset: str | None, image_root: str | None, fit: Fit, model: str | None
) -> Scores:
    """The same for a job of SageMaker's built-in algorithm, which never saw a test split."""
    from trainers import builtin_scores, experiment
    from trainers.data import open_dataset

    dataset = dataset or run.data.params.get("dataset")
    if dataset is None:
        raise BadInput(
            f"run {run.info.run_id} is a job of the built-in algorithm: say by --dataset where the pictures are."
        )
    experiment.fix_threads(None)
    opened = open_dataset(dataset, image_root=image_root)
    pictures = opened.splits.get(split)
    if pictures is None:
        raise BadInput(f"{dataset} has no {split} split; it has {', '.join(opened.splits)}.")
    loaded = builtin_scores.of_run(run, model)
    result = builtin_scores.score(loaded, opened, pictures, fit)
    verdict = builtin_scores.check(loaded, opened, run, fit)
    print(verdict)
    _write(run, store, opened, split, result, loaded.epoch, {names.EVALUATION_CHECK: verdict})
    return result


def _write(
    run: Any,
    store: Store,
    opened: Dataset,
    split: str,
    result: Scores,
    epoch: int,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Add the scores of ``split`` to an existing run; its status and times stay as they are."""
    from tracking import run as tracked
    from trainers import record_scores

    pictures = opened.splits[split]
    with tracked.attach(run.info.run_id, root=store.journals, live=store) as attached:
        attached.dataset(
            context=split,
            name=opened.name,
            digest=pictures.digest,
            source=opened.source,
            num_images=len(pictures),
            num_classes=len(opened.class_names),
        )
        attached.tags({f"{split}_dataset_digest": pictures.digest, **(tags or {})})
        name = str(run.info.run_name)
        record_scores.record(attached, split, pictures, result, opened.class_names, step=epoch, run_name=name)


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
    if arguments.model is not None and not arguments.runs:
        return _score_only(arguments)
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
                fit=arguments.fit,
                model=arguments.model,
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


def _score_only(arguments: argparse.Namespace) -> int:
    """An archive without a run: its score is said and written nowhere."""
    from trainers import builtin_scores, experiment
    from trainers.data import open_dataset

    if arguments.dataset is None:
        raise BadInput("--model needs --dataset: the pictures to score it on.")
    experiment.fix_threads(None)
    opened = open_dataset(arguments.dataset, image_root=arguments.image_root)
    pictures = opened.splits.get(arguments.split)
    if pictures is None:
        raise BadInput(f"{arguments.dataset} has no {arguments.split} split; it has {', '.join(opened.splits)}.")
    loaded = builtin_scores.load(arguments.model)
    result = builtin_scores.score(loaded, opened, pictures, arguments.fit)
    print(f"{arguments.split} accuracy {result.accuracy:.4f} on {result.num_images:,} pictures; no run to write it to")
    return 0


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
    parser.add_argument(
        "--model", metavar="PLACE", help="archive of the built-in algorithm: s3://…/model.tar.gz, file, folder"
    )
    parser.add_argument(
        "--fit",
        choices=("crop", "squash"),
        default="crop",
        help="the built-in's pictures: crop as its own validation (default) or squash as its endpoint",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
