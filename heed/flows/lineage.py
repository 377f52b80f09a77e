"""`heed lineage`: the chain from a checkpoint back to the labels, as far as the files beside it tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heed.models.checkpoint import Checkpoint, open_checkpoint
from heed.models.lineage import fingerprint, in_words
from heed.settings.lineage import LineageSettings

ROLES = {"from": "trained from", "start_from": "went on from", "reward_model": "against"}
HIGHEST = 5  # directories above a run in which the models before it are looked for


def run(settings: LineageSettings) -> None:
    """Print a line for each model and each source of data, the newest first."""
    for line in chain(open_checkpoint(settings.checkpoint)):
        print(line)


def chain(checkpoint: Checkpoint, depth: int = 0) -> Iterator[str]:
    """A model, what it was trained on, and then the models that it came from."""
    about, indent = checkpoint.metadata, "    " * depth
    stage = about.get("stage", "from elsewhere")
    yield f"{indent}{Path(checkpoint.name).name}  {checkpoint.kind} model ({stage}), weights {fingerprint(checkpoint)}"
    if data := about.get("data"):
        yield f"{indent}    data: {in_words(data)}"
    for role, name in ROLES.items():
        if came := about.get(role):
            yield f"{indent}    {name} {came['name']} ({came['stage']}), weights {came['fingerprint']}"
            if beside := found_beside(checkpoint, came):
                yield from chain(beside, depth + 1)


def found_beside(checkpoint: Checkpoint, came: Mapping[str, Any]) -> Checkpoint | None:
    """The run that a model came from, if it still lies beside this one, or beside a directory that this one is in (the
    rounds of `heed loop` are), and has the weights that it had then."""
    path = Path(checkpoint.path).resolve()
    for above in (path.parent if path.name == "checkpoint" else path).parents[:HIGHEST]:
        for place in (above / str(came["name"]), *above.glob(f"round-*/{came['name']}")):
            if (place / "run.json").exists() and (place / "checkpoint").is_dir():
                found = open_checkpoint(str(place))
                if fingerprint(found) == came["fingerprint"]:
                    return found
    return None
