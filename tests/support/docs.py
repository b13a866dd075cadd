"""The lines that README and docs tell a reader to type, as blocks that a test can run in order.

An HTML comment ``<!-- check: WORD -->`` above a block says why the suite does not run it: ``long`` (minutes; run by
``make docs-check``), ``network`` (needs the internet), ``part`` (not complete by itself), ``cloud`` (costs money),
``notebook`` (run by the notebook's test). Blocks marked ``aws`` run against the fakes.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

# In this order, in one folder: a page goes on from what the pages before it have made.
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("train", "studies", "track", "reports", "models", "data", "sagemaker")),
)
MARKS = ("long", "network", "part", "cloud", "notebook", "aws")
_MARK = re.compile(r"<!-- check: (\w+) -->")
_FENCE = re.compile(r"^( *)(```+)(\w*)\s*$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: its page and first line's number, its language, its text, and why it is special ("" if not)."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines to type; of a ``console`` block those after ``$``."""
        text = self.text.replace("\\\n", " ")
        if self.language == "console":
            return [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]

    @property
    def file(self) -> str:
        """The file that the block's first line names as a comment (``# mine.toml``), else ""."""
        named = re.match(r"# ([\w.-]+\.(?:toml|txt|csv|lst|py))\n", self.text)
        return named[1] if named else ""

    def outputs(self) -> Iterator[tuple[str, list[str]]]:
        """Each command of a ``console`` block with the lines that it is said to print."""
        parts = re.split(r"^\$ ", self.text.replace("\\\n", " "), flags=re.MULTILINE)
        for part in parts[1:]:
            command, *said = part.splitlines()
            yield command, [line for line in said if line.strip()]


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page, in order."""
    found, lines = [], (ROOT / page).read_text(encoding="utf-8").splitlines()
    number, mark = 0, ""
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            if lines[number].strip():
                above = _MARK.fullmatch(lines[number].strip())
                mark = above[1] if above else ""
            number += 1
            continue
        end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == fence[2])
        text = "".join(line.removeprefix(fence[1]) + "\n" for line in lines[number + 1 : end])
        found.append(Block(page=page, line=number + 2, language=fence[3], text=text, mark=mark))
        number, mark = end + 1, ""
    return found


def program(command: str) -> tuple[str, list[str]] | None:
    """The module and its words, for a line that runs one of this project's programs and nothing beside it."""
    words = shlex.split(command, comments=True)
    if words[:2] != ["python", "-m"] or words[2].partition(".")[0] not in ("trainers", "tracking", "reports"):
        return None
    return None if {"|", ">", "&&", "&", ";"} & set(words) or "$" in command else (words[2], words[3:])


def shape(line: str) -> str:
    """A printed line without what differs from run to run: numbers, ids, times, the mark of the best epoch."""
    line = re.sub(r"\b[0-9a-f]{32}\b|\b(?=[a-f]*\d)[0-9a-f]{8}\b", "#", line)
    line = re.sub(r"\d+(?:m\d+)?(?:\.\d+)?s\b", "#s", line)
    line = re.sub(r"\d[\d.,]*", "#", line).replace("*", " ")
    return re.sub(r"\s+", " ", line).strip()


def missing(said: list[str], printed: str) -> list[str]:
    """The lines of ``said`` that were not printed, in this order; ``…`` in them stands for anything."""
    rest, absent = iter(map(shape, printed.splitlines())), []
    for line in said:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in shape(line).split("…")))
        if not any(pattern.fullmatch(candidate) for candidate in rest):
            absent.append(line)
            break
    return absent


def main() -> int:
    """Type every line that needs neither network nor money into a shell, servers for a minute; how many failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        for block in (block for page in PAGES for block in blocks(page)):
            if block.file:
                (Path(folder) / block.file).write_text(block.text, encoding="utf-8")
            elif block.language in ("sh", "console") and block.mark in ("", "long"):
                for command in block.commands:
                    line = "timeout -s INT 60 " + command if command.endswith("tracking ui") else command
                    where = ROOT if command.startswith("make ") else Path(folder)
                    done = subprocess.run(
                        ["bash", "-c", line], cwd=where, env=environment, capture_output=True, text=True
                    )
                    wrong = done.returncode not in ((0, 124) if block.language == "sh" else (0, 1, 2))
                    failed += wrong
                    print(f"{'FAILED' if wrong else 'ok'}  {block}: {command}", flush=True)
                    if wrong:
                        print(done.stdout + done.stderr)
    return failed


def prepare(where: Path) -> None:
    """What a reader has before the first line: pictures in a folder for each class, and other runs in the store."""
    from tests.support.pictures import class_folders
    from tests.support.runs import new_store, trained

    class_folders(where / "photos", 20, ("cat", "dog", "owl"), suffix=".jpg", size=(32, 32))
    (where / "mlruns").mkdir()
    filler = new_store(where / "mlruns")
    for seed in (0, 1):
        filler.run(**trained(44, seed=seed))
        filler.run(**trained(20, seed=seed, test=0.5, dataset="/data/pets", digest="pets"))


if __name__ == "__main__":
    sys.exit(min(main(), 1))
