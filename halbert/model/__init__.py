"""The encoder's mathematics in PyTorch. No files, no text.

Shape letters, used as name suffixes all through this package:

    B  batch               H  hidden width (hidden_size)
    S  sequence (pieces)   A  attention heads
    E  embedding width     D  width of one head (H / A)
    V  vocabulary          F  feed-forward width (intermediate_size)
    C  classes or choices  M  masked positions of the whole batch
    P  sequences of a packed batch (several may share a row; otherwise B)

Importing this package needs torch (extra ``train``).
"""

from __future__ import annotations

from halbert.errors import missing_extra

try:
    import torch as torch
except ImportError:
    raise missing_extra("torch", "train", "the PyTorch model") from None

from halbert.model.encoder import Encoder
from halbert.model.heads import HEADS, HeadSpec, Model
from halbert.model.outputs import EncoderOutput

__all__ = ["HEADS", "Encoder", "EncoderOutput", "HeadSpec", "Model"]
