"""The only module that loads MXNet and GluonCV: prepares the process, imports them, and explains what is missing.

Threads are decided here, once, before the library is loaded: left alone MXNet takes half of the processors it sees.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tracking.journal.background import in_background
from trainers.config.checks import devices_of
from trainers.errors import BadInput, TrainerError

INSTALL = (
    "pip install 'image-classification-tracking[train]' && pip install --no-deps gluoncv==0.10.5.post0"
    " (in a checkout: make install)"
)
_SYSTEM_LIBRARIES = {"libgomp": "libgomp1", "libquadmath": "libquadmath0"}
_GLUONCV_NEEDS = ("autocfg", "yacs", "portalocker", "yaml", "requests", "tqdm", "PIL", "scipy", "pandas")
# MXNet's own variable comes first, as it does inside the library.
VARIABLES = ("MXNET_OMP_MAX_THREADS", "OMP_NUM_THREADS")


def prepare(num_threads: int | None = None, shares: int = 1) -> int:
    """Decide how many threads the arithmetic runs on, before anything imports MXNet; the number in force.

    ``num_threads`` is the user's explicit wish. Without one the environment decides, and where it says nothing, the
    physical cores, divided by ``shares``: how many compute there at the same time. Raises BadInput when a variable
    holds no number of threads, or when MXNet already runs on another number than the one wished for.
    """
    if num_threads is None:
        return threads(shares)
    if num_threads < 1:
        raise BadInput(f"--num-threads {num_threads}: give a whole number from 1 up.")
    if "mxnet" in sys.modules and threads() != num_threads:
        raise BadInput(
            f"--num-threads {num_threads}: this process already computes on {threads()}, and MXNet cannot change that"
            " once it is loaded. Start a process of its own."
        )
    os.environ.update(dict.fromkeys(VARIABLES, str(num_threads)))
    return num_threads


def threads(shares: int = 1) -> int:
    """How many threads the arithmetic runs on: what the environment says, else the physical cores.

    Puts the number into the environment. Raises BadInput when a variable holds no whole number above zero.
    """
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    counts = []
    for name, text in given.items():
        first = text.split(",")[0].strip()  # OpenMP allows a list, one number for each level of nesting
        if not first.isdecimal() or int(first) < 1:
            raise BadInput(f"{name}={text!r} is not a number of threads; give a whole number from 1 up, or unset it.")
        counts.append(int(first))
    if counts:
        count = counts[0]
    elif "mxnet" in sys.modules:
        return max(1, (os.cpu_count() or 1) // 2)  # too late to set it: this is what the library chose
    else:
        count = max(1, physical_cores() // shares)
    for name in VARIABLES:
        os.environ.setdefault(name, str(count))
    return count


def physical_cores(system: Path = Path("/sys")) -> int:
    """Cores this process may use: hyper-threads count once; CPU affinity and a container's quota are respected."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return max(1, (os.cpu_count() or 1) // 2)
    siblings = set()
    for cpu in allowed:
        topology = system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        siblings.add(topology.read_text().strip() if topology.is_file() else str(cpu))
    return max(1, min(len(siblings), _quota(system)))


def _quota(system: Path) -> int:
    """Whole processors a control group grants (version 2, or version 1's pair of files); a large number where none."""
    try:
        quota, period = (system / "fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (system / "fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = (system / "fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return sys.maxsize
    if quota in ("max", "-1"):
        return sys.maxsize
    return max(1, int(quota) // int(period))


@functools.cache
def load() -> Any:
    """The ``mxnet`` module, imported with the threads set and the gaps of newer NumPy filled.

    Raises TrainerError that names what is missing and how to install it.
    """
    threads()
    _fill_numpy()
    with quiet(), _hidden("sklearn"):  # for a base class that is an object without it; a second saved
        try:
            return importlib.import_module("mxnet")
        except (ImportError, OSError, AttributeError) as error:
            raise TrainerError(_explain(error)) from error


def c_library() -> ctypes.CDLL:
    """MXNet's C library without the package around it, whose import would take longer."""
    (folder,) = getattr(importlib.util.find_spec("mxnet"), "submodule_search_locations", ("",))
    return ctypes.CDLL(str(Path(folder) / "libmxnet.so"))


@functools.cache
def zoo(name: str) -> Any:
    """A module of ``gluoncv.model_zoo``, such as ``cifarresnet`` or ``model_store``; errors as ``load``."""
    load()
    with quiet(), _hidden("torch"), _strict_pictures():
        try:
            return importlib.import_module(f"gluoncv.model_zoo.{name}")
        except (ImportError, OSError, AttributeError) as error:
            raise TrainerError(_explain(error)) from error


def contexts(devices: str | None) -> list[Any]:
    """The MXNet devices that ``--devices`` names; without it the first GPU, or the processor where there is none.

    Raises BadInput where a GPU is not there.
    """
    mx = load()
    count = mx.context.num_gpus()
    kind, numbers = devices_of(devices or ("0" if count else "cpu")) or ("", ())
    if kind == "cpu":
        return [mx.cpu(number) for number in numbers]
    numbers = numbers or tuple(range(count))
    if not numbers or max(numbers) >= count:
        seen = f"{count} GPU(s), numbered from 0" if count else "no GPU"
        raise BadInput(f"--devices {devices}: MXNet sees {seen}. Take others, or cpu.")
    return [mx.gpu(number) for number in numbers]


def wait_for_all() -> None:
    """Wait for everything that MXNet computes asynchronously; needed before weights are read.

    The first prediction after an update moves each weight into a layout of oneDNN's when its turn comes, and a reader
    at that moment gets a mixture of both.
    """
    load().nd.waitall()


class Throttle:
    """Lets threads that wait for one another sleep at once; ``on`` and ``off`` as often as one likes, at any time.

    libgomp's threads spin at each barrier, up to 7 ms here. Beside busy neighbours the thread they wait for is not
    running meanwhile, and what it lacks is the time they spin in. libgomp spins 3,000 times less as soon as it manages
    more threads than there are processors: an idle team of its own is enough. Sums are split as before, so results
    stay the same to the bit. With another OpenMP nothing happens.
    """

    def __init__(self) -> None:
        self._over: threading.Event | None = None
        self._start_team: Any = None
        try:
            self._start_team = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD).GOMP_parallel
        except (OSError, AttributeError):
            pass

    def on(self) -> None:
        """From now on."""
        if self._start_team is not None and self._over is None:
            self._over = threading.Event()
            in_background(functools.partial(self._idle, self._over))

    def off(self) -> None:
        """As libgomp does by itself."""
        if self._over is not None:
            self._over.set()  # the team ends with the thread that made it
            self._over = None

    def _idle(self, over: threading.Event) -> None:
        nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)  # any harmless function of C
        self._start_team(nothing, None, (os.cpu_count() or 1) + 1, 0)
        over.wait()


def _fill_numpy() -> None:
    """MXNet 1.9 uses ``numpy.bool``, which NumPy 1.24 dropped."""
    import numpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1.20 to 1.23 still have it and warn
        if not hasattr(numpy, "bool"):
            numpy.bool = bool  # type: ignore[attr-defined]


@contextmanager
def quiet() -> Iterator[None]:
    """Old libraries greet a newer Python with deprecation warnings that cannot be fixed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make one module unimportable for a while: gluoncv, say, refuses to load beside PyTorch 2 ("Legacy torch")."""
    absent = object()
    kept = sys.modules.get(module, absent)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if kept is absent:
            del sys.modules[module]
        else:
            sys.modules[module] = kept  # type: ignore[assignment]


@contextmanager
def _strict_pictures() -> Iterator[None]:
    """Undo what importing gluoncv does to Pillow: from then on it would fill cut-off pictures with grey, silently."""
    try:
        from PIL import ImageFile
    except ImportError:
        yield
        return
    kept = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = kept


def _explain(error: BaseException) -> str:
    text = str(error)
    for library, package in _SYSTEM_LIBRARIES.items():
        if library in text:
            return f"MXNet needs the system library {library} ({text}). On Debian or Ubuntu: apt-get install {package}"
    if sys.version_info >= (3, 13):
        return "Training needs MXNet, which runs on Python 3.10 to 3.12. Reports and saved models work on this one."
    name = (getattr(error, "name", None) or "").split(".")[0]
    if isinstance(error, ImportError) and name in ("mxnet", "gluoncv"):
        return f"Training needs {name}, which is not installed. Install it: {INSTALL}"
    if name == "distutils":
        return f"MXNet needs distutils, which Python 3.12 dropped and setuptools brings. Install it: {INSTALL}"
    missing = [need for need in _GLUONCV_NEEDS if importlib.util.find_spec(need) is None]
    if missing:
        return f"gluoncv needs {', '.join(missing)}, not installed here. Install the lot: {INSTALL}"
    return f"MXNet or GluonCV cannot be loaded ({type(error).__name__}: {text}). Install them anew: {INSTALL}"


_log = logging.getLogger(__name__)


def computing_in(net: Any, dtype: str) -> Any:
    """A block that computes what ``net`` does in ``dtype`` and shares its parameters; ``net`` itself for float32.

    Raises BadInput for float16, and for bfloat16 on a processor that has no instructions for it.
    """
    if dtype == "float32":
        return net
    if dtype == "float16":
        raise BadInput("--precision-dtype float16 needs a GPU; on a CPU take bfloat16 or float32.")
    assert dtype == "bfloat16", dtype
    require_bfloat16()
    mx = load()
    return _low(net(mx.sym.var("data")), net.collect_params())


def _low(symbol: Any, parameters: Any) -> Any:
    mx = load()
    from mxnet.contrib import amp

    low = amp.convert_symbol(symbol, target_dtype="bfloat16")
    with quiet():  # it asks after the type of "data", which is settled when data comes
        block = mx.gluon.SymbolBlock(low, [mx.sym.var("data")], params=parameters)
    block.hybridize(static_alloc=True, static_shape=True)
    return block


@functools.cache
def require_bfloat16() -> None:
    """Try one convolution; MXNet refuses it without AVX-512, and emulates it (at half speed) without AVX512_BF16."""
    mx = load()
    layer = mx.gluon.nn.Conv2D(16, 3, in_channels=16, prefix="probe_")
    layer.initialize()
    low = _low(layer(mx.sym.var("data")), layer.collect_params())
    try:
        low(mx.nd.from_numpy(np.zeros((1, 16, 8, 8), np.float32))).asnumpy()
    except mx.MXNetError as error:
        raise BadInput(
            "--precision-dtype bfloat16 needs a processor with AVX-512; this one has none that MXNet can use. Take"
            " float32."
        ) from error
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and "avx512_bf16" not in cpuinfo.read_text():
        _log.warning("This processor emulates bfloat16 (no AVX512_BF16): float32 is faster here.")
