"""A task's files ready to be trained on: the head with its labels, rows for training and for scoring, what to say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from halbert.bundle import Bundle
from halbert.data.features import Features, check_labels, check_tags, ordered
from halbert.data.forms import encode
from halbert.data.labelled import Survey, survey
from halbert.data.readers import Example
from halbert.errors import InputError, SpecError, nearest
from halbert.heads import HeadSpec
from halbert.model import Model
from halbert.tasks import answers
from halbert.tasks.answers import best_threshold
from halbert.tasks.judging import Judged, judged, metrics_of
from halbert.tasks.metrics import METRICS
from halbert.tasks.table import Task
from halbert.tasks.undefined import Undefined
from halbert.train.objectives import Wanted
from halbert.train.portions import Portions, masked_hits, outputs
from halbert.train.recipe import FinetuneRecipe
from halbert.train.trivial import trivial_loss

FEW = 30  # questions with an answer, or without, that say too little of a model
LEARNT = 0.1  # F1 over the questions that have an answer, from which something was learnt


class Prepared(NamedTuple):
    """What all seeds share. ``metrics`` fit the head and the data; ``trivial`` is the loss of reading nothing."""

    task: Task
    head: HeadSpec | None
    train: Features
    dev: Features
    examples: list[Example]
    survey: Survey
    metrics: tuple[str, ...]
    trivial: float | None
    notes: tuple[str, ...]


def head_of(task: Task, found: Survey, where: str) -> HeadSpec | None:
    """The head a task needs for its training data. Raises :class:`InputError` when its labels cannot be used."""
    if task.head is None:
        return None
    if task.head in ("label", "tag"):
        unknown = sorted(found.labels.keys() - set(task.labels))
        if task.labels and unknown:
            raise InputError(
                f"{where}: the label {unknown[0]!r}{nearest(unknown[0], task.labels)} is none of {task.title}'s; "
                f"expected {', '.join(task.labels)}"
            )
        labels = task.labels or ordered(found.labels, where)
        return HeadSpec(kind=task.head, labels=labels, several=found.several)
    if task.head == "span":
        return HeadSpec(kind="span", none_above=0.0 if found.unanswerable else None)
    return HeadSpec(kind=task.head, choices=max(2, found.candidates))


def prepare(
    bundle: Bundle, task: Task, train: Iterable[Example], dev: Iterable[Example], recipe: FinetuneRecipe,
    where: str = "training data", dev_where: str = "dev data",
) -> Prepared:  # fmt: skip
    """Read and encode both files. ``train`` is iterated twice and never held; ``dev`` is held.

    Raises :class:`InputError` for data that cannot be used and :class:`SpecError` for a length beyond the model's.
    """
    positions = bundle.spec.encoder.max_position_embeddings
    if recipe.length > positions:
        raise SpecError(f"length {recipe.length} exceeds this model's {positions} positions")
    examples = list(dev)
    found = survey(train, where, examples)
    if not found.count:
        raise InputError(f"{where}: holds no examples")
    head = head_of(task, found, where)
    if head is not None and head.labels:
        (check_tags if head.kind == "tag" else check_labels)(examples, head.labels, dev_where)
    features, dev_features = (
        encode(task.form, rows, bundle.tokenizer, recipe.length, head, recipe.stride) for rows in (train, examples)
    )
    if not features.rows:
        raise InputError(
            f"{where}: its texts hold no pieces of this model's vocabulary; nothing can be learnt from them"
        )
    unhidden = [bundle.tokenizer.special_ids[name] for name in ("cls", "sep", "pad", "mask")]
    trivial = trivial_loss(
        task.form,
        head,
        found,
        features,
        recipe.class_weights == "balanced",
        recipe.batch_size,
        unhidden,
    )
    metrics = metrics_of(task.judges(head), task.form, dev_features)
    return Prepared(
        task,
        head,
        features,
        dev_features,
        examples,
        found,
        metrics,
        trivial,
        tuple(_notes(found, features, recipe, where, dev_where)),
    )


def _notes(found: Survey, features: Features, recipe: FinetuneRecipe, where: str, dev_where: str) -> Iterable[str]:
    cut = features.cut
    if cut.rows:
        yield (
            f"{where}: {cut.rows:,} rows were longer than {recipe.length} pieces (the longest {cut.longest:,}) and lost "
            f"{cut.pieces:,} pieces in all"
        )
    if found.overlap:
        yield f"{found.overlap:,} examples of {where} are in {dev_where} too: its scores are better than they would be on new texts"


def wanted_of(prepared: Prepared, recipe: FinetuneRecipe) -> Wanted:
    """What the loss needs of a recipe: class weights in inverse proportion to frequency, with a mean of 1 an example."""
    weights, head = None, prepared.head
    if recipe.class_weights == "balanced" and head is not None and head.labels:
        counts = np.array([prepared.survey.labels.get(label, 0) for label in head.labels], float)
        if head.several:
            weights = (prepared.survey.count - counts) / np.maximum(counts, 1)
        else:
            weights = counts.sum() / (np.maximum(counts, 1) * len(counts))
    tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    return Wanted(tensor, recipe.label_smoothing, recipe.temperature)


def start_model(bundle: Bundle, head: HeadSpec | None, seed: int, recipe: FinetuneRecipe | None = None) -> Model:
    """The bundle's encoder with a fresh head; without a pooler where the head does not read one.

    An encoder that has no pooler but needs one gets a fresh one too, as transformers does. A masked-piece head is the
    bundle's own, if it has one; without a head, or with this one, the pooler stays as it is.

    A fresh head's weights have a standard deviation of ``1 / sqrt(H)``, which keeps the variance of what it reads (LeCun
    et al. 1998, 4.6). With the encoder's own 0.02 a short run spends its steps on the head alone (decision 48).
    """
    encoder = bundle.spec.encoder
    heads: dict[str, HeadSpec] = {} if head is None else {head.kind: head}
    if (
        head is not None and head.kind == "choice"
    ):  # one number a row: texts may differ in how many candidates they have
        heads = {head.kind: msgspec.structs.replace(head, choices=1)}
    if head is not None and head.kind != "mlm":
        encoder = msgspec.structs.replace(encoder, pooler="tanh" if head.row.states == "pooled" else "none")
    if recipe is not None and recipe.dropout is not None:
        encoder = msgspec.structs.replace(
            encoder, hidden_dropout_prob=recipe.dropout, attention_probs_dropout_prob=recipe.dropout
        )
    if recipe is not None and recipe.classifier_dropout is not None:
        encoder = msgspec.structs.replace(encoder, classifier_dropout_prob=recipe.classifier_dropout)
    with torch.device("meta"):  # drawing a number for every weight that is replaced anyway takes seconds
        model = Model(encoder, heads)
    own = {name for name, _ in model.named_parameters()}
    known = {
        name: a for name, a in bundle.arrays.items() if name in own and name.startswith(("encoder.", "heads.mlm."))
    }
    model = model.allocate().initialize(seed, but=known)
    if head is not None and head.kind != "mlm":
        weight = model.heads[head.kind].dense.weight
        torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=torch.Generator().manual_seed(seed))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, array in known.items():
            parameters[name].copy_(torch.from_numpy(np.array(array, np.float32)))
    return model


def judge(
    model: Model, prepared: Prepared, portions: Portions, head: HeadSpec | None, precision: str = "fp32"
) -> Judged:
    """Truths and guesses on the dev examples."""
    if prepared.task.form == "texts":
        return Judged(*masked_hits(model, portions))
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        values = outputs(
            model, None if head is None else head.kind, prepared.dev, portions.tokenizer.special_ids["pad"]
        )
    return judged(prepared.task.form, head, values, prepared.dev, prepared.examples)


def with_threshold(head: HeadSpec | None, found: Judged) -> tuple[HeadSpec | None, Judged]:
    """A span head with the lead of "no answer" that is best on ``found`` (by F1), where some questions have none, and
    what is found with it."""
    if head is None or head.none_above is None or found.leads is None or found.given is None:
        return head, found
    has = np.array([bool(some) for some in found.truth], bool)
    if has.all():
        return head, found
    at = best_threshold(has, answers.f1(found.truth, found.given), found.leads).at
    return msgspec.structs.replace(head, none_above=at), found.above(at)


def silent(head: HeadSpec | None, found: Judged) -> str:
    """What is wrong with a model that may give no answer and gains nothing by the answers it gives; "" if nothing is.

    That is where F1 over the questions that have an answer is below 0.1, and over all it is not above that of answering
    nothing by two standard errors of the gain. Not asked where fewer than 30 questions have an answer, or fewer than 30
    have none.
    """
    if head is None or head.kind != "span" or head.none_above is None:
        return ""
    has = np.array([bool(some) for some in found.truth], bool)
    if min(has.sum(), (~has).sum()) < FEW:
        return ""
    scores = answers.f1(found.truth, found.guess)
    gains = scores - ~has
    if scores[has].mean() >= LEARNT or gains.mean() > 2 * gains.std() / np.sqrt(len(gains)):
        return ""
    return (
        f"its answers have an F1 of {scores.mean():.3f}, no better than giving none, which has {(~has).mean():.3f} "
        f"(of the questions that have an answer {scores[has].mean():.3f})"
    )


def value_of(name: str, found: Judged) -> float | None:
    """A metric without its interval."""
    try:
        return METRICS[name].value(found.truth, found.guess) if len(found.truth) else None
    except Undefined:
        return None
