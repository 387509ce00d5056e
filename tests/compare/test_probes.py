"""Every probe on something whose answer is known, and a twin that is wrong."""

from __future__ import annotations

import json
import math
import subprocess

import msgspec
import numpy as np
import pytest

from halbert.compare.noise import NOISES
from halbert.compare.probes.agreement import AgreementProbe
from halbert.compare.probes.finetuning import FinetuningProbe
from halbert.compare.probes.inside import InsideProbe
from halbert.compare.probes.languages import LanguagesProbe, alphabets
from halbert.compare.probes.layers import LayersProbe, mean_states, read_off
from halbert.compare.probes.learning import LearningProbe, label_counts
from halbert.compare.probes.masked_languages import MaskedLanguagesProbe
from halbert.compare.probes.pace import PaceProbe
from halbert.compare.probes.retrieval import RetrievalProbe, found_share, read_parallel
from halbert.compare.probes.unknown import UnknownProbe
from halbert.compare.schedule import run_probe
from halbert.data.readers import Example
from halbert.errors import HalbertError, InputError
from halbert.run.predictor import load
from halbert.train.recipe import FinetuneRecipe
from tests import small
from tests.compare.made import subject

TEXTS = [text for text, _ in small.rows(20)]
RECIPE = FinetuneRecipe(epochs=2, batch_size=8, length=16, learning_rate=1e-3, precision="fp32")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("halbert.compare.measurement.RESAMPLES", 200)


@pytest.fixture(scope="module")
def one():
    return subject("one")


@pytest.fixture(scope="module")
def predictors(one):
    return {"one": load(one.bundle, precision="fp32")}


def measured(probe, *subjects):
    return {(m.name, m.subject): m for m in run_probe(probe, subjects, "command")}


class Vectors:
    """A predictor that knows a vector for each text, and may be disturbed."""

    def __init__(self, vector, noise=0.0, company=0.0):
        self.vector, self.noise, self.company, self.calls = vector, noise, company, 0
        self.backend = self

    def describe(self):
        return {"precision": "fp7"}

    def embed(self, texts, **_):
        self.calls += 1
        rows = np.array([self.vector(text) for text in texts], np.float64)
        return rows * (1 + self.noise * (self.calls > 1)) + self.company * (len(texts) > 1)


def test_agreement_of_an_engine_that_repeats_itself(one, predictors):
    m = measured(AgreementProbe(predictors, TEXTS, "here"), one)
    assert m["differs_again", "one"].value == 0
    assert m["differs_alone", "one"].value < 1e-5
    assert m["likeness_to_torch", "one"].value > 0.99999 and len(m["likeness_to_torch", "one"].samples) == len(TEXTS)


def test_agreement_finds_what_was_planted(one):
    def vector(text):
        return [len(text), 1.0, 2.0]

    for planted, name in (({"noise": 0.01}, "differs_again"), ({"company": 0.5}, "differs_alone")):
        probe = AgreementProbe({"one": Vectors(vector, **planted)}, TEXTS, "here")
        found = probe.sample(one, Vectors(vector), 0)
        assert found[name] > 1e-3
    probe = AgreementProbe({"one": Vectors(vector)}, TEXTS, "here")
    assert probe.sample(one, Vectors(lambda text: [1.0, -len(text), 0.0]), 0)["likeness_to_torch"][0] < 0.5


def test_translations_are_found_where_vectors_say_so():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 8))
    assert found_share(a, a) == 1.0
    assert found_share(a, 3 * a + 7) == 1.0  # a language's own place and scale do not matter
    order = np.roll(np.arange(50), 1)
    assert found_share(a, a[order]) == 0.0
    half = np.concatenate([a[:25], rng.standard_normal((25, 8)) * 0.01])
    assert 0.4 < found_share(a, half) < 0.75


def parallel(path, languages=("xx", "yy"), count=30):
    rows = [f"{language}\t{i}\t{language} word{i}\tword{i}" for language in languages for i in range(count)]
    path.write_text("lang\tid\tsentence\tenglish\n" + "\n".join(rows) + "\n")
    return path


def test_retrieval_by_language(tmp_path, one):
    pairs = read_parallel(parallel(tmp_path / "t.tsv"))
    assert {language: len(some) for language, some in pairs.items()} == {"xx": 30, "yy": 30}

    def vector(text):  # knows xx, not yy
        rng = np.random.default_rng(abs(hash(text.split()[-1])) % 2**32 if "yy" not in text else len(text))
        return rng.standard_normal(16)

    m = measured(RetrievalProbe({"one": Vectors(vector)}, pairs, "t.tsv"), one)["translations_found", "one"]
    assert m.labels == ["xx", "yy"] and m.samples[0] == 1.0 and m.samples[1] < 0.3
    assert "2 languages, 30 to 30 pairs" in m.how


def test_parallel_text_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="no language has 20 pairs"):
        read_parallel(parallel(tmp_path / "few.tsv", count=19))
    (tmp_path / "one.csv").write_text("text\nhello\n")
    with pytest.raises(InputError, match="text_b"):
        read_parallel(tmp_path / "one.csv")
    (tmp_path / "named.csv").write_text("text_a,text_b,language\n" + "a,b,de\n" * 25)
    assert {k: len(v) for k, v in read_parallel(tmp_path / "named.csv", most=21).items()} == {"de": 21}
    (tmp_path / "bare.csv").write_text("text_a,text_b\n" + "a,b\n" * 25)
    assert list(read_parallel(tmp_path / "bare.csv")) == ["all"]


def test_inside_by_hand(one, predictors):
    probe = InsideProbe(predictors, TEXTS[:3], "here")
    found = probe.sample(one, None, 0)
    layers = one.bundle.spec.encoder.num_hidden_layers
    assert {len(values) for values in found.values()} == {layers}
    # By the definition, piece by piece, from torch.
    torch_predictor = load(one.bundle, precision="fp32", backend="torch")
    from halbert.data.batches import pad_rows

    cosines, entropies = [], []
    for row in torch_predictor.prepare(TEXTS[:3], None, 32).rows:
        batch = pad_rows([row], 0, 1)
        got = torch_predictor.backend.forward(batch, ["hidden_states", "attentions"])
        for s in range(batch.ids.shape[1]):
            a, b = got["hidden_states"][0, 0, s], got["hidden_states"][1, 0, s]
            cosines.append(float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)))
            for head in got["attentions"][0, 0, :, s]:
                entropies.append(-sum(p * math.log(p) for p in head) / math.log(len(head)))
    assert found["layer_cosine"][0] == pytest.approx(np.mean(cosines), abs=1e-5)
    weights = np.repeat(1, len(entropies))
    assert found["attention_entropy"][0] == pytest.approx(np.average(entropies, weights=weights), abs=1e-4)


def test_unknown_words_are_counted(one):
    probe = UnknownProbe(["the cat", "the ☃ \U0001f600"], "here")
    found = probe.sample(one, None, 0)
    tokenizer = one.bundle.tokenizer
    ids = [i for text in probe.texts["plain"] for i in tokenizer.arrays([text])[0]]
    share = np.mean(np.array(ids) == tokenizer.special_ids["unk"])
    assert share > 0 and found["unknown_plain"] == pytest.approx(share)
    assert found["pieces_plain"] == pytest.approx(len(ids) / 5)
    assert found["unknown_strangers"] >= 0 and {f"unknown_{n.name}" for n in NOISES if n.respells} < set(found)


def test_languages_of_a_vocabulary_that_knows_one_alphabet(one):
    assert len(alphabets()) > 100
    m = measured(LanguagesProbe(), one)
    shares = dict(zip(m["letters_covered", "one"].labels, m["letters_covered", "one"].samples, strict=True))
    assert shares["Chinese"] < 0.5 and min(shares.values()) >= 0 and max(shares.values()) <= 1
    assert m["languages_written", "one"].value == sum(share >= 0.99 for share in shares.values())


def test_label_counts():
    assert label_counts(1000) == [16, 64, 256]
    assert label_counts(20) == [] and label_counts(22) == [16] and label_counts(1400) == [16, 64, 256, 1024]


def examples(count, start=0):
    return [Example(text=text, label=label) for text, label in small.rows(start + count)[start:]]


def test_learning_from_few_labels(short, one):
    probe = LearningProbe("rows", examples(40), examples(12, 40), "here", RECIPE, seeds=2)
    m = measured(probe, one)
    assert set(name for name, _ in m) == {"rows_from_16_labels", "rows_any_rate", "rows_failed"}
    assert len(m["rows_from_16_labels", "one"].items) == 2 and len(m["rows_from_16_labels", "one"].items[0]) == 12
    for value in m.values():
        assert 0 <= value.value <= 1


def test_a_rate_at_which_nothing_is_learnt_counts_as_failed(short, one):
    mad = msgspec.structs.replace(RECIPE, learning_rate=2.0, epochs=20)
    probe = LearningProbe("rows", examples(40), examples(12, 40), "here", mad, seeds=1)
    assert probe.sample(one, None, 0)["rows_failed"] > 0.5


def test_one_label_teaches_nothing(one):
    same = [Example(text=f"word {i}", label="a") for i in range(30)] + [Example(text="x", label="b")] * 0
    probe = LearningProbe("rows", same, [Example(text="x", label="a"), Example(text="y", label="b")], "here", RECIPE)
    assert probe._learn(one, same[:16], 1e-3, 0) == (0.5, [1.0, 0.0], True)


def test_fine_tuning_with_noise(short, one):
    probe = FinetuningProbe("rows", examples(30), examples(10, 30), "here", RECIPE, seeds=2, noises=True)
    m = measured(probe, one)
    for noise in NOISES:
        found = m[f"rows_under_{noise.name}", "one"]
        assert len(found.items) == 2 and len(found.items[0]) == 10 and noise.title in found.how
    # The vocabulary is lower-cased: capitals change nothing.
    assert m["rows_under_capitals", "one"].items == m["rows_accuracy", "one"].items
    assert 0 <= m["rows_calibration", "one"].value <= 1


def test_fine_tuning_and_other_languages(short, one):
    abroad = [
        msgspec.structs.replace(e, language=language) for language in ("xx", "aa") for e in examples(6, 30)
    ] + [Example(text="nothing of this was learnt", label=examples(1)[0].label, language="zz")]  # fmt: skip
    probe = FinetuningProbe("rows", examples(30), examples(6, 30), "here", RECIPE, seeds=2, abroad=abroad)
    m = measured(probe, one)
    by = m["rows_by_language", "one"]
    assert by.labels == ["aa", "xx", "zz"] * 2 and len(by.samples) == 6
    # The same texts under another language's name are answered alike, and as at home.
    assert by.samples[0] == by.samples[1] == m["rows_accuracy", "one"].samples[0]
    assert m["rows_transfer", "one"].samples[1] == pytest.approx(
        (6 * by.samples[3] + 6 * by.samples[4] + by.samples[5]) / 13
    )
    assert "13 texts of 3 other languages" in m["rows_transfer", "one"].how


def test_what_a_not_changes(one):
    rows = [Example(text=f"it is word{i}", label="ab"[i % 2]) for i in range(20)]
    probe = FinetuningProbe("rows", rows, rows, "here", RECIPE, noises=True)
    assert len(probe.negated) == 20 and probe.negated[0][1].text == "it is not word0"
    assert 0 <= probe.sample(one, None, 0)["rows_moved_by_not"][0] <= 1
    assert not FinetuningProbe("rows", examples(4), examples(4), "here", RECIPE).negated


def test_a_task_is_read_off_the_layer_that_knows_it():
    rng = np.random.default_rng(0)
    labels = [str(i % 3) for i in range(120)]
    knows = rng.standard_normal((120, 6)) + 4 * np.eye(6)[[int(label) for label in labels]]
    assert read_off(knows[:80], labels[:80], knows[80:], labels[80:]) > 0.95
    ignorant = rng.standard_normal((120, 6))
    assert read_off(ignorant[:80], labels[:80], ignorant[80:], labels[80:]) < 0.6


def test_one_label_among_those_drawn_is_guessed_for_all():
    assert read_off(np.eye(3), ["a"] * 3, np.eye(4, 3), ["a", "a", "b", "a"]) == 0.75


def test_layers_by_hand(one, predictors):
    probe = LayersProbe("rows", examples(30), examples(10, 30), "here", predictors)
    layers = one.bundle.spec.encoder.num_hidden_layers
    m = measured(probe, one)["rows_by_layer", "one"]
    assert len(m.samples) == layers + 1 and min(m.samples) >= 0 and max(m.samples) <= 1
    states = mean_states(predictors["one"], examples(2))
    last = predictors["one"].embed([e.text for e in examples(2)], pooling="mean")
    assert states.shape[0] == layers + 1 and np.allclose(states[-1], last, atol=1e-5)


def test_layers_of_texts_that_say_the_same_as_another(predictors):
    rows = examples(3)
    states = mean_states(predictors["one"], [rows[0], rows[1], rows[0], rows[2]])
    assert states.shape[1] == 4 and np.array_equal(states[:, 0], states[:, 2])
    assert np.allclose(states[:, [0, 1, 3]], mean_states(predictors["one"], rows))


def test_pace(short, one, tmp_path):
    one = msgspec.structs.replace(one, folder=one.bundle.save(tmp_path / "one"))
    recipe = msgspec.structs.replace(RECIPE, epochs=12)
    probe = PaceProbe("rows", examples(40), examples(12, 40), "here", recipe, seeds=1)
    assert probe.every == 5
    m = measured(probe, one)
    assert {name for name, _ in m} == {
        "rows_after_15_steps", "rows_after_30_steps", "rows_after_60_steps", "rows_time_to_95", "rows_training_memory",
    }  # fmt: skip
    assert m["rows_time_to_95", "one"].value > 0
    assert 1e8 < m["rows_training_memory", "one"].value < 4e9  # Python and torch, and not more than this machine has


def test_pace_says_when_enough_was_reached(one, monkeypatch):
    told = {"peak": 7, "evaluations": [[5, 0.5], [10, 0.94], [15, 0.96], [20, None], [30, 0.97], [60, 1.0]],
            "seconds": {"5": 1.0, "10": 2.0, "15": 3.0, "60": 9.0}}  # fmt: skip
    done = subprocess.CompletedProcess([], 0, stdout=json.dumps(told), stderr="")
    monkeypatch.setattr("halbert.compare.probes.pace.subprocess.run", lambda *_, **__: done)
    # A task may be called like a figure.
    name = "before_after_some"
    probe = PaceProbe(name, examples(40), examples(12, 40), "here", msgspec.structs.replace(RECIPE, epochs=12))
    assert probe.sample(one, None, 0) == {
        f"{name}_time_to_95": 3.0, f"{name}_training_memory": 7, f"{name}_after_15_steps": 0.96,
        f"{name}_after_30_steps": 0.97, f"{name}_after_60_steps": 1.0,
    }  # fmt: skip


def test_pace_of_a_training_that_fails_says_why(one, monkeypatch):
    monkeypatch.setattr("halbert.compare.probes.pace._PROGRAM", "raise SystemExit('no room')")
    with pytest.raises(HalbertError, match="no room"):
        PaceProbe("rows", examples(40), examples(12, 40), "here", RECIPE).sample(one, None, 0)


def test_masked_pieces_by_language(one):
    # A model that always guesses [UNK] is right about every piece of a language its vocabulary cannot write: that is no skill.
    unknown = one.bundle.tokenizer.special_ids["unk"]
    bias = one.bundle.arrays["heads.mlm.bias"].copy()
    bias[unknown] += 100
    one = msgspec.structs.replace(one, bundle=one.bundle.replace(arrays={**one.bundle.arrays, "heads.mlm.bias": bias}))
    pairs = {"aa": examples(20), "zz": [Example(text="☃ ☃", pair="")] * 20}
    probe = MaskedLanguagesProbe(pairs, "here", 16)
    m = measured(probe, one)["masked_by_language", "one"]
    assert m.labels == ["aa", "zz"] and min(m.samples) >= 0 and max(m.samples) <= 1
    assert m.samples[1] == 0.0
    assert probe.sample(one, probe.prepare(one), 0)["masked_by_language"] == m.samples  # the same pieces again


def test_random_weights_are_refused_where_they_say_nothing(one):
    from halbert.bundle import random_bundle
    from halbert.compare.subject import Subject

    drawn = Subject(
        name="drawn",
        bundle=random_bundle(one.bundle.spec, one.bundle.tokenizer, 0, {}, "drawn"),
        folder=one.folder,
    )
    for probe in (
        InsideProbe({}, TEXTS, "here"), UnknownProbe(TEXTS, "here"), LanguagesProbe(), RetrievalProbe({}, {"de": []}, "x"),
        LearningProbe("rows", examples(40), examples(4), "here", RECIPE),
        FinetuningProbe("rows", examples(40), examples(4), "here", RECIPE),
        PaceProbe("rows", examples(40), examples(4), "here", RECIPE),
        LayersProbe("rows", examples(40), examples(4), "here", {}),
        MaskedLanguagesProbe({"de": examples(20)}, "x", 16),
    ):  # fmt: skip
        assert probe.refuse(drawn)
