"""Does a model do here what it does in transformers? Asked at load, of a few tokens, before anything is computed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from heed.errors import CheckpointError
from heed.models.cache import roomy_cache
from heed.models.line import states_in_line
from heed.models.readout import FAILURES, HINT, probe_tokens

if TYPE_CHECKING:
    from heed.models.trunk import Trunk

PADDING = 3
TOLERANCE = {torch.float32: 1e-3}
"""Largest difference, as a share of the logits' range. Reading with a mask, with padding and with a cache takes other
kernels, which round differently; a wrong position or a missing scale moves logits by much of that range."""
ROUNDED = 0.1


def check_forward(trunk: Trunk) -> None:
    """Raise `CheckpointError` where a row alone, a left-padded one and one read token by token do not give the logits
    of the stock forward (its hidden states, where it has no head)."""
    model = trunk.model
    keeps = "past_key_values" in inspect.signature(model.base_model.forward).parameters
    if model._is_stateful or not keeps:
        kept = "a state, which padding on the left would change" if model._is_stateful else "no keys and values"
        told = f"{type(model).__name__} keeps {kept}, so answers cannot be drawn in batches"
        raise CheckpointError(trunk.name, told, HINT)
    tokens = probe_tokens(model)
    try:
        found = _read(trunk, tokens)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        told = f"{type(model).__name__} cannot be read with padding and a cache: {type(error).__name__}: {error}"
        raise CheckpointError(trunk.name, " ".join(told.split()), HINT) from None
    stock = found.pop("stock")
    allowed = TOLERANCE.get(model.dtype, ROUNDED) * float(stock.max() - stock.min())
    for how, logits in found.items():
        worst = _worst(logits, stock, model.dtype)
        if not worst <= allowed:
            told = f"{type(model).__name__} {how} gives numbers that are {worst:.2g} from those of the stock model"
            raise CheckpointError(trunk.name, told, HINT)


@torch.no_grad()
def reads_lines(trunk: Trunk) -> bool:
    """Whether rows of several lengths, two of which begin alike, are read in one line as each of them is alone."""
    tokens = probe_tokens(trunk.model)
    half = tokens.shape[1] // 2
    rows = torch.cat([tokens, tokens.flip(1), torch.cat([tokens[:, :half], tokens.flip(1)[:, half:]], dim=1)])
    mask = torch.ones_like(rows, dtype=torch.bool)
    mask[0, half:] = False
    try:
        in_line = states_in_line(trunk.body, rows, mask)
        assert in_line is not None  # there is padding
        found = in_line[mask]
        alone = [trunk.hidden(row[there][None], there[there][None])[0] for row, there in zip(rows, mask, strict=True)]
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        return False
    expected = torch.cat(alone)
    allowed = TOLERANCE.get(found.dtype, ROUNDED) * float(expected.max() - expected.min())
    return _worst(found, expected, found.dtype) <= allowed


def _worst(found: Tensor, expected: Tensor, dtype: torch.dtype) -> float:
    """How far off numbers of tokens are. Where a model rounds, a token may go to other experts, and so only most tokens
    must be near."""
    off = (found - expected).abs().amax(dim=1)
    return float(off.max() if dtype in TOLERANCE else off.median())


@torch.no_grad()
def _read(trunk: Trunk, tokens: Tensor) -> dict[str, Tensor]:
    """Logits (hidden states) of the same tokens, read in four ways."""
    everything, half = torch.ones_like(tokens, dtype=torch.bool), tokens.shape[1] // 2
    padding = tokens[:, :1].expand(1, PADDING)
    padded, mask = torch.cat([padding, tokens], dim=1), torch.cat([padding < 0, everything], dim=1)
    cache, parts = roomy_cache(trunk.model, padded.shape[1]), []
    for start, end in ((0, PADDING + half), (PADDING + half, PADDING + half + 1), (PADDING + half + 1, len(padded[0]))):
        parts.append(trunk.hidden(padded[:, start:end], mask[:, :end], cache))
    found = {
        "stock": trunk.body(input_ids=tokens, use_cache=False).last_hidden_state[0],
        "read with a mask": trunk.hidden(tokens, everything)[0],
        "with padding on the left": trunk.hidden(padded, mask)[0, PADDING:],
        "read token by token": torch.cat(parts, dim=1)[0, PADDING:],
    }
    read = (lambda hidden: hidden.float()) if trunk.headless else trunk.logits
    return {how: read(hidden.contiguous()) for how, hidden in found.items()}
