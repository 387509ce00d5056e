"""Every verb on small inputs: its result, where it goes, and that programs can read it."""

from __future__ import annotations

import gzip
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from halbert.data.corpus import Corpus
from halbert.heads import HEADS
from halbert.models import bundled
from halbert.presets import all_presets
from halbert.run.parts import Parts
from halbert.run.predictor import load
from halbert.source import load_bundle
from halbert.spec import difference
from halbert.text import load_tokenizer
from tests import small, tiny


def ok(done, silent: bool = False):
    assert done.status == 0, done
    if silent:
        assert done.err == ""
    return done


def lines_of(done) -> list:
    return [json.loads(line) for line in ok(done).out.splitlines()]


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("bert-large-uncased", 335141888), ("albert-xxlarge-v2", 222595584), ("bert-base-multilingual-cased", 177853440)],
)
def test_inspect_released_models(halbert, name, encoder):
    told = json.loads(ok(halbert("inspect", name, "--json"), silent=True).out)
    assert set(told) >= {"name", "spec", "parameters", "flops", "provenance"}
    parameters = told["parameters"]
    assert parameters["encoder"] == encoder
    by_part = parameters["by_part"]
    assert list(by_part) == ["embeddings", "projection", "attention", "ffn", "pooler", "mlm_head", "pair_head"]
    assert sum(by_part.values()) == parameters["pretraining"]
    assert parameters["without_pooler"] == encoder - by_part["pooler"]
    assert parameters["pretraining"] - by_part["mlm_head"] - by_part["pair_head"] == encoder
    assert set(told["flops"]) == {"128", "512"} and told["flops"]["512"] > 4 * told["flops"]["128"]
    assert told["name"] == name and told["provenance"]["hub"].endswith(name)
    assert f"{encoder:,}" in ok(halbert("inspect", name)).out


def test_inspect_a_folder(halbert, world):
    told = json.loads(ok(halbert("inspect", world / "albert", "--json"), silent=True).out)
    bundle = load_bundle(world / "albert")
    assert told["parameters"]["encoder"] == sum(v.size for k, v in bundle.arrays.items() if k.startswith("encoder."))
    assert told["spec"]["embedding_size"] == 5 and told["spec"]["text"]["kind"] == "wordpiece"


@pytest.mark.parametrize(
    ("a", "b"), [("bert-base-uncased", "albert-base-v2"), ("albert-xxlarge-v2", "bert-tiny"), ("model", "albert")]
)
def test_diff_adds_up(halbert, world, a, b):
    names = [world / name if (world / name).exists() else name for name in (a, b)]
    told = json.loads(ok(halbert("diff", *names, "--json"), silent=True).out)
    assert set(told) == {"a", "b", "knobs", "parameters_difference"}
    totals = [
        json.loads(ok(halbert("inspect", name, "--json")).out)["parameters"]["encoder"] for name in names
    ]  # fmt: skip
    assert told["parameters_difference"] == totals[1] - totals[0] != 0
    assert sum(knob["parameters"] for knob in told["knobs"]) == told["parameters_difference"]
    assert all(knob["a"] != knob["b"] and set(knob) == {"field", "a", "b", "parameters"} for knob in told["knobs"])
    people = ok(halbert("diff", *names)).out
    assert f"{told['parameters_difference']:+,}" in people and all(k["field"] in people for k in told["knobs"])


def test_diff_of_a_model_with_itself(halbert):
    told = json.loads(ok(halbert("diff", "bert-tiny", "bert-tiny", "--json")).out)
    assert (told["knobs"], told["parameters_difference"]) == ([], 0)


def test_models(halbert):
    told = json.loads(ok(halbert("models", "--json"), silent=True).out)
    assert [model["name"] for model in told] == [*bundled(), *all_presets()]
    assert {m["name"]: m["encoder"] for m in told}["albert-base-v2"] == 11683584
    people = ok(halbert("models"), silent=True).out
    assert all(name in people for name in (*bundled(), *all_presets()))


def test_tokenize(halbert, world):
    tokenizer = tiny.tokenizer()
    found = lines_of(halbert("tokenize", world / "model", "the cats, unwanted!", "é", "--json"))
    assert found[0] == {
        "ids": tokenizer.encode("the cats, unwanted!").ids,
        "tokens": ["[CLS]", "the", "cat", "##s", ",", "un", "##want", "##ed", "!", "[SEP]"],
        "segments": [0] * 10,
        "spans": [None, [0, 3], [4, 7], [7, 8], [8, 9], [10, 12], [12, 16], [16, 18], [18, 19], None],
    }
    assert len(found) == 2
    assert ok(halbert("tokenize", world / "model", "the cats"), silent=True).out == "[CLS] the cat ##s [SEP]\n"


def test_tokenize_pairs(halbert, world):
    (pair,) = lines_of(halbert("tokenize", world / "model", "the cat", "a dog", "--pair", "--json"))
    assert pair["segments"] == [0, 0, 0, 0, 1, 1, 1]
    found = lines_of(
        halbert("tokenize", world / "model", "--input", world / "pairs.csv", "--json", "--max-length", "5")
    )
    assert [len(row["ids"]) for row in found] == [5, 5] and found[0]["segments"] == [0, 0, 0, 1, 1]


def test_tokenize_standard_input(halbert, world):
    # Only \n ends a line; an empty line is an empty text; the last line needs no end.
    found = lines_of(
        halbert("tokenize", world / "model", "--input", "-", "--json", stdin="cat\n\ncat\u2028a 1\ndog".encode())
    )
    assert [row["tokens"][1:-1] for row in found] == [["cat"], [], ["cat", "a", "1"], ["dog"]]
    assert lines_of(halbert("tokenize", world / "model", "--input", "-", "--json", stdin=b"")) == []


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_embed(halbert, world, tmp_path, backend):
    file = tmp_path / "new folder" / "vectors.npy"
    done = ok(
        halbert("embed", world / "model", "--input", world / "lines.txt", "--output", file, "--precision", "fp32",
                "--backend", backend)
    )  # fmt: skip
    assert done.out == "" and "3 vectors of width 12" in done.err
    vectors = np.load(file)
    texts = ["the cat sat", "", "the want , wa"]
    expected = load(str(world / "model"), precision="fp32", backend="torch").embed(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    ok(halbert("embed", world / "model", *texts, "--output", tmp_path / "cls.npy", "--pooling", "cls"))
    assert np.abs(np.load(tmp_path / "cls.npy") - vectors).max() > 1e-2


def test_embed_says_what_it_cut(halbert, world, tmp_path):
    file = tmp_path / "v.npy"
    done = ok(
        halbert("embed", world / "model", "the cat sat on", "the cat sat", "a", "--output", file, "--max-length", "5")
    )
    assert "1 texts were longer than 5 pieces and were cut" in done.err
    done = ok(halbert("embed", world / "model", "the cat sat", "--output", file, "--max-length", "5", "--overwrite"))
    assert "longer than" not in done.err
    assert np.load(file).shape == (1, 12)  # the old file was replaced


def test_embed_says_what_it_read_in_windows(halbert, world, tmp_path):
    file = tmp_path / "v.npy"
    texts = ["the cat sat on a mat", "the cat sat", "a"]
    done = ok(halbert("embed", world / "model", *texts, "--output", file, "--max-length", "5", "--long", "window"))
    assert "1 texts were longer than 5 pieces and were read in windows" in done.err and "cut" not in done.err
    expected = load(str(world / "model")).embed(texts, max_length=5, long="window")
    np.testing.assert_allclose(np.load(file), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "fp16"], "precision fp16 is for GPUs"),
        (["--backend", "openvino", "--compile"], "--compile is for --backend torch"),
    ],
)
def test_engines_refuse(halbert, world, tmp_path, options, message):
    done = halbert("embed", world / "model", "a", "--output", tmp_path / "v.npy", "--device", "cpu", *options)
    assert done.status == 1 and message in done.err and not (tmp_path / "v.npy").exists()


def test_embed_standard_input(halbert, world, tmp_path):
    ok(halbert("embed", world / "model", "--input", "-", "--output", tmp_path / "v.npy", stdin=b"cat\n\n"))
    assert np.load(tmp_path / "v.npy").shape == (2, 12)
    ok(halbert("embed", world / "model", "--input", "-", "--output", tmp_path / "w.npy", stdin=b""))
    assert np.load(tmp_path / "w.npy").shape == (0, 12)


def test_predict(halbert, world, tmp_path):
    found = lines_of(halbert("predict", world / "tuned", "--input", world / "lines.txt", "--precision", "fp32"))
    assert [(row["index"], row["text"]) for row in found] == [(0, "the cat sat"), (1, ""), (2, "the want , wa")]
    for row in found:
        assert list(row["probabilities"]) == list(tiny.LABELS)
        assert math.isclose(sum(row["probabilities"].values()), 1, rel_tol=1e-9)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
    file = tmp_path / "answers.jsonl"
    done = ok(
        halbert("predict", world / "tuned", "the cat sat", "", "the want , wa", "--output", file, "--precision", "fp32")
    )
    assert done.out == "" and [json.loads(line) for line in file.read_text().splitlines()] == found


def test_predict_pairs_and_scores(halbert, world):
    found = lines_of(halbert("predict", world / "scored", "--input", world / "pairs.csv"))
    assert [(row["text_a"], row["text_b"]) for row in found] == [("the cat", "a dog"), ("a mat .", "")]
    assert all(set(row) == {"index", "text_a", "text_b", "score"} and math.isfinite(row["score"]) for row in found)


def test_predict_choices(halbert, world, tmp_path):
    small.bundle(("choice",), seed=5).save(tmp_path / "chooser")
    rows = [{"text": "the cat", "choices": ["sat", "a mat ."]}, {"text": "a dog", "choices": ["cat", "eat", "1 2"]}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = lines_of(halbert("predict", tmp_path / "chooser", "--input", file))
    assert [(row["index"], row["text"], len(row["probabilities"])) for row in found] == [
        (0, "the cat", 2),
        (1, "a dog", 3),
    ]
    assert all(row["choice"] == np.argmax(row["probabilities"]) for row in found)
    lost = halbert("predict", tmp_path / "chooser", "a text")
    assert lost.status == 1 and "text 0: has no choices" in lost.err and '"choices"' in lost.err


def test_predict_standard_input(halbert, world):
    found = lines_of(halbert("predict", world / "tuned", "--input", "-", stdin="cat\né".encode()))
    assert [row["text"] for row in found] == ["cat", "é"]
    assert lines_of(halbert("predict", world / "tuned", "--input", "-", stdin=b"")) == []


def test_fill(halbert, world):
    told = json.loads(
        ok(halbert("fill", world / "model", "the [MASK] sat [MASK]", "--json", "--top", "3"), silent=True).out
    )
    assert [len(answers) for answers in told] == [3, 3]
    vocabulary = tiny.tokenizer().vocab
    for answers in told:
        assert all(set(a) == {"piece", "id", "probability"} and vocabulary[a["id"]] == a["piece"] for a in answers)
        assert [a["probability"] for a in answers] == sorted((a["probability"] for a in answers), reverse=True)
    people = ok(halbert("fill", world / "model", "the [MASK] sat"), silent=True).out
    assert people.startswith("[MASK] 1") and told[0][0]["piece"] in people


def test_evaluate(halbert, world):
    told = json.loads(ok(halbert("evaluate", world / "tuned", "--data", world / "rows.csv", "--json"), silent=True).out)
    assert (told["task"], told["n"], list(told["metrics"])) == ("classify", 30, ["accuracy", "macro_f1"])
    for metric in told["metrics"].values():
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
    answers = lines_of(halbert("predict", world / "tuned", "--input", world / "rows.csv"))
    right = [a["label"] == r for a, r in zip(answers, ["red", "green", "blue"] * 10, strict=True)]
    assert told["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    people = ok(halbert("evaluate", world / "tuned", "--data", world / "rows.csv")).out
    assert f"{np.mean(right):.4f}" in people and "30 rows" in people


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_vocab_corpus_pretrain(halbert, world, tmp_path, kind):
    words, corpus, model = tmp_path / "words", tmp_path / "corpus", tmp_path / "model"
    done = ok(halbert("vocab", world / "docs.txt", "--kind", kind, "--size", "120", "--out", words))
    assert done.out == "" and f"wrote {words}: 120 pieces" in done.err
    tokenizer = load_tokenizer(words)
    assert (tokenizer.spec.kind, tokenizer.vocab_size) == (kind, 120)

    done = ok(halbert("corpus", world / "docs.txt", "--tokenizer", words, "--out", corpus))
    manifest = Corpus(corpus).manifest
    assert (manifest.documents, manifest.tokenizer) == (2, tokenizer.fingerprint)
    assert [source.name for source in manifest.inputs] == [
        "docs.txt"
    ] and f"{manifest.tokens:,} pieces in 1 shard" in done.err

    done = ok(
        halbert("pretrain", world / "recipe.toml", "--tokenizer", words, "--set", f"corpus={corpus}", "--set", "steps=4",
                "--set", "encoder.intermediate_size=9", "--out", model)
    )  # fmt: skip
    assert done.out == ""
    again = halbert(
        "pretrain", world / "recipe.toml", "--tokenizer", words, "--set", f"corpus={corpus}", "--out", model
    )
    assert again.status == 1 and "holds a run already; go on with it by --resume" in again.err  # not: remove it
    bundle = load_bundle(model)
    assert set(bundle.heads) == {"mlm", "pair"}
    assert (bundle.spec.encoder.intermediate_size, bundle.spec.encoder.vocab_size) == (9, 120)
    assert (bundle.spec.pretraining.sentence_objective, bundle.spec.pretraining.masking) == ("sop", "ngram")
    assert bundle.provenance["training"]["steps"] == 4
    assert str(tmp_path) not in (model / "provenance.json").read_text()  # no machine's folders in what is given away


def test_finetune(halbert, world, tmp_path):
    out = tmp_path / "tuned"
    done = ok(
        halbert("finetune", world / "model", "--task", "classify", "--train", world / "rows.csv", "--dev", world / "dev.csv",
                "--out", out, "--seeds", "2", "--set", "epochs=1", "--set", "length=16", "--json")
    )  # fmt: skip
    told = json.loads(done.out)
    assert (told["metric"], told["seeds"], told["failed"]) == ("accuracy", 2, 0)
    assert [run["seed"] for run in told["runs"]] == [0, 1]
    for run in told["runs"]:
        assert set(run["scores"]) == {"accuracy", "macro_f1"} and run["steps"] == 1
    bundle = load_bundle(out)
    assert bundle.heads["label"].labels == ("red", "green", "blue")
    assert bundle.provenance["training"]["recipe"]["epochs"] == 1
    assert lines_of(halbert("predict", out, "the cat"))[0]["label"] in tiny.LABELS


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_convert(halbert, world, tmp_path, dtype):
    done = ok(halbert("convert", world / "albert", tmp_path / "copy", "--dtype", dtype))
    assert done.out == "" and "heads: mlm, pair" in done.err
    old, new = load_bundle(world / "albert"), load_bundle(tmp_path / "copy")
    assert difference(old.spec, new.spec) == [] and set(old.arrays) == set(new.arrays)
    worst = max(np.abs(np.asarray(old.arrays[k]) - np.asarray(new.arrays[k])).max() for k in old.arrays)
    assert worst == 0 if dtype == "float32" else 0 < worst < 2e-3
    assert HEADS.keys() >= set(new.heads)


def test_quiet_and_color_free(halbert, world, tmp_path):
    command = [
        "finetune",
        world / "model",
        "--train",
        world / "rows.csv",
        "--dev",
        world / "dev.csv",
        "--set",
        "epochs=1",
    ]
    loud = ok(halbert(*command, "--out", tmp_path / "a"))
    assert "Fine-tuning a" in loud.err and loud.out == "" and "\x1b" not in loud.err
    quiet = ok(halbert(*command, "--out", tmp_path / "b", "--quiet"))
    assert "Fine-tuning" not in quiet.err and "seed 0: accuracy" in quiet.err


def test_a_corpus_that_its_vocabulary_cannot_write_warns(halbert, tmp_path):
    """A lower-cased vocabulary that is not told to lower-case loses every capital; nothing else would say so."""
    (tmp_path / "text.txt").write_text("\n".join(tiny.SPEECH * 3) + "\n")
    words = tmp_path / "words"
    ok(halbert("vocab", tmp_path / "text.txt", "--size", "400", "--out", words))
    fitting = ok(halbert("corpus", tmp_path / "text.txt", "--tokenizer", words, "--out", tmp_path / "a"))
    assert "warning" not in fitting.err and Corpus(tmp_path / "a").manifest.unknown == 0
    config = json.loads((words / "tokenizer_config.json").read_text())
    (words / "tokenizer_config.json").write_text(json.dumps({**config, "do_lower_case": False}))
    done = ok(halbert("corpus", tmp_path / "text.txt", "--tokenizer", words, "--out", tmp_path / "b"))
    manifest = Corpus(tmp_path / "b").manifest
    ids = np.concatenate([np.load(file) for file in sorted((tmp_path / "b").glob("ids-*.npy"))])
    assert manifest.unknown == np.count_nonzero(ids == load_tokenizer(words).special_ids["unk"]) > 0.02 * len(ids)
    assert f"warning: {manifest.unknown / len(ids):.1%} of the pieces are [UNK]" in done.err
    assert "lower_case = False" in done.err and "0 of its 400 tokens hold upper-case letters" in done.err


def test_vocab_reads_what_corpus_reads(halbert, tmp_path):
    """The same paragraphs in any format make the same vocabulary; a folder, and a language before a file, too."""
    texts = [f"{line} {number}" for number, line in enumerate(tiny.SPEECH * 5)]
    (tmp_path / "plain.txt").write_text("\n\n".join(texts))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    found = set()
    for number, name in enumerate(("plain.txt", "rows.jsonl", "folder", "en=" + str(tmp_path / "plain.txt"))):
        out = tmp_path / f"words-{number}"
        done = ok(halbert("vocab", name if "=" in name else tmp_path / name, "--size", "300", "--out", out))
        assert "300 pieces" in done.err and "of 300" not in done.err
        found.add(load_tokenizer(out).fingerprint)
    assert len(found) == 1
    assert "ends in .csv" in halbert("vocab", tmp_path / "x.csv", "--out", tmp_path / "no").err
    # Languages weigh by code as by the name of the file.
    for words, names in (("e", ("en=plain.txt", "de=rows.jsonl")), ("f", ("plain.txt", "rows.jsonl"))):
        given = [f"{n.split('=')[0]}={tmp_path / n.split('=')[1]}" if "=" in n else tmp_path / n for n in names]
        ok(halbert("vocab", *given, "--size", "300", "--language-exponent", "0.5", "--out", tmp_path / words))
    assert load_tokenizer(tmp_path / "e").fingerprint == load_tokenizer(tmp_path / "f").fingerprint


def test_vocab_says_what_it_could_not_do_and_what_is_lost(halbert, tmp_path):
    (tmp_path / "de.txt").write_text("Das schöne Haus ist über dem Fluß, schöne Bäume.\n" * 300)
    plain = ok(halbert("vocab", tmp_path / "de.txt", "--out", tmp_path / "a")).err
    assert re.search(r"pieces \(of 30,000: the text has no more\)", plain)
    assert "accents are taken away, from 44.4% of these words (such as schöne, which becomes schone)" in plain
    for more in ("--accents", "--cased"):
        assert "taken away" not in ok(halbert("vocab", tmp_path / "de.txt", more, "--out", tmp_path / more)).err
    (tmp_path / "en.txt").write_text("The house is above the river.\n" * 300)
    assert "taken away" not in ok(halbert("vocab", tmp_path / "en.txt", "--out", tmp_path / "b")).err
    (tmp_path / "few.txt").write_text("The house is above the river.\n" * 30)
    assert "of so little text" in ok(halbert("vocab", tmp_path / "few.txt", "--out", tmp_path / "c")).err


def test_a_warning_of_ours_is_a_line_for_people(halbert, world, tmp_path):
    ok(halbert("corpus", world / "docs.txt", "--tokenizer", world / "model", "--out", tmp_path / "c"))
    model, sets = tmp_path / "m", {"corpus": tmp_path / "c", "steps": 4, "warmup_steps": 1, "checkpoint_every": 2}
    words = ["pretrain", world / "recipe.toml", "--tokenizer", world / "model", "--out", model]
    words += [f"--set={name}={value}" for name, value in sets.items()]
    ok(halbert(*words))
    next((model / "training/checkpoints/step-00000004").glob("*.safetensors")).write_bytes(b"x")
    again = [sys.executable, "-m", "halbert", *map(str, words), "--resume"]
    done = subprocess.run(again, capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stderr.splitlines() if "is damaged" in line)
    assert line.startswith("warning: ") and "UserWarning" not in done.stderr and "latest()" not in done.stderr


def test_a_column_of_another_name(halbert, world, tmp_path):
    """Every verb that reads a table takes it under the names that it has."""
    rows = small.rows(30)
    file = small.write_csv(tmp_path / "reviews.csv", rows, ("review", "stars"))
    refused = halbert("predict", world / "tuned", "--input", file)
    assert refused.status == 1 and "--column text=NAME says what the file calls it" in refused.err
    named = ("--column", "text=review")
    for verb in ("predict", "tokenize"):
        model = world / "tuned"
        plain = ok(halbert(verb, model, "--input", world / "rows.csv")).out
        assert ok(halbert(verb, model, "--input", file, *named)).out == plain != ""
    for name, given in (("a.npy", (world / "rows.csv",)), ("b.npy", (file, *named))):
        ok(halbert("embed", world / "model", "--input", *given, "--output", tmp_path / name))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    both = (*named, "--column", "label=stars")
    quantized = ("quantize", world / "tuned", "--calibrate", file, "--data", file, "--force", "--json")
    told = json.loads(ok(halbert(*quantized, *both, "--out", tmp_path / "int8")).out)
    assert told["metric"] == "accuracy" and told["checked_on"] == "30 texts of reviews.csv"
    lines = tmp_path / "lines.txt"  # which has one column, whatever tables call theirs
    lines.write_text("".join(f"{text}\n" for text, _ in rows))
    quantized = ("quantize", world / "tuned", "--calibrate", lines, "--data", file, "--force", "--json")
    again = json.loads(ok(halbert(*quantized, *both, "--out", tmp_path / "more")).out)
    assert again["calibrated_on"] == "30 texts of lines.txt" and again["engines"] == told["engines"]
    audit = ("audit", world / "model", world / "albert", "--task", "classify", "--data", file, "--only", "size")
    ok(halbert(*audit, *both, "--out", tmp_path / "report"))
    command = json.loads((tmp_path / "report/results.json").read_text())["command"]
    assert "--column text=review --column label=stars" in command


def test_columns_of_what_has_none(halbert, world, tmp_path):
    named = ("--column", "text=review")
    for verb, *more in (("predict", "a text"), ("tokenize", "a text"), ("predict", "--input", "-")):
        done = halbert(verb, world / "tuned", *more, *named)
        assert done.status == 1 and "--column is for a table" in done.err
    done = halbert("predict", world / "tuned", "--input", world / "lines.txt", *named)
    assert done.status == 1 and "no column 'review'" in done.err
    done = halbert("audit", world / "model", world / "albert", "--out", tmp_path / "a", *named)
    assert done.status == 1 and "--column is for the files of --data" in done.err


def test_an_answer_from_another_column_does_not_go_on(halbert, world, tmp_path, monkeypatch):
    """What was answered of one column is no part of what is asked of another."""
    file = small.write_csv(tmp_path / "two.csv", [("the cat", "a dog"), ("a mat .", "wa")] * 20, ("title", "body"))
    words = ("predict", world / "tuned", "--input", file, "--output", tmp_path / "out.jsonl", "--column")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "join", stop)
        assert halbert(*words, "text=title").status == 130 and (tmp_path / ".out.jsonl.parts").exists()
    done = halbert(*words, "text=body")
    assert done.status == 1 and "another model, input or option" in done.err
    assert "going on" in ok(halbert(*words, "text=title")).err


def test_texts_of_a_corpus_in_a_field_of_another_name(halbert, world, tmp_path):
    texts = [f"the cat sat on {i} mat" for i in range(300)]
    for field in ("text", "content"):
        (tmp_path / f"{field}.jsonl").write_text("".join(json.dumps({field: text}) + "\n" for text in texts))
    named = {"text": (), "content": ("--column", "text=content")}
    for field, more in named.items():
        given = (tmp_path / f"{field}.jsonl", *more)
        ok(halbert("vocab", *given, "--size", "200", "--out", tmp_path / f"vocab-{field}"))
        ok(halbert("corpus", *given, "--tokenizer", world / "model", "--out", tmp_path / field))
    tokenizers = {load_tokenizer(tmp_path / f"vocab-{field}").fingerprint for field in named}
    manifests = [Corpus(tmp_path / field).manifest for field in named]
    assert len(tokenizers) == 1 and manifests[0].shards == manifests[1].shards
    assert "--column text=content" in manifests[1].command and "--column" not in manifests[0].command
    done = halbert(
        "corpus",
        tmp_path / "text.jsonl",
        "--tokenizer",
        world / "model",
        "--out",
        tmp_path / "c",
        "--column",
        "label=x",
    )
    assert done.status == 1 and "only texts are read here; expected text=NAME" in done.err
