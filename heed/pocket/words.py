"""The closed vocabulary of the pocket world, and how text falls into words.

A text is words (runs of letters or digits) and marks (one token each); a newline is a token of its own and a space
belongs to nothing. So every text of the world survives `spell(tokens(text))`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

TOKEN = re.compile(r"[A-Za-z0-9]+|\n|[^\sA-Za-z0-9]")
MARKS = (".", ",", "?", ":", "\n")
SPECIAL = ("<|endoftext|>", "<|pad|>", "<|unk|>")

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
KINDS = ("fruit", "animal", "bird", "tool", "toy", "vessel", "garment", "instrument")
LIVING = ("animal", "bird")
PLACES = ("kitchen", "garden", "barn", "forest", "shop", "tower")
JOBS = ("baker", "farmer", "teacher", "doctor", "painter", "singer")
NUMBERS = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty".split()
)
DIGITS = NUMBERS[:10]
GREETINGS = ("hello", "goodbye", "thanks", "welcome", "congratulations", "sorry")
OPPOSITES = tuple(
    tuple(pair.split("-"))
    for pair in (
        "hot-cold big-small long-short old-new fast-slow hard-soft high-low wet-dry full-empty early-late clean-dirty"
        " happy-sad"
    ).split()
)
ADJECTIVES = tuple(word for pair in OPPOSITES for word in pair)

# name, plural, colour, place: six things of each kind, one in each place
THINGS = {
    "fruit": (
        "apple apples red kitchen; pear pears green garden; plum plums blue forest;"
        " cherry cherries red barn; lemon lemons yellow shop; fig figs black tower"
    ),
    "animal": (
        "cow cows black barn; dog dogs white garden; cat cats black kitchen;"
        " horse horses white shop; fox foxes red forest; mouse mice white tower"
    ),
    "bird": (
        "hen hens red barn; duck ducks yellow garden; goose geese white kitchen;"
        " crow crows black forest; robin robins red shop; parrot parrots green tower"
    ),
    "tool": (
        "hammer hammers black shop; saw saws yellow kitchen; knife knives white barn;"
        " axe axes red forest; rake rakes green tower; brush brushes blue garden"
    ),
    "toy": (
        "ball balls blue garden; doll dolls yellow shop; kite kites green barn;"
        " balloon balloons white tower; robot robots black kitchen; puppet puppets yellow forest"
    ),
    "vessel": (
        "cup cups white forest; bowl bowls blue tower; jug jugs yellow garden;"
        " pot pots black barn; bottle bottles green kitchen; bucket buckets blue shop"
    ),
    "garment": (
        "hat hats green barn; coat coats black forest; scarf scarves yellow tower;"
        " shirt shirts blue kitchen; boot boots green garden; dress dresses blue shop"
    ),
    "instrument": (
        "drum drums red shop; flute flutes yellow barn; harp harps white garden;"
        " bell bells red tower; piano pianos green kitchen; guitar guitars blue forest"
    ),
}

# name, job
PEOPLE = (
    "ann baker; ben farmer; clara teacher; david doctor; emma painter; frank singer; greta baker; henry farmer;"
    " ida teacher; jack doctor; kate painter; leo singer; mary baker; oscar farmer; paul teacher; rosa doctor;"
    " sam painter; tom singer"
)

# every other word of the world
GRAMMAR = (
    "Assistant Human a about after again alive all always am an and are as ask asking at away believe but can"
    " certainly choose colour comes course describe do does everyone far find first for from gladly go goes"
    " have hear help helps here hope how i if in is it job kind know knows last let listen look"
    " makes many me moment more much my nice no not now number numbers of opposite opposites or order place please"
    " pleasure plural plus pupil question repeat right say says see seems sees should silly sing sings so some sort"
    " tell than thank that the them there they thing think this to true want wants was we well what where which who"
    " with word words works yes you your"
).split()

_CELLS = " ".join([*THINGS.values(), PEOPLE]).replace(";", "").split()
VOCABULARY = tuple(
    sorted({*_CELLS, *COLOURS, *KINDS, *PLACES, *JOBS, *NUMBERS, *GREETINGS, *ADJECTIVES, *GRAMMAR, *MARKS})
)


def tokens(text: str) -> list[str]:
    """The words and marks of a text, in order."""
    return TOKEN.findall(text)


def spell(words: Sequence[str]) -> str:
    """Words and marks as a text: a space between words, none before a mark."""
    return re.sub(r" (?=[.,?!:])", "", " ".join(words))


def spaced(text: str) -> str:
    """The text with one space between any two tokens, lower case: the form in which the world's grammar is matched."""
    return " ".join(tokens(text.lower()))


def listed(items: Sequence[str]) -> str:
    """`pear, cow and drum`."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def article(word: str) -> str:
    """`a fruit`, `an animal`."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
