"""One fine-tuning of ``benchmarks/finetune.py``, in a process of its own.

    python -m benchmarks.tuners ENGINE TASK DATA SEED [STEPS]

Prints one JSON object: seconds of the training loop and from the labelled file to the trained model, examples a second,
peak memory, and the score on the test file with the time it took to predict it, tokenisation included. The Trainer has
its own defaults but for what a recipe names: rate, warm-up, decay, batch size, epochs, seed.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.tasks import checkpoint
from halbert.data.labelled import DataFile
from halbert.data.readers import Example
from halbert.memory import kept_memory
from halbert.tasks import answers
from halbert.tasks.decoding import Window, decode_answer
from halbert.tasks.table import get_task

ENGINES = (
    "halbert", "trainer bf16", "trainer bf16 grouped", "trainer bf16 grouped kept", "trainer fp32", "trainer fp32 padded",
)  # fmt: skip


class Job(NamedTuple):
    """What is tuned: files below the data folder, columns, and the recipe of both sides."""

    task: str
    train: str
    test: str
    columns: dict[str, str]
    recipe: dict[str, Any]
    metric: str
    padded: int  # pieces that the padded Trainer fills every row up to; run_glue and run_qa have these


JOBS = {
    "Banking77": Job(
        "classify", "banking77/train.csv", "banking77/test.csv", {"label": "category"},
        {"epochs": 2, "learning_rate": 3e-4, "batch_size": 32, "length": 128}, "accuracy", 128,
    ),
    "STS-B": Job(
        "stsb", "glue/STS-B/train.tsv", "glue/STS-B/test.tsv", {},
        {"epochs": 1, "learning_rate": 1e-4, "batch_size": 16, "length": 128}, "spearman", 128,
    ),
    "SQuAD 1.1 format": Job(
        "squad1", "train.json", "test.json", {},
        {"epochs": 1, "learning_rate": 2e-4, "batch_size": 16, "length": 384, "stride": 128}, "f1", 384,
    ),
}  # fmt: skip


def score(job: Job, truth: list[Any], guess: list[Any]) -> float:
    """The task's metric, by the libraries that the official programs use."""
    if job.metric == "spearman":
        from scipy import stats

        return float(stats.spearmanr(truth, guess).statistic)
    if job.metric == "f1":
        return float(answers.f1(truth, guess).mean())
    return float(np.mean([t == g for t, g in zip(truth, guess, strict=True)]))


def truth_of(job: Job, examples: list[Example]) -> list[Any]:
    """What was to be said of each example."""
    if job.metric == "f1":
        return [[text for _, text in e.answers or ()] for e in examples]
    return [e.score if job.metric == "spearman" else e.label for e in examples]


def ours(job: Job, train: DataFile, test: list[Example], seed: int, steps: int) -> dict[str, Any]:
    """Halbert's own way, as ``halbert finetune`` and ``halbert predict`` go it."""
    import halbert
    from halbert.source import resolve_bundle
    from halbert.train.finetuning import finetune_once, usual_recipe
    from halbert.train.prepared import prepare

    began = time.perf_counter()
    bundle = resolve_bundle(str(checkpoint()))
    task = get_task(job.task)
    recipe = usual_recipe(task, bundle.spec.encoder, {**job.recipe, "seed": seed, "keep": "last", "steps": steps})
    prepared = prepare(bundle, task, train, (), recipe)
    run = finetune_once(bundle, task, train, (), recipe, prepared=prepared)
    rate = prepared.survey.count / prepared.train.rows if task.form == "questions" else 1.0  # a batch is of windows
    told = {
        "loop_seconds": run.summary["seconds"], "wall_seconds": time.perf_counter() - began,
        "examples": run.summary["steps"] * recipe.batch_size * rate, "memory": peak(), "precision": run.summary["precision"],
    }  # fmt: skip
    predictor = halbert.load(run.bundle)
    began = time.perf_counter()
    pairs = [e.pair or "" for e in test] if test[0].pair is not None else None
    found = predictor.predict([e.text for e in test], pairs, long="window", max_length=recipe.length)
    key: Callable[[dict[str, Any]], Any] = {
        "accuracy": lambda row: row["label"], "spearman": lambda row: row["score"],
        "f1": lambda row: row["answer"]["text"] if row["answer"] else "",
    }[job.metric]  # fmt: skip
    guess = [key(row) for row in found]
    return {**told, "predict_seconds": time.perf_counter() - began, "score": score(job, truth_of(job, test), guess)}


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows in memory, as the Trainer takes them."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.column_names = list(rows[0])  # the Trainer looks here for lengths to group by

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int | str) -> Any:
        return [row[i] for row in self.rows] if isinstance(i, str) else self.rows[i]


def theirs(job: Job, train: DataFile, test: list[Example], seed: int, steps: int, engine: str) -> dict[str, Any]:
    """transformers' Trainer; "padded" as run_glue and run_qa do it by default, the others pad to a batch's longest row."""
    import transformers

    transformers.logging.set_verbosity_error()
    # Imported when they are first asked for; a user's program imports them before it begins.
    kinds = {"f1": transformers.AutoModelForQuestionAnswering}
    kind = kinds.get(job.metric, transformers.AutoModelForSequenceClassification)
    assert transformers.AutoTokenizer and transformers.Trainer and transformers.TrainingArguments
    began = time.perf_counter()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint())
    padded = "padded" in engine
    examples, recipe = list(train), job.recipe
    labels = sorted({e.label or "" for e in examples}) if job.metric == "accuracy" else []
    transformers.set_seed(seed)
    model: Any = kind.from_pretrained(checkpoint(), **({} if job.metric == "f1" else {"num_labels": len(labels) or 1}))
    shown = {"train_sampling_strategy": "group_by_length"} if "grouped" in engine else {}
    on_gpu = torch.cuda.is_available()
    arguments = transformers.TrainingArguments(
        output_dir="unused", per_device_train_batch_size=recipe["batch_size"], per_device_eval_batch_size=32,
        learning_rate=recipe["learning_rate"], weight_decay=0.01, warmup_steps=0.1, lr_scheduler_type="linear",
        num_train_epochs=recipe["epochs"], max_steps=steps or -1, seed=seed, bf16="bf16" in engine,
        bf16_full_eval=False, use_cpu=not on_gpu, dataloader_pin_memory=on_gpu, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, **shown,
    )  # fmt: skip
    encoded = encode(job, tokenizer, examples, labels, padded)
    collate = transformers.DataCollatorWithPadding(tokenizer, padding="longest")
    trainer = transformers.Trainer(model, arguments, train_dataset=Rows(encoded), data_collator=collate)
    with kept_memory() if "kept" in engine else contextlib.nullcontext():
        done = trainer.train()
    rate = len(examples) / len(encoded)  # of questions read in several windows
    told = {
        "loop_seconds": done.metrics["train_runtime"], "wall_seconds": time.perf_counter() - began,
        "examples": done.global_step * recipe["batch_size"] * rate, "memory": peak(),
        "precision": "bf16" if "bf16" in engine else "fp32",
    }  # fmt: skip
    began = time.perf_counter()
    rows = encode(job, tokenizer, test, [], padded)
    kept = [{k: v for k, v in row.items() if k not in ("owner", "spans", "begins")} for row in rows]
    trainer.args.train_sampling_strategy = (
        "random"  # "group_by_length" predicts in an order of its own and does not say it
    )
    values = trainer.predict(Rows(kept)).predictions
    guess = guesses(job, test, rows, values, labels)
    return {**told, "predict_seconds": time.perf_counter() - began, "score": score(job, truth_of(job, test), guess)}


def encode(job: Job, tokenizer: Any, examples: list[Example], labels: list[str], padded: bool) -> list[dict[str, Any]]:
    """Rows of ids with what is to be learnt; to be scored on (no ``labels`` then), questions keep where pieces stand."""
    pairs = [e.pair for e in examples] if examples[0].pair is not None else None
    length = {"truncation": "only_second" if job.metric == "f1" else True, "max_length": job.padded}
    shape = {**length, "padding": "max_length" if padded else False}
    texts = [e.text for e in examples]
    if job.metric == "f1":
        return questions(tokenizer, examples, {**shape, "stride": job.recipe["stride"]})
    rows = tokenizer(texts, pairs, **shape)
    found = [{name: rows[name][i] for name in rows} for i in range(len(texts))]
    for row, e in zip(found, examples, strict=True):
        if labels:
            row["labels"] = labels.index(e.label or "")
        elif e.score is not None:
            row["labels"] = float(e.score)
    return found


def questions(tokenizer: Any, examples: list[Example], shape: dict[str, Any]) -> list[dict[str, Any]]:
    """run_qa's windows: a row for each, its first and last piece of the answer ([CLS] where it holds none)."""
    rows = tokenizer(
        [e.text.lstrip() for e in examples], [e.pair for e in examples], return_overflowing_tokens=True,
        return_offsets_mapping=True, **shape,
    )  # fmt: skip
    found = []
    for i, owner in enumerate(rows["overflow_to_sample_mapping"]):
        places = np.array(rows["offset_mapping"][i])
        places[np.array([s != 1 for s in rows.sequence_ids(i)])] = -1
        (begin, text), *_ = examples[owner].answers or ((-1, ""),)
        starts = np.flatnonzero((places[:, 0] <= begin) & (places[:, 1] > begin))
        ends = np.flatnonzero((places[:, 0] < begin + len(text)) & (places[:, 1] >= begin + len(text)))
        here = len(starts) > 0 and len(ends) > 0
        row = {name: rows[name][i] for name in ("input_ids", "token_type_ids", "attention_mask")}
        row["start_positions"] = int(starts[0]) if here else 0
        row["end_positions"] = int(ends[0]) if here else 0
        found.append({**row, "owner": owner, "spans": places})
    return found


def guesses(job: Job, test: list[Example], rows: list[dict[str, Any]], values: Any, labels: list[str]) -> list[Any]:
    """What the Trainer's logits say; of a question the best answer that any window has, as run_qa does."""
    if job.metric == "accuracy":
        return [labels[i] for i in values.argmax(-1)]
    if job.metric == "spearman":
        return [float(v) for v in values[:, 0]]
    windows: dict[int, list[Window]] = {}
    for row, start, end in zip(rows, *values[:2], strict=True):
        size = len(row["spans"])
        logits = np.stack([start[:size], end[:size]], -1)
        windows.setdefault(row["owner"], []).append(Window(logits, row["spans"], np.ones(size, bool)))
    found = [decode_answer(windows[i], e.pair or "", None) for i, e in enumerate(test)]
    return [row["answer"]["text"] if row["answer"] else "" for row in found]


def peak() -> int:
    """Bytes: the most this process held; of a GPU the most that was allocated there."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Tune, predict, tell."""
    engine, name, data, seed = sys.argv[1:5]
    steps = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    sys.stdout, out = sys.stderr, sys.stdout
    job = JOBS[name]
    row = get_task(job.task)
    columns = {**row.columns, **job.columns}
    train, test = (
        DataFile(Path(data) / f, row.form, columns=columns, header=row.header) for f in (job.train, job.test)
    )
    told = (
        ours(job, train, list(test), int(seed), steps)
        if engine == "halbert"
        else theirs(job, train, list(test), int(seed), steps, engine)
    )
    print(json.dumps({"threads": torch.get_num_threads(), "tested": len(list(test)), **told}), file=out)


if __name__ == "__main__":
    main()
