"""Public data sets and local files → records. The format is told from the columns of the first row.

What is read, and what is dropped and why, is logged in one line; what is mended in another.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from heed.data.files import DOCUMENT_END, read_rows, read_text
from heed.data.formats import DEMONSTRATIONS, PROMPTS, RANKINGS, Format, detect, renaming
from heed.data.rows import Entry, Row, Unusable
from heed.data.tally import Tally
from heed.data.transcripts import is_transcript
from heed.errors import DataError
from heed.records import Demonstration, Prompt, Ranking, group_of
from heed.settings.common import DataSettings
from heed.words import clean, listed, mended_kinds

log = logging.getLogger("heed")

NEEDED = {
    PROMPTS: "prompts need a column `prompt`, `instruction`, `messages` or `conversations`",
    DEMONSTRATIONS: "demonstrations need `prompt` and `response`, `instruction` and `output`, or `messages`",
    RANKINGS: "rankings need `prompt`, `responses` and `ranks`, or `prompt`, `chosen` and `rejected`",
}
Record = TypeVar("Record", Demonstration, Prompt, Ranking)


def read_demonstrations(settings: DataSettings, seed: int, dropped: Tally | None = None) -> list[Demonstration]:
    """Prompts with an answer to imitate. From comparisons it is the chosen one, from rankings the best one."""
    return _read(settings, seed, DEMONSTRATIONS, _demonstration, dropped)


def read_rankings(settings: DataSettings, seed: int, dropped: Tally | None = None) -> list[Ranking]:
    """Judged responses; a comparison is a ranking of two."""
    return _read(settings, seed, RANKINGS, _ranking, dropped)


def read_prompts(settings: DataSettings, seed: int, dropped: Tally | None = None) -> list[Prompt]:
    """Prompts alone; `reference` is the answer that `read_demonstrations` would have taken.

    All three add to `dropped`, where one is given, each row that they leave out, with its place and the reason.
    """
    return _read(settings, seed, PROMPTS, _prompt, dropped)


def read_texts(paths: Sequence[str], limit_characters: int = 0) -> list[str]:
    """Documents of plain text files, parted at `<|endoftext|>`. A file name may hold `*`.

    A limit is shared evenly between the files, the smallest read first, so that no file uses it up. 0 = no limit.
    """
    files = [file for path in map(Path, paths) for file in _matching(path)]
    if not files:
        raise DataError(", ".join(paths) or "text", "no file has such a name", "name .txt files, plain, .gz or .xz")
    documents, left, mended = [], limit_characters, Tally()
    for position, file in enumerate(sorted(files, key=_size)):
        text = read_text(file, left // (len(files) - position) if limit_characters else -1)
        left -= len(text)
        for kind in mended_kinds(text):
            mended.add(f"files with {kind}", str(file))
        documents += [document for document in map(str.strip, clean(text).split(DOCUMENT_END)) if document]
    if not documents:
        raise DataError(str(files[0]), "holds no text", "name files that hold running text")
    log.info("read %s documents, %s characters of text", f"{len(documents):,}", f"{sum(map(len, documents)):,}")
    if mended:
        log.info("mended %s", mended)
    return documents


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _matching(path: Path) -> list[Path]:
    return sorted(path.parent.glob(path.name)) if "*" in path.name else [path]


# ── rows → records ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Tags:
    """The columns that every record carries along."""

    source: str
    group: str
    user: str
    where: str


def _demonstration(entry: Entry, tags: _Tags) -> Demonstration:
    if entry.best is None:
        raise Unusable("rows without one best response")
    if not entry.best.strip():
        raise Unusable("empty responses")
    return Demonstration(entry.prompt, entry.best, tags.source, tags.group, tags.user, tags.where)


def _prompt(entry: Entry, tags: _Tags) -> Prompt:
    reference = entry.best if entry.best and entry.best.strip() else None
    return Prompt(entry.prompt, reference, tags.source, tags.group, tags.user, tags.where)


def _ranking(entry: Entry, tags: _Tags) -> Ranking:
    judged = entry.judged
    if judged is None:
        raise Unusable("rows without a judgement")
    words = [response.strip() for response in judged.responses]
    if entry.paired and not all(words):
        raise Unusable("empty responses")
    if len(set(words)) == 1:
        raise Unusable("identical pairs")
    return replace(judged, prompt=entry.prompt, source=tags.source, group=tags.group, where=tags.where)


def _read(
    settings: DataSettings,
    seed: int,
    wanted: str,
    record: Callable[[Entry, _Tags], Record],
    told_dropped: Tally | None,
) -> list[Record]:
    rows = read_rows(settings)
    form = _format(rows[0], wanted, settings.path)
    rows = _from_sources(rows, settings)
    transcripts = _is_waiting(rows[0])
    records: list[Record] = []
    dropped, mended, hints = Tally(), Tally(), dict[str, str]()
    for row in rows:
        for said in _records(replace(row, transcripts=transcripts), form, record):
            if isinstance(said, Unusable):
                dropped.add(str(said), row.where)
                hints[str(said)] = said.hint
            else:
                records.append(said)
        for kind in sorted(row.mended):
            mended.add(f"rows with {kind}", row.where)
    if mended:
        log.info("mended %s", mended)
    _refuse_mostly_dropped(records, dropped, hints)
    if told_dropped is not None:
        told_dropped.extend(dropped)
    kept = _drawn(records, settings.limit, seed)
    _tell(settings, form, wanted, len(rows), len(records), len(kept), dropped)
    return kept


def _is_waiting(row: Row) -> bool:
    """Is the prompt of the first row a transcript that ends in `Assistant:`? Then others may be so."""
    prompt = row.columns.get("prompt")
    return isinstance(prompt, str) and is_transcript(prompt)


def _records(row: Row, form: Format, record: Callable[[Entry, _Tags], Record]) -> Iterator[Record | Unusable]:
    """What the row gives, and in place of what it does not give the reason."""
    source, group, user = (row.tag(name) for name in ("source", "group", "user"))
    try:
        for entry in form.entries(row):
            try:
                prompt = entry.prompt
                if not prompt or prompt[-1].role != "user" or not prompt[-1].content.strip():
                    raise Unusable("prompts that do not end with the user's words")
                yield record(entry, _Tags(source, group or group_of(prompt), user, row.where))
            except Unusable as reason:
                yield reason
    except Unusable as reason:
        yield reason


def _format(row: Row, wanted: str, path: str) -> Format:
    form = detect(row.columns, wanted)
    seen = listed(row.columns)
    if form is not None and wanted in form.gives:
        return form
    names = ", ".join(f"{json.dumps(old)}: {new}" for old, new in renaming(row.columns, wanted).items())
    flag = f": --{'prompts' if wanted == PROMPTS else 'data'}.columns '{{{names}}}'" if names else ""
    hint = f"{NEEDED[wanted]}; the setting `columns` renames columns{flag}"
    if form is None:
        raise DataError(row.where, f"no known format has these columns: {seen}", hint)
    raise DataError(path, f"the format `{form.name}` (columns: {seen}) holds no {wanted}", form.advice + hint)


def _from_sources(rows: list[Row], settings: DataSettings) -> list[Row]:
    kept = [row for row in rows if not settings.sources or row.tag("source").startswith(settings.sources)]
    if not kept:
        seen = listed(sorted({row.tag("source") for row in rows}), 8)
        named = " or ".join(settings.sources)
        raise DataError(settings.path, f"no row's `source` starts with {named}", f"sources there: {seen}")
    return kept


def _refuse_mostly_dropped(records: list[Any], dropped: Tally, hints: dict[str, str]) -> None:
    if len(dropped) > len(records):
        told = f"{len(dropped):,} of {len(dropped) + len(records):,} rows are unusable: {dropped}"
        (_, first), *_ = dropped
        often = max(hints, key=[reason for reason, _ in dropped].count)
        hint = hints[often] or "this is the first of them; are the file and its columns the ones you meant?"
        raise DataError(first, told, hint)


def _drawn(records: list[Record], limit: int, seed: int) -> list[Record]:
    if not 0 < limit < len(records):
        return records
    return [records[i] for i in sorted(random.Random(seed).sample(range(len(records)), limit))]


def _tell(
    settings: DataSettings, form: Format, wanted: str, rows: int, records: int, kept: int, dropped: Tally
) -> None:
    line = f"read   {settings.path}\n       {rows:,} rows as {form.name} → {records:,} {wanted}"
    line += f"; dropped {dropped}" if dropped else ""
    line += f"; drew {kept:,} of them" if kept < records else ""
    log.log(logging.WARNING if dropped else logging.INFO, line)
