"""The chat's other end for the labeling page: a process that holds the models and answers lines of JSON.

    python -m heed.stages.interview runs/sft runs/ppo

A line asks `{"turns": [{"role", "content"}, …]}`; the next line of the output answers `{"answers": [{"text",
"finished"}, …]}`, one for each model, or `{"problem": "…"}`. The first line says `{"models": [name, …]}`. The page
itself never imports torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from heed.errors import DataError, HeedError
from heed.records import dialogue_from_json
from heed.settings.evaluate import ChatSettings
from heed.stages.chat import CUT, Speaker, load
from heed.training.device import seed_everything


def answers(speakers: Sequence[Speaker], lines: Iterable[str], generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """An answer to every line."""
    for line in lines:
        try:
            dialogue = dialogue_from_json(json.loads(line)["turns"], "this conversation")
            texts = [speaker.answer(dialogue, generator) for speaker in speakers]
        except DataError as error:
            yield {"problem": f"{error.where}: {error.what}; {error.hint}"}
            continue
        yield {"answers": [{"text": text.removesuffix(CUT), "finished": not text.endswith(CUT)} for text in texts]}


def main(models: Sequence[str]) -> int:
    """Load the models, then answer until the input ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    settings = ChatSettings(models=tuple(models))
    try:
        speakers = load(settings)
    except HeedError as error:
        print(json.dumps({"problem": f"{error.where}: {error.what}; {error.hint}"}), file=out)
        return 2
    generator = seed_everything(settings.seed, speakers[0].policy.trunk.device)
    print(json.dumps({"models": [speaker.name for speaker in speakers]}), file=out)
    for answer in answers(speakers, sys.stdin, generator):
        print(json.dumps(answer), file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
