"""Long texts in overlapping windows: every piece counts once, with context on both sides, whatever the head."""

from __future__ import annotations

import numpy as np
import pytest

from halbert.data.batches import pad_rows
from halbert.run import batching, windows
from halbert.run.predictor import load
from halbert.run.windows import answer_of, owned, spread, windows_of
from halbert.tasks.decoding import decode_span
from tests import tiny

WORDS = ["the", "cat", "sat", "on", "a", "mat", ".", "dog", "eat", "want"]
LONG = " ".join(WORDS[i * i % 10] for i in range(83))
FITS = ["the cat", LONG[:60], "", "a mat ."]


def predictor(head: str | None = None):
    return load(tiny.bundle(heads={head: tiny.HEADS[head]} if head else {}), head, precision="fp32")


@pytest.mark.parametrize("room", range(1, 18))
def test_windows_overlap_and_every_piece_has_one(room):
    for length in range(room, 5 * room + 3):
        starts = spread(length, room)
        assert starts[0] == 0 and starts[-1] + room == length
        steps = np.diff(starts)
        assert all(0 < step <= room - room // 4 for step in steps)
        # One fewer could not overlap by as much.
        assert len(starts) == 1 or (len(starts) - 1) * (room - room // 4) + room // 4 < length
        parts = owned(starts, length, room)
        assert [a for a, _ in parts[1:]] == [b for _, b in parts[:-1]] and (parts[0][0], parts[-1][1]) == (0, length)
        for (a, b), start in zip(parts, starts, strict=True):
            assert start <= a < b <= start + room
            for piece in range(a, b):  # nowhere is it nearer to the middle
                context = [min(piece - s, s + room - 1 - piece) for s in starts]
                assert (
                    min(piece - start, start + room - 1 - piece) == max(context)
                    or piece < room
                    or (piece >= length - room)
                )


def alone(found, text: str, output: str, room: int = 35):
    """(first own piece, last, values) of every window, each computed by itself."""
    tokenizer = found.bundle.tokenizer
    body = tokenizer.bulk([text])[0]
    cls, sep = (tokenizer.special_ids[name] for name in ("cls", "sep"))
    starts = spread(len(body), room)
    for start, (a, b) in zip(starts, owned(starts, len(body), room), strict=True):
        ids = [cls, *body[start : start + room], sep]
        values = found.backend.forward(pad_rows([(ids, [0] * len(ids))], 0, multiple=1), [output])[output][0]
        yield start, a, b, len(body), values


def test_embed_is_the_mean_over_every_piece_once():
    found = predictor()
    vector, other, again = found.embed([LONG, "dog", LONG], long="window")
    assert (found.cut, found.windowed) == (0, 1)
    states = []
    for start, a, b, length, values in alone(found, LONG, "last"):
        low, high = (0 if a == 0 else a - start + 1), (len(values) if b == length else b - start + 1)
        states.append(values[low:high])
    states = np.concatenate(states)
    assert len(states) == len(found.bundle.tokenizer.encode(LONG).ids)
    np.testing.assert_allclose(vector, states.mean(0), atol=1e-5)
    np.testing.assert_array_equal(vector, again)
    np.testing.assert_allclose(other, found.embed(["dog"])[0], atol=1e-6)
    # The twins: without overlap, or over the windows whole, is another vector.
    whole = np.concatenate([v for *_, v in alone(found, LONG, "last")]).mean(0)
    assert np.abs(vector - whole).max() > 1e-3
    assert np.abs(vector - found.embed([LONG])[0]).max() > 1e-2


def test_a_wrong_owner_shows(monkeypatch):
    """The twin: with pieces given to the window where they stand at the edge, the means are others."""
    found = predictor("label")
    vector, table = found.embed([LONG], long="window"), found.logits([LONG], long="window")

    def edges(starts, length, room):
        return list(zip(starts, [*starts[1:], length], strict=True))

    monkeypatch.setattr(windows, "owned", edges)
    assert np.abs(found.embed([LONG], long="window") - vector).max() > 1e-4
    assert np.abs(found.logits([LONG], long="window") - table).max() > 1e-5


@pytest.mark.parametrize("head", ["label", "score"])
def test_classes_and_scores_are_weighted_by_own_pieces(head):
    found = predictor(head)
    seen: list[int] = []
    table = found.logits([LONG, LONG, "dog"], long="window", batch_tokens=8, progress=seen.append)
    parts = list(alone(found, LONG, head))
    own = [b - a + (a == 0) + (b == length) for _, a, b, length, _ in parts]
    np.testing.assert_allclose(table[1], np.average([v for *_, v in parts], axis=0, weights=own), atol=1e-5)
    assert sum(seen) == 3 and len(set(own)) > 1
    assert np.abs(table[1] - found.logits([LONG])[0]).max() > 1e-3


def test_tags_come_from_the_window_with_most_context():
    found = predictor("tag")
    head, tokenizer = tiny.HEADS["tag"], found.bundle.tokenizer
    (answer,) = found.predict([LONG], long="window")
    told = tokenizer.encode(LONG)
    labels: list[str] = []
    edge: list[str] = []
    for start, a, b, _, values in alone(found, LONG, "tag"):
        labels += [head.labels[int(values[p - start + 1].argmax())] for p in range(a, b)]
        edge += [head.labels[int(values[p - start + 1].argmax())] for p in range(len(edge), start + len(values) - 2)]
    first = {w: i - 1 for i, w in reversed(list(enumerate(told.words))) if w is not None}
    assert [e["label"] for e in answer["entities"]] == [labels[first[w]] for w in sorted(first)]
    assert labels != edge  # the twin: as far as each window goes
    assert answer["entities"][-1]["end"] == len(LONG) and all(
        LONG[e["start"] : e["end"]] == e["text"] for e in answer["entities"]
    )
    (cut,) = found.predict([LONG])
    assert found.cut == 1 and len(cut["entities"]) < len(answer["entities"])


@pytest.mark.parametrize("batch_tokens", [8, 4096])
def test_an_answer_is_the_best_of_all_windows(batch_tokens):
    found = predictor("span")
    (told,) = found.predict(["the cat"], [LONG], long="window", batch_tokens=batch_tokens)
    assert (found.cut, found.windowed) == (0, 1)
    tokenizer = found.bundle.tokenizer
    encoding = tokenizer.encode("the cat", LONG)
    rows, places, cut = windows_of(encoding.ids, encoding.segments, 37)
    assert len(rows) == 4 and not cut
    best, none = (-np.inf, 0, 0), np.inf
    spans = [(p.start, p.end) for p in tokenizer.pieces(LONG)]
    scores = []
    for row, place in zip(rows, places, strict=True):
        values = found.backend.forward(pad_rows([row], 0, multiple=1), ["span"])["span"][0].astype(np.float64)
        none = min(none, values[0].sum())
        for i in range(place.low - 4, min(place.high - 4, place.size)):  # where an answer may begin: its own pieces
            for j in range(i, min(i + 30, place.size)):
                scores.append(values[4 + i, 0] + values[4 + j, 1])
                best = max(best, (scores[-1], place.start + i, place.start + j))
    if none > best[0]:
        assert told == {"answer": None}
    else:
        answer = told["answer"]
        assert (answer["start"], answer["end"]) == (spans[best[1]][0], spans[best[2]][1])
        assert answer["text"] == LONG[answer["start"] : answer["end"]]
        expected = 1 / np.exp(np.array([*scores, none]) - best[0]).sum()
        assert answer["probability"] == pytest.approx(expected, rel=1e-4)


def test_an_answer_in_the_last_window_is_found():
    """Drawn logits with one great score, wherever it stands; two windows that hold the same answer count once."""
    text = " ".join(f"w{i}" for i in range(70))
    spans, at = [], 0
    for word in text.split():
        spans.append((at, at + len(word)))
        at += len(word) + 1
    ids, segments = [2, 7, 8, 3, *range(10, 80), 3], [0] * 4 + [1] * 71
    rows, places, _ = windows_of(ids, segments, 37)
    for piece in range(68):
        parts = []
        for row, place in zip(rows, places, strict=True):
            values = np.full((len(row[0]), 2), -9.0, np.float32)
            for side, where in enumerate((piece, piece + 2)):
                if place.start <= where < place.start + place.size:
                    values[4 + where - place.start, side] = 9
            parts.append((place, values))
        found = answer_of(parts, spans, text)["answer"]
        assert found["text"] == " ".join(text.split()[piece : piece + 3]) and found["probability"] > 0.99
        for _, values in parts:  # every window says that there is none
            values[0] = 20
        assert answer_of(parts, spans, text) == {"answer": None}


def test_one_window_decides_as_without_windows():
    rng = np.random.default_rng(0)
    tokenizer = tiny.tokenizer()
    for seed in range(20):
        encoding = tokenizer.encode("the cat", LONG[: 20 + 4 * seed])
        values = rng.standard_normal((len(encoding.ids), 2)).astype(np.float32)
        size = encoding.segments.count(1) - 1
        spans = [s for s, g in zip(encoding.spans, encoding.segments, strict=True) if s is not None and g == 1]
        found = answer_of([(windows.Window(4, 4 + size, 0, size), values)], spans, LONG)["answer"]
        expected = decode_span(values, encoding.spans, encoding.segments, LONG)["answer"]
        assert (found is None) == (expected is None)
        if found is not None:
            assert found.pop("probability") == pytest.approx(expected.pop("probability"))
            assert found == expected


def test_pairs_keep_their_first_text():
    found = predictor("label")
    table = found.logits(["the cat", "dog"], [LONG, "a"], long="window")
    assert (found.cut, found.windowed) == (0, 1)
    work = found.prepare(["the cat"], [LONG], None, "window")
    assert all(ids[:4] == work.rows[0][0][:4] and len(ids) == 37 for ids, _ in work.rows)
    assert all(segments == [0] * 4 + [1] * 33 for _, segments in work.rows)
    assert sum(work.share) == pytest.approx(1) and sum(w.high - w.low for w in work.windows.values()) == 84
    values = [found.backend.forward(pad_rows([row], 0, multiple=1), ["label"])["label"][0] for row in work.rows]
    np.testing.assert_allclose(table[0], np.average(values, axis=0, weights=work.share), atol=1e-5)
    np.testing.assert_allclose(table[1], found.logits(["dog"], ["a"])[0], atol=1e-6)


@pytest.mark.parametrize("length", range(3, 38))
def test_there_is_always_an_answer(length):
    """Long first texts, long second ones, no second one, hardly any room: no piece of a window is ever outside."""
    texts = [LONG, LONG, LONG[:90], "cat", "cat", "", ""]
    pairs = [LONG, "", LONG, LONG, "dog", LONG, ""]
    for head in ("label", "span"):
        found = predictor_of(head)
        answers = found.predict(texts, pairs, max_length=length, long="window")
        assert len(answers) == 7
        work = found.prepare(texts, pairs, length, "window")
        assert max(len(ids) for ids, _ in work.rows) <= length
        if length > 20:
            assert (found.cut, found.windowed) == (3, 4)
    for head in ("label", "tag"):
        found = predictor_of(head)
        assert len(found.predict(texts, max_length=length, long="window")) == 7
        assert found.cut == 0 and found.windowed == sum(
            len(found.bundle.tokenizer.encode(text).ids) > length for text in set(texts)
        )


PREDICTORS = {}


def predictor_of(head: str):
    if head not in PREDICTORS:
        PREDICTORS[head] = predictor(head)
    return PREDICTORS[head]


@pytest.mark.parametrize("head", ["label", "score", "tag", "span", None])
def test_what_fits_is_answered_as_without_windows(head):
    """The same bits, and in the company of a long text too where every text is by itself."""
    found = predictor(head)
    pairs = [FITS, ["a dog sat on the mat ."] * 4] if head == "span" else [FITS]
    call = found.predict if head else found.embed
    plain, windowed = (call(*pairs, long=long, exact=True) for long in ("truncate", "window"))
    np.testing.assert_array_equal(plain, windowed)
    more = [[*texts, LONG] for texts in pairs]
    np.testing.assert_array_equal(call(*more, long="window", exact=True)[:4], plain)


def test_a_second_window_that_is_lost_shows(monkeypatch):
    """The twin: a text of which only the first window is read is a text that was cut."""
    found = predictor("label")
    whole = found.logits([LONG], long="window")

    def first_alone(ids, segments, length):
        rows, places, cut = windows_of(ids, segments, length)
        return rows[:1], places[:1], cut

    monkeypatch.setattr(batching, "windows_of", first_alone)
    np.testing.assert_allclose(found.logits([LONG], long="window"), found.logits([LONG]), atol=1e-5)
    assert np.abs(found.logits([LONG]) - whole).max() > 1e-3
