"""Several workers for one run: ``together`` makes worker 0 of this process; the program is one of the others."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.config import Config
from trainers.config.text import build, from_toml, to_toml
from trainers.errors import TrainerError
from trainers.networks.group import ALONE, Alone, Follower, Leader, Released, leave

if TYPE_CHECKING:
    from tracking.store import Store


@contextmanager
def together(config: Config) -> Iterator[Alone]:
    """The run's workers, all on this machine: this process and processes of its own, which end with it."""
    if config.workers is None:
        yield ALONE
        return
    leader = Leader(config.workers, to_toml(config))
    try:
        leader.start([sys.executable, "-m", "trainers.launch.worker"])
        yield leader
    finally:
        leader.close()


def follow(host: str, port: int, rank: int, store: Store) -> None:
    """Be worker ``rank`` of the run whose worker 0 listens there, until it ends the run.

    ``store`` is where the run that the first weights come from is found. Raises TrainerError.
    """
    group = Follower(host, port, rank)
    try:
        with tempfile.TemporaryDirectory(prefix="worker-") as folder:
            _train(group, Path(folder), store)
    except Released:
        pass
    except BaseException as error:
        group.fail(f"{error}" if isinstance(error, TrainerError) else f"{type(error).__name__}: {error}")
        raise
    finally:
        group.close()


def _train(group: Follower, folder: Path, store: Store) -> None:
    from trainers.networks import backend
    from trainers.training import experiment, fit
    from trainers.training.stages import initial_network

    settings = folder / "config.toml"
    settings.write_text(group.config, encoding="utf-8")
    prepared = experiment.prepare(build(from_toml(settings)), store)
    config = prepared.config
    with backend.contexts(config.devices)[0]:
        train = fit.training_batches(prepared.dataset.train, config, group)
        net, _ = initial_network(config, prepared.source)
        fit.follow(net, train, config, folder=folder, group=group)


def main(argv: list[str]) -> int:
    """``HOST:PORT RANK``; the exit code."""
    from tracking.store import store

    host, _, port = argv[0].rpartition(":")
    try:
        follow(host, int(port), int(argv[1]), store.resolve())
    except TrainerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(leave(main(sys.argv[1:])))
