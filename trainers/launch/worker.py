"""One of the other workers of a run (``python -m trainers.launch.worker HOST:PORT RANK``): trains along with worker 0.

Settings, weights and the optimizer's memory come from worker 0, which also keeps all that is kept.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from trainers.config.text import build, from_toml
from trainers.errors import TrainerError
from trainers.networks.group import Follower, Released, leave


def follow(host: str, port: int, rank: int) -> None:
    """Be worker ``rank`` of the run whose worker 0 listens there, until it ends the run. Raises TrainerError."""
    group = Follower(host, port, rank)
    try:
        _train(group)
    except Released:
        pass
    except BaseException as error:
        group.fail(f"{error}" if isinstance(error, TrainerError) else f"{type(error).__name__}: {error}")
        raise
    finally:
        group.close()


def _train(group: Follower) -> None:
    from trainers.networks import backend
    from trainers.training import experiment, fit
    from trainers.training.stages import initial_network

    with tempfile.TemporaryDirectory(prefix="worker-") as folder:
        settings = Path(folder, "config.toml")
        settings.write_text(group.config, encoding="utf-8")
        config = build(from_toml(settings))
    backend.prepare(config.num_threads)
    dataset, config = experiment.load_data(config)
    with backend.contexts(config.devices)[0]:
        net, _ = initial_network(config, None, init="scratch")
        train = fit.training_batches(dataset.train, config, group)
        group.assemble(dataset.train.digest)
        fit.follow(net, train, config, group)


def main(argv: list[str]) -> int:
    """``HOST:PORT RANK``; the exit code."""
    host, _, port = argv[0].rpartition(":")
    try:
        follow(host, int(port), int(argv[1]))
    except TrainerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(leave(main(sys.argv[1:])))
