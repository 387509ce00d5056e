"""Small encoders of other architectures, written by transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "the cat sat on the mat",
    "a dog ran in the park with joy",
    "what a terrible film",
    "what a wonderful film",
] * 5
SHAPE = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 44}
OWN: dict[str, dict[str, Any]] = {
    "roberta": {"max_position_embeddings": 130, "type_vocab_size": 1, "pad_token_id": 1},
    "modernbert": {
        "max_position_embeddings": 128, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0,
        "sep_token_id": 2, "local_attention": 16, "global_attn_every_n_layers": 2,
    },
    "deberta-v2": {
        "max_position_embeddings": 128, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 16,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
        "pad_token_id": 1,
    },
    "megatron-bert": {"max_position_embeddings": 128, "type_vocab_size": 2, "pad_token_id": 1},
}  # fmt: skip


def rules(segmented: bool) -> Tokenizer:
    """A byte-level BPE as RoBERTa's; with segments, pieces of words as the others'."""
    if segmented:
        found = Tokenizer(models.WordPiece(unk_token="<unk>"))
        found.normalizer = normalizers.BertNormalizer()
        found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        found.decoder = decoders.WordPiece()
        train: Any = trainers.WordPieceTrainer
        more: dict[str, Any] = {}
    else:
        found = Tokenizer(models.BPE(unk_token="<unk>"))
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = decoders.ByteLevel()
        train, more = trainers.BpeTrainer, {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    found.train_from_iterator(TEXTS, train(vocab_size=300, special_tokens=special, show_progress=False, **more))
    pair = "<s>:0 $A:0 </s>:0 $B:1 </s>:1" if segmented else "<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0"
    found.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0 </s>:0", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return found


def write(kind: str, folder: Path, longest: int = 64, **changes: Any) -> Path:
    """A folder as people download it, weights drawn."""
    from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    fast = rules(kind == "megatron-bert")
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=fast.get_vocab_size(), **SHAPE, **OWN[kind], **changes)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=fast, cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
        model_max_length=longest,
    ).save_pretrained(folder)  # fmt: skip
    return folder
