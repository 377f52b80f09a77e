"""Whatever a file holds, a reader gives clean records or tells a person what to mend.

No traceback, no hang, nothing taken that must not be. A few hundred examples a reader here, always the same ones;
`make fuzz` draws some ten thousand new ones (`HEED_FUZZ` is the number for each test).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from heed.data.encode import encode_demonstrations, encode_each
from heed.data.sources import read_demonstrations, read_prompts, read_rankings
from heed.data.special import control_ids
from heed.data.tally import Tally
from heed.data.template import Template
from heed.data.transcripts import parse_dialogue
from heed.errors import DataError
from heed.records import Demonstration, Prompt, Ranking, Turn, from_row, read_jsonl, to_row, write_jsonl
from heed.settings.common import DataSettings
from heed.words import clean, mended_kinds

fuzz = settings(
    max_examples=int(os.environ.get("HEED_FUZZ", "200")),
    derandomize="HEED_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.timeout(7200)
READERS = (read_demonstrations, read_prompts, read_rankings)

PIECES = [
    "Name a fruit.", "An apple.", "\n\nHuman:", "\n\nAssistant:", "\r\n\r\nHuman: ", "\n\nHuman: Hi\n\nAssistant: Yes",
    "### Response:", "### Instruction:\n", "<|endoftext|>", "<|im_end|>", "</s>", "<noinput>", "\n<noinput>",
    "\x00", "\x1b[2J", "\ufeff", "\ud83d", "\udf52", "🍒", "\u2028", "\x85", " ", "\n", "\r", '"', ",", ";", "\t",
]  # fmt: skip
words = st.one_of(st.lists(st.sampled_from(PIECES), max_size=5).map("".join), st.text(max_size=20))
numbers = st.one_of(
    st.integers(-3, 4), st.sampled_from([10**20, -(10**400), 1.5, float("nan"), float("inf"), -0.0, True])
)
values = st.recursive(
    st.one_of(st.none(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)
roles = st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool", "User", "", None])
messages = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": roles, "content": st.one_of(words, st.none(), values)}),
        st.fixed_dictionaries({"from": roles, "value": words}),
        st.fixed_dictionaries({"role": st.just("user"), "content": words}),
        st.fixed_dictionaries({"role": st.just("assistant"), "content": words}),
    ),
    max_size=4,
)
NAMES = (
    "prompt response chosen rejected completion responses ranks finished messages conversations instruction input "
    "output output_1 output_2 preference system history text label source group user labeler seconds reference task "
    "ties where"
).split()
cells = {
    "ranks": st.lists(st.one_of(st.integers(0, 3), numbers), max_size=3),
    "responses": st.lists(words, max_size=3),
    "messages": messages, "conversations": messages, "preference": st.one_of(numbers, st.none()),
}  # fmt: skip
plain_cell = st.one_of(words, words, words, messages, values)
rows = st.lists(st.sampled_from(NAMES), max_size=5, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: st.one_of(cells.get(name, words), plain_cell) for name in names})
)
FORMS = ["prompt response", "prompt", "prompt chosen rejected", "chosen rejected", "messages", "conversations", "text",
         "instruction input output", "prompt responses ranks", "instruction output_1 output_2 preference"]  # fmt: skip
known_rows = st.sampled_from(FORMS).flatmap(
    lambda names: st.lists(
        st.fixed_dictionaries({name: st.one_of(cells.get(name, words), plain_cell) for name in names.split()}),
        min_size=1,
        max_size=4,
    )
)
tables = st.one_of(known_rows, known_rows, st.lists(rows, max_size=3))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes as they are, or with pieces cut out, put in or turned into others."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(whole)))
        end = draw(st.integers(start, min(len(whole), start + draw(st.sampled_from([0, 1, 8, 1000])))))
        put = draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b"\n", b"\xff\xfe", b'"', b"\x00" * 9, b"[" * 3000]))
        )
        whole = whole[:start] + put + whole[end:]
    return whole


def dumped(row: Any, is_ascii: bool) -> bytes:
    return json.dumps(row, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")


def texts_of(record: Demonstration | Prompt | Ranking) -> list[str]:
    row = to_row(record)
    said = [turn.content for turn in record.prompt]
    return said + [value for value in row.values() if isinstance(value, str)] + list(row.get("responses", ()))


def check_told(error: DataError) -> None:
    """Two printable lines of a bearable length."""
    lines = str(error).split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() and len(line) < 4000 for line in lines), lines
    assert error.hint


def check_taken(records: list[Any], path: Path) -> None:
    """What is taken is clean, asks something, and is read back as it was written."""
    for record in records:
        assert all(clean(text) == text for text in texts_of(record))
        assert record.prompt[-1].role == "user"
        assert record.prompt[-1].content.strip()
        assert record.where.startswith(str(path))
        if isinstance(record, Ranking):
            assert len(record.responses) == len(record.ranks) == len(record.finished) >= 2
            assert all(1 <= rank <= 10**9 for rank in record.ranks)
        if isinstance(record, Demonstration):
            assert record.response.strip()
    copy = path.parent / "copy.jsonl"
    if records:
        write_jsonl(copy, records)
        assert read_jsonl(copy, type(records[0])) == records


def read_everything(path: Path, part: Path | None = None) -> list[int]:
    """How many records each reader gives, `-1` where it tells what is wrong."""
    found = []
    for read in READERS:
        dropped = Tally()
        try:
            records = read(DataSettings(path=str(path)), 0, dropped)
        except DataError as error:
            check_told(error)
            found.append(-1)
        else:
            check_taken(records, part or path)
            assert len(dropped) <= len(records)
            assert all(where.startswith(str(part or path)) for _, where in dropped)
            found.append(len(records))
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@fuzz
@given(st.data(), tables, st.booleans())
def test_jsonl(place: Path, data: st.DataObject, table: list[Any], is_ascii: bool) -> None:
    path = place / "rows.jsonl"
    path.write_bytes(data.draw(damaged(b"\n".join(dumped(row, is_ascii) for row in table))))
    read_everything(path)


@fuzz
@given(tables)
def test_no_row_is_lost_without_a_word(place: Path, table: list[Any]) -> None:
    path = place / "whole.jsonl"
    path.write_bytes(b"\n".join(dumped(row, True) for row in table))
    for read in READERS:
        dropped = Tally()
        try:
            records = read(DataSettings(path=str(path)), 0, dropped)
        except DataError:
            continue
        places = {record.where for record in records} | {where for _, where in dropped}
        assert places == {f"{path}:{number}" for number in range(1, len(table) + 1)}


@fuzz
@given(st.data(), st.one_of(tables, values), st.booleans())
def test_json(place: Path, data: st.DataObject, table: Any, is_ascii: bool) -> None:
    path = place / "rows.json"
    path.write_bytes(data.draw(damaged(dumped(table, is_ascii))))
    read_everything(path)


@fuzz
@given(st.data(), tables, st.sampled_from(["\t", ",", ";"]))
def test_csv(place: Path, data: st.DataObject, table: list[Any], separator: str) -> None:
    path = place / ("rows.tsv" if separator == "\t" else "rows.csv")
    header = list(dict.fromkeys(name for row in table for name in row))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow(header)
    for row in table:
        written = [row.get(name, "") for name in header]
        writer.writerow([value if isinstance(value, str) else json.dumps(value) for value in written])
    path.write_bytes(data.draw(damaged(text.getvalue().encode("utf-8", "surrogatepass"))))
    read_everything(path)


@fuzz
@given(st.data(), tables, st.sampled_from([("gz", gzip.compress), ("xz", lzma.compress)]))
def test_archives(
    place: Path, data: st.DataObject, table: list[Any], kind: tuple[str, Callable[[bytes], bytes]]
) -> None:
    suffix, pack = kind
    path = place / f"rows.jsonl.{suffix}"
    path.write_bytes(data.draw(damaged(pack(b"\n".join(dumped(row, True) for row in table)))))
    read_everything(path)


@fuzz
@given(st.data(), words, st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_text(place: Path, data: st.DataObject, text: str, encoding: str) -> None:
    path = place / "prompts.txt"
    path.write_bytes(data.draw(damaged(text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass"))))
    read_everything(path)


def arrow_table(table: list[Any]) -> pyarrow.Table:
    """The rows as Arrow takes them; what it does not take becomes text."""
    names = list(dict.fromkeys(name for row in table for name in row))
    columns = []
    for name in names:
        told = [row.get(name) for row in table]
        try:
            columns.append(pyarrow.array(told))
        except (pyarrow.ArrowException, UnicodeEncodeError, OverflowError):
            columns.append(pyarrow.array([clean(str(value)) for value in told]))
    return pyarrow.table(columns, names=[clean(name) for name in names])


@fuzz
@given(st.data(), known_rows, st.booleans())
def test_parquet_and_arrow(place: Path, data: st.DataObject, table: list[Any], is_parquet: bool) -> None:
    path, sink = place / ("rows.parquet" if is_parquet else "rows.arrow"), io.BytesIO()
    whole = arrow_table(table)
    if is_parquet:
        try:
            pyarrow.parquet.write_table(whole, sink)
        except pyarrow.ArrowNotImplementedError:  # Parquet has no objects without keys
            reject()
    else:
        with pyarrow.ipc.new_stream(sink, whole.schema) as writer:
            writer.write_table(whole)
    path.write_bytes(data.draw(damaged(sink.getvalue())))
    read_everything(path)


names = st.sampled_from(
    [
        "../secret.jsonl",
        "/etc/passwd",
        "data/../../secret.jsonl",
        "train.jsonl",
        "*",
        "**",
        "..",
        "",
        "hf://x",
        "\x00",
        "a:b",
    ]
)


@fuzz
@given(st.data(), names, st.one_of(names, values), st.sampled_from(["README.md", "state.json", "dataset_dict.json"]))
def test_directories(place: Path, data: st.DataObject, name: str, other: Any, description: str) -> None:
    folder = place / "folder"
    (folder / "train").mkdir(parents=True, exist_ok=True)
    (place / "secret.jsonl").write_text('{"prompt": "secret", "response": "secret"}\n')
    (folder / "train.jsonl").write_text('{"prompt": "Ask.", "response": "Good"}\n')
    for file in ("README.md", "state.json", "dataset_dict.json", "train/state.json"):
        (folder / file).unlink(missing_ok=True)
    files = {"_data_files": [{"filename": name}, {"filename": other}]}
    configs = [
        {"config_name": "default", "data_files": [{"split": "train", "path": name}, {"split": "test", "path": other}]}
    ]
    told = {
        "README.md": f"---\nconfigs: {json.dumps(configs)}\n---\n",
        "state.json": json.dumps(files),
        "dataset_dict.json": json.dumps({"splits": ["train", name, other]}),
    }[description]
    (folder / "train" / "state.json").write_text(json.dumps(files))
    (folder / description).write_bytes(data.draw(damaged(told.encode())))
    for read in READERS:
        try:
            records = read(DataSettings(path=str(folder)), 0)
        except DataError as error:
            check_told(error)
        else:
            assert "secret" not in str(records)


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@fuzz
@given(rows, st.sampled_from([Demonstration, Prompt, Ranking]))
@example({"prompt": "p", "responses": ["a", "b"], "ranks": [1, 10**20]}, Ranking)
@example({"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "seconds": 10**400}, Ranking)
@example({"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "seconds": float("nan")}, Ranking)
def test_rows_of_records(row: dict[str, Any], kind: type[Any]) -> None:
    try:
        record = from_row(kind, row, "rows.jsonl:1")
    except DataError as error:
        check_told(error)
    else:
        assert all(clean(text) == text for text in texts_of(record))
        assert from_row(kind, to_row(record), "rows.jsonl:1") == record


@fuzz
@given(words)
def test_the_door_closes_behind_a_text(text: str) -> None:
    mended = clean(text)
    assert clean(mended) == mended
    assert mended_kinds(mended) == []
    assert (mended == text) == (mended_kinds(text) == [])
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff]", mended)


# ── templates ────────────────────────────────────────────────────────────────────────────────────────────────────────

spoken = st.one_of(words, st.lists(st.sampled_from([*PIECES, "<|pad|>", "<|im_start|>"]), max_size=6).map("".join))
turns = st.builds(Turn, st.sampled_from(["user", "assistant"]), spoken.map(clean))
prompts = st.builds(
    lambda system, before, last: (*system, *before, Turn("user", last)),
    st.lists(st.builds(Turn, st.just("system"), spoken.map(clean)), max_size=1),
    st.lists(turns, max_size=3),
    spoken.map(clean),
)


@fuzz
@given(prompts, spoken.map(clean))
def test_what_is_typed_opens_no_turn(tokenizer, prompt: tuple[Turn, ...], response: str) -> None:
    dialogue, alpaca = Template.named("dialogue"), Template.named("alpaca")
    said = [turn.role for turn in prompt if turn.role != "system" or turn.content.strip()]
    whole = dialogue.render(prompt) + dialogue.answer_text(response)
    assert [turn.role for turn in parse_dialogue(whole)][: len(said)] == said
    assert len(parse_dialogue(whole)) == len(said) + bool(response.strip())
    text = alpaca.render(prompt) + alpaca.answer_text(response)
    roles_there = [turn.role for turn in prompt]
    assert text.count("### Response:") == roles_there.count("assistant") + 1
    assert text.count("### Instruction:") == roles_there.count("user")


@fuzz
@given(prompts, spoken.map(clean))
def test_what_is_typed_becomes_no_special_token(
    tokenizer, chat_tokenizer, word_tokenizer, unigram_tokenizer, prompt: tuple[Turn, ...], response: str
) -> None:
    for own in (tokenizer, word_tokenizer, unigram_tokenizer):
        for name in ("dialogue", "alpaca", "plain"):
            template = Template.named(name, own)
            ((tokens, start),) = encode_demonstrations([Demonstration(prompt, response)], template, own)
            assert control_ids(own).isdisjoint(tokens[:start])
            assert control_ids(own).isdisjoint(tokens[start:-1])
            assert tokens[-1] == own.eos_token_id
    special = control_ids(chat_tokenizer)
    blank = tuple(Turn(turn.role, "x") for turn in prompt)
    ours, expected = encode_each([prompt, blank], Template.named("chat", chat_tokenizer), chat_tokenizer)
    assert [t for t in ours if t in special] == [t for t in expected if t in special]


@fuzz
@given(prompts, spoken.map(clean), st.sampled_from(["dialogue", "alpaca"]))
def test_stock_libraries_see_the_same(tokenizer, beginning_tokenizer, prompt, response: str, name: str) -> None:
    """Where nobody typed a special token: that one becomes itself in `apply_chat_template`."""
    messages = [{"role": turn.role, "content": turn.content} for turn in (*prompt, Turn("assistant", response))]
    if re.search(r"<\|(endoftext|pad|begin)\|>", str(messages)):
        return
    for own in (tokenizer, beginning_tokenizer):
        template = Template.named(name, own)
        ((tokens, start),) = encode_demonstrations([Demonstration(prompt, response)], template, own)
        stock = own.apply_chat_template(
            messages, chat_template=template.chat_template, return_assistant_tokens_mask=True, return_dict=True
        )
        assert list(stock["input_ids"]) == tokens
        assert [bool(bit) for bit in stock["assistant_masks"]] == [i >= start for i in range(len(tokens))]
        asked = own.apply_chat_template(
            messages[:-1], chat_template=template.chat_template, add_generation_prompt=True, return_dict=True
        )
        assert list(asked["input_ids"]) == tokens[:start]
