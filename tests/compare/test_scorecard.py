"""The page of ``halbert evaluate`` in a real browser, for every kind of answer, with text that would like to be markup."""

from __future__ import annotations

import json

import pytest

from halbert.compare.scorecard import TITLES, write_scorecard
from halbert.heads import HeadSpec
from halbert.run.evaluation import evaluate
from halbert.run.predictor import load
from halbert.tasks.metrics import METRICS
from tests import small, tiny
from tests.compare import browsing

pytestmark = browsing.MARKS
HOSTILE = "<script>document.title='hit'</script>"
LABELS = (HOSTILE, "a-label-whose-name-is-very-long-indeed-" * 3, "blue")


def rows(folder, kind):
    """A labelled file for a kind of head."""
    texts = [f"{text} {HOSTILE} {'long' * 40}" for text, _ in small.rows(30)]
    if kind == "label":
        return small.write_csv(folder / "rows.csv", [(t, LABELS[i % 3]) for i, t in enumerate(texts)])
    if kind == "score":
        return small.write_csv(folder / "rows.csv", [(t, str(i / 7)) for i, t in enumerate(texts)], ("text", "score"))
    if kind == "tag":
        (folder / "rows.conll").write_text("\n\n".join(f"{HOSTILE}\tred\ncat\tblue\ndog\tnone" for _ in texts))
        return folder / "rows.conll"
    questions = [
        {"id": str(i), "question": HOSTILE, "answers": [{"text": "cat", "answer_start": 4}]} for i in range(20)
    ]
    paragraphs = [{"context": f"the cat sat on {HOSTILE}", "qas": questions}]
    (folder / "rows.json").write_text(json.dumps({"data": [{"title": HOSTILE, "paragraphs": paragraphs}]}))
    return folder / "rows.json"


def test_every_metric_has_a_title():
    assert set(TITLES) == set(METRICS)


def test_masked_pieces_have_a_page_too(tmp_path):
    predictor = load(tiny.bundle(small.encoder(), {"mlm": tiny.HEADS["mlm"]}), precision="fp32")
    (tmp_path / "a.txt").write_text("the cat sat on a mat\n" * 9)
    told = evaluate(predictor, tmp_path / "a.txt", task="fill")
    write_scorecard(told, tmp_path / "out", "model", "a.txt")
    page = (tmp_path / "out/index.html").read_text()
    assert "loss of masked pieces, nats" in page and f"{told['metrics']['masked_loss']['value']:.3f}" in page


@pytest.fixture(scope="module", params=["label", "score", "tag", "span"])
def file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorecard")
    head = HeadSpec(kind="label", labels=LABELS) if request.param == "label" else tiny.HEADS[request.param]
    predictor = load(tiny.bundle(small.encoder(), {request.param: head}), precision="fp32")
    told = evaluate(predictor, rows(folder, request.param))
    write_scorecard(told, folder, f"model {HOSTILE}", f"rows of {HOSTILE}")
    return request.param, folder / "index.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_the_page(browser, file, width, scheme):
    kind, path = file
    page = browsing.opened(browser, path, width, scheme)
    assert page.title() == f"model {HOSTILE} on rows of {HOSTILE}: scored by Halbert"
    assert page.locator("svg").count() >= {"label": 3, "score": 0, "tag": 1, "span": 1}[kind]
    assert page.locator("ol.headline li strong").count() >= 1
    cells = page.locator("td.text").all_inner_texts()
    assert cells and any(HOSTILE in cell for cell in cells)
    page.close()
