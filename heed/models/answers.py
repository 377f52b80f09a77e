"""Many prompts answered by a policy, and what reward models and a reference say of the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from heed.batches import PromptBatch, Responses
from heed.models.policy import Policy, compare, in_batches
from heed.models.scalar_head import RewardModel
from heed.rows.pieces import by_length, in_pieces, stack, take
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


class Drawing:
    """Answers that are being drawn, batch by batch; a part of a run's state.

    Shorter prompts are answered first, in batches of like length. Prompts and answers must fit the model's context.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[list[int]],
        sampling: SamplingSettings,
        generator: torch.Generator,
        copies: int = 1,
    ) -> None:
        self.policy, self.sampling, self.copies = policy, sampling, copies
        self.prompts = left_padded(prompts, policy.trunk.tokenizer.pad_token_id, policy.trunk.device)
        self.order = self.prompts.mask.sum(dim=1).argsort(stable=True)
        in_order = PromptBatch(self.prompts.tokens[self.order], self.prompts.mask[self.order])
        self.batches = in_batches(in_order, sampling.batch, generator)
        self.drawn: list[Responses] = []

    def rest(self) -> Generator[Responses]:
        """Draw the batches that are not drawn yet, one for each that is taken. Until it is closed the model is as it is
        for sampling: `with closing(drawing.rest())`, and nothing else with the model inside."""
        left = self.batches[len(self.drawn) :]
        options = self.sampling.max_new_tokens, self.sampling.temperature, self.copies
        with closing(self.policy.draw(left, *options)) as batches:
            for responses in batches:
                self.drawn.append(responses)
                yield responses

    def answers(self) -> Answers:
        """All answers, in the order of the prompts."""
        tokenizer, device, copies = self.policy.trunk.tokenizer, self.policy.trunk.device, self.copies
        copy = torch.arange(copies, device=device)
        place = (self.order.argsort()[:, None] * copies + copy).flatten()  # where each row of the result was drawn
        responses = _rows(stack(self.drawn, tokenizer.pad_token_id), place)
        repeated = torch.arange(len(self.order), device=device).repeat_interleave(copies)
        finished = responses.finished(self.policy.trunk.stop_ids).tolist()
        asked = PromptBatch(self.prompts.tokens[repeated], self.prompts.mask[repeated])
        return Answers(asked, responses, texts_of(self.policy, responses), finished, copies)

    def state_dict(self) -> dict[str, Any]:
        """What has been drawn."""
        return {"drawn": [asdict(responses) for responses in self.drawn]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What had been drawn."""
        device = self.policy.trunk.device
        columns = [{name: column.to(device) for name, column in drawn.items()} for drawn in state["drawn"]]
        self.drawn = [Responses(**drawn) for drawn in columns]


def answer(
    policy: Policy,
    prompts: Sequence[list[int]],
    sampling: SamplingSettings,
    generator: torch.Generator,
    copies: int = 1,
    answered: Callable[[int], object] = lambda prompts: None,
) -> Answers:
    """Draw answers to encoded prompts, in the order of the prompts; `answered` is told after each batch how many have
    been answered."""
    drawing, done = Drawing(policy, prompts, sampling, generator, copies), 0
    for responses in drawing.rest():
        done += len(responses.mask) // copies
        answered(done)
    return drawing.answers()


def length_metrics(responses: Responses, stop_ids: Collection[int]) -> dict[str, float | None]:
    """How long some responses are, in tokens, and how many end themselves."""
    finished = responses.finished(stop_ids).float()
    return {"length/mean": float(responses.lengths.float().mean()), "length/eos_rate": float(finished.mean())}


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
