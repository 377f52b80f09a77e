"""What held-out demonstrations cost: nats of their responses and end-of-text."""

from __future__ import annotations

import math

import pytest
import torch

from heed.data.encode import EncodedDemonstration
from heed.imitation import response_loss
from heed.imitation.examples import counted
from heed.models.policy import Policy


def example(prompt: list[int], response: list[int]) -> EncodedDemonstration:
    return EncodedDemonstration(prompt + response, len(prompt))


def test_prompt_tokens_are_read_and_not_learned(base: Policy) -> None:
    one, other = example([10, 11, 12, 13], [20, 21, 0]), example([90, 91, 92, 93], [20, 21, 0])
    found = response_loss.measure(base, [one, other], 1000)
    assert found.tokens.tolist() == [3, 3] == [counted([one]), counted([other])]
    assert abs(found.nats[0] - found.nats[1]) > 0.1


def test_end_of_text_is_learned(base: Policy) -> None:
    found = response_loss.measure(base, [example([10, 11], [20, 21, 0]), example([10, 11], [20, 21])], 1000)
    with torch.no_grad():
        last = base.trunk.model(torch.tensor([[10, 11, 20, 21]])).logits[0, -1].log_softmax(-1)
    assert found.nats[0] - found.nats[1] == pytest.approx(-float(last[0]), abs=1e-4)


def test_uniform_model_has_the_loss_of_a_guess(base: Policy) -> None:
    base.trunk.model.lm_head.weight.data.zero_()
    found = response_loss.measure(base, [example([10], [20, 21, 0])], 100)
    assert found.mean == pytest.approx(math.log(258), abs=1e-5)
