r"""Transcripts, as HH and rm-static have them: `\n\nHuman: …\n\nAssistant: …`."""

from __future__ import annotations

import re

from heed.records import Dialogue, Turn

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_MARKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def parse_dialogue(text: str) -> Dialogue:
    r"""Turns of a transcript with `\n\nHuman:` and `\n\nAssistant:`; what stands before the first is a system turn.

    An empty last assistant turn is where the response goes, and is left out. Each turn is stripped.
    """
    marks = list(_MARKER.finditer(text))
    ends = [*(mark.start() for mark in marks), len(text)][1:]
    turns = [
        Turn("user" if mark[1] == "Human" else "assistant", text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]
    if turns and turns[-1] == Turn("assistant", ""):
        turns.pop()
    front = text[: marks[0].start()].strip() if marks else text.strip()
    return (Turn("system", front), *turns) if front else tuple(turns)


def is_transcript(text: str) -> bool:
    """Does `text` read as a whole dialogue that waits for the assistant's answer?"""
    return text.rstrip().endswith(ASSISTANT) and (HUMAN in text or text.lstrip().startswith("Human:"))


def begins_transcript(text: str) -> bool:
    """Does `text` begin with a speaker's marker, and go on like a transcript?"""
    start = text.lstrip()
    return start.startswith("Human:") and (ASSISTANT in text or text.startswith(HUMAN))
