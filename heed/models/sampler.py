"""Draw responses from the whole distribution of a model: no top-k, no top-p, no penalty, no minimum length.

Hugging Face's `generate` keeps the 50 likeliest tokens unless told otherwise, and a policy gradient on samples of
one distribution that is scored with another is how KL goes negative. Here nothing stands between logits and draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.models.cache import roomy_cache, select
from heed.models.trunk import Trunk


@torch.no_grad()
def sample(
    trunk: Trunk,
    prompts: PromptBatch,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator,
    copies: int = 1,
) -> Responses:
    """Draw `copies` responses to each prompt, token by token, until an end of text or `max_new_tokens`.

    The adapter is the one that is active in the trunk. A prompt is read once whatever the number of copies; row
    i·copies + j of the result is copy j of prompt i. Rows that have ended leave the batch. `temperature` 0 takes
    the likeliest token.
    """
    pad, ends = trunk.tokenizer.pad_token_id, torch.tensor(sorted(trunk.stop_ids), device=trunk.device)
    batch, width = prompts.tokens.shape
    cache = roomy_cache(trunk.model, width + max_new_tokens)
    hidden = trunk.hidden(prompts.tokens, prompts.mask, cache)[:, -1]
    rows = torch.arange(batch, device=hidden.device).repeat_interleave(copies)
    if copies > 1:
        hidden = hidden[rows]
        select(cache, rows)
    mask = prompts.mask[rows]
    drawn = rows.new_full((batch * copies, max_new_tokens), pad)
    logprobs = torch.zeros(drawn.shape, device=hidden.device)
    counted = torch.zeros(drawn.shape, dtype=torch.bool, device=hidden.device)
    alive = torch.arange(batch * copies, device=hidden.device)  # the row of the result that each live row writes
    for step in range(max_new_tokens):
        tokens, chosen = _draw(trunk.logits(hidden.contiguous()), temperature, generator)
        drawn[alive, step], logprobs[alive, step], counted[alive, step] = tokens, chosen, True
        going = (~torch.isin(tokens, ends)).nonzero()[:, 0]
        if step + 1 == max_new_tokens or len(going) == 0:
            break
        if len(going) < len(tokens):
            alive, tokens, mask = alive[going], tokens[going], mask[going]
            select(cache, going)
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
