"""Faults put into a run on purpose: the doctor beside PPO names each, and says nothing of a healthy run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from watching import rollout, watching

from heed.clinic.live import FILE
from heed.clinic.rescoring import most_padded
from heed.errors import RunError
from heed.models.answers import left_padded
from heed.models.policy import Policy
from heed.models.roles import Roles
from heed.models.trunk import Trunk
from heed.rl.kl_price import KLPrice
from heed.rl.rollout import Rollout
from heed.settings.ppo import PPOSettings

CPU = torch.device("cpu")


def settings(path: Path, **changes: Any) -> PPOSettings:
    small = {"batch": 32, "microbatch": 16, "sampling": {"max_new_tokens": 10}}
    return PPOSettings(model="m", reward_model="r", output=str(path), **{**small, **changes})


def found_at(roles: Roles, tmp_path: Path, spoil: Callable[[Rollout], Rollout] = lambda made: made) -> list[str]:
    """Ids of what the second step's rollout shows."""
    doctor = watching(roles, tmp_path, allow_biased_kl=True, microbatch=32)
    return [found.id for found in doctor.examine(2, spoil(rollout(roles, doctor)))]


def test_a_healthy_step_passes_every_test_that_it_can(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    assert doctor.examine(2, rollout(roles, doctor)) == [] and doctor.valid
    assert doctor.follow(2, {"policy/ratio_first": 1e-5, "kl/coef": 0.05}) == []
    told = doctor.chart.summary()
    assert {name for name, outcome in told["tests"].items() if outcome == "passed"} == {
        f"T{i}"
        for i in range(1, 16)
        if i != 5  # the first step's
    }
    assert told["tests"]["T0"] == "by construction"
    assert told["findings"] == {} and not (tmp_path / FILE).exists()


def test_dropout_while_scoring_is_named_and_nothing_else(roles: Roles, tmp_path: Path) -> None:
    def dropping(made: Rollout) -> Rollout:
        for name, module in roles.policy.trunk.model.named_modules():
            if name.endswith("resid_dropout"):
                module.p = 0.1
                module.train()
        return made

    ids = found_at(roles, tmp_path, dropping)
    assert ids == ["NK6"]
    row = json.loads((tmp_path / FILE).read_text().splitlines()[0])
    assert any("resid_dropout" in name for name in row["evidence"]["modules"])


@pytest.fixture
def counted_pads(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring counts positions from the first pad; sampling does not."""
    right = Trunk.hidden

    def hidden(trunk: Trunk, tokens: Any, mask: Any, cache: Any = None) -> Any:
        if cache is not None:
            return right(trunk, tokens, mask, cache)
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        return trunk.body(input_ids=tokens, attention_mask=mask.long(), position_ids=positions).last_hidden_state

    monkeypatch.setattr(Trunk, "hidden", hidden)


@pytest.mark.usefixtures("counted_pads")
@pytest.mark.parametrize("shared", [True, False])
def test_positions_that_count_pads_are_named(roles: Roles, tmp_path: Path, shared: bool) -> None:
    """Where the sampler shares the fault T2 is blind and T4 is not; the toggles say what it is."""
    doctor = watching(roles, tmp_path, allow_biased_kl=True, microbatch=32)
    made = rollout(roles, doctor)
    if shared:
        made = replace(made, responses=replace(made.responses, logprobs=made.scored.logprobs))
    named = next(found for found in doctor.examine(2, made) if found.id == "NK8")
    assert named.evidence["toggle"] == "positions"
    assert doctor.chart.summary()["tests"]["T4"] == "failed"
    assert doctor.chart.summary()["tests"]["T2"] == ("passed" if shared else "failed")


@pytest.mark.usefixtures("counted_pads")
def test_pads_beside_one_long_prompt_are_named(roles: Roles, tmp_path: Path) -> None:
    """Only the shortest rows are scored again, and none of them is as long as what they were padded to."""
    doctor = watching(roles, tmp_path, allow_biased_kl=True, microbatch=80)
    findings = doctor.examine(2, rollout(roles, doctor, count=80, longest=30))
    (named,) = [found for found in findings if found.severity == "error"]
    assert (named.id, named.evidence["toggle"]) == ("NK8", "positions")


def test_labels_off_by_one_are_named(roles: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scorer is wrong alone and in its batch alike: T4 passes, and T2 says what the scorer's numbers are."""
    monkeypatch.setattr("heed.models.policy.predicting", lambda hidden, counted: hidden[:, 1:][counted[:, 1:]])
    doctor = watching(roles, tmp_path, allow_biased_kl=True)
    named = next(found for found in doctor.examine(2, rollout(roles, doctor)) if found.id == "NK11")
    assert named.evidence["test"] == "T2" and named.message.startswith("`policy_logprobs`")
    assert doctor.chart.summary()["tests"]["T4"] == "passed"


def test_a_sampler_without_its_adapter_is_named(roles: Roles, tmp_path: Path) -> None:
    """The sampler's numbers are those of the bare trunk: the toggle `base` gives them."""

    def bare(made: Rollout) -> Rollout:
        with torch.no_grad(), roles.policy.trunk.active(None):
            theirs = Policy(roles.policy.trunk, None).logprobs(made.prompts, made.responses)
        return replace(made, responses=replace(made.responses, logprobs=theirs))

    assert "NK13" in found_at(roles, tmp_path, bare)


def test_a_reference_that_moves_is_named(roles: Roles, tmp_path: Path) -> None:
    def moved(made: Rollout) -> Rollout:
        with torch.no_grad():
            next(iter(roles.reference.parameters().values()))[0, 0] += 1e-3
        return made

    assert found_at(roles, tmp_path, moved) == ["NK15"]


def test_weights_of_the_trunk_belong_to_the_reference(roles: Roles, tmp_path: Path) -> None:
    def moved(made: Rollout) -> Rollout:
        with torch.no_grad():
            roles.policy.trunk.model.transformer.ln_f.bias[0] += 1e-6
        return made

    assert found_at(roles, tmp_path, moved) == ["NK15"]


def test_a_policy_that_moves_before_it_is_scored_is_named(roles: Roles, tmp_path: Path) -> None:
    def moved(made: Rollout) -> Rollout:
        with torch.no_grad():
            next(iter(roles.policy.parameters().values()))[0, 0] += 1e-6
        return made

    assert found_at(roles, tmp_path, moved) == ["NK13"]


def test_a_reference_that_asks_for_gradients_is_named(roles: Roles, tmp_path: Path) -> None:
    with roles.reference.trainable():
        assert found_at(roles, tmp_path) == ["NK15"]


def test_other_prompts_than_were_asked_are_named(roles: Roles, tmp_path: Path) -> None:
    def other(made: Rollout) -> Rollout:
        first = made.questions[0]
        return replace(made, questions=[replace(first, tokens=[9, *first.tokens]), *made.questions[1:]])

    assert found_at(roles, tmp_path, other) == ["NK18"]


def test_an_update_that_is_not_on_policy_stops_the_run(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    with pytest.raises(RunError, match="T11"):
        doctor.follow(2, {"policy/ratio_first": 0.01, "kl/coef": 0.05})


def test_an_update_that_changes_nothing_is_a_warning(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    assert [found.id for found in doctor.follow(2, {"loss/policy": 0.0})] == ["T13"]
    with torch.no_grad():
        next(iter(roles.policy.parameters().values()))[0, 0] += 1e-6
    assert doctor.follow(3, {"loss/policy": 0.0}) == []
    assert doctor.examine(4, rollout(roles, doctor)) == []  # what it is drawn with is what the update left


def test_bands_are_written_every_time_and_counted(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    for step, kl in ((1, 1.0), (2, 26.0), (3, 27.0)):
        doctor.follow(step, {"kl/exact": kl})
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [(line["step"], line["id"]) for line in lines] == [(2, "H5"), (3, "H5")]
    assert doctor.chart.summary()["findings"] == {"H5": {"severity": "warning", "count": 2, "first_step": 2}}


def test_a_finding_is_printed_once_unless_it_gets_graver(
    roles: Roles, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    doctor = watching(roles, tmp_path)
    with caplog.at_level("WARNING", logger="heed"):
        doctor.follow(1, {"kl/exact": 26.0})
        doctor.follow(2, {"kl/exact": 26.0})
    assert sum("H5" in record.getMessage() for record in caplog.records) == 1


# --- the controller -------------------------------------------------------------------------------------------------


def test_the_coefficient_is_frozen_while_the_kl_is_wrong(roles: Roles, tmp_path: Path) -> None:
    price = KLPrice(0.05, target=6.0, horizon=10_000.0, batch=32)
    doctor = watching(roles, tmp_path, kl_target=6.0, allow_biased_kl=True)
    made = rollout(roles, doctor)
    doctor.examine(2, replace(made, responses=replace(made.responses, logprobs=made.responses.logprobs - 0.5)))
    assert not doctor.valid
    assert [found.id for found in doctor.follow(2, {"kl/coef": 0.05, "kl/exact": 0.1})] == ["NK23"]
    price.follow(0.0, doctor.valid)
    assert price.coef == 0.05
    doctor.examine(3, rollout(roles, doctor, seed=2))
    price.follow(0.0, doctor.valid)
    assert doctor.valid and price.coef < 0.05


def test_rows_with_most_padding_come_first() -> None:
    prompts = left_padded([[5] * n for n in (4, 1, 3, 1)], 1, CPU)
    mask = torch.tensor([[True, True], [True, True], [True, False], [True, False]])
    responses = cast(Any, type("R", (), {"mask": mask, "lengths": mask.sum(1)}))
    rows, pads = most_padded(prompts, responses, 4, 2)
    assert (rows.tolist(), pads.tolist()) == ([1, 3], [3, 3])
    rows, pads = most_padded(prompts, responses, 2, 2)  # pieces by length: rows 3 and 1, then 2 and 0
    assert (rows.tolist(), pads.tolist()) == ([2, 0], [1, 0])
