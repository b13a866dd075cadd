"""Commands that messages tell a reader to type are ones that their programs take: parsed by the programs' own parsers.

Nothing is installed and nothing is sent: `pip` and `mlflow` parse without acting, `tar` runs for real, `aws` parses and
then finds no server. `heif-convert` and `git lfs` are not asked: neither is a package that the tests could bring.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path

import click
import pytest
from packaging.requirements import InvalidRequirement, Requirement

from tests.support import ROOT

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

PACKAGES = ("tracking", "reports", "trainers")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def said() -> Iterator[tuple[str, str]]:
    """(place, text) of every text of the programs, an ``X`` for each part that is filled in."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
            for node in (node for node in nodes if id(node) not in inner):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                texts = [
                    part.value if isinstance(part, ast.Constant) else "X"
                    for part in parts
                    if isinstance(part, ast.FormattedValue) or isinstance(getattr(part, "value", None), str)
                ]
                if texts:
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", "".join(texts)


SAID = list(said())


def commands(start: str) -> list[tuple[str, str]]:
    """Every command that begins so, up to the end of its quotation or sentence."""
    found = re.compile(rf"(?<![\w./]){start} [^`;,()\n]+")
    return [(place, match[0]) for place, text in SAID for match in found.finditer(text)]


@pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils:UserWarning")  # pip's own imports
def test_what_pip_is_to_install_are_this_project_s_own_requirements() -> None:
    from pip._internal.commands import create_command

    listed = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    known = {Requirement(line).name.lower() for line in listed} | {"gluoncv", "torch", "x", PROJECT["name"]}
    known |= {
        line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    found = commands("pip install")
    assert len(found) > 15
    for place, command in found:
        words = []
        for word in shlex.split(command.partition(" && ")[0].replace("'", '"').replace('"', "'").rstrip("."))[2:]:
            try:
                if not word.startswith("-") and Requirement(word).name.lower() not in known:
                    break  # the sentence goes on
            except InvalidRequirement:
                break
            words.append(word)
        _, wanted = create_command("install").parse_args(words)
        assert wanted, f"{place}: {command}"
        for requirement in map(Requirement, wanted):
            assert requirement.name != PROJECT["name"] or requirement.extras <= set(EXTRAS), f"{place}: {command}"


def test_mlflow_takes_what_it_is_to_do() -> None:
    from mlflow.cli import cli

    found = [one for one in commands("mlflow") if re.match(r"mlflow (?:db|runs|experiments|artifacts|migrate)", one[1])]
    assert len(found) > 6
    for place, command in found:
        words = shlex.split(re.split(r" (?:with|and|brings) |:$", command)[0])[1:]
        known: click.Command = cli
        while isinstance(known, click.Group):
            name = words.pop(0)
            after = known.get_command(click.Context(known), name)
            assert after is not None, f"{place}: {command}"
            known = after
        if words:  # a command that is named alone is looked up, not typed
            given = {word.partition("=")[0] for word in words}
            required = [p.opts for p in known.params if p.required and isinstance(p, click.Option)]
            assert all(given & set(options) for options in required), f"{place}: {command}"
            arguments = [p for p in known.params if p.required and isinstance(p, click.Argument)]
            _, rest, _ = known.make_parser(click.Context(known)).parse_args([*words])
            assert not rest and len(arguments) <= len(words), f"{place}: {command}"


def test_our_own_programs_know_the_words_behind_their_names() -> None:
    helps: dict[str, str] = {}
    found = commands(r"python -m (?:tracking|trainers|reports)[\w.]*")
    assert len(found) > 40
    for place, command in found:
        _, _, module, *words = command.split()
        module = module.rstrip(".")
        name = f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module
        if module == "trainers" or name.endswith("sagemaker.container.__main__"):
            continue
        if module not in helps:
            out = StringIO()
            with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit):
                import_module(name).main(["--help"])
            helps[module] = out.getvalue()
        is_word = bool(words) and re.fullmatch(r"[a-z][a-z-]*", words[0]) is not None
        if is_word and module in ("tracking", "reports", "trainers.jobs", "trainers.data"):
            assert words[0] in helps[module], f"{place}: {command}"
        for flag in words[:1] if words and words[0].startswith("--") else []:
            assert flag in helps[module], f"{place}: {command}"


def test_tar_packs_and_unpacks_as_it_is_to(tmp_path: Path) -> None:
    (tmp_path / "FOLDER" / "blobs").mkdir(parents=True)
    (tmp_path / "FOLDER" / "blobs" / "a").write_text("weights")
    (tmp_path / "FOLDER" / "model-0000.params").symlink_to("blobs/a")
    ((_, pack),) = {command for command in commands("tar") if "-hczf" in command[1]}
    subprocess.run(shlex.split(pack), cwd=tmp_path, check=True)
    with tarfile.open(tmp_path / "model.tar.gz") as made:  # what a link leads to, and no link
        assert made.getmember("./model-0000.params").isreg()
    for _, unpack in [command for command in commands("tar") if "-xf" in command[1]]:
        words = [str(tmp_path / "model.tar.gz") if word in ("X", "{file}") else word for word in shlex.split(unpack)]
        subprocess.run(words, cwd=tmp_path, check=True)
        assert (tmp_path / "model-0000.params").read_text() == "weights"


def test_aws_takes_what_it_is_to_do(tmp_path: Path) -> None:
    command = "aws s3 sync s3://bucket/a DIR"
    assert any(text.startswith("aws s3 sync") for _, text in commands("aws"))
    if shutil.which("aws") is None:
        pytest.skip("the AWS CLI is not installed")
    nowhere = "--endpoint-url http://127.0.0.1:9 --no-sign-request --region us-east-1"
    words = shlex.split(f"{command} {nowhere} --cli-connect-timeout 1")
    environment = {"PATH": str(Path(str(shutil.which("aws"))).parent) + ":/usr/bin:/bin", "AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert "127.0.0.1:9" in done.stderr and "usage" not in done.stderr, done.stderr


def test_aws_answers_with_what_is_to_be_saved() -> None:
    pytest.importorskip("botocore")
    from botocore import xform_name
    from botocore.session import Session

    names = {text.split()[2] for _, text in commands("aws sagemaker")}
    known = Session().get_service_model("sagemaker").operation_names
    assert names and names <= {xform_name(name, "-") for name in known}
