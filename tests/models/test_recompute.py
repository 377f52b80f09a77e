"""What is computed again is the same, and only where a gradient is taken."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from heed.batches import PromptBatch, Responses
from heed.errors import CheckpointError
from heed.models import recompute
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.recompute import recompute_layers, recomputes
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings


@pytest.fixture(params=["gpt2", "llama"])
def directory(request: pytest.FixtureRequest, tiny_directory: Path, llama: Path) -> Path:
    return {"gpt2": tiny_directory, "llama": llama}[request.param]


def policy_of(directory: Path, dtype: torch.dtype, again: bool, dropout: float = 0.0) -> Policy:
    trunk = Trunk.load(open_checkpoint(str(directory)), dtype, torch.device("cpu"))
    if again:
        recompute_layers(trunk.model)
    torch.manual_seed(0)
    trunk.add_adapter("policy", LoraSettings(rank=4, dropout=dropout))
    for seed, parameter in enumerate(trunk.adapter_parameters("policy").values()):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return Policy(trunk, "policy")


def gradients(policy: Policy, prompts: PromptBatch, responses: Responses) -> tuple[list[Tensor], int]:
    """And how many bytes were kept for them."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with policy.trainable() as parameters, policy.active():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found = policy.logprobs(prompts, responses)
        kept_for_it = sum(kept.values())
        return [found.detach(), *torch.autograd.grad(found.square().sum(), list(parameters.values()))], kept_for_it


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_line", [True, False])
def test_gradients_are_the_same_to_the_bit_and_less_is_kept(
    directory: Path, prompts: PromptBatch, responses: Responses, dtype: torch.dtype, in_line: bool
) -> None:
    policies = [policy_of(directory, dtype, again) for again in (False, True)]
    for policy in policies:
        assert policy.trunk.reads_lines
        policy.trunk.reads_lines = in_line
    (kept, much), (again, little) = (gradients(policy, prompts, responses) for policy in policies)
    for one, other in zip(kept, again, strict=True):
        assert torch.equal(one, other)
    assert little < much / 2
    assert any(gradient.abs().max() > 1e-3 for gradient in again[1:])


def test_a_layer_is_computed_twice_for_a_gradient_and_once_without(
    tiny_directory: Path, prompts: PromptBatch, responses: Responses, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(tiny_directory, torch.float32, again=True)
    layers = [module for module in policy.trunk.model.modules() if getattr(module, "is_recomputed", False)]
    seen: list[bool] = []
    layers[0].ln_1.register_forward_pre_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    gradients(policy, prompts, responses)
    assert seen == [True, True]
    seen.clear()
    monkeypatch.setattr(recompute, "checkpoint", lambda *_, **__: pytest.fail("nothing is computed again"))
    with torch.no_grad(), policy.active():
        policy.logprobs(prompts, responses)
    assert seen == [False]
    cache = DynamicCache()
    tokens = torch.tensor([[5, 6, 7]])
    hidden = policy.trunk.hidden(tokens, tokens > 0, cache)  # a second time would fill the cache twice
    assert hidden.shape[1] == cache.get_seq_length() == 3


def test_what_is_drawn_is_drawn_with_a_cache(tiny_directory: Path, prompts: PromptBatch) -> None:
    drawn = [
        policy_of(tiny_directory, torch.float32, again).generate(prompts, 6, 1.0, torch.Generator().manual_seed(1))
        for again in (False, True)
    ]
    assert torch.equal(drawn[0].tokens, drawn[1].tokens) and torch.equal(drawn[0].logprobs, drawn[1].logprobs)


def test_dropout_falls_on_the_same_numbers_again(
    tiny_directory: Path, prompts: PromptBatch, responses: Responses
) -> None:
    found = []
    for again in (False, True):
        policy = policy_of(tiny_directory, torch.float32, again, dropout=0.5)
        policy.trunk.model.train()
        torch.manual_seed(3)
        found.append(gradients(policy, prompts, responses)[0])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_copies_do_it_too(tiny_directory: Path, prompts: PromptBatch, responses: Responses) -> None:
    policy = policy_of(tiny_directory, torch.float32, again=True)
    assert recomputes(policy.trunk.merged_copy("policy").model)
    assert not recomputes(policy_of(tiny_directory, torch.float32, again=False).trunk.merged_copy("policy").model)
    trunk = copy.copy(policy.trunk)
    trunk.model = copy.deepcopy(policy.trunk.model)
    trunk.body = trunk.model.base_model
    for parameter in policy.parameters().values():
        parameter.data.zero_()
    assert recomputes(trunk.model)
    other = Policy(trunk, "policy")
    assert any(gradient.abs().max() > 0 for gradient in gradients(other, prompts, responses)[0][1:])


def test_a_model_without_layers_is_refused(trunk: Trunk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        pass

    kind: Any = Other
    monkeypatch.setattr(recompute, "GradientCheckpointingLayer", kind)
    with pytest.raises(CheckpointError, match="computed again"):
        recompute_layers(trunk.model)
