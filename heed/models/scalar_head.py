"""One number from a transformer: a score per response (reward model) or a value per token (value model)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from heed.batches import PromptBatch, RankingBatch, Responses
from heed.errors import CheckpointError
from heed.models.adapter import HEADS, PREFIX
from heed.models.checkpoint import HEAD, Checkpoint
from heed.models.files import find_tensors
from heed.models.layout import Layout, layout_of
from heed.models.policy import scatter, whole
from heed.models.trunk import Trunk


def new_head(width: int, generator: torch.Generator) -> nn.Linear:
    """A scalar head with weights from N(0, 1/(width + 1)), as in OpenAI's code: scores start with unit variance."""
    head = nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.randn(1, width, generator=generator) / (width + 1) ** 0.5)
    return head


@dataclass(frozen=True)
class ScalarModel:
    """A trunk, one of its adapters, a float32 head, and the normalisation `gain · raw + bias`."""

    trunk: Trunk
    adapter: str | None
    head: nn.Linear
    gain: float = 1.0
    bias: float = 0.0

    def parameters(self) -> dict[str, nn.Parameter]:
        """What training changes: the adapter (or the transformer's body) and the head, which is called `score`."""
        if self.adapter is not None:
            body = self.trunk.adapter_parameters(self.adapter)
        else:
            body = dict(self.trunk.body.named_parameters())
        return {**body, "score.weight": self.head.get_parameter("weight")}

    @contextmanager
    def trainable(self) -> Iterator[dict[str, nn.Parameter]]:
        """The parameters, requiring gradients inside the block only."""
        parameters = self.parameters()
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        try:
            yield parameters
        finally:
            for parameter in parameters.values():
                parameter.requires_grad_(False)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Every forward AND backward pass of this model happens inside this block."""
        with self.trunk.active(self.adapter):
            yield

    def read(self, hidden: Float[Tensor, "... width"]) -> Float[Tensor, "..."]:
        """The normalised number that the head reads from hidden states, in float32."""
        raw: Tensor = self.head(hidden.float())[..., 0]
        return self.gain * raw + self.bias

    def normalised(self, gain: float, bias: float) -> ScalarModel:
        """The same model with another normalisation."""
        return replace(self, gain=gain, bias=bias)


class RewardModel(ScalarModel):
    """A score per response, read at the last real token: its end-of-text token where the response finished."""

    def scores(self, tokens: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, " batch"]:
        """Normalised scores of whole texts, padded on either side. Call inside `active()`."""
        index = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        last = index.masked_fill(~mask, -1).argmax(dim=1)
        hidden = self.trunk.hidden(tokens, mask)
        return self.read(hidden[torch.arange(len(last), device=mask.device), last])

    def scores_of(self, batch: RankingBatch) -> Float[Tensor, " responses"]:
        """Normalised scores of the responses, as of `scores`, each prompt read once whatever the number of its
        responses. Call inside `active()`."""
        device, segments = self.trunk.device, batch.segments.to(self.trunk.device)
        asked, answered = batch.prompts.mask.to(device), batch.mask.to(device)
        tokens, mask = batch.tokens.to(device), torch.cat([asked[segments], answered], dim=1)
        prompts = batch.prompts.tokens.to(device)
        if self.trunk.reads_lines:
            return self.scores(torch.cat([prompts[segments], tokens], dim=1), mask)
        cache = DynamicCache()
        self.trunk.hidden(prompts, asked, cache)
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[segments], layer.values[segments]
        hidden = self.trunk.hidden(tokens, mask, cache)
        last = answered.sum(dim=1) - 1
        return self.read(hidden[torch.arange(len(last), device=device), last])

    def score_responses(self, prompts: PromptBatch, responses: Responses) -> Float[Tensor, " batch"]:
        """Normalised scores of sampled responses, from the very tokens that were sampled. Call inside `active()`."""
        tokens, mask, _ = whole(prompts, responses)
        return self.scores(tokens, mask)


class ValueModel(ScalarModel):
    """The expected score of a response that is not yet finished, before each of its tokens is written."""

    def values(self, prompts: PromptBatch, responses: Responses) -> Float[Tensor, "batch response"]:
        """`values[:, t]` is read before response token t; 0 where the mask is False. Call inside `active()`."""
        tokens, mask, counted = whole(prompts, responses)
        hidden = self.trunk.hidden(tokens, mask)[:, :-1]
        return scatter(self.read(hidden)[counted[:, 1:]], responses.mask)


def load_head(checkpoint: Checkpoint) -> tuple[nn.Linear, float]:
    """The scalar head of a reward or value checkpoint, in stock layout or in heed's own, and the bias that it adds.

    Raises `CheckpointError` where there is no head, or one of several numbers.
    """
    wanted = frozenset(
        f"{prefix}{name}.{kind}" for prefix in ("", PREFIX) for name in HEADS for kind in ("weight", "bias")
    )
    found = {key.rpartition(".")[2]: tensor.float() for key, tensor in find_tensors(Path(checkpoint.path), wanted)}
    if "weight" not in found:
        raise CheckpointError(checkpoint.name, "has no scalar head", "give a run of `heed reward`")
    numbers, width = found["weight"].shape
    if numbers != 1:
        told = f"its head gives {numbers} numbers a text, not 1"
        raise CheckpointError(checkpoint.name, told, "use a reward model that was trained with num_labels=1")
    head = nn.Linear(width, 1, bias=False).requires_grad_(False)
    head.weight.data.copy_(found["weight"])
    return head, float(found.get("bias", torch.zeros(1)))


def save_scalar(model: ScalarModel, path: Path) -> Layout:
    """Write a reward model (`…ForSequenceClassification`) or value model (`…ForTokenClassification`) that stock
    transformers and peft open, or where there is no such class in heed's own; returns which.

    They give the raw number; `heed.json` holds gain and bias.
    """
    path.mkdir(parents=True, exist_ok=True)
    layout = layout_of(model.trunk.model, kind_of(model))
    weight = model.head.weight.detach().cpu().clone()
    if layout.stock is None:
        if model.adapter is not None:
            model.trunk.save_adapter(model.adapter, path, "CAUSAL_LM")
        else:
            model.trunk.model.save_pretrained(path)
        save_file({"score.weight": weight}, path / HEAD)
    else:
        _save_stock(model, layout.stock, layout.head, weight, path)
    model.trunk.tokenizer.save_pretrained(path)
    return layout


def _save_stock(model: ScalarModel, stock: PreTrainedModel, module: str, weight: Tensor, path: Path) -> None:
    head = {f"{module}.weight": weight}
    if stock.get_submodule(module).bias is not None:
        head[f"{module}.bias"] = torch.zeros(1)
    if model.adapter is not None:
        task = "SEQ_CLS" if isinstance(model, RewardModel) else "TOKEN_CLS"
        model.trunk.save_adapter(model.adapter, path, task, module, head)
        return
    stock.config.reward_gain, stock.config.reward_bias = model.gain, model.bias
    stock.to_empty(device="cpu").float()
    stock.base_model.load_state_dict(model.trunk.body.state_dict())
    stock.load_state_dict(head, strict=False)
    stock.save_pretrained(path)


def kind_of(model: object) -> str:
    """policy, reward or value."""
    return "reward" if isinstance(model, RewardModel) else "value" if isinstance(model, ValueModel) else "policy"
