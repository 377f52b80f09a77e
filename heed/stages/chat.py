"""Talk to a checkpoint, or to two side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from heed.data.batch import prompt_batch
from heed.data.encode import encode_prompt
from heed.data.prompts import until_next_turn
from heed.data.template import Template
from heed.errors import DataError, HeedError
from heed.models.answers import texts_of
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.records import Dialogue, Turn, clean, dialogue_from_json
from heed.rows.pieces import to_device
from heed.settings.evaluate import ChatSettings
from heed.training.device import pick_device, pick_dtype
from heed.training.metrics import completions_table
from heed.training.randomness import seed_everything

CUT = " …"  # after an answer that reached its limit


@dataclass(frozen=True)
class Speaker:
    """A checkpoint that answers, with its own template. `max_new_tokens` leaves half of its context to the dialogue."""

    name: str
    policy: Policy
    template: Template
    max_new_tokens: int
    temperature: float

    def answer(self, dialogue: Dialogue, generator: torch.Generator) -> str:
        """What the model says next. It ends at end-of-text, where the model begins the other's turn, or at the limit.

        Of a dialogue that does not fit the context the earliest turns are left out; raises DataError where the last
        one alone is too long.
        """
        trunk = self.policy.trunk
        prompts = to_device(prompt_batch([self._prompt(dialogue)], trunk.tokenizer.pad_token_id), trunk.device)
        drawn = self.policy.generate(prompts, self.max_new_tokens, self.temperature, generator)
        text, went_on = until_next_turn(f"\n\n{texts_of(self.policy, drawn)[0]}")
        ended = went_on or bool(drawn.finished(trunk.stop_ids))
        return text.strip() + ("" if ended else CUT)

    def _prompt(self, dialogue: Dialogue) -> list[int]:
        room = self.policy.trunk.context - self.max_new_tokens
        starts = [i for i, turn in enumerate(dialogue) if turn.role == "user"]
        for start in starts:
            tokens = encode_prompt(dialogue[start:], self.template, self.policy.trunk.tokenizer)
            if len(tokens) <= room:
                return tokens
        raise DataError("this message", f"{len(tokens)} tokens do not fit into {self.name}'s {room}", "say it shorter")


def run(settings: ChatSettings) -> int:
    """Read a line, let every model answer it, until `/quit` or the end of the input."""
    if settings.json_lines:
        return interview(settings)
    speakers = load(settings)
    generator = seed_everything(settings.seed, speakers[0].policy.trunk.device)
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
                answers = [speaker.answer(asked, generator) for speaker in speakers]
            except DataError as error:
                console.print(Text(str(error)))
                continue
            show(console, speakers, answers)
            dialogue = (*asked, Turn("assistant", answers[0].removesuffix(CUT)))
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
    for said in replies(speakers, sys.stdin, generator):
        print(json.dumps(said), flush=True)
    return 0


def replies(speakers: Sequence[Speaker], lines: Iterable[str], generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """For each line `{"turns": [{"role", "content"}, …]}` what every model says next, or the problem with it."""
    for line in lines:
        try:
            dialogue = dialogue_from_json(json.loads(line)["turns"], "this conversation")
            texts = [speaker.answer(dialogue, generator) for speaker in speakers]
        except DataError as error:
            yield {"problem": f"{error.where}: {error.what}; {error.hint}"}
            continue
        yield {"answers": [{"text": text.removesuffix(CUT), "finished": not text.endswith(CUT)} for text in texts]}


def load(settings: ChatSettings) -> list[Speaker]:
    """The checkpoints, all of them found before the first one is loaded."""
    checkpoints = [open_checkpoint(name, "policy") for name in settings.models]
    device = pick_device(settings.device)
    shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
    speakers = []
    for number, checkpoint in enumerate(checkpoints, start=1):
        policy = shelf.policy(checkpoint.name, f"speaker{number}")
        template = Template.named(checkpoint.template or settings.template, policy.trunk.tokenizer)
        longest = min(settings.max_new_tokens, policy.trunk.context // 2)
        speakers.append(Speaker(name_of(number, settings.models), policy, template, longest, settings.temperature))
    return speakers


def name_of(number: int, models: Sequence[str]) -> str:
    """A model's name on the screen: its directory's, with a number where two are called the same."""
    names = [Path(model).name for model in models]
    name = names[number - 1]
    return name if names.count(name) == 1 else f"{number}: {name}"


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
        shown = "".join(c if c.isprintable() or c == "\n" else "·" for c in answer)  # no control codes from a model
        console.print(Text(f"{speaker.name}> {shown}"), soft_wrap=True)
