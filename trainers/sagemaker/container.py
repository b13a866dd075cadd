"""Inside the container (``python -m trainers.sagemaker.container train``): SageMaker's contract outside, a run inside.

Hyperparameters are text and become a Config; channels become the data; the run's journal and resumable state lie under
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
import tarfile
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.config import Config

BASE_VARIABLE, BASE = "SAGEMAKER_BASE_DIR", "/opt/ml"
SENT_CODE = "TRAINERS_CODE"  # set for the process that runs the code that came with the job
CODE, DATA, SPLITS = "code", "data", ("train", "validation", "test")
FAILURE_CHARACTERS = 1024  # more is cut off by SageMaker
LAST_MOMENT_S = 105  # after SIGTERM; SIGKILL comes at 120
RESERVE_BYTES = 1 << 16


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out what SageMaker asks for; the exit code. Whatever goes wrong is in the failure file."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words != ["train"]:
        print(f"trainers.sagemaker.container: {' '.join(words)!r} is not known; SageMaker starts it with: train")
        return 2
    base = Path(os.environ.get(BASE_VARIABLE, BASE))
    _watch_the_clock(base)
    try:
        _run_sent_code(base)
        reserve = base / "output" / ".reserve"  # room for the failure file when the disk is full
        reserve.parent.mkdir(parents=True, exist_ok=True)
        reserve.write_bytes(b"\0" * RESERVE_BYTES)
        return train(base)
    except KeyboardInterrupt as error:
        return int(getattr(error, "exit_code", 130))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        return _fail(base, error)


def train(base: Path) -> int:
    """Run or go on with the job's run; the exit code. Raises BadInput for what the user gave."""
    from tracking import run as tracked
    from tracking.events import journals
    from trainers import experiment
    from trainers.sagemaker.request import config_from

    values = json.loads((base / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    config = config_from({key: _plain(text) for key, text in values.items() if not key.startswith("sagemaker_")})
    config = place_data(config, base)
    store, live = _store(base)
    former = [directory for directory in journals(store.root) if (directory / "files" / "config.toml").is_file()]
    done = [directory for directory in former if tracked.ended(directory) == "FINISHED"]
    if done:  # the machine was taken back between the run's end and its upload
        return _leave(base, done[0], 0)
    going = [directory for directory in former if any((directory / "state").glob("state-*.npz"))]
    for directory in journals(store.root):
        if directory not in going:  # broken off before its first epoch was kept: nothing to go on from
            shutil.rmtree(directory)
    with _device():
        if going:
            print(f"going on with run {going[0].name} after an interruption", flush=True)
            outcome = experiment.resume(going[0].name, store=store, live=live)
        else:
            outcome = experiment.run(config, store=store, live=live, tags={})
    return _leave(base, store.root / outcome.journal_id, outcome.exit_code)


def place_data(config: Config, base: Path) -> Config:
    """The config with the channels' folders in place of the user's paths.

    Channel ``data`` holds the whole data set; ``train``, ``validation`` and ``test`` (with ``_lst``) are its splits;
    each as files or packed as ``data.tar``. Without channels the data set is one that comes by its name.
    """
    root = base / "input" / "data"
    channels = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if DATA in channels:
        return _with_folder(config, _unpacked(base, DATA))
    splits = [name for name in channels if name.removesuffix("_lst") in SPLITS]
    if not splits:
        return config
    together = base / "work" / "splits"
    shutil.rmtree(together, ignore_errors=True)
    together.mkdir(parents=True)
    for name in splits:
        (together / name).symlink_to(_unpacked(base, name))
    return replace(config, dataset=str(together), image_root=None)


def _unpacked(base: Path, channel: str) -> Path:
    """Where a channel's files lie, taken out of ``data.tar`` if they came so."""
    folder = base / "input" / "data" / channel
    if not (folder / "data.tar").is_file():
        return folder
    extract(folder / "data.tar", base / "work" / channel)
    return base / "work" / channel


def _with_folder(config: Config, folder: Path) -> Config:
    """A data set by name keeps it (``mnist:DIR``); a single file (``.rec``, ``.lst``) is meant itself."""
    from trainers.data.catalog import SOURCES

    name, colon, _ = config.dataset.partition(":")
    if name in SOURCES and (colon or config.dataset == name):
        return replace(config, dataset=f"{name}:{folder}")
    file = folder / Path(config.dataset).name
    if Path(config.dataset).suffix and file.is_file():
        return replace(config, dataset=str(file), image_root=str(folder))
    return replace(config, dataset=str(folder), image_root=None)


def extract(archive: Path, target: Path) -> None:
    """Unpack plain files and folders; BadData for anything that would lie elsewhere or is no file."""
    from trainers.errors import BadData

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = target / member.name
            inside = not os.path.isabs(member.name) and ".." not in Path(member.name).parts
            if not inside or not (member.isfile() or member.isdir()):
                raise BadData(f"{archive}: {member.name!r} is no plain file inside the archive; pack it anew")
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with path.open("wb") as out:
                shutil.copyfileobj(content, out)


def _store(base: Path) -> tuple[Store, bool]:
    """Where the journal lies, and whether it is shown live: only a server that the job's maker named can be reached."""
    from tracking.store import Store

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    live = uri.startswith(("http://", "https://", "arn:"))
    root = base / "checkpoints" / "journals"
    return Store(uri if live else f"sqlite:///{base / 'work' / 'mlflow.db'}", None, root), live


def _device() -> AbstractContextManager[Any]:
    """The machine's first GPU as the place where arrays are made, the processor where there is none."""
    from trainers import mx

    library = mx.load()
    count = library.context.num_gpus()
    if not count:
        return nullcontext()
    print(f"GPU 1 of {count}", flush=True)
    device: AbstractContextManager[Any] = library.gpu(0)
    return device


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
    from trainers import experiment, fit, modelfiles, nets
    from trainers.config_text import build, from_toml

    state, file = directory / "state", directory / "files" / "config.toml"
    if not file.is_file() or not any(state.glob("best-*.npz")):
        return
    dataset, config = experiment.load_data(build(from_toml(file)))
    assert config.num_layers is not None and config.num_classes is not None
    net = nets.build(config.num_layers, config.num_classes, config.shape, config.resnet_version)
    net.initialize()
    fit.load_best(net, state)
    meta = {"class_names": list(dataset.class_names), "resize": config.resize, "fit": "crop", "dataset": config.dataset}
    modelfiles.save_model(net, base / "model", meta)


def _reason(directory: Path) -> str:
    """Why the run ended, from its journal."""
    from tracking.events import read

    reasons = [event.get("reason", "") for event, _ in read(directory) if event["event"] == "status"]
    return reasons[-1] if reasons else "the run did not say why"


def _fail(base: Path, error: BaseException) -> int:
    """Write down what went wrong; 2 for what the user gave, else 1."""
    import traceback

    from trainers.errors import BadInput

    traceback.print_exception(error)
    wrong_input = isinstance(error, BadInput) or type(error).__module__ == "tracking.errors"
    _write_failure(base, f"{type(error).__name__}: {error}")
    return 2 if wrong_input else 1


def _write_failure(base: Path, text: str) -> None:
    (base / "output" / ".reserve").unlink(missing_ok=True)
    try:
        (base / "output" / "failure").write_text(text[:FAILURE_CHARACTERS], encoding="utf-8")
    except OSError as error:
        print(f"the failure file cannot be written ({error.strerror}): {text}", file=sys.stderr)


def _plain(text: str) -> str:
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
    target = base / "code"
    extract(archive, target)
    path = os.pathsep.join(part for part in (str(target), os.environ.get("PYTHONPATH", "")) if part)
    os.environ |= {SENT_CODE: str(target), "PYTHONPATH": path}
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "trainers.sagemaker.container", "train"])


def _watch_the_clock(base: Path) -> None:
    """SIGTERM interrupts whatever goes on, and nothing outlives the grace that SageMaker gives."""
    from trainers.interruption import Interrupted

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
    sys.exit(main())
