from __future__ import annotations

import gzip
import itertools
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halbert.data.corpus import build_corpus, read_documents
from halbert.data.instances import IGNORED
from halbert.data.pairs import NO_LABEL, SECOND
from halbert.data.plan import PACKED, Plan, Position, bucket_lengths
from halbert.errors import InputError, SpecError
from halbert.spec import PretrainSpec, TextSpec
from halbert.text.tokenizer import open_tokenizer
from tests.data import made
from tests.data.shards import shard

LENGTH = 100  # two or three sentences of the speech
SPEC = PretrainSpec(sentence_objective="sop", masking="ngram")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return made.corpus(tmp_path_factory.mktemp("plan") / "c", made.DOCUMENTS * 4, shard_tokens=300)


def plan(corpus, spec=SPEC, **options) -> Plan:
    chosen = {"length": LENGTH, "batch_tokens": 3 * LENGTH, "seed": 0, "window_shards": 2, **options}
    return Plan(corpus, made.words(), spec, **chosen)


def equal(a, b) -> bool:
    return all(x is y is None or np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def instances_of(batch) -> list[tuple[int, ...]]:
    """The instances of a batch with nothing hidden, and their labels; checks all that a batch promises on the way."""
    special = made.words().special_ids
    cls, sep, pad = (special[name] for name in ("cls", "sep", "pad"))
    whole = batch.ids.reshape(-1).copy()
    real = batch.labels != IGNORED
    assert not batch.positions[~real].any() and not real[np.count_nonzero(real) :].any()
    whole[batch.positions[real]] = batch.labels[real]
    assert not np.isin(whole[batch.positions[real]], [cls, sep, pad]).any()
    whole = whole.reshape(batch.ids.shape)
    found, label_at = [], {}
    if batch.starts is not None:  # what only fills the shape comes last, and names place 0
        label_at = dict(zip(batch.starts.tolist()[::-1], batch.pair_labels.tolist()[::-1]))
    for i, (ids, mask, segments) in enumerate(zip(whole, batch.mask, batch.segments, strict=True)):
        n = int(mask.sum())
        assert mask.tolist() == [1] * n + [0] * (len(mask) - n)
        assert (ids[n:] == pad).all() and not segments[n:].any()
        sequence = mask if batch.sequence is None else batch.sequence[i]
        assert (sequence[n:] == 0).all()
        if not n and batch.sequence is None:
            assert batch.pair_labels[i] == NO_LABEL
        for number in range(1, int(sequence.max()) + 1):
            at = np.flatnonzero(sequence == number)
            one, kinds = ids[at], segments[at]
            assert (np.diff(at) == 1).all() and one[0] == cls and one[-1] == sep
            if batch.position_ids is not None:
                assert batch.position_ids[i, at].tolist() == list(range(len(at)))
            label = label_at[i * len(ids) + int(at[0])] if batch.starts is not None else int(batch.pair_labels[i])
            ends = np.flatnonzero(one == sep)
            assert len(ends) == (1 if label == NO_LABEL else 2)
            first = int(ends[0]) + 1
            assert kinds.tolist() == [0] * first + [1] * (len(one) - first)
            found.append((*one.tolist(), label))
    return found


def drawn(window) -> list[tuple[int, ...]]:
    special, ids = made.words().special_ids, window.ids
    return [
        (
            special["cls"], *ids[a0:a1].tolist(), special["sep"],
            *([*ids[b0:b1].tolist(), special["sep"]] if b1 > b0 else []), int(label),
        )
        for a0, a1, b0, b1, label in zip(*window.pairs)
    ]  # fmt: skip


WAYS = {"static": {}, "loose": {"static_shapes": False}, "packed": {"packed": True}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("objective", ["nsp", "sop", "none"])
@pytest.mark.parametrize(("masking", "faithful"), [("piece", False), ("ngram", False), ("word", True)])
def test_an_epoch_holds_every_instance_of_every_window_once(corpus, way, objective, masking, faithful):
    spec = PretrainSpec(sentence_objective=objective, masking=masking, faithful=faithful)
    made_plan = plan(corpus, spec, **WAYS[way])
    numbers = [i for window in made_plan.windows(2) for i in window]
    assert sorted(numbers) == list(range(len(corpus))) and len(corpus) > 5
    assert [len(w) for w in made_plan.windows(2)[:-1]] == [2] * (len(made_plan.windows(2)) - 1)
    labels = set()
    for number in range(len(made_plan.windows(2))):
        window = made_plan.window(2, number)
        batches = [window.batch(i) for i in range(len(window))]
        found = [x for batch in batches for x in instances_of(batch)]
        assert sorted(found) == sorted(drawn(window))
        labels |= {x[-1] for x in found}
        for batch in batches:
            assert batch.ids.shape == batch.mask.shape == batch.segments.shape
            assert batch.ids.size <= 3 * LENGTH and batch.ids.shape[1] <= LENGTH
        if way == "static":
            for batch in batches:
                rows, width = batch.ids.shape
                assert width in bucket_lengths(LENGTH) and rows == 3 * LENGTH // width
                assert len(batch.positions) == len(batch.labels) == rows * round(0.15 * width)
                assert len(batch.pair_labels) == rows
            assert sum(not batch.mask.any(1).all() for batch in batches) <= 1, "one batch at most is not full"
        if way == "packed":
            for batch in batches:
                assert batch.ids.shape == (3, LENGTH) and len(batch.starts) == len(batch.pair_labels) == 3 * PACKED
    if objective == "none":
        assert labels == {NO_LABEL}
    elif faithful:
        assert labels == {0, 1}
    else:
        assert labels == {-1, 0, 1}


@pytest.mark.parametrize("way", WAYS)
def test_the_tail_from_any_position_is_the_tail(corpus, way):
    made_plan = plan(corpus, **WAYS[way])
    count = 2 * sum(len(made_plan.window(0, w)) for w in range(len(made_plan.windows(0)))) + 3
    whole = list(itertools.islice(made_plan.batches(), count))
    positions = [Position(), *(after for _, after in whole)]
    assert positions[-1].epoch >= 1 and len(set(positions)) == len(positions)
    for at in {*range(0, count, 7), count - 1}:
        again = plan(corpus, **WAYS[way])  # nothing of the first is needed
        for (a, after_a), (b, after_b) in zip(whole[at : at + 9], again.batches(positions[at])):
            assert equal(a, b) and after_a == after_b
        assert msgspec.json.decode(msgspec.json.encode(positions[at]), type=Position) == positions[at]


@settings(max_examples=25)
@given(st.data())
def test_a_batch_depends_on_its_name_alone(corpus, data):
    made_plan = plan(corpus, seed=data.draw(st.integers(0, 2**40)))
    epoch = data.draw(st.integers(0, 9))
    number = data.draw(st.integers(0, len(made_plan.windows(epoch)) - 1))
    window = made_plan.window(epoch, number)
    order = data.draw(st.permutations(range(len(window))))
    batches = {i: window.batch(i) for i in order}
    other = plan(corpus, seed=made_plan.seed).window(epoch, number)
    assert all(equal(batches[i], other.batch(i)) for i in range(len(window)))
    # As two loader workers make them in turn.
    made_by_two = [iter([batches[i] for i in range(k, len(window), 2)]) for k in (0, 1)]
    begin = Position(epoch, number)
    for i, (batch, _) in zip(range(len(window)), made_plan.batches(begin)):
        assert equal(batch, next(made_by_two[i % 2]))


def test_seed_epoch_and_window_decide(corpus):
    def told(seed=0, epoch=0, window=0):
        return msgspec.json.encode([a.tolist() for a in plan(corpus, seed=seed).window(epoch, window).batch(0)[:6]])

    assert told() == told()
    assert len({told(), told(seed=1), told(epoch=1), told(window=1), told(1, 1, 1), told(seed=2**33)}) == 6


def test_a_window_reads_its_own_shards_only(corpus, monkeypatch):
    made_plan, opened = plan(corpus), []
    shard_of = corpus.shard
    monkeypatch.setattr(corpus, "shard", lambda i: opened.append(i) or shard_of(i))
    windows = made_plan.windows(3)
    assert not opened
    batch, after = next(made_plan.batches(Position(3, 1, 0)))
    assert sorted(opened) == sorted(windows[1]) and batch.masked
    assert after in (Position(3, 1, 1), Position(3, 2, 0))


def test_epochs_shuffle_the_shards(corpus):
    assert len({tuple(plan(corpus).windows(epoch)) for epoch in range(6)}) > 3
    assert plan(corpus, window_shards=3).windows(1) == plan(corpus, window_shards=3).windows(1)


@pytest.mark.parametrize("length", [5, 8, 24, 64, 100, 128, 384, 512, 513])
def test_bucket_lengths(length):
    widths = bucket_lengths(length)
    assert 1 <= len(widths) <= 6 and widths[-1] == length and list(widths) == sorted(set(widths))
    assert all(width % 8 == 0 for width in widths[:-1])
    assert np.diff((0, *widths)).max() <= length / 6 + 8


def test_the_wanted_share_is_masked(corpus):
    spec = PretrainSpec(sentence_objective="sop", masking="piece")
    found = [b for epoch in range(3) for b in plan(corpus, spec).epoch(epoch)]
    texts = [int(n) - (2 if label == NO_LABEL else 3) for b in found for n, label in zip(b.mask.sum(1), b.pair_labels)]
    assert sum(b.masked for b in found) == sum(max(1, round(0.15 * n)) for n in texts if n > 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 4}, "length is 4"), ({"batch_tokens": 0}, "batch_tokens is 0"), ({"seed": -1}, "seed is -1"),
        ({"window_shards": 0}, "window_shards is 0"), ({"language_exponent": 1.5}, r"language_exponent is 1\.5"),
    ],
)  # fmt: skip
def test_impossible_plans_are_refused(corpus, options, message):
    with pytest.raises(SpecError, match=message):
        plan(corpus, **options)


def test_another_tokenizer_is_refused(corpus):
    with pytest.raises(InputError, match="another tokenizer"):
        Plan(corpus, made.words("unigram"), SPEC, length=64, batch_tokens=640, seed=0)


def test_a_batch_smaller_than_a_row_has_one(corpus):
    assert {batch.ids.shape[0] for batch in plan(corpus, batch_tokens=1).epoch(0)} == {1}


class Shards:
    """A corpus in memory, of shards with languages."""

    folder = "memory"

    def __init__(self, shards, languages):
        self._shards = shards
        told = [
            SimpleNamespace(tokens=len(s.ids), documents=len(s.documents) - 1, language=language)
            for s, language in zip(shards, languages, strict=True)
        ]
        self.manifest = SimpleNamespace(shards=told)

    def __len__(self):
        return len(self._shards)

    def shard(self, number):
        return self._shards[number]

    def check_tokenizer(self, tokenizer):
        pass


def counted(made_plan, epochs: int) -> dict[str, float]:
    """Tokens read of each language."""
    found: dict[str, float] = {}
    for epoch in range(epochs):
        for number in (i for window in made_plan.windows(epoch) for i in window):
            told = made_plan.corpus.manifest.shards[number]
            found[told.language] = found.get(told.language, 0) + told.tokens
    return found


def test_a_thousand_to_one_becomes_a_hundred_and_twenty_six():
    """FACTS 5.8: 1000^0.7 = 126."""
    corpus = Shards([shard([[10] * 10])] * 1001, ["en"] * 1000 + ["yo"])
    plain, smoothed = (plan(corpus, language_exponent=s) for s in (1.0, 0.7))
    assert counted(plain, 1) == {"en": 100_000, "yo": 100}
    found = counted(smoothed, 100)
    assert found["en"] / found["yo"] == pytest.approx(1000**0.7, rel=0.002)
    assert sum(found.values()) == pytest.approx(100 * 100_100, rel=0.001)
    assert 100 <= counted(smoothed, 1)["yo"] / 100 * 126 / 10 <= 130  # and each epoch nearly so


def test_languages_are_drawn_by_a_power_of_their_share():
    sizes = {"de": (3, 40), "en": (5, 90), "sw": (1, 7), "th": (2, 3)}
    made_shards, languages = [], []
    for name, (count, sentences) in sizes.items():
        made_shards += [shard([[11] * sentences] * 2)] * count
        languages += [name] * count
    corpus = Shards(made_shards, languages)
    share = np.array([count * sentences for count, sentences in sizes.values()], float)
    share /= share.sum()
    for exponent in (0.0, 0.3, 0.7):
        found = counted(plan(corpus, language_exponent=exponent), 400)
        got = np.array([found[name] for name in sizes]) / sum(found.values())
        np.testing.assert_allclose(got, share**exponent / (share**exponent).sum(), rtol=0.01)
    assert counted(plan(corpus, language_exponent=0.5), 1) == counted(plan(corpus, language_exponent=0.5), 1)


def test_a_shard_that_is_read_often_gives_no_negative_from_the_same_document():
    """Even when a window holds it many times; and a negative is in the same language where there is another document."""
    sizes = [[[6] * 9] * 4, [[6] * 900] * 3, [[6] * 9]]
    begins = np.cumsum([0, *(sum(map(sum, s)) for s in sizes)])
    made_shards = [shard(s)._replace(ids=np.arange(a, b) % 190 + 6) for s, a, b in zip(sizes, begins, begins[1:])]
    corpus = Shards(made_shards, ["sw", "en", "yo"])
    made_plan = plan(corpus, PretrainSpec(), language_exponent=0.2, window_shards=90, length=40, batch_tokens=400)
    copies = [i for i in made_plan.windows(0)[0]]
    assert copies.count(0) > 3, "the rare language comes often"
    window = made_plan.window(0, 0)
    used = sorted(set(copies), key=lambda i: corpus.manifest.shards[i].language)
    sentences = np.concatenate([[len(d)] for i in used for d in sizes[i]]).reshape(-1)
    ends = np.cumsum(sentences * 6)
    language = np.concatenate([[corpus.manifest.shards[i].language] * len(sizes[i]) for i in used])
    pairs = [field[window.pairs.label != NO_LABEL] for field in window.pairs]
    a, b = (np.searchsorted(ends, x, side="right") for x in (pairs[0], pairs[2]))
    negative = pairs[4] == SECOND
    assert negative.sum() > 50 and (a[negative] != b[negative]).all()
    alone = language[a] == "yo"
    assert (language[a] == language[b])[negative & ~alone].all()
    times = np.bincount(a[~negative], minlength=len(ends))
    assert times[language == "sw"].sum() > 3, "and is read each time"


def test_little_padding_on_real_text(shared_data, tmp_path):
    tokenizer = open_tokenizer(shared_data / "vocab" / "bert-base-uncased-vocab.txt", TextSpec())
    with gzip.open(shared_data / "english_text" / "us_president_speeches.txt.gz", "rt", encoding="utf-8") as file:
        (tmp_path / "speeches.txt").write_text(file.read(), encoding="utf-8")
    documents = read_documents(tmp_path / "speeches.txt")
    corpus = build_corpus(documents, tokenizer, tmp_path / "c")
    for objective, length in itertools.product(("nsp", "sop"), (128, 512)):
        for way, most in (({}, 0.03), ({"packed": True}, 0.03)):
            spec = PretrainSpec(sentence_objective=objective)
            # A corpus this small has one window, whose last batch is as good as empty or full by chance.
            found = [
                batch for seed in range(4)
                for batch in Plan(corpus, tokenizer, spec, length=length, batch_tokens=4096, seed=seed, **way).epoch(0)
            ]  # fmt: skip
            padding = 1 - sum(b.mask.sum() for b in found) / sum(b.mask.size for b in found)
            assert padding < most, (objective, length, way)
