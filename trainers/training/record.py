"""Write scores to a run: metrics, per-picture predictions and, for the test split, the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracking import names
from trainers.training import figures, predictions

if TYPE_CHECKING:
    from tracking.run import Run
    from trainers.data import Split
    from trainers.training.scores import Scores


def record(
    run: Run, context: str, split: Split, scores: Scores, class_names: Sequence[str], *, step: int, run_name: str
) -> None:
    """Log ``scores`` of the whole of ``split``; ``step`` is the epoch of the weights.

    ``context`` is the split's name, or for another data set a name of its own, with which metrics and file begin.

    Training logs validation accuracy and loss epoch by epoch; here the validation split adds only what it has not.
    """
    files = run.dir / "files"
    values: dict[str, float] = {names.num_images(context): scores.num_images}
    if context != "validation":
        values |= {names.accuracy(context): scores.accuracy, names.loss(context): scores.loss}
    if scores.top_k is not None and scores.top_k_accuracy is not None:
        values[names.top_k_accuracy(context, scores.top_k)] = scores.top_k_accuracy
    run.metrics(values, step=step)
    path = files / "predictions" / f"{context}.parquet"
    predictions.write(path, split, scores.probabilities)
    run.artifact(path, "predictions")
    if context == "test":
        figure = files / "figures" / "confusion_matrix.png"
        title = f"{run_name}\ntest accuracy {scores.accuracy:.4f} on {scores.num_images:,} pictures"
        figures.confusion_matrix(figure, scores.labels, scores.predicted, class_names, title)
        run.artifact(figure, "figures")
