"""Exams: a question with one right answer and three that are not, graded by the truth instead of by people.

What public sets of questions and answers are to InstructGPT's reward model, whose weights had been trained on them
before it saw a ranking (arXiv 2203.02155, appendix C.2): practice in telling right from wrong, where manner tells
nothing, because all four answers have the same. Questions are of the SFT part: none is ranked or evaluated.
"""

from __future__ import annotations

import random

from heed.pocket.families import Family
from heed.pocket.generate import CARE, LONGEST, STYLES, exam_prompts, misled, styled
from heed.pocket.gold import judge
from heed.pocket.slots import Fields
from heed.pocket.tasks import Task, answers, task_of
from heed.pocket.words import VOCABULARY, spell, tokens
from heed.records import Ranking

RANKS = (1, 2, 2, 3)  # right; wrong; wrong otherwise; with a word that does not belong there
WORDS = tuple(word for word in VOCABULARY if word.isalnum())


def exams(seed: int, n: int) -> list[Ranking]:
    """`n` different questions, each with four answers and their ranks; same seed, same exams."""
    rng = random.Random(f"exam answers {seed}")
    return [_examined(task_of(row.prompt), row.source, row.group, rng) for row in exam_prompts(seed, n)]


def _examined(task: Task, source: str, group: str, rng: random.Random) -> Ranking:
    while True:
        right, *others = _responses(task, rng)
        broken = judge(task.prompt, others[-1])
        if not (broken.right and broken.grammatical) and len(tokens(right)) <= LONGEST:
            break
    order = rng.sample(range(len(RANKS)), len(RANKS))
    texts, ranks = tuple([right, *others][i] for i in order), tuple(RANKS[i] for i in order)
    return Ranking(task.prompt, texts, ranks, (True,) * len(RANKS), labeler="truth", source=source, group=group)


def _responses(task: Task, rng: random.Random) -> list[str]:
    """A right answer, two wrong ones in the very same manner, and the right one with one word replaced."""
    (care,) = rng.choices(list(CARE), list(CARE.values()))
    styles = {style: share for style, share in STYLES[care].items() if style != "broken off"}
    (style,) = rng.choices(list(styles), list(styles.values()))
    manner = rng.getrandbits(32)

    def told(family: Family, fields: Fields) -> str:
        own = random.Random(manner)  # the same phrases, and the same turn of the sentence, for all
        short, sentence = (
            found[int(own.random() * len(found))]
            for found in (answers(family.short, fields), answers(family.sentences, fields))
        )
        return styled(style, short, sentence, claims=task.family.name != "request", rng=own)

    right = told(task.family, task.fields)
    return [right, *(told(*misled(task, rng)) for _ in range(2)), _with_a_word_replaced(right, rng)]


def _with_a_word_replaced(text: str, rng: random.Random) -> str:
    said = tokens(text)
    place = rng.choice([i for i, word in enumerate(said) if word.isalnum()])
    said[place] = rng.choice([word for word in WORDS if word != said[place]])
    return spell(said)
