"""A checkpoint that answers, with the template that it was trained with: for `heed chat` and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from heed.data.batch import prompt_batch
from heed.data.encode import encode_prompt
from heed.data.prompts import until_next_turn
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.models.answers import texts_of
from heed.models.checkpoint import Checkpoint
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.records import Dialogue, dialogue_from_json
from heed.rows.pieces import to_device

BATCH = 32  # prompts answered at once

Messages = Sequence[Mapping[str, str]]
"""A dialogue as `{"role", "content"}` objects, the user's turn last."""


class Reply(NamedTuple):
    """What a model says next, and whether it came to an end before its limit."""

    text: str
    ended: bool


@dataclass(frozen=True)
class Speaker:
    """A policy by name, and how a dialogue is written for it. An answer takes half of its context at most."""

    name: str
    policy: Policy
    template: Template

    @classmethod
    def load(cls, shelf: Shelf, checkpoint: Checkpoint, role: str, template: str) -> Speaker:
        """`role` names its adapter; `template` is for a checkpoint that does not name its own."""
        policy = shelf.policy(checkpoint, role)
        named = Template.named(checkpoint.template or template, policy.trunk.tokenizer)
        return cls(Path(checkpoint.name).name, policy, named)

    def answer(
        self,
        prompts: str | Messages | Sequence[str | Messages],
        max_new_tokens: int = 128,
        temperature: float = 0.7,
        seed: int = 0,
    ) -> list[str]:
        """An answer to each prompt: a text, a dialogue (a list of `{"role", "content"}`), or a list of these.

        `temperature` 0 takes the likeliest token each time. One seed gives the same answers twice. Raises DataError for
        what is no prompt, and for one that does not fit the context.
        """
        generator = torch.Generator(self.policy.trunk.device).manual_seed(seed)
        return [reply.text for reply in self.replies(dialogues(prompts), max_new_tokens, temperature, generator)]

    def replies(
        self, asked: Sequence[Dialogue], max_new_tokens: int, temperature: float, generator: torch.Generator
    ) -> list[Reply]:
        """What the model says next in each dialogue. It ends at end-of-text, where the model begins the other's turn,
        or at the limit.

        Of a dialogue that does not fit the context the earliest turns are left out; raises DataError where the last
        one alone is too long.
        """
        if max_new_tokens < 1 or temperature < 0:
            told = f"max_new_tokens is {max_new_tokens}, temperature {temperature}"
            raise ConfigError("answer", told, "give at least 1 token, and a temperature that is not below 0")
        if not asked:
            return []
        trunk, longest = self.policy.trunk, min(max_new_tokens, self.policy.trunk.context // 2)
        rows = [self._prompt(dialogue, trunk.context - longest) for dialogue in asked]
        prompts = to_device(prompt_batch(rows, trunk.tokenizer.pad_token_id), trunk.device)
        drawn = self.policy.generate(prompts, longest, temperature, generator, size=BATCH)
        ends = drawn.finished(trunk.stop_ids).tolist()
        return [_reply(text, ended) for text, ended in zip(texts_of(self.policy, drawn), ends, strict=True)]

    def _prompt(self, dialogue: Dialogue, room: int) -> list[int]:
        starts = [i for i, turn in enumerate(dialogue) if turn.role == "user"]
        for start in starts:
            tokens = encode_prompt(dialogue[start:], self.template, self.policy.trunk.tokenizer)
            if len(tokens) <= room:
                return tokens
        raise DataError("this message", f"{len(tokens)} tokens do not fit into {self.name}'s {room}", "say it shorter")


def dialogues(prompts: str | Messages | Sequence[str | Messages]) -> list[Dialogue]:
    """Prompts as programs give them: one text or dialogue, or several. Raises DataError with the number of the one that
    is neither."""
    one = isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], Mapping))
    several = [prompts] if one else prompts
    return [dialogue_from_json(_plain(prompt), f"prompt {i}") for i, prompt in enumerate(several, start=1)]


def _plain(prompt: object) -> object:
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        return prompt
    return [dict(turn) if isinstance(turn, Mapping) else turn for turn in prompt]


def _reply(text: str, ended: bool) -> Reply:
    cut, went_on = until_next_turn(f"\n\n{text}")  # an answer may begin with the next turn's marker
    return Reply(cut.strip(), went_on or ended)
