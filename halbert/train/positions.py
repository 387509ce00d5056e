"""Positions that no step has trained yet: at the beginning of a longer phase they become copies of those that have been.

Google's programs train most steps with short rows and the last with long ones (BERT paper A.2), whose further positions are
then as they were drawn, and the loss leaps. Copies say at once what comes before what within their part of the row; that
this is a good beginning is Beltagy et al.'s (2020, Longformer, section 5), who lengthen a trained model so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from halbert.train.loader import Loaded
from halbert.train.loop import Run
from halbert.train.recipe import Stage


def lengthened(batches: Iterator[Loaded], stages: Sequence[Stage], run: Run) -> Iterator[Loaded]:
    """A run's batches; before the first of a phase that is longer than all before it the further positions are copied."""
    longest = 0
    for found in batches:
        for stage in stages:
            if stage.begin <= run.progress.step and stage.length > longest:
                if stage.begin == run.progress.step and longest:
                    copy_positions(run.model.encoder.embeddings.position.weight, longest, stage.length)
                longest = stage.length
        yield found


@torch.no_grad()
def copy_positions(table_PE: torch.Tensor, trained: int, length: int) -> None:
    """Rows from ``trained`` up to ``length`` become those of the beginning, in their order, as often as there is room."""
    whole = table_PE.full_tensor() if isinstance(table_PE, DTensor) else table_PE
    source = torch.arange(trained, length, device=whole.device) % trained
    whole = torch.cat([whole[:trained], whole[source], whole[length:]])
    if isinstance(table_PE, DTensor):
        whole = distribute_tensor(whole, table_PE.device_mesh, table_PE.placements)
    table_PE.copy_(whole)
