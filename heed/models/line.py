"""Rows of several lengths, read without their padding, and what several of them begin with read once.

A batch is a fifth padding (16 prompts of 16 to 64 tokens with 48 written ones), and nothing in a transformer but its
attention has to know which token is of which row. So tokens go through it in one line, and stand in rows for the
attention alone. The answers to one prompt share its tokens there.
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

SHARE = 0.1
"""Part of all tokens that a line must save before rows share any: what is shared costs a sum in the gradient."""


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
) -> Float[Tensor, "batch time width"] | None:
    """Last hidden states of padded rows by a body that can be read so; where there is padding, those of some token.
    None where a line would not be shorter: there is no padding, and rows do not begin alike."""
    counts = mask.sum(dim=1)
    there = torch.arange(max(1, int(counts.max())), device=mask.device) < counts[:, None]
    rows = tokens.new_zeros(there.shape).masked_scatter(there, tokens[mask])
    shared = shared_beginnings(rows, there)
    if shared is None and bool(mask.all()):
        return None
    line = Line(there, shared)
    positions = torch.arange(line.time, device=mask.device).expand(there.shape).flatten()[line.home]
    with read_in_line(line):
        output = body(input_ids=rows.flatten()[line.home][None], position_ids=positions[None], use_cache=False)
    begin = torch.arange(line.rows, device=mask.device)[:, None] * line.time
    place = begin + (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    found: Tensor = output.last_hidden_state[0].index_select(0, line.tokens[place.flatten()])
    return found.view(*mask.shape, -1)


def shared_beginnings(
    rows: Int[Tensor, "rows time"], there: Bool[Tensor, "rows time"]
) -> Int[Tensor, "rows time"] | None:
    """The token of a line at each place where rows that begin alike share what they begin with, as the answers to one
    prompt do. None where that is less than `SHARE` of all tokens."""
    differ = (rows[:, None] != rows) | ~there[:, None] | ~there
    common = torch.where(differ.any(dim=2), differ.byte().argmax(dim=2), there.shape[1])
    length, source = common.tril(-1).max(dim=1)
    if length.sum() < SHARE * there.sum():
        return None
    new = there & (torch.arange(there.shape[1], device=there.device) >= length[:, None])
    tokens = (new.flatten().cumsum(dim=0) - 1).view(new.shape)
    for row, (count, other) in enumerate(zip(length.tolist(), source.tolist(), strict=True)):
        tokens[row, :count] = tokens[other, :count]
    return tokens


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
