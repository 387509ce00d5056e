"""Pages in a real Chromium, and what must be true of each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MARKS = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
    # Playwright leaves its event loop and pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def opened(browser: Any, file: Path, width: int, scheme: str) -> Any:
    """The page, after what every page has to be: without faults and requests, as wide as the screen, readable."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("load")
    assert faults == []
    assert requests == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").count() == 1 and page.locator("h1").inner_text().strip()
    # Charts keep inside their frames, and text has a colour of its own against the paper.
    outside = page.evaluate(
        "[...document.querySelectorAll('figure')].filter(f => f.querySelector('svg').getBoundingClientRect().right"
        " > f.getBoundingClientRect().right + 1).length"
    )
    assert outside == 0
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert accessible(page) == []
    light = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
    assert (light[0] < light[1]) == (scheme == "light") and abs(light[0] - light[1]) > 300
    return page


def accessible(page: Any) -> list[str]:
    """What axe finds on a page that keeps somebody from using it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
