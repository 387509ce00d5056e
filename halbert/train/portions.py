"""A training set's batches, epoch after epoch, from any step on; and rows in batches for scoring."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from halbert.data.batches import group_by_count, group_by_length, pad_rows
from halbert.data.features import NONE, Features
from halbert.data.hidden import hide
from halbert.model import Model
from halbert.spec import PretrainSpec
from halbert.text import Tokenizer
from halbert.train.objectives import TaskBatch, pooled_mean

GROUPED = ("choices", "pairs")  # forms whose examples are several rows that belong together


class Portions:
    """Features of one form as batches of ``batch_size`` examples (or windows, where an example is cut into such)."""

    def __init__(
        self,
        form: str,
        features: Features,
        tokenizer: Tokenizer,
        batch_size: int,
        seed: int,
        most: int,
        spec: PretrainSpec,
    ) -> None:
        self.form, self.features, self.tokenizer, self.spec = form, features, tokenizer, spec
        self.batch_size, self.seed, self.most = batch_size, seed, most
        # A CPU multiplies odd widths as well: 27 % of padding fell to 11 on Banking77, and 6 to 13 % of its time with it.
        self.multiple = 8 if torch.cuda.is_available() else 1
        self.widths = np.asarray(features.widths if form in GROUPED else features.lengths)
        self.an_epoch = -(-len(self.widths) // batch_size)

    def batches(self, step: int = 0) -> Iterator[Any]:
        """The batch of every step from ``step`` on; the same for the same seed, whatever was drawn before."""
        for epoch in itertools.count(step // self.an_epoch):
            rng = np.random.default_rng((self.seed, epoch))
            for number, group in enumerate(group_by_count(self.widths, self.batch_size, rng)):
                if epoch * self.an_epoch + number >= step:
                    yield self.batch(group, (self.seed, epoch, number))

    def batch(self, group: np.ndarray, seed: Sequence[int]) -> Any:
        """The examples of these numbers; ``seed`` decides what is masked."""
        features = self.features
        begins, ends = group, group + 1
        if self.form in GROUPED:
            begins, ends = features.examples_E[group], features.examples_E[group + 1]
        numbers = [r for begin, end in zip(begins, ends, strict=True) for r in range(begin, end)]
        pad = self.tokenizer.special_ids["pad"]
        rows = pad_rows([features.row(r) for r in numbers], pad, self.multiple, self.most)
        if self.form == "texts":
            return hide(rows.ids, rows.mask, self.tokenizer, self.spec, np.random.default_rng(list(seed)))
        target = features.target[group] if self.form != "tagged" else np.full(rows.ids.shape, NONE, np.int64)
        if self.form == "tagged":
            for row, r in zip(target, numbers, strict=True):
                tags = features.of("tags", r)
                row[: len(tags)] = tags
        same = np.zeros(0, np.int64)
        if self.form == "pairs":
            same = np.unique(np.array([features.row(r)[0].tobytes() for r in numbers], object), return_inverse=True)[1]
        return TaskBatch(rows, np.array(target), ends - begins, same)


@torch.inference_mode()
def outputs(
    model: Model, head: str | None, features: Features, pad_id: int, batch_tokens: int = 4096
) -> list[np.ndarray]:
    """What a head gives for every row, in order: (C,), (S, C) without padding, or without a head the mean state (H,)."""
    found: list[np.ndarray] = [np.zeros(0)] * features.rows
    device, most = next(model.parameters()).device, model.spec.max_position_embeddings
    was = model.training
    model.eval()
    for group in group_by_length(np.asarray(features.lengths), batch_tokens):
        batch = pad_rows([features.row(r) for r in group], pad_id, most=most)
        ids, mask, segments = (torch.from_numpy(array).to(device) for array in batch)
        output = model(ids, mask, segments)
        values = (pooled_mean(output, mask) if head is None else model.answer(head, output)).float().cpu().numpy()
        for r, row in zip(group, values, strict=True):
            found[r] = row[: features.lengths[r]] if row.ndim == 2 else row
    model.train(was)
    return found


@torch.inference_mode()
def masked_hits(model: Model, portions: Portions, rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(hidden pieces, those found) of every row, hidden the same way each time."""
    was, device = model.training, next(model.parameters()).device
    model.eval()
    wanted, found = np.zeros(portions.features.rows), np.zeros(portions.features.rows)
    for start in range(0, len(wanted), rows):
        group = np.arange(start, min(start + rows, len(wanted)))
        batch = portions.batch(group, (0, start))
        ids, mask, segments, positions, labels = (torch.as_tensor(array, device=device) for array in batch[:5])
        right = model.answer("mlm", model(ids, mask, segments), positions).argmax(-1) == labels
        row = batch.positions // batch.ids.shape[1]
        np.add.at(wanted, group[row], 1)
        np.add.at(found, group[row], right.cpu().numpy())
    model.train(was)
    return wanted, found
