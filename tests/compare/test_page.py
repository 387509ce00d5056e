"""The page in a real browser: no error, no request to anywhere, nothing that does not fit."""

from __future__ import annotations

import json
import shutil

import pytest

from halbert.compare.report import write_report
from tests.compare.made import results

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
    # Playwright leaves its event loop and pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
LONG = "a-model-whose-name-is-very-long-indeed-" * 3


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["plain", "hostile"])
def file(request, tmp_path_factory):
    names = (
        ("bert", "albert", "third")
        if request.param == "plain"
        else ("<script>document.title='hit'</script>", LONG, "c")
    )
    told = results(names)
    folder = tmp_path_factory.mktemp("page")
    (folder / "results.json").write_text(json.dumps(told))
    write_report(told, folder)
    return folder / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page(browser, file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("load")
    assert faults == []
    assert requests == [file.as_uri()]
    assert page.title().endswith("measured by Halbert")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").count() == 1 and page.locator("h2").count() >= 4
    assert page.locator("h1").inner_text().strip() and page.locator("svg").count() >= 3
    lost = page.evaluate(
        "[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))"
        ".filter(h => !h.startsWith('#') || !document.getElementById(decodeURIComponent(h.slice(1))))"
    )
    assert lost == [] and page.locator("a[href]").count() > 3
    # Charts keep inside their frames, and text has a colour of its own against the paper.
    outside = page.evaluate(
        "[...document.querySelectorAll('figure')].filter(f => f.querySelector('svg').getBoundingClientRect().right"
        " > f.getBoundingClientRect().right + 1).length"
    )
    assert outside == 0
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
    assert (light[0] < light[1]) == (scheme == "light") and abs(light[0] - light[1]) > 300

    first = page.locator("tbody details").first
    assert not first.locator("code").is_visible()
    first.locator("summary").click()
    assert first.locator("code").is_visible() and first.locator("code").inner_text().startswith("halbert audit ")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
