"""The machine under a job with an image of its own: lays out /opt/ml elsewhere and really runs the container's process.

File mode channels come from S3, checkpoints go to S3 while the job runs and come back when it starts again, the model
and the output folder become archives. The process can be stopped, reclaimed, starved of disk and of network.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.forked import Forked
from trainers.sagemaker.container import __main__ as container

SYNC_S = 0.2  # real seconds between two looks at /opt/ml/checkpoints


def s3_parts(uri: str) -> tuple[str, str]:
    """``s3://bucket/key`` as bucket and key."""
    match = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    assert match, uri
    return match[1], match[2]


class Run:
    """One attempt of one job: a process and the folders it sees as /opt/ml."""

    def __init__(self, job: Any, root: Path, s3: Any, grace_s: float) -> None:
        self.job, self.s3, self.base, self.grace_s = job, s3, root / "ml", grace_s
        self.reclaimed = self.stopping = False
        self.killer: threading.Timer | None = None
        self._synced: dict[str, tuple[int, int]] = {}
        self._lay_out()
        self.process = self._spawn(root)
        self.threads = [threading.Thread(target=self._pump, daemon=True), threading.Thread(target=self._sync_loop)]
        for thread in self.threads:
            thread.start()

    def _lay_out(self) -> None:
        request, config = self.job.request, self.base / "input" / "config"
        for folder in ("input/config", "input/data", "model", "output/data", "checkpoints"):
            (self.base / folder).mkdir(parents=True)
        channels = {}
        for channel in request.get("InputDataConfig", []):
            name, source = channel["ChannelName"], channel["DataSource"]["S3DataSource"]
            self._download(source["S3Uri"], self.base / "input" / "data" / name)
            channels[name] = {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
                "ContentType": channel.get("ContentType", ""),
            }
        machine = self.job.selected
        files = {
            "hyperparameters.json": request.get("HyperParameters", {}),
            "inputdataconfig.json": channels,
            "resourceconfig.json": {
                "current_host": "algo-1",
                "hosts": ["algo-1"],
                "network_interface_name": "eth0",
                "current_instance_type": machine,
            },
        }
        for name, content in files.items():
            (config / name).write_text(json.dumps(content))
        if "CheckpointConfig" in request:
            self._download(request["CheckpointConfig"]["S3Uri"].rstrip("/") + "/", self.base / "checkpoints")

    def _download(self, uri: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        bucket, prefix = s3_parts(uri)
        stem = prefix if prefix.endswith("/") or not prefix else prefix.rpartition("/")[0]
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                inner = entry["Key"][len(prefix) :] if entry["Key"].startswith(prefix.rstrip("/") + "/") else ""
                target = folder / (inner.lstrip("/") or entry["Key"][len(stem) :].lstrip("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                self.s3.download_file(bucket, entry["Key"], str(target))

    def _spawn(self, root: Path) -> subprocess.Popen[str] | Forked:
        job = self.job
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "PYTHONPATH": str(ROOT),  # what the image has installed
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "SAGEMAKER_BASE_DIR": str(self.base),
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": job.arn,
            "AWS_REGION": job.region,
            **job.request.get("Environment", {}),
        }
        algorithm = job.request["AlgorithmSpecification"]
        entry = algorithm.get("ContainerEntrypoint", ["python", "-m", "trainers.sagemaker.container"])
        words = [*entry, *algorithm.get("ContainerArguments", ["train"])]
        if words[0] == "python" and not (job.plan.no_network or job.plan.disk_mb):
            # The code that came with the job is the one here: it need not take its own process's place.
            return Forked(*words[1:], cwd=root, env={**environment, container.SENT_CODE: str(ROOT)})
        argv = [sys.executable if words[0] == "python" else words[0], *words[1:]]
        if job.plan.no_network:
            argv = ["unshare", "-rn", *argv]
        if job.plan.disk_mb:
            mount = f"mount -t tmpfs -o size={job.plan.disk_mb}m none "
            both = " && ".join(mount + str(self.base / name) for name in ("checkpoints", "model"))
            argv = ["unshare", "-rm", "sh", "-c", f'{both} && exec "$@"', "sh", *argv]
        return subprocess.Popen(
            argv,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def _pump(self) -> None:
        assert self.process.stdout is not None
        trigger = self.job.plan.interrupted_on if self.job.attempt == 1 else ""
        with self.process.stdout as stream:
            for line in map(str.rstrip, stream):
                self.job.print([line], self.job.world.now())
                if trigger and re.search(trigger, line) and not self.reclaimed:
                    self.reclaimed = True
                    self.terminate()

    def terminate(self) -> None:
        """SIGTERM now, SIGKILL after the grace."""
        if self.process.poll() is None and self.killer is None:
            self.process.send_signal(signal.SIGTERM)
            self.killer = threading.Timer(self.grace_s, self.process.kill)
            self.killer.daemon = True
            self.killer.start()

    def _sync_loop(self) -> None:
        while self.process.poll() is None:
            self.sync()
            time.sleep(SYNC_S)

    def sync(self) -> None:
        """Mirror /opt/ml/checkpoints to S3, deletions too."""
        if "CheckpointConfig" not in self.job.request or self.job.plan.disk_mb:
            return
        bucket, prefix = s3_parts(self.job.request["CheckpointConfig"]["S3Uri"].rstrip("/") + "/")
        there: dict[str, tuple[int, int]] = {}
        # A folder may go while this looks: os.walk passes over it, rglob would raise.
        for path in sorted(Path(at, name) for at, _, found in os.walk(self.base / "checkpoints") for name in found):
            try:
                facts = path.stat()
                if not path.is_file():
                    continue
                key = prefix + path.relative_to(self.base / "checkpoints").as_posix()
                there[key] = (facts.st_size, facts.st_mtime_ns)
                if self._synced.get(key) != there[key]:
                    self.s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
            except FileNotFoundError:
                continue
        for key in self._synced.keys() - there.keys():
            self.s3.delete_object(Bucket=bucket, Key=key)
        self._synced = there

    def look(self) -> str | None:
        """None while the process runs; then "", "interrupted" or the FailureReason."""
        if self.process.poll() is None:
            return None
        for thread in self.threads:
            thread.join(timeout=30)
        if self.killer is not None:
            self.killer.cancel()
        self.sync()
        if self.reclaimed and not self.stopping:
            return "interrupted"
        code = self.process.returncode
        if code == 0 or self.stopping:
            return ""
        failure = self.base / "output" / "failure"
        told = failure.read_text(errors="replace")[:1024] if failure.exists() else ""
        return f"AlgorithmError: {told}, exit code: {code if code > 0 else 128 - code}"

    def upload(self, put: Any, with_model: bool) -> None:
        """model.tar.gz (not of a failed job) and output.tar.gz."""
        stem = self.job.artifact_uri.removesuffix("model.tar.gz")
        if with_model:
            put(stem + "model.tar.gz", _tar(self.base / "model"))
        if any((self.base / "output" / "data").iterdir()):
            put(stem + "output.tar.gz", _tar(self.base / "output" / "data"))


class Host:
    """All machines of the fake."""

    def __init__(self, folder: Path, world: Any, grace_s: float = 30.0) -> None:
        """``grace_s``: real seconds between SIGTERM and SIGKILL, 120 at AWS."""
        self.folder, self.world, self.grace_s = folder, world, grace_s
        self.runs: dict[str, Run] = {}

    def start(self, job: Any) -> None:
        """Run the job's container on a fresh machine."""
        root = self.folder / job.name / f"attempt-{job.attempt}"
        root.mkdir(parents=True)
        self.runs[job.name] = Run(job, root, self.world.s3, self.grace_s)

    def look(self, job: Any) -> str | None:
        """How the job's container is doing; see ``Run.look``."""
        return self.runs[job.name].look()

    def stop(self, job: Any) -> None:
        """Ask the job's container to end."""
        run = self.runs[job.name]
        run.stopping = True
        run.terminate()

    def upload(self, job: Any, *, with_model: bool) -> None:
        """Put what the container left into S3."""
        self.runs[job.name].upload(self.world.put, with_model)

    def close(self) -> None:
        """End what still runs."""
        for run in self.runs.values():
            if run.process.poll() is None:
                run.process.kill()
            run.process.wait(30)
            if run.killer is not None:
                run.killer.cancel()
            for thread in run.threads:
                thread.join(timeout=30)


def _tar(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    return buffer.getvalue()
