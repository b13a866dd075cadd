"""The page as one HTML file: nothing in a name acts, nothing is fetched; looked at in a headless browser."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import reports
from tests.support.browser import Browser, browser
from tests.support.runs import Filler, demo, new_store, predictions, trained

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``board``, ``card`` and ``pair`` of the demo; ``evil`` of a store whose every text is an attack."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("demo", "evil"):
        (folder / name).mkdir()
    filler = new_store(folder / "demo")
    made = demo(filler)
    reports.leaderboard(filler.uri).save(folder / "board.html")
    best = made["transfer"][0]
    environment = {
        "git": {"commit": "0123456789abcdef" * 3},
        "machine": {"system": "Linux-6.1-x86_64-with-glibc2.36" * 2},
    }
    filler.client.log_text(best, json.dumps(environment), "environment.json")
    reports.run_card(best, filler.uri).save(folder / "card.html")
    reports.compare([best, made["deep"][0]], filler.uri).save(folder / "pair.html")
    evil = new_store(folder / "evil")
    for seed, score in enumerate((0.9, 0.95)):
        settings = trained(44, init=EVIL, epochs=30 + seed, test=score, dataset=EVIL, digest="d1")
        settings["name"] = f"'\"><svg onload=alert(1)>{EVIL}"
        predictions(evil, evil.run(**settings), score, seed=seed)
    evil.run(EVIL, status="FAILED", tags={"status_reason": EVIL, "advice": EVIL})
    reports.leaderboard(evil.uri).save(folder / "evil.html")
    return folder


@pytest.fixture(scope="module")
def page(pages: Path) -> Iterator[Browser]:
    with browser() as opened:
        yield opened


class Tags(HTMLParser):
    """Counts tags, keeps the addresses of attributes, and the handlers that an attack would need."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.addresses.append(value)
            if name.startswith("on"):
                self.handlers.append(name)


@pytest.mark.parametrize("name", ["board", "evil", "card", "pair"])
def test_one_file_that_fetches_nothing_and_runs_only_its_own_script(pages: Path, name: str) -> None:
    text = (pages / f"{name}.html").read_text(encoding="utf-8")
    parsed = Tags()
    parsed.feed(text)
    assert parsed.tags.count("script") == 1 and parsed.tags.count("img") == 0 and parsed.handlers == []
    assert all(a.startswith(("data:image/png", "#r")) for a in parsed.addresses)
    assert 'http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;' in text
    assert re.search(r"https?://(?!www\.w3\.org/2000/svg)", text) is None


def test_every_figure_has_its_alternative_text(pages: Path) -> None:
    text = (pages / "board.html").read_text(encoding="utf-8")
    labels = re.findall(r'<figure role="img" aria-label="([^"]+)"', text)
    assert len(labels) == 4 and all(len(label) > 60 for label in labels)


@pytest.mark.parametrize("name", ["board", "evil", "card", "pair"])
def test_it_renders_without_a_complaint_and_without_the_network(pages: Path, page: Browser, name: str) -> None:
    page.errors.clear()
    page.requests.clear()
    page.open(pages / f"{name}.html")
    assert page.errors == []
    assert [r for r in page.requests if not r.startswith("data:")] == [(pages / f"{name}.html").as_uri()]
    assert page.run("document.querySelector('h1').getBoundingClientRect().height") > 10
    assert page.run("document.title") != "owned"


def test_the_watcher_sees_a_complaint(pages: Path, page: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<script>nowhere()</script><img src='http://127.0.0.1:9/x.png'>")
    page.errors.clear()
    page.open(tmp_path / "bad.html")
    assert len(page.errors) == 2 and page.requests[-1] == "http://127.0.0.1:9/x.png"


def test_the_browser_runs_and_loads_nothing_that_got_into_a_page_all_the_same(
    pages: Path, page: Browser, tmp_path: Path
) -> None:
    """As if a name had not been escaped: what the page's own policy then forbids."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        _open_with_intruders(pages, page, tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}")
        came = []
        with contextlib.suppress(BlockingIOError, TimeoutError):  # it may connect in advance, and then ask nothing
            while True:
                with server.accept()[0] as caller:
                    caller.settimeout(0.3)
                    came.append(caller.recv(1000).decode().partition("\r\n")[0])
        assert came == []


def _open_with_intruders(pages: Path, page: Browser, tmp_path: Path, far: str) -> None:
    inside = f"""<script>document.title='owned'</script>
    <script src='data:text/javascript,document.title="owned"'></script><script src='{far}/a.js'></script>
    <img src='{far}/a.png' onerror="document.title='owned'"><base href='{far}/'>
    <svg onload="document.title='owned'"><image href='{far}/b.png'/></svg><link rel='stylesheet' href='{far}/a.css'>
    <style>@import '{far}/b.css'; body {{ background: url({far}/c.png) }}</style><iframe src='{far}/f'></iframe>
    <object data='{far}/o'></object><iframe srcdoc="<script>parent.document.title='owned'</script>"></iframe>
    <a id='x' href="javascript:document.title='owned'">a</a><form id='f' action='{far}/form'><input name='a'></form>"""
    text = (pages / "board.html").read_text(encoding="utf-8")
    (tmp_path / "open.html").write_text(text.replace("</main>", f"{inside}</main>"), encoding="utf-8")
    page.open(tmp_path / "open.html")
    page.run("document.getElementById('x').click()")
    page.run("document.getElementById('f').submit()")
    assert page.run("document.title") == "Leaderboard" and page.run("document.baseURI").startswith("file:")
    page.errors.clear()


def test_what_a_name_says_is_shown_as_it_is(pages: Path, page: Browser) -> None:
    page.open(pages / "evil.html")
    assert "<script>document.title='owned'</script>" in page.run("document.body.innerText")
    assert page.run("document.title") == "Leaderboard"


def column(page: Browser, title: str) -> list[str]:
    """The cells of the first table under a head."""
    return list(
        cell.replace("\u00a0", " ")
        for cell in page.run(
            "(() => { const t = document.querySelector('table');"
            f"const i = [...t.tHead.rows[0].cells].findIndex(c => c.innerText === {title!r});"
            "return [...t.tBodies[0].rows].map(r => r.cells[i].innerText); })()"
        )
    )


def click(page: Browser, title: str) -> None:
    """Press the head at its place, as a finger would."""
    x, y = page.run(
        "(() => { const b = [...document.querySelector('table').querySelectorAll('th button')]"
        f".find(b => b.innerText === {title!r}); b.scrollIntoView({{block: 'center', inline: 'center'}});"
        "const r = b.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def test_clicking_a_head_sorts_with_the_missing_last(pages: Path, page: Browser) -> None:
    page.open(pages / "board.html")
    assert column(page, "#") == ["1–3", "1–4", "1–4", "2–4", "–"]
    click(page, "test")
    assert column(page, "#") == ["1–3", "1–4", "1–4", "2–4", "–"]
    click(page, "test")
    assert column(page, "#") == ["2–4", "1–4", "1–4", "1–3", "–"]
    # Numbers as numbers: 1 min 00 s comes after 42 s, 1 min 46 s after 1 min 11 s.
    click(page, "time")
    click(page, "time")
    assert column(page, "time") == ["42 s", "1 min 00 s", "1 min 04 s", "1 min 11 s", "1 min 46 s"]
    # Names by the settings in them, the most telling first, numbers by size.
    click(page, "configuration")
    assert [cell.rpartition(", ")[2] for cell in column(page, "configuration")][-1] == "100 epochs"
    assert page.run("document.querySelectorAll('th[aria-sort=ascending]').length") == 1


def test_a_head_is_reached_and_pressed_by_keyboard(pages: Path, page: Browser) -> None:
    page.open(pages / "board.html")
    page.run("[...document.querySelectorAll('th button')].find(b => b.innerText === 'gap').focus()")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert column(page, "gap") == ["+1.0", "+0.9", "+0.4", "+0.4", "–"]


@pytest.mark.parametrize("name", ["board", "card", "pair"])
def test_a_phone_scrolls_tables_not_the_page(pages: Path, page: Browser, name: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=2, mobile=True)
    try:
        page.open(pages / f"{name}.html")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("parseFloat(getComputedStyle(document.querySelector('p')).fontSize)") >= 14
        # The first column in sight stays while the table is moved below it.
        page.run("document.querySelector('.scroll').scrollLeft = 200")
        assert (
            page.run("[...document.querySelector('tbody tr').cells].find(c => c.offsetWidth).getBoundingClientRect().x")
            < 30
        )
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def contrast(page: Browser, selector: str) -> float:
    """WCAG's contrast of an element's text against the page."""
    ink, paper = (
        page.run(f"getComputedStyle(document.querySelector({s!r})).{p}")
        for s, p in ((selector, "color"), ("main", "backgroundColor"))
    )

    def luminance(colour: str) -> float:
        parts = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light_are_both_readable(pages: Path, page: Browser, scheme: str) -> None:
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        page.open(pages / "board.html")
        paper = page.run("getComputedStyle(document.querySelector('main')).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        first = "document.querySelector('svg text')"
        page.run(f"{first}.style.color = getComputedStyle({first}).fill")
        for selector in ("p", ".note", "td", "th", "svg text", "code"):
            assert contrast(page, selector) >= 4.5, selector
    finally:
        page.call("Emulation.setEmulatedMedia", features=[])


def test_a_figure_alone_is_an_image_in_both_schemes(pages: Path, page: Browser, tmp_path: Path) -> None:
    """As GitHub shows it beside the markdown: an ``img``, where only the file's own style counts."""
    filler = Filler(f"sqlite:///{pages}/demo/mlflow.db")
    reports.leaderboard(filler.uri).save(tmp_path / "board.md")
    files = sorted((tmp_path / "board-figures").iterdir())
    shown = "".join(f"<img src='{f.as_uri()}'>" for f in files)
    (tmp_path / "images.html").write_text(f"<!doctype html><meta charset=utf-8><body>{shown}", encoding="utf-8")
    page.errors.clear()
    page.open(tmp_path / "images.html")
    sizes = page.run("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert len(sizes) == 4 and all(size > 200 for size in sizes) and page.errors == []


def test_what_decides_is_in_sight_at_1280_pixels_and_first_on_a_phone(pages: Path, page: Browser) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
    heads = "[...document.querySelector('table').tHead.rows[0].cells].filter(c => c.offsetWidth).map(c => c.innerText)"
    try:
        page.open(pages / "board.html")
        assert page.run("[...document.querySelectorAll('.scroll')].every(s => s.scrollWidth <= s.clientWidth)")
        assert page.run(heads)[:6] == ["#", "configuration", "test", "95 % interval", "validation", "train"]
        assert page.run("document.querySelectorAll('svg.range').length") == 4
        page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=2, mobile=True)
        assert page.run(heads)[:2] == ["configuration", "test"]
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_a_run_leads_to_its_first_place_on_the_page(pages: Path, page: Browser) -> None:
    text = (pages / "board.html").read_text(encoding="utf-8")
    targets = re.findall(r'<a href="#(r[0-9a-f]{32})" title="', text)
    assert targets and all(text.count(f'id="{target}"') == 1 for target in targets)


def test_a_long_table_is_searched_and_the_cost_figure_draws_what_it_shows(page: Browser, tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    for i in range(104):
        filler.run(params={"rate": i / 1000, "kind": "odd" if i % 2 else "even"}, metrics={"test_accuracy": i / 104})
    reports.leaderboard(filler.uri, top=0).save(tmp_path / "long.html")
    page.open(tmp_path / "long.html")
    shown = "[...document.querySelector('table').tBodies[0].rows].filter(r => r.offsetHeight).length"
    assert page.run(shown) == 104
    page.run("document.querySelector('.search input').focus()")
    page.call("Input.insertText", text="ODD 0.1")
    assert page.run(shown) == 2 and page.run("document.querySelector('[role=status]').innerText") == "2 of 104"
    reports.leaderboard(filler.uri, top=5).save(tmp_path / "short.html")
    short = (tmp_path / "short.html").read_text(encoding="utf-8")
    assert 'class="search"' not in short and "of 5 configurations" in short


def test_several_data_sets_have_a_table_of_contents(page: Browser, tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    for digest, folder in (("d1", "/data/pets"), ("d2", "/data/flowers/test")):
        filler.run(**trained(44, digest=digest, dataset=folder))
    reports.leaderboard(filler.uri).save(tmp_path / "board.html")
    page.open(tmp_path / "board.html")
    heads = page.run("[...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert heads == ["pets: 360 test pictures d1", "flowers-test: 360 test pictures d2"]
    links = "[...document.querySelectorAll('nav a')]"
    assert page.run(f"{links}.map(a => document.querySelector(a.hash).innerText)") == heads
    assert "/data/flowers/test" in page.run("document.body.innerText")
