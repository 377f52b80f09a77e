"""What is said in the end: outcomes, exit codes, and on how little nothing is said."""

from __future__ import annotations

from typing import Any

import pytest

from heed.doctor.audit import audit, says_nothing, too_few, why_not
from heed.doctor.chart import CONSTRUCTED, Chart, outcome
from heed.doctor.findings import TESTS, finding
from heed.doctor.rollouts import Rollouts, of_rows
from heed.doctor.verdict import Verdict, not_made


def rollouts(rows: int, tokens: int, **columns: Any) -> Rollouts:
    """So many responses of so many tokens."""
    row = {"prompt_ids": [5], "response_ids": [7] * tokens, **columns}
    return of_rows([dict(row) for _ in range(rows)])


def test_outcomes() -> None:
    assert outcome([]) == "passed"
    assert outcome([finding("NK21", "x")]) == "passed"
    assert outcome([finding("NK16", "x")]) == outcome([finding("T2", "x")]) == "failed"
    assert outcome(None) == "not tested"
    assert outcome(None, "not tested: no mask") == "not tested: no mask"
    assert outcome([], CONSTRUCTED) == "by construction"
    assert outcome([finding("T2", "x")], CONSTRUCTED) == "failed"  # what is found outranks why it cannot be


@pytest.mark.parametrize(
    ("found", "unjudged", "code", "word"),
    [([], "", 0, "healthy"), (["NK16"], "", 0, "healthy"), (["NK1"], "", 3, "findings"), ([], "why", 4, "not judged"),
     (["NK1"], "why", 3, "findings"), (["NK16"], "why", 4, "not judged")],
)  # fmt: skip
def test_codes(found: list[str], unjudged: str, code: int, word: str) -> None:
    verdict = Verdict("file", {}, [finding(name, "x") for name in found], 1, 1, unjudged=unjudged)
    assert (verdict.code, verdict.as_dict()["verdict"]) == (code, word)
    assert ("run again" in verdict.conclusion) == (code == 3)
    assert (verdict.conclusion == "not judged: why") == (code == 4)


def test_each_test_has_an_outcome_in_words() -> None:
    verdict = Verdict(
        "file", {"T2": [], "T12": [finding("NK10", "x")]}, [], 1, 1, skipped={"T3": "not tested: no column"}
    )
    told = verdict.as_dict()["tests"]
    assert list(told) == list(TESTS)
    assert (told["T2"], told["T3"], told["T12"], told["T4"]) == (
        "passed",
        "not tested: no column",
        "failed",
        "not tested",
    )


def test_after_a_run_two_tests_cannot_be_made_and_after_half_of_one_none() -> None:
    assert set(not_made()) == {"T5", "T11"}
    assert not_made("it stopped") == dict.fromkeys(TESTS, "not tested: it stopped")


def test_too_few_are_told_with_the_number_that_is_needed() -> None:
    assert too_few(rollouts(64, 2)) == too_few(rollouts(10, 150)) == ""
    assert "630 tokens of 63 responses" in too_few(rollouts(63, 10))
    assert "64 responses or 1,500 tokens" in too_few(rollouts(63, 10)) and "128" in too_few(rollouts(63, 10))


def test_a_handful_is_not_judged() -> None:
    made = {"T2": []}
    assert says_nothing(rollouts(8, 8), made) == ""
    assert says_nothing(rollouts(7, 99), made) and says_nothing(rollouts(8, 7), made)
    assert "nothing in the file tells of its sampler" in says_nothing(rollouts(64, 8), {"T12": []})
    assert says_nothing(rollouts(64, 8), {"T0": []}) == ""


def test_why_a_test_was_not_made() -> None:
    file = rollouts(20, 10, mask=[1] * 10)
    results = audit(file, 1.0)
    reasons = why_not(file, results, 1.0, None)
    assert "T12" not in reasons
    assert reasons["T3"] == "not tested: no `policy_logprobs_again` in the file"
    assert reasons["T7"] == "not tested: needs --model and --reference"
    with_models = why_not(file, {**results, "T7": []}, 1.0, 320)
    assert "too few" in with_models["T7"]
    assert set(why_not(file, results, 1.0, None)) == set(TESTS) - {"T12"}


def test_settings_that_are_not_known_are_the_reason() -> None:
    file = rollouts(20, 10, sampler={"mirostat": 2, "top_k": 7})
    assert why_not(file, audit(file, 1.0), 1.0, 8)["T0"] == "not tested: mirostat"
    assert [one.id for one in audit(file, 1.0, 8)["T0"]] == ["NK1"]


def test_prompts_of_the_reference() -> None:
    file = rollouts(2, 3, ref_prompt_ids=[5, 5])
    (found,) = audit(file, 1.0)["T1"]
    assert found.id == "NK18" and "The reference's prompt ids" in found.message
    assert audit(rollouts(2, 3, ref_prompt_ids=[5]), 1.0)["T1"] == []


def test_only_marked_rows_are_from_before_the_first_update() -> None:
    lines = {"policy_logprobs": [-1.0] * 3, "ref_logprobs": [-1.0] * 3}
    rows = [{"prompt_ids": [5], "response_ids": [7] * 3, **lines, "initial": i < 2} for i in range(4)]
    rows[3]["ref_logprobs"] = [-3.0] * 3
    assert audit(of_rows(rows), 1.0)["T5"] == []
    rows[1]["ref_logprobs"] = [-3.0] * 3
    assert [one.id for one in audit(of_rows(rows), 1.0)["T5"]] == ["NK14"]
    for row in rows:
        row["initial"] = False
    assert "T5" not in audit(of_rows(rows), 1.0)


def test_a_chart_goes_on(tmp_path: Any) -> None:
    """Lines that a lost step wrote are cut off; a run that begins removes the file of an older one."""
    file = tmp_path / "findings.jsonl"
    file.write_text("of an older run\n")
    chart = Chart(file)
    chart.take(1, {"T2": [finding("NK16", "a")]}, {"T0": CONSTRUCTED})
    state = chart.state_dict()
    chart.take(2, {"T2": [finding("NK1", "lost", test="T2")]})
    again = Chart(file)
    again.load_state_dict(state)
    again.take(2, {"T2": [finding("NK16", "b")], "T5": []})
    assert [line[:35] for line in file.read_text().splitlines()] == [
        '{"step": 1, "id": "NK16", "severity', '{"step": 2, "id": "NK16", "severity']  # fmt: skip
    assert again.summary()["findings"] == {"NK16": {"severity": "warning", "count": 2, "first_step": 1}}
    assert (again.outcomes()["T0"], again.outcomes()["T2"], again.outcomes()["T5"]) == (CONSTRUCTED, "failed", "passed")
    again.take(3, {"T2": []})
    assert again.outcomes()["T2"] == "failed"  # that it passed once does not undo that it failed
