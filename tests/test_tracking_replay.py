"""Journal → MLflow: exactly once, wherever the replayer is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tracking_fixtures import Stopped, StoppingStore, store_fixture, write_full_journal  # noqa: F401

from tracking.replay import replay
from tracking.store import Store


def snapshot(store: Store) -> list[dict[str, Any]]:
    """Everything MLflow shows of every run, without ids of its own making."""
    client = store.client()
    shown = []
    for run in store.runs():
        history = {
            name: [(m.step, m.timestamp, repr(m.value)) for m in client.get_metric_history(run.info.run_id, name)]
            for name in sorted(run.data.metrics)
        }
        shown.append(
            {
                "times": (run.info.start_time, run.info.end_time),
                "status": run.info.status,
                "name": run.info.run_name,
                "params": dict(run.data.params),
                "tags": dict(run.data.tags),
                "metrics": history,
                "inputs": [
                    (i.dataset.name, i.dataset.digest, i.dataset.source, i.dataset.profile, [t.value for t in i.tags])
                    for i in run.inputs.dataset_inputs
                ],
                "artifacts": [f.path for f in client.list_artifacts(run.info.run_id, "model")],
            }
        )
    return shown


EXPECTED = {
    "times": (1_000, 10_000),
    "status": "FAILED",
    "name": "full",
    "params": {"num_layers": "44", "learning_rate": "0.1"},
    "metrics": {
        "test_accuracy": [(3, 9_000, "0.5")],
        "train_accuracy": [(1, 1_000, "nan"), (2, 2_000, "nan"), (3, 3_000, "nan")],
        "train_loss": [(1, 1_000, "1.0"), (2, 2_000, "0.5"), (3, 3_000, repr(1 / 3))],
    },
    "inputs": [("digits", "d1", '{"uri": "/data"}', '{"num_rows": 9, "num_images": 9, "num_classes": 3}', ["train"])],
    "artifacts": ["model/weights.bin"],
}


def test_a_journal_becomes_one_run_however_often_it_is_replayed(store: Store, tmp_path: Path) -> None:
    directory = write_full_journal(store, tmp_path)
    first = replay(directory, store)
    assert (first.num_events, first.status, first.problems) == (12, "FAILED", [])
    second = replay(directory, store)
    assert (second.run_id, second.num_events) == (first.run_id, 0)
    (directory / "replay.json").unlink()
    third = replay(directory, store)
    assert (third.run_id, third.num_events) == (first.run_id, 12)
    [shown] = snapshot(store)
    tags = shown.pop("tags")
    assert shown == EXPECTED
    assert tags["journal_id"] == directory.name
    assert (tags["epoch"], tags["status_reason"]) == ("3", "made up")


@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_any_call_and_replayed_again_it_is_exactly_once(store: Store, tmp_path: Path, after: bool) -> None:
    for stop_at in range(1000):
        directory = write_full_journal(store, tmp_path)
        stopping = StoppingStore(store.tracking_uri, store.artifact_root, store.root, stop_at=stop_at, after=after)
        try:
            replay(directory, stopping)
        except Stopped:
            replay(directory, store)
        else:
            break
    assert stop_at >= 8
    shown = snapshot(store)
    assert len(shown) == stop_at + 1
    for one in shown:
        del one["tags"]
        assert one == EXPECTED
