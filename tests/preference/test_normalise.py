from __future__ import annotations

import logging

import pytest
import torch

from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import RunError
from heed.models.answers import Drawing
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.models.scalar_head import RewardModel
from heed.preference.normalise import draw, normalise, reference_prompts, whole_texts
from heed.records import Demonstration, Ranking, Turn
from heed.settings.common import SamplingSettings


def sft(runs: tuple[str, str]) -> Policy:
    return Shelf(lambda _: torch.float32, torch.device("cpu")).policy(runs[0], "sft")


def test_normalisation_needs_samples_that_differ(tiny_runs: tuple[str, str]) -> None:
    """Raw scores that are all alike have no unit."""
    policy = sft(tiny_runs)
    samples = Drawing(policy, [[5], [6]], SamplingSettings(max_new_tokens=2), torch.Generator())
    draw(samples)
    head = torch.nn.Linear(32, 1, bias=False).requires_grad_(False)
    torch.nn.init.zeros_(head.weight)
    with pytest.raises(RunError, match="the SFT model's samples score the same for all 2 answers: 0"):
        normalise(RewardModel(policy.trunk, "sft", head), [[5], [6]], samples, [], 100)


def test_what_is_too_long_is_left_out_counted_and_told(
    tiny_runs: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    reference, template, dropped = sft(tiny_runs), Template.named("plain"), Tally()
    rows = [("q", "a.jsonl:1"), ("q" * 40, "a.jsonl:2"), ("q" * 40, "a.jsonl:3"), ("p", "a.jsonl:4")]
    rankings = [
        Ranking((Turn("user", prompt),), ("a", "b"), (1, 2), (True, True), where=where) for prompt, where in rows
    ]
    with caplog.at_level(logging.WARNING, "heed"):
        prompts = reference_prompts(rankings, template, reference, 48, 4, 12, 0, dropped)
        demonstrations = [Demonstration((Turn("user", "q"),), "a" * (i * 20), where=f"d:{i}") for i in (1, 3)]
        texts = whole_texts(demonstrations, template, reference, 48, dropped)
    assert len(prompts) == 4
    assert {len(prompt) for prompt in prompts} == {1}
    assert [len(text) for text in texts] == [22]
    assert list(dropped) == [
        ("prompts without room for a response of 12 tokens", "a.jsonl:2"),
        ("demonstrations of more than 48 tokens", "d:3"),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "prompts answered for the normalisation: left out 1 prompts without room for a response of 12 tokens "
        "(first at a.jsonl:2)",
        "demonstrations: left out 1 demonstrations of more than 48 tokens (first at d:3)",
    ]
