"""A torch model's parameters as numpy arrays under our names, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from halbert.errors import WeightsError
from halbert.heads import HeadSpec
from halbert.model.heads import Model
from halbert.spec import EncoderSpec


def arrays_of(model: Model) -> dict[str, np.ndarray]:
    """A copy of every parameter, float32, under the names a bundle uses; put together where processes hold parts of it."""
    whole = ((name, p.full_tensor() if isinstance(p, DTensor) else p) for name, p in model.named_parameters())
    return {name: p.detach().to("cpu", torch.float32).numpy().copy() for name, p in whole}


def model_of(spec: EncoderSpec, heads: Mapping[str, HeadSpec], arrays: Mapping[str, np.ndarray]) -> Model:
    """A model with these parameters. Raises :class:`WeightsError` naming what does not fit."""
    with torch.device("meta"):
        model = Model(spec, dict(heads))
    tensors = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in arrays.items()}
    try:
        model.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"the arrays do not fit the specification: {error}") from None
    return model
