"""Rows of several lengths, read without their padding.

A batch is a fifth padding (16 prompts of 16 to 64 tokens with 48 written ones), and nothing in a transformer but its
attention has to know which token is of which row. So tokens go through it in one line, and stand in rows for the
attention alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from heed.batches import RankingBatch


class Line:
    """Tokens of several rows, one after another and without padding, and where each stands in padded rows.

    `mask` is true where there is a token: `[rows, time]`, padding on the right. `tokens` is the token at each place;
    rows that begin alike may share tokens, each of which is in the line once. By default none is shared.
    """

    def __init__(self, mask: Bool[Tensor, "rows time"], tokens: Int[Tensor, "rows time"] | None = None) -> None:
        self.rows, self.time = mask.shape
        self.padding = ~mask.flatten()
        places = mask.flatten().nonzero()[:, 0]
        if tokens is None:
            self.home: Int[Tensor, " tokens"] = places
            """The first place of each token in rows."""
            self.again = places[:0]
            """Places of shared tokens beside their first."""
            self.tokens: Int[Tensor, " places"] = (mask.flatten().cumsum(dim=0) - 1).clamp(min=0)
            """The token at each place; some other one where there is padding."""
            return
        self.tokens = tokens.flatten().masked_fill(self.padding, 0)
        of_place = self.tokens[places]
        last = torch.full((int(of_place.max()) + 1,), mask.numel(), device=mask.device)
        self.home = last.scatter_reduce(0, of_place, places, "amin")
        self.again = places[self.home[of_place] != places]

    def in_rows(self, line: Float[Tensor, "heads tokens size"]) -> Float[Tensor, "heads rows time size"]:
        """Where there is padding, whatever: no token sees what is on its right."""
        return line.index_select(1, self.tokens).view(len(line), self.rows, self.time, -1)

    def in_line(self, rows: Float[Tensor, "heads rows time size"]) -> Float[Tensor, "heads tokens size"]:
        """The tokens, without the padding."""
        return rows.reshape(len(rows), self.rows * self.time, -1).index_select(1, self.home)


class InRows(torch.autograd.Function):
    """`Line.in_rows` with its gradient: that of a shared token is the sum over its places, and nothing comes back from
    padding, which nobody saw."""

    @staticmethod
    def forward(ctx: Any, line: Float[Tensor, "heads tokens size"], about: Line) -> Tensor:
        ctx.about = about
        return about.in_rows(line)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        about: Line = ctx.about
        found = about.in_line(gradient)
        if len(about.again):
            places = gradient.reshape(len(gradient), about.rows * about.time, -1)
            found.index_add_(1, about.tokens[about.again], places.index_select(1, about.again))
        return found, None


class InLine(torch.autograd.Function):
    """`Line.in_line` with its gradient: padding gets none, nor does a token but at its first place."""

    @staticmethod
    def forward(ctx: Any, rows: Float[Tensor, "heads rows time size"], about: Line) -> Tensor:
        ctx.about = about
        return about.in_line(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        about: Line = ctx.about
        found = about.in_rows(gradient)
        places = found.view(len(found), about.rows * about.time, -1)
        places[:, about.padding] = 0
        places[:, about.again] = 0
        return found, None


reading: ContextVar[Line | None] = ContextVar("reading", default=None)
"""How the tokens stand that a model reads now; None: in rows."""


@contextmanager
def read_in_line(line: Line) -> Iterator[None]:
    """Inside the block a model is given one row of tokens, which are those of several."""
    token = reading.set(line)
    try:
        yield
    finally:
        reading.reset(token)


def states_in_line(
    body: nn.Module, tokens: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time width"]:
    """Last hidden states of padded rows by a body that can be read so. Where there is padding, those of some token."""
    counts = mask.sum(dim=1)
    line = Line(torch.arange(max(1, int(counts.max())), device=mask.device) < counts[:, None])
    positions = (mask.long().cumsum(dim=1) - 1)[mask]
    with read_in_line(line):
        output = body(input_ids=tokens[mask][None], position_ids=positions[None], use_cache=False)
    place = (mask.flatten().cumsum(dim=0) - 1).clamp(min=0)
    found: Tensor = output.last_hidden_state[0].index_select(0, place)
    return found.view(*mask.shape, -1)


def ends_in_line(body: nn.Module, batch: RankingBatch) -> Float[Tensor, "responses width"]:
    """The last hidden state of each response by a body that can be read so: every prompt is read once, whatever the
    number of its responses."""
    asked, answered = batch.prompts.mask.sum(dim=1), batch.mask.sum(dim=1)
    before = asked[batch.segments]
    first = (asked.cumsum(dim=0) - asked)[batch.segments]  # where in the line the prompt of each response begins,
    own = asked.sum() + answered.cumsum(dim=0) - answered  # and where the response itself
    place = torch.arange(int((before + answered).max()), device=asked.device)
    of_prompt = place < before[:, None]
    tokens = torch.where(of_prompt, first[:, None] + place, own[:, None] + place - before[:, None])
    line = Line(place < (before + answered)[:, None], tokens)
    positions = place.expand(tokens.shape).flatten()[line.home]
    everything = torch.cat([batch.prompts.tokens[batch.prompts.mask], batch.tokens[batch.mask]])
    with read_in_line(line):
        output = body(input_ids=everything[None], position_ids=positions[None], use_cache=False)
    found: Tensor = output.last_hidden_state[0]
    return found.index_select(0, own + answered - 1)


def states_on_the_left(
    read: Callable[[Tensor, Tensor], Tensor], tokens: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time width"]:
    """The same of what `read` reads, whatever it is. Tokens are moved to the left: no column is padding in all rows,
    and what stands on the right of a row is seen by none of its tokens, so that attention needs no mask."""
    order = (~mask).byte().argsort(dim=1, stable=True)[:, : max(1, int(mask.sum(dim=1).max()))]
    rows, time = order.shape
    hidden = read(tokens.gather(1, order), torch.ones_like(order, dtype=torch.bool))
    place = (mask.long().cumsum(dim=1) - 1).clamp(min=0) + torch.arange(rows, device=mask.device)[:, None] * time
    return hidden.reshape(rows * time, -1).index_select(0, place.flatten()).view(*mask.shape, -1)
