"""Bring code and data to S3, each content once: the key is a hash of the content, so what is there is not sent.

Enters: folders, files, a data set. Leaves: S3 URIs for a job's channels. An object appears whole or not at all, so
finding the key is finding the content.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.errors.words import readable
from trainers.errors import BadData
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import split_s3
from trainers.sagemaker.errors import NotAllowed, NotFound

if TYPE_CHECKING:
    from trainers.data import Dataset, Split

CODE_FILE, DATA_FILE = "code.tar.gz", "data.tar"
PACKAGES = ("tracking", "trainers", "reports")  # reports: the charts of a run
SENT_SUFFIXES = (".py", ".toml", ".json", ".txt")
_PACKING = "1"  # goes into the hash: another way of packing makes other objects
_CHUNK = 1 << 20
_READABLE = (b"\xff\xd8\xff", b"\x89PNG")  # what the built-in decodes


class Uploads:
    """Puts things below ``output``, under ``base``; ``dry`` returns where they would be and sends nothing."""

    def __init__(
        self, aws: Aws, output: str, *, dry: bool = False, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._aws, self._dry, self._say = aws, dry, say
        self.base = f"{output.rstrip('/')}/uploads"

    def code(self) -> str:
        """The packages that a container runs, as one archive; its URI. Equal sources make equal archives."""
        archive = _code()
        uri = f"{self.base}/code/{hashlib.sha256(archive).hexdigest()[:24]}/{CODE_FILE}"
        self._put(uri, len(archive), "code", lambda: io.BytesIO(archive))
        return uri

    def tree(self, path: Path, image_root: Path | None = None) -> str:
        """A file, or a folder with all in it, as one archive ``data.tar``; the prefix that holds it alone.

        A list or manifest takes the pictures of ``image_root`` (its own folder) along. Raises BadData when something
        cannot be read.
        """
        from trainers.data.readers.layouts import SUFFIXES, Form

        files = list(_files(path))
        listing = (*SUFFIXES[Form.LIST], *SUFFIXES[Form.MANIFEST], *SUFFIXES[Form.AUGMENTED])
        if path.is_file() and path.suffix.lower() in listing:
            root = image_root if image_root is not None else path.parent
            files += [(name, file) for name, file in _files(root) if not file.samefile(path)]
        elif path.is_file() and (path.parent / "classes.json").is_file():
            files.append(("classes.json", path.parent / "classes.json"))
        if not files:
            raise BadData(f"{path}: holds no file to send")
        digest, size = _tree_digest(files)
        prefix = f"{self.base}/data/{digest}/"
        self._put(f"{prefix}{DATA_FILE}", size, str(path), lambda: _streamed_tar(files))
        return prefix

    def file(self, path: Path, channel: str) -> str:
        """One file alone under a prefix of its own; the prefix."""
        size = path.stat().st_size
        prefix = f"{self.base}/data/{_file_digest(path)}/{channel}/"
        self._put(f"{prefix}{path.name}", size, str(path), lambda: path.open("rb"))
        return prefix

    def records(self, dataset: Dataset, config: Any) -> dict[str, str]:
        """Train and validation split as RecordIO, ready for the built-in; split name → prefix.

        Encoded pictures go as they are, bundled ones as PNG, scaled up to ``config.image_shape`` where smaller.
        """
        prefixes = {}
        for name in ("train", "validation"):
            split = dataset.splits[name]
            shape = "" if split.pictures.own else str(config.image_shape)
            digest = hashlib.sha256(f"{_PACKING} {split.digest} {shape}".encode()).hexdigest()[:24]
            prefix = f"{self.base}/records/{digest}/{name}/"
            if not self._is_there(f"{prefix}{name}.rec"):
                with tempfile.TemporaryDirectory(prefix="pack-") as folder:
                    path = Path(folder) / f"{name}.rec"
                    if not self._dry:
                        pack(split, path, config)
                    self._put(
                        f"{prefix}{name}.rec",
                        path.stat().st_size if path.exists() else 0,
                        f"{dataset.name} ({name}, {len(split):,} pictures)",
                        functools.partial(path.open, "rb"),
                        known_absent=True,
                    )
            prefixes[name] = prefix
        classes = json.dumps({"format": 1, "class_names": list(dataset.class_names)}, ensure_ascii=False).encode()
        uri = prefixes["train"].removesuffix("train/") + "classes.json"
        self._put(uri, len(classes), "class names", lambda: io.BytesIO(classes))
        return prefixes

    def _put(self, uri: str, size: int, what: str, open_it: Callable[[], Any], *, known_absent: bool = False) -> None:
        if self._dry or (not known_absent and self._is_there(uri)):
            return
        from botocore.exceptions import BotoCoreError, ClientError

        self._say(f"uploading {what} to {uri} ({readable(size)})")
        bucket, key = split_s3(uri)
        try:
            with open_it() as stream:
                self._aws.client("s3").upload_fileobj(stream, bucket, key)
        except (BotoCoreError, ClientError, RuntimeError) as error:
            raise self._aws.failed(error, "PutObject") from error

    def _is_there(self, uri: str) -> bool:
        if self._dry:
            return False
        bucket, key = split_s3(uri)
        try:
            self._aws.s3("HeadObject", Bucket=bucket, Key=key)
        except NotFound:
            return False
        except NotAllowed as error:  # without permission to list the bucket S3 hides that a key is missing
            if error.has_expired:
                raise
            return False
        return True


def code_archive() -> bytes:
    """The packages as they are on this machine, sources alone, without times and owners."""
    buffer = io.BytesIO()
    root = Path(__file__).resolve().parents[3]
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*")):
                if path.is_file() and path.suffix in SENT_SUFFIXES:
                    _add(archive, path, path.relative_to(root).as_posix())
    return _gzip(buffer.getvalue())


_code = functools.cache(code_archive)  # a study's jobs bring the same along


def pack(split: Split, path: Path, config: Any) -> None:
    """Write a split as RecordIO. Raises BadData for a picture that cannot be read."""
    from trainers.data.formats import recordio
    from trainers.data.formats.image_record import pack_image
    from trainers.data.pictures.codec import encode
    from trainers.data.pictures.pictures import EncodedPictures
    from trainers.data.pictures.sizing import resized

    channels, height, width = config.shape
    pictures = split.pictures
    with path.open("wb") as file:
        for index, label in enumerate(split.labels):
            image = b""
            if isinstance(pictures, EncodedPictures):
                image = pictures.source.read(int(pictures.rows[index]))
            if not image.startswith(_READABLE):
                pixels = pictures.load(index, channels)
                if not pictures.own and (pixels.shape[0] < height or pixels.shape[1] < width):
                    pixels = resized(pixels, height, width, area=False)
                image, _ = encode(pixels, None)
            recordio.write(file, pack_image(int(label), index, image))


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its name in the archive, in order; a single file is at the top."""
    if path.is_file():
        yield path.name, path
        return

    def refuse(error: OSError) -> None:
        raise BadData(f"{error.filename}: cannot be read ({error.strerror}); repair or remove it") from error

    for folder, folders, names in os.walk(path, followlinks=True, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            if file.is_file():
                yield file.relative_to(path).as_posix(), file


def _tree_digest(files: list[tuple[str, Path]]) -> tuple[str, int]:
    """Hash of all names and contents, and the sum of sizes in bytes."""
    total, digest = 0, hashlib.sha256(_PACKING.encode())
    for name, path in files:
        digest.update(f"\n{name}\0{path.stat().st_size}\0{_file_digest(path)}".encode())
        total += path.stat().st_size
    return digest.hexdigest()[:24], total


def _file_digest(path: Path) -> str:
    try:
        facts = path.stat()
        return _digest(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror}); repair or remove it") from error


@functools.lru_cache(200_000)
def _digest(path: Path, size: int, time_ns: int, number: int) -> str:
    """The hash of a file's content, computed once for all jobs of a study as long as the file stays as it is."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:24]


class _streamed_tar:
    """A tar archive that is written while it is read, so that it needs no room on the disk."""

    def __init__(self, files: list[tuple[str, Path]]) -> None:
        self._files = files
        self._error: BaseException | None = None

    def __enter__(self) -> _streamed_tar:
        reader, writer = os.pipe()
        self._stream = os.fdopen(reader, "rb")
        self._thread = threading.Thread(target=self._write, args=(writer,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._thread.join(30)

    def read(self, size: int = -1) -> bytes:
        """Bytes of the archive; raises what went wrong while it was written, so that no torn archive is kept."""
        content = self._stream.read(size)
        if self._error is not None:
            raise self._error
        if len(content) < size or size < 0:
            self._thread.join(30)
            if self._error is not None:
                raise self._error
        return content

    def _write(self, writer: int) -> None:
        try:
            with os.fdopen(writer, "wb") as out, tarfile.open(fileobj=out, mode="w|") as archive:
                for name, path in self._files:
                    _add(archive, path, name)
        except BrokenPipeError:
            pass  # the reader gave up and says why
        except OSError as error:
            self._error = BadData(f"changed while it was sent ({error}); start again")
        except BaseException as error:
            self._error = error


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    with path.open("rb") as stream:
        info.size = os.fstat(stream.fileno()).st_size
        info.mode = 0o644
        archive.addfile(info, stream)


def _gzip(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, mtime=0)
