"""Sets of tokens and their probabilities, by hand; ties; text with padding in front."""

from __future__ import annotations

import math

import pytest
import torch

from heed.doctor.events import Context, Events, add, closing, in_context
from heed.doctor.statistics import Count, Martingale


@pytest.fixture
def context() -> Context:
    """Row 0: prompt `_ 3 4`, response `3 4 5`. Row 1: prompt `2 2 2`, response `0`. Padding is an ordinary token, 7."""
    prompts = torch.tensor([[7, 3, 4], [2, 2, 2]])
    prompt_mask = torch.tensor([[0, 1, 1], [1, 1, 1]]).bool()
    responses = torch.tensor([[3, 4, 5], [0, 7, 7]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    return Context.of(prompts, prompt_mask, responses, mask)


def test_text_before_a_token_has_neither_padding_nor_what_follows(context: Context) -> None:
    before, columns = context.before(torch.tensor([0, 2, 3]))
    assert before.tolist() == [[-1, 3, 4, -1, -1, -1], [-1, 3, 4, 3, 4, -1], [2, 2, 2, -1, -1, -1]]
    assert columns.tolist() == [3, 5, 3]
    assert context.positions(torch.arange(4)).tolist() == [0, 1, 2, 0]
    drawn, _ = context.before(torch.tensor([0, 2, 3]), responses=True)
    assert drawn.tolist() == [[-1] * 6, [-1, -1, -1, 3, 4, -1], [-1] * 6]  # without what was asked


def test_sets(context: Context) -> None:
    before, columns = context.before(torch.arange(4))
    assert [row.nonzero()[:, 0].tolist() for row in in_context(before, 8)] == [[3, 4], [3, 4], [3, 4], [2]]
    # `3 4 3` stands before the third token's place: after `3 4` comes 3; row 1 has `2 2 2`, so 2 would repeat it
    assert [row.nonzero()[:, 0].tolist() for row in closing(before, columns, 8)] == [[], [], [3], [2]]


def test_probabilities_and_outcomes(context: Context) -> None:
    p = torch.tensor([[0.3, 0.05, 0.05, 0.2, 0.1, 0.1, 0.1, 0.1]]).repeat(4, 1)
    events = Events(context, eos=(0,), generator=torch.Generator().manual_seed(0), longest=1)
    tokens = torch.tensor([3, 4, 5, 0])
    for piece in (slice(0, 3), slice(3, 4)):
        events(p[piece].log(), p[piece].log(), tokens[piece], torch.arange(4)[piece])
    sums = events.sums()
    found = {name: (one.observed, pytest.approx(one.expected)) for name, one in sums.items() if isinstance(one, Count)}
    assert found["T8 eos"] == (1, 4 * 0.3)
    assert found["T8 early_eos"] == (1, 4 * 0.3)
    assert found["T8 last_eos"] == (1, 2 * 0.3)  # the first tokens of both rows: 3, and 0, which ends
    assert found["T8 seen"] == (2, 3 * 0.3 + 0.05)
    assert found["T8 trigram"] == (0, 0.2 + 0.05)
    assert found["T8 tail"][0] == 0
    assert "T8 rank_50" not in found
    assert events.choices == pytest.approx(4 * 0.7)


def test_a_token_at_the_edge_of_the_nucleus_is_inside(context: Context) -> None:
    p = torch.tensor([0.5, 0.4, 0.08, 0.02]).repeat(4, 1)  # the third brings the mass over .95
    events = Events(context, eos=())
    events(p.log(), p.log(), torch.tensor([2, 2, 3, 0]), torch.arange(4))
    tail = events.sums()["T8 tail"]
    assert isinstance(tail, Count)
    assert (tail.observed, tail.expected) == (1, pytest.approx(4 * 0.02, rel=1e-4))


def test_tied_tokens_are_spread_over_their_common_mass() -> None:
    context = Context(torch.full((1, 2001), 1), torch.ones(1, 2001, dtype=torch.bool), torch.arange(2001)[None] > 0)
    generator = torch.Generator().manual_seed(1)
    events = Events(context, eos=(), generator=generator)
    tokens = torch.randint(0, 4, (2000,), generator=generator)
    events(torch.zeros(2000, 4), torch.zeros(2000, 4), tokens, torch.arange(2000))
    assert abs(events.sums()["T9"].z or 9) < 4
    assert not any(name in events.sums() for name in ("T8 eos", "T8 early_eos", "T8 last_eos"))


def test_pieces_give_what_the_whole_gives(context: Context) -> None:
    logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    tokens, whole, halves = torch.tensor([3, 4, 5, 0]), Events(context, (0,)), Events(context, (0,))
    whole(logits, logits, tokens, torch.arange(4))
    for piece in (slice(0, 2), slice(2, 4)):
        halves(logits[piece], logits[piece], tokens[piece], torch.arange(4)[piece])
    for name, one in whole.sums().items():
        if isinstance(one, Count):
            assert one.expected == pytest.approx(halves.sums()[name].expected, abs=1e-6)


def test_add_keeps_what_only_one_has() -> None:
    one, other = {"T6": Martingale(1.0, 1.0, 50)}, {"T6": Martingale(2.0, 3.0, 70), "T7": Martingale(5.0, 1.0, 500)}
    assert add(one, other) == {"T6": Martingale(3.0, 4.0, 120), "T7": Martingale(5.0, 1.0, 500)}
    assert math.isclose(add({}, one)["T6"].choices, 50)
