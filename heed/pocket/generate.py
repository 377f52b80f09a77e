"""Rows of the pocket world: demonstrations as people would write them, and prompts to rank, train and evaluate on."""

from __future__ import annotations

import random
from itertools import cycle

from heed.pocket.families import FAMILIES, FAMILY, Family
from heed.pocket.phrases import PHRASES, Manner, Phrase
from heed.pocket.slots import Fields
from heed.pocket.tasks import Task, answers, draw_task
from heed.pocket.words import tokens
from heed.pocket.world import Split
from heed.records import Demonstration, Prompt

CARE = {"careful": 0.67, "careless": 0.33}  # what people were like when they wrote
WRONG = {"careful": 0.01, "careless": 0.96}  # share of answers with a plausible mistake
STYLES = {
    "careful": {"plain": 0.35, "polite": 0.65},
    "careless": {"short": 0.30, "unsure": 0.35, "rude": 0.28, "broken off": 0.07},
}
MISUNDERSTOOD = 0.4  # share of the mistakes that answer another question about the same thing, where there is one
LONGEST = 23  # tokens; with the end-of-text token a response has at most 24


def demonstrations(seed: int, n: int) -> list[Demonstration]:
    """`n` answers by people of mixed care: some wrong, some curt, some rambling."""
    rng = random.Random(f"demonstrations {seed}")
    tasks = (draw_task(family, "sft", rng) for family, _ in zip(cycle(FAMILIES), range(n), strict=False))
    rows = [Demonstration(task.prompt, answer(task, rng), task.family.name, task.group) for task in tasks]
    rng.shuffle(rows)
    return rows


def exam_prompts(seed: int, n: int) -> list[Prompt]:
    """`n` different prompts of the SFT part, for `heed.pocket.exams`."""
    return _prompts("sft", f"exam {seed}", n)


def ranking_prompts(seed: int, n: int) -> list[Prompt]:
    """`n` different prompts to sample candidates for."""
    return _prompts("ranking", f"ranking {seed}", n)


def ppo_prompts(seed: int, n: int) -> list[Prompt]:
    """`n` different prompts for PPO: operands of the ranking split, drawn anew."""
    return _prompts("ranking", f"ppo {seed}", n)


def evaluation_prompts(seed: int, n: int) -> list[Prompt]:
    """`n` different prompts about operands that no stage has asked about."""
    return _prompts("evaluation", f"evaluation {seed}", n)


def answer(task: Task, rng: random.Random, wrong: bool | None = None) -> str:
    """An answer by somebody, careful or careless; at most `LONGEST` tokens. `wrong` says whether it must err."""
    (care,) = rng.choices(list(CARE), list(CARE.values()))
    errs = rng.random() < WRONG[care] if wrong is None else wrong
    family, fields = misled(task, rng) if errs else (task.family, task.fields)
    while True:
        (style,) = rng.choices(list(STYLES[care]), list(STYLES[care].values()))
        short = rng.choice(answers(family.short, fields))
        sentence = rng.choice(answers(family.sentences, fields))
        text = styled(style, short, sentence, claims=family.name != "request", rng=rng)
        if len(tokens(text)) <= LONGEST:
            return text


def misled(task: Task, rng: random.Random) -> tuple[Family, Fields]:
    """What to say wrongly: the answer to another question about the same thing, or a fact misremembered."""
    family = task.family
    if family.confused_with and rng.random() < MISUNDERSTOOD:
        return FAMILY[rng.choice(family.confused_with)], task.fields
    return family, family.mistake(task.fields, rng)


def ideal(task: Task) -> str:
    """The best answer: right, a whole sentence, courteous, short."""
    return f"gladly, {task.shortest}."


def styled(style: str, short: str, sentence: str, claims: bool, rng: random.Random) -> str:
    """An answer in one of the `STYLES`, from its short form or its sentence. `claims`: it may be said to be known."""
    match style:
        case "short":
            return f"{short}."
        case "unsure":
            return _announced("filler", sentence, claims, rng)
        case "plain":
            return f"{sentence}."
        case "polite":
            return _with_phrase(rng.choice(of_manner("polite")), sentence)
        case "rude":
            return _announced("rude", sentence, claims, rng)
        case _:
            words = sentence.split()
            return " ".join(words[: rng.randint(1, max(1, len(words) - 1))])


def _announced(manner: Manner, sentence: str, claims: bool, rng: random.Random) -> str:
    """The careless show themselves in the first words, and sometimes again in the last. Nothing claims a greeting."""
    phrases = of_manner(manner)
    first = [each for each in phrases if each.position != "after" and (claims or each.position != "claim")]
    text = _with_phrase(rng.choice(first), sentence)
    last = [each for each in phrases if each.position == "after"]
    return f"{text} {rng.choice(last).text}." if rng.random() < 0.25 else text


def of_manner(manner: Manner) -> list[Phrase]:
    """All phrases of that manner."""
    return [phrase for phrase in PHRASES if phrase.manner == manner]


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
