"""Files that take far more memory or time than they have bytes are refused in a sentence."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fuzz.seeds import member, sparse
from tracking.errors import ModelError
from tracking.models import archive
from trainers.config import study
from trainers.data.readers import idx, manifest
from trainers.errors import BadConfig, BadData


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: member("a", b"0" * (100 << 20)), "more than 20 times its size"),
        (lambda: member("x", b"12 comment=x\n" * 30_000, b"x"), "bytes of headers"),
        (lambda: sparse(8**11 - 1), "sparse"),
    ],
)
def test_archives(tmp_path: Path, content: Callable[[], bytes], said: str) -> None:
    (tmp_path / "model.tar.gz").write_bytes(gzip.compress(content() + bytes(1024), 1))
    with pytest.raises(ModelError, match=said):
        archive.take_out(tmp_path / "model.tar.gz", tmp_path / "out")


def test_idx_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 3_000_000, 28, 28) + bytes(1 << 20)))
    with pytest.raises(BadData, match="promises 3000000 x 28 x 28"):
        idx.read_file(tmp_path / "a.gz")
    pq.write_table(pa.table({"path": ["a"] * 200_000, "label": ["b"] * 200_000}), tmp_path / "a.parquet")
    with pytest.raises(BadData, match="200,000 rows"):
        manifest.read_file(tmp_path / "a.parquet", None)


def test_a_study_of_many_runs(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text(f"[[runs]]\nseed = {list(range(1000))}\nepochs = {list(range(1, 1001))}\n")
    with pytest.raises(BadConfig, match="makes 1,000,000 runs"):
        study.load(str(path))
