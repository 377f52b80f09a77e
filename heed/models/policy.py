"""A language model seen as a policy: draw responses, and say how likely written ones are.

THE OFF-BY-ONE LIVES HERE and nowhere else: the hidden state at position i predicts the token at position i + 1.
Everything that leaves this file is aligned with the tokens that were written.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from heed.batches import PromptBatch, Responses
from heed.formulas.logprobs import TokenStatistics, token_logprobs, token_statistics
from heed.models.chosen import chosen_logprobs, frozen_head
from heed.models.packed import packing
from heed.models.sampler import Sampler
from heed.models.step_attention import stepping
from heed.models.trunk import Trunk
from heed.rows.pieces import stack
from heed.rows.threads import SERIAL

CHUNK = 1 << 22  # logits held at once: a CPU's allocator keeps no buffers of twice this, eight times slower a token


class SeededBatch(NamedTuple):
    """Prompts with random numbers of their own: the same, however many threads draw. `device`: the generator's."""

    prompts: PromptBatch
    seed: int
    device: torch.device


def in_batches(prompts: PromptBatch, size: int, generator: torch.Generator) -> list[SeededBatch]:
    """Prompts in batches of `size`, seeded by `generator`."""
    columns = zip(prompts.tokens.split(size), prompts.mask.split(size), strict=True)
    batches = [PromptBatch(*batch) for batch in columns]
    seeds = torch.randint(2**62, (len(batches),), generator=generator, device=generator.device).tolist()
    return [SeededBatch(batch, seed, generator.device) for batch, seed in zip(batches, seeds, strict=True)]


@dataclass(frozen=True)
class Policy:
    """A trunk with one of its adapters (None: the trunk's own weights)."""

    trunk: Trunk
    adapter: str | None = None

    def parameters(self) -> dict[str, nn.Parameter]:
        """What training changes: the adapter, or every weight where there is none."""
        if self.adapter is not None:
            return self.trunk.adapter_parameters(self.adapter)
        return dict(self.trunk.model.named_parameters())

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
        """Every forward AND backward pass of this policy happens inside this block."""
        with self.trunk.active(self.adapter):
            yield

    def generate(
        self,
        prompts: PromptBatch,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
        copies: int = 1,
        size: int | None = None,
    ) -> Responses:
        """Draw `copies` responses a prompt from exactly the distribution that `logprobs` scores, in batches of `size`
        prompts (None: in one)."""
        batches = in_batches(prompts, size or len(prompts.mask), generator)
        drawn = list(self.draw(batches, max_new_tokens, temperature, copies))
        return stack(drawn, self.trunk.tokenizer.pad_token_id)

    def draw(
        self, batches: Sequence[SeededBatch], max_new_tokens: int, temperature: float, copies: int = 1
    ) -> Generator[Responses]:
        """The responses to each batch, in order. Between them the model is as it is for sampling: do nothing else with
        it before the generator is closed."""

        def draw(batch: SeededBatch) -> Responses:
            width = int(batch.prompts.mask.sum(dim=1).max())
            asked = PromptBatch(batch.prompts.tokens[:, -width:], batch.prompts.mask[:, -width:])
            own = torch.Generator(batch.device).manual_seed(batch.seed)
            return sampler(asked, own)

        sampler = Sampler(self.trunk, max_new_tokens, temperature, copies)
        with self.trunk.merged(self.adapter), packing(self.trunk.body), stepping(self.trunk.model):
            yield from self.trunk.threads.map(draw, batches)

    def logprobs(
        self, prompts: PromptBatch, responses: Responses, temperature: float = 1.0
    ) -> Float[Tensor, "batch response"]:
        """Log-probability of each written token, in nats; 0 where the mask is False. Carries gradient."""
        tokens, mask, counted = whole(prompts, responses)
        flat = self.flat_logprobs(tokens, mask, counted, temperature)
        return scatter(flat, responses.mask)

    def flat_logprobs(
        self,
        tokens: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
        counted: Bool[Tensor, "batch time"],
        temperature: float = 1.0,
    ) -> Float[Tensor, " counted"]:
        """Log-probabilities of the tokens at `counted`, row by row in one flat line. Index 0 cannot be counted."""
        hidden = self._predicting(tokens, mask, counted)
        chosen = tokens[counted]
        pieces, weight = self._chunks(len(chosen)), frozen_head(self.trunk.model, self.trunk.head)
        if weight is not None and hidden.requires_grad and hidden.dtype == weight.dtype and pieces:
            return chosen_logprobs(hidden, weight, chosen, temperature, pieces[0].stop, self.trunk.logits)
        lines = [token_logprobs(self.trunk.logits(hidden[piece]), chosen[piece], temperature) for piece in pieces]
        return torch.cat(lines) if lines else hidden.new_zeros(0)

    def _predicting(self, tokens: Tensor, mask: Tensor, counted: Tensor) -> Tensor:
        return predicting(self.trunk.hidden(tokens, mask), counted)

    def _chunks(self, count: int, threads: int = 1) -> list[slice]:
        size = max(1, min(CHUNK // self.trunk.vocabulary, -(-count // threads)))
        return [slice(start, start + size) for start in range(0, count, size)]


@dataclass(frozen=True)
class Scored:
    """Written tokens under policy and reference, in nats and nats²: `TokenStatistics` in rows, 0 outside the mask."""

    logprobs: Float[Tensor, "batch response"]
    ref_logprobs: Float[Tensor, "batch response"]
    entropy: Float[Tensor, "batch response"]
    exact_kl: Float[Tensor, "batch response"]
    kl_variance: Float[Tensor, "batch response"]
    surprisal_variance: Float[Tensor, "batch response"]
    ref_ratio_variance: Float[Tensor, "batch response"]


Observer = Callable[[Tensor, Tensor, Tensor, Tensor], None]


@torch.no_grad()
def compare(
    policy: Policy,
    reference: Policy,
    prompts: PromptBatch,
    responses: Responses,
    temperature: float = 1.0,
    observers: tuple[Observer, ...] = (),
) -> Scored:
    """Score written tokens under policy and reference, with the exact KL over the whole vocabulary.

    Each observer is called with pieces of (policy logits, reference logits, tokens, index of the token in the
    row-major order of the mask), one after another in that order: threads then share the transformer only.
    """
    rows, threads = whole(prompts, responses), policy.trunk.threads
    parts = [column.chunk(threads.count) for column in rows]
    hiddens = []
    for model in (policy, reference):
        with model.active():
            hiddens.append(torch.cat(list(threads.map(model._predicting, *parts))))
    tokens, _, counted = rows
    chosen = tokens[counted]

    def statistics(piece: slice) -> TokenStatistics:
        logits = policy.trunk.logits(hiddens[0][piece])
        ref_logits = reference.trunk.logits(hiddens[1][piece])
        for observe in observers:
            observe(logits, ref_logits, chosen[piece], torch.arange(len(chosen))[piece])
        return token_statistics(logits, ref_logits, chosen[piece], temperature)

    in_order = SERIAL if observers else threads
    pieces = list(in_order.map(statistics, policy._chunks(len(chosen), in_order.count)))
    names = [field.name for field in fields(TokenStatistics)]
    lines = {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in names}
    return Scored(**{name: scatter(line, responses.mask) for name, line in lines.items()})


def whole(prompts: PromptBatch, responses: Responses) -> tuple[Tensor, Tensor, Tensor]:
    """Prompt and response as one row: tokens, mask of real tokens, mask of the tokens that count."""
    tokens = torch.cat([prompts.tokens, responses.tokens], dim=1)
    mask = torch.cat([prompts.mask, responses.mask], dim=1)
    counted = torch.cat([torch.zeros_like(prompts.mask), responses.mask], dim=1)
    return tokens, mask, counted


def predicting(
    hidden: Float[Tensor, "batch time width"], counted: Bool[Tensor, "batch time"]
) -> Float[Tensor, "counted width"]:
    """The hidden state that predicts each counted token: the one before it. Flat and contiguous."""
    return hidden[:, :-1][counted[:, 1:]]


def scatter(flat: Float[Tensor, " counted"], mask: Bool[Tensor, "batch response"]) -> Float[Tensor, "batch response"]:
    """A flat line of counted tokens back in rows, 0 elsewhere. Carries gradient."""
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


def save_policy(policy: Policy, path: Path) -> None:
    """Write the policy as a stock directory: an adapter by peft, a full model by transformers."""
    path.mkdir(parents=True, exist_ok=True)
    if policy.adapter is not None:
        policy.trunk.save_adapter(policy.adapter, path, "CAUSAL_LM")
    else:
        policy.trunk.model.save_pretrained(path)
    policy.trunk.tokenizer.save_pretrained(path)
