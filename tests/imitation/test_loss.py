"""The gradient of a step of SFT."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from heed.data.encode import EncodedDemonstration
from heed.formulas.masked import masked_mean
from heed.imitation import response_loss
from heed.imitation.loss import backpropagate
from heed.models.policy import Policy
from heed.models.roles import trained_copy
from heed.rows.threads import RowThreads
from heed.settings.common import LoraSettings


def example(prompt: list[int], response: list[int]) -> EncodedDemonstration:
    return EncodedDemonstration(prompt + response, len(prompt))


@pytest.mark.parametrize(("threads", "microbatch_tokens"), [(1, 1), (2, 1000)])
def test_gradient_is_that_of_the_formula(base: Policy, threads: int, microbatch_tokens: int) -> None:
    examples = [example([10, 11, 12], [20, 21, 22, 23, 0]), example([30], [40, 0])]
    model = Policy(base.trunk.merged_copy(None))
    name = "transformer.h.0.mlp.c_fc.weight"
    with model.trainable() as parameters:
        losses = backpropagate(model, {"train": examples}, 0.0, microbatch_tokens, RowThreads(threads))
        accumulated = parameters[name].grad.clone()
        parameters[name].grad = None
        tokens = torch.tensor([[10, 11, 12, 20, 21, 22, 23, 0], [30, 40, 0, 7, 7, 7, 7, 7]])
        logprobs = model.trunk.model(tokens).logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
        mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0]]).bool()
        loss = -masked_mean(logprobs, mask)
        loss.backward()
        assert losses["loss/train"] == pytest.approx(float(loss.detach()), abs=1e-5)
        assert_close(accumulated, parameters[name].grad, atol=1e-6, rtol=1e-4)


def test_dropout_is_on_in_training_alone(base: Policy) -> None:
    model = trained_copy(base, "copy", LoraSettings(rank=4, alpha=8, dropout=0.5))
    for name, parameter in model.parameters().items():
        parameter.data += 0.1 if "lora_B" in name else 0.0
    parts = {"train": [example([10, 11], [20, 21, 22, 23, 0])]}
    with model.trainable():
        calm = [backpropagate(model, parts, 0.0, 8192)["loss/train"] for _ in range(2)]
        noisy = [backpropagate(model, parts, 0.5, 8192)["loss/train"] for _ in range(2)]
    assert calm[0] == calm[1]
    assert len({calm[0], *noisy}) == 3
    assert not model.trunk.model.training
    assert response_loss.measure(model, parts["train"], 100).mean == pytest.approx(calm[0], abs=1e-6)
