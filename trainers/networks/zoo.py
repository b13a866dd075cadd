"""GluonCV's model zoo: ImageNet weights through its own cache, mirror variable and hash check, but not its patience.

The zoo's downloader has no time limit at all; a network that swallows packets would hang a run for good.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking.journal.files import is_disk_full
from trainers.errors import BadInput, DiskFull
from trainers.networks import backend

TIMEOUT_S = 10.0


def weights_file(name: str, timeout_s: float = TIMEOUT_S) -> Path:
    """The zoo's ``.params`` file of a network, from the cache (``$MXNET_HOME/models``) or downloaded into it.

    ``timeout_s`` limits the wait for the server's first answer, and then for every piece. Raises BadInput that says
    how to supply the file by hand.
    """
    store = backend.zoo("model_store")
    import portalocker
    import requests

    wanted = cache_folder() / f"{name}-{sha1_of(name)[:8]}.params"
    try:
        with time_limit(timeout_s):
            return Path(store.get_model_file(name))
    except (requests.RequestException, RuntimeError, ValueError, zipfile.BadZipFile, EOFError) as error:
        reason = _plain(error)
    except portalocker.LockException as error:
        reason = f"another process holds {wanted.with_suffix('.lock')} ({error})"
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No room left for {wanted}. Free some space, or point MXNET_HOME elsewhere.") from error
        reason = str(error)
    url = f"{os.environ.get('MXNET_GLUON_REPO', store.apache_repo_url).rstrip('/')}/gluon/models/{wanted.stem}.zip"
    raise BadInput(
        f"--init imagenet: the weights of {name} could not be fetched from {url}: {reason}.\n"
        f"Supply them by hand: unpack that archive into {wanted.parent}, so that {wanted.name} (sha1"
        f" {sha1_of(name)}) is there; or give --init {wanted.name} with its path; or name a mirror that serves"
        " /gluon/models/ in MXNET_GLUON_REPO."
    )


def cache_folder() -> Path:
    """Where the zoo keeps its files; ``MXNET_HOME`` moves it."""
    home = os.environ.get("MXNET_HOME")
    return Path(home, "models") if home is not None else Path("~/.mxnet/models").expanduser()


def sha1_of(name: str) -> str:
    """The 40 hex digits the zoo publishes for a network. Raises BadInput for one it has no weights of."""
    known = backend.zoo("model_store")._model_sha1
    if name not in known:
        raise BadInput(f"--init imagenet: GluonCV's zoo has no weights for {name}. Take --init scratch, or a file.")
    return str(known[name])


def recognise(path: Path) -> tuple[str, str | None]:
    """A file's sha1, and the zoo's name for a file with exactly that content, if it has one."""
    digest = hashlib.sha1()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    sha1 = digest.hexdigest()
    names = [name for name, known in backend.zoo("model_store")._model_sha1.items() if known == sha1]
    return sha1, names[0] if names else None


class _Requests:
    """Replaces ``requests`` in the zoo's downloader: the same ``get``, which gives up in time.

    The library's own limits are for each address of a host in turn and leave out the look-up of its name, so the whole
    call runs on a thread that is abandoned when the time is over.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    def get(self, url: str, **options: Any) -> Any:
        import requests

        answers: queue.Queue[Any] = queue.Queue()

        def ask() -> None:
            try:
                answers.put(requests.get(url, timeout=self.timeout_s, **options))
            except BaseException as error:
                answers.put(error)

        threading.Thread(target=ask, name="zoo-download", daemon=True).start()
        try:
            answer = answers.get(timeout=self.timeout_s)
        except queue.Empty:
            raise requests.Timeout(f"no answer within {self.timeout_s:g} s") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


@contextmanager
def time_limit(timeout_s: float) -> Iterator[None]:
    """Time limits for the zoo's downloader; and its remarks must not set up logging for the whole program."""
    downloader: Any = sys.modules["gluoncv.utils.download"]
    former, downloader.requests = downloader.requests, _Requests(timeout_s)
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        downloader.requests = former
        logging.getLogger().removeHandler(handler)


def _plain(error: BaseException) -> str:
    """The reason in one line, without the wrapping of three libraries."""
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer in time ({error})" if "within" not in str(error) else str(error)
    if isinstance(error, requests.ConnectionError):
        return "there is no way to that host from here"
    return str(error).strip().splitlines()[0]
