"""Inside the container (``python -m trainers.sagemaker.container train``): SageMaker's contract outside, a run inside.

Hyperparameters are text and become a Config; channels become the data; the run's journal and resumable state are under
``/opt/ml/checkpoints``, which SageMaker mirrors to S3 and brings back after an interruption. SIGTERM ends the run
within its 120 seconds, the failure file says why in 1024 characters, the exit code is the run's.
``SAGEMAKER_BASE_DIR`` moves ``/opt/ml`` elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracking import __version__
from tracking.errors.errors import UserError
from tracking.errors.program import program_parser, run_program

if TYPE_CHECKING:
    from tracking.store import Store

BASE_VARIABLE, BASE = "SAGEMAKER_BASE_DIR", "/opt/ml"
SENT_CODE = "TRAINERS_CODE"  # set for the process that runs the code that came with the job
CODE = "code"
FAILURE_CHARACTERS = 1024  # more is cut off by SageMaker
LAST_MOMENT_S = 105  # after SIGTERM; SIGKILL comes at 120
RESERVE_BYTES = 1 << 16
PORT = 9191  # where the first machine of several listens


def main(argv: Sequence[str] | None = None) -> int:
    """Do what SageMaker asks for; the exit code. The failure file says what went wrong."""
    return run_program("trainers.sagemaker.container", lambda: _act(argv))


def _act(argv: Sequence[str] | None) -> int:
    parser = program_parser("trainers.sagemaker.container", __version__, description=__doc__)
    parser.add_argument("command", choices=("train",), help="what SageMaker starts the container with")
    parser.parse_args(argv)
    base = Path(os.environ.get(BASE_VARIABLE, BASE))
    _watch_the_clock(base)
    try:
        _run_sent_code(base)
        reserve = base / "output" / ".reserve"  # room for the failure file when the disk is full
        reserve.parent.mkdir(parents=True, exist_ok=True)
        reserve.write_bytes(b"\0" * RESERVE_BYTES)
        return train(base)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return _fail(base, error)


def train(base: Path) -> int:
    """Run or go on with the job's run; the exit code. Raises BadInput for what the user gave."""
    from tracking import run as tracked
    from tracking.journal.events import journals
    from trainers.networks.group import LISTEN
    from trainers.sagemaker.container.data import place_data, place_init
    from trainers.sagemaker.job.request import config_from
    from trainers.training import experiment

    machines, rank = machines_of(base)
    values = json.loads((base / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    values = {key: unquoted(text) for key, text in values.items() if not key.startswith("sagemaker_")}
    config = config_from(place_init(values, base))
    named, store = config.dataset, store_of(base, config.initial)
    config = place_data(config, base)
    if rank:
        over = any(tracked.ended(directory) == "FINISHED" for directory in journals(store.journals))
        return 0 if over else _train_along(machines[0], rank)
    os.environ[LISTEN] = f"0.0.0.0:{PORT}"
    config = replace(config, workers=len(machines))
    with _shown_live(store, base, named):
        directory, code = experiment.run_or_go_on(config, store)
    return _leave(base, directory, code)


def store_of(base: Path, init: str) -> Store:
    """The store with the run's journal, and the run it starts from. MLflow is filled from it elsewhere."""
    from trainers.sagemaker.container.data import ContainerStore

    root, source = base / "checkpoints" / "journals", base / "work" / "init"
    return ContainerStore(
        f"sqlite:///{base / 'work' / 'mlflow.db'}", None, root, source=source, source_id=init.removeprefix("run:")
    )


@contextmanager
def _shown_live(store: Store, base: Path, dataset: str) -> Iterator[None]:
    """Where the job's maker named a server and a run on it, what is logged is shown there as it comes."""
    uri, run_id = os.environ.get("MLFLOW_TRACKING_URI", ""), os.environ.get("MLFLOW_RUN_ID", "")
    if not run_id or not uri.startswith(("http://", "https://", "arn:")):
        yield
        return
    from trainers.sagemaker.container.live import Relay

    relay = Relay(store.journals, base / "work" / "relay", tracking_uri=uri, run_id=run_id, dataset=dataset)
    relay.start()
    try:
        yield
    finally:
        why = relay.finish()
        if why is not None:
            print(f"not all was shown live: {why}; the journal in S3 has it", flush=True)


def machines_of(base: Path) -> tuple[list[str], int]:
    """The names of the job's machines, in the order that each of them finds, and which of them this is.

    Instance groups are not looked at: each machine is a worker.
    """
    try:
        resources = json.loads((base / "input/config/resourceconfig.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ["localhost"], 0
    machines = sorted(resources["hosts"], key=lambda name: (len(name), name))  # algo-2 before algo-10
    return machines, machines.index(resources["current_host"])


def _train_along(first: str, rank: int) -> int:
    """Be one of the other machines. All that is kept is the first one's: checkpoints go to the same place in S3."""
    from trainers.launch.worker import follow

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first machine ends the run, and all of its workers
    print(f"worker {rank}, of {first}", flush=True)
    follow(first, PORT, rank)
    return 0


def _leave(base: Path, directory: Path, code: int) -> int:
    """Put model, output and failure where SageMaker takes them from; the exit code as it was."""
    model = directory / "files" / "model"
    if model.is_dir():
        shutil.copytree(model, base / "model", dirs_exist_ok=True)
    elif code in (130, 143):
        _best_so_far(base, directory)
    kept = base / "output" / "data" / "run"
    ignored = shutil.ignore_patterns("state", "model", "reserve", "lock", "*.part")
    shutil.copytree(directory, kept, ignore=ignored, dirs_exist_ok=True)
    if code not in (0, 130, 143):
        _write_failure(base, _reason(directory))
    return code


def _best_so_far(base: Path, directory: Path) -> None:
    """A job that is stopped leaves the best network it had; without a whole epoch there is none."""
    from trainers.config.text import build, from_toml
    from trainers.networks import resnet, saved, weights
    from trainers.training import experiment, fit, record

    state, file = directory / "state", directory / "files" / "config.toml"
    if not file.is_file() or not any(state.glob("best-*.npz")):
        return
    dataset, config = experiment.load_data(build(from_toml(file)))
    net = resnet.build_for(config)
    weights.initialise(net, "scratch", seed=config.seed)
    epoch = fit.load_best(net, state)
    saved.save_model(net, base / "model", record.described(config, dataset, epoch))


def _reason(directory: Path) -> str:
    """Why the run ended, from its journal."""
    from tracking.journal.events import read

    reasons = [event.get("reason", "") for event, _ in read(directory) if event["event"] == "status"]
    return reasons[-1] if reasons else "the run did not say why"


def _fail(base: Path, error: BaseException) -> int:
    """Write the failure file; 2 for what the user gave, else 1."""
    import traceback

    traceback.print_exception(error)
    _write_failure(base, f"{type(error).__name__}: {error}")
    return error.exit_code if isinstance(error, UserError) else 1


def _write_failure(base: Path, text: str) -> None:
    (base / "output" / ".reserve").unlink(missing_ok=True)
    try:
        (base / "output" / "failure").write_text(text[:FAILURE_CHARACTERS], encoding="utf-8")
    except OSError as error:
        print(f"the failure file cannot be written ({error.strerror}): {text}", file=sys.stderr)


def unquoted(text: str) -> str:
    """Some tools send JSON strings as hyperparameters; the quotes are not meant."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            pass
    return text


def _run_sent_code(base: Path) -> None:
    """Become the code that came with the job, so that the image need not be built for every change."""
    archive = base / "input" / "data" / CODE / "code.tar.gz"
    if SENT_CODE in os.environ or not archive.is_file():
        return
    from trainers.sagemaker.container.data import extract

    target = base / "code"
    extract(archive, target)
    os.chdir(target)  # with -m the working directory comes before everything else
    path = os.pathsep.join(part for part in (str(target), os.environ.get("PYTHONPATH", "")) if part)
    os.environ |= {SENT_CODE: str(target), "PYTHONPATH": path}
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "trainers.sagemaker.container", "train"])


def _watch_the_clock(base: Path) -> None:
    """SIGTERM interrupts whatever goes on, and nothing outlives the grace that SageMaker gives."""
    from trainers.training.interruption import Interrupted

    def interrupt(signum: int, frame: object) -> None:
        raise Interrupted(signum)

    def wait() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGTERM:
                break
        else:
            return
        threading.Event().wait(LAST_MOMENT_S)
        _write_failure(base, f"SIGTERM: the run did not end within {LAST_MOMENT_S} s and was cut off")
        os._exit(143)

    # As the container's first process Python would ignore SIGTERM; and a handler alone waits for long native calls.
    signal.signal(signal.SIGTERM, interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=wait, name="last-moment", daemon=True).start()


if __name__ == "__main__":
    from trainers.networks.group import leave

    sys.exit(leave(main()))
