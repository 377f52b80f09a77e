"""Talk to a checkpoint, or to two side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from heed.errors import DataError, HeedError
from heed.evaluation.speaker import Reply, Speaker
from heed.models.checkpoint import open_checkpoint
from heed.models.roles import Shelf, weight_count
from heed.records import Dialogue, Turn, clean, dialogue_from_json
from heed.settings.evaluate import ChatSettings
from heed.training.device import pick_device, pick_dtype
from heed.training.metrics import completions_table
from heed.training.randomness import seed_everything

CUT = " …"  # after an answer that reached its limit


def run(settings: ChatSettings) -> int:
    """Read a line, let every model answer it, until `/quit` or the end of the input."""
    if settings.json_lines:
        return interview(settings)
    speakers = load(settings)
    generator = seed_everything(settings.seed, speakers[0].policy.trunk.device)
    options = settings.max_new_tokens, settings.temperature
    console = Console()
    console.print(Text(greeting(speakers)))
    dialogue: Dialogue = ()
    with suppress(KeyboardInterrupt):
        for line in lines():
            if line == "/reset":
                dialogue = ()
                console.print("(a new dialogue)")
                continue
            asked = (*dialogue, Turn("user", line))
            try:
                answers = [speaker.replies([asked], *options, generator)[0] for speaker in speakers]
            except DataError as error:
                console.print(Text(str(error)))
                continue
            show(console, speakers, [shown(answer) for answer in answers])
            dialogue = (*asked, Turn("assistant", answers[0].text))
    return 0


def interview(settings: ChatSettings) -> int:
    """The other end of the labeling page's chat: says `{"models": [name, …]}`, then answers line by line."""
    try:
        speakers = load(settings)
    except HeedError as error:
        print(json.dumps({"problem": f"{error.where}: {error.what}; {error.hint}"}), flush=True)
        return 2
    generator = seed_everything(settings.seed, speakers[0].policy.trunk.device)
    print(json.dumps({"models": [speaker.name for speaker in speakers]}), flush=True)
    for said in replies(speakers, sys.stdin, settings, generator):
        print(json.dumps(said), flush=True)
    return 0


def replies(
    speakers: Sequence[Speaker], lines: Iterable[str], settings: ChatSettings, generator: torch.Generator
) -> Iterator[dict[str, Any]]:
    """For each line `{"turns": [{"role", "content"}, …]}` what every model says next, or the problem with it."""
    options = settings.max_new_tokens, settings.temperature
    for line in lines:
        try:
            dialogue = dialogue_from_json(json.loads(line)["turns"], "this conversation")
            found = [speaker.replies([dialogue], *options, generator)[0] for speaker in speakers]
        except DataError as error:
            yield {"problem": f"{error.where}: {error.what}; {error.hint}"}
            continue
        yield {"answers": [{"text": reply.text, "finished": reply.ended} for reply in found]}


def load(settings: ChatSettings) -> list[Speaker]:
    """The checkpoints, all of them found before the first one is loaded."""
    checkpoints = [open_checkpoint(name, "policy") for name in settings.models]
    device = pick_device(settings.device, max(map(weight_count, checkpoints)))
    shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
    loaded = [
        Speaker.load(shelf, checkpoint, f"speaker{number}", settings.template)
        for number, checkpoint in enumerate(checkpoints, start=1)
    ]
    return [replace(speaker, name=name_of(i, settings.models)) for i, speaker in enumerate(loaded, start=1)]


def name_of(number: int, models: Sequence[str]) -> str:
    """A model's name on the screen: its directory's, with a number where two are called the same."""
    names = [Path(model).name for model in models]
    name = names[number - 1]
    return name if names.count(name) == 1 else f"{number}: {name}"


def shown(reply: Reply) -> str:
    """An answer as the screen shows it."""
    return reply.text + ("" if reply.ended else CUT)


def greeting(speakers: Sequence[Speaker]) -> str:
    """What the screen says first."""
    told = f"talking to {' and '.join(speaker.name for speaker in speakers)}   /reset starts anew, /quit leaves"
    if len(speakers) == 1:
        return told
    return f"{told}\nboth answer you; the dialogue goes on with the answer of {speakers[0].name}"


def lines() -> Iterator[str]:
    """What is typed, or what is piped in, line by line until `/quit`; blank lines are passed over."""
    for line in typed() if sys.stdin.isatty() else sys.stdin:
        said = clean(line).strip()
        if said == "/quit":
            return
        if said:
            yield said


def typed() -> Iterator[str]:
    """Lines from a person at a terminal, with what `input` gives for editing."""
    with suppress(EOFError):
        while True:
            yield input("you> ")


def show(console: Console, speakers: Sequence[Speaker], answers: Sequence[str]) -> None:
    """One answer as a line, two side by side. Where nobody looks at a terminal each is a line of its own."""
    if len(speakers) > 1 and console.is_terminal:
        console.print(completions_table([{s.name: a for s, a in zip(speakers, answers, strict=True)}]))
        return
    for speaker, answer in zip(speakers, answers, strict=True):
        printable = "".join(c if c.isprintable() or c == "\n" else "·" for c in answer)  # no control codes from a model
        console.print(Text(f"{speaker.name}> {printable}"), soft_wrap=True)
