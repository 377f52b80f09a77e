"""Files of rollouts: what is not as described is told in two lines, by line; what is odd and right is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from heed.doctor.rollouts import Rollouts, read_rollouts
from heed.errors import DataError

ROW: dict[str, Any] = {"prompt_ids": [5, 6], "response_ids": [7, 8, 0], "mask": [1, 1, 1], "eos_id": 0, "pad_id": 1,
                       "policy_logprobs": [-1.0, -2.0, -0.5]}  # fmt: skip


def read(tmp_path: Path, *rows: dict[str, Any]) -> Rollouts:
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_rollouts(path)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a label's id": ({"response_ids": [7, -100, 0]}, "`response_ids` holds -100, which is no token id"),
    "an id of 65 bits": ({"prompt_ids": [2**65]}, f"`prompt_ids` holds {2**65}, which is no token id"),
    "an id of 33 bits": ({"prompt_ids": [2**33]}, f"`prompt_ids` holds {2**33}, which is no token id"),
    "an id that is true": ({"response_ids": [7, True, 0]}, "it holds True"),
    "ids with a fraction": ({"response_ids": [7, 8.5, 0]}, "it holds 8.5"),
    "ids in a batch": ({"response_ids": [[7, 8, 0]]}, "`response_ids` is not a list of token ids"),
    "ids as text": ({"prompt_ids": "5 6"}, "`prompt_ids` is not a list of token ids, but '5 6'"),
    "no prompt": ({"prompt_ids": []}, "`prompt_ids` is empty"),
    "no response": ({"response_ids": [], "mask": [], "policy_logprobs": []}, "`response_ids` is empty"),
    "a missing column": ({"response_ids": None}, "`response_ids` is not a list"),
    "an empty list of ends": ({"eos_id": []}, "`eos_id` is an empty list"),
    "an end as text": ({"eos_id": "</s>"}, "`eos_id` holds '</s>'"),
    "ends as texts": ({"eos_id": [0, "2"]}, "`eos_id` holds '2'"),
    "no end as -1": ({"eos_id": -1}, "`eos_id` holds -1"),
    "pads in a list": ({"pad_id": [1]}, "`pad_id` holds [1]"),
    "a pad of -1": ({"pad_id": -1}, "`pad_id` holds -1"),
    "settings as text": ({"sampler": "top_k=50"}, "`sampler` is 'top_k=50', which is not settings by name"),
    "settings in a list": ({"sampler": [["top_k", 50]]}, "which is not settings by name"),
    "scored ids as a number": ({"scored_response_ids": 7}, "`scored_response_ids` is not a list of token ids, but 7"),
    "prompts of the reference as null": ({"ref_prompt_ids": None}, "`ref_prompt_ids` is not a list of token ids"),
    "half a mask": ({"mask": [1, 0.5, 1]}, "`mask` holds 0.5"),
    "a mask of twos": ({"mask": [1, 2, 1]}, "`mask` holds 2"),
    "a mask of text": ({"mask": ["1", "1", "1"]}, "`mask` holds '1', which is not a number"),
    "a short mask": ({"mask": [1, 1]}, "`mask` is not a list of 3 numbers, but a list of 2"),
    "masks all zero": ({"mask": [0, 0, 0]}, "`mask` is 0 at every token of every row"),
    "null for a number": ({"policy_logprobs": [-1.0, None, -0.5]}, "`policy_logprobs` holds None"),
    "true for a number": ({"policy_logprobs": [-1.0, True, -0.5]}, "`policy_logprobs` holds True"),
    "one number for all": ({"policy_logprobs": -1.0}, "`policy_logprobs` is not a list of 3 numbers, but -1.0"),
    "a number of 400 digits": ({"policy_logprobs": [-(10**400), -1, -1]}, "which is not a number"),
    "first as text": ({"initial": "false"}, "`initial` holds 'false'"),
    "first as a list": ({"initial": [True]}, "`initial` holds [True]"),
    "versions in a list": ({"sampler_version": [1], "scorer_version": 1}, "`sampler_version` is [1]"),
    "a version that is no number": ({"sampler_version": math.nan, "scorer_version": 1}, "`sampler_version` is nan"),
    "an unknown column": ({"logprobs": [0.0]}, "unknown column 'logprobs'"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "what"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_told_in_two_lines(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, {**ROW, **change})
    assert what in caught.value.what
    assert str(caught.value).count("\n") == 1
    assert "rollouts.jsonl" in caught.value.where
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "what"),
    [({"eos_id": 2}, "`eos_id` is not that of the first row"), ({"pad_id": 2}, "`pad_id` is not that of the first row"),
     ({"initial": True}, "has other columns than the first row: initial")],
)  # fmt: skip
def test_rows_that_differ_are_told_by_the_second_line(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what) as caught:
        read(tmp_path, ROW, {**ROW, **change})
    assert caught.value.where.endswith(":2")


def test_files_without_rows_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read(tmp_path)
    (tmp_path / "rollouts.jsonl").write_text('{"prompt_ids": [1]\n')
    with pytest.raises(DataError, match="not valid JSON"):
        read_rollouts(tmp_path / "rollouts.jsonl")
    (tmp_path / "rollouts.jsonl").write_text("[1, 2]\n")
    with pytest.raises(DataError, match="a list, not an object"):
        read_rollouts(tmp_path / "rollouts.jsonl")


def test_several_ends_of_text(tmp_path: Path) -> None:
    rows = [{**ROW, "eos_id": [9, 0], "response_ids": ids} for ids in ([7, 8, 0], [9, 4, 4], [7, 8, 4], [0, 4, 4])]
    found = read(tmp_path, *rows)
    assert found.eos == (0, 9)
    # the second and the last row end at once; what their masks count after that is not written
    assert found.written.sum(1).tolist() == [3, 1, 3, 1]
    assert read(tmp_path, {**ROW, "eos_id": None}).eos == ()


def test_a_row_that_counts_nothing_is_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, ROW, {**ROW, "mask": [0, 0, 0]}, {**ROW, "mask": [True, 1.0, 0]})
    assert (found.left_out, len(found.responses)) == (1, 2)
    assert found.counted.tolist() == [[True, True, True], [True, True, False]]
    assert found.written.tolist() == [[True, True, True], [True, True, True]]  # the end was drawn all the same
    cut = read(tmp_path, {**ROW, "mask": [1, 0, 0]})
    assert cut.written.tolist() == [[True, False, False]]  # an end that is not the next token is not the mask's


def test_a_hole_in_a_mask_is_no_end(tmp_path: Path) -> None:
    found = read(tmp_path, {**ROW, "mask": [0, 1, 0]})
    assert found.written.tolist() == [[True, True, True]]
    found = read(tmp_path, {**ROW, "eos_id": 3, "mask": [0, 1, 0]})
    assert found.written.tolist() == [[True, True, False]]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1e39])
def test_what_is_not_finite_is_a_line_but_no_number(number: float, tmp_path: Path) -> None:
    line = [-1.0, number, -0.5]
    found = read(tmp_path, {**ROW, "policy_logprobs": line, "ref_logprobs": [-1.0, -1.0, -1.0]})
    assert set(found.lines) == {"policy_logprobs", "ref_logprobs"}
    assert set(found.finite) == {"ref_logprobs"}
    beyond = read(tmp_path, {**ROW, "eos_id": 8, "mask": [1, 1, 0], "policy_logprobs": [-1.0, -1.0, number]})
    assert set(beyond.finite) == {"policy_logprobs"}  # only what was written counts


def test_rows_from_before_the_first_update(tmp_path: Path) -> None:
    found = read(
        tmp_path, {**ROW, "initial": True}, {**ROW, "initial": False, "prompt_ids": [3]}, {**ROW, "initial": 1}
    )
    assert found.initial == [0, 2]
    others = found.rows([1])
    assert (others.prompts.tolist(), others.columns["prompt_ids"], others.initial) == ([[1, 3]], [[3]], [])
    assert others.lines["policy_logprobs"].tolist() == [[-1.0, -2.0, -0.5]]
