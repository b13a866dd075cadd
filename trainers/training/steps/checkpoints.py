"""What a run keeps while it trains: its state, to go on from, and the best weights so far, in one folder.

``state-0007.npz`` is everything that epoch 8 needs: weights, the optimizer's memory, the history. It appears whole or
not at all, and the one before it stays as a second chance. ``best-0005.npz`` holds the weights of the best epoch.
Both are zip archives with a checksum for every array, so a damaged one is noticed. No random state is kept: the
order of the pictures and their augmentation follow from the seed and the epoch's number alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import struct
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import BadInput, TrainerError, whole_file
from trainers.networks import backend

_log = logging.getLogger(__name__)
_WEIGHT, _OPTIMIZER, _META = "weight:", "optimizer", "meta"
_DAMAGE = (OSError, ValueError, KeyError, EOFError, NotImplementedError, struct.error, zipfile.BadZipFile)
Row = dict[str, Any]


@dataclass(frozen=True)
class State:
    """The state of a run after ``len(history)`` epochs; ``facts`` are the settings that it must continue with."""

    facts: dict[str, Any]
    history: list[Row]
    weights: dict[str, np.ndarray[Any, Any]]
    optimizer: bytes


def save(folder: Path, net: Any, trainer: Any, history: list[Row], facts: dict[str, Any]) -> None:
    """Write the state after the last epoch of ``history``; of the older ones the last remains. Raises DiskFull."""
    epoch = len(history)
    for number, path in _numbered(folder, "state"):
        if number != epoch - 1:  # before there are three of them: room is short where this matters
            path.unlink()
    meta = json.dumps({"facts": facts, "history": history})
    arrays = {_WEIGHT + name: array for name, array in arrays_of(net).items()}
    arrays[_OPTIMIZER] = np.frombuffer(_optimizer_states(trainer, folder), dtype=np.uint8)
    arrays[_META] = np.frombuffer(meta.encode(), dtype=np.uint8)
    _write(folder / f"state-{epoch:04d}.npz", arrays)
    wanted = {best_epoch(history), best_epoch(history[:-1])}  # either state finds its best weights
    for number, path in _numbered(folder, "best"):
        if number not in wanted:
            path.unlink()


def peak_bytes(num_parameters: int, optimizer: str) -> int:
    """Most room the folder takes at once: two states, the optimizer's memory once more, two sets of best weights."""
    memory = 2 if optimizer == "adam" else 1  # arrays for each weight
    return 4 * num_parameters * (2 * (1 + memory) + memory + 2)


def load(folder: Path) -> State | None:
    """The newest state that can be read; None where none was ever written.

    A damaged newest one is passed over with a warning. Raises TrainerError when states are there and none is whole.
    """
    damaged: list[str] = []
    for number, path in reversed(_numbered(folder, "state")):
        try:
            arrays = _read(path)
            meta = json.loads(arrays.pop(_META).tobytes())
            optimizer = arrays.pop(_OPTIMIZER).tobytes()
        except _DAMAGE as error:
            damaged.append(f"{path} ({error})")
            continue
        if damaged:
            _log.warning("State %s is damaged; going on from epoch %d.", damaged[-1], number)
        weights = {name.removeprefix(_WEIGHT): array for name, array in arrays.items()}
        return State(meta["facts"], meta["history"], weights, optimizer)
    if damaged:
        raise TrainerError(
            f"No saved state can be read: {'; '.join(damaged)}. The run cannot be continued; start it anew."
        )
    return None


def restore(state: State, folder: Path, net: Any, trainer: Any) -> None:
    """Put a state's weights and the optimizer's memory back. Raises BadInput when they are another network's."""
    set_arrays(net, state.weights, folder)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = Path(place) / "optimizer"
        file.write_bytes(state.optimizer)
        trainer.load_states(str(file))
    # Each device counts its updates, and Adam goes by them; the state may be that of other devices.
    counts = trainer.optimizer._all_index_update_counts
    most = max(counts.values(), key=len)
    for device in next(iter(net.collect_params().values())).list_ctx():
        counts[device.device_id] = dict(most)


def save_best(folder: Path, epoch: int, net: Any) -> None:
    """Keep the weights of the best epoch so far. The former best goes with the state it belongs to. Raises DiskFull."""
    _write(folder / f"best-{epoch:04d}.npz", arrays_of(net))


def load_best(folder: Path, epoch: int, net: Any) -> None:
    """Give ``net`` the weights of the best epoch. Raises TrainerError when their file is missing or damaged."""
    path = folder / f"best-{epoch:04d}.npz"
    try:
        arrays = _read(path)
    except _DAMAGE as error:
        raise TrainerError(f"The best checkpoint, {path}, cannot be read ({error}). Train the run anew.") from error
    set_arrays(net, arrays, path)


def best_epoch(history: list[Row]) -> int:
    """The epoch (from 1) of the highest validation accuracy; of equal ones the earliest. 0 without a history."""
    if not history:
        return 0
    return max(range(1, len(history) + 1), key=lambda epoch: (history[epoch - 1]["validation_accuracy"], -epoch))


def arrays_of(net: Any) -> dict[str, np.ndarray[Any, Any]]:
    """All of a network's arrays by name: weights, running statistics, constants. Its own do not move."""
    backend.wait_for_all()
    return {name: parameter.data().copy().asnumpy() for name, parameter in net.collect_params().items()}


def digest(net: Any) -> str:
    """Of all of a network's arrays."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays_of(net).values())).hexdigest()


def set_arrays(net: Any, arrays: dict[str, np.ndarray[Any, Any]], source: Path) -> None:
    """Give a network all its arrays. Raises BadInput when names or shapes are another network's."""
    from trainers.networks.resnet import to_array

    parameters = net.collect_params()
    wrong = sorted(set(parameters) ^ set(arrays)) or [
        name for name, parameter in parameters.items() if parameter.shape != arrays[name].shape
    ]
    if wrong:
        raise BadInput(f"{source} holds another network: {len(wrong)} arrays differ, such as {wrong[0]}.")
    for name, parameter in parameters.items():
        parameter.set_data(to_array(arrays[name]))


def _optimizer_states(trainer: Any, folder: Path) -> bytes:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = Path(place) / "optimizer"
        trainer.save_states(str(file))
        return file.read_bytes()


def _write(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    # As np.savez does it, which leaves its archive open, and loud, when the disk is full.
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array, allow_pickle=False)
            # No getbuffer(): with it Python 3.12.0 and 3.12.1 crash when the disk is full.
            archive.writestr(f"{name}.npy", data.getvalue())


def _read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _numbered(folder: Path, kind: str) -> list[tuple[int, Path]]:
    """``(7, folder/kind-0007.npz)`` and its like, by number."""
    found = ((path.stem.removeprefix(f"{kind}-"), path) for path in folder.glob(f"{kind}-*.npz"))
    return sorted((int(number), path) for number, path in found if number.isdecimal())
