"""The public names: each resolves, is documented in docs/api.md with its parameters, and ``dir`` lists it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import warnings
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.pictures import few_digits
from tests.support.stores import make_store

PACKAGES = ("tracking", "tracking.gluon", "trainers", "trainers.data", "reports")
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


EXPORTED = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


@pytest.mark.parametrize("package", PACKAGES)
def test_dir_lists_what_is_exported_and_nothing_else_is_offered(package: str) -> None:
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__) and len(set(module.__all__)) == len(module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'learn'"):
        _ = module.learn


@pytest.mark.parametrize(("package", "name"), EXPORTED, ids=map(".".join, EXPORTED))
def test_an_exported_name_resolves_and_is_documented_with_its_parameters(package: str, name: str) -> None:
    module = importlib.import_module(package)
    member = getattr(module, name)
    if inspect.ismodule(member):
        assert f"## `{package}.{name}`" in PAGE
    elif inspect.isclass(member):
        assert f"`{package}.{name}`" in PAGE and member.__doc__
        missing = [word for word in sorted(parts(member)) if not re.search(rf"`{word}[`(]", PAGE)]
        assert not missing
    else:
        signature = inspect.signature(member)
        bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
        plain = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
        assert f"`{package}.{name}{plain}`" in PAGE and member.__doc__


def parts(member: type) -> set[str]:
    """A class's public methods, properties and fields; an error's name and message say all."""
    if issubclass(member, Exception):
        return set()
    fields = {field.name for field in dataclasses.fields(member)} if dataclasses.is_dataclass(member) else set()
    return fields | {word for word in vars(member) if not word.startswith("_")}


def test_the_page_documents_nothing_that_is_not_exported() -> None:
    named = re.findall(r"^- `([\w.]+)\.(\w+)[`(]", PAGE, re.MULTILINE)
    assert len(named) > 20 and not set(named) - set(EXPORTED)


@pytest.mark.mxnet
@pytest.mark.slow
def test_the_code_of_the_page_runs_in_order(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(workdir)
    few_digits(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile("\n".join(BLOCKS), "docs/api.md", "exec"), {})
    out, err = capsys.readouterr()
    assert "210 30 60" in out and "# Leaderboard" in out and not err
