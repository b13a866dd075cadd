"""Train image classifiers with MXNet and GluonCV, here or as a SageMaker job.

    outcome = trainers.train(trainers.Config(dataset="digits", epochs=3))
    outcome.run_id, outcome.scores["test_accuracy"]

The names load at their first use; ``python -m trainers.run`` is the same on the command line.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.errors import BadConfig, BadData, BadInput, DiskFull, TrainerError, TrainingDiverged, WorkerLost

if TYPE_CHECKING:
    from reports import LeaderboardFrame
    from tracking import Store
    from trainers.config import Config as Config
    from trainers.config.study import Study
    from trainers.data.pictures.sizing import Fit
    from trainers.data.source import open_dataset as open_dataset
    from trainers.evaluate import Evaluation
    from trainers.sagemaker.command.launch import submit as submit
    from trainers.sagemaker.options import JobOptions as JobOptions
    from trainers.training.experiment import Outcome

__all__ = [
    "BadConfig",
    "BadData",
    "BadInput",
    "Config",
    "DiskFull",
    "JobOptions",
    "TrainerError",
    "TrainingDiverged",
    "WorkerLost",
    "evaluate_run",
    "open_dataset",
    "resume",
    "run_study",
    "submit",
    "train",
]

_HOMES = {
    "Config": "trainers.config",
    "JobOptions": "trainers.sagemaker.options",
    "open_dataset": "trainers.data.source",
    "submit": "trainers.sagemaker.command.launch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def train(config: Config, *, store: Store | None = None) -> Outcome:
    """Train, test and log one run in this process.

    Returns how it ended: ``run_id``, ``status`` (FINISHED, FAILED, KILLED), ``scores`` by their names in MLflow. Raises
    BadInput for settings or data that cannot work, StoreError for a store that cannot (default: this directory's).
    """
    from trainers.training import experiment

    return _checked(experiment.run(config, store=store))


def resume(run_id: str, *, store: Store | None = None) -> Outcome:
    """Continue a run that was interrupted, to the same weights as if it had not been.

    ``run_id`` is MLflow's or its beginning. Raises BadInput when the run is finished or its state is gone.
    """
    from trainers.training import experiment

    return _checked(experiment.resume(run_id, store=store))


def _checked(outcome: Outcome) -> Outcome:
    if outcome.exit_code == 2:
        raise BadInput(outcome.reason)
    return outcome


def evaluate_run(
    run_id: str,
    *,
    split: str | None = None,
    dataset: str | None = None,
    image_root: str | None = None,
    name: str | None = None,
    runtime: str = "auto",
    fit: Fit | None = None,
    model: str | None = None,
    store: Store | None = None,
) -> Evaluation:
    """Score a run's model and write the scores to the run; without ``dataset`` on its own test split.

    ``dataset``: other pictures of the same classes (``image_root``: where the paths of a list start). ``split`` of data
    that has splits; ``name`` of the score; ``runtime``: mxnet, onnx or auto; ``fit``: crop or squash, how pictures come
    to size; ``model``: the archive of a job of the built-in algorithm. Raises BadInput, TrackingError.
    """
    from tracking import open_store
    from trainers import evaluate

    return evaluate.evaluate(
        run_id,
        store=store or open_store(),
        split=split,
        dataset=dataset,
        image_root=image_root,
        name=name,
        runtime=runtime,
        fit=fit,
        model=model,
    )


def run_study(
    study: str | Path | Study, *, parallel: int = 1, again: bool = False, leaderboard: Path | None = None
) -> LeaderboardFrame:
    """Train what is left of a study, by name or TOML file, and rank its runs.

    ``parallel`` runs at a time; ``again``: also those that are done; ``leaderboard``: a file to write the page to. Runs
    that fail are printed. Raises BadInput, TrainerError when no run is done, KeyboardInterrupt when it is interrupted.
    """
    from reports import ReportError
    from reports import leaderboard as rank
    from tracking import names
    from trainers.config import study as studies
    from trainers.launch import local

    planned = study if isinstance(study, studies.Study) else studies.load(str(study))
    code = local.run(planned, parallel=parallel, again=again, leaderboard=leaderboard)
    if code > 128:
        raise KeyboardInterrupt
    try:
        return rank(filter=f"tags.{names.STUDY} = '{planned.name}'")
    except ReportError as error:
        raise TrainerError(f"study {planned.name}: no run is done; the reasons are printed above") from error
