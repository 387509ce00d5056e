"""The page in a real browser: no error, no request to anywhere, nothing that does not fit."""

from __future__ import annotations

import json

import pytest

from halbert.compare.report import write_report
from tests.compare import browsing
from tests.compare.made import results

pytestmark = browsing.MARKS
LONG = "a-model-whose-name-is-very-long-indeed-" * 3


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
    page = browsing.opened(browser, file, width, scheme)
    assert page.title().endswith("measured by Halbert")
    assert page.locator("h2").count() >= 4 and page.locator("svg").count() >= 3
    lost = page.evaluate(
        "[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))"
        ".filter(h => !h.startsWith('#') || !document.getElementById(decodeURIComponent(h.slice(1))))"
    )
    assert lost == [] and page.locator("a[href]").count() > 3
    sliders = page.locator("table.scores input")
    output = page.locator("table.scores tfoot output").first
    before = output.inner_text()
    sliders.first.focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert output.inner_text() != before and "lead" in page.locator("#own-verdict").inner_text().lower()
    for i in range(sliders.count()):
        sliders.nth(i).fill("0")
    assert page.locator("#own-verdict").inner_text() == "No criterion has any weight."

    first = page.locator(".matrix tbody details").first
    assert not first.locator("code").is_visible()
    first.locator("summary").click()
    assert first.locator("code").is_visible() and first.locator("code").inner_text().startswith("halbert audit ")
    rows = page.locator(".matrix tbody tr")
    everything = rows.evaluate_all("found => found.map(row => row.id)")
    page.locator("#find").fill("THE throughput")
    assert rows.evaluate_all("found => found.filter(row => !row.hidden).map(row => row.id)") == ["throughput"]
    assert page.locator("#found").inner_text() == f"1 of {len(everything)} rows"
    # A link to a row that is hidden brings all of them back.
    page.locator('a[href="#parameters"]').first.click()
    page.wait_for_function("document.getElementById('find').value === ''")
    assert rows.evaluate_all("found => found.filter(row => row.hidden).length") == 0
    # Sorted by a model, and back by the first column.
    head = page.locator(".matrix thead th")
    head.nth(2).locator("button").click()
    assert head.nth(2).get_attribute("aria-sort") == "ascending"
    shares = rows.evaluate_all(
        "found => found.map(row => parseFloat(getComputedStyle(row.cells[2]).getPropertyValue('--share')))"
    )
    assert shares == sorted(shares)
    head.nth(0).locator("button").click()
    assert rows.evaluate_all("found => found.map(row => row.id)") == everything
    assert head.nth(2).get_attribute("aria-sort") is None

    question = page.locator("details.question").nth(1)
    assert not question.locator("li").first.is_visible()
    question.locator("summary").click()
    assert question.locator("li").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
