"""The data sets known by name: what they hold and where they come from. Standard library only, for ``--list``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tracking.errors.words import nearest
from trainers.errors import BadData

_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set with a name; ``channels``, ``height`` and ``width`` (px) are those of its pictures as stored."""

    name: str
    description: str
    channels: int
    height: int
    width: int
    class_names: tuple[str, ...]
    origin: str

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.channels, self.height, self.width)


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="digits",
            description="handwritten digits, 1,797 pictures",
            channels=1,
            height=8,
            width=8,
            class_names=_DIGITS,
            origin="ships with scikit-learn",
        ),
        Source(
            name="mnist",
            description="handwritten digits, 70,000 pictures",
            channels=1,
            height=28,
            width=28,
            class_names=_DIGITS,
            origin="IDX files or download",
        ),
        Source(
            name="fashion-mnist",
            description="clothes, 70,000 pictures",
            channels=1,
            height=28,
            width=28,
            class_names=_FASHION,
            origin="Debian's dataset-fashion-mnist, IDX files or download",
        ),
        Source(
            name="cifar10",
            description="colour photographs, 60,000 pictures",
            channels=3,
            height=32,
            width=32,
            class_names=_CIFAR10,
            origin="binary files or download",
        ),
        Source(
            name="cifar100",
            description="colour photographs, 60,000 pictures",
            channels=3,
            height=32,
            width=32,
            class_names=_CIFAR100,
            origin="binary files or download",
        ),
    )
}

FORMS = (
    "a folder with one sub-folder per class; a folder with train/, validation/, test/; a .rec; a .lst with"
    " --image-root; a .csv or .parquet manifest; a .manifest of Ground Truth; a folder of IDX or CIFAR binary files"
)


def split_spec(spec: str) -> tuple[str | None, Path | None]:
    """``digits`` -> (name, None), ``mnist:DIR`` -> (name, DIR), a path -> (None, path).

    Raises BadData for what is neither a known name nor an existing path, with the nearest name.
    """
    if spec in SOURCES:
        return spec, None
    name, colon, directory = spec.partition(":")
    if colon and name in SOURCES:
        if not Path(directory).is_dir():
            raise BadData(f"--dataset {spec}: {directory!r} is not a folder; give the folder that holds the files")
        return name, Path(directory)
    path = Path(spec).expanduser()
    try:
        exists = bool(spec) and path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a null byte
        exists = False
    if exists:
        return None, path
    raise BadData(
        f"--dataset {_short(spec)!r} is neither a known data set nor an existing path."
        f"{nearest(spec.lower().replace('_', '-'), SOURCES)} Known: {', '.join(SOURCES)}. Or a path to: {FORMS}."
    )


def _short(spec: str) -> str:
    return spec if len(spec) <= 200 else spec[:200] + "…"
