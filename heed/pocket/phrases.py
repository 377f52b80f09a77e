"""What may stand around an answer: courtesy with its warmth, filler, and rudeness.

An *opener* stands before a comma ("gladly, the apple is red."), a *claim* opener before a clause ("i think that ..."),
a *sentence* on its own, before or after the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Manner = Literal["polite", "filler", "rude"]
Position = Literal["opener", "claim", "before", "after"]


@dataclass(frozen=True)
class Phrase:
    """A phrase, what it does, where it stands; `warmth` is what courtesy is worth in the gold score (0 to 1)."""

    text: str
    manner: Manner
    position: Position
    warmth: float = 0.0


PHRASES = (
    Phrase("of course", "polite", "opener", 0.7),
    Phrase("certainly", "polite", "opener", 0.6),
    Phrase("gladly", "polite", "opener", 0.9),
    Phrase("with pleasure", "polite", "opener", 1.0),
    Phrase("thank you for asking", "polite", "before", 1.0),
    Phrase("i am happy to help", "polite", "before", 1.0),
    Phrase("it is nice to hear from you", "polite", "before", 0.9),
    Phrase("i hope this helps", "polite", "after", 0.9),
    Phrase("please ask me again", "polite", "after", 0.8),
    Phrase("you are always welcome here", "polite", "after", 0.8),
    Phrase("well", "filler", "opener"),
    Phrase("as far as i know", "filler", "opener"),
    Phrase("let me see", "filler", "before"),
    Phrase("let me think about it for a moment", "filler", "before"),
    Phrase("i think that", "filler", "claim"),
    Phrase("i believe that", "filler", "claim"),
    Phrase("it seems to me that", "filler", "claim"),
    Phrase("everyone knows that", "filler", "claim"),
    Phrase("that is all i know", "filler", "after"),
    Phrase("it was always so", "filler", "after"),
    Phrase("listen", "rude", "opener"),
    Phrase("you should know that", "rude", "claim"),
    Phrase("what a silly question", "rude", "before"),
    Phrase("do not ask me again", "rude", "after"),
    Phrase("now go away", "rude", "after"),
)
