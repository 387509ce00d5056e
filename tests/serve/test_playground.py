"""The playground in a real browser, with real models behind it, slow and failing servers, and texts of every kind."""

from __future__ import annotations

import json
import time

import pytest

from tests import small
from tests.compare import browsing
from tests.serve.serving import running

pytestmark = browsing.MARKS
WIDE = {"hidden_size": 32, "embedding_size": 32, "intermediate_size": 48}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playground")
    small.bundle(("mlm", "pair", "label", "tag"), **WIDE).save(folder / "first")
    small.bundle(("mlm", "score", "span"), seed=1, **small.ALBERT).save(folder / "second")
    with running(str(folder / "first"), str(folder / "second"), "--precision", "fp32") as running_server:
        yield running_server


class Visit:
    """A page of the server, and everything it did that it should not."""

    def __init__(self, browser, server, *, width=1280, scheme="light", fragment=""):
        allowed = ["clipboard-read", "clipboard-write"]
        screen = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=screen, color_scheme=scheme, permissions=allowed)
        self.page = self.context.new_page()
        self.faults, self.requests = [], []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.home = f"http://127.0.0.1:{server.port}/"
        self.page.goto(self.home + fragment)
        self.answered()

    def until(self, expression, seconds=30):
        """Wait: the page's own policy forbids what Playwright would do."""
        ends = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < ends, (expression, self.page.locator("#status").inner_text())
            self.page.wait_for_timeout(30)

    def answered(self):
        self.told("Answered")

    def told(self, words):
        self.until(f"document.getElementById('status').textContent.includes({json.dumps(words)})")

    def type(self, text):
        self.page.evaluate("document.getElementById('status').textContent = ''")
        self.page.locator("#text").fill(text)

    def close(self):
        assert all(url.startswith((self.home, "data:")) for url in self.requests), self.requests
        self.context.close()


@pytest.fixture
def visit(browser, server):
    visits = []

    def go(**how):
        visits.append(Visit(browser, server, **how))
        return visits[-1]

    yield go
    for each in visits:
        each.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page(visit, width, scheme):
    v = visit(width=width, scheme=scheme)
    page = v.page
    assert page.locator("article").count() == 2 and page.locator("article h2").all_inner_texts() == ["first", "second"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("article").first.locator("meter").count() >= 5
    assert page.locator("svg.map").count() == 2 and page.locator("svg").count() == 4
    assert browsing.accessible(page) == []
    assert v.faults == []


def test_pieces_fill_heads_and_likeness(visit):
    v = visit()
    v.type("the wanted [MASK] sat")
    v.answered()
    first = v.page.locator("article").first
    pieces = first.locator(".pieces span")
    assert pieces.all_inner_texts() == ["[CLS]", "the", "want", "##ed", "[MASK]", "sat", "[SEP]"]
    assert "characters 0 to 3" in pieces.nth(1).get_attribute("title")
    assert "What its heads say" in first.inner_text() and "wait" in first.inner_text()
    v.page.locator("summary").click()
    v.page.locator("#pair").fill("a mat on the cat")
    v.until("document.querySelectorAll('article')[1].textContent.includes('Likeness')")
    v.page.locator("#layer").select_option("0")
    v.until("document.querySelector('article').textContent.includes('Attention, layer 1')")
    others = v.page.locator("#precision option").all_inner_texts()
    assert others[:2] == ["as served", "fp32"]
    if "bf16" in others:  # served in fp32
        assert "fp32" in first.locator(".told").first.inner_text()
        v.page.locator("#precision").select_option("bf16")
        v.until("document.querySelector('article .told').textContent.includes('bf16')")
    v.page.locator("svg.map image").first.hover()
    assert "→" in v.page.locator("svg.map + .told").first.inner_text()
    v.page.locator("#chosen input").first.uncheck()
    v.until("document.querySelectorAll('article').length === 1")
    assert v.faults == []


@pytest.mark.parametrize("text", [
    "שלום [MASK] עולם", "\U0001f937\u200d\u2640\ufe0f \U0001f600 the", "<img src=x onerror=alert(1)> <script>document.title='hit'</script>",
    "a" * 10_000, "the cat " * 1_250, "\u0000\u202e\ufeff a", "line\nbreak\ttab",
], ids=["rtl", "emoji", "script", "one long word", "many words", "control", "breaks"])  # fmt: skip
def test_texts_of_every_kind(visit, text):
    v = visit(width=390)
    v.type(text)
    v.answered()
    assert v.page.title() == "Halbert: models side by side"
    assert v.page.locator("article").count() == 2 and v.page.locator("article img, article script").count() == 0
    assert v.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert v.faults == []


def test_no_text(visit):
    v = visit()
    v.type("   ")
    v.told("Type a text")
    assert v.page.locator("article").count() == 0


def test_a_slow_server_and_an_overtaken_answer(visit):
    v = visit()
    held = []
    v.page.route("**/v1/compare", lambda route: held.append(route))
    v.type("the first")
    v.told("takes its time")
    v.page.locator("#text").fill("the second")
    v.page.wait_for_timeout(700)
    assert len(held) == 2
    held[1].continue_()
    v.answered()
    held[0].continue_()  # an answer to what was asked before must not replace the later one
    v.page.wait_for_timeout(300)
    assert "second" in v.page.locator("#text").input_value()
    assert v.faults == []


def test_errors_are_told(visit):
    v = visit()
    busy = {"error": {"message": "the queue is full", "type": "overloaded", "code": 429}}
    v.page.route(
        "**/v1/compare", lambda route: route.fulfill(status=429, headers={"retry-after": "3"}, body=json.dumps(busy))
    )
    v.type("the cat")
    v.told("the queue is full; again in 3 s")
    assert v.page.locator("#status.bad").count() == 1
    v.page.unroute("**/v1/compare")
    v.page.route("**/v1/compare", lambda route: route.abort())
    v.type("the mat")
    v.told("does not answer")
    v.page.unroute("**/v1/compare")
    v.type("the dog")
    v.answered()


def test_links_and_commands_to_copy(visit, server):
    v = visit(fragment="#text=the%20%5BMASK%5D%20sat&pair=a%20%3Cb%3E")
    assert (
        v.page.locator("#text").input_value() == "the [MASK] sat" and v.page.locator("#pair").input_value() == "a <b>"
    )
    clipboard = "navigator.clipboard.readText()"
    v.page.locator("#share").click()
    v.told("Link copied")
    assert v.page.evaluate(clipboard).startswith(v.home + "#text=the+%5BMASK%5D+sat&pair=")
    v.page.locator("#curl").click()
    v.told("Command copied")
    command = v.page.evaluate(clipboard)
    body = json.loads(command.split(" -d '")[1].removesuffix("'"))
    assert server.post("/v1/compare", body).status == 200
    v.page.locator("#python").click()
    v.told("Python copied")
    found = {}
    exec(v.page.evaluate(clipboard).replace("print(", "found.update("), {"found": found})
    assert list(found["models"]) == ["first", "second"]


def test_by_keyboard_alone(visit):
    v = visit()
    v.page.locator("#text").focus()
    v.page.keyboard.press("Control+A")
    v.page.keyboard.type("the cat [MASK]")
    for _ in range(12):
        v.page.keyboard.press("Tab")
        if v.page.evaluate("document.activeElement.id") == "ask":
            break
    assert v.page.evaluate("document.activeElement.id") == "ask"
    v.page.keyboard.press("Enter")
    v.answered()
    assert v.page.locator(".pieces").first.inner_text().count("[MASK]") == 1
    # Pieces and the map of attention are told of without a pointer too.
    v.page.locator(".pieces").first.focus()
    for _ in range(3):
        v.page.keyboard.press("ArrowRight")
    pieces = v.page.locator("article").first.locator(".pieces")
    assert pieces.locator(".chosen").inner_text() == "cat" and "characters 4 to 7" in pieces_told(v)
    v.page.locator("svg.map").first.focus()
    v.page.keyboard.press("ArrowDown")
    v.page.keyboard.press("ArrowRight")
    assert v.page.locator("svg.map + .told").first.inner_text().startswith("[CLS] → the: ")
    assert v.faults == []


def pieces_told(v):
    return v.page.locator(".pieces + .told").first.inner_text()


def test_by_touch(browser, server):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/#text=the%20cat%20sat")
    page.locator(".pieces span").first.wait_for()
    page.locator(".pieces span").nth(2).tap()
    assert "id " in page.locator(".pieces + .told").first.inner_text()
    page.locator("svg.map").first.tap()
    assert "→" in page.locator("svg.map + .told").first.inner_text()
    context.close()


def test_what_is_cut_or_not_shown_is_told(visit):
    v = visit()
    v.type("the cat " * 1_250)
    v.answered()
    first = v.page.locator("article").first.inner_text()
    assert "pieces; the other" in first and "are cut off" in first
    v.type("the cat")
    v.answered()
    assert "cut off" not in v.page.locator("article").first.inner_text()


def test_a_text_from_right_to_left_is_shown_so(visit):
    v = visit(fragment="#text=%D7%A9%D7%9C%D7%95%D7%9D")
    assert v.page.locator(".pieces").first.get_attribute("dir") == "rtl"
    v.type("the cat")
    v.answered()
    assert v.page.locator(".pieces").first.get_attribute("dir") == "ltr"


def test_models_of_unequal_depth_and_one_that_fails(browser, tmp_path):
    small.bundle(("mlm",), **WIDE).save(tmp_path / "shallow")
    small.bundle(("mlm",), num_hidden_layers=4).save(tmp_path / "deep")
    spoilt = small.bundle(("mlm",), **WIDE)
    spoilt.arrays["encoder.embeddings.piece.weight"][spoilt.tokenizer.pieces("sat")[0].id] = 3e38
    spoilt.save(tmp_path / "spoilt")
    with running(*(str(tmp_path / name) for name in ("shallow", "deep", "spoilt")), "--precision", "fp32") as server:
        v = Visit(browser, server, fragment="#text=a+cat+sat")
        assert v.page.locator("#layer option").all_inner_texts() == ["last", "1", "2", "3", "4"]
        v.page.locator("#layer").select_option(label="4")

        # Each model answers when it is ready: all three are waited for.
        for place, told in enumerate(("no layer 4", "Attention, layer 4", "not finite")):
            v.until(f"document.querySelectorAll('article')[{place}].textContent.includes('{told}')")
        shallow, _, failed = v.page.locator("article").all_inner_texts()
        assert "has 2 layers, and so no layer 4" in shallow and "not finite" in failed
        # A link has the choices; another one, pasted, is taken at once.
        v.page.locator("#chosen input").nth(2).uncheck()
        v.until("document.querySelectorAll('article').length === 2")
        v.page.locator("#share").click()
        v.told("Link copied")
        link = v.page.evaluate("navigator.clipboard.readText()")
        assert link.endswith("#text=a+cat+sat&model=shallow&model=deep&layer=3")
        v.page.evaluate("location.hash = '#text=the+mat&model=shallow'")
        v.until("document.querySelectorAll('article').length === 1")
        assert v.page.locator("#text").input_value() == "the mat"
        assert v.page.locator("#layer option").all_inner_texts() == ["last", "1", "2"]
        v.page.locator("#chosen input").first.uncheck()
        v.told("Choose a model")
        assert v.page.locator("article").count() == 0
        v.close()


def test_commands_of_a_server_with_keys_have_no_key(browser, server, tmp_path):
    small.bundle(("mlm",), **WIDE).save(tmp_path / "m")
    with running(str(tmp_path / "m"), environment={"HALBERT_API_KEYS": "secret-key-1"}) as locked:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{locked.port}/")
        page.locator("#key").fill("secret-key-1")
        page.locator("#key").dispatch_event("change")
        page.locator("article").wait_for()
        told = []
        for what in ("curl", "python"):
            page.locator(f"#{what}").click()
            page.wait_for_timeout(200)
            told.append(page.evaluate("navigator.clipboard.readText()"))
        assert "$HALBERT_API_KEY" in told[0] and 'os.environ["HALBERT_API_KEY"]' in told[1]
        assert not any("secret" in each for each in told)
        context.close()
