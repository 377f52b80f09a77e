"""Every single fault that docs/negative-kl.md names, in a trainer of somebody else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from foreign_trainer import (
    EOS,
    LONGEST,
    PAD,
    STEPS,
    VOCAB,
    WORDS,
    Models,
    Process,
    Rows,
    Scorer,
    rollout,
)
from torch import Tensor, nn

Make = Callable[[Models, int, int], Rows]
"""(models, rows, seed) → rows of a file."""


@dataclass(frozen=True)
class Fault:
    """A wrong configuration, the cause that it is, and how a file with it is made.

    `ids_only`: it shows in the ids alone, without any log-probabilities. `asks`: the doctor may instead fail T2 and
    ask for what settles it. `rows`: how many responses it needs to show. `temperature` is told to the doctor.
    """

    name: str
    cause: str
    make: Make
    ids_only: bool = False
    asks: bool = False
    rows: int = 96
    temperature: float = 1.0
    kinds: tuple[str, ...] = ("gpt2", "llama")


# --- samplers -------------------------------------------------------------------------------------------------------


def top_k(k: int) -> Process:
    return lambda logits, tokens, step: logits.masked_fill(logits < logits.topk(k).values[:, -1:], -torch.inf)


def top_p(share: float) -> Process:
    def process(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
        ordered, places = logits.softmax(-1).sort(1, descending=True)
        cut = ordered.cumsum(1) - ordered >= share
        return logits.masked_fill(torch.zeros_like(cut).scatter(1, places, cut), -torch.inf)

    return process


def min_p(share: float) -> Process:
    def process(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
        p = logits.softmax(-1)
        return logits.masked_fill(p < share * p.amax(1, keepdim=True), -torch.inf)

    return process


def repetition(penalty: float) -> Process:
    def process(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, tokens, True)
        return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    return process


def banned(*words: int) -> Process:
    return lambda logits, tokens, step: logits.index_fill(1, torch.tensor(words), -torch.inf)


def shortest(count: int) -> Process:
    return lambda logits, tokens, step: banned(EOS)(logits, tokens, step) if step < count else logits


def no_repeat(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    """No 2-gram twice is too weak here: 1-grams of the response would be; this forbids repeated 3-grams."""
    logits = logits.clone()
    for row, text in enumerate(tokens.tolist()):
        last = tuple(text[-2:])
        for start in range(len(text) - 2):
            if tuple(text[start : start + 2]) == last:
                logits[row, text[start + 2]] = -torch.inf
    return logits


def forced_end(at: int) -> Process:
    def process(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
        return torch.full_like(logits, -torch.inf).index_fill(1, torch.tensor([EOS]), 0.0) if step == at else logits

    return process


def greedy(logits: Tensor, tokens: Tensor, step: int) -> Tensor:
    return top_k(1)(logits, tokens, step)


def drawing(process: Process, **changes: Any) -> Make:
    return lambda models, rows, seed: rollout(models, rows, seed, process, **changes)


def frequent(models: Models, seed: int) -> list[int]:
    """The second to fifth most drawn words."""
    rows = rollout(models, 64, seed + 500)
    counts = torch.tensor([token for row in rows for token in row["response_ids"]]).bincount(minlength=VOCAB)
    counts[:WORDS] = 0
    return [int(word) for word in counts.argsort(descending=True)[1:5]]


def without_frequent(models: Models, rows: int, seed: int) -> Rows:
    return rollout(models, rows, seed, banned(*frequent(models, seed)))


def biased(models: Models, rows: int, seed: int) -> Rows:
    """A logit bias of −5 on four frequent words."""
    words = torch.tensor(frequent(models, seed))
    return rollout(models, rows, seed, lambda logits, tokens, step: logits.index_add(
        1, words, torch.full((len(logits), len(words)), -5.0)))  # fmt: skip


# --- other weights --------------------------------------------------------------------------------------------------


def in_training(model: nn.Module, share: float = 0.1) -> nn.Module:
    """A copy that was left in training mode."""
    copied = copy.deepcopy(model).train()
    for module in copied.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
    return copied


def older(steps: int) -> Make:
    """The sampler holds weights that are so many steps old."""
    return lambda models, rows, seed: rollout(models, rows, seed, sampler=models.at(STEPS - steps))


def other_models(make: Callable[[Models], dict[str, Any]]) -> Make:
    return lambda models, rows, seed: rollout(models, rows, seed, **make(models))


# --- scorers --------------------------------------------------------------------------------------------------------


def from_columns(model: nn.Module, tokens: Tensor, attention: Tensor) -> Tensor:
    """Positions are those of the columns."""
    positions = torch.arange(tokens.shape[1])[None].expand_as(tokens)
    return model(tokens, attention_mask=attention, position_ids=positions).logits


def unmasked(model: nn.Module, tokens: Tensor, attention: Tensor) -> Tensor:
    """No mask and no positions: pads are text."""
    return model(tokens).logits


def scoring(both: bool = True, **changes: Any) -> Make:
    """Policy and reference, or the policy alone, scored by another scorer."""

    def make(models: Models, rows: int, seed: int) -> Rows:
        scorer = Scorer(**changes)
        return rollout(models, rows, seed, scorer=scorer, **({"ref_scorer": scorer} if both else {}))

    return make


def filtered(logits: Tensor) -> Tensor:
    return logits.masked_fill(logits < logits.topk(8).values[..., -1:], -torch.inf).log_softmax(-1)


# --- files ----------------------------------------------------------------------------------------------------------


def changed(**columns: Callable[[dict[str, Any]], Any]) -> Make:
    def make(models: Models, rows: int, seed: int) -> Rows:
        return [{**row, **{name: change(row) for name, change in columns.items()}}
                for row in rollout(models, rows, seed)]  # fmt: skip

    return make


def counted_pads(models: Models, rows: int, seed: int) -> Rows:
    wider = []
    for row in rollout(models, rows, seed):
        more = LONGEST - len(row["response_ids"])
        lines = {name: row[name] + [-0.7] * more for name in row if name.endswith("_logprobs")}
        ids = row["response_ids"] + [PAD] * more
        wider.append({**row, **lines, "response_ids": ids, "mask": [1] * LONGEST})
    return wider


def scored_twice(models: Models, rows: int, seed: int) -> Rows:
    """Dropout in the policy's scoring, which was done a second time."""
    dropping = in_training(models.policy)
    once = rollout(models, rows, seed, policy=dropping)
    again = rollout(models, rows, seed, policy=dropping, scorer=Scorer(batch=7))  # other batches, other masks
    return [{**row, "policy_logprobs_again": more["policy_logprobs"]} for row, more in zip(once, again, strict=True)]


def swapped(models: Models, rows: int, seed: int) -> Rows:
    return [{**row, "policy_logprobs": row["ref_logprobs"], "ref_logprobs": row["policy_logprobs"]}
            for row in rollout(models, rows, seed)]  # fmt: skip


def other_reference(models: Models, rows: int, seed: int) -> Rows:
    """The first rollout: its reference is another model than the policy that has not learned anything yet."""
    first = Models(models.policy, models.policy, models.path, models.place)
    drawn = rollout(first, rows, seed, reference=models.reference)
    return [{**row, "initial": True} for row in drawn]


def moved_reference(models: Models, rows: int, seed: int) -> Rows:
    return rollout(models, rows, seed, reference=models.at(STEPS))


def newer_scorer(models: Models, rows: int, seed: int) -> Rows:
    """The file is of the sampler's weights, twelve steps before those that scored: KL after the updates."""
    drawn = rollout(models, rows, seed, policy=pushed(models))
    return [{**row, "sampler_version": 7, "scorer_version": 8} for row in drawn]


def pushed(models: Models) -> nn.Module:
    """The policy as far again from the reference."""
    after = copy.deepcopy(models.policy)
    half = models.at(STEPS // 2).state_dict()
    after.load_state_dict({name: 2 * tensor - half[name] for name, tensor in models.policy.state_dict().items()})
    return after.eval()


FAULTS = [
    Fault("top-k 20", "NK1", drawing(top_k(20)), ids_only=True),
    Fault("top-p 0.9", "NK1", drawing(top_p(0.9)), ids_only=True),
    Fault("min-p 0.1", "NK1", drawing(min_p(0.1)), ids_only=True),
    Fault(
        "temperature 0.7 in the sampler",
        "NK2",
        drawing(lambda logits, tokens, step: logits, drawn_at=0.7),
        ids_only=True,
    ),
    Fault(
        "temperature 1.3 in the sampler",
        "NK2",
        drawing(lambda logits, tokens, step: logits, drawn_at=1.3),
        ids_only=True,
    ),
    Fault("repetition penalty 1.3", "NK3", drawing(repetition(1.3)), ids_only=False),
    Fault("repetition penalty 1.1", "NK3", drawing(repetition(1.1))),
    Fault("no repeated 3-grams", "NK3", drawing(no_repeat)),
    Fault("four frequent words banned", "NK3", without_frequent),
    Fault("a logit bias on four frequent words", "NK3", biased, asks=True),
    Fault("min_new_tokens 8", "NK4", drawing(shortest(8)), ids_only=True, rows=128),
    Fault("min_new_tokens 12", "NK4", drawing(shortest(12)), ids_only=True, rows=128),
    Fault("end-of-text suppressed", "NK4", drawing(banned(EOS)), ids_only=True),
    Fault("greedy", "NK5", drawing(greedy), ids_only=True),
    Fault("end-of-text forced at the longest", "NK24", drawing(forced_end(LONGEST - 1)), ids_only=True, rows=128),
    Fault("dropout in the sampler", "NK7", other_models(lambda m: {"sampler": in_training(m.policy)}), kinds=("gpt2",)),
    Fault("the sampler is the reference", "NK13", other_models(lambda m: {"sampler": m.reference}), ids_only=True),
    Fault("the sampler's weights are 15 of 30 steps old", "NK13", older(15), asks=True),
    Fault("the sampler's weights are 5 of 30 steps old", "NK13", older(5), asks=True),
    Fault("the sampler's weights are 1 of 30 steps old", "NK13", older(1), asks=True),
    Fault(
        "the sampler is in bfloat16", "NK16", other_models(lambda m: {"sampler": copy.deepcopy(m.policy).bfloat16()})
    ),
    Fault(
        "dropout in the policy's scoring",
        "NK6",
        other_models(lambda m: {"policy": in_training(m.policy)}),
        kinds=("gpt2",),
    ),
    Fault("dropout in the policy's scoring, scored twice", "NK6", scored_twice, kinds=("gpt2",)),
    Fault(
        "temperature left out of the scorer",
        "NK2",
        drawing(lambda logits, tokens, step: logits, temperature=0.7, scorer=Scorer(), ref_scorer=Scorer()),
        temperature=0.7,
    ),
    Fault("temperature in the scorer alone", "NK2", scoring(temperature=0.8)),
    Fault("positions of the columns", "NK8", scoring(forward=from_columns), kinds=("gpt2",)),
    Fault("pads attended to", "NK9", scoring(forward=unmasked)),
    Fault("labels one late", "NK11", scoring(shift=0)),
    Fault("policy and reference swapped", "NK12", swapped),
    Fault("another reference at first", "NK14", other_reference),
    Fault("the reference moved with the policy", "NK15", moved_reference),
    Fault(
        "the reference moved half of the way",
        "NK15",
        other_models(lambda m: {"reference": m.at(STEPS // 2)}),
        asks=True,
    ),
    Fault("raw logits", "NK20", scoring(line=lambda logits: logits)),
    Fault("log-softmax of filtered logits", "NK20", scoring(line=filtered)),
    Fault("padding counted", "NK10", counted_pads),
    Fault(
        "mask without end-of-text",
        "NK9",
        changed(mask=lambda row: [int(token != EOS) for token in row["response_ids"]]),
    ),
    Fault(
        "response tokenised again", "NK17", changed(scored_response_ids=lambda row: [*row["response_ids"][:-1], WORDS])
    ),
    Fault("prompt of another template", "NK18", changed(scored_prompt_ids=lambda row: [EOS, *row["prompt_ids"]])),
    Fault("the reference reads another prompt", "NK18", changed(ref_prompt_ids=lambda row: row["prompt_ids"][1:])),
    Fault("KL measured after the updates", "NK19", newer_scorer),
    Fault("settings: top_k 50", "NK1", changed(sampler=lambda row: {"top_k": 50, "temperature": 1.0})),
    Fault("settings: a logit bias", "NK3", changed(sampler=lambda row: {"logit_bias": {"7": -100}})),
]
