"""How a scalar model is written: as the stock class of its architecture, or where there is none in heed's own layout.

heed's own layout is the policy's: a causal language model, or an adapter of one, that stock classes open; and beside it
`score.safetensors` with one tensor, `score.weight` `[1, width]`, the head that reads its last hidden states.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from heed.models.readout import FAILURES

AUTO = {"reward": AutoModelForSequenceClassification, "value": AutoModelForTokenClassification}
STOCK_NAMES = {kind: auto.__name__ for kind, auto in AUTO.items()}


class Layout(NamedTuple):
    """`stock`: transformers' class without memory for its weights, whose head is the module `head`. None: heed's own,
    because `why`."""

    stock: PreTrainedModel | None
    head: str = "score"
    why: str = ""


def layout_of(model: PreTrainedModel, kind: str) -> Layout:
    """How a reward or value model of this architecture is written. Needs no memory and writes nothing."""
    config: PreTrainedConfig = type(model.config).from_dict(model.config.to_dict())
    config.num_labels = 1
    auto = AUTO[kind]
    try:
        with torch.device("meta"):
            stock: PreTrainedModel = auto.from_config(config)
    except FAILURES:
        return Layout(None, why=f"transformers has no {auto.__name__} of {config.model_type}")
    heads = [name for name in ("score", "classifier") if isinstance(getattr(stock, name, None), nn.Linear)]
    if not heads or not _same_body(stock, model) or stock.get_submodule(heads[0]).weight.shape[0] != 1:
        return Layout(None, why=f"{type(stock).__name__} is more than a linear layer on the transformer")
    return Layout(stock, heads[0])


def _same_body(stock: PreTrainedModel, model: PreTrainedModel) -> bool:
    """Whether the transformer inside a stock class is the same, by the same names."""
    own = {name.replace(".base_layer.", ".") for name, _ in model.base_model.named_parameters() if ".lora_" not in name}
    prefixes = stock.base_model_prefix == model.base_model_prefix
    return prefixes and own == {name for name, _ in stock.base_model.named_parameters()}
