"""What the models in the box are made from, and that the same command makes the same weights."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks import languages
from halbert.compare.probes.retrieval import read_parallel
from halbert.models import bundled
from halbert.source import load_bundle
from halbert.train.pretraining import pretrain
from halbert.train.recipe import read_recipe
from models import atlas, english, multilingual, tongues
from models.texts import english as english_texts

NAMES = [name for name in (*english.NAMES, *multilingual.NAMES) if name in bundled()]


def test_texts_to_learn_and_texts_to_judge_by_do_not_meet(shared_data):
    learnt = {p for document in english_texts(shared_data, False) for p in document if len(p) > 80}
    held = {p for document in english_texts(shared_data, True) for p in document if len(p) > 80}
    assert len(learnt) > 100_000 and len(held) > 5_000
    assert len(learnt & held) < 0.001 * len(held)  # novels and speeches quote each other, sections do not


def test_held_out_verses():
    assert tongues.held_out("PHM.1.3") and tongues.held_out("JUD.1.25")
    chapters = [f"{book}.{chapter}.1" for book in ("MAT", "LUK", "ACT", "REV") for chapter in range(1, 29)]
    share = np.mean([tongues.held_out(verse) for verse in chapters])
    assert 0.01 < share < 0.12
    # By chapter, whatever the verse, so that no translation of what is held out is learnt.
    for verse in chapters:
        assert {tongues.held_out(verse.rpartition(".")[0] + f".{n}") for n in range(1, 9)} == {tongues.held_out(verse)}


def texts():
    same = {
        "eng": {"JOH.1.1": "in the beginning", "JOH.1.2": "the same", "SIB.1.0": "a topic"},
        "deu": {"JOH.1.1": "im anfang", "SIB.1.0": "ein thema"},
        "swh": {"JOH.1.1": "hapo mwanzo"},
    }
    return tongues.Texts({"deu": [["ein text", "noch einer"]], "zul": [["umbhalo"]]}, same)


def test_documents_of_a_language():
    found = list(texts().documents("deu"))
    assert found[:3] == [["ein text", "noch einer"], ["im anfang"], ["ein thema"]]
    for pair in found[3:]:
        assert len(pair) == 2 and ("im anfang" in pair or "ein thema" in pair)
    assert next(texts().documents("eng")) == ["in the beginning", "the same"]  # a chapter
    assert list(texts().documents("zul")) == [["umbhalo"]] and list(texts().documents("xxx")) == []
    assert list(texts().documents("deu")) == found


def test_the_same_text_in_several_languages():
    assert {frozenset(document) for document in texts().parallel()} == {
        frozenset(("in the beginning", "im anfang", "hapo mwanzo")), frozenset(("a topic", "ein thema")),
    }  # fmt: skip
    counts = Counter(document[0] for document in texts().parallel())
    assert counts == {"in the beginning": 1, "a topic": tongues._TIMES}


A = ["The hen", "Once there was a hen that lived by the river.", "She ran.", "Her children laughed at her all day."]
B = [
    "La poule",
    "Il y avait une fois une poule qui vivait au bord de l'eau.",
    "Elle courut.",
    "Ses enfants riaient d'elle.",
]


def test_texts_that_are_told_alike():
    assert tongues.told_alike(A, B) and tongues.told_alike(A, A) and tongues.told_alike(B, [3 * text for text in A])
    assert not tongues.told_alike(A, B[:3]) and not tongues.told_alike([], []) and not tongues.told_alike(A, [])
    assert not tongues.told_alike(A, B[1:] + B[:1])
    assert not tongues.told_alike(["", ""], ["", "x" * 50])


def test_one_story_in_several_languages():
    texts = tongues.Texts({}, {"fra": {"JOH.1.1": "au commencement"}})
    tongues._join(texts, "S", {"eng": A, "fra": B, "deu": ["Ein ganz anderer Text"], "swh": list(A)})
    assert texts.same["eng"] == {f"S.{i}": paragraph for i, paragraph in enumerate(A)}
    assert texts.same["fra"] == {"JOH.1.1": "au commencement"} | {f"S.{i}": p for i, p in enumerate(B)}
    assert texts.alone == {"deu": [["Ein ganz anderer Text"]]}
    assert "swh" not in texts.same  # it is the English once more
    unknown = tongues.Texts({}, {})
    tongues._join(unknown, "S", {"fra": B})
    assert unknown.alone == {"fra": [B]} and not unknown.same


def test_the_declaration_in_the_usual_variety(shared_data):
    found = list(tongues._declarations(shared_data, {"azj": "Latn", "srp": "Cyrl"}))
    first = {}
    for language, articles in found:
        assert len(articles) == 30 and articles[0] == []
        first.setdefault(language, articles)
    third = {language: first[language][2][0] for language in ("eng", "fra", "swh", "azj", "srp", "deu")}
    assert third["eng"] == "Everyone has the right to life, liberty and the security of person."
    assert third["fra"].startswith("Tout individu a droit à la vie")
    assert third["swh"].startswith("Kila mtu ana haki ya kuishi")
    assert third["azj"].startswith("Hər") and third["srp"].startswith("Свако") and third["deu"].startswith("Jeder hat")
    assert len(first) > 400


@pytest.mark.slow
def test_what_may_not_be_used_is_not(shared_data):
    found = tongues.read_texts(shared_data)
    assert 250 < len(found.languages()) < 310 and len(found.same) > 200
    assert all(len(code) == 3 for code in found.languages())  # one code a language
    assert sum(name.startswith(("ASP", "PB")) for name in found.same["fra"]) > 500
    assert "famille" in found.same["fra"]["UDHR-16.2"] and not any(name.startswith("UDHR-1.") for name in found.said)
    assert all(atlas.alike(code) in found.languages() for code in ("cmn", "lav", "sqi", "aze", "deu"))
    held = {text for some in tongues.held_out_verses(shared_data).values() for text in some if len(text) > 60}
    learnt = {text for mine in found.same.values() for text in mine.values()}
    assert len(held) > 20_000 and len(held & learnt) < 0.005 * len(held)  # synoptic gospels repeat each other
    free = sum(len(p) for documents in found.alone.values() for document in documents for p in document)
    assert free > 10_000_000


def test_three_characters_find_what_is_written_alike():
    a = multilingual.trigrams(["internationale Organisation", "das Haus", ""])
    b = multilingual.trigrams(["international organisation", "the house", "x"])
    likeness = a @ b.T
    assert likeness[0].argmax() == 0 and likeness[0, 0] > 3 * likeness[0, 1] and a.shape[1] == 1 << 14


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_the_box_is_of_its_recipe(name):
    bundle, recipe = load_bundle(bundled()[name]), read_recipe(name)
    training = bundle.provenance["training"]
    if name in english.NAMES:  # which were trained on
        again, longer = training, read_recipe("longer")
        assert again["steps"] == longer.steps and again["recipe"]["learning_rate"] == longer.learning_rate
        assert bundle.provenance["base"]["name"] == again["recipe"]["start"] == f"{name}-first"
        training = bundle.provenance["base"]["training"]
    assert training["steps"] == recipe.steps and training["recipe"]["seed"] == recipe.seed
    for field, value in recipe.encoder.items():
        assert getattr(bundle.spec.encoder, field) == value
    assert bundle.provenance["licence"].startswith("cc-by") and "**Text**" in bundle.provenance["about"]
    assert sum(file.stat().st_size for file in bundled()[name].rglob("*")) < 25e6


def test_the_box_is_small():
    assert sum(file.stat().st_size for folder in bundled().values() for file in folder.rglob("*")) < 50e6


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_steps_give_the_same_weights_twice(shared_data, tmp_path):
    tokenizer, train, _ = english.prepare(shared_data, tmp_path)
    for name in english.NAMES:
        changes = ["steps=200", "warmup_steps=20", "checkpoint_every=0", f"corpus='{train.folder}'"]
        first, second = (pretrain(read_recipe(name, changes), tokenizer).arrays for _ in range(2))
        for array, value in first.items():
            np.testing.assert_array_equal(value, second[array], err_msg=array)


def test_languages_are_told_by_their_texts():
    texts = {"Cyrillic": "Здраво, мир", "Japanese": "東京へ行った", "Han": "我爱你", "Latin": "Ænglisc", "": "1, 2"}
    assert {script: atlas.script_of([text]) for script, text in texts.items()} == {s: s for s in texts}
    assert [atlas.alike(code) for code in ("ara", "arb_Latn", "deu")] == ["arb", "arb", "deu"]


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 10), (512, 1000), (204, 204)])
def test_intervals_of_shares(right, n):
    low, high = languages.interval(right, n)
    known = binomtest(right, n).proportion_ci(method="wilson")
    assert low == pytest.approx(known.low, abs=1e-4) and high == pytest.approx(known.high, abs=1e-4)


class Known:
    """An atlas of four languages, one of which was never seen."""

    def learnt(self, code):
        return code != "xxx"

    def name(self, code):
        return code

    def script(self, code):
        return "Latin"


def judged():
    """Shares of 100 texts, by score and language."""
    rows = {
        "masked": {"deu": 30, "swh": 10}, "found": {"deu": 40, "xxx": 90}, "aligned": {"deu": 50, "xxx": 95},
        "topics": {"eng_Latn": 90, "deu": 35, "swh": 24}, "everywhere": {"eng_Latn": 60, "deu": 45, "swh": 44},
    }  # fmt: skip
    return {score: {code: (right, 100) for code, right in some.items()} for score, some in rows.items()}


def test_groups_are_of_languages_learnt_from():
    found = dict.fromkeys(languages.NAMES, judged())
    *_, latin = languages.grouped(found, Known(), Known().script)
    cells = latin.strip("| ").split(" | ")
    assert cells == [
        "Latin", "3", "20.0 / 20.0 (2)", "40.0 / 40.0 (1)", "50.0 / 50.0 (1)", "29.5 / 29.5 (2)", "49.7 / 49.7 (3)"
    ]  # fmt: skip


def test_where_a_model_is_no_better_than_who_knows_no_language():
    found = dict.fromkeys(languages.NAMES, judged())
    base = {score: ("nobody", {"deu": 0.34, "swh": 0.25, "eng_Latn": 0.1}) for score in ("topics", "everywhere")}
    rows = [line.strip("| ").split(" | ") for line in languages.beaten(found, base, Known())[2:]]
    assert rows[0] == [
        "topics from English",
        "nobody",
        "bert-mini-100",
        "2",
        "1: swh",
        "1",
    ]  # of the other 35 % of 100 says little
    assert rows[2][3:] == ["3", "none", "0"]


def test_every_language_has_a_name_of_its_own(shared_data):
    codes = [
        *multilingual.topics(shared_data, "test"),
        *read_parallel(shared_data / "tatoeba/tatoeba.tsv.gz", most=100),
    ]
    known = atlas.Atlas(shared_data, {}, {})
    for some in ([c for c in codes if "_" in c], [c for c in codes if "_" not in c]):
        names = [known.name(code) for code in some]
        assert len(set(names)) == len(names) and not set(names) & set(codes)


def test_the_card_says_what_was_learnt_from():
    shares = {"deu": 0.5, "swh": 0.1, "xxx": 0.9}
    topics = {"eng_Latn": 0.9, "deu_Latn": 0.4, "swh_Latn": 0.2}
    told = {
        "training": {"tokens": 1000, "seconds": 60, "machine": "1 core of X", "precision": "fp32"},
        "commonest": {"deu": 0.04}, "train_tokens": 5000, "languages": 3, "length": 64, "filled": [],
        "pairs": dict.fromkeys(shares, 1000), "vocabulary": dict.fromkeys(topics), "trigrams": shares,
        "topics_by_trigrams": [topics, topics], "aligned": {"retrieval": shares},
        "plain": {
            "masked_by_language": {"deu": {"hidden": 10, "found": 3}, "gla": {"hidden": 0, "found": 0}},
            "retrieval": shares, "zero_shot": [topics, topics],
        },
    }  # fmt: skip
    text = multilingual.about("bert-mini-100", told, Known().learnt)
    assert (
        "1 languages | 30.0 % | 4.0 %" in text
        and "(rather too high: it chose the method) | 30.0 %" in text
        and "2 other languages and scripts | 30.0 %" in text
    )
    assert "of which it has seen 64" in text and "beside `albert-mini-100`" in text
