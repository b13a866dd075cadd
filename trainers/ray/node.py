"""On a node of the cluster (``python -m trainers.ray.node``): the run of one job, from its config as text to its end.

The settings come as text in the job's environment. The run's journal and state are in the job's folder under
``--output``: a folder that the nodes share, or a copy here that is kept the same as a prefix in S3. A job that is
submitted again goes on from there. Without ``--output`` all is shown in MLflow as it comes, and ends with the node.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tracking import __version__
from tracking.errors.program import program_parser, run_program
from trainers.errors import BadInput, TrainerError
from trainers.networks.group import leave
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import is_s3, split_s3
from trainers.sagemaker.errors import AwsError, NoCredentials, NotFound

CONFIG, OUTPUT, NAME = "TRAINERS_CONFIG", "TRAINERS_OUTPUT", "TRAINERS_JOB"
OWNER, INIT = "owner", "init"
_PUSH_S = 10.0
_FORMER_ENDS_S = 120.0  # a process of a node that Ray gave up may go on for a moment
_RELAY_S, _ONLY_RELAY_S = 30.0, 600.0
_NOT_SENT = ("lock", "reserve")


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the run that the job's environment describes; the exit code is the run's."""
    return leave(run_program("trainers.ray.node", lambda: _act(argv)))


def _act(argv: Sequence[str] | None) -> int:
    program_parser("trainers.ray.node", __version__, description=__doc__).parse_args(argv)
    from trainers.config.text import build, from_toml
    from trainers.sagemaker.container.data import ContainerStore
    from trainers.training import experiment

    if not os.environ.get(CONFIG):
        raise BadInput(f"{CONFIG} is not set: this program is what a job of --on ray runs on the cluster.")
    with tempfile.TemporaryDirectory(prefix="ray-job-") as work:
        file = Path(work, "config.toml")
        file.write_text(os.environ[CONFIG], encoding="utf-8")
        config = build(from_toml(file))
        with kept(os.environ.get(OUTPUT, ""), Path(work, "run"), os.environ.get(NAME, "")) as folder:
            uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{work}/mlflow.db"
            source = config.initial.removeprefix("run:")
            store = ContainerStore(uri, None, folder / "journals", source=folder / INIT, source_id=source)
            with _shown_live(store.journals, Path(work, "relay"), config.dataset):
                _, code = experiment.run_or_go_on(config, store)
    return code


@contextmanager
def kept(output: str, work: Path, name: str) -> Iterator[Path]:
    """The job's folder, ``work`` itself without ``output``. Raises BadInput where this node does not see it."""
    if is_s3(output):
        mirror = Mirror(output, work, name)
        mirror.fetch()
        mirror.start()
        try:
            yield work
        finally:
            mirror.finish()
        return
    folder = Path(output) if output else work
    if output and not folder.is_dir():
        raise BadInput(
            f"--output {folder.parent}: node {socket.gethostname()} does not see {folder.name} in it, which the"
            " launching machine made. Give a folder that all nodes share, or s3://bucket/prefix."
        )
    _wait_for_former(folder / "journals")
    yield folder


def _wait_for_former(root: Path) -> None:
    """Wait until no other process writes the run. Raises TrainerError."""
    from tracking.journal.events import journals
    from tracking.journal.files import is_held

    until = time.monotonic() + _FORMER_ENDS_S
    while held := [directory for directory in journals(root) if is_held(directory)]:
        if time.monotonic() > until:
            raise TrainerError(f"another process still writes {held[0]}; this job leaves the run to it.")
        time.sleep(1.0)


@contextmanager
def _shown_live(root: Path, work: Path, dataset: str) -> Iterator[None]:
    """What is logged is shown as it comes in the MLflow run that the launching machine began there."""
    uri, run_id = os.environ.get("MLFLOW_TRACKING_URI", ""), os.environ.get("MLFLOW_RUN_ID", "")
    if not uri or not run_id:
        yield
        return
    from trainers.sagemaker.container.live import Relay

    alone = not os.environ.get(OUTPUT)
    relay = Relay(root, work, tracking_uri=uri, run_id=run_id, dataset=dataset, with_artifacts=alone)
    relay.start()
    try:
        yield
    finally:
        why = relay.finish(_ONLY_RELAY_S if alone else _RELAY_S)
        if why is not None and alone:
            raise TrainerError(f"not all of the run reached {uri}: {why}. With --output nothing would be lost.")
        if why is not None:
            print(f"not all was shown live: {why}; the journal under --output has it", flush=True)


class Mirror:
    """A folder here that is kept the same as a prefix in S3, by one job at a time: the one that came last."""

    def __init__(self, uri: str, folder: Path, name: str, aws: Aws | None = None) -> None:
        bucket, prefix = split_s3(uri)
        self._aws, self._bucket, self._prefix = aws or Aws(), bucket, prefix.rstrip("/") + "/"
        self._folder, self._name = folder, name
        self._sent: dict[str, tuple[int, int]] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)
        self.is_lost = False

    def fetch(self) -> None:
        """Bring what a former job left, and be the one that writes from now on. Raises AwsError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._aws.s3("PutObject", Bucket=self._bucket, Key=self._prefix + OWNER, Body=self._name.encode())
        for page in self._aws.pages("s3", "ListObjectsV2", Bucket=self._bucket, Prefix=self._prefix):
            for item in page.get("Contents", []):
                inner = item["Key"][len(self._prefix) :]
                path = self._folder / inner
                if inner == OWNER or ".." in Path(inner).parts or Path(inner).is_absolute():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                self._aws.s3("DownloadFile", Bucket=self._bucket, Key=item["Key"], Filename=str(path))
                self._sent[inner] = _facts(path)

    def start(self) -> None:
        """Begin to send what is new, every few seconds."""
        self._thread.start()

    def push(self) -> None:
        """Send what is new and remove what is gone; journals last, so that what they name is there. Raises AwsError."""
        owner = self._aws.read_object(self._bucket, self._prefix + OWNER).decode("utf-8", "replace")
        if owner != self._name:
            self.is_lost = True
            return
        # Not by rglob, which fails where a folder vanishes while it is listed.
        paths = [Path(folder, name) for folder, _, names in os.walk(self._folder, onerror=_refuse) for name in names]
        files = [path for path in paths if path.is_file() and path.name not in _NOT_SENT]
        there = {path.relative_to(self._folder).as_posix(): path for path in files if path.suffix != ".part"}
        for inner in sorted(there, key=lambda name: (Path(name).name.startswith("journal-"), name)):
            try:
                facts = _facts(there[inner])
                if self._sent.get(inner) != facts:
                    key = self._prefix + inner
                    self._aws.s3("UploadFile", Filename=str(there[inner]), Bucket=self._bucket, Key=key)
                    self._sent[inner] = facts
            except FileNotFoundError:  # replaced by a newer one meanwhile
                continue
        for inner in [inner for inner in self._sent if inner not in there]:
            self._aws.s3("DeleteObject", Bucket=self._bucket, Key=self._prefix + inner)
            del self._sent[inner]

    def finish(self) -> None:
        """Send what is left. Raises TrainerError where it does not reach S3."""
        self._ending.set()
        self._thread.join()
        if self.is_lost:
            raise TrainerError("another job goes on with this run; this one leaves it to it.")
        self.push()

    def _follow(self) -> None:
        while not self._ending.wait(_PUSH_S):
            try:
                self.push()
            except (AwsError, NoCredentials, NotFound, OSError) as error:  # tried again; the end says if it stays so
                print(f"not sent yet: {error}", file=sys.stderr, flush=True)
            if self.is_lost:
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error  # what could not be listed is not gone


def _facts(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


if __name__ == "__main__":
    sys.exit(main())
