"""Every link of README and docs leads somewhere: files that are there, headings that are on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.test_advice import PROJECT
from tests.support import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_PARSER = MarkdownIt("commonmark").enable("table")


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link: its text in lower case, words joined by hyphens."""
    found: set[str] = set()
    tokens = _PARSER.parse(page.read_text(encoding="utf-8"))
    for token, inline in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open":
            text = re.sub(r"[^\w\- ]", "", inline.content.replace("`", "").lower()).strip()
            found.add(re.sub(r"[ -]+", "-", text))
    return found


def links(page: Path) -> list[str]:
    """The targets of links and pictures, in markdown and in HTML."""
    found = []
    for token in _PARSER.parse(page.read_text(encoding="utf-8")):
        for child in token.children or []:
            found += [str(value) for key, value in child.attrs.items() if key in ("href", "src")]
        if token.type == "html_block" or token.type == "inline":
            found += re.findall(r'(?:src|srcset|href)="([^"]+)"', token.content)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "mailto:", "http://127.0.0.1", "http://localhost")), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{page.name}: {link}"
        if page.parent == ROOT / "docs" and path:
            assert target.is_relative_to(ROOT / "docs"), f"{page.name}: {link} leaves the site"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_each_test_that_a_page_names_exists() -> None:
    pages = [ROOT / "docs" / name for name in ("security.md", "dependencies.md")]
    named = {name for page in pages for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", code))
    assert len(named) > 15 and named <= there, named - there


def test_each_dependency_is_explained() -> None:
    """And none that is asked for no longer."""
    asked = [*PROJECT["dependencies"]]
    for extra, lines in PROJECT["optional-dependencies"].items():
        asked += [] if extra == "dev" else lines
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    explained = {name.lower() for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert explained == {re.match(r"[\w-]+", line)[0].lower() for line in asked} | {"gluoncv"}  # type: ignore[index]


def test_the_site_shows_every_page() -> None:
    listed = set(re.findall(r"([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = list((tmp_path / "site").glob("*.html"))
    assert {page.stem for page in pages} > {page.stem for page in (ROOT / "docs").glob("*.md")}
    fetched = [
        word for page in pages for word in re.findall(r'(?:src|<link[^>]+href)="(https?:[^"]+)"', page.read_text())
    ]
    assert not fetched, "the pages load something from elsewhere"
