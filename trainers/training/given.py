"""Which of the given pictures a run is scored on, what the score is called, how many of them the run was trained on.

``test`` and ``validation`` name a run's own splits, identified by their content, wherever they are. All else is another
data set and has scores of a name of its own (``tracking.names.data_name``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from trainers.config.checks import fold_of
from trainers.data.dataset import WHOLE
from trainers.data.source import cut, read_source
from trainers.errors import BadInput

if TYPE_CHECKING:
    from trainers.data import Dataset, Split
    from trainers.data.dataset import SplitsRead


@dataclass(frozen=True, kw_only=True)
class Given:
    """Pictures to score. ``context`` begins the names of the score; ``cut`` are the splits that the run's own settings
    make of the data, None where they make none. ``called`` is the name of the data. ``is_first``: the run had no
    test set before.
    """

    found: SplitsRead
    cut: Dataset | None
    split: Split
    context: str
    called: str
    is_first: bool = False

    @property
    def is_own(self) -> bool:
        """Whether the score is the run's own, not that of another data set."""
        return self.context in names.SPLITS

    def sized(self, fit: str) -> Given:
        """The same pictures brought to size, or computed, in another way than the run's: another score."""
        return replace(self, context=f"{self.called if self.is_first else self.context}-{fit}", is_first=False)


def choose(
    run: Any, data: str, image_root: str | None, *, other: bool, split: str | None = None, name: str | None = None
) -> Given:
    """The pictures of ``data`` to score a tracked run on.

    ``other``: the data was named by the user; else it is what the run learned from, by the run's own word. ``split``
    defaults to the test split, and to all pictures where the data has no splits; ``name`` replaces that of the data.
    Raises BadInput where there is no such split, where the run's own pictures changed, and for a name that cannot be.
    """
    if name is not None:
        _check_name(name)
    if split == "train" and not other:
        raise BadInput("--split train is for other data, named by --dataset; a run's own is in its learning curve.")
    group = None if other else run.data.params.get("group")
    found = read_source(data, Path(image_root) if image_root else None, group=group)
    made = _cut_as(run, found)
    called = name or names.data_name(found.name, *(folder.name for folder in Path(data).resolve().parents))
    own = None if name is not None else _own(run, found, made, split, other)
    if own is not None:
        return Given(found=found, cut=made, split=own, context=split or "test", called=called)
    if not other and name is None:
        raise BadInput(_changed(run, data, made, split or "test"))
    pictures = pictures_of(found, split)
    if name is None and split in (None, "test") and not _has_test_set(run):
        return Given(found=found, cut=made, split=pictures, context="test", called=called, is_first=True)
    context = called if name is not None or split in (None, "test") else f"{called}-{split}"
    return Given(found=found, cut=made, split=pictures, context=context, called=called)


def demand_free_name(run: Any, given: Given) -> None:
    """Raises BadInput where the run has a metric of that name which was not logged here."""
    metric = names.accuracy(given.context)
    if not given.is_own and metric in run.data.metrics and names.dataset_digest(given.context) not in run.data.tags:
        raise BadInput(
            f"run {run.info.run_id} has a metric {metric} that was not logged here, and it stays. Call the new score by"
            " another name: --name NAME."
        )


def pictures_of(found: SplitsRead, split: str | None) -> Split:
    """The split asked for; without a wish all pictures of data without splits, else the test split. BadInput."""
    if WHOLE in found.splits:
        if split in (None, "test"):
            return found.splits[WHOLE]
        raise BadInput(f"{found.source} has no splits of its own, so all of it is scored; leave --split {split} out.")
    pictures = found.splits.get(split or "test")
    if pictures is None:
        raise BadInput(f"{_no_split(found.source, split or 'test', found.splits)}; name one of them by --split.")
    return pictures


def trained_on(run: Any, given: Given, own_data: str | None, image_root: str | None) -> int | None:
    """How many of the pictures the run was trained on, by content; None where that cannot be known.

    A run keeps the digest of its training split, not of each picture: they are looked up in the given data, or where
    the run found them, and count only if they are the very same split.
    """
    tags = run.data.tags
    counted = tags.get(names.overlap(given.context), "")
    if tags.get(names.dataset_digest(given.context)) == given.split.digest and counted.isdigit():
        return int(counted)  # when these very pictures were scored before
    known = tags.get(names.TRAIN_DATASET_DIGEST)
    if known is None:
        return None
    for dataset in _places(run, given, own_data, image_root):
        train = dataset.train
        # Digests of raw pixels and of encoded files never meet.
        if train.digest == known and train.pictures.own == given.split.pictures.own:
            learned = set(train.image_digests)
            return sum(digest in learned for digest in given.split.image_digests)
    return None


def _places(run: Any, given: Given, own_data: str | None, image_root: str | None) -> Iterator[Dataset]:
    if given.cut is not None:
        yield given.cut
    if own_data is not None:
        try:
            root = Path(image_root) if image_root else None
            own = _cut_as(run, read_source(own_data, root, group=run.data.params.get("group")))
        except (BadInput, OSError):
            return
        if own is not None:
            yield own


def _cut_as(run: Any, found: SplitsRead) -> Dataset | None:
    """The data in the splits that the run's settings make of it."""
    if "group" in run.data.params and any(split.sources is None for split in found.splits.values()):
        return None
    settings = {}
    for key in ("split_seed", "validation_fraction", "test_fraction"):
        known = names.PARAMS[key]
        settings[key] = names.parse(known, run.data.params.get(key, str(known.default)))
    try:
        return cut(
            found,
            int(settings["split_seed"]),
            float(settings["validation_fraction"]),
            float(settings["test_fraction"]),
            fold_of(run.data.params.get("fold", "")),
        )
    except BadInput:
        return None


def _own(run: Any, found: SplitsRead, made: Dataset | None, split: str | None, other: bool) -> Split | None:
    """The run's own test or validation split, where the data holds it."""
    asked = split or "test"
    if asked == "train":
        return None
    splits = {} if made is None else made.splits
    known = _digests(run, asked)
    if not known:
        # Not known which pictures these are: they are the run's where the data is.
        same = any(s in splits and splits[s].digest in _digests(run, s) for s in ("train", "validation"))
        return splits.get(asked) if same or not other else None
    candidates = (splits.get(asked), found.splits.get(asked), found.splits.get(WHOLE))
    return next((s for s in candidates if s is not None and s.digest in known), None)


def _digests(run: Any, split: str) -> set[str]:
    """Of a split, as the run logged it: the tag, and the inputs, which keep what an earlier version wrote over."""
    inputs = run.inputs.dataset_inputs if run.inputs else ()
    logged = {one.dataset.digest for one in inputs if any(tag.value == split for tag in one.tags)}
    tag = run.data.tags.get(names.dataset_digest(split))
    return logged if tag is None else logged | {tag}


def _has_test_set(run: Any) -> bool:
    return names.TEST_DATASET_DIGEST in run.data.tags or names.TEST_ACCURACY in run.data.metrics


def _changed(run: Any, data: str, made: Dataset | None, split: str) -> str:
    known = run.data.tags.get(names.dataset_digest(split))
    if known is None:
        return f"{_no_split(data, split, () if made is None else made.splits)}."
    return (
        f"{data} holds no longer the {split} pictures of this run (their digest is {known}), so the score stays as"
        f" it is. To score the pictures that are there now, name them: --dataset {data}."
    )


def _no_split(data: str, split: str, have: Any) -> str:
    return f"{data} has no {split} split; it has {', '.join(have) or 'none that can be used'}"


def _check_name(name: str) -> None:
    if name != names.data_name(name):
        raise BadInput(
            f"--name {name!r}: use up to {names.MAX_DATA_NAME} letters, digits, dots and hyphens, and not the name of a"
            f" split; {names.data_name(name)} would do."
        )
