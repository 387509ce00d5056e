"""What a batch is worth: the loss of pre-training and of fine-tuning, with its parts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from halbert.data.batches import Rows
from halbert.data.instances import IGNORED, PretrainBatch
from halbert.data.pairs import NO_LABEL
from halbert.model import EncoderOutput, Model
from halbert.model.dropout import left_to_torch
from halbert.train.vocabulary import hits, vocabulary_loss


class Loss(NamedTuple):
    """The number to go down, and its parts for people."""

    total: Tensor
    parts: dict[str, Tensor]


class Meaning(NamedTuple):
    """Vectors of pieces (V, H) whose mean says what a text means, in whatever language, and how much that counts.

    ``span``: pieces in a row that are taken for a text; 0 means the texts themselves.
    """

    table: Tensor
    weight: float
    span: int = 0


def pretraining_loss(model: Model, batch: PretrainBatch, meaning: Meaning | None = None) -> Loss:
    """Masked-piece cross entropy at the masked positions only, plus the sentence pair's (BERT paper A.2).

    Each is the mean over what there is to find: positions and rows that only fill a shape count nowhere. With ``meaning``
    also :func:`translation_loss`.
    """
    device = next(model.parameters()).device
    found = None if meaning is not None or left_to_torch(next(model.parameters())) else needed(batch)
    read: tuple[Any, ...] = (None, batch.positions, batch.starts) if found is None else found
    arrays = (*batch[:3], read[1], *batch[4:8], read[2], read[0])
    ids, mask, segments, positions, labels, pair_labels, places, sequence, starts, columns_BQ = (
        None if array is None else torch.as_tensor(array, device=device) for array in arrays
    )
    output = model(
        ids, mask, segments, position_ids_BS=places, sequence_BS=sequence, starts_P=starts, columns_BQ=columns_BQ
    )
    logits_MV = model.answer("mlm", output, positions)
    masked, right = vocabulary_loss(logits_MV, labels)
    parts = {"masked_loss": masked.detach(), "masked_accuracy": right}
    total = masked
    if "pair" in model.heads:
        logits_B2 = model.answer("pair", output).float()
        known: Tensor = pair_labels != NO_LABEL
        pairs = known.sum().clamp(min=1)  # a batch without any pair adds 0
        pair = functional.cross_entropy(logits_B2, pair_labels, ignore_index=NO_LABEL, reduction="sum") / pairs
        parts["pair_loss"] = pair.detach()
        parts["pair_accuracy"] = ((logits_B2.detach().argmax(-1) == pair_labels) & known).sum() / pairs
        total = total + pair
    if meaning is not None:
        assert not (ids is None or mask is None or positions is None or labels is None)  # a batch has them
        flat = ids.flatten()
        whole = flat.scatter(0, positions, torch.where(labels == IGNORED, flat[positions], labels)).view_as(ids)
        there, most = (mask, 1) if sequence is None else (sequence, ids.shape[1] // 3)  # [CLS] a piece [SEP]
        if meaning.span:
            number_S = torch.arange(ids.shape[1], device=device) // meaning.span + 1
            there, most = number_S * (there > 0), math.ceil(ids.shape[1] / meaning.span)
        far = translation_loss(output.last_BSH.float(), whole, there, most, meaning.table)
        parts["translation_loss"] = far.detach()
        total = total + meaning.weight * far
    return Loss(total, parts)


def translation_loss(states_BSH: Tensor, ids_BS: Tensor, sequence_BS: Tensor, most: int, table_VH: Tensor) -> Tensor:
    """How far a text's mean state points from the mean of its pieces' vectors in the table: 1 - cosine, both centred.

    As Reimers and Gurevych 2020 teach a student by a teacher's vectors of sentences; here the teacher is a table
    (``halbert/train/translations.py``). ``sequence_BS`` numbers the texts of a row from 1 to at most ``most``; 0 is
    padding. Centred is over the texts of a batch, which one process has whole.
    """
    number_N = torch.arange(1, most + 1, device=ids_BS.device)
    among_BNS = (sequence_BS[:, None, :] == number_N[:, None]).to(states_BSH.dtype)
    count_BN1 = among_BNS.sum(-1, keepdim=True)
    text_BN1 = (count_BN1 > 0).to(states_BSH.dtype)

    def centred(vectors_BSH: Tensor) -> Tensor:
        means_BNH = among_BNS @ vectors_BSH / count_BN1.clamp(min=1)
        return means_BNH - (means_BNH * text_BN1).sum((0, 1)) / text_BN1.sum()

    near_BN = functional.cosine_similarity(centred(states_BSH), centred(table_VH[ids_BS]), dim=-1)
    return ((1 - near_BN) * text_BN1[:, :, 0]).sum() / text_BN1.sum()


class Needed(NamedTuple):
    """The columns (B, Q) whose last states are read, and where in these B * Q the masked pieces and starts are."""

    columns: np.ndarray
    positions: np.ndarray
    starts: np.ndarray | None


def needed(batch: PretrainBatch) -> Needed | None:
    """What the objectives read of a batch: masked pieces and the first piece of each instance; None where that is most.

    In the last block nothing else has to be computed, which is a sixth of what a model of four layers costs.
    """
    B, S = batch.ids.shape
    firsts = np.arange(B) * S
    flat = np.unique(
        np.concatenate([firsts, batch.positions, () if batch.starts is None else batch.starts]).astype(np.int64)
    )
    row = flat // S
    begins = np.searchsorted(row, np.arange(B))
    place = np.arange(len(flat)) - begins[row]
    Q = int(place.max()) + 1
    if 2 * Q > S:
        return None
    columns = np.zeros((B, Q), np.int64)
    columns[row, place] = flat % S
    at = row * Q + place

    def where(positions: np.ndarray) -> np.ndarray:
        return at[np.searchsorted(flat, torch.as_tensor(positions).numpy())]

    return Needed(columns, where(batch.positions), None if batch.starts is None else where(batch.starts))


class TaskBatch(NamedTuple):
    """Rows of some examples, what is to be learnt of them, and how many rows each example has (E,).

    ``target`` (E, …), or (R, 2) places, or (R, S) tags. ``same`` (R,) numbers texts of pairs, equal ones alike.
    """

    rows: Rows
    target: np.ndarray
    sizes: np.ndarray
    same: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """1 where there is a real piece (R, S)."""
        return self.rows.mask


class Wanted(NamedTuple):
    """What a recipe asks of a task's loss; ``weights`` (C,) of the classes."""

    weights: Tensor | None = None
    smoothing: float = 0.0
    temperature: float = 0.05


def task_loss(form: str, wanted: Wanted, model: Model, batch: TaskBatch) -> Loss:
    """The loss of a batch of one form of data. ``parts`` has it without smoothing, as ``loss``."""
    return _LOSSES[form](wanted, model, batch)


def _encoded(model: Model, batch: TaskBatch, pooled: bool = False) -> EncoderOutput:
    """The states of all pieces; where only pooled ones are read, the last block computes no others."""
    device = next(model.parameters()).device
    ids, mask, segments = (torch.as_tensor(array, device=device) for array in batch.rows)
    columns = torch.zeros_like(ids[:, :1]) if pooled else None
    output: EncoderOutput = model(ids, mask, segments, columns_BQ=columns)
    return output


def _target(batch: TaskBatch, like: Tensor) -> Tensor:
    return torch.as_tensor(batch.target, device=like.device)


def _classes(wanted: Wanted, logits: Tensor, target: Tensor) -> Loss:
    """Cross entropy over the last axis; targets below 0 count nowhere."""
    logits, weights = logits.float(), None if wanted.weights is None else wanted.weights.to(logits.device)
    known = target != IGNORED
    counted = known if weights is None else known * weights[target.clamp(min=0)]
    # By hand, since torch's mean over none is not a number: a window may own none of its words' first pieces.
    entropy = functools.partial(
        functional.cross_entropy, logits, target, weights, ignore_index=IGNORED, reduction="sum"
    )
    divisor = counted.sum().clamp(min=torch.finfo(logits.dtype).tiny)
    plain = entropy() / divisor
    total = entropy(label_smoothing=wanted.smoothing) / divisor if wanted.smoothing else plain
    right = hits(logits.detach(), target) / known.sum().clamp(min=1)
    return Loss(total, {"loss": plain.detach(), "accuracy": right})


def _labelled(wanted: Wanted, model: Model, batch: TaskBatch) -> Loss:
    logits_BC = model.answer("label", _encoded(model, batch, pooled=True))
    target = _target(batch, logits_BC)
    if target.ndim == 1:
        return _classes(wanted, logits_BC, target)
    loss = functional.binary_cross_entropy_with_logits(logits_BC.float(), target.float(), pos_weight=wanted.weights)
    return Loss(loss, {"loss": loss.detach()})


def _scored(wanted: Wanted, model: Model, batch: TaskBatch) -> Loss:
    scores_B = model.answer("score", _encoded(model, batch, pooled=True))[:, 0].float()
    loss = functional.mse_loss(scores_B, _target(batch, scores_B).float())
    return Loss(loss, {"loss": loss.detach()})


def _choices(wanted: Wanted, model: Model, batch: TaskBatch) -> Loss:
    """Candidates of one text against each other; texts may have different numbers of them."""
    scores_R = model.answer("choice", _encoded(model, batch, pooled=True))[:, 0].float()
    sizes = torch.as_tensor(batch.sizes, device=scores_R.device)
    most = int(batch.sizes.max())
    there = torch.arange(most, device=scores_R.device) < sizes[:, None]
    table = scores_R.new_full((len(sizes), most), torch.finfo(torch.float32).min).masked_scatter(there, scores_R)
    # Smoothing would reach for the candidates that only fill the table.
    return _classes(wanted._replace(smoothing=0.0, weights=None), table, _target(batch, scores_R))


def _tagged(wanted: Wanted, model: Model, batch: TaskBatch) -> Loss:
    logits_BSC = model.answer("tag", _encoded(model, batch))
    return _classes(wanted, logits_BSC.flatten(0, 1), _target(batch, logits_BSC).flatten())


def _questions(wanted: Wanted, model: Model, batch: TaskBatch) -> Loss:
    """The mean of the cross entropies of the first and of the last piece; padding is no place."""
    logits_BS2 = model.answer("span", _encoded(model, batch)).float()
    mask = torch.as_tensor(batch.rows.mask, device=logits_BS2.device)
    logits_BS2 = logits_BS2.masked_fill((mask == 0)[:, :, None], torch.finfo(torch.float32).min)
    target, plain = _target(batch, logits_BS2), wanted._replace(smoothing=0.0, weights=None)
    first, last = (_classes(plain, logits_BS2[:, :, side], target[:, side]) for side in (0, 1))
    found = (logits_BS2.detach().argmax(1) == target).all(1).float().mean()
    loss = (first.total + last.total) / 2
    return Loss(loss, {"loss": loss.detach(), "accuracy": found})


def pooled_mean(output: EncoderOutput, mask_BS: Tensor) -> Tensor:
    """The mean of a row's real pieces (B, H)."""
    weights = mask_BS[:, :, None].to(output.last_BSH.dtype)
    return (output.last_BSH * weights).sum(1) / weights.sum(1)


def _pairs(wanted: Wanted, model: Model, batch: TaskBatch) -> Loss:
    """Pairs near each other. With scores: CoSENT, every pair with a higher score should be nearer than one with a lower.

    Without: each first text should be nearer to its second than to the others' second and third texts (in-batch negatives;
    Henderson et al. 2017), over cosines divided by the temperature. No negatives are texts that are equal to the second, and
    other second texts of the same first.
    """
    output = _encoded(model, batch)
    mask = torch.as_tensor(batch.rows.mask, device=output.last_BSH.device)
    vectors = functional.normalize(pooled_mean(output, mask).float(), dim=-1)
    sizes, same = (torch.as_tensor(array, device=vectors.device) for array in (batch.sizes, batch.same))
    begins = sizes.cumsum(0) - sizes
    first, second, target = vectors[begins], vectors[begins + 1], _target(batch, vectors)
    if not bool(torch.isnan(target).any()):
        near = (first * second).sum(1) / wanted.temperature
        gaps = (near[None, :] - near[:, None])[target[:, None] > target[None, :]]  # [higher, lower]
        loss = torch.logsumexp(torch.cat([gaps.new_zeros(1), gaps]), 0)
        return Loss(loss, {"loss": loss.detach()})
    third = vectors[begins[sizes == 3] + 2]
    with torch.autocast(vectors.device.type, enabled=False):  # cosines divided by the temperature need all their digits
        scores = first @ torch.cat([second, third]).T / wanted.temperature
    mine, right = same[begins], same[begins + 1]
    hidden = right[:, None] == torch.cat([right, same[begins[sizes == 3] + 2]])[None, :]
    hidden[:, : len(right)] |= mine[:, None] == mine[None, :]
    hidden.fill_diagonal_(False)
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return _classes(
        wanted._replace(smoothing=0.0, weights=None), scores, torch.arange(len(first), device=scores.device)
    )


def _texts(wanted: Wanted, model: Model, batch: PretrainBatch) -> Loss:
    loss = pretraining_loss(model, batch)
    return Loss(loss.total, {"loss": loss.parts["masked_loss"], "accuracy": loss.parts["masked_accuracy"]})


_LOSSES: dict[str, Callable[[Wanted, Model, Any], Loss]] = {
    "labelled": _labelled, "scored": _scored, "choices": _choices, "tagged": _tagged, "questions": _questions,
    "pairs": _pairs, "texts": _texts,
}  # fmt: skip
