"""Many prompts answered by a policy, and what reward models and a reference say of the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from heed.batches import PromptBatch, Responses
from heed.models.policy import Policy, compare
from heed.models.scalar_head import RewardModel
from heed.rows.pieces import by_length, in_pieces, take
from heed.settings.common import SamplingSettings


@dataclass(frozen=True)
class Answers:
    """`copies` answers to each prompt: row i·copies + j is answer j to prompt i. Texts are stripped of outer space."""

    prompts: PromptBatch
    responses: Responses
    texts: list[str]
    finished: list[bool]
    copies: int = 1

    @property
    def lengths(self) -> list[int]:
        """Tokens of each answer, its end-of-text token included."""
        return self.responses.lengths.tolist()


def answer(
    policy: Policy,
    prompts: Sequence[list[int]],
    sampling: SamplingSettings,
    generator: torch.Generator,
    copies: int = 1,
    answered: Callable[[int], object] = lambda prompts: None,
) -> Answers:
    """Draw answers to encoded prompts, in the order of the prompts. Shorter prompts are answered first, in batches of
    like length; `answered` is told after each batch how many prompts have been. Prompts and answers must fit the
    model's context."""
    tokenizer, device = policy.trunk.tokenizer, policy.trunk.device
    asked = left_padded(prompts, tokenizer.pad_token_id, device)
    order = asked.mask.sum(dim=1).argsort(stable=True)
    drawn = policy.generate(
        PromptBatch(asked.tokens[order], asked.mask[order]), sampling.max_new_tokens, sampling.temperature, generator,
        copies, sampling.batch, answered,
    )  # fmt: skip
    copy = torch.arange(copies, device=device)
    place = (order.argsort()[:, None] * copies + copy).flatten()  # where each row of the result was drawn
    responses = _rows(drawn, place)
    repeated = torch.arange(len(prompts), device=device).repeat_interleave(copies)
    finished = responses.finished(policy.trunk.stop_ids).tolist()
    return Answers(PromptBatch(asked.tokens[repeated], asked.mask[repeated]), responses, texts_of(policy, responses),
                   finished, copies)  # fmt: skip


def left_padded(rows: Sequence[list[int]], pad_id: int, device: torch.device) -> PromptBatch:
    """Encoded prompts in one batch, where the model is."""
    lengths = torch.tensor([len(row) for row in rows])
    tokens = pad_sequence([torch.tensor(row) for row in rows], True, pad_id, padding_side="left")
    mask = torch.arange(tokens.shape[1]) >= tokens.shape[1] - lengths[:, None]
    return PromptBatch(tokens.to(device), mask.to(device))


def texts_of(policy: Policy, responses: Responses) -> list[str]:
    """Responses as a person reads them. A model may have more tokens than its tokenizer knows; those have no text."""
    tokenizer = policy.trunk.tokenizer
    known = responses.mask & (responses.tokens < len(tokenizer))
    rows = [row[kept].tolist() for row, kept in zip(responses.tokens, known, strict=True)]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


def score_answers(model: RewardModel, answers: Answers, size: int) -> Float[Tensor, " answers"]:
    """Normalised scores from the very tokens that were drawn, `size` at once; on the CPU."""
    with model.active():
        return in_pieces(answers.prompts, answers.responses, size, model.score_responses, model.trunk.threads).cpu()


@dataclass(frozen=True)
class Divergence:
    """KL from the reference of each answer, in nats per response; policy and reference are scaled by temperature."""

    exact: Float[Tensor, " answers"]
    k1: Float[Tensor, " answers"]


def divergence(policy: Policy, reference: Policy, answers: Answers, temperature: float, size: int) -> Divergence:
    """KL(policy ‖ reference) from the policy's own answers: over the whole vocabulary at each token, and by k1."""
    exact, k1 = (torch.zeros(len(answers.texts)) for _ in range(2))
    for rows in by_length(answers.prompts, answers.responses, size):
        scored = compare(policy, reference, *take(answers.prompts, answers.responses, rows), temperature)
        exact[rows.cpu()] = scored.exact_kl.sum(dim=1).cpu()
        k1[rows.cpu()] = (scored.logprobs - scored.ref_logprobs).sum(dim=1).cpu()
    return Divergence(exact, k1)


def _rows(responses: Responses, rows: Tensor) -> Responses:
    return Responses(responses.tokens[rows], responses.mask[rows], responses.logprobs[rows])
