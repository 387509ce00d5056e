"""Data sets by name: their columns, labels and metrics, the papers' settings and the scores that were published.

``usual`` is BERT's (paper, appendix A.3 and section 4; google-research/bert, README), ``shared`` is ALBERT's (paper,
table 14). Published scores are in percent: BERT's GLUE scores of table 1 (test), ALBERT's of table 9 (development, single
model, 1.5 M steps), the others of the table their ``source`` names.
"""

from __future__ import annotations

import msgspec

from halbert.tasks.table import TASKS, Published, Task

BERT_1, BERT_2, BERT_3, BERT_4, BERT_7 = (f"BERT paper, table {n}" for n in (1, 2, 3, 4, 7))
ALBERT_2, ALBERT_9, ALBERT_10 = (f"ALBERT paper, table {n}" for n in (2, 9, 10))

MULTI = "google-research/bert, multilingual.md"


def _albert(
    rate: float, batch: int, dropout: float, steps: int, warmup: int, length: int = 512
) -> dict[str, float | int]:
    """A row of table 14; its classifier dropout is 0.1 throughout."""
    return {
        "learning_rate": rate, "batch_size": batch, "dropout": dropout, "classifier_dropout": 0.1, "steps": steps,
        "warmup_share": round(warmup / steps, 6), "length": length,
    }  # fmt: skip


def _glue(metric: str, base: float, large: float, albert: float | None) -> tuple[Published, ...]:
    found = [
        Published("bert-base", "test", metric, base, BERT_1), Published("bert-large", "test", metric, large, BERT_1),
    ]  # fmt: skip
    if albert is not None:
        found.append(Published("albert-xxlarge", "dev", metric, albert, ALBERT_9))
    return tuple(found)


def _row(name: str, kind: str, **changes: object) -> Task:
    return msgspec.structs.replace(TASKS[kind], name=name, **changes)


_GLUE = {"batch_size": 32, "epochs": 3, "length": 128}
_ENTAILS = ("entailment", "not_entailment")
_NLI = ("contradiction", "entailment", "neutral")
_PAIR = {"text_a": "sentence1", "text_b": "sentence2"}
_SQUAD = {"epochs": 3, "learning_rate": 5e-5, "batch_size": 32, "length": 384, "stride": 128}

NAMED = {
    task.name: task
    for task in (
        _row("cola", "classify", metrics=("mcc", "accuracy"), columns={"text": "4", "label": "2"}, header=False,
             labels=("0", "1"), usual=_GLUE, shared=_albert(1e-5, 16, 0, 5336, 320), published=_glue("mcc", 52.1, 60.5, 71.4)),
        _row("sst2", "classify", metrics=("accuracy",), columns={"text": "sentence"}, labels=("0", "1"), usual=_GLUE,
             shared=_albert(1e-5, 32, 0, 20935, 1256), published=_glue("accuracy", 93.5, 94.9, 96.9)),
        _row("mrpc", "classify", metrics=("f1", "accuracy"),
             columns={"text_a": "#1 String", "text_b": "#2 String", "label": "Quality"}, labels=("0", "1"), usual=_GLUE,
             shared=_albert(2e-5, 32, 0, 800, 200), published=_glue("f1", 88.9, 89.3, 90.9)),
        _row("stsb", "regress", metrics=("spearman", "pearson"), columns={**_PAIR, "score": "score"}, usual=_GLUE,
             shared=_albert(2e-5, 16, 0, 3598, 214), published=_glue("spearman", 85.8, 86.5, 93.0)),
        _row("qqp", "classify", metrics=("f1", "accuracy"),
             columns={"text_a": "question1", "text_b": "question2", "label": "is_duplicate"}, labels=("0", "1"),
             usual=_GLUE, shared=_albert(5e-5, 128, 0.1, 14000, 1000), published=_glue("f1", 71.2, 72.1, None)),
        _row("mnli", "classify", metrics=("accuracy",), columns={**_PAIR, "label": "gold_label"}, labels=_NLI, usual=_GLUE,
             shared=_albert(3e-5, 128, 0, 10000, 1000),
             published=(*_glue("accuracy", 84.6, 86.7, 90.8), Published("albert-base", "dev", "accuracy", 81.6, ALBERT_2))),
        _row("qnli", "classify", metrics=("accuracy",), columns={"text_a": "question", "text_b": "sentence"},
             labels=_ENTAILS, usual=_GLUE, shared=_albert(1e-5, 32, 0, 33112, 1986),
             published=_glue("accuracy", 90.5, 92.7, 95.3)),
        _row("rte", "classify", metrics=("accuracy",), columns=_PAIR, labels=_ENTAILS, usual=_GLUE,
             shared=_albert(3e-5, 32, 0.1, 800, 200), published=_glue("accuracy", 66.4, 70.1, 89.2)),
        _row("wnli", "classify", metrics=("accuracy",), columns=_PAIR, labels=("0", "1"), usual=_GLUE,
             shared=_albert(2e-5, 16, 0.1, 2000, 250)),
        _row("squad1", "answer", usual=_SQUAD, shared=_albert(5e-5, 48, 0, 3649, 365, 384) | {"stride": 128},
             published=(
                 Published("bert-base", "dev", "answer_f1", 88.5, BERT_2),
                 Published("bert-base", "dev", "exact_match", 80.8, BERT_2),
                 Published("bert-large", "dev", "answer_f1", 90.9, BERT_2),
                 Published("bert-large", "dev", "exact_match", 84.1, BERT_2),
                 Published("albert-base", "dev", "answer_f1", 89.3, ALBERT_2),
                 Published("albert-base", "dev", "exact_match", 82.3, ALBERT_2),
                 Published("albert-xxlarge", "dev", "answer_f1", 94.8, ALBERT_10),
                 Published("albert-xxlarge", "dev", "exact_match", 89.3, ALBERT_10),
             )),
        _row("squad2", "answer", usual=_SQUAD | {"epochs": 2, "batch_size": 48},
             shared=_albert(3e-5, 48, 0, 8144, 814) | {"stride": 128},
             published=(
                 Published("bert-large", "dev", "answer_f1", 81.9, BERT_3),
                 Published("bert-large", "dev", "exact_match", 78.7, BERT_3),
                 Published("bert-large", "test", "answer_f1", 83.1, BERT_3),
                 Published("bert-large", "test", "exact_match", 80.0, BERT_3),
                 Published("albert-base", "dev", "answer_f1", 80.0, ALBERT_2),
                 Published("albert-base", "dev", "exact_match", 77.1, ALBERT_2),
                 Published("albert-xxlarge", "dev", "answer_f1", 90.2, ALBERT_10),
                 Published("albert-xxlarge", "dev", "exact_match", 87.4, ALBERT_10),
             )),
        _row("swag", "choose",
             columns={"text": "sent1", "prefix": "sent2", "choices": ("ending0", "ending1", "ending2", "ending3")},
             usual={"epochs": 3, "learning_rate": 2e-5, "batch_size": 16},
             published=(
                 Published("bert-base", "dev", "accuracy", 81.6, BERT_4),
                 Published("bert-large", "dev", "accuracy", 86.6, BERT_4),
                 Published("bert-large", "test", "accuracy", 86.3, BERT_4),
             )),
        _row("race", "choose", columns={"text": "article", "prefix": "question", "choices": "options", "label": "answer"},
             shared=_albert(2e-5, 32, 0.1, 12000, 1000),
             published=(
                 Published("albert-base", "dev", "accuracy", 64.0, ALBERT_2),
                 Published("bert-base", "dev", "accuracy", 68.2, ALBERT_2),
                 Published("albert-xxlarge", "test", "accuracy", 86.5, ALBERT_10),
             )),
        _row("commonsenseqa", "choose",
             columns={"text": "question.stem", "choices": "question.choices", "label": "answerKey"},
             usual={"batch_size": 16, "length": 64}),
        _row("xnli", "classify", metrics=("accuracy",), columns={**_PAIR, "label": "gold_label", "language": "language"},
             labels=_NLI, usual=_GLUE, about="learnt in one language, scored in each language of the file",
             published=(
                 Published("bert-base-chinese", "test (zh)", "accuracy", 77.2, MULTI),
                 Published("bert-base-multilingual-uncased", "test (zh), trained on zh", "accuracy", 74.2, MULTI),
                 *(Published("bert-base-multilingual-uncased", f"test ({language}), trained on en", "accuracy", value, MULTI)
                   for language, value in (
                       ("en", 81.4), ("zh", 63.8), ("es", 74.3), ("de", 70.5), ("ar", 62.1), ("ur", 58.3))),
             )),
        _row("paws-x", "classify", metrics=("accuracy", "f1"), columns=_PAIR, labels=("0", "1"), usual=_GLUE),
        _row("conll2003", "tag", columns={"text": "1", "label": "4"}, usual={"epochs": 3, "batch_size": 32},
             published=(
                 Published("bert-base", "dev", "entity_f1", 96.4, BERT_7), Published("bert-base", "test", "entity_f1", 92.4, BERT_7),
                 Published("bert-large", "dev", "entity_f1", 96.6, BERT_7),
                 Published("bert-large", "test", "entity_f1", 92.8, BERT_7),
             )),
        _row("wnut17", "tag", columns={"text": "1", "label": "2"}),
        _row("ud-pos", "tag", columns={"text": "2", "label": "4"}, metrics=("tag_accuracy", "macro_tag_f1")),
    )
}  # fmt: skip
