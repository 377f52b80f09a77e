"""A run that stops and goes on is judged as one that never stopped: the same findings, the same file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from watching import rollout, watching

from heed.clinic.live import FILE, LiveDoctor
from heed.models.roles import Roles

STEPS, STOPPED = 8, 4
# entropy halves, one rollout is drawn hot, and every third step the policy moves: the bands, the sums and T13 all speak
METRICS: list[dict[str, float | None]] = [
    {"policy/entropy": 4.0 / (1 + step**2 / 12), "kl/exact": 20.0 + step, "loss/policy": 0.1, "kl/coef": 0.1}
    for step in range(STEPS)
]


def watched(roles: Roles, doctor: LiveDoctor, steps: range) -> list[list[str]]:
    """Ids of what is found in each step, before and after its update."""
    seen = []
    for step in steps:
        made = rollout(roles, doctor, seed=step, drawn_at=1.25 if step > 2 else 1.0)
        findings = doctor.examine(step, made)
        if step % 3 == 0:
            with torch.no_grad():
                next(iter(roles.policy.parameters().values()))[0, 0] += 1e-3
        seen.append([finding.id for finding in findings + doctor.follow(step, METRICS[step - 1])])
    return seen


def as_saved(state: dict[str, Any]) -> Any:
    """What a file gives back; only plain values and tensors are let through."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_run_that_goes_on_finds_what_one_that_never_stopped_finds(roles: Roles, tmp_path: Path) -> None:
    weights = {name: tensor.detach().clone() for name, tensor in roles.policy.parameters().items()}
    whole = watching(roles, tmp_path / "whole", allow_biased_kl=True)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    wanted = watched(roles, whole, range(1, STEPS + 1))
    with torch.no_grad():
        for name, tensor in roles.policy.parameters().items():
            tensor.copy_(weights[name])
    first = watching(roles, tmp_path / "parts", allow_biased_kl=True)
    seen = watched(roles, first, range(1, STOPPED + 1))
    state, moved = as_saved(first.state_dict()), {n: t.detach().clone() for n, t in roles.policy.parameters().items()}
    watched(roles, first, range(STOPPED + 1, STOPPED + 3))  # two steps that are lost
    with torch.no_grad():
        for name, tensor in roles.policy.parameters().items():
            tensor.copy_(moved[name])
    second = watching(roles, tmp_path / "parts", allow_biased_kl=True, seed=99)  # its own numbers come from the state
    second.load_state_dict(state)
    seen += watched(roles, second, range(STOPPED + 1, STEPS + 1))
    assert seen == wanted
    assert (
        any("NK2" in ids for ids in wanted)
        and any("H1" in ids for ids in wanted)
        and any("T13" in ids for ids in wanted)
    )
    assert second.summary() == whole.summary()
    assert second.watch.z == whole.watch.z
    assert (tmp_path / "parts" / FILE).read_text() == (tmp_path / "whole" / FILE).read_text()
    assert json.dumps(second.rows) == json.dumps(whole.rows)


def test_what_is_kept_of_a_state_decides(roles: Roles, tmp_path: Path) -> None:
    """Without the state the same steps are judged otherwise: the test above could fail."""
    whole = watching(roles, tmp_path, allow_biased_kl=True)
    watched(roles, whole, range(1, STEPS + 1))
    late = watching(roles, tmp_path, allow_biased_kl=True)
    watched(roles, late, range(STOPPED + 1, STEPS + 1))
    assert late.summary() != whole.summary()


def test_weights_of_another_run_are_found_at_the_next_step(roles: Roles, tmp_path: Path) -> None:
    doctor = watching(roles, tmp_path, allow_biased_kl=True)
    watched(roles, doctor, range(2, 3))
    state = doctor.state_dict()
    with torch.no_grad():
        next(iter(roles.policy.parameters().values()))[0, 0] += 1e-3
        next(iter(roles.reference.parameters().values()))[0, 0] += 1e-3
    other = watching(roles, tmp_path, allow_biased_kl=True)
    other.load_state_dict(state)
    found = other.examine(3, rollout(roles, other, seed=3))
    assert {finding.id for finding in found} == {"NK13", "NK15"}


@pytest.mark.parametrize("name", ["rows", "watch", "chart", "valid", "generator", "is_first", "reference", "policy"])
def test_every_part_of_a_state_is_needed(roles: Roles, tmp_path: Path, name: str) -> None:
    doctor = watching(roles, tmp_path)
    state = doctor.state_dict()
    del state[name]
    with pytest.raises(KeyError):
        doctor.load_state_dict(state)
