"""Find what a tracked run has kept: its settings and its network, in a journal on this machine or in MLflow.

A study's transfer runs start from a source whose journal is still here, so this works while the server is away.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors import RunNotFound, TrackingError
from trainers.config import Config
from trainers.config.text import build, from_toml
from trainers.errors import BadInput

if TYPE_CHECKING:
    from tracking.store import Store


@dataclass(frozen=True)
class Source:
    """A run's saved model folder and resolved settings. ``run_id`` is the id that was asked for, in full if known."""

    run_id: str
    model_dir: Path
    config: Config

    @property
    def label(self) -> str:
        """``rotation pretext on digits (run 3f2a91c4)``: where a transfer comes from, for the leaderboard."""
        task = f"{self.config.pretext} pretext" if self.config.pretext else "labels"
        return f"{task} on {Path(self.config.dataset).name} (run {self.run_id[:8]})"


def find(run_id: str, store: Store) -> Source:
    """The settings and the network of a run, by MLflow's id, its beginning, or its journal's id.

    Raises BadInput when there is no such run or it kept no model.
    """
    try:
        files = store.journal_dir(run_id) / "files"
        if not (files / "model").is_dir():
            raise RunNotFound(f"run {run_id} has no model: it did not get that far")
    except RunNotFound:
        files = None
    if files is not None:
        config, model_dir = files / "config.toml", files / "model"
    else:
        try:
            run_id, config, model_dir = _fetch(run_id, store)
        except TrackingError as error:
            raise BadInput(str(error)) from error
    return Source(run_id, model_dir, build(from_toml(config)))


def _fetch(run_id: str, store: Store) -> tuple[str, Path, Path]:
    """Full id, ``config.toml`` and the model's folder. Raises TrackingError."""
    from tracking.store import artifacts, logged_models, moved

    run = store.find_run(run_id)
    folder = Path(tempfile.mkdtemp(prefix="run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        config = artifacts.fetch(store.tracking_uri, run.info.artifact_uri, "config.toml", folder / "settings")
        model = logged_models.fetch(store.client(), run, "model", folder / "model")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if config is None or model is None:
        shutil.rmtree(folder, ignore_errors=True)
        if why := moved.why_missing(store.tracking_uri, run.info.artifact_uri):
            raise TrackingError(f"the artifacts of run {run.info.run_id} are missing: {why}")
        raise TrackingError(
            f"run {run.info.run_id} has no {'config.toml' if config is None else 'model'} among its artifacts; only"
            " finished runs of this trainer that were not trained with --keep-model none can be used here"
        )
    return str(run.info.run_id), config, model
