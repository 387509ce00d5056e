"""What a batch is worth: the loss of pre-training and of fine-tuning, with its parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from halbert.data.batches import Rows
from halbert.data.instances import IGNORED, PretrainBatch
from halbert.data.pairs import NO_LABEL
from halbert.errors import SpecError
from halbert.model import Model


class Loss(NamedTuple):
    """The number to go down, and its parts for people."""

    total: Tensor
    parts: dict[str, Tensor]


def pretraining_loss(model: Model, batch: PretrainBatch) -> Loss:
    """Masked-piece cross entropy at the masked positions only, plus the sentence pair's (BERT paper A.2).

    Each is the mean over what there is to find: positions and rows that only fill a shape count nowhere.
    """
    if batch.sequence is not None:
        raise SpecError("rows of several instances need attention within each; draw batches without packed")
    device = next(model.parameters()).device
    ids, mask, segments, positions, labels, pair_labels = (torch.from_numpy(array).to(device) for array in batch[:6])
    output = model(ids, mask, segments)
    logits_MV = model.answer("mlm", output, positions)
    count = (labels != IGNORED).sum().clamp(min=1)
    masked = functional.cross_entropy(logits_MV.float(), labels, ignore_index=IGNORED, reduction="sum") / count
    parts = {
        "masked_loss": masked.detach(),
        "masked_accuracy": (logits_MV.detach().argmax(-1) == labels).sum() / count,
    }
    total = masked
    if "pair" in model.heads and bool((pair_labels != NO_LABEL).any()):
        logits_B2 = model.answer("pair", output)
        pair = functional.cross_entropy(logits_B2.float(), pair_labels, ignore_index=NO_LABEL)
        known = pair_labels != NO_LABEL
        parts["pair_loss"] = pair.detach()
        parts["pair_accuracy"] = (logits_B2.detach().argmax(-1) == pair_labels)[known].float().mean()
        total = total + pair
    return Loss(total, parts)


class LabelledBatch(NamedTuple):
    """Rows and their class numbers (B,)."""

    rows: Rows
    classes: Tensor


def label_loss(model: Model, batch: LabelledBatch) -> Loss:
    """Cross entropy of the ``label`` head."""
    device = next(model.parameters()).device
    ids, mask, segments = (torch.from_numpy(array).to(device) for array in batch.rows)
    classes = batch.classes.to(device)
    logits_BC = model.answer("label", model(ids, mask, segments))
    loss = functional.cross_entropy(logits_BC.float(), classes)
    accuracy = (logits_BC.detach().argmax(-1) == classes).float().mean()
    return Loss(loss, {"loss": loss.detach(), "accuracy": accuracy})
