"""One row of any public format → `Entry`: a prompt, its best answer, the answers that were compared.

`FORMATS` is tried from the top: the more columns a format needs, the earlier it stands.
`docs/data-formats.md` shows a row of each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from heed.data.rows import Entry, Row, Unusable
from heed.data.transcripts import ASSISTANT, HUMAN, parse_dialogue
from heed.records import Comparison, Dialogue, Ranking, Turn, from_row
from heed.words import short

PROMPTS, DEMONSTRATIONS, RANKINGS = "prompts", "demonstrations", "rankings"
Reader = Callable[[Row], Iterator[Entry]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the columns that it needs, what it can give, and how one of its rows is read."""

    name: str
    needs: frozenset[str]
    gives: tuple[str, ...]
    entries: Reader
    fits: Callable[[dict[str, Any]], bool] = lambda columns: True
    advice: str = ""  # said where the format does not give what is wanted


def detect(columns: dict[str, Any], wanted: str) -> Format | None:
    """The first format that the columns fit and that gives what is wanted, or else the first that they fit."""
    fitting = [form for form in FORMATS if form.needs <= columns.keys() and form.fits(columns)]
    return next((form for form in fitting if wanted in form.gives), fitting[0] if fitting else None)


def renaming(columns: dict[str, Any], wanted: str) -> dict[str, str]:
    """New names for columns, with which a format fits that gives what is wanted; nothing where there are none."""
    for names in ({}, _BESIDE_AN_INSTRUCTION, _OTHER_NAMES):
        new = {name: names.get(_plain(name), _plain(name)) for name in columns}
        free = {name: told for name, told in new.items() if told != name and list(new.values()).count(told) == 1}
        form = detect({free.get(name, name): value for name, value in columns.items()}, wanted)
        if free and form is not None and wanted in form.gives:
            return {name: told for name, told in free.items() if told in form.needs | {"input"}}
    return {}


def _plain(name: str) -> str:
    return name.strip().lower()


# ── answers alone ────────────────────────────────────────────────────────────────────────────────────────────────────


def _alpaca(row: Row) -> Iterator[Entry]:
    best = None if row.columns.get("output") is None else row.text("output")
    yield Entry(_instruction(row), best)


def _prompt_and(column: str) -> Reader:
    def entries(row: Row) -> Iterator[Entry]:
        yield Entry(*row.answered(column, row.dialogue("prompt")))

    return entries


def _prompt_only(row: Row) -> Iterator[Entry]:
    yield Entry(row.dialogue("prompt"), row.optional("reference") or None)


def _conversation(column: str) -> Reader:
    """Every answer of a conversation is an entry of its own, with all that was said before as its prompt."""

    def entries(row: Row) -> Iterator[Entry]:
        return _answers(row.turns(column), row.optional("system"), row.untaught(column))

    return entries


def _transcript(row: Row) -> Iterator[Entry]:
    return _answers(parse_dialogue(row.text("text")), "")


def _answers(turns: Dialogue, system: str, untaught: Collection[int] = ()) -> Iterator[Entry]:
    """`untaught`: positions of answers that are only context."""
    start = (Turn("system", system),) if system and turns[0].role != "system" else ()
    ends = [i for i in range(1, len(turns)) if turns[i].role == "assistant" and turns[i - 1].role == "user"]
    for end in ends:
        yield Entry((*start, *turns[:end]), None if end in untaught else turns[end].content)
    if not ends:
        yield Entry((*start, *turns))
    if any(one.role == other.role == "assistant" for one, other in pairwise(turns)):
        raise Unusable("answers that follow another answer")


def _instruction(row: Row) -> Dialogue:
    """Alpaca's instruction and input as one user turn, after LLaMA-Factory's `system` and `history` where given."""
    history = row.columns.get("history") or []
    if not isinstance(history, list):
        raise row.fail(f"`history` is {short(history)}, not a list of questions with their answers")
    said = [turn for pair in history for turn in _past(pair, row)]
    given = row.input()
    words = row.asked(row.text("instruction")) + (f"\n\n{given}" if given else "")
    system = row.optional("system")
    return (*([Turn("system", system)] if system else []), *said, Turn("user", words))


def _past(pair: Any, row: Row) -> tuple[Turn, Turn]:
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(words, str) for words in pair):
        raise row.fail(f"`history` holds {short(pair)}, not a question and its answer")
    return Turn("user", pair[0]), Turn("assistant", pair[1])


# ── answers compared ─────────────────────────────────────────────────────────────────────────────────────────────────


def _ranking(row: Row) -> Iterator[Entry]:
    prompt = row.dialogue("prompt")
    if row.columns["ranks"] is None:
        raise Unusable("rankings without ranks")
    judged = from_row(Ranking, row.columns | {"prompt": "", "source": None, "group": None}, row.where)
    first = min(judged.ranks)
    best = judged.responses[judged.ranks.index(first)] if judged.ranks.count(first) == 1 else None
    yield Entry(prompt, best, replace(judged, prompt=prompt), paired=False)


def _candidates(row: Row) -> Iterator[Entry]:
    yield Entry(row.dialogue("prompt"))


def _explicit_pair(row: Row) -> Iterator[Entry]:
    pair = _pair(row, row.dialogue("prompt"))
    yield replace(pair, best=row.optional("response") or pair.best)


def _instruction_pair(row: Row) -> Iterator[Entry]:
    yield _pair(row, _instruction(row))


def _conversation_pair(row: Row) -> Iterator[Entry]:
    turns, system = row.turns("conversations"), row.optional("system")
    yield _pair(row, (Turn("system", system), *turns) if system else turns)


def _implicit_pair(row: Row) -> Iterator[Entry]:
    """The prompt is what both have in common: turns, a transcript up to `Assistant:`, or words."""
    if not isinstance(row.get("chosen"), str):
        yield _implicit_messages(row)
        return
    chosen, rejected = row.text("chosen"), row.text("rejected")
    if ASSISTANT not in chosen:
        end = _shared_words(chosen, rejected)
        prompt: Dialogue = (Turn("user", chosen[:end]),)
    else:
        end = _shared_turns(chosen, rejected)
        prompt = parse_dialogue(chosen[:end])
        if end == 0 or any(mark in text[end:] for text in (chosen, rejected) for mark in (HUMAN, ASSISTANT)):
            raise Unusable("pairs that part before the last answer")
    yield _compared(row, prompt, chosen[end:], rejected[end:])


def _shared_turns(chosen: str, rejected: str) -> int:
    """Where the last `Assistant:` that both share ends, 0 where they share none."""
    end = chosen.rfind(ASSISTANT)
    while end >= 0 and not rejected.startswith(chosen[: end + len(ASSISTANT)]):
        end = chosen.rfind(ASSISTANT, 0, end)
    return end + len(ASSISTANT) if end >= 0 else 0


def _shared_words(chosen: str, rejected: str) -> int:
    """Where the last whole word that both share ends."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    return max(chosen.rfind(" ", 0, same), chosen.rfind("\n", 0, same), 0)


def _implicit_messages(row: Row) -> Entry:
    chosen, rejected = row.turns("chosen"), row.turns("rejected")
    same = len(chosen) - 1
    if len(rejected) != len(chosen) or rejected[:same] != chosen[:same]:
        raise Unusable("pairs that part before the last answer")
    if {chosen[same].role, rejected[same].role} != {"assistant"}:
        raise Unusable("pairs that do not end with an answer")
    return _compared(row, chosen[:same], chosen[same].content, rejected[same].content)


def _outputs(row: Row) -> Iterator[Entry]:
    """AlpacaFarm and AlpacaEval: below 1.5 the first output is preferred, above it the second; 1.5 and 0 are ties."""
    preference = row.columns["preference"]
    if preference is None:
        raise Unusable("rows without a preference")
    if type(preference) not in (int, float) or not (preference == 0 or 1 <= preference <= 2):
        raise row.fail(f"`preference` is {short(preference)}, not 1, 2 or 1.5")
    prompt, responses = _instruction(row), (row.text("output_1"), row.text("output_2"))
    tied = preference in (0, 1.5)
    ranks = (1, 1) if tied else (1, 2) if preference < 1.5 else (2, 1)
    judged = Ranking(prompt, responses, ranks, (True, True), row.tag("labeler"))
    yield Entry(prompt, None if tied else responses[ranks.index(1)], judged)


def _pair(row: Row, prompt: Dialogue) -> Entry:
    (prompt, chosen), (other, rejected) = (row.answered(name, prompt) for name in ("chosen", "rejected"))
    if prompt != other:
        raise Unusable("pairs that part before the last answer")
    return _compared(row, prompt, chosen, rejected)


def _compared(row: Row, prompt: Dialogue, chosen: str, rejected: str) -> Entry:
    return Entry(prompt, chosen, Comparison(prompt, chosen, rejected, row.tag("labeler")).as_ranking())


# ── the formats ──────────────────────────────────────────────────────────────────────────────────────────────────────


_OTHER_NAMES = {
    "question": "prompt", "query": "prompt", "instruction": "prompt", "input": "prompt", "problem": "prompt",
    "answer": "response", "output": "response", "solution": "response", "target": "response",
    "preferred": "chosen", "dispreferred": "rejected", "conversation": "conversations",
}  # fmt: skip
_BESIDE_AN_INSTRUCTION = {"context": "input", "response": "output", "answer": "output"}
"""What others call the columns that heed reads, in small letters; the second table is of rows with an `instruction`."""


def _has_transcript(column: str) -> Callable[[dict[str, Any]], bool]:
    return lambda columns: isinstance(columns[column], str) and ASSISTANT in columns[column]


def _asked_nowhere_else(columns: dict[str, Any]) -> bool:
    """Beside a question of its own, what two answers begin with by chance is no prompt."""
    return not isinstance(columns["chosen"], str) or not _OTHER_NAMES.keys() & {_plain(name) for name in columns}


def _unlabelled(columns: dict[str, Any]) -> bool:
    return "label" not in columns  # an answer with a thumb down is nothing to imitate


def _without_rank(columns: dict[str, Any]) -> bool:
    return "rank" not in columns  # nor is one that may be the worst of its kind


def _format(name: str, needs: str, gives: tuple[str, ...], entries: Reader, **rest: Any) -> Format:
    return Format(name, frozenset(needs.split()), gives, entries, **rest)


_ALL, _ANSWERED, _BARE = (PROMPTS, DEMONSTRATIONS, RANKINGS), (PROMPTS, DEMONSTRATIONS), (PROMPTS,)
_UNPAIRED = (
    "a `label` for one answer at a time cannot be ranked; pair the answers of a prompt as `chosen` and `rejected`. "
)
_ONE_A_ROW = (
    "a row for each response is for spreadsheets; export the judgements as `rankings` instead "
    "(a `rank` of another kind is renamed by `columns`). "
)
_UNRANKED = "let people rank them with `heed label`, or name a file of judgements. "
_PLAIN_TEXT = "running text is for `heed pretrain` and for the `text` settings. "

FORMATS: tuple[Format, ...] = (
    _format("rankings", "prompt responses ranks", _ALL, _ranking),
    _format("TRL unpaired preference", "prompt completion label", _BARE, _prompt_only, advice=_UNPAIRED),
    _format("AlpacaFarm pairs", "instruction output_1 output_2 preference", _ALL, _outputs),
    _format("LLaMA-Factory preference", "instruction chosen rejected", _ALL, _instruction_pair),
    _format("LLaMA-Factory preference (ShareGPT)", "conversations chosen rejected", _ALL, _conversation_pair),
    _format("rm-static", "prompt chosen rejected", _ALL, _explicit_pair, fits=_has_transcript("prompt")),
    _format("TRL preference, explicit prompt", "prompt chosen rejected", _ALL, _explicit_pair),
    _format("candidates", "prompt responses", _BARE, _candidates, advice=_UNRANKED),
    _format("ranked responses", "prompt response rank", _BARE, _prompt_only, advice=_ONE_A_ROW),
    _format("demonstrations", "prompt response", _ANSWERED, _prompt_and("response"), fits=_without_rank),
    _format("TRL prompt-completion", "prompt completion", _ANSWERED, _prompt_and("completion"), fits=_unlabelled),
    _format("Alpaca", "instruction output", _ANSWERED, _alpaca),
    _format("HH transcripts", "chosen rejected", _ALL, _implicit_pair, fits=_has_transcript("chosen")),
    _format("TRL preference, implicit prompt", "chosen rejected", _ALL, _implicit_pair, fits=_asked_nowhere_else),
    _format("ShareGPT conversations", "conversations", _ANSWERED, _conversation("conversations")),
    _format("TRL messages", "messages", _ANSWERED, _conversation("messages")),
    _format("instructions", "instruction", _BARE, _alpaca),
    _format("TRL prompt-only", "prompt", _BARE, _prompt_only),
    _format("transcripts", "text", _ANSWERED, _transcript, fits=_has_transcript("text")),
    _format("plain text", "text", (), _prompt_only, advice=_PLAIN_TEXT),
)
