"""Whole audits of tiny models: every file is there and true, and a failure leaves nothing."""

from __future__ import annotations

import json

import msgspec
import pytest

from halbert.compare import default, documented, named, trained
from halbert.compare.audit import compare, open_subjects
from halbert.compare.default import default_audit
from halbert.compare.machine import named_machine
from halbert.compare.plan import DEPTHS, PROBES, Depth, Plan, TaskData, rests_on, split_task, task_names
from halbert.compare.probes.latency import LatencyProbe
from halbert.compare.probes.memory import MemoryProbe
from halbert.compare.probes.retrieval import read_parallel
from halbert.compare.probes.throughput import ThroughputProbe
from halbert.compare.subject import equal_in
from halbert.compare.trained import trained_audit
from halbert.errors import HalbertError, InputError
from halbert.models import bundled
from halbert.source import load_bundle
from halbert.train.recipe import FinetuneRecipe
from tests import small
from tests.compare.made import subject
from tests.compare.pages import check_folder

OF_TEXTS = {
    "throughput", "unknown", "agreement", "inside", "masked", "masked-languages", "retrieval", "layers", "finetuning", "learning",
}  # fmt: skip
RECIPE = FinetuneRecipe(epochs=1, batch_size=8, length=16, learning_rate=1e-3, precision="fp32")


@pytest.fixture
def short(monkeypatch):
    """Few rounds of everything."""
    monkeypatch.setitem(DEPTHS, "usual", Depth(memory=2, latency=3, engines=2, throughput=3, seeds=2, curves=1))
    monkeypatch.setattr("halbert.compare.measurement.RESAMPLES", 200)
    monkeypatch.setattr("halbert.compare.probes.learning._LEAST_STEPS", 5)
    # Without data, documentation is read for seconds; one test does that.
    monkeypatch.setattr("halbert.compare.audit._documentation_texts", lambda: [text for text, _ in small.rows(20)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    small.bundle().save(folder / "bert")
    small.bundle(seed=1, **small.ALBERT).save(folder / "albert")
    small.bundle(("label",), seed=2).save(folder / "bare")
    small.write_csv(folder / "my rows.csv", small.rows(40))
    pairs = "".join(f"{language} {text},{text},{language}\n" for language in ("de", "fr") for text, _ in small.rows(20))
    (folder / "parallel.csv").write_text("text_a,text_b,language\n" + pairs)
    rows = "".join(f"{text},{label},{'de' if i % 2 else 'fr'}\n" for i, (text, label) in enumerate(small.rows(24)))
    (folder / "abroad.csv").write_text("text,label,language\n" + rows)
    (folder / "more").mkdir()
    small.write_csv(folder / "more" / "my rows.csv", small.rows(30))
    return folder


def run(place, out, models=("bert", "albert"), **how):
    return compare([str(place / m) for m in models], out=out, seeds=2, precision="fp32", recipe=RECIPE, **how)


def test_all_probes(short, place, tmp_path):
    out = tmp_path / "report"
    told = run(
        place, out, ("bert", "albert", "bare"), tasks=["classify", "classify"],
        data=[place / "my rows.csv", place / "more" / "my rows.csv"], parallel=place / "parallel.csv",
        transfer=[place / "abroad.csv"] * 2, probes=[probe for probe in PROBES if probe != "pace"],  # test_probes.py has it
    )  # fmt: skip
    results = check_folder(out)
    assert results == json.loads(json.dumps(told))
    assert [s["name"] for s in results["subjects"]] == ["bert", "albert", "bare"]
    assert {m["probe"].partition(":")[0] for m in results["measurements"]} == set(PROBES) - {"pace"}
    values = {(m["name"], m["subject"]): m for m in results["measurements"]}
    for name in ("my-rows", "my-rows-2"):  # two files of one name are two tasks
        for metric in ("accuracy", "macro_f1", "seconds"):
            assert len(values[f"{name}_{metric}", "bert"]["samples"]) == 2
    assert [len(values[f"{name}_accuracy", "bert"]["items"][0]) for name in ("my-rows", "my-rows-2")] == [8, 6]
    for m in results["measurements"]:
        undefined = m["subject"] == "bare" and m["probe"].startswith("masked")
        assert (m["value"] is None) == undefined, m["name"]
        assert m["machine"] == ("" if undefined else named_machine(results["machine"])) and m["rounds_on"] is None
    assert values["masked_loss", "bare"]["why"] == "the model has no masked-piece head"
    assert values["my-rows_by_language", "bert"]["labels"] == ["de", "fr"] * 2
    assert {"translations.svg", "masked-languages.png", "transfer.svg", "known.svg"} < {
        f.name for f in (out / "pictures").iterdir()
    }
    for name in ("bert", "albert", "bare"):
        bundle = load_bundle(place / name)
        assert values["parameters", name]["value"] == bundle.spec.encoder.count_encoder()
        assert values["bytes_on_disk", name]["value"] == (place / name / "model.safetensors").stat().st_size
    assert small.left_in(tmp_path)[0] == "report" and not any(".report" in name for name in small.left_in(tmp_path))
    for m in results[
        "measurements"
    ]:  # whatever is measured on texts says which, in the words that their sha256 stands for
        assert any(rests_on(m["how"], told) for told in results["data"]) == (
            m["probe"].partition(":")[0] in OF_TEXTS
        ), m["how"]
    assert all(any(rests_on(m["how"], told) for m in results["measurements"]) for told in results["data"])


def test_further_rows_and_tasks_change_no_others(place):
    one = split_task("a", place / "my rows.csv", None)
    changes: list[dict] = [{}, {"abroad": one.test}, {"test": one.test[:-1]}]
    same, more, other = ([msgspec.structs.replace(one, **c)] for c in changes)
    more += [msgspec.structs.replace(one, name="b", where="b.csv")]
    told = "labelled texts of my rows.csv"
    first, second, third = (
        Plan(subjects=[], tasks=tasks, texts=["x"], texts_from="t", command="").fingerprints()[told]
        for tasks in (same, more, other)
    )
    assert first == second != third
    assert not rests_on("9 labelled texts of my rows.csv", "labelled texts of rows.csv")


def test_all_models_are_tuned_at_the_usual_rate_of_the_widest(place, tmp_path):
    """At 5e-5, which base models are tuned with, narrow ones learn too little of little data. Who gives the command that is
    told has the same rate, whatever it is."""
    models = [str(place / name) for name in ("bert", "albert")]
    data = {"tasks": ["classify"], "data": [place / "my rows.csv"], "probes": ["size"]}
    rates = {
        "a": ({"changes": {"epochs": 2}}, "0.0003"), "b": ({"changes": {"learning_rate": 1e-4}}, "0.0001"),
        "c": ({"changes": {"learning_rate": 5e-5}}, "5e-05"), "d": ({"recipe": FinetuneRecipe()}, "5e-05"),
    }  # fmt: skip
    for name, (how, rate) in rates.items():
        told = compare(models, out=tmp_path / name, **data, **how)["command"]
        assert f"--set learning_rate={rate}" in told and ("--set epochs=2" in told) == (name == "a")
    shapes = [*models, "bert-tiny", "bert-base-uncased"]
    told = compare(shapes, out=tmp_path / "e", random_weights=0, **data)["command"]
    assert "--set learning_rate=5e-05" in told
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        compare(["nobody", "knows"], out=tmp_path / "f", changes={"epoch": 1})
    with pytest.raises(InputError, match="recipe and changes were both given"):
        compare(["nobody", "knows"], out=tmp_path / "f", changes={"epochs": 1}, recipe=FinetuneRecipe())


def test_one_probe_and_no_data(place, tmp_path):
    run(place, tmp_path / "a", probes=["size"])
    results = check_folder(tmp_path / "a")
    assert {m["probe"] for m in results["measurements"]} == {"size"}


def test_a_test_file_of_its_own(short, place, tmp_path):
    run(place, tmp_path / "a", probes=["finetuning"], tasks=["classify"], data=[place / "my rows.csv"],
        test=[place / "more" / "my rows.csv"])  # fmt: skip
    results = check_folder(tmp_path / "a")
    assert {len(m["items"][0]) for m in results["measurements"] if m["items"]} == {30}
    assert "--test" in results["command"]


@pytest.mark.parametrize("probe", [LatencyProbe, ThroughputProbe, MemoryProbe])
def test_after_a_failure_the_same_command_goes_on(short, place, tmp_path, monkeypatch, probe):
    def fail(*_):
        raise HalbertError("the probe fell over")

    before = small.left_in(place)
    with monkeypatch.context() as patch:
        patch.setattr(probe, "sample", fail)
        with pytest.raises(HalbertError, match="fell over"):
            run(place, tmp_path / "report", probes=["size", probe.name])
    assert small.left_in(place) == before
    assert small.left_in(tmp_path) == ["report.audit", "report.audit/plan.json", "report.audit/size.jsonl"]
    with pytest.raises(InputError, match="holds an audit that was stopped"):
        run(place, tmp_path / "report", probes=["size", probe.name])
    monkeypatch.setattr("halbert.compare.probes.size.SizeProbe.sample", fail)  # is not taken again
    run(place, tmp_path / "report", probes=["size", probe.name], resume=True)
    check_folder(tmp_path / "report")
    assert not (tmp_path / "report.audit").exists()


def test_more_rounds_for_a_finished_audit(short, place, tmp_path, monkeypatch):
    out = tmp_path / "report"
    run(place, out, probes=["size", "throughput"])
    first = json.loads((out / "results.json").read_text())
    monkeypatch.setitem(DEPTHS, "usual", Depth(throughput=5, seeds=2))
    run(place, out, probes=["size", "throughput", "latency"], resume=True)
    again = check_folder(out)
    samples = [
        {m["subject"]: m["samples"] for m in found["measurements"] if m["name"] == "throughput"} for found in (first, again)
    ]  # fmt: skip
    for name in samples[0]:
        assert samples[1][name][:3] == samples[0][name] and len(samples[1][name]) == 5
    with pytest.raises(InputError, match="of other precision"):
        compare([str(place / m) for m in ("bert", "albert")], out=out, probes=["size"], precision="bf16", resume=True,
                recipe=RECIPE)  # fmt: skip
    check_folder(out)  # and what was there still is


def test_rows_to_learn_from_can_be_fewer():
    task = TaskData(name="t", where="w", train=[1, 2, 3, 4, 5], test=[6])
    assert task.at_most(None) is task and task.at_most(5) is task
    some = task.at_most(3)
    assert len(some.train) == 3 and set(some.train) < {1, 2, 3, 4, 5} and some.test == [6]
    assert task.at_most(3).train == some.train


def test_a_busy_machine_is_named():
    from halbert.compare.machine import Bystander, warnings_of

    told = Bystander().told()
    assert 0 <= told["others"] <= 1.5 and told["uneven"] >= 1
    assert warnings_of({"others": 0.02, "uneven": 1.05}) == []
    busy, uneven = warnings_of({"others": 0.5, "uneven": 1.6})
    assert "50 % of its cores" in busy and "1.60 times" in uneven


def test_overwriting_only_when_asked_and_only_when_done(short, place, tmp_path, monkeypatch):
    out = tmp_path / "report"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(InputError, match="not empty"):
        run(place, out, probes=["size"])
    with pytest.raises(InputError, match="something else than a report"):
        run(place, out, probes=["size"], overwrite=True)
    (out / "results.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr("halbert.compare.audit.write_report", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(place, out, probes=["size"], overwrite=True)
    kept = ["report.audit", "report.audit/plan.json", "report.audit/size.jsonl"]  # whoever's the fault was
    assert small.left_in(tmp_path) == ["report", *kept, "report/old", "report/results.json"]
    run(place, out, probes=["size"], resume=True)
    assert not (tmp_path / "report.audit").exists()
    assert "report/old" not in small.left_in(tmp_path) and "report/results.json" in small.left_in(tmp_path)


def test_subjects_of_one_name_get_different_ones(place, tmp_path):
    subjects = open_subjects([str(place / "bert")] * 3, tmp_path)
    assert [s.name for s in subjects] == ["bert", "bert-2", "bert-3"]


def test_task_names():
    assert task_names(["a/x.csv", "b/x.csv", "x.tsv.gz", "y y.csv", ".csv"]) == ["x", "x-2", "x-3", "y-y", "task"]
    assert task_names(["sst 2/train.tsv", "/trec/Train.csv.gz", "trec/dev.tsv", "/train.csv"]) == [
        "sst-2", "trec", "dev", "train",
    ]  # fmt: skip


def test_every_fifth_row_is_kept_for_the_test(place):
    task = split_task("rows", place / "my rows.csv", None)
    rows = [text for text, _ in small.rows(40)]
    assert [e.text for e in task.test] == rows[::5]
    assert sorted(e.text for e in task.train) == sorted(r for i, r in enumerate(rows) if i % 5)


def test_what_two_subjects_have_in_common():
    a = subject("a")
    assert equal_in(a, subject("b", seed=5)) == ["shape", "parameters (within 2 %)", "tokenizer"]
    assert equal_in(a, subject("c", **small.ALBERT)) == ["shape", "tokenizer"]
    assert equal_in(a, subject("d", hidden_size=14, embedding_size=14)) == ["tokenizer"]


def test_how_long_two_subjects_were_trained():
    def trained_for(name, seconds, **more):
        told = {
            "kind": "pretraining",
            "corpus": {"sha256": "x"},
            "steps": 10,
            "recipe": {"batch_tokens": 64, "length": 32},
        }
        made = subject(name)
        bundle = made.bundle.replace(
            provenance={
                "training": told
                | {"seconds": seconds, "machine": {"device": "A CPU", "threads": 2}, "processes": 1}
                | more
            }
        )
        return msgspec.structs.replace(made, bundle=bundle)

    a, time = trained_for("a", 100.0), "training time (within 10 %)"
    assert time in equal_in(a, trained_for("b", 109.0)) and time in equal_in(trained_for("b", 109.0), a)
    assert time not in equal_in(a, trained_for("c", 115.0))
    for other in ({"machine": {"device": "A CPU", "threads": 1}}, {"machine": {"device": "x86_64"}}, {"processes": 2}):
        assert time not in equal_in(a, trained_for("d", 100.0, **other))
    vague = [trained_for(name, 100.0, machine={"device": "x86_64"}) for name in "fg"]
    assert time not in equal_in(*vague) and time not in equal_in(*(trained_for(n, 9.0, machine=None) for n in "hi"))
    assert "pre-training tokens" not in equal_in(a, trained_for("e", 100.0, steps=9))


def test_what_two_subjects_have_in_common_that_were_trained_twice():
    told = {
        "kind": "pretraining", "corpus": {"sha256": "x"}, "steps": 10, "recipe": {"batch_tokens": 64, "length": 32},
        "seconds": 9.0, "machine": {"device": "A CPU", "threads": 2}, "processes": 1,
    }  # fmt: skip

    def twice(name, **first):
        base = {"name": f"{name}-first", "files": {"model.safetensors": name}, "training": told | first}
        made = subject(name)
        return msgspec.structs.replace(made, bundle=made.bundle.replace(provenance={"base": base, "training": told}))

    both = {"pre-training text", "pre-training tokens", "training time (within 10 %)"}
    assert both <= set(equal_in(twice("a"), twice("b")))
    assert not {"pre-training tokens"} & set(equal_in(twice("a"), twice("c", steps=9)))
    assert not both & set(equal_in(twice("a"), twice("d", kind="finetuning")))


@pytest.mark.parametrize("vocabulary", [2000, 6000, 30522])
def test_the_designs_that_are_trained(vocabulary):
    bert, albert, wide = (spec for spec, _, _ in trained.designs(vocabulary).values())
    assert bert.num_hidden_groups == bert.num_hidden_layers and not bert.has_projection
    for spec in (albert, wide):
        assert spec.num_hidden_groups == 1 and spec.embedding_size < spec.hidden_size
        assert spec.num_hidden_layers == bert.num_hidden_layers
    assert albert.hidden_size == bert.hidden_size and albert.count_encoder() < bert.count_encoder()
    assert wide.hidden_size > bert.hidden_size
    assert abs(wide.count_encoder() - bert.count_encoder()) < 0.02 * bert.count_encoder()


@pytest.fixture
def small_task(monkeypatch):
    made = documented.which_library
    monkeypatch.setattr(documented, "which_library", lambda found, **_: made(found, classes=3, train=90, test=60))
    return {"libraries": ("fsspec", "rich", "babel"), "seeds": 2, "precision": "fp32"}


QUICK = FinetuneRecipe(epochs=1, batch_size=64, length=16, learning_rate=1e-3)


def test_the_default_audit(short, place, tmp_path, small_task):
    out, probes = tmp_path / "report", ("size", "finetuning")
    models = [str(place / name) for name in ("bert", "albert")]
    told = default_audit(out=out, models=models, recipe=QUICK, probes=probes, **small_task)
    results = check_folder(out)
    assert results["verdict"] == told["verdict"]
    assert {m["probe"].partition(":")[0] for m in results["measurements"]} == set(probes)
    data = out / "data"
    assert "--data report/data/which-library-train.csv --test report/data/which-library-test.csv" in results["command"]
    assert split_task("again", data / "which-library-train.csv", data / "which-library-test.csv").train
    # One seed more: those that were run are not run again.
    before = {m["name"]: m for m in results["measurements"] if m["subject"] == results["subjects"][0]["name"]}
    more = default_audit(
        out=out, models=models, recipe=QUICK, probes=probes, resume=True, **{**small_task, "seeds": 3}
    )["measurements"]
    accuracy = next(m for m in more if m["name"] == "which-library_accuracy")
    assert len(accuracy["samples"]) == 3 and accuracy["samples"][:2] == before["which-library_accuracy"]["samples"]


def test_the_default_audit_of_languages(short, place, tmp_path, monkeypatch):
    """CLDR's names: a task learnt in English and judged in 138 languages, and pairs."""
    monkeypatch.setattr(named, "ROWS", 1)
    monkeypatch.setattr(named, "PAIRS", 20)
    out, models = tmp_path / "report", [str(place / name) for name in ("bert", "albert")]
    probes = ("retrieval", "finetuning")
    default_audit(out=out, models=models, languages=True, recipe=QUICK, probes=probes, seeds=2)
    results = check_folder(out)
    values = {(m["name"], m["subject"]): m for m in results["measurements"]}
    assert len(values["translations_found", "bert"]["samples"]) > 130
    assert len(set(values["kind-of-name_by_language", "bert"]["labels"])) > 130
    assert "--transfer report/data/kind-of-name-abroad.csv --parallel report/data/names.csv" in results["command"]
    train, test = (out / f"data/kind-of-name-{part}.csv" for part in ("train", "test"))
    again = split_task("kind-of-name", train, test, out / "data/kind-of-name-abroad.csv")
    learnt = {e.text for e in again.train}
    assert {e.label for e in again.train} == {"country", "language", "currency"}
    assert len(again.test) > 300 and not {e.text for e in again.test if e.label == "country"} & learnt
    assert {e.text: e.pair for e in read_parallel(out / "data/names.csv")["de"]}.items() <= {
        e.text: e.pair for e in named.read_names()["de"]
    }.items()  # fmt: skip


def test_the_default_audit_of_languages_has_the_multilingual_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "ROWS", 1)
    told = default_audit(out=tmp_path / "report", languages=True, probes=("size",))
    assert tuple(subject["name"] for subject in told["subjects"]) == default.MULTILINGUAL
    assert default.LANGUAGES_NOTE in told["notes"] and default.MULTILINGUAL_NOTE in told["notes"]


@pytest.mark.parametrize(
    ("names", "note"), [(default.MODELS, default.NOTE), (default.MULTILINGUAL, default.MULTILINGUAL_NOTE)]
)
def test_the_models_of_the_default_audit_are_in_the_box_as_their_note_says(names, note):
    assert set(names) <= set(bundled())
    specs = [load_bundle(bundled()[name]).spec for name in names]
    assert [spec.encoder.num_hidden_groups for spec in specs] == [4, 1]
    (objective,) = {spec.pretraining.sentence_objective for spec in specs}
    assert f"sentence objective ({'SOP' if objective == 'sop' else objective})" in note


@pytest.mark.slow
def test_an_audit_that_trains_its_models(short, tmp_path, monkeypatch, small_task):
    monkeypatch.setattr(trained, "VOCABULARY", 600)
    monkeypatch.setattr(trained, "_TRIAL_STEPS", 11)
    monkeypatch.setattr(trained, "HIDDEN", 32)
    monkeypatch.setattr(trained, "NARROW", 16)
    monkeypatch.setattr(trained, "FINETUNING", QUICK)
    out = tmp_path / "report"
    probes = [
        probe for probe in PROBES if probe not in ("learning", "pace")
    ]  # have tests of their own, and take a while
    told = trained_audit(out=out, seconds=0.1, probes=probes, **small_task)
    results = check_folder(out)
    assert results["verdict"] == told["verdict"] and len(results["verdict"]["headline"]) == 4
    assert [s["name"] for s in results["subjects"]] == ["bert", "albert", "albert-wide", "albert-wide-timed"]
    assert {m["probe"].partition(":")[0] for m in results["measurements"]} == set(probes) - {
        "retrieval",
        "masked-languages",
    }
    assert all(m["value"] is not None for m in results["measurements"])
    *equal, timed = (s["training"]["steps"] for s in results["subjects"])
    assert len(set(equal)) == 1
    seconds = {s["name"]: s["training"]["seconds"] for s in results["subjects"]}
    assert timed == round(equal[0] * seconds["bert"] / seconds["albert-wide"])
    for s in results["subjects"]:
        assert s["curve"] and "journal" not in s["training"]
        assert load_bundle(out / "models" / s["name"]).spec.encoder.count_encoder() == s["parameters"]["encoder"]
    same_pieces = [c for c in results["comparisons"] if c["name"] == "masked_loss"]
    for c in same_pieces:
        assert ("pre-training tokens" in c["equal_in"]) == ("albert-wide-timed" not in (c["a"], c["b"]))
        assert ("parameters (within 2 %)" in c["equal_in"]) == ("albert" not in (c["a"], c["b"]))
    assert len(same_pieces) == 6
    assert str(tmp_path) not in (out / "results.json").read_text()
    # What the report was made from is there to be used again.
    for split in ("train", "test"):
        assert split_task("again", out / "data" / f"which-library-{split}.csv", None).train
    assert small.left_in(tmp_path)[0] == "report"


@pytest.mark.slow
def test_an_encoder_of_another_architecture(short, place, tmp_path):
    """It stands beside ours in every probe that applies, all of them in PyTorch; what does not apply says so."""
    pytest.importorskip("transformers")
    from tests.foreign import write

    write("roberta", place / "roberta", longest=128)
    told = run(
        place, tmp_path / "report", ("bert", "roberta"), tasks=["classify"], data=[place / "my rows.csv"],
        parallel=place / "parallel.csv",
        probes=["size", "memory", "latency", "engines", "agreement", "inside", "masked", "retrieval", "finetuning"],
    )  # fmt: skip
    results = check_folder(tmp_path / "report")
    assert results["subjects"][1]["spec"]["model_type"] == "roberta" and told["differences"][0]["knobs"] == []
    lacking = {(m["probe"].partition(":")[0], m["why"]) for m in results["measurements"] if m["value"] is None}
    assert lacking == {
        ("engines", "of another architecture, which runs in PyTorch alone"),
        ("masked", "the model has no masked-piece head"),
    }  # fmt: skip
    values = {(m["name"], m["subject"]): m for m in results["measurements"]}
    assert all("torch fp32" in values["latency_8_p50", name]["how"] for name in ("bert", "roberta"))
    assert "PyTorch (fp32)" in values["memory_added", "roberta"]["how"]
    assert not any("shape" in c["equal_in"] for c in results["comparisons"])
    page = (tmp_path / "report" / "index.html").read_text()
    assert "roberta, by transformers" in page and "no knob is shared" in page and "not what the others reach" in page
