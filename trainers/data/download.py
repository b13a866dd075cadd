"""MXNet's own download of the named sets; the only place of this package that imports MXNet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trainers.data.catalog import SOURCES
from trainers.errors import BadData

_CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def folder(name: str) -> Path:
    """Where MXNet keeps a named set: ``$MXNET_HOME/datasets/<name>``, else ``~/.mxnet/datasets/<name>``."""
    home = os.environ.get("MXNET_HOME")
    return (Path(home) if home else Path.home() / ".mxnet") / "datasets" / name


def fetch(name: str, files: Sequence[str]) -> Path:
    """Let MXNet download ``name``; returns the folder that then holds ``files``.

    Whatever goes wrong becomes a BadData that says how to supply the files by hand.
    """
    target = folder(name)
    try:
        from mxnet.gluon.data import vision

        getattr(vision, _CLASSES[name])(root=str(target))
    except ImportError as error:
        raise BadData(_by_hand(name, files, "MXNet, which would download it, is not installed")) from error
    except Exception as error:  # requests' errors, RuntimeError after retries, sha1 mismatches, OSError
        raise BadData(_by_hand(name, files, f"downloading it failed ({type(error).__name__}: {error})")) from error
    return target


def _by_hand(name: str, files: Sequence[str], reason: str) -> str:
    hint = " On Debian: apt install dataset-fashion-mnist." if name == "fashion-mnist" else ""
    return (
        f"--dataset {name}: the files are not here and {reason}. Put {', '.join(files)} into {folder(name)}, or into a"
        f" folder of your own and give it as {name}:DIR.{hint} --dataset digits needs no files"
        f" ({SOURCES['digits'].origin})."
    )
