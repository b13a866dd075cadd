"""Public names that are loaded at their first use, so that importing a package costs nothing (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy(
    package: str, public: Sequence[str], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``.

    ``public`` is its ``__all__``; ``homes`` gives the module of each lazy name, ``module:name`` where it has another
    name there; a home that ends in the name itself is a module.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, _, other = homes[name].partition(":")
        module = import_module(home)
        return module if home.endswith(f".{name}") else getattr(module, other or name)

    return load, lambda: sorted(public)
