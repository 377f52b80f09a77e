"""What an SFT run's models answer: greedy completions of base, few-shot base and SFT model, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from heed.data.encode import encode_prompts
from heed.data.prompts import until_next_turn
from heed.data.template import Template
from heed.errors import ConfigError
from heed.formulas.statistics import bootstrap_mean, wilson
from heed.imitation.examples import Records
from heed.models.answers import answer
from heed.models.policy import Policy
from heed.records import Demonstration, Dialogue, Turn, prompt_to_json
from heed.settings.common import SamplingSettings
from heed.training.text_metrics import overlap_figures


@dataclass(frozen=True)
class CompletionPrompts:
    """Held-out demonstrations whose prompts are answered, and the demonstrations shown first in the few-shot column."""

    records: list[Demonstration]
    prompts: list[list[int]]
    after_shots: list[list[int]]  # empty where there is no few-shot column
    shots: list[int]  # how many fitted in front of each prompt


@dataclass(frozen=True)
class Completions:
    """One model's greedy answers. An answer ends at end-of-text, where the model begins the next turn, or at its limit.

    Models that are not fine-tuned seldom write end-of-text after an answer and go on with the user's next words; these
    are cut off, for every model alike. `finished` is True where the model ended its turn in either way.
    """

    texts: list[str]
    finished: list[bool]
    ended: list[bool]  # by end-of-text itself


def choose(
    records: Records, policy: Policy, template: Template, count: int, max_new_tokens: int, few_shot: int
) -> CompletionPrompts:
    """The first `count` held-out prompts that leave room for an answer, alone and after demonstrations.

    Shown are the first `few_shot` training demonstrations of one turn that are not longer than the median; in front of
    each prompt stand as many of them as fit.
    """
    if not count:
        return CompletionPrompts([], [], [], [])
    tokenizer, room = policy.trunk.tokenizer, policy.trunk.context - max_new_tokens
    if room <= 0:
        told = f"{max_new_tokens} leaves no room for a prompt in {policy.trunk.context} positions"
        raise ConfigError("completion_tokens", told, f"lower it to {policy.trunk.context // 2}")
    encoded = encode_prompts([record.prompt for record in records.held_out], template, tokenizer)
    fitting = [i for i, tokens in enumerate(encoded) if len(tokens) <= room][:count]
    held_out, prompts = [records.held_out[i] for i in fitting], [encoded[i] for i in fitting]
    shown = short_demonstrations(records.training, few_shot)
    if not shown:
        return CompletionPrompts(held_out, prompts, [], [])
    choices = [prompts]
    for number in range(1, len(shown) + 1):
        longer = [after(shown[:number], record.prompt) for record in held_out]
        choices.append(encode_prompts(longer, template, tokenizer))
    shots = [max(number for number, rows in enumerate(choices) if len(rows[i]) <= room) for i in range(len(held_out))]
    return CompletionPrompts(held_out, prompts, [choices[number][i] for i, number in enumerate(shots)], shots)


def short_demonstrations(training: Sequence[Demonstration], count: int) -> list[Demonstration]:
    """The first ones of one turn that are not longer than the median."""
    lengths = [len(one.prompt[-1].content) + len(one.response) for one in training]
    middle = median(lengths)
    short = (one for one, length in zip(training, lengths, strict=True) if length <= middle and len(one.prompt) == 1)
    return [one for one, _ in zip(short, range(count), strict=False)]


def after(shots: Sequence[Demonstration], prompt: Dialogue) -> Dialogue:
    """A prompt with demonstrations in front, as earlier turns of the same dialogue; a system turn stays first."""
    system = tuple(turn for turn in prompt if turn.role == "system")
    shown = tuple(turn for shot in shots for turn in (*shot.prompt, Turn("assistant", shot.response)))
    return (*system, *shown, *prompt[len(system) :])


def complete(policy: Policy, prompts: list[list[int]], max_new_tokens: int, microbatch_tokens: int) -> Completions:
    """Greedy answers (temperature 0), as in the paper's automatic evaluations."""
    longest = max(map(len, prompts)) + max_new_tokens
    batch = max(1, 2 * microbatch_tokens // longest)  # without gradients a token takes less memory
    sampling = SamplingSettings(max_new_tokens=max_new_tokens, batch=batch)
    greedy = sampling.model_copy(update={"temperature": 0.0})  # no setting may say so: what is trained is never greedy
    answers = answer(policy, prompts, greedy, torch.Generator(policy.trunk.device))
    cut = [until_next_turn(f"\n\n{text}") for text in answers.texts]  # an answer may begin with the next turn's marker
    finished = [went_on or ended for (_, went_on), ended in zip(cut, answers.finished, strict=True)]
    return Completions([text.strip() for text, _ in cut], finished, answers.finished)


def figures(prompts: CompletionPrompts, completions: dict[str, Completions], seed: int) -> dict[str, Any]:
    """BLEU and chrF against the demonstrations (`difference`: SFT minus base, by prompt), and how answers end."""
    references = [record.response for record in prompts.records]
    texts = {name: found.texts for name, found in completions.items()}
    shots = {"shots": bootstrap_mean(prompts.shots, seed).as_dict()} if prompts.shots else {}
    return {
        **overlap_figures(texts, references, "sft", "base", seed),
        "eos_rate": {name: wilson(sum(c.ended), len(c.ended)).as_dict() for name, c in completions.items()},
        "words": {
            name: bootstrap_mean([len(text.split()) for text in found.texts], seed).as_dict()
            for name, found in completions.items()
        },
        **shots,
    }


def rows(prompts: CompletionPrompts, completions: dict[str, Completions]) -> list[dict[str, Any]]:
    """A row for every prompt, for `samples.jsonl`."""
    return [
        {
            "prompt": prompt_to_json(record.prompt),
            "reference": record.response,
            "responses": {name: found.texts[i] for name, found in completions.items()},
            "finished": {name: found.finished[i] for name, found in completions.items()},
        }
        for i, record in enumerate(prompts.records)
    ]


def table(prompts: CompletionPrompts, completions: dict[str, Completions], count: int) -> list[dict[str, object]]:
    """The first few rows as they are printed."""
    return [
        {"prompt": record.prompt[-1].content, "demonstration": record.response}
        | {name: found.texts[i] for name, found in completions.items()}
        for i, record in enumerate(prompts.records[:count])
    ]
