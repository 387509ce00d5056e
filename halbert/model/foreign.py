"""Encoders of another architecture (RoBERTa, DeBERTa, ModernBERT …), computed by transformers and asked as ours are.

They take the place of :class:`halbert.model.encoder.Encoder`, so that training, probes and the torch engine need not know.
The architecture is one that transformers itself has; code from a model's folder is never run.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from halbert.errors import InputError, missing_extra
from halbert.model.outputs import EncoderOutput
from halbert.spec import ATTENTION_DROPOUTS, COUNTED, DROPOUTS, ForeignSpec

# Keys of a config.json by which transformers would bring code or other files: kernels of the hub (attn_implementation
# "org/name"), quantisers, backbones, classes of the folder's own; and the kind, which is given by itself.
_FETCHES = re.compile(
    r"^_|^model_type$|implementation$|^quantization|^auto_map$|backbone|^use_kernels?$|^kernel_config$|^custom_"
)


def transformers_of() -> Any:
    """The library. Raises :class:`halbert.errors.MissingExtra`."""
    try:
        import transformers
    except ImportError:
        raise missing_extra("transformers", "others", "an encoder of another architecture") from None
    logging.getLogger("transformers").setLevel(logging.ERROR)  # it says much that is of no use here
    transformers.utils.logging.disable_progress_bar()
    return transformers


def configuration(config: dict[str, Any], where: str) -> Any:
    """transformers' own object for a ``config.json``. Raises :class:`InputError` for what is no encoder it knows."""
    transformers = transformers_of()
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise InputError(
            f"{where}: model_type is {kind!r}, which transformers {transformers.__version__} does not know"
        )
    try:
        found = transformers.AutoConfig.for_model(kind, **{k: v for k, v in config.items() if not _FETCHES.search(k)})
    except Exception as fault:  # each configuration checks itself in its own way
        raise InputError(f"{where}: transformers cannot use it: {str(fault)[:300]}") from None
    # What learns to fill in masked pieces reads in both directions.
    if type(found) not in MODEL_FOR_MASKED_LM_MAPPING or found.is_encoder_decoder:
        raise InputError(f"{where}: {kind} is no encoder; Halbert compares encoders")
    return found


def without_pooler(model: Any) -> Any:
    """The model without a pooler of its own, where it has one: heads that need one get the same for every encoder."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


class ForeignEncoder(nn.Module):
    """transformers' module, and a pooler as BERT's where the spec asks for one."""

    def __init__(self, spec: ForeignSpec) -> None:
        super().__init__()
        self.spec = spec
        self.checkpoint_activations = False
        told = configuration(json.loads(spec.config), spec.model_type)
        for names, value in (
            (DROPOUTS, spec.hidden_dropout_prob),
            (ATTENTION_DROPOUTS, spec.attention_probs_dropout_prob),
        ):
            own = [name for name in names if hasattr(told, name)]
            if own and getattr(told, own[0]) != value:  # asked for by a recipe
                for name in own:
                    setattr(told, name, value)
        with torch.device("cpu"):  # its buffers (positions, frequencies) are computed, not loaded
            from transformers import AutoModel
            from transformers.initialization import no_init_weights

            with no_init_weights():
                self.model = without_pooler(AutoModel.from_config(told, dtype=torch.float32))
        for module in self.model.modules():  # and are no part of a bundle
            module._non_persistent_buffers_set.update(module._buffers)
        self.pooler = nn.Linear(spec.hidden_size, spec.hidden_size) if spec.pooler == "tanh" else None
        self._segments = (
            spec.type_vocab_size > 1 and "token_type_ids" in inspect.signature(self.model.forward).parameters
        )
        self._usual = self.model.config._attn_implementation

    def forward(
        self,
        ids_BS: Tensor,
        mask_BS: Tensor | None = None,
        segments_BS: Tensor | None = None,
        *,
        columns_BQ: Tensor | None = None,
        hidden_states: bool = False,
        attentions: bool = False,
        **packed: Tensor | None,
    ) -> EncoderOutput:
        """As :meth:`halbert.model.encoder.Encoder.forward`; rows cannot be packed."""
        if any(value is not None for value in packed.values()):
            raise InputError(f"{self.spec.model_type}: rows cannot be packed for transformers")
        if attentions and self._usual != "eager":  # faster kernels do not keep them
            self.model.set_attn_implementation("eager")
        how: dict[str, Any] = {"token_type_ids": segments_BS} if self._segments and segments_BS is not None else {}
        mask = torch.ones_like(ids_BS) if mask_BS is None else mask_BS
        try:
            found = self.model(
                input_ids=ids_BS, attention_mask=mask, output_hidden_states=hidden_states,
                output_attentions=attentions, return_dict=True, **how,
            )  # fmt: skip
        finally:
            if attentions and self._usual != "eager":
                self.model.set_attn_implementation(self._usual)
        x_BSH = found.last_hidden_state
        pooled_BH = None if self.pooler is None else torch.tanh(self.pooler(x_BSH[:, 0]))
        if columns_BQ is not None:
            x_BSH = x_BSH.gather(1, columns_BQ[:, :, None].expand(-1, -1, x_BSH.shape[-1]))
        return EncoderOutput(
            last_BSH=x_BSH,
            pooled_BH=pooled_BH,
            hidden_states=list(found.hidden_states) if hidden_states else None,
            attentions=list(found.attentions) if attentions else None,
        )


def positions_of(model: Any, told: Any) -> int:
    """The longest sequence: what the table of positions holds behind its padding, or what the configuration says."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return int(getattr(told, "max_position_embeddings", 512))


@torch.no_grad()
def work_of(model: Any) -> tuple[int, ...]:
    """The matrix products' FLOPs of one sequence of each of :data:`halbert.spec.COUNTED` pieces, as PyTorch counts them.

    Its counter does not know the fused attention of CPUs, so attention is spelt out meanwhile.
    """
    counts, usual = [], model.config._attn_implementation
    model.set_attn_implementation("eager")
    for length in COUNTED:
        with FlopCounterMode(display=False) as counter:
            model(input_ids=torch.full((1, length), 5), attention_mask=torch.ones(1, length, dtype=torch.long))
        counts.append(counter.get_total_flops())
    model.set_attn_implementation(usual)
    return tuple(counts)


def parts_of(model: Any) -> dict[str, int]:
    """Parameters by part, as far as their names tell: embeddings, attention, and what is left."""
    found = {"embeddings": 0, "projection": 0, "attention": 0, "ffn": 0, "pooler": 0, "mlm_head": 0, "pair_head": 0}
    for name, parameter in model.named_parameters():
        part = "embeddings" if name.startswith("embeddings") else "attention" if "att" in name else "ffn"
        found[part] += parameter.numel()
    return found
