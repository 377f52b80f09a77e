"""The doctor beside PPO: a healthy rollout passes, a wrong one stops the run or is only written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from heed.clinic.live import FILE, LiveDoctor
from heed.errors import RunError
from heed.models.answers import left_padded
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy, compare
from heed.models.roles import Roles
from heed.models.trunk import Trunk
from heed.rl.rollout import Rollout

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def roles(tiny_directory: Path) -> Roles:
    """A policy a little away from its reference. There is no need to score."""
    policy, reference = (Policy(Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for trunk in (policy.trunk, reference.trunk):
            trunk.model.transformer.wte.weight.mul_(0.6)  # milder logits
        for parameter in policy.trunk.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return Roles(policy, reference, cast(Any, None), cast(Any, None))


def watching(roles: Roles, path: Path, **changes: Any) -> LiveDoctor:
    options = {"batch": 96, "longest": 12, "temperature": 1.0, "microbatch": 16, "seed": 0, "kl_target": 0.0,
               "allow_biased_kl": False, "path": path}  # fmt: skip
    return LiveDoctor(roles.policy, roles.reference, None, **{**options, **changes})


def rollout(roles: Roles, doctor: LiveDoctor, drawn_at: float = 1.0) -> Rollout:
    generator = torch.Generator().manual_seed(1)
    prompts = left_padded([[2 + (7 * i + j) % 250 for j in range(1 + i % 5)] for i in range(96)], 1, CPU)
    responses = roles.policy.generate(prompts, 12, drawn_at, generator)
    observers = doctor.observers(prompts, responses)
    scored = compare(roles.policy, roles.reference, prompts, responses, 1.0, observers)
    none = torch.zeros(len(responses.tokens))
    return Rollout([], prompts, responses, none.bool(), scored, torch.zeros(responses.mask.shape), none, none)


def test_a_healthy_rollout_has_no_findings(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    assert doctor.examine(2, rollout(roles, doctor)) == []
    assert {name for name, z in doctor.watch.z.items() if z is not None} >= {"T6", "T7", "T8 seen", "T9"}
    assert not (tmp_path / FILE).exists()


def test_a_grave_finding_stops_the_run(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    with pytest.raises(RunError, match="NK2") as stopped:
        doctor.examine(2, rollout(roles, doctor, drawn_at=0.7))
    assert "allow_biased_kl" in stopped.value.hint


def test_allowed_bias_is_written_down(roles: Roles, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("of an older run\n")
    doctor = watching(roles, tmp_path, allow_biased_kl=True)
    for step in (2, 3):
        assert [found.id for found in doctor.examine(step, rollout(roles, doctor, drawn_at=0.7))] == ["NK2"]
    rows = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [(row["step"], row["id"], row["severity"]) for row in rows] == [(2, "NK2", "error"), (3, "NK2", "error")]


def test_a_reference_that_is_not_the_first_policy_is_found_at_once(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    with pytest.raises(RunError, match="NK14"):
        doctor.examine(1, rollout(roles, doctor))


def test_a_sampler_of_other_numbers_is_found(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path)
    seen = rollout(roles, doctor)
    off = replace(seen, responses=replace(seen.responses, logprobs=seen.responses.logprobs - 0.5))
    with pytest.raises(RunError, match="T2"):
        doctor.examine(2, off)
