"""Where a network's first weights come from, and what may truthfully be said about them.

Only the head is fresh after a transfer; all else is loaded, and the whole network is trained on.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from tracking import names
from trainers.errors import BadInput
from trainers.networks import backend, zoo
from trainers.networks.resnet import Classifier, to_array
from trainers.networks.saved import META, WEIGHTS, read_meta

mx = backend.load()

# What precedes a layer's own name in files of MXNet: ours, the zoo's, with any counter.
_PREFIX = re.compile(r"^(classifier_)?(cifar)?resnetv\d+b?\d*_")
_TORCH_NAMES = {"weight": "gamma", "bias": "beta"}  # of a batch normalisation


def initialise(net: Classifier, init: str, seed: int, model_dir: Path | None = None) -> dict[str, Any]:
    """Give ``net`` its first weights; what they are, truthfully.

    ``init``: ``scratch``; ``imagenet`` (GluonCV's zoo); ``FILE.params``, ``FILE.pth`` or a saved model's folder; or
    ``run:<id>`` with the run's model in ``model_dir``. ``seed`` decides all fresh weights.
    Returns ``kind`` (scratch, imagenet, file, run), ``label`` (fit for a reader), and for a transfer ``source``,
    ``sha1`` of the weights' file and ``num_loaded`` arrays. Raises BadInput.
    """
    _draw(net, seed)
    if init == "scratch":
        return {"kind": "scratch", "label": "scratch"}
    if init == "imagenet":
        name = _zoo_name(net)
        return _transfer(net, zoo.weights_file(name), init, kind="imagenet", label=f"ImageNet (GluonCV {name})")
    if init.startswith("run:"):
        if model_dir is None:
            raise BadInput(f"--init {init}: the run's model is not at hand; give the folder it was saved to.")
        return _transfer(net, _saved(net, model_dir, init), init, kind="run", label=f"run {init[4:]}")
    path = Path(init).expanduser()
    if path.is_dir():
        return _transfer(net, _saved(net, path, init), init, kind="file", label=f"model in {path.name}")
    if not path.is_file():
        raise BadInput(
            f"--init {init}: there is no such file. Legal: scratch, imagenet, run:<id>, FILE.params, FILE.pth."
        )
    return _transfer(net, path, init, kind="file", label=f"file {path.name}")


def _draw(net: Classifier, seed: int) -> None:
    """Random weights (He 2015, as the built-in's public ancestor draws them), the same for the same seed."""
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2), force_reinit=True)
    net(to_array(np.zeros((1, *net.shape), np.float32)))  # some shapes are known only after a first pass
    backend.wait_for_all()


def _transfer(net: Classifier, path: Path, init: str, *, kind: str, label: str) -> dict[str, Any]:
    sha1, known_as = zoo.recognise(path)
    if kind == "file" and known_as is not None:  # the content is the zoo's, whatever the file is called
        label = f"{'CIFAR-10' if known_as.startswith('cifar') else 'ImageNet'} (GluonCV {known_as})"
    elif kind == "file":
        label = f"{label} (sha1 {sha1[:8]})"
    arrays = _read_torch(net, path, init) if path.suffix == ".pth" else _read_params(net, path, init)
    num_loaded = _load(net, arrays, path, init)
    return {"kind": kind, "label": label, "source": str(path), "sha1": sha1, "num_loaded": num_loaded}


def _load(net: Classifier, arrays: dict[str, Any], path: Path, init: str) -> int:
    """Set every parameter but the head's. All or nothing: raises BadInput when the file is another network's."""
    head = set(net.head.collect_params())
    body = {name: parameter for name, parameter in net.body.collect_params().items() if name not in head}
    missing = [name for name in body if name not in arrays]
    strange = [name for name in arrays if name not in body and name not in head]
    unlike = [name for name in body if name in arrays and arrays[name].shape != body[name].shape]
    if missing or strange or unlike:
        example = (unlike or missing or strange)[0]
        detail = f"{example} is {arrays[example].shape}, not {body[example].shape}" if unlike else example
        raise BadInput(
            f"--init {init}: {path.name} is not a {_kind(net)} for {net.shape[0]}"
            f" channel(s): {len(missing)} arrays are missing, {len(strange)} unknown, {len(unlike)} of another shape"
            f" (such as {detail}). Choose --num-layers, --resnet-version and --image-shape to fit the file."
        )
    for name, parameter in body.items():
        parameter.set_data(arrays[name].astype("float32"))
    return len(body)


def _read_params(net: Classifier, path: Path, init: str) -> dict[str, Any]:
    """A ``.params`` file under the names ``net`` uses, whichever of MXNet's three spellings it has."""
    try:
        loaded = mx.nd.load(str(path))
    except mx.MXNetError as error:
        raise BadInput(f"--init {init}: {path} is not an MXNet .params file, or is damaged.") from error
    if not isinstance(loaded, dict) or not loaded:
        raise BadInput(f"--init {init}: {path} holds no named arrays.")
    if any("." in name.removeprefix("arg:").removeprefix("aux:") for name in loaded):
        return _by_structure(net, loaded)
    arrays = {}
    for name, array in loaded.items():
        own = name.split(":", 1)[-1]
        if own not in ("classifier_mean", "classifier_scale"):  # every network brings its own
            known = own if net.network else net.body.prefix + _PREFIX.sub("", own)
            arrays[known] = array
    return arrays


def _by_structure(net: Classifier, loaded: dict[str, Any]) -> dict[str, Any]:
    """From ``features.0.weight``, as ``save_parameters`` and the zoo write it, to the parameters' full names."""
    # Private, but the one place where Gluon itself keeps this mapping.
    full_names = {key: parameter.name for key, parameter in net.body._collect_params_with_prefix().items()}
    return {full_names.get(key, key): array for key, array in loaded.items()}


def _read_torch(net: Classifier, path: Path, init: str) -> dict[str, Any]:
    """A torchvision ResNet's state, whose names are v1b's but for batch normalisation."""
    if net.resnet_version != "v1b":
        raise BadInput(f"--init {init}: torchvision's networks are of --resnet-version v1b, not {net.resnet_version}.")
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise BadInput(
            f"--init {init}: reading a .pth file needs PyTorch (pip install torch), or convert it to .params elsewhere."
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        norms = {key.rsplit(".", 1)[0] for key in state if key.endswith(".running_mean")}
        renamed = {}
        for key, tensor in state.items():
            owner, _, last = key.rpartition(".")
            if last != "num_batches_tracked":
                key = f"{owner}.{_TORCH_NAMES.get(last, last)}" if owner in norms else key
                renamed[key] = to_array(tensor.detach().float().numpy().copy())
    except Exception as error:  # torch raises whatever its pickle meets
        raise BadInput(
            f"--init {init}: {path} is not a torchvision state ({type(error).__name__}: {error})."
        ) from error
    return _by_structure(net, renamed)


def _saved(net: Classifier, directory: Path, init: str) -> Path:
    """The weights' file of a saved model. Raises BadInput when it is another kind of network than ``net``."""
    meta = read_meta(directory)
    kind = meta.get("network") or f"ResNet-{meta['num_layers']} {meta['resnet_version']}"
    there, here = (kind, meta["image_shape"][0]), (_kind(net), net.shape[0])
    if there != here:
        raise BadInput(
            f"--init {init}: that model is a {there[0]} for {there[1]} channel(s), this run asks for a {here[0]} for"
            f" {here[1]}. Choose --num-layers, --resnet-version or --network, and --image-shape, to match."
        )
    if not (directory / WEIGHTS).is_file():
        raise BadInput(f"--init {init}: {directory} has a {META} but no {WEIGHTS}.")
    return directory / WEIGHTS


def _kind(net: Classifier) -> str:
    return net.network or f"ResNet-{net.num_layers} {net.resnet_version}"


def _zoo_name(net: Classifier) -> str:
    """The zoo's name of the ImageNet network of this kind. Raises BadInput where there is none."""
    if net.network is not None:
        zoo.sha1_of(net.network)
        return str(net.network)
    if net.num_layers not in names.LARGE_IMAGE_DEPTHS or net.shape[0] != 3:
        raise BadInput(
            f"--init imagenet: there are ImageNet weights for 18 to 152 layers and 3 channels, not for"
            f" {net.num_layers} layers and {net.shape[0]}."
        )
    name = f"resnet{net.num_layers}_{net.resnet_version}"
    zoo.sha1_of(name)
    return name
