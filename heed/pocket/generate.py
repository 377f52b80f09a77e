"""Rows of the pocket world: demonstrations as people would write them, and prompts to rank, train and evaluate on."""

from __future__ import annotations

import random
from itertools import cycle

from heed.pocket.families import FAMILIES, FAMILY, Family
from heed.pocket.phrases import PHRASES, Manner, Phrase, Position
from heed.pocket.slots import Fields
from heed.pocket.tasks import Task, answers, draw_task
from heed.pocket.words import tokens
from heed.pocket.world import Split
from heed.records import Demonstration, Prompt

WRONG = 0.28  # share of answers with a plausible mistake; with those that break off, three in ten are not right
SLIPS = (0.40, 0.35, 0.25)  # misremembered, misread, misunderstood
STYLES = {"short": 0.15, "plain": 0.32, "polite": 0.28, "wordy": 0.15, "rude": 0.07, "broken off": 0.03}
LONGEST = 23  # tokens; with the end-of-text token a response has at most 24


def demonstrations(seed: int, n: int) -> list[Demonstration]:
    """`n` answers by people of mixed care: some wrong, some curt, some rambling."""
    rng = random.Random(f"demonstrations {seed}")
    tasks = (draw_task(family, "sft", rng) for family, _ in zip(cycle(FAMILIES), range(n), strict=False))
    rows = [Demonstration(task.prompt, answer(task, rng), task.family.name, task.group) for task in tasks]
    rng.shuffle(rows)
    return rows


def ranking_prompts(seed: int, n: int) -> list[Prompt]:
    """`n` different prompts to sample candidates for."""
    return _prompts("ranking", f"ranking {seed}", n)


def ppo_prompts(seed: int, n: int) -> list[Prompt]:
    """`n` different prompts for PPO: operands of the ranking split, drawn anew."""
    return _prompts("ranking", f"ppo {seed}", n)


def evaluation_prompts(seed: int, n: int) -> list[Prompt]:
    """`n` different prompts about operands that no stage has asked about."""
    return _prompts("evaluation", f"evaluation {seed}", n)


def answer(task: Task, rng: random.Random, wrong: float = WRONG) -> str:
    """An answer in a random style, wrong with probability `wrong`; at most `LONGEST` tokens."""
    family, fields = _misled(task, rng) if rng.random() < wrong else (task.family, task.fields)
    while True:
        (style,) = rng.choices(list(STYLES), list(STYLES.values()))
        short = rng.choice(answers(family.short, fields))
        sentence = rng.choice(answers(family.sentences, fields))
        text = _styled(style, short, sentence, claims=family.name != "request", rng=rng)
        if len(tokens(text)) <= LONGEST:
            return text


def _misled(task: Task, rng: random.Random) -> tuple[Family, Fields]:
    """What to say wrongly: misremembered, about something else that was not asked, or to another question."""
    family = task.family
    (slip,) = rng.choices(["misremembered", "misread", "misunderstood"], SLIPS)
    if slip == "misunderstood" and family.confused_with:
        return FAMILY[rng.choice(family.confused_with)], task.fields
    if slip == "misread":
        for _ in range(10):
            other = draw_task(family, None, rng).fields
            if all(other[name] != task.fields[name] for name in family.answer):
                return family, other
    return family, family.mistake(task.fields, rng)


def ideal(task: Task) -> str:
    """The best answer: right, a whole sentence, courteous, short."""
    return f"gladly, {task.shortest}."


def _styled(style: str, short: str, sentence: str, claims: bool, rng: random.Random) -> str:
    match style:
        case "short":
            return _with_phrase(_any("polite", rng), short) if rng.random() < 0.15 else f"{short}."
        case "plain":
            return f"{sentence}."
        case "polite":
            return _with_phrase(_any("polite", rng), sentence)
        case "rude":
            return _with_phrase(_any("rude", rng, claims), sentence)
        case "broken off":
            words = sentence.split()
            return " ".join(words[: rng.randint(1, max(1, len(words) - 1))])
        case _:
            return _wordy(sentence, claims, rng)


def _wordy(sentence: str, claims: bool, rng: random.Random) -> str:
    """One or two fillers around the sentence, and sometimes a courtesy as well."""
    fore, aft = rng.choice([True, False]), rng.choice([True, False])
    text = _with_phrase(_any("filler", rng, claims, "opener", "claim", "before"), sentence) if fore else f"{sentence}."
    if aft or not fore:
        text = f"{text} {_any('filler', rng, claims, 'after').text}."
    if rng.random() < 0.4:
        text = f"{_any('polite', rng, claims, 'before').text}. {text}"
    return text


def _any(manner: Manner, rng: random.Random, claims: bool = True, *positions: Position) -> Phrase:
    """A phrase of the manner, in one of the positions if any are given. Before a greeting nothing can be claimed."""
    usable = [phrase for phrase in PHRASES if phrase.manner == manner and (claims or phrase.position != "claim")]
    return rng.choice([phrase for phrase in usable if not positions or phrase.position in positions])


def _with_phrase(phrase: Phrase, answer: str) -> str:
    match phrase.position:
        case "opener":
            return f"{phrase.text}, {answer}."
        case "claim":
            return f"{phrase.text} {answer}."
        case "before":
            return f"{phrase.text}. {answer}."
        case _:
            return f"{answer}. {phrase.text}."


def _prompts(split: Split, seed: str, n: int) -> list[Prompt]:
    """Different prompts, families in turn; a family that brings nothing new is passed over (lists never run out)."""
    rng = random.Random(seed)
    found: dict[str, Prompt] = {}
    for family in cycle(FAMILIES):
        if len(found) == n:
            break
        task = draw_task(family, split, rng)
        found.setdefault(task.question, Prompt(task.prompt, ideal(task), family.name, task.group))
    rows = list(found.values())
    rng.shuffle(rows)
    return rows
