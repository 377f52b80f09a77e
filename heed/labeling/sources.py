"""Runs, files and exports of other labeling programs → tasks.

One source or several: responses to the same prompt from several of them become one task, in which models are compared.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heed.data.files import read_rows
from heed.data.formats import PROMPTS, RANKINGS, detect
from heed.data.rows import Row, Unusable
from heed.errors import DataError
from heed.labeling.assignment import KINDS
from heed.labeling.messages import MOST, Mode
from heed.labeling.store.tasks import Candidate, Kind, NewTask
from heed.records import Dialogue, Ranking, group_of, read_jsonl
from heed.settings.common import DataSettings
from heed.words import clean, short

HAVE = ("candidates.jsonl", "samples.jsonl", "wrong.jsonl", "sample/candidates.jsonl")
"""What is labeled of a run: what `heed sample`, `evaluate` or `score` wrote, what the demo's sampling wrote."""

NUMBERED = re.compile(
    r"^(?:response|completion|answer|output|text|generation|candidate)[-_ ]?(\d+|[a-i])$", re.IGNORECASE
)
PROMPT_NAMES = ("prompt", "instruction", "question", "query", "input", "context")


@dataclass(frozen=True, slots=True)
class Found:
    """A prompt with the responses that a row has for it, or none."""

    prompt: Dialogue
    candidates: tuple[Candidate, ...]
    source: str = ""
    group: str = ""


def file_of(source: str) -> str:
    """The file that is labeled of a source: of a run's directory the one that its stage wrote."""
    path = Path(source).expanduser()
    if not (path / "run.json").exists() and not (path / "sample" / "run.json").exists():
        return source
    there = next((path / name for name in HAVE if (path / name).is_file()), None)
    if there is None:
        hint = "name a run of `heed sample` or `heed evaluate`, or a file of prompts or candidates"
        raise DataError(source, f"is a run without {' or '.join(HAVE[:2])}", hint)
    return str(there)


def read_tasks(sources: Sequence[str], mode: Mode, seed: int) -> list[NewTask]:
    """The tasks that the sources hold for a mode. Raises DataError where they hold none."""
    found = [each for source in sources for each in _read(file_of(source))]
    merged = _merged(found) if len(sources) > 1 or mode == "write" else found
    tasks = list(_tasks(merged, mode, seed))
    if not tasks:
        bare = "there are prompts, but no two responses to one; label them with --mode write, or `heed sample` first"
        raise DataError(sources[0], "holds nothing to rank", bare if found else "name prompts or candidates")
    return tasks


def read_gold(path: str, mode: Mode) -> list[NewTask]:
    """Gold questions: rankings that are known to be right, tasks of the mode's kind."""
    rankings = read_jsonl(Path(path).expanduser(), Ranking)
    unfit = next((row for row in rankings if len(row.responses) > MOST or len(set(row.ranks)) == 1), None)
    if unfit is not None:
        raise DataError(path, f"{unfit.ranks} is no question that a labeler can get right", "order 2 to 9 responses")
    if mode == "write":
        return []  # nobody knows the one right text
    return [_gold(row, KINDS[mode]) for row in rankings if mode != "pairwise" or len(row.responses) == 2]


def _gold(row: Ranking, kind: Kind) -> NewTask:
    shown = zip(row.responses, row.finished, strict=True)
    candidates = tuple(Candidate(text, finished, "") for text, finished in shown)
    return NewTask(kind, row.prompt, candidates, row.source, row.group, row.ranks)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(source: str) -> Iterator[Found]:
    for row in read_rows(DataSettings(path=source)):
        try:
            yield from _found(replace(row, columns=_flat(row.columns)), Path(source).name)
        except Unusable as reason:
            raise row.fail(f"is unusable: it is one of the {reason}") from reason


def _flat(columns: dict[str, Any]) -> dict[str, Any]:
    """A row of Argilla (`fields`) or Label Studio (`data`) as columns; numbered responses as one list of them."""
    inside = columns.get("fields", columns.get("data"))
    flat = dict(inside) if isinstance(inside, dict) else dict(columns)
    if "responses" in flat or not isinstance(flat.get(_prompt_name(flat)), str | list):
        return _label_studio_items(flat)
    numbered = sorted((name for name in flat if NUMBERED.match(name)), key=_number)
    if len(numbered) < 2 or "preference" in flat:
        return _label_studio_items(flat)
    responses = [flat.pop(name) for name in numbered]
    return flat | {"prompt": flat[_prompt_name(flat)], "responses": responses}


def _number(name: str) -> tuple[int, str]:
    mark = str(NUMBERED.sub(r"\1", name)).lower()
    return (int(mark), "") if mark.isdigit() else (0, mark)


def _prompt_name(columns: dict[str, Any]) -> str:
    return next((name for name in PROMPT_NAMES if name in columns), "prompt")


def _label_studio_items(columns: dict[str, Any]) -> dict[str, Any]:
    """Label Studio's ranker has a list of objects, one of whose values is the text."""
    lists = [value for value in columns.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    items = next((items for items in lists if all("id" in item and _text(item) is not None for item in items)), None)
    name = _prompt_name(columns)
    if items is None or name not in columns or len(items) < 2:
        return columns
    return {"prompt": columns[name], "responses": [_text(item) for item in items]}


def _text(item: dict[str, Any]) -> str | None:
    return next((item[name] for name in ("text", "body", "html", "title") if isinstance(item.get(name), str)), None)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _found(row: Row, name: str) -> Iterator[Found]:
    source, group = (str(row.columns.get(tag) or "") for tag in ("source", "group"))
    if row.columns.get("prompt") is not None and row.columns.get("responses") is not None:
        prompt = row.dialogue("prompt")
        yield _checked(Found(prompt, tuple(_candidates(row)), source or name, group or group_of(prompt)), row)
        return
    form = detect(row.columns, RANKINGS if "chosen" in row.columns or "preference" in row.columns else PROMPTS)
    if form is None or PROMPTS not in form.gives:
        raise row.fail("no prompt is found")
    for entry in form.entries(row):
        responses: Iterable[tuple[str, bool]] = [(entry.best, True)] if entry.best else []
        if entry.judged is not None:
            responses = zip(entry.judged.responses, entry.judged.finished, strict=True)
        candidates = tuple(Candidate(text, finished, "") for text, finished in responses)
        yield _checked(Found(entry.prompt, candidates, source or name, group or group_of(entry.prompt)), row)


def _candidates(row: Row) -> Iterator[Candidate]:
    """Responses as a list, or by the name of the model that wrote each (`heed evaluate`)."""
    texts, finished = row.columns["responses"], row.columns.get("finished")
    if isinstance(texts, dict):
        known = finished if isinstance(finished, dict) else {}
        named = [(text, known.get(model, True), model) for model, text in texts.items()]
    else:
        texts = texts if isinstance(texts, list) else [texts]
        ends = finished if isinstance(finished, list) else [True] * len(texts)
        models = row.columns.get("models") or [str(row.columns.get("model") or "")] * len(texts)
        if len({len(texts), len(ends), len(models)}) > 1:
            raise row.fail("`responses`, `finished` and `models` are not equally long")
        named = list(zip(texts, ends, models, strict=True))
    for text, ended, model in named:
        if not isinstance(text, str):
            raise row.fail(f"`responses` holds {short(text)}, not text")
        yield Candidate(clean(text), bool(ended), _name(str(model)))


def _name(model: str) -> str:
    """A model's name as it can be shown and stored anywhere."""
    return "".join(letter if letter.isprintable() else "?" for letter in model)


def _checked(found: Found, row: Row) -> Found:
    """The same without responses that stand there twice."""
    if not found.prompt or found.prompt[-1].role != "user" or not found.prompt[-1].content.strip():
        raise row.fail("the prompt does not end with the user's words")
    kept = replace(found, candidates=tuple(dict.fromkeys(found.candidates)))
    if len(kept.candidates) > MOST:
        raise row.fail(f"{len(kept.candidates)} responses are more than a person can rank", f"give at most {MOST}")
    return kept


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _merged(found: Iterable[Found]) -> list[Found]:
    """Responses to the same prompt together, at most `MOST`, in the order in which they were found."""
    together: dict[Dialogue, Found] = {}
    for each in found:
        before = together.get(each.prompt)
        candidates = (*(before.candidates if before else ()), *each.candidates)
        together[each.prompt] = replace(before or each, candidates=tuple(dict.fromkeys(candidates))[:MOST])
    return list(together.values())


def _tasks(found: Iterable[Found], mode: Mode, seed: int) -> Iterator[NewTask]:
    for each in found:
        shown = [each.candidates] if mode != "pairwise" else list(_pairs(each, seed))
        for candidates in shown:
            if mode == "write" or len({c.text for c in candidates}) > 1:
                yield NewTask(KINDS[mode], each.prompt, candidates, each.source, each.group)


def _pairs(found: Found, seed: int) -> Iterator[tuple[Candidate, ...]]:
    """Pairs without a common response, of different models where there are several."""
    left = list(found.candidates)
    random.Random(f"{seed} {found.prompt}").shuffle(left)
    while len(left) > 1:
        first = left.pop(0)
        other = next((c for c in left if c.model != first.model), left[0])
        left.remove(other)
        yield first, other
