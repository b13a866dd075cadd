"""The number format of a network's arithmetic: float32, or bfloat16 for convolutions and the head.

The weights stay float32, in the optimizer and on disk: bfloat16 is a second graph over the same parameters, with casts
around the heavy operators. MXNet's own ``amp.init`` does the same to every network of the process; this does it to one.
A saved model computes in float32 again, so its scores may differ in the third digit from those of its training.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import BadInput
from trainers.networks import backend as door

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
    _require_bfloat16()
    mx = door.load()
    return _low(net(mx.sym.var("data")), net.collect_params())


def _low(symbol: Any, parameters: Any) -> Any:
    mx = door.load()
    from mxnet.contrib import amp

    low = amp.convert_symbol(symbol, target_dtype="bfloat16")
    with door.quiet():  # it asks after the type of "data", which is settled when data comes
        block = mx.gluon.SymbolBlock(low, [mx.sym.var("data")], params=parameters)
    block.hybridize(static_alloc=True, static_shape=True)
    return block


@cache
def _require_bfloat16() -> None:
    """Try one convolution; MXNet refuses it without AVX-512, and emulates it (at half speed) without AVX512_BF16."""
    mx = door.load()
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
