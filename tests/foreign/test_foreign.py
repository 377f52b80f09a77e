"""`heed doctor --rollouts` on files of a trainer that shares no line with heed.

`make doctor-foreign` is the whole table: every fault, three seeds, two architectures.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_faults import (
    FAULTS,
    Fault,
    banned,
    in_training,
    older,
    other_reference,
    repetition,
    shortest,
    top_p,
)
from foreign_table import ASKED, examined
from foreign_trainer import EOS, STEPS, WORDS, Models, Rows, Scorer, rollout, write
from peft import LoraConfig, get_peft_model
from torch import nn

from heed import cli

QUICK = (
    "top-k 20", "temperature 0.7 in the sampler", "repetition penalty 1.1", "four frequent words banned", "greedy",
    "the sampler is the reference", "the sampler is in bfloat16", "dropout in the policy's scoring",
    "temperature in the scorer alone", "positions of the columns", "labels one late", "raw logits",
    "the reference reads another prompt", "KL measured after the updates",
)  # fmt: skip


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.name in QUICK], ids=lambda fault: fault.name)
def test_a_fault_is_named_and_nothing_else(models: Models, fault: Fault, tmp_path: Path) -> None:
    told = examined(models, fault.make(models, fault.rows, 11), tmp_path, temperature=fault.temperature)
    assert told.ids == [fault.cause]
    assert told.code == (0 if fault.cause in ("NK16", "NK19") else 3)


def test_the_quick_ones_are_there() -> None:
    assert {one.name for one in FAULTS} >= set(QUICK)


@pytest.mark.parametrize("rows", [12, 24, 64])
def test_a_healthy_file_is_clean(models: Models, rows: int, tmp_path: Path) -> None:
    told = examined(models, rollout(models, rows, 70), tmp_path)
    assert (told.code, told.verdict["findings"], told.verdict["verdict"]) == (0, [], "healthy")
    assert ("not judged" in told.verdict["conclusion"]) == (rows < 64)
    assert told.verdict["tests"]["T2"] == "passed"


def same(models: Models) -> Models:
    """The first step: nothing has been learned, the policy is its reference."""
    return Models(models.reference, models.reference, models.path, models.place)


# --- D1, D2 ---------------------------------------------------------------------------------------------------------


def test_a_reference_scored_in_other_batches_is_the_same_reference(models: Models, tmp_path: Path) -> None:
    rows = [{**row, "initial": True} for row in rollout(same(models), 48, 3)]
    for row in rows:  # what other batches do to float32 numbers, at its worst
        row["ref_logprobs"] = [number + (-1) ** i * 1.2e-5 for i, number in enumerate(row["ref_logprobs"])]
    model = {"model": str(models.place / "reference")}
    for with_models in (False, True):
        told = examined(models, rows, tmp_path, with_models, **(model if with_models else {}))
        assert (told.code, told.ids) == (0, [])
        assert told.verdict["tests"]["T5"] == "passed"


def test_a_reference_that_is_another_model_is_found_without_models(models: Models, tmp_path: Path) -> None:
    assert examined(models, other_reference(models, 48, 3), tmp_path, with_models=False).ids == ["NK14"]


def test_only_rows_that_are_marked_are_from_before_the_first_update(models: Models, tmp_path: Path) -> None:
    before = [{**row, "initial": True} for row in rollout(same(models), 32, 3)]
    after = [{**row, "initial": False} for row in rollout(models, 64, 4)]
    for with_models in (False, True):
        told = examined(models, before + after, tmp_path, with_models)
        assert (told.code, told.ids, told.verdict["tests"]["T5"]) == (0, [], "passed")
    wrong = [{**row, "ref_logprobs": [number - 0.4 for number in row["ref_logprobs"]]} for row in before]
    assert examined(models, wrong + after, tmp_path, with_models=False).ids == ["NK14"]


# --- D3 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "number"),
    [("policy_logprobs", math.nan), ("sampler_logprobs", -math.inf), ("ref_logprobs", math.inf)],
)
def test_nothing_else_is_judged_on_numbers_that_are_not_finite(
    models: Models, column: str, number: float, tmp_path: Path
) -> None:
    rows = rollout(models, 64, 5)
    rows[3][column][1] = number
    for with_models in (False, True):
        assert examined(models, rows, tmp_path, with_models).ids == ["NK20"]


def test_several_ends_of_text(models: Models, tmp_path: Path) -> None:
    """As Llama-3 has them: the second one is drawn now and then, and ends a response too."""
    second = 7
    rows = []
    for row in rollout(models, 96, 6):
        ids = row["response_ids"]
        stop = ids.index(second) + 1 if second in ids else len(ids)
        rows.append({name: value[:stop] if isinstance(value, list) and len(value) == len(ids) and name != "prompt_ids"
                     else value for name, value in row.items()} | {"eos_id": [EOS, second]})  # fmt: skip
    assert any(row["response_ids"][-1] == second for row in rows)
    assert examined(models, rows, tmp_path).ids == []
    never = [{**row, "eos_id": [EOS, second]} for row in rollout(models, 128, 6, banned(EOS, second))]
    assert examined(models, never, tmp_path).ids == ["NK4"]


def test_ids_that_the_model_does_not_have(models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--model", str(models.place / "policy"), "--reference", str(models.place / "reference")]
    for change in ({"response_ids": [5000, 3]}, {"eos_id": 5000}, {"eos_id": [EOS, 5000]}):
        row = {"prompt_ids": [5], "response_ids": [6, 3], "eos_id": EOS, "pad_id": 1, **change}
        assert cli.main(["doctor", "--rollouts", str(write([row], tmp_path / "r.jsonl")), *named]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert "id 5000 is not in" in told[-2] and told[-1].startswith("hint: ")
    beyond = {
        "prompt_ids": [5],
        "response_ids": [6, 3],
        "eos_id": EOS,
        "pad_id": 5000,
    }  # some pad beyond the embeddings
    assert cli.main(["doctor", "--rollouts", str(write([beyond], tmp_path / "r.jsonl")), *named]) == 4


# --- D4, D6, D7 -----------------------------------------------------------------------------------------------------


def test_what_gives_the_numbers_outranks_what_is_alike(models: Models, tmp_path: Path) -> None:
    for rows in (12, 96):
        told = examined(models, rollout(models, rows, 8, repetition(1.2)), tmp_path)
        assert told.ids == ["NK3"]
        assert "repetition_penalty=1.2" in told.verdict["findings"][0]["message"]


@pytest.mark.parametrize("rows", [12, 64])
def test_two_mistakes_of_a_scorer_are_both_named(models: Models, rows: int, tmp_path: Path) -> None:
    from foreign_faults import from_columns

    wrong = Scorer(forward=from_columns)  # neither positions nor the temperature
    made = rollout(models, rows, 9, temperature=0.7, scorer=wrong, ref_scorer=wrong)
    assert sorted(examined(models, made, tmp_path, temperature=0.7).ids) == ["NK2", "NK8"]


def test_a_minimum_length_between_two_that_are_tried(models: Models, tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if not name.endswith("_logprobs")}
            for row in rollout(models, 160, 10, shortest(12))]  # fmt: skip
    told = examined(models, rows, tmp_path)
    assert told.ids == ["NK4"]
    assert "of at least" in told.verdict["findings"][0]["message"]


@pytest.mark.parametrize("ids_only", [False, True])
def test_two_settings_of_a_sampler_are_both_named(models: Models, ids_only: bool, tmp_path: Path) -> None:
    made = rollout(models, 128, 11, repetition(1.3), drawn_at=0.7)
    if ids_only:
        made = [{name: value for name, value in row.items() if not name.endswith("_logprobs")} for row in made]
    told = examined(models, made, tmp_path)
    assert set(told.ids) >= {"NK2"} and "run again" in told.verdict["conclusion"]
    assert ids_only or sorted(told.ids) == ["NK2", "NK3"]


def test_a_mistake_of_the_scorer_does_not_hide_one_of_the_sampler(models: Models, tmp_path: Path) -> None:
    made = rollout(models, 96, 12, top_p(0.8), policy=in_training(models.policy))
    assert sorted(examined(models, made, tmp_path).ids) == ["NK1", "NK6"]


# --- D5 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_stale_weights_are_named_or_asked_for(models: Models, steps: int, tmp_path: Path) -> None:
    rows = older(steps)(models, 96, 13)
    told = examined(models, rows, tmp_path)
    asks = all(name in told.verdict["findings"][0]["hint"] for name in ASKED)
    assert told.code == 3 and (told.ids == ["NK13"] or (told.ids == ["T2"] and asks))
    versions = [{**row, "sampler_version": STEPS - steps, "scorer_version": STEPS} for row in rows]
    assert examined(models, versions, tmp_path).ids == ["NK13"]  # what was asked for settles it
    without = examined(models, rows, tmp_path, with_models=False)
    assert all(name in without.verdict["findings"][0]["hint"] for name in ASKED)


@pytest.mark.parametrize("steps", [3, 20])
def test_a_reference_that_moves_is_named_or_asked_for(models: Models, steps: int, tmp_path: Path) -> None:
    told = examined(models, rollout(models, 96, 14, reference=models.at(steps)), tmp_path)
    asks = all(name in told.verdict["findings"][0]["hint"] for name in ASKED)
    assert told.code == 3 and (told.ids == ["NK15"] or (told.ids == ["T2"] and asks))


# --- D8 -------------------------------------------------------------------------------------------------------------


class Passes:
    """Counts the tokens that a model reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from heed.clinic.toggles import Toggled

        self.rows = 0
        right = Toggled._logits

        def counting(toggled: Any, toggle: str, *rest: Any) -> Any:
            self.rows += int(toggle.partition("=")[2]) if toggle.startswith("dropout") else 1
            return right(toggled, toggle, *rest)

        monkeypatch.setattr(Toggled, "_logits", counting)


def test_an_unexplained_column_costs_a_bounded_number_of_passes(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = Passes(monkeypatch)
    rows = rollout(models, 64, 15)
    for row in rows:
        odd = enumerate(row["policy_logprobs"])
        row["policy_logprobs"] = [min(-0.01, number + 0.3 * math.sin(7.0 * i + number)) for i, number in odd]
    told = examined(models, rows, tmp_path)
    assert told.ids == ["T2"]
    assert passes.rows <= 32 * (8 + 24) + 32 * 4 + 8 * 60  # dropout twice, likenesses, toggles of eight rows


def test_rounding_costs_no_dropout(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(monkeypatch)
    half = copy.deepcopy(models.policy).bfloat16()
    told = examined(models, rollout(models, 64, 16, sampler=half, policy=half), tmp_path)
    assert (told.code, told.ids) == (0, ["NK16"])
    assert passes.rows <= 2 * (8 * 40 + 32 * 3)


# --- D9, D11 --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapted(models: Models, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """The policy as an adapter with dropout of its own on the reference, as peft saves it: without a tokenizer."""
    place = tmp_path_factory.mktemp("adapted")
    base = copy.deepcopy(models.reference)
    base.name_or_path = str(models.place / "reference")
    torch.manual_seed(0)
    options = {
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.2,
        "target_modules": ["c_attn", "c_fc"],
        "fan_in_fan_out": True,
    }
    policy = get_peft_model(base, LoraConfig(**options, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    policy.save_pretrained(str(place))
    for module in policy.modules():
        if isinstance(module, nn.Dropout) and module.p == 0.1:
            module.p = 0.0
    return policy.eval(), place


def test_dropout_of_the_adapter_alone_is_named(models: Models, adapted: tuple[nn.Module, Path], tmp_path: Path) -> None:
    policy, place = adapted
    drawn = Models(models.reference, policy, models.path, models.place)
    assert examined(models, rollout(drawn, 96, 17), tmp_path, model=str(place)).ids == []
    dropping = copy.deepcopy(policy).train()
    made = rollout(drawn, 96, 17, policy=dropping)
    assert examined(models, made, tmp_path, model=str(place)).ids == ["NK6"]


def test_ids_are_enough_where_there_is_no_tokenizer(
    models: Models, adapted: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, place = adapted
    assert not list(place.glob("tokenizer*")) and not list((models.place / "reference").glob("tokenizer*"))
    rows = rollout(Models(models.reference, policy, models.path, models.place), 64, 18)
    assert examined(models, rows, tmp_path, model=str(place)).ids == []
    bare = [{name: value for name, value in row.items() if name != "pad_id"} for row in rows]
    named = ["--model", str(place), "--reference", str(models.place / "reference")]
    assert cli.main(["doctor", "--rollouts", str(write(bare, tmp_path / "r.jsonl")), *named]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert "no tokenizer" in told[-2] and "`pad_id`" in told[-1]


# --- D12, D13 -------------------------------------------------------------------------------------------------------


def test_settings_that_are_not_known_are_named(models: Models, tmp_path: Path) -> None:
    def settings(**changes: Any) -> Rows:
        rows = rollout(models, 24, 19)
        return [{**row, "sampler": {"temperature": 1.0, **(changes if i == 20 else {})}} for i, row in enumerate(rows)]

    told = examined(models, settings(mirostat=2), tmp_path)
    assert (told.ids, told.verdict["tests"]["T0"]) == ([], "not tested: mirostat")
    assert examined(models, settings(top_k=320), tmp_path).verdict["tests"]["T0"] == "passed"  # all that there is
    assert examined(models, settings(top_k=50), tmp_path).ids == ["NK1"]  # of one row


def test_a_tool_that_strips_the_end_is_told_as_one_reading(models: Models, tmp_path: Path) -> None:
    rows = []
    for row in rollout(models, 128, 20):
        kept = len(row["response_ids"]) - (row["response_ids"][-1] == EOS)
        if kept:
            rows.append({name: value[:kept] if name == "response_ids" or name == "mask" or name.endswith("_logprobs")
                         else value for name, value in row.items()})  # fmt: skip
    told = examined(models, rows, tmp_path)
    assert told.ids == ["NK4"] and "strips end-of-text" in told.verdict["findings"][0]["message"]


def test_a_sampler_that_reports_before_the_temperature_is_told_as_one_reading(models: Models, tmp_path: Path) -> None:
    rows = rollout(models, 96, 21, temperature=0.7)
    plain = rollout(models, 96, 21, temperature=0.7, scorer=Scorer())
    rows = [{**row, "sampler_logprobs": other["policy_logprobs"]} for row, other in zip(rows, plain, strict=True)]
    told = examined(models, rows, tmp_path, temperature=0.7)
    assert told.ids == ["NK2"] and "before the temperature" in told.verdict["findings"][0]["message"]


def test_a_forgotten_temperature_is_told_as_one_reading(models: Models, tmp_path: Path) -> None:
    told = examined(models, rollout(models, 96, 22, temperature=0.7), tmp_path)
    assert told.ids == ["NK2"] and any("--temperature" in one["message"] for one in told.verdict["findings"])


@pytest.mark.parametrize("rows", [1, 4])
def test_too_little_is_not_judged(models: Models, rows: int, tmp_path: Path) -> None:
    told = examined(models, rollout(models, rows, 23), tmp_path)
    assert (told.code, told.ids, told.verdict["verdict"]) == (4, [], "not judged")
    assert "64 responses or 1,500 tokens" in told.verdict["conclusion"] and "128" in told.verdict["conclusion"]


def test_what_is_grave_is_told_however_little_there_is(models: Models, tmp_path: Path) -> None:
    rows = [{**row, "scored_response_ids": [WORDS]} for row in rollout(models, 2, 24)]
    told = examined(models, rows, tmp_path)
    assert (told.code, told.ids) == (3, ["NK17"])
