"""Scoring done wrong on purpose: which mistake gives the log-probabilities that someone recorded?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from heed.doctor.causes import dropped, explain, other_weights
from heed.doctor.findings import Finding
from heed.doctor.rollouts import Rollouts
from heed.formulas.logprobs import token_logprobs
from heed.models.policy import Policy

ROWS = 8  # that are scored again under each toggle
LOWER = 0.05  # share of numbers below the right ones that dropout has at least; a distribution that was cut has none
MORE = 32  # rows that a likeness is judged from, where nothing gives the numbers to the bit
TOLERANCE = 1e-3  # nats at the mean token
FEWEST, MOST = 16, 64  # pads that are tried at least, and at most
MEANINGS = {
    "ref_logprobs": {"other": "NK15", "base": "NK14"},
    "sampler_logprobs": {"other": "NK13"},
}
"""What a toggle means in another column than the policy's."""
DROPOUT = (0.01, 0.02, 0.05, 0.1, 0.2)
MASKS = 32  # dropout masks that each row is scored under


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
        self.longest = int((widths + rollouts.written.sum(1)).max())
        shortest = widths.argsort(stable=True).tolist()  # they had most of the padding
        self.rows, self.more = shortest[:ROWS], shortest[:MORE]
        widest = rollouts.prompts.shape[1]  # of the rollout, not only of these rows: they were padded to it
        self.pads = torch.arange(1, min(MOST, max(FEWEST, widest - int(widths.min()))) + 1)

    def explain(self, column: str, line: Tensor, alike: bool = True) -> Finding | None:
        """The toggle that gives a column of the file, as a finding; None where there is none. `alike`: a likeness will
        do, where no toggle gives the numbers to the bit."""
        model, other = (self.reference, self.policy) if column == "ref_logprobs" else (self.policy, self.reference)
        recorded, mask = line[self.rows], self.rollouts.written[self.rows]

        @cache
        def rescore(toggle: str) -> Tensor | None:
            return self._scored(toggle, model, other, recorded)

        plain = rescore("")
        assert plain is not None
        if float((recorded - plain)[mask].abs().mean()) <= TOLERANCE:
            return None
        found = explain(recorded, mask, rescore, TOLERANCE, MEANINGS.get(column))
        if found is None and alike:
            found = self._alike(column, line[self.more], model, other)
        if found is None:
            return None
        return replace(found, message=f"`{column}`: {found.message}", evidence={**found.evidence, "column": column})

    def _alike(self, column: str, recorded: Tensor, model: Policy, other: Policy) -> Finding | None:
        """What cannot be done again to the bit: scoring with weights that are not at hand, or with dropout."""
        mask = self.rollouts.written[self.more]
        plain, away = (torch.cat([self._row("", one, row)[0] for row in self.more]) for one in (model, other))
        numbers = recorded[mask]
        if not numbers.isfinite().all() or not float((numbers - plain).abs().mean()) > TOLERANCE:
            return None
        found = other_weights(column, numbers - plain, plain - away)
        if found is None and float((numbers < plain).float().mean()) < LOWER:
            return None
        lengths = mask.sum(1)
        rows = torch.arange(len(lengths)).repeat_interleave(lengths)
        return found or dropped(column, numbers, plain, self._under_dropout(model), rows)

    def _under_dropout(self, model: Policy) -> dict[float, Tensor]:
        """`[masks, tokens]` log-probabilities by share of dropout. The random numbers of a run stay as they are."""
        if not any(isinstance(module, nn.Dropout) for module in model.trunk.model.modules()):
            return {}
        masked = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for share in DROPOUT:
                with dropping(model.trunk.model, share):
                    masked[share] = torch.cat([self._row("dropout", model, row) for row in self.more], 1)
        return masked

    def fitting(self, tokens: Tensor) -> Tensor:
        """Numbers of pads that fit the context before these tokens, none at all among them.

        One of them fills the row up to the longest of the file, as where whole rows are padded on the left.
        """
        pads = torch.cat([self.pads, torch.tensor([0, self.longest - tokens.shape[1]])]).unique()
        return pads[(pads >= 0) & (pads + tokens.shape[1] <= self.policy.trunk.context)]

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


@contextmanager
def dropping(model: nn.Module, share: float) -> Iterator[None]:
    """Training mode with that share of dropout everywhere, for the block."""
    modes = [(module, module.training) for module in model.modules()]
    shares = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    for module, _ in shares:
        module.p = share
    model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, before in shares:
            module.p = before


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


def _copies(tokens: Tensor, toggled: Toggled) -> Inputs:
    return _plain(tokens.repeat(MASKS, 1), toggled)


INPUTS: dict[str, Callable[[Tensor, Toggled], Inputs]] = {
    "positions": _shifted_positions,
    "pads": _attended_pads,
    "hidden": _hidden_tokens,
    "dropout": _copies,
}
