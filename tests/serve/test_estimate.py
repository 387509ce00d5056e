from __future__ import annotations

from halbert.serve.estimate import FEWEST, MOST, Estimate


def test_letters_follow_the_texts_that_were_counted():
    estimate = Estimate()
    assert estimate.tokens(["x" * 300], None, 512) == [102]
    for _ in range(100):
        estimate.learn(5_000, 1_000)
    assert abs(estimate.letters - 5) < 0.1 and estimate.tokens(["x" * 300], None, 512)[0] in (61, 62, 63)
    assert estimate.tokens(["x" * 10_000], None, 512) == [514]


def test_no_text_makes_others_look_as_what_they_are_not():
    estimate = Estimate()
    for _ in range(50):
        estimate.learn(200_000, 2)  # blanks, or one word without an end
    assert estimate.letters < 3.5
    for _ in range(5_000):
        estimate.learn(200_000, 20)
    assert estimate.letters <= MOST
    for _ in range(5_000):
        estimate.learn(1, 200)
    assert estimate.letters >= FEWEST


def test_more_than_a_pass():
    estimate = Estimate()
    text = ["x" * 60_000]
    assert estimate.tokens(text, None, 512) == [514]
    assert estimate.tokens([""], text, 512, "predict", window=True)[0] > 25_000  # read in windows that overlap
    assert estimate.tokens(["a cat"], None, 512, "compare")[0] > estimate.tokens(["a cat"], None, 512)[0]
    assert estimate.tokens(["[MASK] " * 100], None, 512, "fill")[0] > 800
