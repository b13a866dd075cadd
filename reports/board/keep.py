"""Keep a leaderboard in MLflow itself, as the artifacts of a run in the experiment ``reports``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from reports.board import render
from reports.board.board import Board
from reports.board.runs import REPORT

EXPERIMENT = "reports"


def keep(board: Board) -> str:
    """Log the page as ``leaderboard.md``, ``.html`` and ``.json``; returns the run's id.

    The run carries the tag ``report``, so that no leaderboard takes it for a candidate.
    """
    from tracking.store import Store, connection

    uri = board.store.tracking_uri
    store = board.store if isinstance(board.store, Store) else Store(uri, None, Path("mlruns"))
    with TemporaryDirectory() as folder, connection.translated(uri):
        for format in ("md", "html", "json"):
            render.write(board, Path(folder) / f"leaderboard.{format}", format)
        client = store.client()
        run = client.create_run(store.experiment_id(EXPERIMENT), run_name="leaderboard", tags={REPORT: "leaderboard"})
        client.log_artifacts(run.info.run_id, folder)
        client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)
