"""Name or directory → tokenizer and transformer. Hub names need a network the first time, directories never do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heed.errors import CheckpointError
from heed.models.checkpoint import ADAPTER
from heed.models.files import read_json
from heed.models.vocabulary import check_vocabulary, has_pad, pad_entry
from heed.words import reason

Loaded = TypeVar("Loaded")

TOKENIZERS = (
    "tokenizer_config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json",
)  # fmt: skip
"""Files of which a directory has one at least if it holds a tokenizer."""


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer whose pad token is an entry that the model has an embedding for, and not EOS; embeddings never grow.

    `name` is what the model is called by: of an adapter without a tokenizer the base's is read. Raises
    `CheckpointError` where there is none, and where text could become a token that the model has no embedding for.
    """
    directory = Path(name)
    base = read_json(directory / ADAPTER).get("base_model_name_or_path") if (directory / ADAPTER).is_file() else None
    found = any((directory / file).is_file() for file in TOKENIZERS)
    if directory.is_dir() and not found and not base:
        hint = f"save that of the model it was made from: AutoTokenizer.from_pretrained(…).save_pretrained({name!r})"
        raise CheckpointError(name, "holds no tokenizer", hint)
    tokenizer: PreTrainedTokenizerBase = from_pretrained(
        AutoTokenizer.from_pretrained, name if found or not base else str(base)
    )
    if tokenizer.eos_token_id is None:
        raise CheckpointError(
            name, "its tokenizer has no end-of-text token", "set `eos_token` in tokenizer_config.json"
        )
    rows = vocabulary_size(load_config(base or name))
    check_vocabulary(tokenizer, rows, name)
    if not has_pad(tokenizer, rows):
        tokenizer.pad_token = pad_entry(tokenizer, rows, name)
    return tokenizer


def load_config(name: str) -> PreTrainedConfig:
    """The architecture of a model, without its weights. Raises `CheckpointError` where these are quantised: adapters,
    merging and the comparison with the stock logits need them as they are."""
    config: PreTrainedConfig = from_pretrained(AutoConfig.from_pretrained, name)
    if quantised := getattr(config, "quantization_config", None):
        kind = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        told = f"its weights are quantised ({kind}), which is not reproduced here"
        raise CheckpointError(name, told, "give the model that it was made from, in bfloat16, float16 or float32")
    return config


def parameter_count(name: str) -> int:
    """Parameters of a model, from its config alone."""
    config = load_config(name)

    def empty(name: str) -> PreTrainedModel:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)

    return int(from_pretrained(empty, name).num_parameters())


def vocabulary_size(config: PreTrainedConfig) -> int:
    """Entries that a model has an embedding for: often a few more than its tokenizer knows."""
    return int(config.get_text_config().vocab_size)


def context_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
    """Tokens that a model can see at most, by its config and by its tokenizer, whichever says less."""
    text = config.get_text_config()
    told = [getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    if tokenizer is not None:
        told.append(tokenizer.model_max_length)
    return int(min([length for length in told if length], default=1 << 20))


def load_causal_lm(
    name: str, dtype: torch.dtype, device: torch.device, headless: bool = False
) -> tuple[PreTrainedModel, bool]:
    """A causal language model in evaluation mode, every dropout off, nothing trainable; and whether it lacks what
    predicts tokens, which is zero then. `headless` allows that, for the transformer of a reward model.

    Raises `CheckpointError` where other weights are missing, for which transformers would put random ones.
    """
    model: PreTrainedModel
    model, told = from_pretrained(AutoModelForCausalLM.from_pretrained, name, dtype=dtype, output_loading_info=True)
    body = f"{model.base_model_prefix}."
    missing = [key for key in told["missing_keys"] if key.startswith(body) or not headless]
    if missing:
        hint = "give a model that is a causal language model, whole"
        raise CheckpointError(name, f"has no weights for {min(missing)}", hint)
    for key in told["missing_keys"]:
        model.get_parameter(key).data.zero_()
    return without_dropout(model.to(device).eval()).requires_grad_(False), bool(told["missing_keys"])


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
    """Call a transformers loader, and say plainly when the files are not there, or not what they should be."""
    try:
        return load(name, **options)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 — the files are somebody's: what a loader trips over is told, whatever it is
        kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
        whose = "its tokenizer " if load == AutoTokenizer.from_pretrained else ""
        raise CheckpointError(name, f"{whose}cannot be loaded: {kind}{reason(error)}", _way_out(name, error)) from None


def _way_out(name: str, error: Exception) -> str:
    if "custom code" in str(error):
        return "code that comes with a model is not run here; docs/architectures.md lists what is read without"
    if isinstance(error, ImportError):
        return "install what is missing, or give a model that does not need it"
    if Path(name).is_dir():
        return "are its files whole, and of one model? copy or save them again; does stock transformers load them?"
    return "give the directory of a model, or a hub name while online (or with the model in the hub cache)"
