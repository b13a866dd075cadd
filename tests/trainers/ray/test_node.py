"""What a node does before and beside the run: its folder, its copy in S3, one job at a time."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws.account import World
from tests.support.aws.account import account_fixture as account_fixture
from tests.support.aws.account import shared_fixture as shared_fixture
from tracking.journal import Journal
from trainers.errors import BadInput, TrainerError
from trainers.ray import node
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.errors import NotFound

URI = "s3://bucket-one/runs/cats"


class Bucket:
    """S3 as far as a mirror needs it; ``calls`` in order."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []

    def s3(self, operation: str, *, Bucket: str, Key: str, Filename: str = "", Body: bytes = b"") -> None:
        assert Bucket == "bucket-one"
        self.calls.append((operation, Key.removeprefix("runs/cats/")))
        if operation == "DownloadFile":
            Path(Filename).write_bytes(self.objects[Key])
        elif operation == "DeleteObject":
            del self.objects[Key]
        else:
            self.objects[Key] = Body or Path(Filename).read_bytes()

    def pages(self, service: str, operation: str, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        yield {"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(Prefix)]}

    def read_object(self, bucket: str, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound(key)
        return self.objects[key]


def mirror(bucket: Bucket, folder: Path, name: str) -> node.Mirror:
    made = node.Mirror(URI, folder, name, bucket)  # type: ignore[arg-type]
    made.fetch()
    made.start()
    return made


def test_a_copy_in_s3_holds_what_the_next_job_goes_on_from(tmp_path: Path) -> None:
    bucket, first, second = Bucket(), tmp_path / "a", tmp_path / "b"
    one = mirror(bucket, first, "cats-000")
    for name in ("journals/j/journal-000001.jsonl", "journals/j/state/state-1.npz", "journals/j/lock"):
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        (first / name).write_text(name)
    (first / "journals/j/half.part").write_text("half")
    one.push()
    assert [key for _, key in bucket.calls[1:]] == ["journals/j/state/state-1.npz", "journals/j/journal-000001.jsonl"]
    bucket.calls.clear()
    one.push()
    assert not bucket.calls, "what is there is not sent again"
    (first / "journals/j/state/state-2.npz").write_text("two")
    (first / "journals/j/state/state-1.npz").unlink()
    one.finish()
    assert [call[0] for call in bucket.calls] == ["UploadFile", "DeleteObject"]
    two = mirror(bucket, second, "cats-001")
    assert sorted(path.name for path in second.rglob("*") if path.is_file()) == ["journal-000001.jsonl", "state-2.npz"]
    bucket.calls.clear()
    two.finish()
    assert not bucket.calls


def test_a_copy_goes_on_after_what_s3_refused(account: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's transfers raise errors of their own around S3's, and other programs remove what is being listed."""
    monkeypatch.setattr(node, "_PUSH_S", 0.05)
    aws, folder, key = Aws(region="us-east-1"), tmp_path / "a", f"{account.folder}/runs"
    made = node.Mirror(f"s3://bucket-one/{key}", folder, "cats-000", aws)
    made.fetch()
    real, refused = aws.s3, list[str]()

    def refuse(operation: str, **arguments: Any) -> Any:
        if operation == "UploadFile" and len(refused) < 2:
            refused.append(arguments["Key"])
            shutil.rmtree(folder / "gone", ignore_errors=True)
            arguments["Bucket"] = "no-such-bucket"
        return real(operation, **arguments)

    monkeypatch.setattr(aws, "s3", refuse)
    for name in ("journal-000001.jsonl", "gone/part.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    made.start()
    until = time.monotonic() + 60
    while len(refused) < 2 or not made._sent:
        assert time.monotonic() < until and made._thread.is_alive()
        time.sleep(0.01)
    made.finish()
    assert aws.read_object("bucket-one", f"{key}/journal-000001.jsonl") == b"journal-000001.jsonl"


def test_what_cannot_be_listed_is_not_removed_from_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, real = Bucket(), os.scandir
    made = mirror(bucket, tmp_path / "a", "cats-000")
    (tmp_path / "a" / "state").mkdir()
    (tmp_path / "a" / "state" / "state-1.npz").write_text("state")
    made.push()

    def scandir(path: Any) -> Any:
        if Path(path).name == "state":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        with pytest.raises(OSError, match="Too many open files"):
            made.push()
    assert "runs/cats/state/state-1.npz" in bucket.objects
    made.finish()


def test_an_upload_that_s3_refuses_says_what_s3_says(account: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotFound, match="UploadFile: The specified bucket does not exist"):
        Aws(region="us-east-1").s3("UploadFile", Filename=str(tmp_path / "file"), Bucket="no-such-bucket", Key="key")


def test_a_job_that_was_replaced_no_longer_writes(tmp_path: Path) -> None:
    bucket = Bucket()
    former = mirror(bucket, tmp_path / "a", "cats-000")
    mirror(bucket, tmp_path / "b", "cats-001").finish()
    (tmp_path / "a" / "late").write_text("late")
    former.push()
    assert former.is_lost and "runs/cats/late" not in bucket.objects
    with pytest.raises(TrainerError, match="another job goes on"):
        former.finish()


def test_a_key_that_leads_elsewhere_is_left(tmp_path: Path) -> None:
    bucket = Bucket()
    bucket.objects |= {"runs/cats/../../outside": b"x", "runs/cats//etc/x": b"x", "runs/cats/good": b"x"}
    mirror(bucket, tmp_path / "a" / "b", "cats-000").finish()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["good"]


def test_a_folder_that_the_node_does_not_see_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match="does not see cats in it.*share"),
        node.kept(str(tmp_path / "cats"), tmp_path, ""),
    ):
        pass


def test_a_run_that_a_former_process_still_writes_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, naps = Journal.create(tmp_path / "journals", experiment="x", run_name=None), list[float]()
    here, real = threading.get_ident(), time.sleep

    def sleep(seconds: float) -> None:
        if threading.get_ident() != here:  # threads beside the run sleep, too
            return real(seconds)
        naps.append(seconds)
        journal.close()

    monkeypatch.setattr("time.sleep", sleep)
    with node.kept(str(tmp_path), tmp_path / "work", "cats-001") as folder:
        assert folder == tmp_path and len(naps) == 1


def test_the_program_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert node.main([]) == 2
    assert "TRAINERS_CONFIG is not set" in capsys.readouterr().err
