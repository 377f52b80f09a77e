"""Text as pieces in which nothing is hidden: what has no shape of its own on a screen is named in its place.

Responses are written by models, and a model can write marks that reverse the reading direction, letters that take no
space, or a thousand accents on one letter. Raters must see what is there, and the page must hold.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import groupby

from heed.labeling.messages import Piece

MOST_ACCENTS = 4  # combining marks in a row that are left as they are; no written language needs more
PLAIN = frozenset("\n\t")
HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Unicode's categories of what cannot be seen: controls, formats (bidi, zero width), surrogates, private codes."""

JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")  # parts of emoji, and of Persian and Indic words
FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u00ad\u034f\u061c\u17b4\u17b5")  # blank, though called letters
NAMES = {"\u0000": "NULL", "\u001b": "ESCAPE", "\u0008": "BACKSPACE", "\u007f": "DELETE", "\r": "CARRIAGE RETURN"}


def pieces(text: str) -> list[Piece]:
    """The text as pieces; those with a `mark` stand for something invisible."""
    found: list[Piece] = []
    for kind, run in groupby(_kinds(text), key=lambda pair: pair[0]):
        characters = "".join(character for _, character in run)
        found += _shown(kind, characters)
    return found


def _kinds(text: str) -> Iterator[tuple[str, str]]:
    accents, before = 0, ""
    for character in text.replace("\r\n", "\n"):
        accents = accents + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if accents > MOST_ACCENTS:
            yield "accents", character
        elif _is_hidden(character, before):
            yield f"hidden {character}", character
        else:
            yield "plain", character
        before = character


def _is_hidden(character: str, before: str) -> bool:
    if character in PLAIN:
        return False
    if character in JOINERS:  # where it joins something; alone or in a row it hides something
        return (
            not before or before in JOINERS or before.isspace() or (before.isascii() and before not in "0123456789#*")
        )
    return unicodedata.category(character) in HIDDEN or character in FILLERS


def _shown(kind: str, characters: str) -> list[Piece]:
    if kind == "plain":
        return [Piece(text=characters)]
    if kind == "accents":
        return [Piece(text=f"+{len(characters):,}", mark=f"{len(characters):,} MORE COMBINING MARKS")]
    times = f" ×{len(characters):,}" if len(characters) > 1 else ""
    code = f"U+{ord(characters[0]):04X}"
    return [Piece(text=code + times, mark=unicodedata.name(characters[0], NAMES.get(characters[0], code)) + times)]
