"""Draw responses from the whole distribution of a model: no top-k, no top-p, no penalty, no minimum length.

Hugging Face's `generate` keeps the 50 likeliest tokens unless told otherwise, and a policy gradient on samples of
one distribution that is scored with another is how KL goes negative. Here nothing stands between logits and draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from heed.batches import PromptBatch, Responses
from heed.models.cache import keep, place, roomy_cache
from heed.models.trunk import Trunk
from heed.rows.microbatches import microbatches

READ_AT_ONCE = 8192  # tokens of prompts
ROOM = 64  # tokens that a cache has room for beside the prompts, at first


@dataclass
class Writing:
    """Rows that are being written: row i writes row `places[i]` of the result. `mask` is that of prompt and response to
    its end; `hidden` predicts the next token."""

    places: Int[Tensor, " live"]
    mask: Tensor
    hidden: Float[Tensor, "live width"]
    cache: DynamicCache

    def leave(self, going: Tensor) -> Tensor:
        """Rows where `going` is False leave; returns which of the rows each of the others was."""
        order = keep(self.cache, going)
        self.places, self.mask = self.places[order], self.mask[order]
        return order


@dataclass(frozen=True)
class Sampler:
    """Draws `copies` responses to each prompt, token by token, until an end of text or `max_new_tokens`.

    The adapter is the one that is active in the trunk. Prompts of like length are read together, each once whatever the
    number of copies; row i·copies + j of the result is copy j of prompt i. Rows that have ended leave the batch. The
    noise of a token is that of its prompt, copy and position, whatever other rows do. `temperature` 0 takes the
    likeliest token.
    """

    trunk: Trunk
    max_new_tokens: int
    temperature: float
    copies: int = 1

    @torch.no_grad()
    def __call__(self, prompts: PromptBatch, generator: torch.Generator) -> Responses:
        """The responses to a batch, with the log-probabilities that they were drawn with."""
        trunk, device = self.trunk, self.trunk.device
        ends = torch.tensor(sorted(trunk.stop_ids), device=device)
        rows, width = len(prompts.mask) * self.copies, prompts.mask.shape[1]
        noise = torch.rand(rows, self.max_new_tokens, 2, generator=generator, device=device)
        drawn = torch.full((rows, self.max_new_tokens), trunk.tokenizer.pad_token_id, device=device)
        logprobs = torch.zeros(drawn.shape, device=device)
        counted = torch.zeros(drawn.shape, dtype=torch.bool, device=device)
        live = self._read(prompts)
        for step in range(self.max_new_tokens):
            at = live.places
            tokens, chosen = draw(trunk.logits(live.hidden), self.temperature, noise[at, step])
            drawn[at, step], logprobs[at, step], counted[at, step] = tokens, chosen, True
            going = ~torch.isin(tokens, ends)
            if step + 1 == self.max_new_tokens or not going.any():
                break
            if not going.all():
                tokens = tokens[live.leave(going)]
            mask = live.mask[:, : width + step + 1]
            live.hidden = trunk.hidden(tokens[:, None], mask, live.cache)[:, -1].contiguous()
        longest = int(counted.sum(dim=1).max())
        return Responses(drawn[:, :longest], counted[:, :longest], logprobs[:, :longest])

    def _read(self, prompts: PromptBatch) -> Writing:
        """The prompts, in groups of like length."""
        trunk, (count, width), copies = self.trunk, prompts.mask.shape, self.copies
        cache = roomy_cache(trunk.model, width + min(self.max_new_tokens, ROOM))
        places = torch.arange(count * copies, device=trunk.device)
        found, filled = [], []
        lengths = prompts.mask.sum(dim=1).tolist()
        for group in microbatches(lengths, READ_AT_ONCE, trunk.device.type):
            rows, longest = torch.tensor(group, device=trunk.device), max(lengths[i] for i in group)
            read, own = DynamicCache(), places.view(count, copies)[rows]
            last = trunk.hidden(prompts.tokens[rows, -longest:], prompts.mask[rows, -longest:], read)[:, -1]
            found.append(last.repeat_interleave(copies, dim=0))
            filled.append(own.flatten())
            place(cache, read, own, len(places), width)
        written = prompts.mask.new_ones(count * copies, self.max_new_tokens)
        mask = torch.cat([prompts.mask.repeat_interleave(copies, dim=0), written], dim=1)
        return Writing(places, mask, torch.cat(found)[torch.cat(filled).argsort()], cache)


def draw(
    logits: Float[Tensor, "rows vocab"], temperature: float, noise: Float[Tensor, "rows two"]
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """A token for each row and its log-probability, in nats. `logits` are overwritten.

    The vocabulary is cut into about as many pieces as each has tokens; the first of two uniform numbers of a row draws
    the piece, the second the token in it, so that a token of probability 1e-9 has it. One number for each token of the
    vocabulary, as `multinomial` takes them, costs more than all the rest.
    """
    if temperature == 0:
        logprobs = logits.log_softmax(dim=-1)
        tokens = logprobs.argmax(dim=-1)
        return tokens, logprobs.gather(1, tokens[:, None])[:, 0]
    weights = logits.div_(temperature) if temperature != 1 else logits
    weights = weights.sub_(weights.amax(dim=-1, keepdim=True)).exp_()
    vocab = weights.shape[-1]
    size = max(1, round(vocab**0.5))
    whole = vocab // size
    pieces = weights[:, : whole * size].unflatten(1, (whole, size)).sum(dim=-1)
    if rest := vocab - whole * size:
        pieces = torch.cat([pieces, weights[:, -rest:].sum(dim=-1, keepdim=True)], dim=1)
    inside = _choose(pieces, noise[:, 0])[:, None] * size + torch.arange(size, device=weights.device)
    within = weights.gather(1, inside.clamp(max=vocab - 1)).masked_fill(inside >= vocab, 0.0)
    place = _choose(within, noise[:, 1])[:, None]
    logprobs = (within.gather(1, place) / pieces.sum(dim=1, keepdim=True)).log()
    return inside.gather(1, place)[:, 0], logprobs[:, 0]


def _choose(weights: Float[Tensor, "rows n"], noise: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """An index for each row, in proportion to the weights."""
    sums = weights.cumsum(dim=1)
    whole = sums[:, -1:]
    found = torch.searchsorted(sums, whole * noise[:, None], right=True)[:, 0]
    return torch.minimum(found, (sums < whole).sum(dim=1))  # where rounding goes past the last weight that is not 0
