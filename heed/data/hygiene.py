"""The paper's cleaning of prompts (section 3.2, appendix A), and splits that never part a group."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from transformers import PreTrainedTokenizerBase

from heed.data.encode import NO_TOKEN, encode_each
from heed.data.spelled import tell_spelled
from heed.data.tally import Tally
from heed.data.template import DialogueTemplate, Refused, Template
from heed.errors import DataError
from heed.records import Demonstration, Dialogue, Prompt, Ranking, group_of
from heed.settings.common import HygieneSettings

EVERYTHING = 1 << 60  # characters
R = TypeVar("R", Demonstration, Prompt, Ranking)


log = logging.getLogger("heed")

CHOSEN = HygieneSettings().max_prompt_tokens  # another limit is somebody's choice, and may drop what it likes


class Room(NamedTuple):
    """What a model and its sampler leave for a prompt, in tokens."""

    context: int
    max_new_tokens: int

    @property
    def tokens(self) -> int:
        """The longest prompt that a whole response fits behind."""
        return self.context - self.max_new_tokens


@dataclass(frozen=True, slots=True)
class Cleaning:
    """How many prompts were read, why some were dropped, and how many are left.

    `firsts` names the first place of each kind, where it is known.
    """

    read: int
    near_duplicates: int
    over_user: int
    too_long: int
    refused: int = 0
    firsts: dict[str, str] = field(default_factory=dict)
    refusal: str = ""  # why the first refused prompt was

    @property
    def kept(self) -> int:
        """Prompts that are left."""
        return self.read - sum(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many were dropped, by the reason's name in reports."""
        return {name: getattr(self, name) for name in ("near_duplicates", "over_user", "too_long", "refused")}

    def __str__(self) -> str:
        words = {
            "near_duplicates": "near duplicates",
            "over_user": "beyond a user's share",
            "too_long": "too long",
            "refused": "that cannot be written",
        }
        told = [f"{count:,} {words[name]}{self._first(name)}" for name, count in self.counts.items() if count]
        why = f": {self.refusal}" if self.refusal else ""
        dropped = f"; dropped {', '.join(told)}{why}" if told else ""
        return f"kept {self.kept:,} of {self.read:,} prompts{dropped}"

    def _first(self, name: str) -> str:
        return f" (first at {self.firsts[name]})" if self.firsts.get(name) else ""


def clean(
    records: Sequence[R],
    settings: HygieneSettings,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    room: Room | None = None,
    dropped: Tally | None = None,
) -> tuple[list[R], Cleaning]:
    """Drop what the model's chat template refuses, near duplicates, what one user has too much of, what is too long.

    With `room`, what leaves none for a response is too long as well. Each prompt that goes is added to `dropped`.
    Raises DataError where none is left, or where more than half of the different prompts go by a rule that nobody has
    chosen: such a rule does not fit the data.
    """
    tokens = encode_each([record.prompt for record in records], template, tokenizer)
    lengths = {id(r): len(row) for r, row in zip(records, tokens, strict=True) if not isinstance(row, Refused) and row}
    most = min(settings.max_prompt_tokens, room.tokens) if room else settings.max_prompt_tokens
    written = [record for record in records if id(record) in lengths]
    unlike = drop_near_duplicates(written, settings.shared_prefix)
    shared = limit_per_user(unlike, settings.max_per_user)
    kept = [record for record in shared if lengths[id(record)] <= most]
    steps = [
        ("refused", _refusals(records, tokens)),
        ("near_duplicates", _left_out(written, unlike, "near duplicates")),
        ("over_user", _left_out(unlike, shared, "prompts beyond a user's share")),
        ("too_long", _left_out(shared, kept, f"prompts of more than {most} tokens")),
    ]
    report = Cleaning(
        len(records),
        firsts={name: gone.rows[0][1] for name, gone in steps if gone},
        refusal=next((why for why, _ in steps[0][1]), ""),
        **{name: len(gone) for name, gone in steps},
    )
    if dropped is not None:
        for _, gone in steps:
            dropped.extend(gone)
    _refuse_mostly_dropped(records, kept, report, [lengths[id(r)] for r in shared], settings, room)
    tell_spelled(kept, template, tokenizer)
    return kept, report


def writable(records: Sequence[R], template: Template, name: str, dropped: Tally | None = None) -> list[R]:
    """Without prompts that the model's own chat template refuses; `clean` and `ranking_set` drop them by themselves.

    `name` says in the log which records they are.
    """
    kept, gone = list[R](), Tally()
    for record in records:
        try:
            template.render(record.prompt)
        except Refused as refused:
            gone.add(refused.reason, record.where)
        else:
            kept.append(record)
    if records and not kept:
        raise DataError(name, f"none is left: {gone}", "train with `template: dialogue`")
    if gone:
        log.warning("%s: dropped %s", name, gone)
    if dropped is not None:
        dropped.extend(gone)
    return kept


def _left_out(before: Sequence[R], after: Sequence[R], reason: str) -> Tally:
    stay, gone = Counter(map(id, after)), Tally()
    for record in before:
        stay[id(record)] -= 1
        if stay[id(record)] < 0:
            gone.add(reason, record.where)
    return gone


def _refusals(records: Sequence[R], tokens: Sequence[list[int] | Refused]) -> Tally:
    gone = Tally()
    for record, row in zip(records, tokens, strict=True):
        if isinstance(row, Refused) or not row:
            gone.add(row.reason if isinstance(row, Refused) else NO_TOKEN, record.where)
    return gone


def _refuse_mostly_dropped(
    records: Sequence[R],
    kept: Sequence[R],
    report: Cleaning,
    lengths: list[int],
    settings: HygieneSettings,
    room: Room | None,
) -> None:
    """Repeats of one prompt are not counted: they go by right. Nor is what a chosen `max_prompt_tokens` drops."""
    different = len({record.prompt for record in records})
    left = len({record.prompt for record in kept})
    is_chosen = settings.max_prompt_tokens != CHOSEN and not (room and room.tokens < settings.max_prompt_tokens)
    asked_for = report.too_long if is_chosen else 0
    if records and not kept:
        raise DataError("hygiene", f"no prompt is left: {report}", _advice(report, lengths, settings, room))
    if left + asked_for < different / 2:
        told = f"more than half of {different:,} different prompts are dropped: {report}"
        raise DataError("hygiene", told, _advice(report, lengths, settings, room))


def _advice(report: Cleaning, lengths: list[int], settings: HygieneSettings, room: Room | None) -> str:
    """What to set so that most prompts stay, for the rule that dropped most."""
    often = max(report.counts, key=report.counts.__getitem__)
    if often == "near_duplicates":
        return (
            f"they share their first {settings.shared_prefix} characters, as with a common preamble; to keep them set "
            "`hygiene.shared_prefix` to 0, or make the preamble a system turn"
        )
    if often == "over_user":
        return "to keep them set `hygiene.max_per_user` to 0"
    if often == "refused":
        return "train with `template: dialogue`, or give prompts that the model's chat template takes"
    return _more_tokens(sorted(lengths), settings, room)


def _more_tokens(lengths: list[int], settings: HygieneSettings, room: Room | None) -> str:
    longest, most_of_them = lengths[-1], lengths[3 * len(lengths) // 4]
    if room is None or longest <= room.tokens:
        return f"raise `hygiene.max_prompt_tokens` to {longest}"
    if most_of_them >= room.context:
        return f"most prompts alone are longer than the model's {room.context} positions: give shorter ones"
    needed = longest if longest < room.context else most_of_them
    lower = f"lower `sampling.max_new_tokens` to {room.context - needed}"
    return (
        lower if needed <= settings.max_prompt_tokens else f"{lower} and raise `hygiene.max_prompt_tokens` to {needed}"
    )


def drop_near_duplicates(records: Sequence[R], characters: int) -> list[R]:
    """Without prompts whose first `characters` equal an earlier prompt's; a shorter one must be equal as a whole.

    Of demonstrations these are the characters of the last user's turn, and what stands before it must be equal as a
    whole: every answer of a conversation is a lesson of its own.

    The text that is compared is that of the dialogue template whatever the model's own, so that a preamble that all
    prompts share counts for nothing. A system turn must be equal as a whole.
    """
    if characters == 0:
        return list(records)
    return _first_of_each(records, lambda record: _likeness(record, characters), 1)


def unlike(training: Sequence[R], held_out: Sequence[R], characters: int) -> list[R]:
    """Training records that are near duplicates of no held-out one (`drop_near_duplicates`) and share no group."""
    seen = {_likeness(record, characters or EVERYTHING) for record in held_out}
    groups = {_group(record) for record in held_out}
    return [r for r in training if _likeness(r, characters or EVERYTHING) not in seen and _group(r) not in groups]


def limit_per_user(records: Sequence[R], most: int) -> list[R]:
    """At most so many prompts of one user, the first ones. Records without a user are all kept. 0 = no limit."""
    if most == 0:
        return list(records)
    return _first_of_each(
        records, lambda record: record.user if isinstance(record, Prompt | Demonstration) else "", most
    )


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


def _likeness(record: Demonstration | Prompt | Ranking, characters: int) -> Hashable:
    """What near duplicates have in common."""
    if isinstance(record, Demonstration) and record.prompt:
        return record.prompt[:-1], _prefix(record.prompt[-1:], characters)
    return _prefix(record.prompt, characters)


def _prefix(prompt: Dialogue, characters: int) -> tuple[str, str]:
    system = "\n".join(turn.content for turn in prompt if turn.role == "system")
    spoken = tuple(turn for turn in prompt if turn.role != "system")
    return system, DialogueTemplate().render(spoken)[:characters]


def _first_of_each(records: Sequence[R], key: Callable[[R], Hashable], most: int) -> list[R]:
    seen: Counter[Hashable] = Counter()
    kept = []
    for record in records:
        name = key(record)
        seen[name] += 1
        if name == "" or seen[name] <= most:
            kept.append(record)
    return kept


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
