"""What README and docs tell a reader to type works when typed in order, in a store that already has other runs.

Programs run in this process, which saves their imports; ``make docs-check`` types everything into a shell instead.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module, util
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.aws.launches import account
from tests.support.docs import MARKS, PAGES, Block, blocks, missing, prepare, program, shape
from tests.support.pictures import few_digits

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
ALL = [
    block for page in PAGES for block in blocks(page) if block.language in ("sh", "console", "toml", "text", "python")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all is typed: own pictures, and a store with runs of others."""
    where = tmp_path_factory.mktemp("reader")
    prepare(where)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        few_digits(patch)
        yield where


def test_marks_are_known_and_every_page_of_the_list_has_lines() -> None:
    assert {block.mark for block in ALL} <= {"", *MARKS}
    assert not [page for page in PAGES if not any(block.page == page for block in ALL)]


@pytest.mark.parametrize("page", PAGES)
def test_each_line_works_in_order(page: str, folder: Path, tmp_path: Path) -> None:
    if util.find_spec("mxnet") is None:
        pytest.skip("MXNet is not installed")
    names: dict[str, object] = {}
    with contextlib.ExitStack() as stack:
        if any(block.mark == "aws" for block in ALL if block.page == page):
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            fake = stack.enter_context(account(tmp_path / "aws", patch))
            fake.s3.create_bucket(Bucket="my-bucket")
        for block in ALL:
            if block.page == page and block.mark in ("", "aws"):
                carry_out(block, folder, names)


def carry_out(block: Block, folder: Path, names: dict[str, object]) -> None:
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), names)
    elif block.language == "console":
        for command, said in block.outputs():
            _, printed = typed(command, folder)
            assert not missing(said, printed), f"{block}: $ {command}\n{printed}"
    elif block.language == "sh":
        for command in block.commands:
            code, printed = typed(command, folder)
            assert code == 0, f"{block}: {command}\n{printed}"


def typed(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and everything printed of one line."""
    known = program(command)
    if known is None:
        line = command.replace("python ", f"{sys.executable} ")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout + done.stderr
    module, words = known
    name = f"{module}.__main__" if "." not in module or module == "trainers.data" else module
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = import_module(name).main(words)
        except SystemExit as error:
            code = error.code
    return int(code or 0), out.getvalue()


@pytest.mark.parametrize(
    ("said", "printed", "fits"),
    [
        (
            "done    validation 0.40, test 0.42 · run 658a46e5",
            "\ndone  validation 0.1, test 1.0 · run 00ab12cd\n",
            True,
        ),
        ("    1/3   0.161   2.989     0.101*", "    1/3   0.2   2.9     0.1", True),
        ("run     digits  (sqlite:///…/mlflow.db)", "run   digits (sqlite:////tmp/x/mlflow.db)", True),
        ("done    validation 0.40", "failed  validation 0.40", False),
        ("decade", "facade", False),
    ],
)
def test_printed_lines_are_compared_without_their_numbers(said: str, printed: str, fits: bool) -> None:
    assert (missing([said], printed) == []) is fits and shape("a  1 ") == "a #"


def test_a_block_is_read_with_its_mark_and_its_commands() -> None:
    found = [block for block in blocks("README.md") if block.commands == ["make demo"]]
    assert [block.mark for block in found] == ["long"] and found[0].language == "sh"
