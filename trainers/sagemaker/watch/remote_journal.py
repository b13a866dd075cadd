"""The journal that our own container writes: read from the job's checkpoint prefix in S3 as it grows, and at the end.

The container's journal is under ``<checkpoints>/journals/<id>/``, which SageMaker mirrors to S3 while the job runs
and after it, however it ends. Enters: a bucket, a prefix and a position. Leaves: events, each once, and the files that
artifact events point at.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tracking.journal.checks import FILES, Event
from tracking.journal.events import SEGMENT_BYTES, segment_path
from tracking.journal.files import whole_file
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import split_s3
from trainers.sagemaker.errors import AwsError, NotFound, Unreachable

FOLDER = "journals"
_SEGMENT = re.compile(r"journal-(\d{6})\.jsonl")
_LOG = "log.txt"  # what the container printed is in CloudWatch too, with more around it


class RemoteJournal:
    """Reads on where ``state`` (``{"id", "segment", "offset"}``) left off; ``state`` grows in place."""

    def __init__(self, aws: Aws, checkpoints_uri: str, state: dict[str, Any]) -> None:
        bucket, prefix = split_s3(checkpoints_uri)
        self._aws, self._bucket, self._state = aws, bucket, state
        self._prefix = f"{prefix.rstrip('/')}/{FOLDER}/"

    def read(self) -> Iterator[Event]:
        """Yield the events that are new; each counts as read once the next is asked for. Raises AwsError."""
        if "id" not in self._state and not self._find():
            return
        while True:
            number, offset = self._state["segment"], self._state["offset"]
            content = self._get(segment_path(Path(), number).name, offset)
            if content is None:  # the container began anew: what an interruption left was not enough to go on
                del self._state["id"]
                return
            for line in content.splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    return  # the rest of it comes with the next copy
                try:
                    event = json.loads(line)
                except ValueError:
                    return
                yield event
                offset += len(line)
                self._state["offset"] = offset
            if (
                offset < SEGMENT_BYTES // 2
                or self._get(segment_path(Path(), number + 1).name, 0, only_look=True) is None
            ):
                return
            self._state["segment"], self._state["offset"] = number + 1, 0

    def files(self, target: Path, *, with_log: bool) -> None:
        """Bring the run's ``files/`` to ``target``; those that are there in the same size are left. Raises AwsError.

        ``with_log``: the container's own copy of what it printed as well.
        """
        if "id" not in self._state and not self._find():
            return
        prefix = f"{self._prefix}{self._state['id']}/{FILES}/"
        for key, size in self._list(prefix):
            inner = PurePosixPath(key[len(prefix) :])
            if (
                inner.is_absolute()
                or ".." in inner.parts
                or (str(inner) == _LOG and not with_log)
                or inner.name.endswith(".part")
            ):
                continue
            path = target / inner
            if path.is_file() and path.stat().st_size == size:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path, shared=True) as part:
                self._fetch(key, part)

    def _find(self) -> bool:
        for key, _ in self._list(self._prefix):
            inner = key[len(self._prefix) :].split("/")
            if len(inner) == 2 and _SEGMENT.fullmatch(inner[1]):
                self._state.update(id=inner[0], segment=1, offset=0)
                return True
        return False

    def _fetch(self, key: str, target: Path) -> None:
        self._aws.s3("DownloadFile", Bucket=self._bucket, Key=key, Filename=str(target))

    def _list(self, prefix: str) -> Iterator[tuple[str, int]]:
        for page in self._aws.pages("s3", "ListObjectsV2", patience_s=0.0, Bucket=self._bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"], int(entry["Size"])

    def _get(self, name: str, offset: int, *, only_look: bool = False) -> bytes | None:
        """The bytes from ``offset`` on, b"" where there are no more, None where there is no such object."""
        key = f"{self._prefix}{self._state['id']}/{name}"
        try:
            if only_look:
                self._aws.s3("HeadObject", Bucket=self._bucket, Key=key)
                return b""
            return self._aws.read_object(self._bucket, key, f"bytes={offset}-")
        except NotFound:
            return None
        except AwsError as error:
            if error.code in ("InvalidRange", "416"):
                return b""
            raise


class FolderJournal(RemoteJournal):
    """The same of a job that writes to a folder which this machine sees as well."""

    def __init__(self, root: Path, state: dict[str, Any]) -> None:
        self._root, self._state, self._prefix = root, state, f"{FOLDER}/"

    def _fetch(self, key: str, target: Path) -> None:
        shutil.copyfile(self._root / key, target)

    def _list(self, prefix: str) -> Iterator[tuple[str, int]]:
        for path in sorted((self._root / prefix).rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(self._root).as_posix(), path.stat().st_size

    def _get(self, name: str, offset: int, *, only_look: bool = False) -> bytes | None:
        try:
            with open(self._root / self._prefix / self._state["id"] / name, "rb") as stream:
                stream.seek(offset)
                return b"" if only_look else stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:  # a network's file system, for one
            raise Unreachable(f"{self._root} cannot be read ({error.strerror})") from error
