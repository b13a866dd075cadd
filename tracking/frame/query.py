"""What is asked of a store, and the untyped cells that a reader answers with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tracking.errors import StoreError
from tracking.store import connection as border

CORE = (
    "run_id",
    "run_name",
    "experiment",
    "experiment_id",
    "status",
    "start_time",
    "end_time",
    "artifact_uri",
)

# The tag of an input that says which split it is.
CONTEXT = "mlflow.data.context"


def suits(uri: str) -> bool:
    """Whether the URI names a kind of store that is read by SQL, of which only what is wanted has to be fetched."""
    return border.kind(uri) in ("sqlite", "postgresql")


class HasUri(Protocol):
    """Anything with a tracking URI, such as ``tracking.store.store.Store``."""

    @property
    def tracking_uri(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Query:
    """What to read: ``columns`` None means everything but ``system/`` metrics; ``limit`` None means every run."""

    experiments: tuple[str, ...] | None = None
    filter: str = ""
    columns: tuple[str, ...] | None = None
    order_by: str = ""
    descending: bool = True
    limit: int | None = None

    def wants(self, kind: str) -> tuple[str, ...] | None:
        """The keys wanted of ``params``, ``metrics``, ``tags`` or ``datasets``; None for all of them."""
        if self.columns is None or f"{kind}.*" in self.columns:
            return None
        start = len(kind) + 1
        return tuple(sorted({c[start:] for c in self.columns if c.startswith(f"{kind}.")}))


class Input(NamedTuple):
    """A dataset a run logged; ``source`` and ``profile`` are MLflow's JSON, or any other text."""

    context: str
    name: str
    digest: str
    source: str
    profile: str


@dataclass
class Cells:
    """What a reader found, untyped: lists of equal length, one entry a run; None is missing.

    ``faults`` says in words what could not be read and is left out.
    """

    num_runs: int
    core: dict[str, list[Any]]
    wide: dict[str, list[Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def put(self, row: int, column: str, value: Any) -> None:
        cells = self.wide.get(column)
        if cells is None:
            cells = self.wide[column] = [None] * self.num_runs
        cells[row] = value


def experiment_error(asked: Sequence[str], known: Iterable[str]) -> StoreError:
    """The error for experiments that are not in the store."""
    listed = ", ".join(sorted(known)) or "none"
    return StoreError(f"no experiment {', '.join(map(repr, asked))} in this store; there are: {listed}")
