"""Draw responses from the whole distribution of a model: no top-k, no top-p, no penalty, no minimum length.

Hugging Face's `generate` keeps the 50 likeliest tokens unless told otherwise, and a policy gradient on samples of
one distribution that is scored with another is how KL goes negative. Here nothing stands between logits and draw.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from heed.batches import PromptBatch, Responses
from heed.models.trunk import Trunk


class RoomyLayer(DynamicLayer):
    """Keys and values with room for what is to come: the stock layer copies the whole cache at every token."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            batch, heads, _, size = key_states.shape
            self.dtype, self.device = key_states.dtype, key_states.device
            self.all_keys = key_states.new_empty(batch, heads, self.room, size)
            self.all_values = value_states.new_empty(batch, heads, self.room, value_states.shape[-1])
            self.is_initialized = True
        self.all_keys[:, :, self.length : end] = key_states
        self.all_values[:, :, self.length : end] = value_states
        self._show(end)
        return self.keys, self.values

    def select(self, rows: Tensor) -> None:
        """Keep some rows, in the given order; a row may be named more than once."""
        self.all_keys, self.all_values = self.all_keys[rows], self.all_values[rows]
        self._show(self.length)

    def _show(self, length: int) -> None:
        self.length = length
        self.keys, self.values = self.all_keys[:, :, :length], self.all_values[:, :, :length]


@torch.no_grad()
def sample(
    trunk: Trunk,
    prompts: PromptBatch,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator,
    copies: int = 1,
) -> Responses:
    """Draw `copies` responses to each prompt, token by token, until end-of-text or `max_new_tokens`.

    The adapter is the one that is active in the trunk. A prompt is read once whatever the number of copies; row
    i·copies + j of the result is copy j of prompt i. Rows that have ended leave the batch. `temperature` 0 takes
    the likeliest token.
    """
    eos, pad = trunk.tokenizer.eos_token_id, trunk.tokenizer.pad_token_id
    batch, width = prompts.tokens.shape
    cache = DynamicCache()
    cache.layers = [RoomyLayer(width + max_new_tokens) for _ in range(trunk.model.config.num_hidden_layers)]
    hidden = trunk.hidden(prompts.tokens, prompts.mask, cache)[:, -1]
    rows = torch.arange(batch, device=hidden.device).repeat_interleave(copies)
    if copies > 1:
        hidden = hidden[rows]
        _select(cache, rows)
    mask = prompts.mask[rows]
    drawn = rows.new_full((batch * copies, max_new_tokens), pad)
    logprobs = torch.zeros(drawn.shape, device=hidden.device)
    counted = torch.zeros(drawn.shape, dtype=torch.bool, device=hidden.device)
    alive = torch.arange(batch * copies, device=hidden.device)  # the row of the result that each live row writes
    for step in range(max_new_tokens):
        tokens, chosen = _draw(trunk.logits(hidden.contiguous()), temperature, generator)
        drawn[alive, step], logprobs[alive, step], counted[alive, step] = tokens, chosen, True
        going = (tokens != eos).nonzero()[:, 0]
        if step + 1 == max_new_tokens or len(going) == 0:
            break
        if len(going) < len(tokens):
            alive, tokens, mask = alive[going], tokens[going], mask[going]
            _select(cache, going)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        hidden = trunk.hidden(tokens[:, None], mask, cache)[:, -1]
    longest = int(counted.sum(dim=1).max())
    return Responses(drawn[:, :longest], counted[:, :longest], logprobs[:, :longest])


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if temperature == 0:
        logprobs = logits.log_softmax(dim=-1)
        tokens = logprobs.argmax(dim=-1)
    else:
        logprobs = (logits / temperature).log_softmax(dim=-1)
        tokens = torch.multinomial(logprobs.exp(), 1, generator=generator)[:, 0]
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def _select(cache: DynamicCache, rows: Tensor) -> None:
    for layer in cache.layers:
        layer.select(rows)
