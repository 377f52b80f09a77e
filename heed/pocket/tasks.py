"""One question of the pocket world: drawn from a family, or read back from a prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from heed.errors import DataError
from heed.pocket.families import FAMILIES, Family
from heed.pocket.slots import Fields, fields_of, fill, reader
from heed.pocket.words import spaced, tokens
from heed.pocket.world import WORLD, Split, part
from heed.records import Dialogue, Turn

LEADS = ("", "hello. ", "please help me. ", "one more thing: ")  # may stand before any question


@dataclass(frozen=True)
class Task:
    """A question with everything that is true of its operands."""

    family: Family
    question: str
    fields: Fields

    @property
    def prompt(self) -> Dialogue:
        return (Turn("user", self.question),)

    @property
    def group(self) -> str:
        """The area and the operands: rows of one group must stay on one side of any split."""
        operands = sorted(" ".join(self.fields[name] for name in self.family.about).split())
        return " ".join([f"{self.family.area}:", *operands])

    @property
    def shortest(self) -> str:
        """The shortest right answer that is a sentence."""
        return min(answers(self.family.sentences, self.fields), key=lambda text: len(tokens(text)))


def answers(templates: Sequence[str], fields: Fields) -> list[str]:
    """What the templates say of these fields; those that do not fit are left out."""
    return [text for template in templates if (text := fill(template, fields)) is not None]


def draw_task(family: Family, split: Split | None, rng: random.Random) -> Task:
    """A task of the family about operands of the split (None: of the whole world)."""
    world = WORLD if split is None else part(split, family.area)
    fields = family.solve(family.draw(world, rng))
    question = fill(rng.choice(family.questions), fields)
    assert question is not None, f"{family.name}: a question that its own operands do not fit"
    return Task(family, rng.choice(LEADS) + question, fields)


def task_of(prompt: Dialogue) -> Task:
    """The task that a prompt asks. DataError where the pocket world asks no such question."""
    question = prompt[-1].content
    return _parse(question)


@cache
def _parse(question: str) -> Task:
    text = spaced(question)
    lead = next((lead for lead in map(spaced, LEADS) if lead and text.startswith(lead)), "")
    text = text[len(lead) :].strip()
    for family in FAMILIES:
        for template in family.questions:
            if (match := reader(template).fullmatch(text)) is not None:
                return Task(family, question, family.solve(fields_of(match)))
    raise DataError("prompt", f"not a question of the pocket world: {question!r}", "only its own prompts can be judged")
