"""Cross-entropy of running text, which tells what fine-tuning cost the model elsewhere (the alignment tax)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heed.models.policy import Policy


@torch.no_grad()
def text_loss(policy: Policy, rows: Int[Tensor, "rows time"], size: int) -> Float[Tensor, " rows"]:
    """Nats per token of each row, its first token not counted; `size` rows at once."""
    losses = []
    for piece in rows.split(size):
        tokens = piece.to(policy.trunk.device)
        counted = torch.ones_like(tokens, dtype=torch.bool)
        mask = counted.clone()
        counted[:, 0] = False
        with policy.active():
            losses.append(-policy.flat_logprobs(tokens, mask, counted).view(len(tokens), -1).mean(dim=1).cpu())
    return torch.cat(losses)
