"""The three forms in which a trained network comes, each to MXNet's pair of files in a model's folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tracking.errors import ModelError
from tracking.models import archive, package
from tracking.models.facts import SYMBOL, WEIGHTS
from tracking.models.formats import params as params_file
from tracking.models.formats import symbol as symbol_graph


def write(model: Any, directory: Path, epoch: int | None) -> tuple[dict[str, Any], package.Ask | None]:
    """Write graph (to the logits) and weights into ``directory``.

    Returns the facts that the model states, and how to ask it in MXNet: pixels to logits; None where MXNet is
    not installed. Raises ModelError for anything that is no classifier in one of the three forms.
    """
    if archive.is_archive(model):
        found = archive.take_out(model, directory, epoch=epoch)
        known: dict[str, Any] = {
            **found.facts,
            "num_classes": found.num_classes,
            "epoch": found.epoch,
            "image_shape": found.image_shape,
        }
        return known, _ask_saved(directory)
    if isinstance(model, (tuple, list)) and len(model) == 2:
        return {"num_classes": _write_pair(model[0], model[1], directory)}, _ask_saved(directory)
    if hasattr(model, "hybridize") and hasattr(model, "collect_params"):
        known = {"num_classes": _write_block(model, directory), "image_shape": getattr(model, "shape", None)}
        known |= {key: getattr(model, key) for key in ("num_layers", "resnet_version") if hasattr(model, key)}
        return known, _ask_block(model)
    raise ModelError(
        f"{type(model).__name__} cannot be saved: give a HybridBlock, a pair (symbol, params) or the path of a"
        " model.tar.gz."
    )


def _write_block(block: Any, directory: Path) -> int | None:
    from tracking.models.serving import runtime

    mx = runtime.mxnet()
    symbol = block(mx.sym.var("data"))
    if isinstance(symbol, (list, tuple)) or len(symbol.list_outputs()) != 1:
        raise ModelError(f"{type(block).__name__} has several outputs; a classifier has one.")
    auxiliary, wanted = set(symbol.list_auxiliary_states()), set(symbol.list_inputs())
    arrays = {
        f"{'aux' if name in auxiliary else 'arg'}:{name}": parameter.data()
        for name, parameter in block.collect_params().items()
        if name in wanted
    }
    # A forward pass that is still under way may be turning the weights over into another layout.
    mx.nd.waitall()
    mx.nd.save(str(directory / WEIGHTS), arrays)
    symbol.save(str(directory / SYMBOL))
    return _cut(directory)


def _write_pair(symbol: Any, params: Any, directory: Path) -> int | None:
    if isinstance(params, (str, Path)):
        params_file.read(params)
        shutil.copyfile(params, directory / WEIGHTS)
    else:
        from tracking.models.serving import runtime

        mx = runtime.mxnet()
        arg, aux = params if isinstance(params, (tuple, list)) else (params, {})
        states = set(symbol.list_auxiliary_states()) if hasattr(symbol, "list_auxiliary_states") else set(aux)
        arrays = {}
        for name, array in {**arg, **aux}.items():
            plain = name.removeprefix("arg:").removeprefix("aux:")
            arrays[f"{'aux' if plain in states else 'arg'}:{plain}"] = array
        mx.nd.waitall()
        mx.nd.save(str(directory / WEIGHTS), arrays)
    text = Path(symbol).read_text(encoding="utf-8") if isinstance(symbol, (str, Path)) else symbol.tojson()
    (directory / SYMBOL).write_text(text, encoding="utf-8")
    return _cut(directory)


def _cut(directory: Path) -> int | None:
    """Cut a softmax off the saved graph and give its input the name ``data``; the number of classes."""
    path = directory / SYMBOL
    graph = symbol_graph.parse(path.read_bytes(), str(path))
    arrays = params_file.weights(directory / WEIGHTS)
    cut = symbol_graph.with_input(symbol_graph.to_logits(graph), arrays, "data")
    if cut != graph:
        path.write_text(symbol_graph.to_json(cut), encoding="utf-8")
    return symbol_graph.num_classes(cut, arrays)


def _ask_block(block: Any) -> package.Ask:
    from tracking.models.serving import runtime

    return lambda pictures: block(runtime.to_array(pictures)).asnumpy()


def _ask_saved(directory: Path) -> package.Ask | None:
    """The network that was just written, in MXNet; None where that is not installed."""
    from tracking.models.serving import runtime

    try:
        return runtime.SymbolNetwork(directory)
    except ImportError:
        return None
