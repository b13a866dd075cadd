"""A trained network on disk: graph, weights and what a reader must know to use them.

``model-symbol.json`` and ``model-0000.params`` are MXNet's own pair (any MXNet loads them), ``model.json`` says what
goes in and what comes out. Logits of the loaded model equal the saved network's bit for bit.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from tracking.models.facts import META as META
from tracking.models.facts import SYMBOL as SYMBOL
from tracking.models.facts import WEIGHTS as WEIGHTS
from tracking.models.serving import files
from trainers.errors import BadInput, whole_file
from trainers.networks import backend

_FORMAT = 1


def save_model(net: Any, directory: str | Path, meta: Mapping[str, Any]) -> None:
    """Write a ``Classifier`` and its facts into ``directory``; ``meta`` adds class_names, resize, fit and the like.

    Each file appears whole or not at all. Raises DiskFull.
    """
    mx = backend.load()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    facts = {
        "format": _FORMAT,
        **(
            {"network": net.network}
            if net.network
            else {"num_layers": net.num_layers, "resnet_version": net.resnet_version}
        ),
        "num_classes": net.num_classes,
        "image_shape": list(net.shape),
        "input": "raw RGB 0..255 NCHW" if net.shape[0] == 3 else "raw grey 0..255 NCHW",
        "output": "logits",
        **meta,
    }
    symbol = net(mx.sym.var("data"))
    save_arrays(directory / WEIGHTS, net.collect_params(), set(symbol.list_auxiliary_states()))
    with whole_file(directory / SYMBOL) as part:
        symbol.save(str(part))
    with whole_file(directory / META) as part:
        part.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save_arrays(path: Path, parameters: Mapping[str, Any], auxiliary: Container[str] = ()) -> None:
    """Write parameters as an MXNet ``.params`` file, ``arg:`` or ``aux:`` before each name. Raises DiskFull."""
    mx = backend.load()
    backend.wait_for_all()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Copies, so that the network's own arrays stay in the layout that the next step wants them in.
    arrays = {f"{'aux' if name in auxiliary else 'arg'}:{name}": p.data().copy() for name, p in parameters.items()}
    # A forward pass still under way turns convolution weights over into another layout, and a file written meanwhile
    # holds garbage in their place.
    mx.nd.waitall()
    with whole_file(path) as part:
        part.touch()  # Python's own error when the place cannot be written at all
        try:
            mx.nd.save(str(part), arrays)
            complete = len(mx.nd.load(str(part))) == len(arrays)  # a tail lost on closing goes unreported
        except mx.MXNetError as error:
            raise OSError(errno.ENOSPC, str(error).splitlines()[-1], str(part)) from error
        if not complete:
            raise OSError(errno.ENOSPC, "written incompletely", str(part))


def load_model(directory: str | Path) -> tuple[Any, dict[str, Any]]:
    """The saved network as a hybridized ``SymbolBlock`` and the contents of ``model.json``.

    Raises BadInput when a file is missing or is not what ``save_model`` writes.
    """
    mx = backend.load()
    directory = Path(directory)
    missing = [name for name in (META, SYMBOL, WEIGHTS) if not (directory / name).is_file()]
    if missing:
        raise BadInput(f"{directory} is no saved model: {', '.join(missing)} missing.")
    meta = read_meta(directory)
    try:
        files.check(directory, SYMBOL, WEIGHTS)
    except files.DamagedModel as error:
        raise BadInput(str(error)) from error
    try:
        with backend.quiet():
            net = mx.gluon.SymbolBlock.imports(str(directory / SYMBOL), ["data"], str(directory / WEIGHTS))
    except (mx.MXNetError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(f"{directory}: graph or weights cannot be read ({reason}). Save the model anew.") from error
    net.hybridize(static_alloc=True, static_shape=True)
    return net, meta


def read_meta(directory: str | Path) -> dict[str, Any]:
    """The contents of a saved model's ``model.json``. Raises BadInput."""
    path = Path(directory) / META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        version = meta["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read as a model's description ({type(error).__name__}: {error}).") from error
    if version != _FORMAT:
        raise BadInput(f"{path} has format {version!r}; this version reads format {_FORMAT}.")
    return dict(meta)
