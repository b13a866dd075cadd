"""Keeps threads that import at the same time from waiting for each other for ever.

Importing ``distutils`` (as MXNet does) runs setuptools' finder, which imports setuptools while the interpreter holds
its global import lock; CPython finds cycles of waiting among modules' own locks, but not through that one. A thread
that imports MLflow meanwhile needs the global lock for each module, and holds the lock of some module that setuptools
needs: neither goes on. Seen on Python 3.10; 3.11 and 3.12 have the same lock.
"""

from __future__ import annotations

import importlib
import sys
import warnings


def import_distutils() -> None:
    """Have setuptools' finder do its work before a second thread imports anything; about 0.1 s, once."""
    if "distutils" in sys.modules or not any(_is_setuptools(finder) for finder in sys.meta_path):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.10 and 3.11 say that distutils is going away
        try:
            importlib.import_module("distutils")
        except ImportError:  # Python 3.12 with a setuptools that brings none
            pass


def _is_setuptools(finder: object) -> bool:
    kind = finder if isinstance(finder, type) else type(finder)
    return kind.__module__ == "_distutils_hack"
