"""Inside the container: channels as the data set that the run reads, archives unpacked safely."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tracking.names import SPLITS
from tracking.store import Store

if TYPE_CHECKING:
    from trainers.config import Config

DATA, INIT = "data", "init"


def place_data(config: Config, base: Path) -> Config:
    """The config with the channels' folders in place of the user's paths.

    Channel ``data`` holds the whole data set; ``train``, ``validation`` and ``test`` (with ``_lst``) are its splits;
    each as files or packed as ``data.tar``. Without channels the data set is one that comes by its name.
    """
    root = base / "input" / "data"
    channels = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if DATA in channels:
        return _with_folder(config, _unpacked(base, DATA, _basename(config)))
    splits = [name for name in channels if name.removesuffix("_lst") in SPLITS]
    if not splits:
        return config
    together = base / "work" / _basename(config)
    shutil.rmtree(together, ignore_errors=True)
    together.mkdir(parents=True)
    for name in splits:
        (together / name).symlink_to(_unpacked(base, name, f"channels/{name}"))
    return replace(config, dataset=str(together), image_root=None)


def place_init(values: Mapping[str, str], base: Path) -> dict[str, str]:
    """The hyperparameters with the weights' file of channel ``init`` as ``init``; a run's network is unpacked.

    A run keeps its name, ``run:<id>``: where its files were put, ``ContainerStore`` finds them.
    """
    folder = base / "input" / "data" / INIT
    if not folder.is_dir():
        return dict(values)
    if (folder / "data.tar").is_file():
        extract(folder / "data.tar", base / "work" / INIT / "files")
        return dict(values)
    file = folder / Path(values["init"]).name
    return {**values, "init": str(file)}


def _basename(config: Config) -> str:
    """What the data's folder is called: as at the user's, since data sets are named after their folder."""
    return Path(config.dataset.rstrip("/")).name or DATA


def _unpacked(base: Path, channel: str, name: str) -> Path:
    """Where a channel's files are: unpacked from ``data.tar`` if they came so, to the folder ``name``."""
    folder = base / "input" / "data" / channel
    if not (folder / "data.tar").is_file():
        return folder
    extract(folder / "data.tar", base / "work" / name)
    return base / "work" / name


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
    """Unpack plain files and folders; BadData for anything that would be placed elsewhere or is no file."""
    from tracking.errors import ModelError
    from tracking.models.archive import opened_tar, plain_members
    from trainers.errors import BadData

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        with ExitStack() as opened:
            file: IO[bytes] = opened.enter_context(open(archive, "rb"))
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                file = cast(IO[bytes], opened.enter_context(gzip.open(file)))
            tar = opened.enter_context(opened_tar(file, archive))
            for name, member in plain_members(tar, archive):
                path = target / name
                folder = path if member.isdir() else path.parent
                folder.mkdir(parents=True, exist_ok=True)
                if content := tar.extractfile(member):
                    with content, path.open("wb") as out:
                        shutil.copyfileobj(content, out)
    except ModelError as error:
        raise BadData(str(error)) from error


@dataclass(frozen=True)
class ContainerStore(Store):
    """A store that also knows run ``source_id``, whose ``files/`` are in ``source``."""

    source: Path = Path()
    source_id: str = ""

    def journal_dir(self, run_id: str) -> Path:
        """The run that came with the job, or one of its own. Raises RunNotFound."""
        if run_id == self.source_id and (self.source / "files").is_dir():
            return self.source
        return super().journal_dir(run_id)
