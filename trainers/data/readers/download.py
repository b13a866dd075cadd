"""MXNet's own download of the named sets; the only place of this package that imports MXNet."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from trainers.data.catalog import SOURCES
from trainers.errors import BadData

_CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
_REPOSITORY = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"  # MXNet's default, see MXNET_GLUON_REPO
_CONNECT_S = 10.0


def folder(name: str) -> Path:
    """Where MXNet keeps a named set: ``$MXNET_HOME/datasets/<name>``, else ``~/.mxnet/datasets/<name>``."""
    home = os.environ.get("MXNET_HOME")
    return (Path(home) if home else Path.home() / ".mxnet") / "datasets" / name


def fetch(name: str, files: Sequence[str]) -> Path:
    """Let MXNet download ``name``; returns the folder that then holds ``files``.

    Whatever goes wrong becomes a BadData that says how to supply the files.
    """
    target = folder(name)
    try:
        _demand_server()
        print(f"downloading {name} to {target}", file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(io.StringIO()):  # one line for each of five retries
            from mxnet.gluon.data import vision

            getattr(vision, _CLASSES[name])(root=str(target))
    except ImportError as error:
        raise BadData(_by_hand(name, files, "MXNet, which would download it, is not installed")) from error
    except Exception as error:  # requests' errors, RuntimeError after retries, sha1 mismatches, OSError
        reason = str(error).splitlines()[0][:200] if str(error) else ""
        raise BadData(_by_hand(name, files, f"downloading it failed ({type(error).__name__}: {reason})")) from error
    return target


def _demand_server() -> None:
    """Raise OSError within 10 s where the server cannot be reached; MXNet's own request has no time limit."""
    import urllib.parse  # together they take as long to import as a thousand pictures to pack
    import urllib.request

    url = urllib.parse.urlsplit(os.environ.get("MXNET_GLUON_REPO", _REPOSITORY))
    if url.scheme in urllib.request.getproxies():
        return  # the proxy alone knows
    port = url.port or (80 if url.scheme == "http" else 443)
    socket.create_connection((url.hostname or "", port), timeout=_CONNECT_S).close()


def _by_hand(name: str, files: Sequence[str], reason: str) -> str:
    hint = " On Debian: apt install dataset-fashion-mnist." if name == "fashion-mnist" else ""
    return (
        f"--dataset {name}: the files are not here and {reason}. Put {', '.join(files)} into {folder(name)}, or into a"
        f" folder of your own and give it as {name}:DIR.{hint} --dataset digits needs no files"
        f" ({SOURCES['digits'].origin})."
    )
