"""Keep a leaderboard in MLflow itself, as the artifacts of a run in the experiment ``reports``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from reports import render
from reports.board import Board
from reports.source import REPORT

EXPERIMENT = "reports"


def keep(board: Board) -> str:
    """Log the page as ``leaderboard.md``, ``.html`` and ``.json``; returns the run's id.

    The run carries the tag ``report``, so that no leaderboard takes it for a candidate.
    """
    from tracking import border

    uri = board.store.tracking_uri
    with TemporaryDirectory() as folder, border.translated(uri):
        for format in ("md", "html", "json"):
            render.write(board, Path(folder) / f"leaderboard.{format}", format)
        client = border.open_client(uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = found.experiment_id if found is not None else _create(board)
        run = client.create_run(experiment_id, run_name="leaderboard", tags={REPORT: "leaderboard"})
        client.log_artifacts(run.info.run_id, folder)
        client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def _create(board: Board) -> str:
    """The experiment, with its artifacts where the store keeps them."""
    from tracking.store import Store

    if isinstance(board.store, Store):
        return board.store.experiment_id(EXPERIMENT)
    from tracking import border

    return str(border.open_client(board.store.tracking_uri).create_experiment(EXPERIMENT))
