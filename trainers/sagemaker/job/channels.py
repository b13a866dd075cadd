"""A run's data as a job's channels: S3 prefixes as they are, data of this machine packed and uploaded.

Enters: config, options, the uploader. Leaves: channels, the config with what the data decide, and what is known of the
splits, for the run's journal.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.models.facts import META, WEIGHTS
from trainers.config import Config
from trainers.config.checks import flag
from trainers.errors import BadConfig, BadInput
from trainers.sagemaker.aws.upload import DATA_FILE, Uploads
from trainers.sagemaker.aws.uri import is_s3
from trainers.sagemaker.builtin.limits import SMALL_HEIGHT_PX
from trainers.sagemaker.job import ledger
from trainers.sagemaker.job.request import INIT_CHANNEL, RECORDIO, Channel, s3_channels
from trainers.sagemaker.options import CHANNELS, JobOptions

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.data import Dataset
    from trainers.training.sources import Source

Splits = tuple[Mapping[str, Any], ...]


def channels_of(
    config: Config, options: JobOptions, kind: str, uploads: Uploads
) -> tuple[Config, list[Channel], Splits]:
    """Channels for a job of ``kind``; with the built-in, data of this machine are read, counted and packed.

    Raises BadInput for data that cannot be read or used, AwsError for uploads that fail.
    """
    channels = s3_channels(options, builtin=kind == ledger.BUILTIN)
    local = {
        name: Path(path).expanduser()
        for name in CHANNELS
        if (path := getattr(options, name)) is not None and not is_s3(path)
    }
    for path in local.values():
        if not path.exists():
            raise BadInput(f"{path}: there is no such file or folder; give an S3 prefix or a path of this machine.")
    if kind == ledger.BUILTIN:
        return _builtin(config, channels, local, uploads)
    for name, path in local.items():
        channels.append(Channel(name, uploads.tree(path) if path.is_dir() else uploads.file(path, name)))
    if channels:
        return replace(config, dataset=str(options.train)), channels, ()
    return config, _whole(config, uploads), ()


def _builtin(
    config: Config, channels: list[Channel], local: Mapping[str, Path], uploads: Uploads
) -> tuple[Config, list[Channel], Splits]:
    ready = {name: path for name, path in local.items() if path.suffix == ".rec" and name != "test"}
    rest = sorted(local.keys() - ready.keys() - {"test"})
    if channels or (ready and not rest):
        if rest:
            raise BadInput(
                f"{flag(rest[0])} {local[rest[0]]}: beside data in S3 the others must be in S3 too, or a .rec."
            )
        given = [Channel(name, uploads.file(path, name), RECORDIO) for name, path in ready.items()]
        return config, channels + given, ()
    with tempfile.TemporaryDirectory(prefix="channels-") as folder:
        dataset, resolved = open_here(config, local, Path(folder))
        resolved = _buildable(config, resolved)
        prefixes = uploads.records(dataset, resolved)
        packed = [Channel(name, prefix, RECORDIO) for name, prefix in prefixes.items()]
        return resolved, packed, tuple(_facts(dataset))


def _buildable(given: Config, resolved: Config) -> Config:
    """What was left open, as the built-in can build it: up to 28 px the small networks, above only the large ones."""
    if resolved.num_layers not in names.SMALL_IMAGE_DEPTHS or max(resolved.shape[1:]) <= SMALL_HEIGHT_PX:
        return resolved
    if given.image_shape is not None:
        return resolved if given.num_layers is not None else replace(resolved, num_layers=34)
    channels, height, width = resolved.shape
    # A few pixels more than the crop are the room that it moves in; far larger pictures are scaled down to that.
    room = SMALL_HEIGHT_PX * 8 // 7
    resize = room if given.resize is None and min(height, width) > room else given.resize
    return replace(resolved, image_shape=f"{channels},{SMALL_HEIGHT_PX},{SMALL_HEIGHT_PX}", resize=resize)


def _whole(config: Config, uploads: Uploads) -> list[Channel]:
    """The channel of a data set on this machine; none where the container gets it by its name."""
    from trainers.data import catalog

    if is_s3(config.dataset):
        return [Channel("data", config.dataset)]
    name, path = catalog.split_spec(config.dataset)
    if path is None:
        assert name is not None
        from trainers.data.readers.download import folder

        kept = folder(name)
        path = kept if kept.is_dir() and any(kept.iterdir()) else None
    root = None if config.image_root is None else Path(config.image_root).expanduser()
    return [] if path is None else [Channel("data", uploads.tree(path, root))]


def open_here(config: Config, local: Mapping[str, Path], folder: Path) -> tuple[Dataset, Config]:
    """The data of this machine and the config with what they decide; several paths are put together in ``folder``."""
    from trainers.training import experiment

    if not local:
        return experiment.load_data(config)
    for name, path in local.items():
        target = folder / (name if path.is_dir() else f"{name}{path.suffix}")
        if name.endswith("_lst") and path.is_file():
            target = folder / name / path.name
            target.parent.mkdir()
        target.symlink_to(path.absolute())
    dataset, resolved = experiment.load_data(replace(config, dataset=str(folder), image_root=None))
    return dataset, replace(resolved, dataset=config.dataset, image_root=config.image_root)


def _facts(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for context, split in dataset.splits.items():
        yield {
            "context": context,
            "name": dataset.name,
            "digest": split.digest,
            "source": dataset.source,
            "num_images": len(split),
            "num_classes": len(dataset.class_names),
        }


CONFIG = "config.toml"


def init_channels(config: Config, uploads: Uploads, store: Store, *, awaited: bool = False) -> list[Channel]:
    """The channel of ``config.init``, none for scratch and imagenet, which the container sees to.

    ``awaited``: the run to start from is yet to be trained (a dry run of a study). Raises BadInput where there is no
    such run, or it has another network than was asked for.
    """
    if config.initial in ("scratch", "imagenet"):
        return []
    if awaited:
        return [Channel(INIT_CHANNEL, f"{uploads.base}/init/{config.initial.removeprefix('run:')}/")]
    if not config.initial.startswith("run:"):
        return [Channel(INIT_CHANNEL, uploads.file(Path(config.initial).expanduser(), INIT_CHANNEL))]
    with tempfile.TemporaryDirectory(prefix="init-") as place:
        put_together(config, store, Path(place))
        return [Channel(INIT_CHANNEL, uploads.tree(Path(place)))]


def lay_out_init(config: Config, data: Path) -> None:
    """The same channel as a folder of ``data``, as the container finds it."""
    if config.initial in ("scratch", "imagenet"):
        return
    channel = data / INIT_CHANNEL
    channel.mkdir(parents=True)
    if not config.initial.startswith("run:"):
        path = Path(config.initial).expanduser()
        (channel / path.name).symlink_to(path.absolute())
        return
    from tracking import store

    with tempfile.TemporaryDirectory(prefix="init-") as place:
        put_together(config, store.resolve(), Path(place))
        with tarfile.open(channel / DATA_FILE, "w", dereference=True) as archive:
            archive.add(place, arcname=".")


def put_together(config: Config, store: Store, folder: Path) -> None:
    """The run's network and settings under ``folder``, as links. Raises BadInput."""
    from trainers.training import sources

    source = sources.find(config.initial.removeprefix("run:"), store)
    _check(config, source)
    (folder / "model").mkdir()
    for name in (META, WEIGHTS):
        (folder / "model" / name).symlink_to((source.model_dir / name).absolute())
    (folder / CONFIG).symlink_to((source.model_dir.parent / CONFIG).absolute())


def _check(config: Config, source: Source) -> None:
    """What the container would refuse, minutes later."""
    theirs, wrong = source.config, []
    for key, default in (("num_layers", None), ("resnet_version", Config.resnet_version)):
        given, has = getattr(config, key), getattr(theirs, key)
        if given not in (default, has):
            wrong.append(f"--{key.replace('_', '-')} {given}: the network of --init {config.init} has {has}.")
    if config.image_shape is not None and config.shape[0] != theirs.shape[0]:
        wrong.append(
            f"--image-shape {config.image_shape}: the network of --init {config.init} takes {theirs.image_shape}."
        )
    if wrong:
        raise BadConfig(wrong)
