"""Training: one loop for pre-training and fine-tuning. Needs the extra ``train``."""

from __future__ import annotations

import importlib.util

from halbert.errors import missing_extra

if importlib.util.find_spec("torch") is None:  # not imported: reading a recipe needs it not, and takes no second
    raise missing_extra("torch", "train", "training")
