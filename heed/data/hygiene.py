"""The paper's cleaning of prompts (section 3.2, appendix A), and splits that never part a group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from heed.data.encode import encode_prompts
from heed.data.template import DialogueTemplate, Template
from heed.errors import DataError
from heed.records import Demonstration, Dialogue, Prompt, Ranking, group_of
from heed.settings.common import HygieneSettings

R = TypeVar("R", Demonstration, Prompt, Ranking)


@dataclass(frozen=True, slots=True)
class Cleaning:
    """How many prompts were read, why some were dropped, and how many are left."""

    read: int
    near_duplicates: int
    over_user: int
    too_long: int

    @property
    def kept(self) -> int:
        """Prompts that are left."""
        return self.read - self.near_duplicates - self.over_user - self.too_long

    def __str__(self) -> str:
        return (
            f"kept {self.kept:,} of {self.read:,} prompts; dropped {self.near_duplicates:,} near duplicates, "
            f"{self.over_user:,} beyond a user's share, {self.too_long:,} too long"
        )


def clean(
    records: Sequence[R], settings: HygieneSettings, template: Template, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[R], Cleaning]:
    """Drop near duplicates, then what one user has too much of, then prompts that are too long."""
    unlike = drop_near_duplicates(records, settings.shared_prefix)
    shared = limit_per_user(unlike, settings.max_per_user)
    lengths = [len(tokens) for tokens in encode_prompts([r.prompt for r in shared], template, tokenizer)]
    kept = [r for r, length in zip(shared, lengths, strict=True) if length <= settings.max_prompt_tokens]
    report = Cleaning(len(records), len(records) - len(unlike), len(unlike) - len(shared), len(shared) - len(kept))
    if records and not kept:
        raise DataError("hygiene", f"no prompt is left: {report}", "raise `hygiene.max_prompt_tokens`")
    return kept, report


def drop_near_duplicates(records: Sequence[R], characters: int) -> list[R]:
    """Without prompts whose first `characters` equal an earlier prompt's; a shorter one must be equal as a whole.

    The text that is compared is that of the dialogue template whatever the model's own, so that a preamble that all
    prompts share counts for nothing. A system turn must be equal as a whole.
    """
    if characters == 0:
        return list(records)
    return _first_of_each(records, lambda record: _prefix(record.prompt, characters), 1)


def limit_per_user(records: Sequence[R], most: int) -> list[R]:
    """At most so many prompts of one user, the first ones. Records without a user are all kept. 0 = no limit."""
    if most == 0:
        return list(records)
    return _first_of_each(records, lambda record: record.user if isinstance(record, Prompt) else "", most)


def split_by_group(records: Sequence[R], share: float, seed: int) -> tuple[list[R], list[R]]:
    """(train, held out): about `share` of the groups are held out whole, at least one, and at least one is not.

    A group's lot is a hash of its name and the seed, so rows that are added later move few groups.
    """
    groups = sorted({_group(record) for record in records}, key=lambda group: _hash(f"split {seed} {group}"))
    if len(groups) < 2:
        hint = "name held-out data of its own (`validation`), or rows with more prompts"
        raise DataError("validation_share", f"{len(groups)} group of prompts cannot be split in two", hint)
    held_out = set(groups[: min(max(1, round(share * len(groups))), len(groups) - 1)])
    return [r for r in records if _group(r) not in held_out], [r for r in records if _group(r) in held_out]


def halves(records: Sequence[R]) -> tuple[list[R], list[R]]:
    """Two halves that share no group. A group's half follows from its name alone, whatever the other records are."""
    first = {group: _hash(f"half {group}")[0] % 2 == 0 for group in {_group(record) for record in records}}
    return [r for r in records if first[_group(r)]], [r for r in records if not first[_group(r)]]


def _group(record: Demonstration | Prompt | Ranking) -> str:
    return record.group or group_of(record.prompt)


def _prefix(prompt: Dialogue, characters: int) -> tuple[str, str]:
    system = "\n".join(turn.content for turn in prompt if turn.role == "system")
    spoken = tuple(turn for turn in prompt if turn.role != "system")
    return system, DialogueTemplate().render(spoken)[:characters]


def _first_of_each(records: Sequence[R], key: Callable[[R], str | tuple[str, str]], most: int) -> list[R]:
    seen: Counter[str | tuple[str, str]] = Counter()
    kept = []
    for record in records:
        name = key(record)
        seen[name] += 1
        if name == "" or seen[name] <= most:
            kept.append(record)
    return kept


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
