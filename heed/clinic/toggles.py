"""Scoring done wrong on purpose: which mistake gives the log-probabilities that someone recorded?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from heed.clinic.altered import dropping, in_dtype
from heed.doctor.causes import PAIRS, Toggle, explain
from heed.doctor.findings import Finding
from heed.doctor.likeness import DROPPED, dropped, other_weights, rounded
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
FIRST_MASKS, MASKS = (
    8,
    24,
)  # dropout masks that the share of dropout is estimated by, and that numbers are compared with
FIRST_SHARE = 0.1
LARGEST_SHARE = 0.5
WORK = 4e11
"""Weights times tokens that dropout may cost: half a minute on one core. Beyond it, a second scoring is asked for."""
COLDEST, HOTTEST = 0.1, 10.0  # temperatures that a column is fitted with; at an end there is no fit
FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5)
"""Temperatures that are tried beside another mistake, where the right one is 1."""


class Toggled:
    """A few rows of a file, scored under the toggles of `heed.doctor.causes`.

    Rows are scored alone, without padding. The batch that a row was once padded in is not in the file, so a toggle that
    depends on padding is tried with every number of pads, and the best is taken.
    """

    def __init__(self, policy: Policy, reference: Policy, rollouts: Rollouts, temperature: float) -> None:
        self.policy, self.reference, self.rollouts, self.temperature = policy, reference, rollouts, temperature
        pad = rollouts.pad if rollouts.pad is not None else policy.trunk.tokenizer.pad_token_id
        self.pad = min(pad, policy.trunk.model.config.vocab_size - 1)  # some pad beyond their embeddings, and hide it
        widths = rollouts.prompt_mask.sum(1)
        self.longest = int((widths + rollouts.written.sum(1)).max())
        shortest = widths.argsort(stable=True).tolist()  # they had most of the padding
        self.rows, self.more = shortest[:ROWS], shortest[:MORE]
        widest = rollouts.prompts.shape[1]  # of the rollout, not only of these rows: they were padded to it
        self.pads = torch.arange(1, min(MOST, max(FEWEST, widest - int(widths.min()))) + 1)

    def explain(self, column: str, line: Tensor) -> list[Finding]:
        """The toggles that give a column of the file, a finding for each; none where there are none."""
        model, other = self._models(column)
        recorded, mask = line[self.rows], self.rollouts.written[self.rows]

        @cache
        def rescore(toggle: str) -> Tensor | None:
            return self._scored(toggle, model, other, recorded)

        plain = rescore("")
        assert plain is not None
        if float((recorded - plain)[mask].abs().mean()) <= TOLERANCE:
            return []
        findings = explain(recorded, mask, rescore, TOLERANCE, MEANINGS.get(column))
        if not findings:
            factor = self._fitted(model, recorded)
            fitted = Toggle(f"temperature={factor:.4g}", "NK2", f"dividing the logits by {factor:.3g}")
            tried = [(fitted,)] if 1.5 * COLDEST < factor < HOTTEST / 1.5 else []
            findings = explain(recorded, mask, rescore, TOLERANCE, MEANINGS.get(column), [*tried, *PAIRS])
        return [_of_column(column, finding) for finding in findings]

    def rounding(self, column: str, line: Tensor) -> list[Finding]:
        """NK16, where a lower precision of the model makes such a difference."""
        model, _ = self._models(column)
        plain = torch.cat([self._row("", model, row)[0] for row in self.more])
        off = self._numbers(line) - plain
        finding = rounded(off, self._roundings(model, plain))
        return [] if finding is None else [_of_column(column, finding)]

    def likeness(self, column: str, line: Tensor) -> list[Finding]:
        """What cannot be done again to the bit: weights that are not at hand, dropout. The cheap first."""
        model, other = self._models(column)
        numbers, lengths = self._numbers(line), self.rollouts.written[self.more].sum(1)
        plain, away = (torch.cat([self._row("", one, row)[0] for row in self.more]) for one in (model, other))
        off = numbers - plain
        if float(off.abs().mean()) <= TOLERANCE:
            return []
        finding = other_weights(column, off, plain - away)
        if finding is None and column in DROPPED and float((numbers < plain).float().mean()) >= LOWER:
            rows = torch.arange(len(lengths)).repeat_interleave(lengths)
            for modules in self._droppable(model):
                masked = self._under_dropout(model, modules, plain, float(off.abs().median()))
                finding = finding or dropped(column, numbers, plain, masked, rows)
        return [] if finding is None else [_of_column(column, finding)]

    def _numbers(self, line: Tensor) -> Tensor:
        """A column at the written tokens of the rows that a likeness is judged from."""
        return line[self.more][self.rollouts.written[self.more]]

    def _models(self, column: str) -> tuple[Policy, Policy]:
        return (self.reference, self.policy) if column == "ref_logprobs" else (self.policy, self.reference)

    def _roundings(self, model: Policy, plain: Tensor) -> dict[str, Tensor]:
        """What lower precision makes of the same tokens: the adapter beside the weights, and folded into them."""
        found = {}
        for dtype in (torch.bfloat16, torch.float16):
            for folded in (False, True) if model.adapter is not None else (False,):
                with in_dtype(model, dtype, folded) as other:
                    lines = torch.cat([self._row("rounded", other, row)[0] for row in self.more])
                name = str(dtype).removeprefix("torch.")
                found[f"{name}, with the adapter folded in" if folded else name] = lines - plain
        return found

    def _droppable(self, model: Policy) -> list[list[nn.Dropout]]:
        """Modules that a policy in training mode may have dropout in: the adapter's by themselves, then all others."""
        named = [(name, one) for name, one in model.trunk.model.named_modules() if isinstance(one, nn.Dropout)]
        own = [one for name, one in named if "lora_dropout" in name and f".{model.adapter}" in name]
        others = [one for name, one in named if "lora_dropout" not in name]
        return [modules for modules in (own, others) if modules and self._cost(model) <= WORK]

    def _cost(self, model: Policy) -> float:
        """Weights times tokens of all passes under dropout."""
        tokens = int(self.rollouts.prompt_mask[self.more].sum() + self.rollouts.written[self.more].sum())
        weights = sum(weight.numel() for weight in model.trunk.model.parameters())
        return float(weights * tokens * (FIRST_MASKS + MASKS))

    def _under_dropout(
        self, model: Policy, modules: Sequence[nn.Dropout], plain: Tensor, spread: float
    ) -> dict[float, Tensor]:
        """`[masks, tokens]` log-probabilities at the share of dropout that spreads half of them so far, or farther.

        Spread grows as √(share / (1 − share)). The random numbers of a run stay as they are.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            few = self._dropping(model, modules, FIRST_SHARE, FIRST_MASKS)
            unit = float((few - plain).abs().median())
            if unit == 0:
                return {}
            odds = FIRST_SHARE / (1 - FIRST_SHARE) * (spread / unit) ** 2
            share = odds / (1 + odds)
            return {share: self._dropping(model, modules, share, MASKS)} if 0 < share <= LARGEST_SHARE else {}

    def _dropping(self, model: Policy, modules: Sequence[nn.Dropout], share: float, masks: int) -> Tensor:
        with dropping(model.trunk.model, modules, share):
            return torch.cat([self._row(f"dropout={masks}", model, row) for row in self.more], 1)

    def fitting(self, tokens: Tensor) -> Tensor:
        """Numbers of pads that fit the context before these tokens, none at all among them.

        One of them fills the row up to the longest of the file, as where whole rows are padded on the left.
        """
        pads: Tensor = torch.unique(torch.cat([self.pads, torch.tensor([0, self.longest - tokens.shape[1]])]))
        return pads[(pads >= 0) & (pads + tokens.shape[1] <= self.policy.trunk.context)]

    def _fitted(self, model: Policy, recorded: Tensor) -> float:
        """The temperature at which plain scoring comes nearest to the recorded numbers, to one part in ten thousand."""
        lines = [self._logits("", model, row) for row in self.rows]

        def gap(factor: float) -> float:
            gaps = [
                (token_logprobs(logits, chosen, factor).cpu() - recorded[place, : len(chosen)]).abs().sum()
                for place, (logits, chosen) in enumerate(lines)
            ]
            return float(torch.stack(gaps).sum())

        low, high, best = COLDEST, HOTTEST, 1.0
        for _ in range(5):
            ratio = (high / low) ** (1 / 12)
            best = min((low * ratio**step for step in range(13)), key=gap)
            low, high = max(COLDEST, best / ratio), min(HOTTEST, best * ratio)
        return best

    def _scored(self, toggle: str, model: Policy, other: Policy, recorded: Tensor) -> Tensor | None:
        """The rows under some toggles; None where they change nothing for these models."""
        names = toggle.split("+")
        alone = len(names) == 1
        if ("base" in names and model.adapter is None) or (alone and toggle == "temperature" and self.temperature == 1):
            return None
        if "other" in names:
            model = other
        elif "base" in names:
            model = Policy(model.trunk, None)
        scored = torch.zeros(recorded.shape)
        for place, row in enumerate(self.rows):
            variants = self._row(toggle, model, row)
            count = variants.shape[1]
            gaps = (variants - recorded[place, :count]).abs().mean(1)
            scored[place, :count] = variants[gaps.nan_to_num(nan=torch.inf).argmin()]
        return scored

    def _row(self, toggle: str, model: Policy, row: int) -> Tensor:
        """`[variants, response]` log-probabilities of one row."""
        logits, chosen = self._logits(toggle, model, row)
        response = int(self.rollouts.written[row].sum())
        lines = []
        for temperature in self._temperatures(toggle):
            if "raw" in toggle.split("+"):
                line = (logits / temperature).gather(1, chosen[:, None])[:, 0]
            else:
                line = token_logprobs(logits, chosen, temperature)
            lines.append(line.reshape(-1, response))
        return torch.cat(lines).cpu()

    def _temperatures(self, toggle: str) -> tuple[float, ...]:
        names = toggle.split("+")
        for name in names:
            if name.startswith("temperature="):
                return (float(name.partition("=")[2]),)
        if "temperature" not in names:
            return (self.temperature,)
        return (1.0,) if self.temperature != 1 else FACTORS

    @torch.no_grad()
    def _logits(self, toggle: str, model: Policy, row: int) -> tuple[Tensor, Tensor]:
        """`[variants · response, vocab]` logits of one row's tokens, and the tokens."""
        rollouts, trunk = self.rollouts, model.trunk
        names = toggle.split("+")
        prompt = rollouts.prompts[row][rollouts.prompt_mask[row]]
        response = rollouts.responses[row][rollouts.written[row]]
        prepare = next((INPUTS[name] for name in names if name in INPUTS), _plain)
        text = torch.cat([prompt, response])[None]
        copies = int(toggle.partition("=")[2]) if toggle.startswith("dropout") else 1
        tokens, attention, positions = prepare(text.repeat(copies, 1), self)
        with model.active():
            hidden = trunk.body(
                input_ids=tokens.to(trunk.device),
                attention_mask=attention.long().to(trunk.device),
                position_ids=positions.to(trunk.device),
            ).last_hidden_state
        back = 0 if "shift" in names else 2 if "shift back" in names else 1  # from a token to the logits it is read in
        start = tokens.shape[1] - len(response) - back
        predicting = hidden[:, (start + torch.arange(len(response))).clamp(min=0).to(hidden.device)]
        flat = predicting.reshape(-1, hidden.shape[-1]).contiguous()
        logits = trunk.head(flat).float() if toggle == "rounded" else trunk.logits(flat)
        return logits, response.repeat(len(tokens)).to(logits.device)


def _of_column(column: str, finding: Finding) -> Finding:
    also = ""
    if finding.id == "NK2" and "temperature" in str(finding.evidence.get("toggle")):
        also = NOT_A_FAULT.get(column, NOT_A_FAULT["policy_logprobs"])
    told = f"`{column}`: {finding.message}{also}"
    return replace(finding, message=told, evidence={**finding.evidence, "column": column})


NOT_A_FAULT = {
    "sampler_logprobs": " Some samplers report them before the temperature (vLLM does unless told otherwise): then "
    "mend what is recorded, or leave the column out.",
    "policy_logprobs": " Is --temperature the one that the run was scored at?",
}
"""What NK2 may be beside a wrong run."""


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
