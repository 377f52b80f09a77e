"""Columns by other names: what the hint says works when it is followed, and nothing is guessed silently."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from heed.data.sources import read_demonstrations, read_prompts, read_rankings
from heed.errors import DataError
from heed.records import Turn
from heed.settings.common import DataSettings

ASKED = (Turn("user", "Name a fruit."),)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


OTHERS = [
    (read_demonstrations, {"question": "Name a fruit.", "answer": "A plum."}),
    (read_demonstrations, {"Prompt": "Name a fruit.", " Response": "A plum."}),
    (read_demonstrations, {"instruction": "Name a fruit.", "context": "", "response": "A plum.", "category": "qa"}),
    (read_demonstrations, {"input": "Name a fruit.", "output": "A plum."}),
    (read_rankings, {"question": "Name a fruit.", "chosen": "A plum.", "rejected": "A car."}),
    (read_prompts, {"query": "Name a fruit."}),
]


@pytest.mark.parametrize(("read", "row"), OTHERS, ids=[", ".join(row) for _, row in OTHERS])
def test_the_hint_names_the_columns_to_rename_and_works(tmp_path: Path, read: Any, row: dict[str, Any]) -> None:
    path = write(tmp_path / "rows.jsonl", row)
    with pytest.raises(DataError) as caught:
        read(DataSettings(path=str(path)), 0)
    told = re.search(r"--(\w+)\.columns '(.*)'", caught.value.hint)
    assert told is not None and told[1] == ("prompts" if read is read_prompts else "data")
    (record,) = read(DataSettings(path=str(path), columns=yaml.safe_load(told[2])), 0)
    assert record.prompt == ASKED


@pytest.mark.parametrize("columns", [{"a": "Name a fruit.", "b": "A plum."}, {"prompt": "p", "label": "x"}])
def test_nothing_is_proposed_that_would_not_fit(tmp_path: Path, columns: dict[str, str]) -> None:
    path = write(tmp_path / "rows.jsonl", columns)
    with pytest.raises(DataError) as caught:
        read_demonstrations(DataSettings(path=str(path)), 0)
    assert caught.value.hint.endswith("the setting `columns` renames columns")


def test_what_two_answers_begin_with_is_no_prompt_beside_a_question(tmp_path: Path) -> None:
    row = {"question": "What is blue?", "chosen": "The sky is blue.", "rejected": "The sky is black."}
    with pytest.raises(DataError, match="no known format has these columns: question, chosen, rejected"):
        read_rankings(DataSettings(path=str(write(tmp_path / "rows.jsonl", row))), 0)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Name a fruit.", "response": "A plum."},
        {"prompt": "\n\nHuman: Name a fruit.\n\nAssistant:", "response": "A plum."},
        {"prompt": "Name a fruit.", "chosen": "A plum.", "rejected": "A car."},
        {
            "prompt": "Name a fruit.",
            "chosen": [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A plum."}],
            "rejected": [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A car."}],
        },
        {"prompt": "Name a fruit.", "responses": ["A plum.", "A car."], "ranks": [1, 2]},
    ],
    ids=["demonstration", "transcript", "pair", "conversations", "ranking"],
)
def test_a_system_column_stands_in_front(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write(tmp_path / "rows.jsonl", {"system": "Be brief."} | row, {"system": None} | row)
    first, second = read_demonstrations(DataSettings(path=str(path)), 0)
    assert first.prompt == (Turn("system", "Be brief."), *ASKED) and second.prompt == ASKED
    assert first.response == second.response == "A plum."


def test_a_system_column_does_not_stand_beside_a_system_turn(tmp_path: Path) -> None:
    own = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Name a fruit."}]
    path = write(tmp_path / "rows.jsonl", {"system": "Be brief.", "prompt": own, "response": "A plum."})
    (record,) = read_demonstrations(DataSettings(path=str(path)), 0)
    assert record.prompt == (Turn("system", "Rhyme."), *ASKED)


def test_an_answer_of_weight_0_is_context_and_not_imitated(tmp_path: Path) -> None:
    said = [("user", "Hi"), ("assistant", "Bad."), ("user", "Name a fruit."), ("assistant", "A plum.")]
    messages = [{"role": role, "content": words} for role, words in said]
    messages[1]["weight"], messages[3]["weight"] = 0, 1  # type: ignore[assignment]
    path = write(tmp_path / "rows.jsonl", {"messages": messages}, {"system": "Be brief.", "messages": messages})
    for record, turns in zip(read_demonstrations(DataSettings(path=str(path)), 0), (3, 4), strict=True):
        assert record.response == "A plum." and len(record.prompt) == turns


def test_a_null_is_told_as_such_and_its_hint_works(tmp_path: Path) -> None:
    rows = [{"prompt": "Name a fruit.", "response": words} for words in ("A plum.", None)]
    with pytest.raises(DataError, match="`response` is missing: it is null") as caught:
        read_demonstrations(DataSettings(path=str(write(tmp_path / "rows.jsonl", *rows))), 0)
    assert 'write ""' in caught.value.hint
    rows[1]["response"] = ""
    assert len(read_demonstrations(DataSettings(path=str(write(tmp_path / "rows.jsonl", *rows))), 0)) == 1


def test_the_index_that_pandas_writes_is_no_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",prompt,response\n0,Name a fruit.,A plum.\n1,Name a car.,A bus.\n")
    assert [record.response for record in read_demonstrations(DataSettings(path=str(path)), 0)] == ["A plum.", "A bus."]
