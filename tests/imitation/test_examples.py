"""What each step of SFT learns from."""

from __future__ import annotations

import pytest
import torch

from heed.data.encode import EncodedDemonstration
from heed.imitation.examples import Examples, counted, draw_batches


def example(prompt: list[int], response: list[int]) -> EncodedDemonstration:
    return EncodedDemonstration(prompt + response, len(prompt))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_text_is_its_share_of_the_tokens(share: float) -> None:
    examples = [example([5] * 3, [6] * (1 + i % 7)) for i in range(40)]
    text = torch.arange(60).view(6, 10)
    batches = draw_batches(Examples(examples, [], text, {}), batch=4, epochs=2.0, share=share, seed=0)
    learned = sum(counted(parts["train"]) for parts in batches)
    mixed = sum(counted(parts["text"]) for parts in batches)
    expected = learned * share / (1 - share)
    assert expected <= mixed < expected + 9  # to within one row
    assert all(row.response_start == 1 for parts in batches for row in parts["text"])
    passes = [tuple(row.tokens) for parts in batches for row in parts["text"]]
    assert len(set(passes[:6])) == min(6, len(passes))  # every row once before one comes again
