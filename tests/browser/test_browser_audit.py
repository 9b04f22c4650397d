"""The audit's page in a real browser: no script, no network, no console errors, any width.

Needs Chromium and playwright: apt-get install chromium fonts-dejavu-core"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prov_crowd import crowd_names, crowd_story
from prov_stories import audited, digest
from test_prov_report import eventful_story

from ledger.provenance.report import to_html

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = [
    pytest.mark.timeout(600),  # two crowded reports and a browser, on a busy machine
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as run:
        opened = run.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two reports as files: one with incidents, one of 30 sites and 200 rounds."""
    folder = tmp_path_factory.mktemp("pages")
    names = {"study_names": {digest("study", 1): "heart"}}
    stories = {"eventful": (eventful_story(), {}), "crowd": (crowd_story(30, 200), names)}
    found = {}
    for name, (story, changes) in stories.items():
        (folder / name).mkdir()
        if name == "crowd":
            changes = {**changes, "names": crowd_names(30)}
        found[name] = folder / f"{name}.html"
        found[name].write_text(to_html(audited(folder / name, story, **changes)), "utf-8")
    return found


@pytest.mark.parametrize("name", ["eventful", "crowd"])
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (390, "light")])
def test_the_page_opens_alone_and_fits(
    browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    begun = time.perf_counter()
    page.goto(pages[name].as_uri(), wait_until="load")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    print(f"{name} at {width}: {time.perf_counter() - begun:.2f} s")
    assert asked == [pages[name].as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("main h2").first.is_visible()
    page.close()


def test_the_page_prints_with_its_tables_open(browser, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["crowd"].as_uri())
    page.emulate_media(media="print")
    assert page.locator("details table").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
