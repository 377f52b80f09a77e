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

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "brown", "grey")
KINDS = ("fruit", "animal", "bird", "plant", "tool", "toy", "vessel", "garment", "vehicle", "instrument")
PLACES = ("kitchen", "garden", "barn", "forest", "shop", "school", "cellar", "tower")
JOBS = ("baker", "farmer", "teacher", "doctor", "painter", "singer", "sailor", "tailor")
HOMES = ("hill", "village", "city", "harbour", "island", "valley", "castle", "mill")
NUMBERS = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty".split()
)
DIGITS = NUMBERS[:10]
GREETINGS = ("hello", "goodbye", "thanks", "welcome", "congratulations", "sorry")
OPPOSITES = tuple(
    tuple(pair.split("-"))
    for pair in (
        "hot-cold big-small long-short old-new fast-slow hard-soft high-low wet-dry full-empty early-late"
        " loud-quiet clean-dirty rich-poor strong-weak happy-sad sweet-sour"
    ).split()
)
ADJECTIVES = tuple(word for pair in OPPOSITES for word in pair)

# name, plural, colour, place: eight things of each kind
THINGS = {
    "fruit": (
        "apple apples red kitchen; pear pears green garden; plum plums blue cellar; cherry cherries red forest;"
        " lemon lemons yellow shop; peach peaches white school; fig figs brown tower; melon melons green barn"
    ),
    "animal": (
        "cow cows black barn; dog dogs brown garden; cat cats grey kitchen; horse horses white barn;"
        " fox foxes red forest; mouse mice grey cellar; goat goats yellow tower; bear bears brown shop"
    ),
    "bird": (
        "hen hens brown barn; duck ducks yellow school; goose geese white cellar; owl owls grey tower;"
        " crow crows black forest; swan swans white garden; robin robins red kitchen; parrot parrots green shop"
    ),
    "plant": (
        "rose roses red school; tulip tulips yellow garden; fern ferns green forest; daisy daisies white barn;"
        " lily lilies blue shop; moss mosses brown tower; thistle thistles grey kitchen; cactus cacti green cellar"
    ),
    "tool": (
        "hammer hammers black cellar; saw saws grey barn; knife knives white kitchen; axe axes red forest;"
        " rake rakes green garden; spade spades brown school; brush brushes blue tower; needle needles yellow shop"
    ),
    "toy": (
        "ball balls blue garden; doll dolls yellow tower; kite kites red school; balloon balloons white shop;"
        " puzzle puzzles green kitchen; robot robots grey cellar; puppet puppets brown forest;"
        " marble marbles black barn"
    ),
    "vessel": (
        "cup cups white tower; bowl bowls blue kitchen; jug jugs grey garden; pan pans black school;"
        " pot pots red cellar; bottle bottles green forest; bucket buckets yellow barn; barrel barrels brown shop"
    ),
    "garment": (
        "hat hats black tower; coat coats green school; scarf scarves red garden; glove gloves brown cellar;"
        " shirt shirts white shop; sock socks grey forest; boot boots yellow barn; dress dresses blue kitchen"
    ),
    "vehicle": (
        "boat boats white forest; train trains black shop; cart carts brown barn; truck trucks red cellar;"
        " bike bikes yellow garden; bus buses green school; ship ships blue tower; plane planes grey kitchen"
    ),
    "instrument": (
        "drum drums red barn; flute flutes yellow cellar; harp harps white school; violin violins brown kitchen;"
        " bell bells grey tower; horn horns green forest; piano pianos black garden; guitar guitars blue shop"
    ),
}

# name, job, home
PEOPLE = (
    "ann baker mill; ben farmer hill; clara teacher city; david doctor harbour; emma painter island;"
    " frank singer castle; greta sailor valley; henry tailor village; ida farmer city; jack baker island;"
    " kate doctor hill; leo teacher castle; mary singer mill; nora painter village; oscar tailor harbour;"
    " paul sailor city; rosa baker valley; sam farmer castle; tom doctor mill; vera singer island;"
    " adam teacher village; dora sailor hill; hugo painter valley; lisa tailor harbour"
)

# every other word of the world
GRAMMAR = (
    "Assistant Human a about after again all always am an and are as ask asking at away before believe but can"
    " certainly choose colour comes count course describe do does everyone far find first for from gladly go goes"
    " have hear help helps here home hope how i if in is it job kind know knows last let listen live lives look"
    " makes many me moment more much near nice no not now number numbers of opposite opposites or order place please"
    " pleasure plural plus pupil question repeat right say says see seems sees should silly sing sings so some sort"
    " tell than thank that the them there they thing think this to true want wants was we well what where which who"
    " with word words works wrong yes you"
).split()

_CELLS = " ".join([*THINGS.values(), PEOPLE]).replace(";", "").split()
VOCABULARY = tuple(
    sorted({*_CELLS, *COLOURS, *KINDS, *PLACES, *JOBS, *HOMES, *NUMBERS, *GREETINGS, *ADJECTIVES, *GRAMMAR, *MARKS})
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
