"""The doctor where the models are on an accelerator without float64: nothing is refused, and it says the same."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerator import DEVICE, Elsewhere, accelerator, move
from torch import Tensor
from watching import rollout, watching

from heed.clinic.exact_tests import exact_tests
from heed.clinic.rescoring import as_file
from heed.doctor.rollouts import Rollouts
from heed.doctor.statistics import martingale_z
from heed.models.roles import Roles
from heed.rl.rollout import Rollout


def moved(one: Any) -> Any:
    """A dataclass of tensors, on the device."""
    if isinstance(one, Tensor):
        return one.to(DEVICE)
    if hasattr(one, "__dataclass_fields__") and not isinstance(one, Rollouts):
        return replace(one, **{field.name: moved(getattr(one, field.name)) for field in fields(one)})
    return one


class TestTheAcceleratorItself:
    def test_it_computes(self) -> None:
        with accelerator() as device:
            there = torch.arange(6.0, device=device).reshape(2, 3)
            assert there.device.type == device.type
            assert (there @ there.T).cpu().tolist() == [[5.0, 14.0], [14.0, 50.0]]
            assert float(there.sum()) == 15 and there[1].tolist() == [3.0, 4.0, 5.0]

    def test_it_has_no_float64(self) -> None:
        with accelerator() as device:
            there = torch.ones(3, device=device)
            with pytest.raises(TypeError, match="float64"):
                there.double()
            with pytest.raises(TypeError, match="float64"):
                there.sum(dtype=torch.double)
            with pytest.raises(TypeError, match="float64"):
                torch.zeros(3, dtype=torch.double, device=device)
            assert there.cpu().double().dtype == torch.double

    def test_two_devices_do_not_mix(self) -> None:
        with accelerator() as device:
            with pytest.raises(RuntimeError, match="same device"):
                torch.ones(3, device=device) + torch.ones(3)
            with pytest.raises(RuntimeError, match="generator"):
                torch.rand(3, device=device, generator=torch.Generator())


def test_z_of_a_rollout() -> None:
    deviations, variances, mask = torch.tensor([[3.0, 9.0]]), torch.tensor([[4.0, 9.0]]), torch.tensor([[True, False]])
    with accelerator() as device:
        assert martingale_z(*(one.to(device) for one in (deviations, variances, mask))) == 1.5


@pytest.fixture
def made(roles: Roles, tmp_path: Path) -> Rollout:
    """A rollout whose tokens were drawn at another temperature: every part of the doctor has something to do."""
    return rollout(roles, watching(roles, tmp_path), seed=3, count=64, drawn_at=0.6)


def file_of(made: Rollout) -> Rollouts:
    rows = torch.arange(len(made.mask))
    lines = {"sampler_logprobs": made.responses.logprobs, "policy_logprobs": made.scored.logprobs,
             "ref_logprobs": made.scored.ref_logprobs - 0.3}  # fmt: skip
    return replace(as_file(made, rows, 1), lines=lines, eos=(0,))


def diagnosed(roles: Roles, file: Rollouts) -> dict[str, list[str]]:
    generator = torch.Generator().manual_seed(0)
    results = exact_tests(file, roles.policy, roles.reference, temperature=1.0, batch=32, generator=generator)
    return {test: [found.id for found in some] for test, some in results.items()}


def test_a_file_is_judged_alike(roles: Roles, made: Rollout) -> None:
    file = file_of(made)
    wanted = diagnosed(roles, file)
    assert "NK2" in wanted["T2"] and "T2" in wanted["T2"] and wanted["T7"] == ["NK2"]
    roles.policy.trunk.model.config._attn_implementation = "eager"
    move(roles.policy.trunk.model)
    with accelerator():
        assert diagnosed(roles, file) == wanted


def test_a_run_is_judged_alike(roles: Roles, made: Rollout, tmp_path: Path) -> None:
    here = watching(roles, tmp_path, allow_biased_kl=True)
    here.observers(made.prompts, made.responses)
    here.events = []
    wanted = [found.id for found in here.examine(1, made)]
    assert "NK2" in wanted and "NK14" in wanted
    roles.policy.trunk.model.config._attn_implementation = "eager"
    move(roles.policy.trunk.model)
    with accelerator():
        there = watching(roles, tmp_path, allow_biased_kl=True)
        found = there.examine(1, moved(made))
        assert isinstance(moved(made).mask, Elsewhere)
        assert [one.id for one in found] == wanted
        assert there.follow(1, {"kl/exact": 30.0, "policy/ratio_first": 0.0, "kl/coef": 0.1})[0].id == "H5"
