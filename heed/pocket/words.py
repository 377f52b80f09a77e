"""The closed vocabulary of the pocket world, and how text falls into words.

A text is words (runs of letters or digits) and marks (one token each); a newline is a token of its own and a space
belongs to nothing. So every text of the world survives `spell(tokens(text))`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

TOKEN = re.compile(r"[A-Za-z0-9]+|\n|[^\sA-Za-z0-9]")
MARKS = (".", ",", "?", "!", ":", "\n")
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
    "Human Assistant a about after again alone always am an and anyone are as ask asked asking asks at away be because"
    " before believe between but by can certainly colour come comes correct count course describe do does done each"
    " every everyone fair far find finds first following for from gladly glad go goes greet happy has have hear heard"
    " help helps here him home hope how i if in is it its job know known knows last leave let like listen live lives"
    " look looks lot make many may me meets mind more moment my near need nice no not now number numbers of on once one"
    " opposite opposites or order our out please pleasure plural plus put question read really reads repeat right say"
    " says see seems sees should shows silly smallest so some sort standing sum take tell than that the them then there"
    " these they thing things think this to two under until us useful very want was we well what where which while who"
    " why will with word words work works wrong yes you your"
).split()


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
