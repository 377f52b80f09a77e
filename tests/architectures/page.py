"""docs/architectures.md, from what heed makes of a small random model of each family: `python page.py` writes it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from families import FAMILIES
from findings import Found, find

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
HEAD = """\
# Architectures

What heed makes of the families that transformers calls causal language models, found by building a small random model
of each (`make architectures` does it again, runs the whole loop on each, and writes this page).

A family is taken where, in float32, its logits are those of stock transformers: of a text alone, padded on either side,
and read token by token as the sampler does. The same is asked of every model when it is loaded, of eight tokens; what
differs is refused before anything is computed.

Policies are always written for stock classes. So are reward and value models where transformers has a class for them;
elsewhere (**own**) the directory holds a causal language model, or an adapter of one, and beside it `score.safetensors`
with one tensor, `score.weight`, that reads its last hidden states. The code on each model card opens either without
heed.

*Logits* says where they come from: the output layer alone, or the model's own forward, which caps or scales them.
Adapters are of the linear layers of the transformer; experts that are held in one tensor, and their router, keep their
weights.

| family | class | logits | reward model | value model |
|---|---|---|---|---|
"""
REFUSED = """
## Refused at load

| family | class | why |
|---|---|---|
"""


def line(family: str, found: Found) -> str:
    """A family's row of the page."""
    if found.refused:
        return f"| {family} | {found.model_class} | {found.refused} |"
    kinds = (f"`{name}`" if name != "own" else "**own**" for name in (found.reward, found.value))
    return f"| {family} | `{found.model_class}` | {found.readout} | {' | '.join(kinds)} |"


def main() -> None:
    """Build every family and write the page."""
    taken, refused = [], []
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as place:
            found = find(family, Path(place))
        (refused if found.refused else taken).append(line(family, found))
    PAGE.write_text(HEAD + "\n".join(taken) + "\n" + REFUSED + "\n".join(refused) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
