from __future__ import annotations

import math

import pytest
import torch
from torch.nn import Parameter
from torch.testing import assert_close

from heed.errors import RunError
from heed.settings.common import DecaySettings, OptimizerSettings
from heed.training import optimizer as training
from heed.training.muon import Muon
from heed.training.optimizer import (
    Average,
    MuonWithAdamW,
    learning_rate_factor,
    make_optimizer,
    ppo_learning_rate_factor,
    set_learning_rate,
)


def parameter(*values: float) -> Parameter:
    return Parameter(torch.tensor(values))


class TestLearningRate:
    def test_by_hand_with_warmup(self) -> None:
        """10 steps, 2 of them warming up: thirds of the peak, the peak at step 3, a cosine over 7 steps to a tenth."""
        settings = OptimizerSettings(warmup=0.2, floor=0.1)
        expected = [1 / 3, 2 / 3, *(0.1 + 0.9 * (1 + math.cos(math.pi * i / 7)) / 2 for i in range(8))]
        assert [learning_rate_factor(step, 10, settings) for step in range(1, 11)] == pytest.approx(expected)

    def test_the_policys_own_steps_by_hand(self) -> None:
        """From 10 % over two steps, then linearly over four steps to a fifth, which the last of seven has."""
        settings = DecaySettings(schedule="linear", floor=0.2)
        found = [ppo_learning_rate_factor(step, 7, 2, settings) for step in range(1, 8)]
        assert found == pytest.approx([0.1, 0.55, 1.0, 0.8, 0.6, 0.4, 0.2])
        constant = DecaySettings(schedule="constant")
        assert [ppo_learning_rate_factor(step, 3, 0, constant) for step in (1, 2, 3)] == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.25), ("linear", 0.25), ("constant", 1.0)])
    @pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.99])
    @pytest.mark.parametrize("steps", [2, 3, 100])
    def test_it_peaks_once_and_ends_at_the_floor(self, schedule: str, last: float, warmup: float, steps: int) -> None:
        settings = OptimizerSettings.model_validate({"schedule": schedule, "warmup": warmup, "floor": 0.25})
        factors = [learning_rate_factor(step, steps, settings) for step in range(1, steps + 1)]
        top = factors.index(max(factors))
        assert factors[:top] == sorted(factors[:top])
        assert factors[top:] == sorted(factors[top:], reverse=True)
        assert all(0 < factor <= 1 for factor in factors)
        if round(warmup * steps) + 1 < steps:
            assert factors[-1] == pytest.approx(last)
            assert factors[top] == 1

    def test_the_middle_of_the_papers_cosine(self) -> None:
        assert learning_rate_factor(51, 101, OptimizerSettings(warmup=0.0)) == pytest.approx(0.55)

    def test_a_run_of_one_step_has_the_peak(self) -> None:
        assert learning_rate_factor(1, 1, OptimizerSettings(warmup=0.03)) == 1

    def test_every_group_keeps_its_own_peak(self) -> None:
        groups = {"adapter": [parameter(1.0)], "head": [parameter(1.0)]}
        optimizer = make_optimizer(groups, OptimizerSettings(learning_rate=0.1), {"head": 0.5})
        set_learning_rate(optimizer, 0.5)
        set_learning_rate(optimizer, 0.2)
        assert {group["name"]: group["lr"] for group in optimizer.param_groups} == pytest.approx(
            {"adapter": 0.02, "head": 0.1}
        )


class TestMakeOptimizer:
    def test_first_step_by_hand(self) -> None:
        """Adam's first step is lr·g/(|g| + eps), whatever β: eps 1e-5 halves a gradient of 1e-5. Decay comes first."""
        matrix, bias = Parameter(torch.tensor([[2.0]])), parameter(2.0)
        settings = OptimizerSettings(learning_rate=0.1, eps=1e-5, weight_decay=0.5)
        optimizer = make_optimizer({"all": [matrix, bias]}, settings)
        matrix.grad, bias.grad = torch.tensor([[1e-5]]), torch.tensor([-1e-5])
        optimizer.step()
        assert_close(matrix.item(), 2.0 * (1 - 0.1 * 0.5) - 0.1 * 0.5, rtol=1e-4, atol=0)
        assert_close(bias.item(), 2.0 + 0.1 * 0.5, rtol=1e-4, atol=0)

    def test_settings_reach_adam_and_frozen_weights_do_not(self) -> None:
        frozen = Parameter(torch.ones(2, 2), requires_grad=False)
        optimizer = make_optimizer({"all": [frozen, parameter(1.0)]}, OptimizerSettings(betas=(0.8, 0.7), eps=1e-3))
        (group,) = optimizer.param_groups
        assert (group["betas"], group["eps"], len(group["params"])) == ((0.8, 0.7), 1e-3, 1)


class TestStep:
    def test_gradients_are_clipped_together_and_cleared(self) -> None:
        """(3, 4) in two parameters has norm 5; clipped to 1 it is (0.6, 0.8); plain descent at rate 1 shows it."""
        first, second = parameter(0.0), parameter(0.0)
        first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
        descent = torch.optim.SGD([first, second], lr=1.0)
        assert training.step(descent, [first, second], max_grad_norm=1.0) == pytest.approx(5.0)
        assert [first.item(), second.item()] == pytest.approx([-0.6, -0.8])
        assert first.grad is None

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_gradient_that_is_not_finite_touches_no_weight(self, value: float) -> None:
        healthy, ill = parameter(1.0), parameter(1.0)
        healthy.grad, ill.grad = torch.tensor([1.0]), torch.tensor([value])
        with pytest.raises(RunError, match="the gradient's norm is"):
            training.step(torch.optim.SGD([healthy, ill], lr=1.0), [healthy, ill], max_grad_norm=1.0)
        assert [healthy.item(), ill.item()] == [1.0, 1.0]

    def test_a_loss_that_is_not_finite(self) -> None:
        assert training.require_finite(0.5, "the loss") == 0.5
        for value in (math.nan, math.inf):
            with pytest.raises(RunError, match="the loss is"):
                training.require_finite(value, "the loss")


class TestAverage:
    def test_by_hand(self) -> None:
        """d = 0.9, weights 1 → 2 → 4: 0.9·1 + 0.1·2 = 1.1, then 0.9·1.1 + 0.1·4 = 1.39."""
        weight = parameter(1.0)
        average = Average([weight], decay=0.9)
        for value in (2.0, 4.0):
            weight.data.fill_(value)
            average.update()
        assert_close(average.weights[0], torch.tensor([1.39]))

    def test_it_is_lent_and_given_back_bit_for_bit(self) -> None:
        weight, frozen = parameter(0.1), Parameter(torch.tensor([7.0]), requires_grad=False)
        average = Average([weight, frozen], decay=0.5)
        weight.data.fill_(0.3)
        trained = weight.detach().clone()
        with pytest.raises(ZeroDivisionError), average.applied():
            assert weight.item() == pytest.approx(0.1)
            raise ZeroDivisionError
        assert torch.equal(weight, trained)
        assert len(average.weights) == 1


def block_and_embedding() -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"wte.weight": (6, 4), "h.0.attn.weight": (4, 8), "h.0.attn.bias": (8,), "ln_f.weight": (4,)}
    return {name: Parameter(torch.randn(*shape, generator=generator)) for name, shape in shapes.items()}


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    named = block_and_embedding()
    muon, adamw = MuonWithAdamW(named, OptimizerSettings(learning_rate=1e-2)).optimizers
    assert isinstance(muon, Muon) and isinstance(adamw, torch.optim.AdamW)
    assert [id(p) for group in muon.param_groups for p in group["params"]] == [id(named["h.0.attn.weight"])]
    rest = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert rest == {id(parameter) for name, parameter in named.items() if name != "h.0.attn.weight"}


def test_a_scalar_head_has_a_rate_of_its_own_beside_muon_too() -> None:
    named = {**block_and_embedding(), "score.weight": Parameter(torch.ones(1, 4))}
    optimizer = MuonWithAdamW(named, OptimizerSettings(learning_rate=1e-2), head_learning_rate=0.5)
    peaks = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: peaks[id(parameter)] for name, parameter in named.items()} == {
        **dict.fromkeys(block_and_embedding(), 1e-2), "score.weight": 0.5,
    }  # fmt: skip


def test_a_muon_step_is_nearly_orthogonal_whatever_the_gradient_and_its_size_follows_the_rate() -> None:
    named = block_and_embedding()
    optimizer = MuonWithAdamW(named, OptimizerSettings(learning_rate=1e-2))
    before = named["h.0.attn.weight"].detach().clone()
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    strong, weak = torch.eye(4, 8)[0], torch.eye(4, 8)[1]
    named["h.0.attn.weight"].grad = torch.stack([strong, 0.01 * weak, 0 * weak, 0 * weak])
    set_learning_rate(optimizer, 0.5)
    assert training.step(optimizer, named.values(), 10.0) == pytest.approx(1.0, abs=1e-3)
    singular = torch.linalg.svdvals(named["h.0.attn.weight"].detach() - before)
    size = 0.5 * 1e-2 * 0.2 * math.sqrt(8)  # rate · 0.2 · √(longer side): the size of AdamW's step
    assert singular[0] == pytest.approx(size, rel=0.35)
    assert singular[1] > 0.2 * singular[0]  # the weak direction, a hundredth in the gradient
    assert all(parameter.grad is None for parameter in named.values())


def test_threads_of_muon_change_no_number() -> None:
    found = []
    for threads in (1, 3):
        torch.manual_seed(0)
        block = torch.nn.Sequential(torch.nn.Linear(8, 24), torch.nn.Linear(24, 8), torch.nn.Linear(8, 4))
        optimizer = MuonWithAdamW(dict(block.named_parameters()), OptimizerSettings(learning_rate=1e-2), threads)
        assert len(optimizer.param_groups) == threads + 1
        for _ in range(3):
            block(torch.ones(2, 8)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        found.append(torch.cat([parameter.detach().flatten() for parameter in block.parameters()]))
    assert torch.equal(*found)
