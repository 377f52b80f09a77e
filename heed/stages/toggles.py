"""Scoring done wrong on purpose: which mistake gives the log-probabilities that someone recorded?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from heed.doctor.causes import explain
from heed.doctor.findings import Finding
from heed.doctor.rollouts import Rollouts
from heed.formulas.logprobs import token_logprobs
from heed.models.policy import Policy

ROWS = 8  # that are scored again under each toggle
TOLERANCE = 1e-3  # nats at the mean token
FEWEST, MOST = 16, 64  # pads that are tried at least, and at most
MEANINGS = {
    "ref_logprobs": {"other": "NK12", "base": "NK14"},
    "sampler_logprobs": {"other": "NK13"},
}
"""What a toggle means in another column than the policy's."""


class Toggled:
    """A few rows of a file, scored under the toggles of `heed.doctor.causes`.

    Rows are scored alone, without padding. The batch that a row was once padded in is not in the file, so a toggle that
    depends on padding is tried with every number of pads, and the best is taken.
    """

    def __init__(self, policy: Policy, reference: Policy, rollouts: Rollouts, temperature: float) -> None:
        self.policy, self.reference, self.rollouts, self.temperature = policy, reference, rollouts, temperature
        tokenizer = policy.trunk.tokenizer
        self.pad = rollouts.pad if rollouts.pad is not None else tokenizer.pad_token_id
        widths = rollouts.prompt_mask.sum(1)
        self.rows = widths.argsort(stable=True)[:ROWS].tolist()  # the shortest: they had most of the padding
        self.pads = torch.arange(1, min(MOST, max(FEWEST, int(widths.max() - widths.min()))) + 1)

    def explain(self, column: str, line: Tensor) -> Finding | None:
        """The toggle that gives a column of the file, as a finding; None where there is none."""
        model, other = (self.reference, self.policy) if column == "ref_logprobs" else (self.policy, self.reference)
        recorded, mask = line[self.rows], self.rollouts.written[self.rows]

        def rescore(toggle: str) -> Tensor | None:
            return self._scored(toggle, model, other, recorded)

        found = explain(recorded, mask, rescore, TOLERANCE, MEANINGS.get(column))
        return replace(found, message=f"`{column}`: {found.message}") if found else None

    def fitting(self, tokens: Tensor) -> Tensor:
        """Numbers of pads that fit the context before these tokens; none at all if not even one does."""
        pads = self.pads[self.pads + tokens.shape[1] <= self.policy.trunk.context]
        return pads if len(pads) else torch.zeros(1, dtype=torch.long)

    def _scored(self, toggle: str, model: Policy, other: Policy, recorded: Tensor) -> Tensor | None:
        """The rows under one toggle; None where it changes nothing for these models."""
        pointless = {"base": model.adapter is None, "temperature": self.temperature == 1}
        if pointless.get(toggle):
            return None
        if toggle == "other":
            model = other
        elif toggle == "base":
            model = Policy(model.trunk, None)
        scored = torch.zeros(recorded.shape)
        for place, row in enumerate(self.rows):
            variants = self._row(toggle, model, row)
            count = variants.shape[1]
            gaps = (variants - recorded[place, :count]).abs().mean(1)
            scored[place, :count] = variants[gaps.nan_to_num(nan=torch.inf).argmin()]
        return scored

    @torch.no_grad()
    def _row(self, toggle: str, model: Policy, row: int) -> Tensor:
        """`[variants, response]` log-probabilities of one row."""
        rollouts, trunk = self.rollouts, model.trunk
        prompt = rollouts.prompts[row][rollouts.prompt_mask[row]]
        response = rollouts.responses[row][rollouts.written[row]]
        tokens, attention, positions = INPUTS.get(toggle, _plain)(torch.cat([prompt, response])[None], self)
        with model.active():
            hidden = trunk.body(
                input_ids=tokens.to(trunk.device),
                attention_mask=attention.long().to(trunk.device),
                position_ids=positions.to(trunk.device),
            ).last_hidden_state
        back = {"shift": 0, "shift back": 2}.get(toggle, 1)  # from a token to the logits that it is looked up in
        start = tokens.shape[1] - len(response) - back
        predicting = hidden[:, (start + torch.arange(len(response))).clamp(min=0)]
        logits = trunk.logits(predicting.reshape(-1, hidden.shape[-1]).contiguous())
        chosen = response.repeat(len(tokens)).to(logits.device)
        if toggle == "raw":
            scored = (logits / self.temperature).gather(1, chosen[:, None])[:, 0]
        else:
            scored = token_logprobs(logits, chosen, 1.0 if toggle == "temperature" else self.temperature)
        return scored.reshape(len(tokens), -1).cpu()


Inputs = tuple[Tensor, Tensor, Tensor]
"""Tokens, attention mask and positions of a row's variants, each `[variants, time]`."""


def _plain(tokens: Tensor, toggled: Toggled) -> Inputs:
    return tokens, torch.ones_like(tokens, dtype=torch.bool), torch.arange(tokens.shape[1])[None]


def _shifted_positions(tokens: Tensor, toggled: Toggled) -> Inputs:
    """Positions that count the pads, which are hidden themselves."""
    pads = toggled.fitting(tokens)
    many = tokens.repeat(len(pads), 1)
    return many, torch.ones_like(many, dtype=torch.bool), torch.arange(tokens.shape[1]) + pads[:, None]


def _attended_pads(tokens: Tensor, toggled: Toggled) -> Inputs:
    """Pads on the left that are read like text."""
    pads = toggled.fitting(tokens)
    most = int(pads.max())
    many = torch.cat([torch.full((len(pads), most), toggled.pad), tokens.repeat(len(pads), 1)], 1)
    attention = torch.arange(many.shape[1]) >= most - pads[:, None]
    return many, attention, (attention.long().cumsum(1) - 1).clamp(min=0)


def _hidden_tokens(tokens: Tensor, toggled: Toggled) -> Inputs:
    """A mask made of `ids != pad`, which hides real tokens that are equal to it."""
    attention = tokens != toggled.pad
    return tokens, attention, (attention.long().cumsum(1) - 1).clamp(min=0)


INPUTS: dict[str, Callable[[Tensor, Toggled], Inputs]] = {
    "positions": _shifted_positions,
    "pads": _attended_pads,
    "hidden": _hidden_tokens,
}
