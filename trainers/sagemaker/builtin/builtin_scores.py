"""Score a model of SageMaker's built-in algorithm: its archive fetched, loaded as its own validation would, checked.

Raw 0..255 pixels go in, cropped as in training (``fit`` crop) or squashed as its endpoint does. What the job's log says
of the validation split is held against a score computed here, where the same pictures are at hand.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from trainers.errors import BadData, BadInput

if TYPE_CHECKING:
    from trainers.data import Split
    from trainers.data.found import Found
    from trainers.data.pictures.sizing import Fit
    from trainers.training.scores import Scores

_BATCH = 256


@dataclass(frozen=True)
class Model:
    """A loaded network of the built-in; ``resize`` is the job's hyperparameter (px, shortest side)."""

    net: Any
    facts: dict[str, Any]
    resize: int | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the weights, from 1."""
        return int(self.facts["epoch"])


def of_run(run: Any, place: str | None = None) -> Model:
    """The model of a tracked job: from ``place``, else from where its tag says. Raises BadInput, AwsError."""
    where = place or run.data.tags.get(names.MODEL_URI)
    if not where:
        raise BadInput(f"run {run.info.run_id} left no model that is known here; name its archive by --model.")
    best = run.data.metrics.get(names.BEST_EPOCH)
    resize = run.data.params.get("resize")
    region = run.data.tags.get(names.REGION)
    model = load(where, best_epoch=None if best is None else int(best), region=region)
    return Model(model.net, model.facts, None if resize is None else int(float(resize)))


def load(place: str, *, best_epoch: int | None = None, region: str | None = None) -> Model:
    """A model from ``s3://…/model.tar.gz``, a local archive, or a folder that one was unpacked into."""
    from trainers.sagemaker.builtin import model as artifact

    if place.startswith("s3://"):
        archive = _fetch(place, region)
    else:
        archive = Path(place).expanduser()
        if not archive.exists():
            raise BadInput(f"--model {place}: there is no such file or folder.")
    folder = archive
    if archive.is_file():
        folder = artifact.extract(archive, Path(tempfile.mkdtemp(prefix="model-")))
    net, facts = artifact.load(folder, best_epoch=best_epoch)
    if facts["multi_label"]:
        raise BadInput(f"{place} gives several labels a picture; its accuracy is not computed here.")
    return Model(net, facts)


def score(model: Model, dataset: Found, split: Split, fit: Fit) -> Scores:
    """Every picture of ``split`` once. Raises BadData where the data has more classes than the network."""
    from trainers.data import Batches
    from trainers.training import scores

    num_classes = model.facts["num_classes"]
    if len(dataset.class_names) != num_classes:
        raise BadData(
            f"{dataset.name} has {len(dataset.class_names)} classes, the network knows {num_classes}: its scores would"
            " mean nothing. Name the data the job was trained on."
        )
    batches = Batches(
        split, image_shape=tuple(model.facts["image_shape"]), resize=model.resize, fit=fit, batch_size=_BATCH
    )
    return scores.score(model.net, batches)


def check(model: Model, dataset: Found, validation: Split | None, run: Any) -> str:
    """What a score of the validation split computed here, cropped as there, says of the one in the job's log.

    The job averages over whole batches, the last one padded, so the two may differ by about a batch in N.
    """
    logged = run.data.metrics.get(names.BEST_VALIDATION_ACCURACY, run.data.metrics.get(names.VALIDATION_ACCURACY))
    if logged is None:
        return "The job's log has no validation accuracy to hold this against."
    known = run.data.tags.get(names.VALIDATION_DATASET_DIGEST)
    if validation is None or known != validation.digest:
        return (
            "The job's validation pictures are not at hand, so the loading of its model is not checked against its log."
        )
    found = score(model, dataset, validation, "crop").accuracy
    allowed = float(run.data.params.get("mini_batch_size", 32)) / len(validation)
    verdict = "agrees with" if abs(found - logged) <= allowed else "CONTRADICTS"
    return f"Validation accuracy computed here, {found:.4f}, {verdict} the job's log, {logged:.4f} (± {allowed:.4f})."


def _fetch(uri: str, region: str | None) -> Path:
    from trainers.sagemaker.aws.client import Aws

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    path = Path(tempfile.mkdtemp(prefix="model-")) / "model.tar.gz"
    answer = Aws(region=region, profile=None).s3("GetObject", Bucket=bucket, Key=key)
    with path.open("wb") as file:
        for chunk in answer["Body"].iter_chunks(1 << 20):
            file.write(chunk)
    return path
