# PYTHON_ARGCOMPLETE_OK
"""Score tracked runs, on their own test split or on other pictures: ``python -m trainers.evaluate RUN``, ``--missing``.

Scores and predictions go to the same MLflow run, whose status and times stay as they were. A run's test score changes
only by its own test split, sized as in its validation; what else is scored has a name of its own (see
``trainers.training.given``).

Exit codes: 0 done, 1 a run could not be evaluated, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import __version__, names
from tracking.errors import TrackingError
from tracking.errors.program import program_parser, run_program
from tracking.errors.words import plural
from trainers.errors import BadData, BadInput

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.data.pictures.sizing import Fit
    from trainers.training.given import Given
    from trainers.training.scores import Scores

_BATCH = 256
_EPILOG = """
which pictures are scored:
  without --dataset, the run's own test split, as long as its content is that which the run logged. With --dataset, all
  pictures of data without splits (a folder of classes, a list, a .rec), else the test split, or that of --split. Where
  these are the run's own test pictures (by content, also in data that the run's settings cut into the same splits),
  or where the run has no test set yet, the score is the run's test score.

where the score goes:
  all other data gets names of its own: NAME_accuracy, NAME_loss, NAME_num_images, the tags NAME_dataset_digest and
  NAME_overlap_images, and predictions/NAME.parquet. NAME is that of the data (--name chooses another), followed by the
  split if it is not the test split, and by --fit if the run was not validated so. The leaderboard ranks the test score
  only; python -m reports run RUN shows all of them.

pictures the run was trained on are counted by content (the same bytes), as long as its training pictures are at hand
unchanged; otherwise it is said that this is not known.

examples:
  python -m trainers.evaluate 3f2a91c4             the test score of one run
  python -m trainers.evaluate --missing            of every finished run that has none; of a search, the best trial
  python -m trainers.evaluate 3f2a91c4 --dataset new-photos/
"""


@dataclass(frozen=True)
class Evaluation:
    """The scores of one run, the name they are kept under, and what is to be said of them, a sentence each."""

    name: str
    scores: Scores
    notes: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises for what the user did."""
    return run_program("trainers.evaluate", lambda: _main(_parser().parse_args(argv)))


def evaluate(
    run_id: str,
    *,
    store: Store,
    split: str | None = None,
    dataset: str | None = None,
    image_root: str | None = None,
    name: str | None = None,
    runtime: str = "auto",
    fit: Fit | None = None,
    model: str | None = None,
) -> Evaluation:
    """Score one tracked run and write the scores to it.

    ``dataset`` (default: the run's own) says where the pictures come from, ``split`` and ``name`` as
    ``given.choose``; ``runtime`` what computes: mxnet, onnx, onnx-int8 (another network, whose score has another name),
    or auto for the faster of the first two that can be had. A job of the built-in algorithm is scored from its archive
    (``model``: where it is, if the run does not say). ``fit`` is how pictures come to size; another one than the run
    was validated with makes another score. Raises BadInput when there is no such run, no model or no such split,
    and BadData when the classes are not those that the network knows.
    """
    from trainers.data import Batches
    from trainers.networks import backend, saved
    from trainers.training import given, sources
    from trainers.training import scores as runtimes

    run = store.find_run(run_id)
    if run.data.tags.get(names.LAUNCHER) == "sagemaker-builtin" or model is not None:
        return _evaluate_builtin(run, store, split, dataset, image_root, name, fit, model)
    source = sources.find(run.info.run_id, store)
    config = source.config
    if config.pretext:
        raise BadInput(f"run {run_id} learned {config.pretext}, not the labels; it has no test score.")
    num_threads = backend.prepare()
    place = (config.dataset, config.image_root) if dataset is None else (dataset, image_root)
    chosen = given.choose(run, *place, other=dataset is not None, split=split, name=name)
    scorer = runtimes.scorer(source.model_dir, runtime, num_threads)
    meta = saved.read_meta(source.model_dir)
    if list(meta["class_names"]) != list(chosen.found.class_names):
        raise BadData(
            f"{place[0]} has the classes {_few(chosen.found.class_names)}, the network of run {run_id} knows"
            f" {_few(meta['class_names'])}: its scores would mean nothing."
        )
    as_validated = meta.get("fit", "crop")
    if fit == "crop" and config.resize is None and not chosen.split.pictures.own:
        fit = "squash"  # bundled pictures are never cropped alone
    if fit is not None and fit != as_validated:
        chosen = chosen.sized(fit)
    if runtime == "onnx-int8":  # another network, another score
        chosen = chosen.sized("int8")
    given.demand_free_name(run, chosen)
    batches = Batches(
        chosen.split,
        image_shape=config.shape,
        resize=config.resize,
        fit=fit or as_validated,
        batch_size=_BATCH,
    )
    result = scorer(batches)
    count = given.trained_on(run, chosen, config.dataset, config.image_root)
    return _write(run, store, chosen, result, int(meta.get("epoch", config.epochs)), count)


def _evaluate_builtin(
    run: Any,
    store: Store,
    split: str | None,
    dataset: str | None,
    image_root: str | None,
    name: str | None,
    fit: Fit | None,
    model: str | None,
) -> Evaluation:
    """The same for a job of SageMaker's built-in algorithm, which never saw a test split; its validation crops."""
    from trainers.networks import backend
    from trainers.sagemaker.builtin import model as builtin_scores
    from trainers.training import given

    own = run.data.params.get("dataset")
    place = dataset or own
    if place is None:
        raise BadInput(
            f"run {run.info.run_id} is a job of the built-in algorithm: say by --dataset where the pictures are."
        )
    backend.prepare()
    chosen = given.choose(run, place, image_root, other=dataset is not None, split=split, name=name)
    if fit not in (None, "crop"):
        chosen = chosen.sized(fit)
    given.demand_free_name(run, chosen)
    loaded = builtin_scores.model_of_run(run, model)
    result = builtin_scores.score(loaded, chosen.found, chosen.split, fit or "crop")
    verdict = builtin_scores.check(loaded, chosen.found, None if chosen.cut is None else chosen.cut.validation, run)
    count = given.trained_on(run, chosen, own, image_root)
    done = _write(
        run, store, chosen, result, loaded.epoch, count, {names.EVALUATION_CHECK: verdict} if chosen.is_own else {}
    )
    return Evaluation(done.name, done.scores, (verdict, *done.notes))


def _write(
    run: Any,
    store: Store,
    chosen: Given,
    result: Scores,
    epoch: int,
    trained_on: int | None,
    tags: Mapping[str, str] | None = None,
) -> Evaluation:
    """Add the scores to an existing run; its status and times stay as they are."""
    from tracking import run as tracked
    from trainers.training import record

    context, pictures, found = chosen.context, chosen.split, chosen.found
    digest = names.dataset_digest(context)
    tags_now = {digest: pictures.digest, **(tags or {})}
    if context != "validation":
        tags_now[names.overlap(context)] = "unknown" if trained_on is None else str(trained_on)
    with tracked.attach(run.info.run_id, root=store.journals, live=store) as attached:
        if chosen.is_own:
            attached.log_dataset(
                context=context,
                name=found.name,
                digest=pictures.digest,
                source=found.source,
                num_images=len(pictures),
                num_classes=len(found.class_names),
            )
        else:
            tags_now[names.dataset_source(context)] = str(Path(found.source).absolute())
        attached.set_tags(tags_now)
        run_name = str(run.info.run_name)
        record.record(attached, context, pictures, result, found.class_names, step=epoch, run_name=run_name)
    notes = [] if context == "validation" else [_overlap_note(trained_on)]
    if chosen.is_first:
        notes.append("The run had no test set; from now on these pictures are its test set.")
    before = run.data.tags.get(digest)
    if before not in (None, pictures.digest):
        notes.append(
            f"The score of {context} was of other pictures before (digest {before}, accuracy"
            f" {run.data.metrics.get(names.accuracy(context), float('nan')):.4f}); this one replaces it. To keep both,"
            " give one of them another name by --name."
        )
    return Evaluation(context, result, tuple(notes))


def _overlap_note(trained_on: int | None) -> str:
    if trained_on is None:
        return (
            "It is not known whether this run was trained on some of them: its training pictures are not at hand in the"
            " same form."
        )
    if trained_on == 0:
        return "By content none of them is a training picture of this run."
    return f"{trained_on:,} of them are training pictures of this run, so the score is too high."


def missing(
    store: Store,
    experiment: str | None = None,
    *,
    trials: bool = False,
    on_left_out: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Ids of the finished runs that should have a test accuracy and have none, oldest first.

    Of a search only the best trial is among them, unless ``trials``: the others were not chosen, and a choice by test
    scores would make them flatter. ``on_left_out`` gets their number, if there are any.
    """
    ids = None if experiment is None else [store.experiment_id(experiment, create=False)]
    found = list(store.runs(ids, "attributes.status = 'FINISHED'"))
    untested = [
        run
        for run in found
        if names.TEST_ACCURACY not in run.data.metrics
        and names.PRETEXT not in run.data.tags
        and (names.STUDY not in run.data.tags or names.STUDY_RUN in run.data.tags)  # a whole study's own has no model
    ]
    losers = set() if trials else _losers(found)
    runs = [run for run in untested if run.info.run_id not in losers]
    if len(runs) < len(untested):
        on_left_out(len(untested) - len(runs))
    return [run.info.run_id for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]


def _losers(runs: Sequence[Any]) -> set[str]:
    """The runs of each search's trials but its best: the highest mean of what a search chooses by."""
    searches: dict[str, dict[str, list[Any]]] = {}
    for run in runs:
        if names.TRIAL in run.data.tags:
            trials = searches.setdefault(run.data.tags.get(names.STUDY, ""), {})
            trials.setdefault(run.data.tags[names.TRIAL], []).append(run)

    def score(trial: Sequence[Any]) -> float:
        known = [run.data.metrics for run in trial]
        best = [one.get(names.accuracy(names.FOLD), one.get(names.BEST_VALIDATION_ACCURACY, 0.0)) for one in known]
        return float(sum(best) / len(best))

    best = {study: max(trials.values(), key=score) for study, trials in searches.items()}
    return {
        run.info.run_id
        for study, trials in searches.items()
        for trial in trials.values()
        if trial is not best[study]
        for run in trial
    }


def _say_left_out(count: int) -> None:
    print(f"left out: {plural(count, 'run')} that a search did not choose; --trials scores them, too")


def _main(arguments: argparse.Namespace) -> int:
    from tracking import store as stores

    store = stores.resolve()
    if arguments.model is not None and not arguments.runs:
        return _score_only(arguments)
    if bool(arguments.runs) == arguments.missing:
        raise BadInput("give the ids of the runs to evaluate, or --missing for every run without a test score.")
    run_ids = arguments.runs
    if arguments.missing:
        run_ids = missing(store, arguments.experiment, trials=arguments.trials, on_left_out=_say_left_out)
    if not run_ids:
        print("no finished run lacks a test score")
    failed = 0
    for run_id in run_ids:
        try:
            done = evaluate(
                run_id,
                store=store,
                split=arguments.split,
                dataset=arguments.dataset,
                image_root=arguments.image_root,
                name=arguments.name,
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
        print(f"{run_id[:8]}  {done.name} accuracy {done.scores.accuracy:.4f} on {done.scores.num_images:,} pictures")
        for note in done.notes:
            print(f"          {note}")
    return 1 if failed else 0


def _score_only(arguments: argparse.Namespace) -> int:
    """An archive without a run: its score is said and written nowhere."""
    from trainers.data.source import read_source
    from trainers.networks import backend
    from trainers.sagemaker.builtin import model as builtin_scores
    from trainers.training import given

    if arguments.dataset is None:
        raise BadInput("--model needs --dataset: the pictures to score it on.")
    backend.prepare()
    root = None if arguments.image_root is None else Path(arguments.image_root)
    found = read_source(arguments.dataset, root)
    pictures = given.pictures_of(found, arguments.split)
    loaded = builtin_scores.fetch_model(arguments.model)
    result = builtin_scores.score(loaded, found, pictures, arguments.fit or "crop")
    print(f"accuracy {result.accuracy:.4f} on {result.num_images:,} pictures; no run to write it to")
    return 0


def _few(class_names: Sequence[str]) -> str:
    shown = ", ".join(map(str, class_names[:5]))
    return f"{shown}, … ({len(class_names)} classes)" if len(class_names) > 5 else shown


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        "trainers.evaluate",
        __version__,
        description="Score tracked runs on their test split, or on other pictures, and keep the scores with them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run id, its beginning, or the run's name")
    parser.add_argument(
        "--missing", action="store_true", help="every finished run without a test score; of a search, its best trial"
    )
    parser.add_argument("--trials", action="store_true", help="with --missing: all trials of searches")
    parser.add_argument("--experiment", metavar="NAME", help="with --missing: only runs of this experiment")
    parser.add_argument("--split", choices=names.SPLITS, help="of data that has splits (default test)")
    parser.add_argument("--dataset", metavar="DATA", help="other pictures of the same classes (default: the run's own)")
    parser.add_argument("--name", help="what to call the score of other pictures (default: the name of the data)")
    parser.add_argument(
        "--runtime",
        choices=("auto", "mxnet", "onnx", "onnx-int8"),
        default="auto",
        help="what computes the answers (default auto: the ONNX copy where there is one, it is faster; else MXNet);"
        " onnx-int8: the copy that --int8 made, whose score has a name of its own (test-int8)",
    )
    parser.add_argument("--image-root", metavar="DIR", help="folder that the paths of a list or manifest start from")
    parser.add_argument(
        "--model", metavar="PLACE", help="archive of the built-in algorithm: s3://…/model.tar.gz, file, folder"
    )
    parser.add_argument(
        "--fit",
        choices=("crop", "squash"),
        help="how pictures come to size (default: as in the run's validation, which crops in jobs of the built-in;"
        " their endpoint squashes)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
