"""Classic wrong configurations of PPO, injected into heed's own: each must be named with exactly its cause.

A fault of the live run patches heed's sampler or its scoring for as long as a `with` block lasts; a fault that only
other trainers have changes the rows of a file of rollouts. The product has no setting for any of this.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers.generation.logits_process import (
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from heed.batches import PromptBatch, Responses
from heed.data.batch import prompt_batch
from heed.models import policy as policy_module
from heed.models import sampler
from heed.models.cache import packed
from heed.models.policy import Policy
from heed.models.roles import Roles
from heed.models.sampler import Sampler
from heed.models.trunk import Trunk
from heed.rl import rollout as rollout_module

Rows = list[dict[str, Any]]
Injection = Callable[[Roles], AbstractContextManager[Any]]
Spoil = Callable[[Rows, Roles], Rows]
Make = Callable[[Roles, PromptBatch], LogitsProcessor]
DROPOUT = 0.1


@dataclass(frozen=True)
class Fault:
    """A wrong configuration and the cause that it is.

    `inject` patches the run and `replaced` its roles; `spoil` changes the rows of a file instead. `trained`: it shows
    only as the policy leaves its reference, so the run is trained. `begun`: the policy has left it before. `late`: the
    policy's column of the file is written after the update.
    """

    name: str
    cause: str
    inject: Injection = lambda roles: nullcontext()
    replaced: Callable[[Roles], Roles] = lambda roles: roles
    spoil: Spoil | None = None
    trained: bool = False
    begun: bool = False
    late: bool = False
    temperature: float = 1.0
    longest: int = 24


# --- the sampler ----------------------------------------------------------------------------------------------------


def processed(make: Make) -> Injection:
    """`make(roles, prompts)` gives the processor that stands between logits and draw."""

    def inject(roles: Roles) -> AbstractContextManager[Any]:
        return _processed(roles, make)

    return inject


@contextmanager
def _processed(roles: Roles, make: Make) -> Iterator[None]:
    rows, processor = torch.zeros(0, 0, dtype=torch.long), LogitsProcessor()
    sample, draw, eos = Sampler.__call__, sampler.draw, eos_of(roles)

    def sample_with(own: Sampler, prompts: PromptBatch, generator: torch.Generator) -> Responses:
        nonlocal rows, processor
        with patch.object(Sampler, "__call__", sample), patch.object(sampler, "draw", draw):
            processor = make(roles, prompts)
        rows = prompts.tokens
        return sample(own, prompts, generator)

    def draw_with(logits: Tensor, temperature: float, noise: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal rows
        tokens, chosen = draw(processor(rows, logits.clone()), temperature, noise)
        rows = torch.cat([rows, tokens[:, None]], 1)[packed(tokens != eos)]
        return tokens, chosen

    with patch.object(Sampler, "__call__", sample_with), patch.object(sampler, "draw", draw_with):
        yield


def drawn_at(temperature: float) -> Injection:
    """The sampler has a temperature of its own; 0 is greedy."""
    draw = sampler.draw

    def other(logits: Tensor, _: float, noise: Tensor) -> tuple[Tensor, Tensor]:
        return draw(logits, temperature, noise)

    return lambda roles: patch.object(sampler, "draw", other)


def generating(wrap: Callable[[Policy], AbstractContextManager[Any]]) -> Injection:
    """Everything that the policy draws, it draws inside the block."""
    generate = Policy.generate

    def other(policy: Policy, *arguments: Any, **options: Any) -> Any:
        with wrap(policy):
            return generate(policy, *arguments, **options)

    return lambda roles: patch.object(Policy, "generate", other)


def adapters_off(roles: Roles) -> AbstractContextManager[Any]:
    """Rollouts come from the base model."""
    generate = Policy.generate

    def other(policy: Policy, *arguments: Any, **options: Any) -> Any:
        return generate(Policy(policy.trunk, None), *arguments, **options)

    return patch.object(Policy, "generate", other)


@contextmanager
def stale(roles: Roles) -> Iterator[None]:
    """The sampler has a copy of the weights that is brought up to date once, after the first update, never again."""
    copies: list[dict[str, Tensor]] = []
    parameters = roles.policy.parameters()

    @contextmanager
    def as_copied(policy: Policy) -> Iterator[None]:
        now = {name: parameter.data for name, parameter in parameters.items()}
        if len(copies) < 2:
            copies.append({name: tensor.clone() for name, tensor in now.items()})
        for name, parameter in parameters.items():
            parameter.data = copies[-1][name]
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = now[name]

    with generating(as_copied)(roles):
        yield


@contextmanager
def in_bfloat16(policy: Policy) -> Iterator[None]:
    """The weights as a server in half precision has them; the trunk's own numbers come back afterwards."""
    model = policy.trunk.model
    exact = {name: parameter.data for name, parameter in model.named_parameters()}
    head = policy.trunk.head
    try:
        model.to(torch.bfloat16)
        policy.trunk.head = copy.deepcopy(head).float()
        yield
    finally:
        policy.trunk.head = head
        for name, parameter in model.named_parameters():
            parameter.data = exact[name]


# --- the scorer -----------------------------------------------------------------------------------------------------


def reading(change: Callable[[Trunk, Tensor, Tensor], AbstractContextManager[Any]], sampling: bool) -> Injection:
    """Forward passes of the sampler, or those of the scorer, run inside a block."""
    hidden = Trunk.hidden

    def other(trunk: Trunk, tokens: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        if (cache is not None) != sampling:
            return hidden(trunk, tokens, mask, cache)
        with change(trunk, tokens, mask):
            return hidden(trunk, tokens, mask, cache)

    return lambda roles: patch.object(Trunk, "hidden", other)


@contextmanager
def with_dropout(trunk: Trunk, *_: Tensor) -> Iterator[None]:
    """The model was left in training mode."""
    model = trunk.model
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for module in dropouts:
        module.p = DROPOUT
    model.train()
    try:
        yield
    finally:
        model.eval()
        for module in dropouts:
            module.p = 0.0


def policy_in_training_mode(roles: Roles) -> AbstractContextManager[Any]:
    """Only the policy's scoring has dropout: the reference is another object, in evaluation mode."""

    def change(trunk: Trunk, tokens: Tensor, mask: Tensor) -> AbstractContextManager[Any]:
        active = next(iter(trunk.layers())).active_adapters
        return with_dropout(trunk) if list(active) == [roles.policy.adapter] else nullcontext()

    return reading(change, sampling=False)(roles)


def rollout_in_training_mode(roles: Roles) -> AbstractContextManager[Any]:
    """The same, but for the rollout's own scoring only: whatever is scored later is scored rightly."""

    def with_patch(*arguments: Any, **options: Any) -> Any:
        with policy_in_training_mode(roles):
            return compare(*arguments, **options)

    compare = rollout_module.compare
    return patch.object(rollout_module, "compare", with_patch)


def bare(attention: bool) -> Injection:
    """A forward pass without `position_ids`, and without `attention_mask` too if not `attention`."""
    hidden = Trunk.hidden

    def other(trunk: Trunk, tokens: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        if cache is not None:
            return hidden(trunk, tokens, mask, cache)
        options = {"attention_mask": mask.long()} if attention else {}
        return trunk.body(input_ids=tokens, position_ids=torch.arange(tokens.shape[1])[None], **options)[0]

    return lambda roles: patch.object(Trunk, "hidden", other)


def shifted(roles: Roles) -> AbstractContextManager[Any]:
    """Each token is looked up in the logits that already saw it."""
    return patch.object(policy_module, "predicting", lambda hidden, counted: hidden[:, 1:][counted[:, 1:]])


@contextmanager
def scored_by(line: Callable[[Tensor, float], Tensor]) -> Iterator[None]:
    """`line(logits, temperature)` stands in the place of log_softmax wherever written tokens are looked up."""
    statistics = policy_module.token_statistics

    def chosen(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
        return line(logits, temperature).gather(-1, tokens[..., None])[..., 0]

    def all_of_them(logits: Tensor, ref_logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Any:
        own, other = (chosen(one, tokens, temperature) for one in (logits, ref_logits))
        return replace(statistics(logits, ref_logits, tokens, temperature), logprobs=own, ref_logprobs=other)

    scorers = {"token_logprobs": chosen, "token_statistics": all_of_them}
    with patch.multiple(policy_module, **scorers):
        yield


def filtered(logits: Tensor, temperature: float) -> Tensor:
    """log_softmax of what a top-k filter left over."""
    return logits.masked_fill(logits < logits.topk(5).values[..., -1:], -torch.inf).log_softmax(-1)


def swapped(roles: Roles) -> AbstractContextManager[Any]:
    """The reference's numbers are taken for the policy's, and the other way round."""
    statistics = policy_module.token_statistics

    def other(logits: Tensor, ref_logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Any:
        return statistics(ref_logits, logits, tokens, temperature)

    return patch.object(policy_module, "token_statistics", other)


# --- files of other trainers ----------------------------------------------------------------------------------------


def changed(**columns: Callable[[dict[str, Any], Roles], Any]) -> Spoil:
    """Each row with other columns, made from the row."""
    return lambda rows, roles: [{**row, **{name: make(row, roles) for name, make in columns.items()}} for row in rows]


def padded(rows: Rows, roles: Roles) -> Rows:
    """Everything up to the end of the batch is counted, padding too."""
    longest, pad = max(len(row["response_ids"]) for row in rows), roles.policy.trunk.tokenizer.pad_token_id
    wider = []
    for row in rows:
        more = longest - len(row["response_ids"])
        lines = {name: [*row[name], *[-0.5] * more] for name in row if name.endswith("_logprobs")}
        wider.append({**row, **lines, "response_ids": [*row["response_ids"], *[pad] * more], "mask": [1] * longest})
    return wider


def read_again(row: dict[str, Any], roles: Roles) -> list[int]:
    """Decoded without special tokens, and tokenised."""
    tokenizer = roles.policy.trunk.tokenizer
    return list(tokenizer(tokenizer.decode(row["response_ids"], skip_special_tokens=True))["input_ids"])


def prompt_cut(row: dict[str, Any], roles: Roles) -> list[int]:
    """The scorer puts a first token of its own before the prompt, and cuts two to make room."""
    return [eos_of(roles), *row["prompt_ids"][2:]]


def without_end(row: dict[str, Any], roles: Roles) -> list[int]:
    """A mask made of `ids != pad` where the pad token is end-of-text."""
    return [int(token != eos_of(roles)) for token in row["response_ids"]]


def scored_with_dropout(rows: Rows, roles: Roles) -> Rows:
    """The policy's column, and the same a second time, under a dropout that nobody switched off."""
    prompts, responses = as_batch(rows, roles)
    lines = {}
    for name in ("policy_logprobs", "policy_logprobs_again"):
        with torch.no_grad(), roles.policy.active(), with_dropout(roles.policy.trunk):
            lines[name] = roles.policy.logprobs(prompts, responses).tolist()
    return [
        {**row, **{name: line[i][: len(row["response_ids"])] for name, line in lines.items()}}
        for i, row in enumerate(rows)
    ]


def as_batch(rows: Rows, roles: Roles) -> tuple[PromptBatch, Responses]:
    """Rows of a file as padded tensors."""
    pad = roles.policy.trunk.tokenizer.pad_token_id
    longest = max(len(row["response_ids"]) for row in rows)
    drawn = [[*row["response_ids"], *[pad] * (longest - len(row["response_ids"]))] for row in rows]
    lengths = torch.tensor([len(row["response_ids"]) for row in rows])
    mask = torch.arange(longest) < lengths[:, None]
    return prompt_batch([row["prompt_ids"] for row in rows], pad), Responses(torch.tensor(drawn), mask, mask.float())


# --- all of them ----------------------------------------------------------------------------------------------------


def eos_of(roles: Roles) -> int:
    return int(roles.policy.trunk.tokenizer.eos_token_id)


def frequent(roles: Roles, prompts: PromptBatch) -> list[int]:
    """Four tokens of middling frequency: the seventh to tenth most drawn, end-of-text aside."""
    drawn = roles.policy.generate(prompts, 16, 1.0, torch.Generator().manual_seed(0), copies=8)
    counts = drawn.tokens[drawn.mask].bincount()
    counts[eos_of(roles)] = 0
    return [int(token) for token in counts.argsort(descending=True)[6:10]]


def unmerged(roles: Roles) -> Roles:
    """The reference is the trunk with every adapter switched off, while the policy starts from one."""
    return replace(roles, reference=Policy(roles.policy.trunk, None))


FAULTS = [
    # the sampler
    Fault("top-k 5 (as generate's 50 for a large vocabulary)", "NK1", processed(lambda *_: TopKLogitsWarper(5))),
    Fault("top-p 0.9", "NK1", processed(lambda *_: TopPLogitsWarper(0.9))),
    Fault("min-p 0.1", "NK1", processed(lambda *_: MinPLogitsWarper(0.1))),
    Fault("temperature 0.7 in the sampler", "NK2", drawn_at(0.7)),
    Fault("repetition penalty 1.2", "NK3", processed(lambda *_: RepetitionPenaltyLogitsProcessor(1.2))),
    Fault("no repeated 3-grams", "NK3", processed(lambda *_: NoRepeatNGramLogitsProcessor(3))),
    Fault(
        "four suppressed tokens",
        "NK3",
        processed(lambda roles, prompts: SuppressTokensLogitsProcessor(frequent(roles, prompts))),
    ),
    Fault(
        "min_new_tokens 8",
        "NK4",
        processed(lambda roles, prompts: MinNewTokensLengthLogitsProcessor(prompts.tokens.shape[1], 8, eos_of(roles))),
    ),
    Fault("end-of-text suppressed", "NK4", processed(lambda roles, _: SuppressTokensLogitsProcessor([eos_of(roles)]))),
    Fault("greedy", "NK5", drawn_at(0)),
    Fault("dropout in the sampler", "NK7", reading(with_dropout, sampling=True)),
    Fault("adapter switched off in the sampler", "NK13", adapters_off, trained=True),
    Fault("sampler's weights two updates old and older", "NK13", stale, trained=True),
    Fault("sampler in bfloat16", "NK16", generating(in_bfloat16)),
    Fault(
        "end-of-text forced at length 6, and counted",
        "NK24",
        processed(lambda roles, prompts: ForcedEOSTokenLogitsProcessor(prompts.tokens.shape[1] + 6, eos_of(roles))),
        longest=6,
    ),
    # the scorer
    Fault(
        "temperature left out of the scorer",
        "NK2",
        lambda roles: scored_by(lambda logits, temperature: logits.log_softmax(-1)),
        temperature=0.7,
    ),
    Fault("dropout in the policy's scoring", "NK6", policy_in_training_mode),
    Fault("dropout in the scoring of the rollout alone", "NK6", rollout_in_training_mode),
    Fault("positions counted from the pads", "NK8", bare(attention=True)),
    Fault("no attention mask in scoring", "NK9", bare(attention=False)),
    Fault("labels shifted by one", "NK11", shifted),
    Fault("policy and reference swapped", "NK12", swapped, trained=True),
    Fault("reference is the base of an unmerged adapter", "NK14", replaced=unmerged, begun=True),
    Fault(
        "reference shares the trained parameters", "NK15", replaced=lambda roles: replace(roles, reference=roles.policy)
    ),
    Fault("raw logits", "NK20", lambda roles: scored_by(lambda logits, temperature: logits)),
    Fault("log-softmax of filtered logits", "NK20", lambda roles: scored_by(filtered)),
    # files of other trainers
    Fault("dropout in the policy's scoring, in a file", "NK6", spoil=scored_with_dropout),
    Fault("pad is end-of-text, mask made of ids", "NK9", spoil=changed(mask=without_end)),
    Fault("padding after end-of-text counted", "NK10", spoil=padded),
    Fault(
        "reference moved with the policy, in a file",
        "NK15",
        spoil=changed(ref_logprobs=lambda row, _: row["policy_logprobs"]),
        begun=True,
    ),
    Fault("response decoded and tokenised again", "NK17", spoil=changed(scored_response_ids=read_again)),
    Fault("prompt of another template in the scorer", "NK18", spoil=changed(scored_prompt_ids=prompt_cut)),
    Fault(
        "KL measured after the updates",
        "NK19",
        spoil=changed(sampler_version=lambda row, _: 0, scorer_version=lambda row, _: 1),
        begun=True,
        late=True,
    ),
]
