"""Find what a tracked run has kept: its settings and its network, in a journal on this machine or in MLflow.

A study's transfer runs start from a source whose journal is still here, so this works while the server is away.
"""

from __future__ import annotations

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
    if files is None:
        try:
            run_id, files = _download(run_id, store)
        except TrackingError as error:
            raise BadInput(str(error)) from error
    config = build(from_toml(files / "config.toml"))
    return Source(run_id, files / "model", config)


def _download(run_id: str, store: Store) -> tuple[str, Path]:
    """Full id and a folder with ``config.toml`` and ``model/``. Raises TrackingError."""
    from mlflow.exceptions import MlflowException

    from tracking.store import logged_models

    run = store.find_run(run_id)
    folder = Path(tempfile.mkdtemp(prefix="run-"))
    client = store.client()
    for name in ("config.toml", "model"):
        try:
            if name == "model":
                logged_models.download(client, run, name, store.tracking_uri, folder)
            else:
                client.download_artifacts(run.info.run_id, name, str(folder))
        except (MlflowException, OSError) as error:
            raise TrackingError(
                f"run {run.info.run_id} has no {name} among its artifacts ({error}); only runs of this trainer that"
                " got as far as a first epoch can be used here"
            ) from error
    return str(run.info.run_id), folder
