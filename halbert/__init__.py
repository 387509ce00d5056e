"""Halbert: BERT and ALBERT, one encoder, side by side and measured.

Importing this package loads neither torch nor openvino; each name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from halbert.version import __version__ as __version__

_WHERE = {
    "Bundle": "halbert.bundle",
    "EncoderSpec": "halbert.spec",
    "HalbertError": "halbert.errors",
    "ModelSpec": "halbert.spec",
    "Predictor": "halbert.run.predictor",
    "PretrainSpec": "halbert.spec",
    "TextSpec": "halbert.spec",
    "Tokenizer": "halbert.text",
    "compare": "halbert.compare",
    "difference": "halbert.spec",
    "evaluate": "halbert.run.evaluation",
    "finetune": "halbert.train.finetuning",
    "load": "halbert.run.predictor",
    "load_bundle": "halbert.source",
    "presets": "halbert.presets",
    "pretrain": "halbert.train.pretraining",
    "quantize": "halbert.run.build",
}

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'halbert' has no attribute {name!r}")
    module = importlib.import_module(_WHERE[name])
    return module if module.__name__ == f"halbert.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
