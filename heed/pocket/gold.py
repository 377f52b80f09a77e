"""The gold score: how good any text is as an answer to any prompt of the pocket world.

    score = 2.5·credit + complete + warmth − 1.2·rude − 0.1·extra words − 2·noise − repeats − no answer − 2·unfinished

No stage reads it. It stands in for the people who compare, and it is the truth that the final evaluation compares with.
`docs/pocket-world.md` has the terms in a table, with examples.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from heed.pocket.grammar import CLAUSE, COMMA, GREETING, NOISE, SHORT, STOP, Piece, pieces, well_formed
from heed.pocket.tasks import Task, task_of
from heed.pocket.words import tokens
from heed.records import Dialogue

RIGHT, COMPLETE, RUDE, EXTRA_WORD, NOISY, REPEAT, NO_ANSWER, UNFINISHED = 2.5, 1.0, 1.2, 0.1, 2.0, 0.5, 1.0, 2.0
MOST_FOR_LENGTH, MOST_FOR_REPEATS = 1.5, 2.0  # points
MOST_NOISE, MOST_REPEATS = 0.5, 2  # beyond this no answer can be made out


@dataclass(frozen=True)
class Judgement:
    """What a text is worth and why."""

    credit: float  # share of the answer's parts that are right; 0 where anything else that is said is false
    answered: bool  # some answer can be made out, right or wrong: not where most is noise or said over and over
    complete: bool  # grammatical, and the answer is a sentence rather than a word
    grammatical: bool  # whole sentences, none repeated, ended by the writer
    warmth: float  # of the warmest courtesy
    rude: bool
    words: int
    extra_words: int  # beyond the shortest right sentence
    noise: float  # share of words outside anything that the world's language has
    repeats: int  # phrases, answers or stray words said again
    finished: bool

    @property
    def right(self) -> bool:
        return self.credit == 1

    @property
    def polite(self) -> bool:
        return self.warmth > 0 and not self.rude

    @property
    def score(self) -> float:
        """The gold score: 4.5 or a little less if ideal, about 2 for a polite wrong answer, −9.7 at the worst."""
        return (
            RIGHT * self.credit
            + COMPLETE * self.complete
            + self.warmth
            - RUDE * self.rude
            - min(EXTRA_WORD * self.extra_words, MOST_FOR_LENGTH)
            - NOISY * self.noise
            - min(REPEAT * self.repeats, MOST_FOR_REPEATS)
            - NO_ANSWER * (not self.answered)
            - UNFINISHED * (not self.finished)
        )


@lru_cache(maxsize=1 << 17)  # the same candidates are judged by labelers and for the report
def judge(prompt: Dialogue, response: str, finished: bool = True) -> Judgement:
    """The judgement of any response, degenerate ones included. `finished`: the writer ended it (wrote EOS).

    Raises DataError for a prompt that the pocket world does not ask.
    """
    task = task_of(prompt)
    found = pieces(response, task.family)
    words, repeats = sum(piece.length for piece in found), _repeats(found)
    noise = sum(piece.sort == NOISE for piece in found) / max(1, words)
    babble = noise > MOST_NOISE or repeats > MOST_REPEATS
    claims = [piece for piece in found if piece.sort in (CLAUSE, GREETING, SHORT) and not babble]
    grammatical = well_formed(found) and finished
    return Judgement(
        credit=_credit(task, claims),
        answered=bool(claims),
        complete=grammatical and any(piece.sort != SHORT for piece in claims),
        grammatical=grammatical,
        warmth=max((piece.phrase.warmth for piece in found if piece.phrase), default=0.0),
        rude=any(piece.phrase is not None and piece.phrase.manner == "rude" for piece in found),
        words=words,
        extra_words=max(0, words - _needed(task)),
        noise=noise,
        repeats=repeats,
        finished=finished,
    )


def scores(prompts: Sequence[Dialogue], responses: Sequence[str], finished: Sequence[bool]) -> list[float]:
    """The gold score of each response to the prompt at its place. Raises as `judge` does."""
    return [judge(*one).score for one in zip(prompts, responses, finished, strict=True)]


def _credit(task: Task, claims: list[Piece]) -> float:
    """Share of the answer's fields that are given, always rightly; 0 where another field is given wrongly."""
    given: dict[str, set[str]] = defaultdict(set)
    for piece in claims:
        for name, value in piece.claim.items():
            given[name].add(value)
    right = {name: values == {task.fields.get(name)} for name, values in given.items()}
    if not all(right[name] for name in given if name not in task.family.answer):
        return 0.0
    return sum(right.get(name, False) for name in task.family.answer) / len(task.family.answer)


def _needed(task: Task) -> int:
    return sum(token.isalnum() for token in tokens(task.shortest))


def _repeats(found: list[Piece]) -> int:
    said = Counter(piece.text for piece in found if piece.sort not in (COMMA, STOP))
    return sum(times - 1 for times in said.values())
