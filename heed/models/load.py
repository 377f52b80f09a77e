"""Name or directory → tokenizer and transformer. Hub names need a network the first time, directories never do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heed.errors import CheckpointError

Loaded = TypeVar("Loaded")

# Names by which tokenizers call a padding or a never-used token. The last one is byte 0xFF of a byte-level
# vocabulary, which no valid UTF-8 text contains: GPT-2 has no pad token of its own, and pad must not be EOS.
PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<unk>", "ÿ")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer whose pad token is an existing entry of its vocabulary and is not EOS; embeddings never grow."""
    tokenizer: PreTrainedTokenizerBase = from_pretrained(AutoTokenizer.from_pretrained, name)
    if tokenizer.eos_token_id is None:
        raise CheckpointError(
            name, "its tokenizer has no end-of-text token", "set `eos_token` in tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        unused = [pad for pad in PAD_NAMES if pad in vocabulary and pad != tokenizer.eos_token]
        if not unused:
            raise CheckpointError(
                name,
                "its tokenizer has no pad token other than its end-of-text token",
                "name a rare entry of its vocabulary as `pad_token` in tokenizer_config.json",
            )
        tokenizer.pad_token = unused[0]
    return tokenizer


def load_config(name: str) -> PreTrainedConfig:
    """The architecture of a model, without its weights."""
    return from_pretrained(AutoConfig.from_pretrained, name)


def parameter_count(name: str) -> int:
    """Parameters of a model, from its config alone."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(load_config(name))
    return int(model.num_parameters())


def context_length(config: PreTrainedConfig) -> int:
    """Tokens that a model can see at most."""
    return int(getattr(config, "max_position_embeddings", None) or 1 << 20)


def load_causal_lm(name: str, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A causal language model in evaluation mode, every dropout off, nothing trainable.

    Raises `CheckpointError` where weights are missing, for which transformers would put random ones.
    """
    model: PreTrainedModel
    model, told = from_pretrained(AutoModelForCausalLM.from_pretrained, name, dtype=dtype, output_loading_info=True)
    if told["missing_keys"]:
        raise CheckpointError(
            name,
            f"has no weights for {min(told['missing_keys'])}",
            "give a model that is a causal language model, whole",
        )
    return without_dropout(model.to(device).eval()).requires_grad_(False)


def without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """Set every dropout probability to 0, so that a later `train()` cannot bring one back."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_dropout", "hidden_dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    return model


def from_pretrained(load: Callable[..., Loaded], name: str, **options: Any) -> Loaded:
    """Call a transformers loader, and say plainly when the files are not there."""
    try:
        return load(name, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            name,
            f"cannot be loaded: {str(error).strip().splitlines()[0]}",
            "give the directory of a model, or a hub name while online (or with the model in the hub cache)",
        ) from None
