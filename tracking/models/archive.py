"""What a SageMaker job leaves: ``model.tar.gz``, or a folder of the same files, read safely.

The built-in image classification's, or that of this project's own trainer, which has a ``model.json`` beside the two.

An archive is not trusted. Nothing is extracted by its own names: only plain files whose names are the algorithm's
are read, within limits, and the graph and weights are checked before any library sees them.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from tracking.errors import ModelError
from tracking.models.facts import META, SYMBOL, WEIGHTS, check
from tracking.models.formats import params, symbol
from tracking.models.formats.onnx_operators import TRANSLATIONS
from tracking.models.serving.files import DIGESTS

MAX_MEMBERS = 10_000
MAX_TEXT_BYTES = symbol.MAX_BYTES
MAX_WEIGHTS_BYTES = params.MAX_BYTES
MAX_BYTES = 16 * 2**30  # of all members, wanted or not: they must be unpacked to be passed over
# Weights hardly compress; what is smaller than the first figure may.
HARMLESS_BYTES, MOST_TIMES = 64 * 2**20, 20
MAX_HEADER_BYTES = 256 * 2**10  # of what a tar says of one member

_PARAMS = re.compile(r"(.+)-(\d{4,})\.params")
_SEVERAL_LABELS = "LogisticRegressionOutput"
_SYMBOL_SUFFIX, _SHAPES = "-symbol.json", "model-shapes.json"
_MOST_GZIPS, _START = 2, tarfile.BLOCKSIZE
_STARTS = {
    b"<?xml": "an XML page, such as the error that S3 answers with: fetch it again with leave to read it",
    b"<html": "an HTML page, such as a login or an error",
    b"<!doctype": "an HTML page, such as a login or an error",
    b"version https://git-lfs": "a Git LFS pointer (`git lfs pull` fetches the file)",
    b"{": "JSON",
    b"\x12\x01\0\0\0\0\0\0": "MXNet's weights alone (name the folder that has their graph, …-symbol.json, too)",
}
_PACKERS = {
    b"pk\x03\x04": "a zip",
    b"bzh": "compressed by bzip2",
    b"\xfd7zxz": "compressed by xz",
    b"7z\xbc\xaf": "a 7z archive",
    b"rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\x1f\x8b": f"gzipped more than {_MOST_GZIPS} times",
}
_STARTS |= {mark: f"{kind} (unpack it and name the folder)" for mark, kind in _PACKERS.items()}
# What else is in a file or archive of that name, by the ends of the files' names.
_OTHERS = {
    ("xgboost-model",): "a model of XGBoost",
    (".pth", ".pt", "pytorch_model.bin", ".safetensors"): "a model of PyTorch",
    ("saved_model.pb", ".h5", ".keras"): "a model of TensorFlow",
    (".onnx",): "an ONNX model",
    (".tar.gz", ".tgz", ".tar"): "an archive inside; unpack this one and name that",
    (".params",): "weights without their graph; Gluon's `net.export(…)` writes both",
}


@dataclass(frozen=True)
class Archive:
    """What was taken out: ``epoch`` of the weights (from 1), the network's input (C, H, W) and number of classes.

    ``facts``: what our own trainer says of its model, empty for the built-in's.
    """

    epoch: int
    image_shape: tuple[int, int, int] | None
    num_classes: int
    facts: dict[str, Any]


def take_out(
    source: str | Path,
    directory: str | Path,
    *,
    epoch: int | None = None,
    best_epoch: int | None = None,
    half_precision: bool = False,
) -> Archive:
    """Put an archive's network into ``directory`` as ``model-symbol.json`` (to the logits) and ``model-0000.params``.

    ``epoch`` chooses among several checkpoints, which an archive holds when checkpoint_frequency was set; without it
    ``best_epoch``, which the job's log names, decides among several (the highest number is the last, not the best).
    ``half_precision``: a graph in float16 is taken too, in single precision, while its weights are left as they are.
    Raises ModelError for what is no such archive, is damaged, hostile, or leaves the choice open.
    """
    source, directory = Path(source), Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    texts: dict[str, bytes] = {}
    epochs: dict[int, str] = {}
    with _members(source) as members:
        for name, size, file in members:
            if name.endswith(_SYMBOL_SUFFIX) and any(other.endswith(_SYMBOL_SUFFIX) for other in texts):
                texts[name] = b""  # one too many, which is said below
            elif name.endswith(_SYMBOL_SUFFIX) or name in (_SHAPES, META):
                texts[name] = _read(file, size, MAX_TEXT_BYTES, f"{source}: {name}")
            elif match := _PARAMS.fullmatch(name):
                number = int(match[2])
                if number == epoch or (epoch is None and (not epochs or number == best_epoch)):
                    _copy(file, size, directory / WEIGHTS, f"{source}: {name}")
                epochs[number] = name
    chosen = _choose(epochs, epoch, best_epoch, source)
    graph = _graph(texts, source)
    arrays = params.weights(directory / WEIGHTS)
    missing = [name for name in graph.variables if name not in arrays]
    if missing != ["data"]:
        raise ModelError(
            f"{source}: the graph wants {', '.join(missing) or 'no picture'} beside the weights; it should be data."
        )
    classes = symbol.num_classes(graph, arrays)
    if classes is None:
        raise ModelError(f"{source}: its graph does not end in a layer that tells the classes apart.")
    single = symbol.in_single_precision(graph)
    if single != graph and not half_precision:
        raise ModelError(f"{source}: its network computes in float16, which cannot be saved as a model here.")
    (directory / SYMBOL).write_text(symbol.to_json(single), encoding="utf-8")
    facts = _facts(texts.get(META), source)
    shape = tuple(facts["image_shape"]) if facts else _image_shape(texts.get(_SHAPES), source)
    return Archive(int(facts.get("epoch", chosen)), shape, classes, facts)


def epochs(source: str | Path) -> list[int]:
    """The epochs whose weights an archive holds. Raises ModelError as ``take_out``."""
    with _members(Path(source)) as members:
        found = [_PARAMS.fullmatch(name) for name, _, _ in members]
    return sorted(int(match[2]) for match in found if match)


def image_shape(source: str | Path) -> tuple[int, int, int] | None:
    """(C, H, W) px of the network's input, None where the archive doesn't tell. Raises ModelError as ``take_out``."""
    source = Path(source)
    with _members(source) as members:
        texts = {
            name: _read(file, size, MAX_TEXT_BYTES, f"{source}: {name}")
            for name, size, file in members
            if name in (_SHAPES, META)
        }
    facts = _facts(texts.get(META), source)
    return tuple(facts["image_shape"]) if facts else _image_shape(texts.get(_SHAPES), source)


def has_facts(source: str | Path) -> bool:
    """Whether an archive describes its model, as this project's do. Raises ModelError as ``take_out``."""
    with _members(Path(source)) as members:
        return any(name == META for name, _, _ in members)


def is_archive(source: Any) -> bool:
    """Whether this is a path to such an archive or folder, by its looks."""
    if not isinstance(source, (str, Path)):
        return False
    path = _in_folder(Path(source))
    if path.is_dir():
        return any(_folder_home(path).glob(f"*{_SYMBOL_SUFFIX}"))
    return path.name.endswith((".tar.gz", ".tgz", ".tar")) or _starts_as_one(path)


def _starts_as_one(path: Path) -> bool:
    """Whether a file of any name (``model.tar.gz.1``, ``model``) is a tar, or something packed or compressed."""
    try:
        with open(path, "rb") as file:
            start = file.read(262)
    except OSError:
        return False
    return start[257:] == b"ustar" or start.lower().startswith(tuple(_PACKERS))


def _in_folder(source: Path) -> Path:
    """The ``model.tar.gz`` in a folder that has no model but one of these, as a copy of a job's output does."""
    if not source.is_dir() or any(_folder_home(source).glob(f"*{_SYMBOL_SUFFIX}")):
        return source
    inside = [*source.glob("model.tar.gz"), *source.glob("*/model.tar.gz")]
    return inside[0] if len(inside) == 1 else source


Member = tuple[str, int, IO[bytes]]


@contextmanager
def _members(source: Path) -> Iterator[Iterator[Member]]:
    """The plain files at the top of an archive or folder: name, size, content."""
    source = _in_folder(source)
    if source.is_dir():
        yield _of_folder(source)
        return
    try:
        with open(source, "rb") as file, ExitStack() as opened:
            content: IO[bytes] = file
            for _ in range(_MOST_GZIPS):  # some tools compress what is compressed
                packed = content.read(2) == b"\x1f\x8b"
                content.seek(0)
                if not packed:
                    break
                content = cast(IO[bytes], opened.enter_context(gzip.open(content)))
            _check_start(content.read(_START), source)
            content.seek(0)
            yield _of_tar(opened.enter_context(opened_tar(content, source)), source)
    except EOFError as error:
        raise _cut_short(source) from error
    except (OSError, zlib.error) as error:
        raise ModelError(f"{source} cannot be read as a model archive ({type(error).__name__}: {error}).") from error


@contextmanager
def opened_tar(content: IO[bytes], source: Path) -> Iterator[tarfile.TarFile]:
    """A tar without compression, read within limits. Raises ModelError for whatever it cannot be read for."""
    try:
        with tarfile.open(fileobj=cast(Any, _Bounded(content, source)), mode="r:") as tar:
            yield tar
    except EOFError as error:
        raise _cut_short(source) from error
    except RecursionError as error:
        raise ModelError(f"{source} is no model archive: a chain of headers without a file. Pack it anew.") from error
    except (tarfile.TarError, OSError, ValueError, IndexError, OverflowError, zlib.error) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{source} cannot be read as an archive ({type(error).__name__}: {error}).") from error


def _cut_short(source: Path) -> ModelError:
    return ModelError(f"{source} is cut short: the download or copy did not end. Fetch it again.")


def _check_start(start: bytes, source: Path) -> None:
    """Raise ModelError for what is clearly no tar, by its name."""
    kind = next((kind for mark, kind in _STARTS.items() if start.lstrip().lower().startswith(mark)), None)
    if not start:
        kind = "an empty file"
    elif kind is None and len(start) < _START and start.decode("latin-1").strip().isprintable():
        kind = f"text ({start[:40].decode('latin-1').strip()!r})"
    if kind is not None:
        raise ModelError(f"{source} is {kind}, no model archive (a tar of the job's files, mostly gzipped).")


class _Bounded:
    """A file that refuses to read long headers: a tar's may have any length and number.

    ``left``: how much more may be read of the next header, None while a member is read.
    """

    def __init__(self, file: IO[bytes], source: Path) -> None:
        self._file, self._source = file, source
        self.left: int | None = MAX_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        if self.left is not None:
            if not 0 <= size <= self.left:
                raise ModelError(
                    f"{self._source} has more than {MAX_HEADER_BYTES:,} bytes of headers before a file; pack it anew."
                )
            self.left -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def plain_members(tar: tarfile.TarFile, source: Path) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Files and folders of an archive with their names inside it. Raises ModelError for a name that leads elsewhere
    and for links, devices and sparse files, which a few bytes make as large as they like."""
    file = cast(_Bounded, tar.fileobj)
    total, most = 0, max(HARMLESS_BYTES, MOST_TIMES * source.stat().st_size)
    while True:
        file.left = MAX_HEADER_BYTES
        member = tar.next()
        file.left = None
        if member is None:
            return
        member.pax_headers = {}  # each has a copy of those of the whole archive
        tar.pax_headers = {}
        name = member.name.removeprefix("./")
        strange = name.startswith("/") or ".." in Path(name).parts or member.size < 0 or "\0" in name
        if strange or not (member.isfile() or member.isdir()):
            raise ModelError(
                f"{source}: {member.name[:200]!r} is no plain file inside the archive; nothing more is read."
                " Pack it anew: tar -hczf model.tar.gz -C FOLDER ."
            )
        if member.issparse():
            raise ModelError(f"{source}: {name[:200]!r} is a sparse file; pack it anew without --sparse.")
        total += member.size
        if total > most:
            raise ModelError(
                f"{source} unpacks to more than {MOST_TIMES} times its size, as no weights do; it is not read."
            )
        yield name, member


def _of_tar(tar: tarfile.TarFile, source: Path) -> Iterator[Member]:
    found: dict[PurePosixPath, tarfile.TarInfo] = {}
    total = 0
    for number, (name, member) in enumerate(plain_members(tar, source)):
        if number >= MAX_MEMBERS:
            raise ModelError(f"{source} holds more than {MAX_MEMBERS:,} files; a model has a handful.")
        total += member.size
        if total > MAX_BYTES:
            raise ModelError(f"{source} unpacks to more than {MAX_BYTES:,} bytes; no such model is known.")
        path = PurePosixPath(name)
        if member.isfile() and not _is_aside(path):
            found[path] = member
    home = _home(list(found), source)
    for path, member in found.items():
        if path.parent == home:
            content = tar.extractfile(member)
            assert content is not None
            yield path.name, member.size, content


def _home(paths: list[PurePosixPath], source: Path) -> PurePosixPath:
    """The folder that the model is in: the top, or where an archive was packed with its folder, that one."""
    if not paths:
        raise ModelError(f"{source} is empty: the job left no model in it.")
    homes = {path.parent for path in paths if path.name.endswith(_SYMBOL_SUFFIX)}
    _demand_graph([path.name for path in paths], source)
    if len(homes) > 1 and PurePosixPath() not in homes:
        there = ", ".join(sorted(f"{home}/" for home in homes)[:5])
        raise ModelError(f"{source} holds several models ({there}); pack the files of one of them.")
    return homes.pop() if len(homes) == 1 else PurePosixPath()


def _demand_graph(listed: list[str], source: Path) -> None:
    """Raise ModelError where none of these files is a network's graph, with what they are instead."""
    if not any(name.endswith(_SYMBOL_SUFFIX) for name in listed):
        what = next((w for ends, w in _OTHERS.items() if any(name.endswith(ends) for name in listed)), "")
        there = ", ".join(sorted(name[:60] for name in listed)[:5]) + (", …" if len(listed) > 5 else "")
        holds = f": it holds {there}{f' ({what})' if what else ''}" if listed else ""
        raise ModelError(f"{source} has no graph of a network (a file such as model{_SYMBOL_SUFFIX}){holds}.")


def _is_aside(path: PurePosixPath) -> bool:
    """Whether a Mac put this beside a file (its attributes) when it packed the archive."""
    return path.name.startswith("._") or path.parts[0] == "__MACOSX"


def _folder_home(folder: Path) -> Path:
    """As ``_home``, of an unpacked archive: the folder, or the one folder in it that has a graph."""
    inner = {path.parent for path in folder.glob(f"*/*{_SYMBOL_SUFFIX}")}
    return inner.pop() if len(inner) == 1 and not any(folder.glob(f"*{_SYMBOL_SUFFIX}")) else folder


def _of_folder(folder: Path) -> Iterator[Member]:
    home = sorted(_folder_home(folder).iterdir())
    _demand_graph([path.name for path in home], folder)
    for path in home:
        if path.is_file() and not _is_aside(PurePosixPath(path.name)):
            with open(path, "rb") as file:
                yield path.name, path.stat().st_size, file


def _read(file: IO[bytes], size: int, limit: int, name: str) -> bytes:
    if size > limit:
        raise ModelError(f"{name} has {size:,} bytes; at most {limit:,} are read.")
    return file.read(limit)


def _copy(file: IO[bytes], size: int, target: Path, name: str) -> None:
    if size > MAX_WEIGHTS_BYTES:
        raise ModelError(f"{name} has {size:,} bytes; at most {MAX_WEIGHTS_BYTES:,} are read.")
    with open(target, "wb") as out:
        shutil.copyfileobj(file, out, 2**20)


def _choose(epochs: dict[int, str], epoch: int | None, best_epoch: int | None, source: Path) -> int:
    if not epochs:
        raise ModelError(f"{source} holds no weights (a file such as image-classification-0010.params).")
    there = ", ".join(map(str, sorted(epochs)))
    if epoch is None:
        epoch = next(iter(epochs)) if len(epochs) == 1 else best_epoch
    if epoch is None:
        raise ModelError(
            f"{source} holds the weights of the epochs {there}; say which, such as `--epoch {max(epochs)}` (in Python"
            " epoch=…); the job's log names the best."
        )
    if epoch not in epochs:
        raise ModelError(f"{source} has no weights of epoch {epoch}; there are: {there}.")
    return epoch


def _graph(texts: dict[str, bytes], source: Path) -> symbol.Graph:
    symbols = [name for name in texts if name.endswith(_SYMBOL_SUFFIX)]
    if len(symbols) != 1:
        raise ModelError(f"{source} holds several graphs ({', '.join(sorted(symbols)[:5])}); one is expected.")
    graph = symbol.parse(texts[symbols[0]], f"{source}: {symbols[0]}")
    if graph.nodes[graph.head].op == _SEVERAL_LABELS:
        raise ModelError(f"{source} gives several labels a picture; only networks for one label are read.")
    graph = symbol.to_logits(graph)
    foreign = sorted({node.op for node in graph.nodes} - set(TRANSLATIONS) - {symbol.VARIABLE})
    if foreign:
        raise ModelError(f"{source}: its graph uses {', '.join(foreign)}, which no network of the algorithm does.")
    return graph


def _facts(text: bytes | None, source: Path) -> dict[str, Any]:
    """Our own trainer's description of its model, without what is only true of the copy in the archive."""
    if text is None:
        return {}
    try:
        found = dict(json.loads(text))
        check(found)
        int(found.get("epoch", 0))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ModelError(f"{source}: {META} cannot be read ({type(error).__name__}: {error}).") from error
    return {key: value for key, value in found.items() if key not in ("onnx", "format", DIGESTS)}


def _image_shape(text: bytes | None, source: Path) -> tuple[int, int, int] | None:
    if text is None:
        return None
    try:
        for entry in json.loads(text):
            if entry["name"] == "data":
                _, channels, height, width = (int(side) for side in entry["shape"])
                return channels, height, width
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ModelError(f"{source}: {_SHAPES} cannot be read ({type(error).__name__}: {error}).") from error
    return None
