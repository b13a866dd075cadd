"""The weights that a job of our own trainer starts from, as a channel: a file, or another run's network.

Enters: ``--init`` and where runs are found. Leaves: the channel ``init``, whose content the container's side
(``container_data.place_init``) takes for the same ``--init``. Sent once, under a name made of its content.
"""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.models.facts import META, WEIGHTS
from trainers.config import Config
from trainers.errors import BadConfig
from trainers.sagemaker.aws.upload import DATA_FILE, Uploads
from trainers.sagemaker.job.request import INIT_CHANNEL, Channel

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.training.sources import Source

CONFIG = "config.toml"


def channels_of(config: Config, uploads: Uploads, store: Store, *, awaited: bool = False) -> list[Channel]:
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
        _put_together(config, store, Path(place))
        return [Channel(INIT_CHANNEL, uploads.tree(Path(place)))]


def lay_out(config: Config, data: Path) -> None:
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
        _put_together(config, store.resolve(), Path(place))
        with tarfile.open(channel / DATA_FILE, "w", dereference=True) as archive:
            archive.add(place, arcname=".")


def _put_together(config: Config, store: Store, folder: Path) -> None:
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
